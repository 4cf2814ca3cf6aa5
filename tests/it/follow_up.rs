//! An EMR asks for a patient who is lost; a CHW goes and tells.
use crate::world::{PATIENT, World, ltfu};
use serde_json::{Value, json};

/// The CHW does the task of the one request in CHT, and CHT pushes the report.
async fn visit(world: &World, form: &str, fields: Value) {
    let request = world.cht.reports()[0]["_id"].as_str().expect("an id").to_string();
    let report = world.cht.complete_follow_up(&request, form, fields).expect("a report");
    assert!(world.cht.push(&report).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn there_and_back() {
    let world = World::new().await;
    world.know_patient();
    let (status, body) = world.post("/fhir/ServiceRequest", &ltfu("SR-1")).await;
    assert_eq!(status, 201, "{body}");
    let reports = world.cht.reports();
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0]["errors"], json!([]));
    assert_eq!(reports[0]["fields"]["patient_uuid"], PATIENT);
    assert_eq!(reports[0]["fields"]["external_id"], "SR-1");
    assert_eq!(world.fhir.resources("ServiceRequest")[0]["status"], "on-hold", "claimed");
    visit(&world, "ltfu_follow_up", json!({"outcome": "found", "next_visit": "2026-12-01"})).await;
    world.settled().await;
    let request = &world.fhir.resources("ServiceRequest")[0];
    assert_eq!(request["status"], "completed");
    let encounter = &world.fhir.resources("Encounter")[0];
    assert_eq!(
        encounter["basedOn"][0]["reference"],
        format!("ServiceRequest/{}", request["id"].as_str().unwrap_or_default())
    );
    assert_eq!(world.fhir.resources("Patient").len(), 1);
    let outcome =
        world.fhir.resources("Observation").into_iter().find(|o| o["code"]["coding"][0]["code"] == "outcome");
    assert_eq!(outcome.expect("the outcome")["valueString"], "found");
}

#[tokio::test(flavor = "multi_thread")]
async fn by_task_and_by_short_code() {
    let world = World::new().await;
    world.know_patient();
    let task = json!({"resourceType": "Task", "status": "requested", "intent": "order",
        "identifier": [{"system": "urn:emr:tasks", "value": "T-1"}],
        "for": {"identifier": {"system": "urn:cht:shortcode", "value": "83288"}}, "description": "Missed two visits"});
    let (status, body) = world.post("/fhir/Task", &task).await;
    assert_eq!(status, 201, "{body}");
    assert_eq!(world.cht.reports()[0]["fields"]["patient_uuid"], PATIENT);
    assert_eq!(world.cht.reports()[0]["fields"]["note"], "Missed two visits");
    visit(&world, "ltfu_follow_up", json!({"outcome": "moved"})).await;
    world.settled().await;
    let task = &world.fhir.resources("Task")[0];
    assert_eq!(
        (task["status"].as_str(), task["output"][0]["valueString"].as_str()),
        (Some("completed"), Some("moved"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_bundle_with_its_patient() {
    let world = World::new().await;
    world.know_patient();
    let mut request = ltfu("SR-2");
    request["subject"] = json!({"reference": "urn:uuid:6f1bdb6c-6fb6-4b8e-8f2c-0a8f2a5a2f01"});
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        {"fullUrl": "urn:uuid:6f1bdb6c-6fb6-4b8e-8f2c-0a8f2a5a2f01", "request": {"method": "POST", "url": "Patient"},
            "resource": {"resourceType": "Patient", "name": [{"text": "A. Otieno"}],
                "identifier": [{"system": "urn:emr:mrn", "value": "M-1"}, {"system": "cht", "value": PATIENT}]}},
        {"fullUrl": "urn:uuid:6f1bdb6c-6fb6-4b8e-8f2c-0a8f2a5a2f02", "request": {"method": "POST", "url": "ServiceRequest"}, "resource": request}]});
    let (status, body) = world.post("/fhir", &bundle).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["type"], "transaction-response");
    assert_eq!(body["entry"].as_array().map(Vec::len), Some(2));
    assert_eq!(world.cht.reports().len(), 1);
    // The clinic's own number now names the same person.
    let mut later = ltfu("SR-3");
    later["subject"] = json!({"identifier": {"system": "urn:emr:mrn", "value": "M-1"}});
    assert_eq!(world.post("/fhir/ServiceRequest", &later).await.0, 201);
    assert_eq!(world.cht.reports()[1]["fields"]["patient_uuid"], PATIENT);
    assert_eq!(world.fhir.resources("Patient").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_patient_is_refused_and_nothing_is_half_done() {
    let world = World::new().await;
    let by_uuid = ltfu("SR-4");
    let mut in_bundle = ltfu("SR-5");
    in_bundle["subject"] = json!({"reference": "urn:uuid:6f1bdb6c-6fb6-4b8e-8f2c-0a8f2a5a2f01"});
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        {"fullUrl": "urn:uuid:6f1bdb6c-6fb6-4b8e-8f2c-0a8f2a5a2f01", "request": {"method": "POST", "url": "Patient"},
            "resource": {"resourceType": "Patient", "identifier": [{"system": "cht", "value": PATIENT}]}},
        {"request": {"method": "POST", "url": "ServiceRequest"}, "resource": in_bundle}]});
    let mut by_mrn = ltfu("SR-6");
    by_mrn["subject"] = json!({"identifier": {"system": "urn:emr:mrn", "value": "nobody"}});
    let mut by_id = ltfu("SR-7");
    by_id["subject"] = json!({"reference": "Patient/17"});
    for (path, body, expression) in [
        ("/fhir/ServiceRequest", by_uuid, "ServiceRequest.subject"),
        ("/fhir", bundle, "Bundle.entry[1].resource.subject"),
        ("/fhir/ServiceRequest", by_mrn, "ServiceRequest.subject"),
        ("/fhir/ServiceRequest", by_id, "ServiceRequest.subject"),
    ] {
        let (status, answer) = world.post(path, &body).await;
        assert_eq!(status, 422, "{answer}");
        assert_eq!(answer["issue"][0]["expression"][0], expression, "{answer}");
    }
    assert!(world.settled().await.iter().all(|row| row.status == "failed"));
    assert!(world.cht.reports().is_empty() && world.fhir.ledger().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_again_makes_no_second_task() {
    let world = World::new().await;
    world.know_patient();
    for _ in 0..2 {
        assert_eq!(world.post("/fhir/ServiceRequest", &ltfu("SR-1")).await.0, 201);
    }
    let mut changed = ltfu("SR-1");
    changed["priority"] = json!("routine");
    assert_eq!(world.post("/fhir/ServiceRequest", &changed).await.0, 201);
    assert_eq!(world.cht.reports().len(), 1);
    assert_eq!(world.fhir.resources("ServiceRequest").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answered_request_in_another_wrapping_is_not_asked_again() {
    let world = World::new().await;
    world.know_patient();
    world.post("/fhir/ServiceRequest", &ltfu("SR-1")).await;
    visit(&world, "ltfu_follow_up", json!({"outcome": "found"})).await;
    world.settled().await;
    let mut with_id = ltfu("SR-1");
    with_id["id"] = json!("SR-1");
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        {"resource": ltfu("SR-1"), "request": {"method": "POST", "url": "ServiceRequest"}}]});
    assert_eq!(world.post("/fhir", &bundle).await.0, 200);
    assert_eq!(world.put("/fhir/ServiceRequest/SR-1", &with_id).await.0, 200);
    world.settled().await;
    assert_eq!(world.cht.reports().iter().filter(|r| r["form"] == "LTFU_REQUEST").count(), 1);
    assert_eq!(world.fhir.resources("ServiceRequest")[0]["status"], "completed");
    assert_eq!(world.get("/fhir/ServiceRequest/SR-1").await.1["status"], "completed");
    // What says something new is asked anew.
    let mut anew = ltfu("SR-1");
    anew["occurrenceDateTime"] = json!("2026-12-24");
    world.post("/fhir/ServiceRequest", &anew).await;
    world.settled().await;
    assert_eq!(world.cht.reports().iter().filter(|r| r["form"] == "LTFU_REQUEST").count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_existing_mediators_callers_are_served_as_they_were() {
    let world = World::new().await;
    world.know_patient();
    let emr = world.emr.url();
    let endpoint = json!({"resourceType": "Endpoint", "identifier": [{"system": "cht", "value": "clinic-endpoint"}], "address": emr,
        "connectionType": {"system": "http://terminology.hl7.org/CodeSystem/endpoint-connection-type", "code": "hl7-fhir-rest"},
        "payloadType": [{"text": "x"}], "status": "active"});
    let organization = json!({"resourceType": "Organization", "identifier": [{"system": "cht", "value": "clinic-1"}], "name": ["Clinic"],
        "endpoint": [{"reference": "Endpoint/clinic-endpoint"}]});
    assert_eq!(world.post("/endpoint", &endpoint).await.0, 200);
    assert_eq!(world.post("/organization", &organization).await.0, 200);
    let request = json!({"intent": "order", "status": "active", "subject": {"reference": format!("Patient/{PATIENT}")},
        "requester": {"reference": "Organization/clinic-1"}});
    let (status, body) = world.post("/service-request", &request).await;
    assert_eq!((status, body["resourceType"].as_str()), (201, Some("Subscription")), "{body}");
    assert_eq!(world.cht.reports()[0]["form"], "INTEROP_FOLLOW_UP");
    // The CHW's report comes back as CHT's outbound builds it, without naming the request.
    let report = json!({"doc": {"_id": "r1", "type": "data_record", "form": "interop_follow_up", "content_type": "xml",
        "reported_date": 1793606400000_i64, "fields": {"inputs": {"source": "contact", "source_id": "", "contact": {"_id": PATIENT}},
        "vaccination_details": {"interop_follow_up": "yes"}}}});
    // Behind CHT's own push of the record it would be 202.
    world.settled().await;
    assert_eq!(world.post("/cht/push", &report).await.0, 200);
    world.settled().await;
    let told = world.emr.received();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].method, "PUT");
    let id = told[0].body["id"].as_str().expect("an id");
    assert_eq!(told[0].path, format!("/Encounter/{id}"));
    assert!(world.fhir.get("Encounter", id).is_some(), "the id is the FHIR server's");
    assert_eq!(world.fhir.resources("ServiceRequest")[0]["status"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_address_inside_is_refused() {
    let world = World::with(&[("CALLBACKS__ALLOW_PRIVATE", "false")], Default::default()).await;
    world.know_patient();
    let endpoint = json!({"resourceType": "Endpoint", "identifier": [{"system": "x", "value": "e"}], "address": "http://169.254.169.254/latest"});
    let organization = json!({"resourceType": "Organization", "identifier": [{"system": "x", "value": "o"}], "endpoint": [{"reference": "Endpoint/e"}]});
    world.post("/endpoint", &endpoint).await;
    world.post("/organization", &organization).await;
    let request = json!({"intent": "order", "status": "active", "subject": {"reference": format!("Patient/{PATIENT}")}, "requester": {"reference": "Organization/o"}});
    let (status, body) = world.post("/service-request", &request).await;
    assert_eq!(
        (status, body["issue"][0]["expression"][0].as_str()),
        (422, Some("Endpoint.address")),
        "{body}"
    );
    assert!(world.cht.reports().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn cht_pushes_our_own_record_back_before_it_answers_and_nothing_waits() {
    let options = cht_fhir_mediator::standins::cht::Options { push_twice: true, ..Default::default() };
    let world = World::with(&[], options).await;
    world.know_patient();
    let started = std::time::Instant::now();
    assert_eq!(world.post("/fhir/ServiceRequest", &ltfu("SR-1")).await.0, 201);
    assert!(started.elapsed().as_secs() < 3, "{:?}", started.elapsed());
    assert!(world.cht.failed_pushes().is_empty());
    let rows = world.settled().await;
    assert_eq!(rows.iter().filter(|row| row.status == "ignored").count(), 1, "{}", json!(rows));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_to_be_traced_becomes_a_report_of_its_own_kind() {
    let world = World::new().await;
    world.know_patient();
    let mut request = ltfu("CT-1");
    request["code"] = json!({"text": "Contact tracing"});
    request["contained"] = json!([{"resourceType": "RelatedPerson", "id": "c", "patient": request["subject"],
        "name": [{"text": "Otieno Ouma"}], "telecom": [{"system": "phone", "value": "+254712000222"}]}]);
    request["reasonReference"] = json!([{"reference": "#c"}]);
    let (status, answer) = world.post("/fhir/ServiceRequest", &request).await;
    assert_eq!(status, 400, "a RelatedPerson is no reason: {answer}");
    request["reasonReference"] = Value::Null;
    request.as_object_mut().expect("an object").remove("reasonReference");
    request["performer"] = json!([{"reference": "#c"}]);
    let (status, answer) = world.post("/fhir/ServiceRequest", &request).await;
    assert_eq!(status, 201, "{answer}");
    world.settled().await;
    let reports = world.cht.reports();
    let report = reports.iter().find(|report| report["form"] == "CONTACT_TRACING").expect("a report");
    assert_eq!(report["fields"]["contact_name"], "Otieno Ouma");
    assert_eq!(report["fields"]["contact_phone"], "+254712000222");
}

fn task_of(request: &str, identifier: &str) -> Value {
    json!({"resourceType": "Task", "status": "requested", "intent": "order", "focus": {"reference": request},
        "identifier": [{"system": "urn:emr:tasks", "value": identifier}],
        "for": {"identifier": {"system": "urn:cht:uuid", "value": PATIENT}}})
}

fn asked(world: &World) -> usize {
    world.cht.reports().iter().filter(|report| report["form"] == "LTFU_REQUEST").count()
}

fn state(world: &World, kind: &str) -> Value {
    world.fhir.resources(kind)[0]["status"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_its_task_is_one_and_both_are_completed() {
    // In a Bundle, one after the other, and the other way round.
    for way in 0..4 {
        let world = World::new().await;
        world.know_patient();
        let mut request = ltfu("SR-1");
        request["id"] = json!("7");
        let task = task_of("ServiceRequest/7", "T-1");
        let by_identifier = {
            let mut task = task.clone();
            task["focus"] = json!({"type": "ServiceRequest", "identifier": request["identifier"][0]});
            task
        };
        match way {
            0 => {
                let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
                    {"fullUrl": "https://emr.example.org/fhir/Task/3", "resource": task, "request": {"method": "POST", "url": "Task"}},
                    {"fullUrl": "https://emr.example.org/fhir/ServiceRequest/7", "resource": request, "request": {"method": "POST", "url": "ServiceRequest"}}]});
                let (status, answer) = world.post("/fhir", &bundle).await;
                assert_eq!(status, 200, "{answer}");
            }
            1 => {
                assert_eq!(world.put("/fhir/ServiceRequest/7", &request).await.0, 200);
                assert_eq!(world.post("/fhir/Task", &by_identifier).await.0, 201);
            }
            2 => {
                assert_eq!(world.post("/fhir/Task", &by_identifier).await.0, 201);
                assert_eq!(world.put("/fhir/ServiceRequest/7", &request).await.0, 200);
            }
            _ => {
                // By the id that we answered with.
                request.as_object_mut().expect("an object").remove("id");
                let (_, answer) = world.post("/fhir/ServiceRequest", &request).await;
                world.settled().await;
                let id = format!("ServiceRequest/{}", answer["id"].as_str().expect("an id"));
                assert_eq!(world.post("/fhir/Task", &task_of(&id, "T-1")).await.0, 201);
            }
        }
        world.settled().await;
        assert_eq!(asked(&world), 1, "way {way}");
        visit(&world, "ltfu_follow_up", json!({"outcome": "found"})).await;
        world.settled().await;
        assert_eq!(
            (state(&world, "ServiceRequest"), state(&world, "Task")),
            (json!("completed"), json!("completed")),
            "way {way}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_from_before_a_request_does_not_answer_it() {
    let world = World::new().await;
    world.know_patient();
    let mut report = json!({"doc": {"_id": "r1", "type": "data_record", "form": "ltfu_follow_up", "content_type": "xml",
        "reported_date": 1793606400000_i64, "patient": {"_id": PATIENT, "name": "Achieng Otieno", "type": "person"},
        "fields": {"patient_uuid": PATIENT, "outcome": "found"}}});
    world.post("/cht/push", &report).await;
    world.settled().await;
    world.post("/fhir/ServiceRequest", &ltfu("SR-1")).await;
    world.settled().await;
    // A supervisor verifies it afterwards: it is pushed again.
    report["doc"]["verified"] = json!(true);
    world.post("/cht/push", &report).await;
    world.settled().await;
    assert_eq!(state(&world, "ServiceRequest"), "on-hold");
    let mut new = report.clone();
    new["doc"]["_id"] = json!("r2");
    world.post("/cht/push", &new).await;
    world.settled().await;
    assert_eq!(state(&world, "ServiceRequest"), "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_words_without_a_name_are_one_request_while_it_is_open() {
    let world = World::new().await;
    world.know_patient();
    let mut request = ltfu("x");
    request.as_object_mut().expect("an object").remove("identifier");
    for _ in 0..2 {
        assert_eq!(world.post("/fhir/ServiceRequest", &request).await.0, 201);
    }
    // In another wrapping it has another key, and is the same all the same.
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        {"resource": request, "request": {"method": "POST", "url": "ServiceRequest"}}]});
    assert_eq!(world.post("/fhir", &bundle).await.0, 200);
    world.settled().await;
    assert_eq!((asked(&world), world.fhir.resources("ServiceRequest").len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_attempt_leaves_the_request_open() {
    let world = World::new().await;
    world.know_patient();
    assert_eq!(world.post("/fhir/ServiceRequest", &ltfu("SR-1")).await.0, 201);
    let again = json!({"outcome": "not_found", "next_attempt_date": "2026-12-01"});
    visit(&world, "ltfu_follow_up", again).await;
    world.settled().await;
    assert_eq!(world.fhir.resources("ServiceRequest")[0]["status"], "on-hold");
    visit(&world, "ltfu_follow_up", json!({"outcome": "found"})).await;
    world.settled().await;
    assert_eq!(world.fhir.resources("ServiceRequest")[0]["status"], "completed");
    let said: Vec<Value> = world
        .fhir
        .resources("Observation")
        .into_iter()
        .filter(|o| {
            o["code"]["coding"][0]["system"].as_str().is_some_and(|s| s.ends_with("/follow-up-question"))
        })
        .map(|o| o["valueCodeableConcept"]["coding"][0]["code"].clone())
        .filter(|code| !code.is_null())
        .collect();
    assert!(
        said.len() == 2 && said.contains(&json!("not_found")) && said.contains(&json!("found")),
        "{said:?}"
    );
}
