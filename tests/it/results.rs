//! What a clinic finds, gives or plans is told to the CHW of the patient, once, and kept on the FHIR server in any case.
use crate::world::{PATIENT, World};
use serde_json::{Value, json};

fn lab(name: &str, value: i64) -> Value {
    json!({"resourceType": "Observation", "status": "final",
        "identifier": [{"system": "https://lab.example.org/results", "value": name}],
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory"}]}],
        "code": {"text": "Haemoglobin"}, "subject": {"identifier": {"system": "urn:cht:uuid", "value": PATIENT}},
        "effectiveDateTime": "2026-11-20", "valueQuantity": {"value": value, "unit": "g/dL"}})
}

fn report(name: &str) -> Value {
    json!({"resourceType": "DiagnosticReport", "status": "final",
        "identifier": [{"system": "https://lab.example.org/reports", "value": name}],
        "code": {"text": "HIV viral load"}, "subject": {"identifier": {"system": "urn:cht:shortcode", "value": "83288"}},
        "issued": "2026-11-21T08:00:00Z", "conclusion": "Suppressed"})
}

impl World {
    /// What CHWs have been told, in order: the result's name, and what was found.
    fn results(&self) -> Vec<(String, String)> {
        let all = self.cht.reports().into_iter().filter(|report| report["form"] == "CLINIC_RESULT");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        all.map(|report| {
            assert_eq!(report["errors"], json!([]), "{report}");
            assert_eq!(report["fields"]["patient_id"], PATIENT);
            (text(&report["fields"]["external_id"]), text(&report["fields"]["value"]))
        })
        .collect()
    }
}

fn pairs<const N: usize>(all: [(&str, &str); N]) -> Vec<(String, String)> {
    all.map(|(name, value)| (name.to_string(), value.to_string())).to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_told_once_whatever_way_it_comes_again() {
    let world = World::new().await;
    world.know_patient();
    let result = lab("L-1", 11);
    assert_eq!(world.post("/fhir/Observation", &result).await.0, 201);
    assert_eq!(world.post("/fhir/Observation", &result).await.0, 201);
    let entry = json!({"fullUrl": "urn:uuid:3fdc72f4-a11d-4a9d-9260-a9f745779e1d", "resource": result,
        "request": {"method": "POST", "url": "Observation"}});
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [entry]});
    assert_eq!(world.post("/fhir", &bundle).await.0, 200);
    world.settled().await;
    assert_eq!(world.results(), pairs([("L-1", "11 g/dL")]));
    assert_eq!(world.fhir.resources("Observation").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_correction_is_told_also_if_it_says_what_was_said_before_and_so_is_a_withdrawal() {
    let world = World::new().await;
    world.know_patient();
    for value in [11, 7, 11] {
        assert_eq!(world.post("/fhir/Observation", &lab("L-1", value)).await.0, 201);
    }
    let mut withdrawn = lab("L-1", 11);
    withdrawn["status"] = json!("entered-in-error");
    assert_eq!(world.post("/fhir/Observation", &withdrawn).await.0, 201);
    // Of this one nobody had been told.
    let mut never = lab("L-2", 5);
    never["status"] = json!("entered-in-error");
    assert_eq!(world.post("/fhir/Observation", &never).await.0, 201);
    world.settled().await;
    let expected =
        pairs([("L-1", "11 g/dL"), ("L-1 (2)", "7 g/dL"), ("L-1 (3)", "11 g/dL"), ("L-1 (4)", "11 g/dL")]);
    assert_eq!(world.results(), expected);
    let last =
        world.cht.reports().into_iter().rfind(|report| report["form"] == "CLINIC_RESULT").expect("one");
    let note = last["fields"]["note"].as_str().expect("a note");
    assert!(note.starts_with("Withdrawn by the clinic"), "{note}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_and_its_results_are_one_thing_to_a_chw() {
    let world = World::new().await;
    world.know_patient();
    let mut part = lab("L-1", 11);
    part["category"][0]["coding"][0]["code"] = json!("laboratory");
    let mut whole = report("R-1");
    whole["result"] = json!([{"reference": "urn:uuid:3fdc72f4-a11d-4a9d-9260-a9f745779e1d"}]);
    let entry = |url: &str, resource: &Value| {
        json!({"fullUrl": url, "resource": resource,
        "request": {"method": "POST", "url": resource["resourceType"]}})
    };
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        entry("urn:uuid:3fdc72f4-a11d-4a9d-9260-a9f745779e1d", &part),
        entry("urn:uuid:4fdc72f4-a11d-4a9d-9260-a9f745779e1d", &whole)]});
    let (status, answer) = world.post("/fhir", &bundle).await;
    assert_eq!((status, answer["entry"].as_array().map(Vec::len)), (200, Some(2)), "{answer}");
    let said = answer["entry"][1]["response"]["outcome"]["issue"][1]["diagnostics"].as_str();
    assert_eq!(said, Some("a result for a CHW"), "{answer}");
    world.settled().await;
    assert_eq!(world.results(), pairs([("R-1", "Suppressed\nHaemoglobin: 11 g/dL")]));
    let kept = &world.fhir.resources("DiagnosticReport")[0];
    let reference = kept["result"][0]["reference"].as_str().expect("a reference");
    assert!(reference.starts_with("Observation/"), "{kept}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_is_told_and_what_is_not_final_is_only_kept() {
    let world = World::new().await;
    world.know_patient();
    let who = json!({"identifier": {"system": "urn:cht:uuid", "value": PATIENT}});
    let name = |value: &str| json!([{"system": "https://emr.example.org/all", "value": value}]);
    let class =
        |code: &str| json!({"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": code});
    let participant =
        json!([{"actor": {"type": "Patient", "identifier": who["identifier"]}, "status": "accepted"}]);
    let all = [
        json!({"resourceType": "MedicationRequest", "status": "active", "intent": "order", "identifier": name("M-1"),
            "medicationCodeableConcept": {"text": "Amoxicillin"}, "subject": who}),
        json!({"resourceType": "Appointment", "status": "noshow", "identifier": name("A-1"), "participant": participant,
            "start": "2026-11-20T08:00:00Z", "end": "2026-11-20T08:30:00Z"}),
        json!({"resourceType": "Encounter", "status": "finished", "identifier": name("E-1"), "class": class("IMP"), "subject": who}),
        // Kept, and no more.
        json!({"resourceType": "MedicationRequest", "status": "draft", "intent": "order", "identifier": name("M-2"),
            "medicationCodeableConcept": {"text": "Amoxicillin"}, "subject": who}),
        json!({"resourceType": "Appointment", "status": "proposed", "identifier": name("A-2"), "participant": participant}),
        json!({"resourceType": "Encounter", "status": "in-progress", "identifier": name("E-2"), "class": class("IMP"), "subject": who}),
        json!({"resourceType": "Encounter", "status": "finished", "identifier": name("E-3"), "class": class("AMB"), "subject": who}),
        json!({"resourceType": "Encounter", "status": "finished", "class": class("IMP"), "subject": who,
            "identifier": [{"system": "urn:cht:report", "value": "of-a-chw"}]}),
    ];
    for resource in &all {
        let kind = resource["resourceType"].as_str().expect("a type");
        let (status, answer) = world.post(&format!("/fhir/{kind}"), resource).await;
        assert_eq!(status, 201, "{resource}: {answer}");
    }
    world.settled().await;
    let names: Vec<String> = world.results().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["M-1", "A-1", "E-1"]);
    let visits = world.cht.reports().into_iter().filter(|report| report["fields"]["needs_visit"] == true);
    assert_eq!(visits.count(), 2, "who did not come, and who has come home");
    assert_eq!(world.fhir.resources("MedicationRequest").len(), 2);
    assert_eq!(world.fhir.resources("Appointment").len(), 2);
    assert_eq!(world.fhir.resources("Encounter").len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_somebody_whom_cht_does_not_know_it_is_only_kept() {
    let world = World::new().await;
    world.know_patient();
    // CHT has told us of the patient already, and nobody of her number at the EMR.
    let pushed = json!({"doc": world.cht.hydrated(PATIENT).expect("a person")});
    assert_eq!(world.post("/cht/push", &pushed).await.0, 200);
    world.settled().await;
    for subject in [
        json!({"identifier": {"system": "https://emr.example.org/patients", "value": "17"}}),
        json!({"identifier": {"system": "urn:cht:uuid", "value": "b65b9f50-d616-4fea-b703-fc8ceba3ca0e"}}),
        json!({"reference": "Patient/17"}),
        json!({"display": "Achieng Otieno"}),
    ] {
        let mut result = lab(&format!("L-{subject}"), 11);
        result["subject"] = subject;
        assert_eq!(world.post("/fhir/Observation", &result).await.0, 201, "{result}");
    }
    world.settled().await;
    assert_eq!(world.results(), pairs([]));
    assert_eq!(world.fhir.resources("Observation").len(), 4);
    // Once the EMR has said who it is, its own number will do.
    let patient = json!({"resourceType": "Patient", "identifier": [
        {"system": "urn:cht:uuid", "value": PATIENT}, {"system": "https://emr.example.org/patients", "value": "17"}]});
    assert_eq!(world.post("/fhir/Patient", &patient).await.0, 201);
    let mut result = lab("L-9", 9);
    result["subject"] = json!({"identifier": {"system": "https://emr.example.org/patients", "value": "17"}});
    assert_eq!(world.post("/fhir/Observation", &result).await.0, 201);
    world.settled().await;
    assert_eq!(world.results(), pairs([("L-9", "9 g/dL")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_told_when_cht_is_back_also_after_a_restart_and_also_if_cht_had_taken_it() {
    let mut world = World::new().await;
    world.know_patient();
    // Known, so that nobody has to be asked.
    assert_eq!(world.post("/fhir/Observation", &lab("L-0", 10)).await.0, 201);
    world.settled().await;
    world.cht.faults().on("POST", "/api/v2/records").drop_after_effect_next(1);
    world.cht.faults().set_down(true);
    let http = world.http.clone();
    let sent = http.post(world.url("/fhir/Observation")).json(&lab("L-1", 11));
    let sent = tokio::spawn(async move { sent.send().await.map(|answer| answer.status().as_u16()) });
    world.until("it is on the server", |world| world.fhir.resources("Observation").len() == 2).await;
    world.close().await;
    drop(sent);
    world.cht.faults().set_down(false);
    world.open().await;
    world.settled().await;
    assert_eq!(world.results(), pairs([("L-0", "10 g/dL"), ("L-1", "11 g/dL")]));
}
