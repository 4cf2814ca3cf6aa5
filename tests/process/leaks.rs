//! Known names, phones, birth dates and secrets go through every route, well and badly; then the log
//! at its most talkative, the metrics and the errors are read for them.
use crate::description::{CLIENTS, Operation, SECRET, clients, operations};
use crate::process::Process;
use crate::world::{PATIENT, fixture, ltfu};
use base64::Engine;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use std::time::Duration;

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
const SECRETS: &[&str] = &["interop-password", "aW50ZXJvcC1wYXNzd29yZA", "MEDIATOR__CHT__PASSWORD"];

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
    for word in PERSONAL.iter().chain(SECRETS) {
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
    for word in PERSONAL.iter().chain(SECRETS).chain(&[PATIENT]) {
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

/// Everything that a caller can write something into: body, path, query, headers.
fn attempts(operation: &Operation) -> Vec<Box<dyn Fn(RequestBuilder) -> RequestBuilder>> {
    let mut all: Vec<Box<dyn Fn(RequestBuilder) -> RequestBuilder>> = Vec::new();
    for body in operation.examples() {
        all.push(Box::new(move |request| request.json(&body)));
    }
    let kind =
        operation.parameters("path").into_iter().find_map(|(name, kind)| kind.filter(|_| name == "Type"));
    let named = json!({"resourceType": kind.unwrap_or("Patient".into()), "id": "Achieng", "name": "Achieng Otieno", "status": "Achieng",
        "birthDate": "1992-03-14x", "telecom": ["+254712000101"], "gender": "Otieno", "doc": {"type": "person", "name": ["Achieng"]},
        "identifier": [{"system": "s", "value": "+254712000101"}], "type": "Achieng", "entry": "Otieno"});
    let bodies = [
        named.to_string(),
        named.to_string().replace("]", "] \"Achieng"),
        named.to_string().replace("\"Achieng\"", "Achieng"),
        r#"{"Achieng": 1, "Achieng": 2}"#.into(),
        r#"["Achieng Otieno"]"#.into(),
        format!("{{\"a\": {}\"Achieng\"", "[".repeat(100)),
    ];
    for body in bodies.into_iter().filter(|_| operation.takes_body()) {
        all.push(Box::new(move |request| {
            request.header("content-type", "application/json").body(body.clone())
        }));
    }
    for (name, value) in [
        ("content-type", "text/Achieng"),
        ("content-encoding", "Achieng"),
        ("idempotency-key", "Achieng Otieno"),
        ("if-none-exist", "name=Achieng"),
        ("x-openhim-clientid", "Achieng"),
        ("user-agent", "Achieng"),
        ("referer", "https://emr.example.org/Achieng"),
    ] {
        let body = operation.examples().into_iter().next();
        all.push(Box::new(move |request| {
            body.iter().fold(request, |request, body| request.json(body)).header(name, value)
        }));
    }
    all
}

/// With a name in the place of an id and of each parameter of the query. Types and mappings are words of a
/// configuration, and are said again.
fn targets(operation: &Operation) -> Vec<String> {
    let plain = operation.target(None);
    let path = plain.split('?').next().unwrap_or_default().to_string();
    let named = |(name, _): &(String, _)| format!("{path}?{name}=Achieng%20Otieno");
    let mut all: Vec<String> = operation.parameters("query").iter().map(named).collect();
    all.extend([operation.target(Some("Achieng")), plain]);
    all
}

/// What the mediator said, however it was asked.
async fn gone_through(it: &Process) -> String {
    let mut said = String::new();
    for operation in operations() {
        let targets = targets(&operation);
        let attempts = attempts(&operation);
        let sends = |target: &str| {
            let url = format!("http://127.0.0.1:{}{target}", it.port);
            // Mappings are read anew for some seconds in a build of the tests.
            let request = it.http.request(operation.method.clone(), url).timeout(Duration::from_secs(60));
            match operation.client() {
                Some(client) => request.basic_auth(client, Some(SECRET)),
                None => request,
            }
        };
        let mut requests: Vec<RequestBuilder> = targets.iter().map(|target| sends(target)).collect();
        requests.extend(attempts.iter().map(|attempt| attempt(sends(&operation.target(None)))));
        for request in requests {
            let answer = request.send().await.expect("an answer");
            let status = answer.status().as_u16();
            let text = answer.text().await.expect("a body");
            // A resource that is answered as it was taken is its sender's own; the description has examples.
            if status >= 400 || !(text.contains("\"resourceType\"") || operation.path == "/openapi.json") {
                said += &format!("{}: {status} {text}\n", operation.name());
            }
        }
    }
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_says_what_was_sent_in_a_refusal_or_in_the_log() {
    let clients = clients();
    let further =
        [("CLIENTS", clients.as_str()), ("LOG__FILTER", "trace"), ("SERVER__ANSWER_WITHIN_MS", "300")];
    let it = Process::with("", &further).await;
    let mut said = gone_through(&it).await;
    // Everybody's secret, right and wrong, as each scheme has it.
    let url = format!("http://127.0.0.1:{}/transactions?limit=10000", it.port);
    for (id, _) in CLIENTS {
        for request in [
            it.http.get(&url).basic_auth(id, Some("Achieng")),
            it.http.get(&url).basic_auth("Achieng", Some(SECRET)),
            it.http.get(&url).bearer_auth(format!("{id}.{SECRET}")),
            it.http.get(&url).bearer_auth(SECRET),
            it.http.request(Method::TRACE, &url).basic_auth(id, Some(SECRET)),
        ] {
            said += &request.send().await.expect("an answer").text().await.expect("a body");
        }
    }
    for path in ["/metrics", "/health/ready", "/health/live"] {
        let url = format!("http://127.0.0.1:{}{path}", it.port);
        said += &it.http.get(url).send().await.expect("an answer").text().await.expect("a body");
    }
    said += &it.cli(&["transactions", "list", "--limit", "10000"]).1;
    // Ids and identifiers that a caller made up are in the trail, and nothing else of theirs.
    let (_, trail, error) = it.cli(&["audit", "export"]);
    assert!(trail.contains("/fhir/AuditEvent?agent="), "{error}");
    assert!(!trail.contains("Otieno"), "the audit trail has a name: {}", around(&trail, "Otieno"));
    let log = it.log();
    assert!(log.contains("TRACE") && log.contains("cannot be carried out"), "the log says everything");
    assert!(
        said.contains("OperationOutcome") && said.contains("\"error\"") && said.contains("/cht/push"),
        "{said}"
    );
    let coded = |text: String| base64::engine::general_purpose::STANDARD.encode(text);
    let coded = CLIENTS.map(|(id, _)| coded(format!("{id}:{SECRET}")));
    let secrets = coded.iter().map(String::as_str).chain([SECRET, "$argon2"]);
    for word in PERSONAL.iter().chain(SECRETS).copied().chain(secrets) {
        assert!(!log.contains(word), "the log has {word}: {}", around(&log, word));
        assert!(!said.contains(word), "an answer has {word}: {}", around(&said, word));
    }
}

/// A bug's words may have a message in them: its place is told, and they are not.
#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_tells_its_place_only() {
    let mut it = Process::new("translated:panic Achieng Otieno, born 1992-03-14").await;
    it.send(false, "/cht/push", &fixture("full-person-10")["body"]).await;
    let told = |it: &Process| it.log().contains("this is a bug").then_some(());
    it.until("the panic in the log", told).await;
    let log = it.log();
    assert!(log.contains("failpoint.rs"), "its place");
    for word in PERSONAL {
        assert!(!log.contains(word), "the log has {word}: {}", around(&log, word));
    }
}
