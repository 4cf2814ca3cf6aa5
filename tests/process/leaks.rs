//! Known names, phones, birth dates and secrets go through every route, well and badly; then the log
//! at its most talkative, the metrics and the errors are read for them.
use crate::process::Process;
use crate::world::{PATIENT, fixture, ltfu};
use serde_json::{Value, json};

const PERSONAL: &[&str] = &[
    "Achieng",
    "Otieno",
    "Akinyi",
    "Achi\"",
    // Of every phone in the test, however it is written; four digits alone stand in timestamps too.
    "71200010",
    "1992-03-14",
    "Missed ART refill",
    "with her sister",
];
const SECRET: &[&str] = &["interop-password", "aW50ZXJvcC1wYXNzd29yZA", "MEDIATOR__CHT__PASSWORD"];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_patient_and_no_secret_is_in_logs_metrics_or_errors() {
    let mut it = Process::new("").await;
    let mut said = String::new();
    let person = fixture("full-person-10")["body"].clone();
    let report = fixture("full-report-20")["body"].clone();
    let mut wrong = person.clone();
    wrong["doc"]["_id"] = json!("b54a8e4f-c505-4ed9-a6f2-eb7bdad2fb9d");
    said += &it.send(false, "/cht/push", &person).await.to_string();
    said += &it.send(false, "/cht/push", &wrong).await.to_string();
    said += &it.send(false, "/cht/push", &report).await.to_string();
    it.send(false, "/fhir/ServiceRequest", &ltfu("SR-1")).await;
    // Words of a destination that quote the patient.
    let words = |code| {
        json!({"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": code,
            "diagnostics": "cannot index Patient Achieng Otieno +254712000101 born 1992-03-14"}]})
        .to_string()
    };
    it.fhir.faults().on("POST", "/fhir").say_next(1, 422, &words("invalid"));
    it.fhir.faults().on("GET", "/fhir/Task").say_next(2, 500, &words("exception"));
    let mut edited = person.clone();
    edited["doc"]["phone"] = json!("+254712000102");
    said += &it.send(false, "/cht/push", &edited).await.to_string();
    it.cht.faults().on("POST", "/api").fail_next(1, 500);
    it.send(false, "/fhir/ServiceRequest", &ltfu("SR-2")).await;
    for (path, body) in [
        (
            "/fhir/Patient",
            json!({"resourceType": "Patient", "name": "Achieng Otieno", "birthDate": "1992-03-14x"}),
        ),
        (
            "/fhir/ServiceRequest",
            json!({"resourceType": "ServiceRequest", "status": "Achieng", "intent": "order", "subject": {"display": "Otieno"}}),
        ),
        ("/fhir/ServiceRequest", unknown("Achieng Otieno")),
        ("/cht/encounter", json!({"id": "x", "patient_name": "Achieng"})),
        ("/patient", json!({"name": [{"family": "Otieno"}]})),
    ] {
        let answer = it
            .http
            .post(format!("http://127.0.0.1:{}{path}", it.port))
            .json(&body)
            .send()
            .await
            .expect("an answer");
        said += &answer.text().await.expect("a body");
    }
    said += &it
        .http
        .get(format!("http://127.0.0.1:{}/metrics", it.port))
        .send()
        .await
        .expect("metrics")
        .text()
        .await
        .expect("text");
    said += &it.get("/health/ready").await.expect("ready").to_string();
    let rows = it.settled().await;
    said += &json!(rows).to_string();
    for row in &rows {
        said += &it.cli(&["transactions", "show", row["id"].as_str().expect("an id")]).1;
    }
    said += &it.cli(&["check"]).1;
    let (code, trail, error) = it.cli(&["audit", "export"]);
    assert!(code == 0 && trail.contains(PATIENT) && trail.contains("disclose"), "{error}");
    for word in PERSONAL.iter().chain(SECRET) {
        assert!(!trail.contains(word), "the audit trail has {word}: {}", around(&trail, word));
    }
    let mut log = it.log();
    for _ in 0..100 {
        if log.contains("a poll failed") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        log = it.log();
    }
    assert!(log.contains("transaction") && log.contains("a poll failed"), "the log says something: {log}");
    for word in PERSONAL.iter().chain(SECRET).chain(&[PATIENT]) {
        assert!(!log.contains(word), "the log has {word}: {}", around(&log, word));
        assert!(!said.contains(word), "an answer has {word}: {}", around(&said, word));
    }
    // A look at what was said, so that an empty log passes nothing.
    assert!(said.contains("two people") && said.contains("422"), "{said}");
}

fn unknown(name: &str) -> Value {
    let mut request = ltfu("SR-9");
    request["subject"] = json!({"display": name, "identifier": {"system": "urn:mrn", "value": "nobody"}});
    request
}

fn around<'a>(text: &'a str, word: &str) -> &'a str {
    let at = text.find(word).unwrap_or_default();
    let start = (0..=at.saturating_sub(150)).rev().find(|i| text.is_char_boundary(*i)).unwrap_or_default();
    let end = (at + 150..text.len()).find(|i| text.is_char_boundary(*i)).unwrap_or(text.len());
    &text[start..end]
}
