//! Whatever comes, nothing panics, and what is made of it is the same each time.
use cht_fhir_mediator::config;
use cht_fhir_mediator::domain::message::Route;
use cht_fhir_mediator::flow::envelope::envelope;
use cht_fhir_mediator::http::parse_json;
use cht_fhir_mediator::translate::{Mappings, Source, check_fhir, guess_route};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

fn seeds() -> Vec<Value> {
    let folder = format!("{}/tests/fixtures/pushes", env!("CARGO_MANIFEST_DIR"));
    let mut names: Vec<_> =
        std::fs::read_dir(folder).expect("fixtures").map(|f| f.expect("a file").path()).collect();
    names.sort();
    let pushes = names
        .iter()
        .step_by(7)
        .map(|path| serde_json::from_slice(&std::fs::read(path).expect("read")).expect("JSON"));
    pushes.chain(fhir()).collect()
}

fn fhir() -> Vec<Value> {
    let patient = json!({"resourceType": "Patient", "id": "p", "identifier": [{"system": "cht", "value": "a54a8e4f-c505-4ed9-a6f2-eb7bdad2fb9d"}], "birthDate": "1990-02"});
    let request = json!({"resourceType": "ServiceRequest", "status": "active", "intent": "order", "identifier": [{"value": "1"}],
        "subject": {"reference": "Patient/p"}, "occurrenceDateTime": "2026-10-01", "note": [{"text": "x"}], "contained": [patient]});
    let task = json!({"resourceType": "Task", "status": "completed", "intent": "order", "for": {"reference": "#p"},
        "focus": {"identifier": {"system": "urn:cht:report", "value": "r"}}, "output": [{"type": {"text": "o"}, "valueInteger": 3}]});
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        {"fullUrl": "urn:uuid:1", "resource": patient, "request": {"method": "PUT", "url": "Patient/p"}},
        {"resource": request, "request": {"method": "POST", "url": "ServiceRequest"}},
        {"resource": task, "request": {"method": "POST", "url": "Task"}}]});
    vec![patient, request, task, bundle]
}

/// What a value may turn into: the oddities that systems really write.
fn odd() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!("")),
        Just(json!([])),
        Just(json!({})),
        Just(json!(false)),
        Just(json!(-1)),
        Just(json!(1e300)),
        Just(json!(i64::MAX)),
        Just(json!("9999-99-99T99:99")),
        Just(json!([null])),
        Just(json!([{}])),
        Just(json!({"reference": "/"})),
        Just(json!({"reference": "#"})),
        Just(json!([[["x"]]])),
        Just(json!("é\u{0}😀|/=#")),
        "\\PC{0,40}".prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
    ]
}

/// Changes the value at the `at`-th place of the tree.
fn change(value: &mut Value, at: &mut usize, new: &Value) {
    if *at == 0 {
        *value = new.clone();
        *at = usize::MAX;
        return;
    }
    *at = at.saturating_sub(1);
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| step(item, at, new)),
        Value::Object(fields) => fields.values_mut().for_each(|field| step(field, at, new)),
        _ => {}
    }
}

fn step(value: &mut Value, at: &mut usize, new: &Value) {
    if *at != usize::MAX {
        change(value, at, new);
    }
}

fn mappings() -> &'static Mappings {
    static DEFAULT: LazyLock<Mappings> = LazyLock::new(|| {
        Mappings::new(&config::load(None, std::iter::empty()).map_err(|_| ()).expect("defaults").translate)
            .expect("mappings")
    });
    &DEFAULT
}

fn body_of(seed: &Value) -> (Route, Value) {
    guess_route(seed).expect("a route")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_message_makes_the_translators_panic(seed in proptest::sample::select(seeds()), changes in prop::collection::vec((0usize..400, odd()), 1..4)) {
        let (route, mut body) = body_of(&seed);
        for (at, new) in changes {
            change(&mut body, &mut at.clone(), &new);
        }
        let _ = guess_route(&body);
        let kind = match &route { Route::Fhir(kind) if !kind.is_empty() => Some(kind.as_str()), _ => None };
        let problems = check_fhir(kind, &body, &Default::default());
        prop_assert!(problems.len() <= 50);
        let mappings = mappings();
        let source = Source { route: &route, body: &body, received: 1_795_467_014_033 };
        let made = || mappings.translate(&source, None).map(|t| mappings.preview(&t)).map_err(|r| r.to_string());
        prop_assert_eq!(made(), made());
        let _ = mappings.translate(&Source { route: &Route::ServiceRequest, ..source }, None);
        let outside = || envelope(&route, "c", &body, "2026-11-24");
        prop_assert!(outside() == outside());
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_json(&bytes);
    }

    #[test]
    fn what_is_read_is_what_serde_reads(keys in prop::collection::btree_map("[a-z]{1,5}", odd(), 0..8)) {
        let value = Value::Object(keys.into_iter().collect::<Map<_, _>>());
        prop_assert_eq!(parse_json(value.to_string().as_bytes()), Ok(value));
    }

    #[test]
    fn any_arguments_of_the_door_are_answered(text in "\\PC{0,60}") {
        if let Ok(route) = text.parse::<Route>() {
            prop_assert_eq!(route.to_string().parse::<Route>(), Ok(route));
        }
    }
}
