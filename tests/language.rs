//! Whatever stands in a mapping's file, and whatever is read with it: no panic, no endless loop.
use cht_fhir_mediator::config::{self, Translate};
use cht_fhir_mediator::domain::message::Route;
use cht_fhir_mediator::translate::language::codec::Around;
use cht_fhir_mediator::translate::language::compile::{All, compile, read};
use cht_fhir_mediator::translate::language::eval::{Inputs, apply};
use cht_fhir_mediator::translate::language::table::Files;
use cht_fhir_mediator::translate::language::{back, yaml};
use cht_fhir_mediator::translate::proof::{Report, cases, prove};
use cht_fhir_mediator::translate::scaffold::scaffold;
use cht_fhir_mediator::translate::{Conformance, Mappings, Set, Source};
use fhir_validate::Definitions;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

struct Nothing;

impl Files for Nothing {
    fn read(&self, name: &str) -> Result<String, String> {
        Err(format!("{name}: not here"))
    }
    fn concept_map(&self, _: &str) -> Option<&Value> {
        None
    }
    fn definitions(&self) -> &Definitions {
        static R4: LazyLock<Definitions> = LazyLock::new(Definitions::r4);
        &R4
    }
}

fn settings() -> Translate {
    config::load(None, std::iter::empty()).map_err(|_| ()).expect("defaults").translate
}

fn mappings() -> &'static Mappings {
    static DEFAULT: LazyLock<Mappings> =
        LazyLock::new(|| Mappings::new(&settings()).unwrap_or_else(|mistakes| panic!("{}", mistakes[0])));
    &DEFAULT
}

fn default_set() -> Set {
    Set::load(None, Conformance::built_in()).unwrap_or_else(|mistakes| panic!("{}", mistakes[0]))
}

/// A scaffold and its case, written as the command does it, and what `check` says of them.
fn scaffolded(text: &str, code: Option<&str>) -> (String, Report) {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = Translate { mappings: folder.path().into(), ..settings() };
    let mappings = Mappings::new(&settings).unwrap_or_else(|mistakes| panic!("{}", mistakes[0]));
    let made = scaffold(text, code, None, &mappings).expect("a scaffold");
    std::fs::write(folder.path().join(format!("{}.yaml", made.name)), &made.yaml).expect("written");
    let mappings =
        Mappings::new(&settings).unwrap_or_else(|mistakes| panic!("{}\n{}", mistakes[0], made.yaml));
    let source = Source { route: &Route::ChtPush(None), body: &made.example, received: cases::RECEIVED };
    let translated =
        mappings.translate(&source, Some(&made.name)).unwrap_or_else(|refusal| panic!("{refusal}"));
    let case = cases::new(source.route, cases::RECEIVED, &made.example, &mappings.preview(&translated));
    let cases = folder.path().join(format!("{}.cases", made.name));
    std::fs::create_dir(&cases).expect("a folder");
    std::fs::write(cases.join("example.json"), cases::written(&case)).expect("written");
    (made.yaml, prove(&mappings))
}

#[test]
fn every_scaffold_holds_as_it_is_written() {
    let fixtures = format!("{}/tests/fixtures", env!("CARGO_MANIFEST_DIR"));
    let read = |path: String| std::fs::read_to_string(&path).expect(&path);
    let mut todo: Vec<(String, String, Option<String>)> = Vec::new();
    for file in ["forms/household_survey.xml", "forms/referral.xml"] {
        todo.push((file.into(), read(format!("{fixtures}/{file}")), None));
    }
    let forms = read(format!("{fixtures}/forms/app_settings.json"));
    let parsed: Value = serde_json::from_str(&forms).expect("JSON");
    for code in parsed["forms"].as_object().expect("forms").keys() {
        todo.push((code.clone(), forms.clone(), Some(code.clone())));
    }
    let mut seen: Vec<Vec<String>> = Vec::new();
    let mut files: Vec<_> = std::fs::read_dir(format!("{fixtures}/pushes"))
        .expect("pushes")
        .map(|f| f.expect("a file").path())
        .collect();
    files.sort();
    for file in files.into_iter().filter(|file| file.display().to_string().contains("full-report")) {
        let text = read(file.display().to_string());
        let push: Value = serde_json::from_str(&text).expect("JSON");
        let Some(fields) = push["body"]["doc"]["fields"].as_object() else { continue };
        // One of those with the same questions will do.
        let mut questions: Vec<String> = fields.keys().cloned().collect();
        questions.push(push["body"]["doc"]["form"].to_string());
        if !seen.contains(&questions) {
            seen.push(questions);
            todo.push((file.display().to_string(), text, None));
        }
    }
    for (name, text, code) in todo {
        let (yaml, report) = scaffolded(&text, code.as_deref());
        assert_eq!(report.mistakes, Vec::<String>::new(), "{name}\n{yaml}");
        assert!(yaml.contains("TODO"), "{name}\n{yaml}");
    }
}

/// The shipped files, as (name, text).
fn shipped() -> Vec<(String, String)> {
    let folder = format!("{}/mediator-config/mappings", env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(folder).expect("mappings").map(|file| file.expect("a file").path());
    let mut all: Vec<(String, String)> = files
        .filter(|file| file.extension().is_some_and(|e| e == "yaml"))
        .map(|file| {
            let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&file).expect("read"))
        })
        .collect();
    all.sort();
    all
}

/// Every case's input and output.
fn documents() -> Vec<(Value, Value)> {
    let set = default_set();
    let (cases, mistakes) = cases::load(&set);
    assert!(mistakes.is_empty());
    cases.into_iter().map(|case| (case.input, case.output.unwrap_or_default())).collect()
}

const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ": ",
    "- ",
    "\n",
    "\"",
    "#",
    "&a",
    "*a",
    "!!str ",
    "|",
    "? ",
    "each: doc.fields",
    "path: doc",
    "if: {doc.a: 1}",
    "fragment: patient.patient",
    "include: visit",
    "expr: \"(() => {for(;;){}})()\"",
    "as: date",
    "~",
    "leaves: doc",
    "back: {doc.x: {path: value}}",
    "doc[0][0].a",
    "[a=b]",
    "99999999999999999999",
    "\u{0}",
    "é",
    "split: \"\"",
    "index: item",
    "rest: doc",
    "by_age: {on: doc.reported_date, years: doc.reported_date}",
];

fn around() -> Around<'static> {
    static ZONE: TimeZone = TimeZone::UTC;
    Around { default_country: "KE", time_zone: &ZONE, received: 1_795_467_014_033 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_file_makes_the_language_panic(
        which in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..12_usize, 0..PIECES.len()), 1..4),
        document in any::<prop::sample::Index>(),
    ) {
        let shipped = shipped();
        let (name, text) = which.get(&shipped);
        let mut letters: Vec<char> = text.chars().collect();
        for (at, gone, piece) in edits {
            let at = at.index(letters.len());
            let end = (at + gone).min(letters.len());
            letters.splice(at..end, PIECES[piece].chars());
        }
        let text: String = letters.into_iter().collect();
        let started = Instant::now();
        let mut all = All::new();
        for (other, own) in shipped.iter().filter(|(other, _)| other != name) {
            all.insert(other.clone(), read(other, other, own).unwrap_or_else(|m| panic!("{}", m[0])));
        }
        match read("changed.yaml", name, &text) {
            Err(mistakes) => prop_assert!(mistakes.iter().all(|m| !m.message.is_empty() && !m.to_string().is_empty())),
            Ok(parsed) => {
                all.insert(name.clone(), parsed);
                if let Ok(compiled) = compile(&all[name], &all, &Nothing) {
                    let documents = documents();
                    let (input, output) = document.get(&documents);
                    let message = json!({"received": 1});
                    let inputs = Inputs::default().with("doc", &input["doc"]).with("body", input)
                        .with("resource", input).with("message", &message);
                    let _ = apply(&compiled, inputs, around(), true);
                    let _ = back::read(&compiled, output, around());
                }
            }
        }
        prop_assert!(started.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn no_bytes_make_the_readers_panic(text in "\\PC{0,120}", lines in prop::collection::vec(prop::sample::select(PIECES), 0..30)) {
        let _ = yaml::parse(&text);
        let _ = yaml::parse(&lines.concat());
        let mappings = mappings();
        let _ = scaffold(&text, None, None, mappings);
        let _ = scaffold(&format!("<{text}"), None, None, mappings);
    }

    #[test]
    fn what_is_read_backwards_may_be_anything(
        document in any::<prop::sample::Index>(),
        path in prop::collection::vec(prop_oneof!["[a-z]{1,3}", "[0-9]{1,9}"], 1..60),
        value in prop_oneof![Just(json!(null)), Just(json!([])), Just(json!([[{}]])), Just(json!("x")), Just(json!(1e300)), Just(json!({"text": 1}))],
    ) {
        let set = default_set();
        let documents = documents();
        let (_, output) = document.get(&documents);
        let mut made = output.clone();
        if let Some(Value::Array(entries)) = made.get_mut("entry") {
            for entry in entries {
                entry["resource"]["name"] = value.clone();
                for (pointer, new) in [
                    ("/resource/code/coding/0/code", json!(path.join("."))),
                    ("/resource/identifier/0/value", value.clone()),
                ] {
                    if let Some(place) = entry.pointer_mut(pointer) {
                        *place = new;
                    }
                }
            }
        }
        for mapping in set.all() {
            let _ = back::read(mapping, &made, around());
            let _ = back::read(mapping, &value, around());
        }
    }
}

#[test]
fn what_is_done_in_rust_has_a_version_too() {
    let version = env!("CARGO_PKG_VERSION");
    let patient = json!({"resourceType": "Patient", "identifier": [{"system": "urn:x", "value": "1"}], "name": [{"family": "Otieno"}]});
    let labels = [Route::Fhir("Patient".into()), Route::DropIn("Patient".into())].map(|route| {
        let source = Source { route: &route, body: &patient, received: cases::RECEIVED };
        mappings().translate(&source, None).unwrap_or_else(|refusal| panic!("{refusal}")).label()
    });
    assert_eq!(labels, [format!("store@{version}"), format!("drop-in@{version}")]);
}

#[test]
fn a_decorative_question_of_another_kind_fails_no_report() {
    let report = |fields: Value| {
        json!({"doc": {"_id": "5d6f1f0e-7f27-4a0c-9a54-0f0b7b3f2a11", "type": "data_record", "content_type": "xml",
            "form": "referral", "reported_date": 1_793_181_600_000_i64, "fields": fields,
            "patient": {"_id": "a54a8e4f-c505-4ed9-a6f2-eb7bdad2fb9d", "name": "Achieng Otieno", "type": "person"}}})
    };
    for fields in [
        json!({"referral": "yes", "urgency": "urgent"}),
        json!({"notes": {"first": "cough", "second": ""}, "referral": {"reason": "fever"}}),
        json!({"referral": {"notes": {"a": "b"}}}),
    ] {
        let body = report(fields);
        let source = Source { route: &Route::ChtPush(None), body: &body, received: cases::RECEIVED };
        let made = mappings().translate(&source, None).map(|t| mappings().preview(&t).to_string());
        let made = made.unwrap_or_else(|refusal| panic!("{refusal}\n{body}"));
        // And what was answered is not lost.
        for answer in ["cough", "fever", "\"b\""] {
            assert!(!body.to_string().contains(answer) || made.contains(answer), "{answer}: {made}");
        }
    }
}
