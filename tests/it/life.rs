//! A request's whole life: claimed, withdrawn, overdue, expired, answered late, twice and otherwise; searched
//! and subscribed to.
use crate::clock::Set;
use crate::world::{PATIENT, World, ltfu};
use cht_fhir_mediator::domain::follow_up::{Happening, Kind, replay};
use cht_fhir_mediator::domain::identifier::Identifier;
use cht_fhir_mediator::house::House;
use serde_json::{Value, json};

const DAY: i64 = 24;

/// Whose answers are the outcome, however slow the machine is.
async fn patient() -> World {
    World::with(&[("SERVER__ANSWER_WITHIN_MS", "60000")], Default::default()).await
}

async fn asked(world: &World, identifier: &str) -> Value {
    let (status, body) = world.post("/fhir/ServiceRequest", &ltfu(identifier)).await;
    assert_eq!(status, 201, "{body}");
    world.settled().await;
    body
}

fn with_status(identifier: &str, status: &str) -> Value {
    let mut request = ltfu(identifier);
    request["status"] = json!(status);
    request
}

fn records(world: &World, form: &str) -> Vec<Value> {
    world.cht.reports().into_iter().filter(|report| report["form"] == form).collect()
}

/// The CHW does the task that the newest record raised.
fn visit(world: &World, outcome: &str) -> Value {
    let record = records(world, "LTFU_REQUEST").pop().expect("a record");
    let record = record["_id"].as_str().expect("an id").to_string();
    world.cht.complete_follow_up(&record, "ltfu_follow_up", json!({"outcome": outcome})).expect("a report")
}

async fn push(world: &World, report: &Value) {
    assert!(world.cht.push(report).await);
    world.settled().await;
}

async fn status(world: &World, identifier: &str) -> String {
    let (code, body) = world.get(&format!("/fhir/ServiceRequest/{identifier}")).await;
    assert_eq!(code, 200, "{body}");
    body["status"].as_str().unwrap_or_default().to_string()
}

/// What has happened to a request; its events lead to its state.
async fn story(world: &World, identifier: &str) -> Vec<Happening> {
    let house = world.house.as_ref().expect("an open house");
    let named = Identifier::new("urn:emr:requests", identifier);
    let known = house.corridor.journal().follow_up(Kind::FollowUp, &named).await.expect("read");
    let known = known.expect("a request");
    assert_eq!(replay(&known.events), Some(known.state), "{identifier}");
    known.events.into_iter().map(|event| event.what).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_is_an_event_and_a_version() {
    use Happening::{Asked, Claimed, Completed};
    let world = patient().await;
    world.know_patient();
    let made = asked(&world, "SR-1").await;
    let (_, shown) = world.get("/fhir/ServiceRequest/SR-1").await;
    assert_eq!(
        (shown["status"].as_str(), shown["meta"]["versionId"].as_str()),
        (Some("on-hold"), Some("v2"))
    );
    // By the id of the answer too.
    let (code, by_id) =
        world.get(&format!("/fhir/ServiceRequest/{}", made["id"].as_str().expect("an id"))).await;
    assert_eq!((code, &by_id["meta"]), (200, &shown["meta"]));
    push(&world, &visit(&world, "found")).await;
    assert_eq!(status(&world, "SR-1").await, "completed");
    assert_eq!(story(&world, "SR-1").await, [Asked, Claimed, Completed]);
    let answer = world.http.get(world.url("/fhir/ServiceRequest/SR-1")).send().await.expect("an answer");
    assert_eq!(answer.headers()["etag"], "W/\"v3\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_version_that_was_seen_is_changed() {
    let world = patient().await;
    world.know_patient();
    let mut request = ltfu("SR-1");
    request["id"] = json!("SR-1");
    assert_eq!(world.put("/fhir/ServiceRequest/SR-1", &request).await.0, 200);
    world.settled().await;
    request["status"] = json!("revoked");
    let send = |version: &'static str| {
        let put = world.http.put(world.url("/fhir/ServiceRequest/SR-1")).json(&request);
        world.send(put.header("If-Match", version))
    };
    for version in ["W/\"v1\"", "W/\"v7\""] {
        let (status, body) = send(version).await;
        assert_eq!(status, 412, "{version}: {body}");
    }
    assert_eq!(status(&world, "SR-1").await, "on-hold");
    assert_eq!(send("W/\"v2\"").await.0, 200);
    assert_eq!(status(&world, "SR-1").await, "revoked");
    // Another server's own, as HAPI's rest-hooks send it, is none of ours.
    assert_eq!(send("W/\"17\"").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_withdrawn_takes_the_task_away() {
    use Happening::{Asked, Claimed, Withdrawn};
    let world = patient().await;
    world.know_patient();
    for (n, how) in ["revoked", "entered-in-error", "completed"].into_iter().enumerate() {
        let identifier = format!("SR-{n}");
        let mut request = ltfu(&identifier);
        request["occurrenceDateTime"] = json!(format!("2026-10-0{}", n + 1));
        assert_eq!(world.post("/fhir/ServiceRequest", &request).await.0, 201);
        world.settled().await;
        request["status"] = json!(how);
        let (code, body) = world.post("/fhir/ServiceRequest", &request).await;
        assert_eq!(
            (code, body["status"].as_str()),
            (201, Some(if how == "completed" { how } else { "revoked" })),
            "{body}"
        );
        world.settled().await;
        let cancels = records(&world, "LTFU_CANCEL");
        assert_eq!(cancels.len(), n + 1, "{how}");
        assert_eq!(cancels[n]["fields"]["external_id"], identifier);
        assert_eq!(cancels[n]["fields"]["patient_uuid"], PATIENT);
        assert_eq!(cancels[n]["errors"], json!([]));
        // Once more changes nothing, and asks for nothing.
        world.post("/fhir/ServiceRequest", &request).await;
        request["status"] = json!("active");
        let (_, body) = world.post("/fhir/ServiceRequest", &request).await;
        assert_ne!(body["status"], "active", "asked anew, it would say something new");
        world.settled().await;
        assert_eq!(
            (records(&world, "LTFU_CANCEL").len(), records(&world, "LTFU_REQUEST").len()),
            (n + 1, n + 1)
        );
    }
    assert_eq!(story(&world, "SR-0").await, [Asked, Claimed, Withdrawn]);
    let mut told: Vec<String> =
        world.fhir.resources("ServiceRequest").iter().map(|r| r["status"].to_string()).collect();
    told.sort();
    assert_eq!(told, ["\"completed\"", "\"revoked\"", "\"revoked\""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawal_may_overtake_its_request() {
    let world = patient().await;
    world.know_patient();
    assert_eq!(world.post("/fhir/ServiceRequest", &with_status("SR-1", "revoked")).await.0, 201);
    let (code, body) = world.post("/fhir/ServiceRequest", &ltfu("SR-1")).await;
    assert_eq!((code, body["status"].as_str()), (201, Some("revoked")), "{body}");
    world.settled().await;
    assert!(world.cht.reports().is_empty(), "no CHW hears of it");
    // Of a later version it is meant.
    let mut later = ltfu("SR-1");
    let mut early = with_status("SR-2", "revoked");
    early["meta"] = json!({"lastUpdated": "2026-11-26T08:00:00Z"});
    later["identifier"][0]["value"] = json!("SR-2");
    later["meta"] = json!({"lastUpdated": "2026-11-26T09:00:00Z"});
    later["priority"] = json!("routine");
    world.post("/fhir/ServiceRequest", &early).await;
    let (_, body) = world.post("/fhir/ServiceRequest", &later).await;
    world.settled().await;
    assert_eq!(records(&world, "LTFU_REQUEST").len(), 1, "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_and_its_request_are_withdrawn_together() {
    let world = patient().await;
    world.know_patient();
    asked(&world, "SR-1").await;
    let mut task = json!({"resourceType": "Task", "status": "requested", "intent": "order",
        "identifier": [{"system": "urn:emr:tasks", "value": "T-1"}],
        "focus": {"type": "ServiceRequest", "identifier": ltfu("SR-1")["identifier"][0]},
        "for": {"identifier": {"system": "urn:cht:uuid", "value": PATIENT}}});
    assert_eq!(world.post("/fhir/Task", &task).await.0, 201);
    world.settled().await;
    assert_eq!(world.get("/fhir/Task/T-1").await.1["status"], "accepted");
    assert_eq!(world.get("/fhir/Task/T-1").await.1["businessStatus"]["text"], "alerted");
    task["status"] = json!("cancelled");
    assert_eq!(world.post("/fhir/Task", &task).await.0, 201);
    world.settled().await;
    let cancels = records(&world, "LTFU_CANCEL");
    assert_eq!(cancels.len(), 1);
    assert_eq!(cancels[0]["fields"]["external_id"], "SR-1", "as the record is called that raised the task");
    assert_eq!(status(&world, "SR-1").await, "revoked");
    assert_eq!(world.fhir.resources("Task")[0]["status"], "cancelled");
    assert_eq!(world.fhir.resources("ServiceRequest")[0]["status"], "revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_after_the_withdrawal_is_kept_and_changes_nothing() {
    use Happening::{Asked, Claimed, Late, Withdrawn};
    let world = patient().await;
    world.know_patient();
    asked(&world, "SR-1").await;
    let report = visit(&world, "found");
    world.post("/fhir/ServiceRequest", &with_status("SR-1", "revoked")).await;
    world.settled().await;
    push(&world, &report).await;
    assert_eq!(status(&world, "SR-1").await, "revoked");
    assert_eq!(world.fhir.resources("ServiceRequest")[0]["status"], "revoked");
    assert_eq!(world.fhir.resources("Encounter").len(), 1, "what the CHW found is kept");
    assert_eq!(story(&world, "SR-1").await, [Asked, Claimed, Withdrawn, Late]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_is_corrected_by_an_edit_and_repeated_without_effect() {
    use Happening::{Asked, Begun, Claimed, Completed};
    let world = patient().await;
    world.know_patient();
    asked(&world, "SR-1").await;
    let mut report = visit(&world, "found");
    push(&world, &report).await;
    push(&world, &report).await;
    assert_eq!(story(&world, "SR-1").await, [Asked, Claimed, Completed]);
    report["_rev"] = json!("2-b");
    report["fields"]["outcome"] = json!("moved");
    push(&world, &report).await;
    let outcome = |world: &World| {
        let all = world.fhir.resources("Observation");
        let outcome = all
            .into_iter()
            .find(|o| !o["valueCodeableConcept"].is_null() && o["code"]["coding"][0]["code"] == "outcome")
            .expect("an outcome");
        outcome["valueCodeableConcept"]["coding"][0]["code"].clone()
    };
    assert_eq!((status(&world, "SR-1").await.as_str(), outcome(&world)), ("completed", json!("moved")));
    // She was not there after all, and goes again.
    report["_rev"] = json!("3-c");
    report["fields"]["outcome"] = json!("try_again");
    push(&world, &report).await;
    assert_eq!(status(&world, "SR-1").await, "on-hold");
    assert_eq!(story(&world, "SR-1").await, [Asked, Claimed, Completed, Completed, Begun]);
    assert_eq!(world.fhir.resources("Encounter").len(), 1);
}

/// Open, with a clock that can be put forward.
async fn with_days(further: &[(&str, &str)]) -> (World, std::sync::Arc<Set>) {
    let mut all = vec![
        ("FOLLOW_UP__CHECK_SECONDS", "1"),
        ("FOLLOW_UP__DUE_DAYS", "7"),
        ("FOLLOW_UP__EXPIRES_DAYS", "30"),
    ];
    all.extend(further);
    let mut world = World::closed(&all, Default::default()).await;
    world.know_patient();
    let clock = Set::new();
    world.house = Some(House::open_by(clock.clone(), &world.settings).await.expect("an open house"));
    (world, clock)
}

async fn until_status(world: &World, identifier: &str, wanted: &str) {
    for _ in 0..900 {
        if status(world, identifier).await == wanted {
            world.settled().await;
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("{identifier} never was {wanted}");
}

async fn until_flagged(world: &World, flag: &str) -> Value {
    for _ in 0..900 {
        let (_, found) = world.get(&format!("/fhir/ServiceRequest?_tag={flag}")).await;
        if let Some(request) = found["entry"][0]["resource"].as_object() {
            world.settled().await;
            return json!(request);
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("nothing is ever {flag}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_is_told_and_what_nobody_does_expires() {
    use Happening::{Asked, Claimed, Completed, Expired, Overdue};
    let (world, clock) = with_days(&[]).await;
    let endpoint = json!({"resourceType": "Endpoint", "identifier": [{"system": "x", "value": "e"}], "address": world.emr.url()});
    let organization = json!({"resourceType": "Organization", "identifier": [{"system": "x", "value": "o"}], "endpoint": [{"reference": "Endpoint/e"}]});
    world.post("/endpoint", &endpoint).await;
    world.post("/organization", &organization).await;
    let mut request = ltfu("SR-1");
    request["requester"] = json!({"reference": "Organization/o"});
    assert_eq!(world.post("/fhir/ServiceRequest", &request).await.0, 201);
    world.settled().await;
    let record = records(&world, "LTFU_REQUEST").remove(0);
    let due = record["fields"]["due_date"].as_str().expect("a due date").to_string();
    let day = jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::now()).date();
    assert_eq!(due, day.checked_add(jiff::Span::new().days(7)).expect("a day").to_string());
    let report = visit(&world, "found");
    clock.to(8 * DAY);
    let flagged = until_flagged(&world, "overdue").await;
    assert_eq!(flagged["status"], "on-hold", "still to be done");
    clock.to(31 * DAY);
    until_status(&world, "SR-1", "revoked").await;
    let cancel = records(&world, "LTFU_CANCEL").remove(0);
    assert!(cancel["fields"]["reason"].as_str().is_some_and(|why| why.contains("Too late")), "{cancel}");
    assert_eq!(world.fhir.resources("ServiceRequest")[0]["status"], "revoked");
    let told: Vec<Value> =
        world.emr.resources("ServiceRequest").iter().map(|r| r["meta"]["tag"][0]["code"].clone()).collect();
    assert_eq!(told, ["overdue", "expired"]);
    // Late, and welcome all the same.
    push(&world, &report).await;
    assert_eq!(status(&world, "SR-1").await, "completed");
    assert_eq!(story(&world, "SR-1").await, [Asked, Claimed, Overdue, Expired, Completed]);
    let (_, metrics) = {
        let answer = world.http.get(world.url("/metrics")).send().await.expect("an answer");
        (answer.status(), answer.text().await.expect("text"))
    };
    let counted = |event: &str| {
        metrics
            .lines()
            .any(|line| line.starts_with("follow_ups{") && line.contains(&format!("event=\"{event}\"")))
    };
    assert!(["asked", "claimed", "overdue", "expired", "completed"].into_iter().all(counted), "{metrics}");
    let lapses = world.settled().await.into_iter().filter(|row| row.route == "lapse").count();
    assert_eq!(lapses, 2, "each day once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_programme_and_a_request_have_days_of_their_own() {
    let (world, clock) = with_days(&[("FOLLOW_UP__PROGRAMS", r#"{"HIV": {"due_days": 2}}"#)]).await;
    let mut hiv = ltfu("SR-1");
    hiv["category"] = json!([{"text": "HIV"}]);
    let mut own = ltfu("SR-2");
    own["category"] = json!([{"text": "TB"}]);
    let end = jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::now()).date();
    let end = end.checked_add(jiff::Span::new().days(20)).expect("a day").to_string();
    own["occurrenceDateTime"] = Value::Null;
    own.as_object_mut().expect("an object").remove("occurrenceDateTime");
    own["occurrencePeriod"] = json!({"start": "2026-11-01", "end": end});
    for request in [&hiv, &own] {
        let (code, body) = world.post("/fhir/ServiceRequest", request).await;
        assert_eq!(code, 201, "{body}");
    }
    world.settled().await;
    assert_eq!(records(&world, "LTFU_REQUEST")[1]["fields"]["due_date"], end);
    clock.to(3 * DAY);
    assert_eq!(until_flagged(&world, "overdue").await["identifier"][0]["value"], "SR-1");
    clock.to(10 * DAY);
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    let (_, found) = world.get("/fhir/ServiceRequest?_tag=overdue").await;
    assert_eq!(found["entry"].as_array().map(Vec::len), Some(1), "TB is not due yet");
}

fn found(bundle: &Value) -> Vec<String> {
    let entries = bundle["entry"].as_array().into_iter().flatten();
    let name =
        |entry: &Value| entry["resource"]["identifier"][0]["value"].as_str().unwrap_or("?").to_string();
    entries.map(name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emr_that_cannot_be_told_asks() {
    let world = patient().await;
    world.know_patient();
    for n in 0..5 {
        let mut request = ltfu(&format!("SR-{n}"));
        request["occurrenceDateTime"] = json!(format!("2026-10-0{}", n + 1));
        request["authoredOn"] = json!(format!("2026-11-0{}", n + 1));
        request["requester"] = json!({"identifier": {"system": "urn:mfl", "value": format!("{}", n % 2)}});
        request["performer"] = json!([{"identifier": {"system": "urn:chu", "value": "Kibera"}}]);
        assert_eq!(world.post("/fhir/ServiceRequest", &request).await.0, 201);
        world.settled().await;
    }
    world.post("/fhir/ServiceRequest", &with_status("SR-9", "revoked")).await;
    world.settled().await;
    let search = async |query: &str| {
        let (code, bundle) = world.get(&format!("/fhir/ServiceRequest?{query}")).await;
        assert_eq!(code, 200, "{query}: {bundle}");
        bundle
    };
    for (query, names) in [
        ("", vec!["SR-0", "SR-1", "SR-2", "SR-3", "SR-4", "SR-9"]),
        ("status=on-hold&performer:identifier=Kibera", vec!["SR-0", "SR-1", "SR-2", "SR-3", "SR-4"]),
        ("status=revoked,completed", vec!["SR-9"]),
        ("requester:identifier=urn:mfl|1", vec!["SR-1", "SR-3"]),
        ("identifier=urn:emr:requests|SR-2", vec!["SR-2"]),
        ("identifier=urn:other|SR-2", vec![]),
        ("authored=ge2026-11-02&authored=lt2026-11-04", vec!["SR-1", "SR-2"]),
        ("_lastUpdated=lt2020-01-01", vec![]),
        (&format!("subject=Patient/{PATIENT}&authored=2026-11-05"), vec!["SR-4"]),
        (&format!("patient.identifier=urn:cht:uuid|{PATIENT}&status=revoked"), vec!["SR-9"]),
        ("subject=Patient/nobody", vec![]),
    ] {
        assert_eq!(found(&search(query).await), names, "{query}");
    }
    // Page by page, each once.
    let mut next = Some(world.url("/fhir/ServiceRequest?_count=2&_include=ServiceRequest:subject"));
    let mut all = Vec::new();
    while let Some(url) = next {
        let (code, page) = world.send(world.http.get(url)).await;
        assert_eq!(code, 200);
        let entries = page["entry"].as_array().cloned().unwrap_or_default();
        let is = |entry: &&Value, mode: &str| entry["search"]["mode"] == mode;
        assert!(entries.iter().filter(|entry| is(entry, "match")).count() <= 2);
        let patient = entries.iter().find(|entry| is(entry, "include")).expect("the patient");
        assert_eq!(patient["resource"]["resourceType"], "Patient");
        let id = patient["resource"]["id"].as_str().expect("an id");
        assert_eq!(entries[0]["resource"]["subject"]["reference"], format!("Patient/{id}"));
        all.extend(found(&page).into_iter().filter(|name| name.starts_with("SR")));
        let links = page["link"].as_array().expect("links");
        let link = links.iter().find(|link| link["relation"] == "next");
        next = link.and_then(|link| link["url"].as_str().map(String::from));
    }
    assert_eq!(all, ["SR-0", "SR-1", "SR-2", "SR-3", "SR-4", "SR-9"]);
    for bad in ["code=x", "_count=many", "authored=someday", "_sort=status", "_include=Patient:x"] {
        assert_eq!(world.get(&format!("/fhir/ServiceRequest?{bad}")).await.0, 400, "{bad}");
    }
    assert_eq!(world.get("/fhir/Observation?status=final").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clinic_pulls_the_referrals_to_it_and_nobody_elses() {
    let secret = cht_fhir_mediator::http::auth::hash_secret("secret").expect("a hash");
    let client = |id: &str, roles: &[&str], facilities: &[&str]| json!({"id": id, "secret": secret, "roles": roles, "facilities": facilities});
    let clients = json!([
        client("cht", &["push"], &[]),
        client("kenyaemr", &["fhir"], &["13939"]),
        client("other", &["fhir"], &["14000"]),
        client("none", &["fhir"], &[])
    ]);
    let options = cht_fhir_mediator::standins::cht::Options {
        outbound_auth: Some(("cht".into(), "secret".into())),
        ..Default::default()
    };
    let world = World::with(&[("CLIENTS", &clients.to_string())], options).await;
    world.know_patient();
    let report = json!({"_id": "e54a8e4f-c505-4ed9-a6f2-000000000001", "type": "data_record", "form": "referral",
        "content_type": "xml", "reported_date": 1_793_181_600_000_i64,
        "contact": {"_id": "f54a8e4f-c505-4ed9-a6f2-eb7bdad2fb9d", "type": "person", "role": "chw", "name": "Test Worker"},
        "patient": {"_id": PATIENT, "type": "person", "name": "Achieng Otieno", "patient_id": "83288"},
        "fields": {"patient_id": PATIENT, "inputs": {"contact": {"_id": PATIENT}},
            "referral": {"reason": "fever", "urgency": "urgent", "facility": "Kisumu", "facility_code": "13939"}}});
    push(&world, &report).await;
    let get = async |client: &str, path: &str| {
        let request = world.http.get(world.url(path)).basic_auth(client, Some("secret"));
        world.send(request).await
    };
    let query = "/fhir/ServiceRequest?status=active&performer:identifier=13939";
    for nobody in ["other", "none"] {
        let (code, bundle) = get(nobody, query).await;
        assert_eq!((code, found(&bundle).len()), (200, 0), "{nobody}");
    }
    let (code, bundle) = get("kenyaemr", query).await;
    assert_eq!((code, found(&bundle).len()), (200, 1), "{bundle}");
    let mut referral = bundle["entry"][0]["resource"].clone();
    assert_eq!(referral["meta"]["versionId"], "v1");
    assert_eq!(referral["subject"]["reference"], format!("Patient/{PATIENT}"));
    assert!(!referral.to_string().contains("urn:uuid:"), "{referral}");
    // On completion it posts a Bundle that puts it back, changed.
    referral["status"] = json!("completed");
    let id = referral["id"].as_str().expect("an id").to_string();
    assert_eq!(get("kenyaemr", &format!("/fhir/ServiceRequest/{id}")).await.0, 200);
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        {"resource": referral, "request": {"method": "PUT", "url": format!("ServiceRequest/{id}")}}]});
    let request = world.http.post(world.url("/fhir")).basic_auth("kenyaemr", Some("secret")).json(&bundle);
    let (code, answer) = world.send(request).await;
    assert_eq!(code, 200, "{answer}");
    world.settled().await;
    assert_eq!(records(&world, "REF_BACK").len(), 1);
    assert_eq!(get("kenyaemr", &format!("/fhir/ServiceRequest/{id}")).await.1["status"], "completed");
    assert!(found(&get("kenyaemr", query).await.1).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_are_told_in_order_and_until_they_have_heard() {
    let world = patient().await;
    world.know_patient();
    let subscription = |criteria: &str, path: &str| {
        json!({"resourceType": "Subscription", "status": "requested", "reason": "to know",
        "criteria": criteria, "channel": {"type": "rest-hook", "endpoint": format!("{}{path}", world.emr.url()),
        "payload": "application/fhir+json", "header": ["Authorization: Bearer s3cret"]}})
    };
    let (code, made) = world
        .post("/fhir/Subscription", &subscription("ServiceRequest?status=on-hold,completed", "/all"))
        .await;
    assert_eq!((code, made["status"].as_str()), (201, Some("active")), "{made}");
    assert!(!made.to_string().contains("s3cret"));
    assert_eq!(
        world.post("/fhir/Subscription", &subscription("Encounter?status=finished", "/visits")).await.0,
        201
    );
    let again = world
        .post("/fhir/Subscription", &subscription("ServiceRequest?status=on-hold,completed", "/all"))
        .await
        .1;
    assert_eq!(again["id"], made["id"], "the same again is the same");
    for bad in [
        subscription("Patient?name=x", "/x"),
        subscription("ServiceRequest?code=x", "/x"),
        json!({"resourceType": "Subscription", "status": "requested", "reason": "x", "criteria": "Task", "channel": {"type": "email", "endpoint": "mailto:x@example.org"}}),
    ] {
        let (code, body) = world.post("/fhir/Subscription", &bad).await;
        assert_eq!(code, 422, "{body}");
    }
    world.emr.faults().on("PUT", "/all").fail_next(2, 500);
    asked(&world, "SR-1").await;
    world.settled().await;
    push(&world, &visit(&world, "found")).await;
    let heard: Vec<(String, String)> = world
        .emr
        .received()
        .iter()
        .map(|r| (r.path.clone(), r.body["status"].as_str().unwrap_or_default().to_string()))
        .collect();
    let id = world.get("/fhir/ServiceRequest/SR-1").await.1["id"].clone();
    assert_eq!(
        heard
            .iter()
            .filter(|(path, _)| path.starts_with("/all/ServiceRequest/"))
            .map(|(_, s)| s.as_str())
            .collect::<Vec<_>>(),
        ["on-hold", "completed"],
        "{id}"
    );
    assert_eq!(heard.iter().filter(|(path, _)| path.starts_with("/visits/Encounter/")).count(), 1);
    assert!(world.emr.received().iter().all(|r| r.headers["authorization"] == "Bearer s3cret"));
    let place = format!("/fhir/Subscription/{}", made["id"].as_str().expect("an id"));
    assert_eq!(world.get(&place).await.0, 200);
    assert_eq!(world.get("/fhir/Subscription").await.1["total"], 2);
    assert_eq!(world.send(world.http.delete(world.url(&place))).await.0, 200);
    assert_eq!(world.get(&place).await.0, 404);
    let before = world.emr.received().len();
    asked(&world, "SR-2").await;
    assert_eq!(world.emr.received().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_indicators_are_counted_by_programme_place_and_period() {
    let world = patient().await;
    world.know_patient();
    for (n, program) in ["HIV", "HIV", "TB"].into_iter().enumerate() {
        let mut request = ltfu(&format!("SR-{n}"));
        request["category"] = json!([{"text": program}]);
        request["occurrenceDateTime"] = json!(format!("2026-10-0{}", n + 1));
        request["requester"] = json!({"identifier": {"system": "urn:mfl", "value": "13939"}});
        assert_eq!(world.post("/fhir/ServiceRequest", &request).await.0, 201);
    }
    world.settled().await;
    push(&world, &visit(&world, "moved")).await;
    let group = |report: &Value, n: usize| report["entry"][0]["resource"]["group"][n].clone();
    let count = |report: &Value, n: usize| group(report, n)["population"][0]["count"].as_u64();
    let today = jiff::Timestamp::now().to_string()[..10].to_string();
    let (code, report) = world.get(&format!("/fhir/MeasureReport?period=ge{today}")).await;
    assert_eq!(code, 200, "{report}");
    assert_eq!((count(&report, 0), count(&report, 1), count(&report, 2)), (Some(3), Some(3), Some(1)));
    let outcome = &group(&report, 2)["stratifier"][2]["stratum"][0];
    assert_eq!(
        (outcome["value"]["text"].as_str(), outcome["population"][0]["count"].as_u64()),
        (Some("moved"), Some(1))
    );
    let (_, hiv) = world.get("/fhir/MeasureReport?program=hiv&place=13939").await;
    assert_eq!(count(&hiv, 0), Some(2));
    let (_, before) = world.get(&format!("/fhir/MeasureReport?period=lt{today}")).await;
    assert_eq!(count(&before, 0), Some(0));
    assert_eq!(world.get("/fhir/MeasureReport?subject=x").await.0, 400);
}

/// Two clients with the role fhir.
async fn two_clients(further: &[(&str, &str)]) -> World {
    let hash = cht_fhir_mediator::http::auth::hash_secret("secret").expect("a hash");
    let client = |id: &str| json!({"id": id, "secret": hash, "roles": ["fhir", "push"]});
    let clients = json!([client("one"), client("two")]).to_string();
    let own = [("CLIENTS", clients.as_str())];
    let options = cht_fhir_mediator::standins::cht::Options {
        outbound_auth: Some(("one".into(), "secret".into())),
        ..Default::default()
    };
    let world = World::with(&[&own, further].concat(), options).await;
    world.know_patient();
    world
}

async fn post_as(world: &World, client: &str, path: &str, body: &Value) -> (u16, Value) {
    let request = world.http.post(world.url(path)).basic_auth(client, Some("secret"));
    world.send(request.timeout(std::time::Duration::from_secs(30)).json(body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_back_or_changes_another_clients_request() {
    let world = two_clients(&[]).await;
    let mut asked = ltfu("SR-1");
    asked["note"] = json!([{"text": "Her partner does not know"}]);
    assert_eq!(post_as(&world, "one", "/fhir/ServiceRequest", &asked).await.0, 201);
    for status in ["revoked", "draft", "active"] {
        let mut other = ltfu("SR-1");
        other["status"] = json!(status);
        let (code, answer) = post_as(&world, "two", "/fhir/ServiceRequest", &other).await;
        assert_eq!((code, &answer["issue"][0]["code"]), (422, &json!("conflict")), "{status}: {answer}");
        assert!(!answer.to_string().contains("partner"), "{answer}");
    }
    world.settled().await;
    assert_eq!((records(&world, "LTFU_REQUEST").len(), records(&world, "LTFU_CANCEL").len()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_told_holds_up_nobody_else_for_long_and_has_been_answered_for_what_was_done() {
    let further = [
        ("CALLBACKS__HOLDS_UP_MS", "300"),
        ("SERVER__ANSWER_WITHIN_MS", "1500"),
        ("CALLBACKS__ALLOW", r#"["127.0.0.1"]"#),
    ];
    let world = two_clients(&further).await;
    // Nobody listens there.
    let dead = format!("http://127.0.0.1:{}", crate::world::free_port());
    let subscription = json!({"resourceType": "Subscription", "status": "requested", "reason": "test",
        "criteria": "ServiceRequest?status=active,on-hold",
        "channel": {"type": "rest-hook", "endpoint": dead, "payload": "application/fhir+json"}});
    assert_eq!(post_as(&world, "one", "/fhir/Subscription", &subscription).await.0, 201);
    assert_eq!(
        post_as(&world, "one", "/fhir/ServiceRequest", &ltfu("SR-1")).await.0,
        202,
        "it is not told yet"
    );
    // About the same patient, by somebody else.
    let (code, answer) = post_as(&world, "two", "/fhir/ServiceRequest", &ltfu("SR-2")).await;
    assert!(matches!(code, 201 | 202), "{answer}");
    world.until("the other one's record", |world| records(world, "LTFU_REQUEST").len() == 2).await;
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let rows = world.transactions().await;
        let open: Vec<&str> =
            rows.iter().filter(|row| row.status == "open").map(|row| row.client.as_str()).collect();
        if open == ["one"] {
            break;
        }
        assert!(std::time::Instant::now() < until, "only who is not told is still tried: {open:?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    // One that refuses for good: what was asked for has been done.
    let redirecting = world.emr.url();
    world.emr.faults().fail_next(50, 410);
    let mut gone = subscription.clone();
    gone["channel"]["endpoint"] = json!(redirecting);
    assert_eq!(post_as(&world, "two", "/fhir/Subscription", &gone).await.0, 201);
    let mut other = ltfu("SR-3");
    other["reasonCode"] = json!([{"text": "Something else"}]);
    let (code, answer) = post_as(&world, "two", "/fhir/ServiceRequest", &other).await;
    assert_eq!((code, &answer["resourceType"]), (201, &json!("ServiceRequest")), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_minded_however_it_is_said_and_a_newer_one_is_asked_after_a_withdrawal() {
    let world = World::new().await;
    world.know_patient();
    assert_eq!(world.post("/fhir/ServiceRequest", &ltfu("SR-1")).await.0, 201);
    let mut changed = ltfu("SR-1");
    changed["note"] = json!([{"text": "new"}]);
    let url = world.url("/fhir/ServiceRequest?identifier=urn:emr:requests|SR-1");
    for seen in ["W/\"v9\"", "v9", "\"v9\""] {
        let put = world.http.put(&url).header("if-match", seen).json(&changed);
        assert_eq!(world.send(put).await.0, 412, "{seen}");
    }
    let entry = json!({"resource": changed, "request": {"method": "PUT", "ifMatch": "W/\"v9\"",
        "url": "ServiceRequest?identifier=urn:emr:requests|SR-1"}});
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [entry]});
    assert_eq!(world.post("/fhir", &bundle).await.0, 412);
    // Withdrawn before it comes; the one that comes is newer.
    let at = |status: &str, hour: u32| {
        let mut request = ltfu("SR-2");
        request["status"] = json!(status);
        request["meta"] = json!({"lastUpdated": format!("2026-11-26T{hour:02}:00:00Z")});
        request
    };
    assert_eq!(world.post("/fhir/ServiceRequest", &at("revoked", 8)).await.0, 201);
    world.settled().await;
    assert_eq!(records(&world, "LTFU_REQUEST").len(), 1, "nobody is asked");
    assert_eq!(world.post("/fhir/ServiceRequest", &at("active", 9)).await.0, 201);
    world.settled().await;
    assert_eq!(records(&world, "LTFU_REQUEST").len(), 2);
}
