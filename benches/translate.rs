//! What a translation costs, against a plain copy of the document in the same run.
//! `cargo bench --bench translate`; budgets: 60 us for paths alone, 250 us with `expr`.
use cht_fhir_mediator::config;
use cht_fhir_mediator::domain::message::Route;
use cht_fhir_mediator::translate::language::codec::Around;
use cht_fhir_mediator::translate::language::eval::{Inputs, apply};
use cht_fhir_mediator::translate::{Mappings, Set, Source};
use jiff::tz::TimeZone;
use serde_json::{Value, json};
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
    // The person mapping, with one value by expr.
    let patient = include_str!("../mediator-config/mappings/patient.yaml");
    let scripted = patient.replace("mapping: patient", "mapping: scripted").replace(
        "{path: doc.sex, as: lower, table: sex, give: code}",
        "{expr: \"doc.sex === 'female' ? 'female' : 'male'\"}",
    );
    assert_ne!(patient.len(), scripted.len());
    std::fs::write(folder.join("scripted.yaml"), scripted).expect("written");
    let set = Set::load(Some(&folder)).unwrap_or_else(|mistakes| panic!("{}", mistakes[0]));
    let message = json!({"received": 1_795_467_014_033_i64});
    println!("{:<34}{:>10}{:>12}{:>9}", "mapping", "us", "copy, us", "ratio");
    for (mapping, document, budget) in [
        ("patient", "full-person-10", Some(60.0)),
        ("place", "full-place-03", Some(60.0)),
        ("outcome", "full-report-17", Some(60.0)),
        ("referral", "full-report-20", None),
        ("visit", "full-report-28", None),
        ("scripted", "full-person-10", Some(250.0)),
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
}
