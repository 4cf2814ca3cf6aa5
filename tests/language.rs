//! Whatever stands in a mapping's file, and whatever is read with it: no panic, no endless loop.
use cht_fhir_mediator::translate::Set;
use cht_fhir_mediator::translate::language::codec::Around;
use cht_fhir_mediator::translate::language::compile::{All, compile, read};
use cht_fhir_mediator::translate::language::eval::{Inputs, apply};
use cht_fhir_mediator::translate::language::table::Files;
use cht_fhir_mediator::translate::language::{back, yaml};
use cht_fhir_mediator::translate::proof::cases;
use cht_fhir_mediator::translate::scaffold::scaffold;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

struct Nothing;

impl Files for Nothing {
    fn read(&self, name: &str) -> Result<String, String> {
        Err(format!("{name}: not here"))
    }
    fn concept_map(&self, _: &str) -> Option<Value> {
        None
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
    let set = Set::load(None).unwrap_or_else(|mistakes| panic!("{}", mistakes[0]));
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
        let _ = scaffold(&text, None, None);
        let _ = scaffold(&format!("<{text}"), None, None);
    }

    #[test]
    fn what_is_read_backwards_may_be_anything(
        document in any::<prop::sample::Index>(),
        path in prop::collection::vec(prop_oneof!["[a-z]{1,3}", "[0-9]{1,9}"], 1..60),
        value in prop_oneof![Just(json!(null)), Just(json!([])), Just(json!([[{}]])), Just(json!("x")), Just(json!(1e300)), Just(json!({"text": 1}))],
    ) {
        let set = Set::load(None).unwrap_or_else(|mistakes| panic!("{}", mistakes[0]));
        let documents = documents();
        let (_, output) = document.get(&documents);
        let mut made = output.clone();
        if let Some(entries) = made["entry"].as_array_mut() {
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
