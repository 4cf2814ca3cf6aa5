//! What a validation costs, against parsing the same text in the same run.
//! `cargo bench -p fhir-validate`; budgets: 100 us for a Patient, 400 us for a Bundle of five entries.
use fhir_validate::Definitions;
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

fn main() {
    let patient = json!({"resourceType": "Patient", "active": true, "gender": "female", "birthDate": "1992-03-14",
        "identifier": [{"system": "urn:cht:uuid", "value": "a54a8e4f-c505-4ed9-a6f2-eb7bdad2fb9d"}, {"system": "urn:cht:shortcode", "value": "83288"}],
        "name": [{"use": "official", "text": "Achieng Otieno", "family": "Otieno", "given": ["Achieng"]}],
        "telecom": [{"system": "phone", "value": "+254712000101", "rank": 1}],
        "address": [{"use": "home", "text": "Kibera", "city": "Nairobi"}],
        "managingOrganization": {"type": "Organization", "identifier": {"system": "urn:cht:place", "value": "1"}}});
    let about = json!({"reference": "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"});
    let entry = |url: &str, resource: &Value| {
        let kind = resource["resourceType"].as_str().unwrap_or_default();
        json!({"fullUrl": format!("urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6{url}"), "resource": resource, "request": {"method": "POST", "url": kind}})
    };
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        entry("e0", &patient),
        entry("e1", &json!({"resourceType": "Encounter", "status": "finished", "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "HH"},
            "subject": about, "period": {"start": "2026-10-28T10:00:00Z", "end": "2026-10-28T10:00:00Z"}})),
        entry("e2", &json!({"resourceType": "ServiceRequest", "status": "active", "intent": "order", "priority": "urgent", "subject": about,
            "reasonCode": [{"text": "Fever"}], "authoredOn": "2026-10-28T10:00:00Z"})),
        entry("e3", &json!({"resourceType": "Task", "status": "requested", "intent": "order", "for": about, "code": {"text": "See the patient"}})),
        entry("e4", &json!({"resourceType": "Observation", "status": "final", "code": {"coding": [{"system": "http://loinc.org", "code": "8310-5"}]},
            "subject": about, "effectiveDateTime": "2026-10-28", "valueQuantity": {"value": 38.2, "unit": "C", "system": "http://unitsofmeasure.org", "code": "Cel"}}))]});
    let started = Instant::now();
    let definitions = Definitions::r4();
    println!("definitions: {:.1} ms", started.elapsed().as_secs_f64() * 1000.0);
    println!("{:<24}{:>10}{:>12}{:>9}", "resource", "us", "parse, us", "ratio");
    for (name, resource, budget) in [("Patient", &patient, 100.0), ("Bundle of five", &bundle, 400.0)] {
        assert_eq!(definitions.validate(resource, None), []);
        let text = resource.to_string();
        let cost = microseconds(|| {
            black_box(definitions.validate(black_box(resource), None).len());
        });
        let floor = microseconds(|| {
            black_box(serde_json::from_str::<Value>(black_box(&text)).is_ok());
        });
        let within = if cost <= budget { "within" } else { "OVER" };
        println!("{name:<24}{cost:>10.1}{floor:>12.1}{:>9.1}  {within} {budget} us", cost / floor);
    }
}
