//! What a translation costs, against a plain copy of the document in the same run.
//! `cargo bench --bench translate`; budgets: 60 us for paths alone, 250 us with `expr`; validated by our
//! profiles, 100 us for a Patient and 400 us for a Bundle of five entries; `check` of the default set 1 s.
use cht_fhir_mediator::config;
use cht_fhir_mediator::domain::message::Route;
use cht_fhir_mediator::translate::language::codec::Around;
use cht_fhir_mediator::translate::language::eval::{Inputs, apply};
use cht_fhir_mediator::translate::proof;
use cht_fhir_mediator::translate::{Conformance, Mappings, Set, Source};
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Median of many runs, in microseconds.
fn microseconds(mut work: impl FnMut()) -> f64 {
    let until = Instant::now() + Duration::from_millis(800);
    let mut runs = Vec::new();
    while Instant::now() < until {
        let start = Instant::now();
        work();
        runs.push(start.elapsed().as_nanos() as f64 / 1000.0);
    }
    runs.sort_by(f64::total_cmp);
    runs.get(runs.len() / 2).copied().unwrap_or_default()
}

fn fixture(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/pushes/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let file: Value = serde_json::from_slice(&std::fs::read(path).expect("a fixture")).expect("JSON");
    file["body"].clone()
}

fn main() {
    let folder = std::env::temp_dir().join(format!("cht-fhir-mediator-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    // The person mapping, with one value by expr: a choice, a text taken apart, a date.
    let patient = include_str!("../mediator-config/mappings/patient.yaml");
    for (name, expr) in [
        ("scripted", "doc.sex === 'female' ? 'female' : 'male'"),
        ("scripted-texts", "doc.sex.split('').map(c => c.toLowerCase()).join('')"),
        ("scripted-dates", "new Date(0).getHours() === 0 ? 'female' : 'male'"),
    ] {
        let scripted = patient
            .replace("mapping: patient", &format!("mapping: {name}"))
            .replace("{path: doc.sex, as: lower, table: sex, give: code}", &format!("{{expr: \"{expr}\"}}"));
        assert!(scripted.contains(expr), "the person mapping has another sex now");
        std::fs::write(folder.join(format!("{name}.yaml")), scripted).expect("written");
    }
    let set = Set::load(Some(&folder), Conformance::built_in())
        .unwrap_or_else(|mistakes| panic!("{}", mistakes[0]));
    let message = json!({"received": 1_795_467_014_033_i64});
    println!("{:<34}{:>10}{:>12}{:>9}", "mapping", "us", "copy, us", "ratio");
    for (mapping, document, budget) in [
        ("patient", "full-person-10", Some(60.0)),
        ("place", "full-place-03", Some(60.0)),
        ("outcome", "full-report-17", Some(60.0)),
        ("referral", "full-report-20", None),
        ("visit", "full-report-28", None),
        ("scripted", "full-person-10", Some(250.0)),
        ("scripted-texts", "full-person-10", Some(250.0)),
        ("scripted-dates", "full-person-10", Some(250.0)),
    ] {
        let body = fixture(document);
        let compiled = set.get(mapping).expect("a mapping");
        let cost = microseconds(|| {
            let inputs = Inputs::default().with("doc", &body["doc"]).with("message", &message);
            let around =
                Around { default_country: "KE", time_zone: &TimeZone::UTC, received: 1_795_467_014_033 };
            black_box(apply(compiled, inputs, around, false).map(|output| output.entries.len()).ok());
        });
        let copy = microseconds(|| {
            black_box(body.clone());
        });
        let within = match budget {
            Some(budget) if cost <= budget => format!("within {budget} us"),
            Some(budget) => format!("OVER {budget} us"),
            None => String::new(),
        };
        println!(
            "{:<34}{cost:>10.1}{copy:>12.1}{:>9.1}  {within}",
            format!("{mapping} ({document})"),
            cost / copy
        );
    }
    let settings = config::load(None, std::iter::empty()).map_err(|_| ()).expect("defaults").translate;
    let mappings = Mappings::new(&settings).unwrap_or_else(|mistakes| panic!("{}", mistakes[0]));
    for document in ["full-person-10", "full-report-20"] {
        let body = fixture(document);
        let source = Source { route: &Route::ChtPush(None), body: &body, received: 1_795_467_014_033 };
        let cost = microseconds(|| {
            black_box(mappings.translate(&source, None).is_ok());
        });
        println!("{:<34}{cost:>10.1}  claimed, mapped and through the typed gate", document);
    }
    std::fs::remove_dir_all(folder).expect("removed");
    validations(&mappings);
    checks(&settings);
}

fn verdict(cost: f64, budget: f64) -> String {
    if cost <= budget { format!("within {budget}") } else { format!("OVER {budget}") }
}

/// By R4 and our profiles, beside parsing the same text.
fn validations(mappings: &Mappings) {
    println!("\n{:<34}{:>10}{:>12}{:>9}", "validated by profiles", "us", "parse, us", "ratio");
    let made = |document: &str| {
        let body = fixture(document);
        let source = Source { route: &Route::ChtPush(None), body: &body, received: 1_795_467_014_033 };
        mappings.preview(&mappings.translate(&source, None).unwrap_or_else(|refusal| panic!("{refusal}")))
    };
    let url = |name: &str| format!("https://cht-fhir-mediator.org/fhir/StructureDefinition/{name}");
    let by_type: BTreeMap<String, String> = [
        ("Patient", "cht-patient"),
        ("Practitioner", "cht-practitioner"),
        ("Encounter", "visit"),
        ("Observation", "answer"),
        ("ServiceRequest", "referral"),
        ("Task", "request-task"),
    ]
    .into_iter()
    .map(|(kind, name)| (kind.to_string(), url(name)))
    .collect();
    let mut bundle = made("full-report-20");
    if let Some(entries) = bundle["entry"].as_array_mut() {
        entries.truncate(5);
    }
    let conformance = Conformance::built_in();
    for (name, resource, budget) in
        [("Patient", made("full-person-10"), 100.0), ("Bundle of five", bundle, 400.0)]
    {
        let issues = conformance.definitions.validate_by(&resource, None, &by_type);
        assert!(issues.iter().all(|issue| name != "Patient" || issue.message.is_empty()), "{issues:?}");
        let text = resource.to_string();
        let cost = microseconds(|| {
            black_box(conformance.definitions.validate_by(black_box(&resource), None, &by_type).len());
        });
        let floor = microseconds(|| {
            black_box(serde_json::from_str::<Value>(black_box(&text)).is_ok());
        });
        println!("{name:<34}{cost:>10.1}{floor:>12.1}{:>9.1}  {} us", cost / floor, verdict(cost, budget));
    }
}

/// What a start and a `check` cost, the best of three.
fn checks(settings: &config::Translate) {
    let best = |work: &mut dyn FnMut()| {
        let run = |_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64() * 1000.0
        };
        (0..3).map(run).fold(f64::MAX, f64::min)
    };
    let load = || Mappings::new(settings).unwrap_or_else(|mistakes| panic!("{}", mistakes[0]));
    let mappings = load();
    let loaded = best(&mut || drop(black_box(load())));
    let told = best(&mut || drop(black_box(proof::at_start(&mappings))));
    let checked = best(&mut || drop(black_box(proof::prove(&mappings))));
    println!("\nthe default set compiled: {loaded:.0} ms");
    println!("who serves what, told at start: {told:.0} ms  {} ms", verdict(told, 200.0));
    println!("check: {:.0} ms  {} ms", loaded + checked, verdict(loaded + checked, 1000.0));
}
