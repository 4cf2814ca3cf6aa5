//! HL7's own examples go through accept and store and come out as they came, digits included.
use cht_fhir_mediator::config;
use cht_fhir_mediator::domain::follow_up::Meaning;
use cht_fhir_mediator::domain::message::Route;
use cht_fhir_mediator::http::parse_json;
use cht_fhir_mediator::translate::{Mappings, Source, TYPES, check_fhir};
use serde_json::Value;

/// What every server gives anew, and what we add to.
fn content(resource: &Value) -> String {
    let mut fields = resource.as_object().cloned().unwrap_or_default();
    for key in ["id", "meta", "identifier"] {
        fields.remove(key);
    }
    Value::Object(fields).to_string()
}

#[test]
fn what_hl7_shows_is_kept_as_it_is() {
    let settings = config::load(None, std::iter::empty()).map_err(|_| ()).expect("defaults").translate;
    let mappings = Mappings::new(&settings).unwrap_or_else(|mistakes| panic!("{}", mistakes[0]));
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fhir-validate/tests/examples");
    let (mut kept, mut refused) = (0, Vec::new());
    for kind in TYPES.iter().filter(|kind| **kind != "Practitioner") {
        let text = std::fs::read_to_string(format!("{folder}/{kind}.ndjson")).expect("examples");
        for (i, line) in text.lines().enumerate() {
            let body = parse_json(line.as_bytes()).expect("JSON");
            let name = format!("{kind}:{}", i + 1);
            let problems = check_fhir(Some(kind), &body, &Default::default());
            if !problems.is_empty() {
                refused.push(format!("{name} {}", problems[0]));
                continue;
            }
            let route = Route::Fhir(kind.to_string());
            let source = Source { route: &route, body: &body, received: 0 };
            match mappings.translate(&source, None) {
                Err(refusal) => refused.push(format!("{name} {refusal}")),
                Ok(translated) => match &translated.parts[0].meaning {
                    Meaning::Resources(draft) => {
                        assert_eq!(content(&draft.entries[0].resource), content(&body), "{name}");
                        kept += 1;
                    }
                    Meaning::FollowUpRequest(request) => {
                        assert_eq!(request.resource.to_string(), body.to_string(), "{name}");
                        kept += 1;
                    }
                    _ => panic!("{name}: neither stored nor a request"),
                },
            }
        }
    }
    println!("{kept} kept; {} refused:\n{}", refused.len(), refused.join("\n"));
    // A request that names no patient can be nobody's task; two examples break R4 themselves.
    let breaks =
        |why: &str| ["Observation:20 ", "MedicationRequest:2 "].iter().any(|one| why.starts_with(one));
    let named = |why: &&String| !why.contains("names no patient") && !breaks(why);
    let others: Vec<&String> = refused.iter().filter(named).collect();
    assert!(others.is_empty() && kept > 120, "{others:#?}");
}
