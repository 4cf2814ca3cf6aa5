//! Our validator and HL7's on the same resources: the same verdict for each, or a reason why not.
use cht_fhir_mediator::translate::Conformance;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Where the two differ, and why that is right.
const DIFFERENT: &[(&str, &str)] = &[
    ("element-with-only-an-id", "R4's ele-1 says so; HL7's asks it of primitives only"),
    (
        "subject-of-another-type",
        "HL7's does not judge a reference that it cannot follow; the type stands in it",
    ),
    ("encounter-of-a-patient", "the same"),
];

const OURS: &str = "https://cht-fhir-mediator.org/fhir/StructureDefinition";

/// What is right and what is wrong, by name. Nobody in it lives.
fn resources() -> Vec<(&'static str, Value)> {
    let patient =
        |more: Value| over(json!({"resourceType": "Patient", "name": [{"text": "Achieng Otieno"}]}), more);
    let observation = |more: Value| {
        let performer = json!([{"display": "A CHW"}]);
        let base = json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "performer": performer,
            "subject": {"display": "x"}, "effectiveDateTime": "2026-10-28"});
        over(base, more)
    };
    let request = |more: Value| {
        let base = json!({"resourceType": "ServiceRequest", "status": "active", "intent": "order",
            "code": {"text": "x"}, "subject": {"reference": "Patient/1"}});
        over(base, more)
    };
    let encounter = |more: Value| {
        let class = json!({"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "HH"});
        over(json!({"resourceType": "Encounter", "status": "finished", "class": class}), more)
    };
    let narrative = |content: &str| {
        let div = format!("<div xmlns=\"http://www.w3.org/1999/xhtml\">{content}</div>");
        patient(json!({"text": {"status": "generated", "div": div}}))
    };
    let extension = json!([{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]);
    vec![
        ("patient", patient(json!({"gender": "female", "birthDate": "1992-03"}))),
        ("code-by-extension-only", patient(json!({"_gender": {"extension": extension}}))),
        ("code-outside", patient(json!({"gender": "femal"}))),
        ("no-such-day", patient(json!({"birthDate": "2026-02-30"}))),
        ("no-such-element", patient(json!({"nmae": "x"}))),
        ("list-for-one", patient(json!({"gender": ["male"]}))),
        ("one-for-list", patient(json!({"name": {"text": "A"}}))),
        ("empty-list", patient(json!({"name": []}))),
        ("two-choices", patient(json!({"deceasedBoolean": true, "deceasedDateTime": "2026-01-01"}))),
        ("contact-of-nothing", patient(json!({"contact": [{"gender": "male"}]}))),
        ("telecom-without-system", patient(json!({"telecom": [{"value": "1"}]}))),
        (
            "period-backwards",
            patient(
                json!({"identifier": [{"value": "1", "period": {"start": "2026-02-01", "end": "2026-01-01"}}]}),
            ),
        ),
        ("birth-date-unknown", patient(json!({"_birthDate": {"extension": extension}}))),
        (
            "given-unknown",
            patient(json!({"name": [{"given": [null, "A"], "_given": [{"extension": extension}, null]}]})),
        ),
        ("companion-of-a-complex", observation(json!({"code": null, "_code": {"id": "x"}}))),
        ("companion-with-only-an-id", observation(json!({"status": null, "_status": {"id": "x"}}))),
        ("element-with-only-an-id", observation(json!({"code": {"id": "x"}}))),
        ("type-in-a-datatype", patient(json!({"name": [{"resourceType": "HumanName", "text": "A"}]}))),
        ("id-only", json!({"resourceType": "Patient", "id": "x"})),
        ("narrative", narrative("<p>A <b>b</b></p><table class=\"a\"><tr><td>1</td></tr></table>")),
        ("narrative-script", narrative("<p>A</p><script>x()</script>")),
        ("narrative-onclick", narrative("<p onclick=\"x()\">A</p>")),
        ("narrative-form", narrative("<form action=\"http://x\">A</form>")),
        ("narrative-empty", narrative("<p> </p>")),
        (
            "observation",
            observation(
                json!({"valueQuantity": {"value": 1.50, "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg"}}),
            ),
        ),
        ("no-status", observation(json!({"status": null}))),
        ("no-code", observation(json!({"code": null}))),
        ("absent-beside-value", observation(json!({"valueString": "x", "dataAbsentReason": {"text": "y"}}))),
        ("empty-range", observation(json!({"referenceRange": [{"appliesTo": [{"text": "x"}]}]}))),
        ("code-without-system", observation(json!({"valueQuantity": {"value": 1, "code": "kg"}}))),
        ("text-for-number", observation(json!({"valueQuantity": {"value": "1"}}))),
        ("minus-positive", patient(json!({"telecom": [{"system": "phone", "value": "1", "rank": 0}]}))),
        ("request", request(json!({"priority": "urgent"}))),
        ("no-subject", request(json!({"subject": null}))),
        ("subject-of-another-type", request(json!({"subject": {"reference": "Practitioner/1"}}))),
        ("encounter-of-a-patient", observation(json!({"encounter": {"reference": "Patient/1"}}))),
        (
            "foreign-address",
            request(json!({"requester": {"reference": "https://hris.example.org/Staff/77"}})),
        ),
        ("detail-without-code", request(json!({"code": null, "orderDetail": [{"text": "x"}]}))),
        ("contained-nobody-names", request(json!({"contained": [{"resourceType": "Patient", "id": "p"}]}))),
        (
            "contained",
            request(
                json!({"subject": {"reference": "#p"}, "contained": [{"resourceType": "Patient", "id": "p"}]}),
            ),
        ),
        ("contained-missing", request(json!({"subject": {"reference": "#q"}}))),
        ("encounter", encounter(json!({}))),
        ("no-class", encounter(json!({"class": null}))),
        ("location-of-nothing", encounter(json!({"location": [{"status": "active"}]}))),
        ("extension", patient(json!({"extension": [{"url": "urn:any", "valueString": "x"}]}))),
        (
            "extension-of-both",
            patient(
                json!({"extension": [{"url": "urn:any", "valueString": "x", "extension": [{"url": "y", "valueString": "z"}]}]}),
            ),
        ),
        ("extension-of-nothing", patient(json!({"extension": [{"url": "urn:any"}]}))),
        (
            "bundle",
            json!({"resourceType": "Bundle", "type": "collection", "entry": [{"fullUrl": "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0", "resource": patient(json!({}))}]}),
        ),
        (
            "bundle-entry-wrong",
            json!({"resourceType": "Bundle", "type": "collection", "entry": [{"fullUrl": "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0", "resource": patient(json!({"gender": "x"}))}]}),
        ),
        (
            "transaction-without-request",
            json!({"resourceType": "Bundle", "type": "transaction", "entry": [{"resource": patient(json!({}))}]}),
        ),
        ("total-in-a-collection", json!({"resourceType": "Bundle", "type": "collection", "total": 1})),
        (
            "answer-and-item",
            json!({"resourceType": "QuestionnaireResponse", "status": "completed", "questionnaire": "http://x/q",
            "item": [{"linkId": "1", "answer": [{"valueString": "x"}], "item": [{"linkId": "2", "answer": [{"valueString": "x"}]}]}]}),
        ),
        (
            "our-patient-without-identifier",
            patient(json!({"meta": {"profile": [format!("{OURS}/cht-patient")]}})),
        ),
        (
            "our-referral-without-code",
            request(json!({"code": null, "meta": {"profile": [format!("{OURS}/referral")]}})),
        ),
    ]
}

/// Lays `more` over; null takes away.
fn over(mut resource: Value, more: Value) -> Value {
    let fields = resource.as_object_mut().expect("an object");
    for (key, value) in more.as_object().expect("an object") {
        match value {
            Value::Null => fields.remove(key),
            value => fields.insert(key.clone(), value.clone()),
        };
    }
    resource
}

#[test]
fn both_validators_say_the_same() {
    if !crate::have_java("HL7's validator") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let all = resources();
    for (name, resource) in &all {
        std::fs::write(folder.path().join(format!("{name}.json")), resource.to_string()).expect("written");
    }
    let verdict = crate::part("fhir-check/check.sh")
        .arg(crate::validity::conformance().path())
        .arg(folder.path())
        .output()
        .expect("a verdict");
    let said = String::from_utf8_lossy(&verdict.stdout).into_owned();
    assert!(
        said.contains(&format!("{} files", all.len())),
        "{said}{}",
        String::from_utf8_lossy(&verdict.stderr)
    );
    let mut theirs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in said.lines() {
        if let Some((name, told)) = line.split_once(".json: ") {
            theirs.entry(name).or_default().push(told);
        }
    }
    let conformance = Conformance::built_in();
    let mut differing = Vec::new();
    for (name, resource) in &all {
        let ours = conformance.definitions.validate(resource, None);
        let hl7 = theirs.get(name).cloned().unwrap_or_default();
        let is_known = DIFFERENT.iter().any(|(known, _)| known == name);
        if (ours.is_empty() != hl7.is_empty()) != is_known {
            differing.push(format!("{name}\n  ours: {ours:?}\n  HL7's: {hl7:?}"));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
    let wrong = theirs.len();
    assert!(wrong >= 30 && all.len() - wrong >= 10, "{wrong} of {} are wrong", all.len());
}
