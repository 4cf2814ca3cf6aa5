//! No two people are mistaken for one, whatever a message calls them.
use crate::world::{PATIENT, World, fixture, ltfu};
use serde_json::{Value, json};

fn patient(system: &str, value: &str) -> Value {
    json!({"resourceType": "Patient", "identifier": [{"system": system, "value": value}], "gender": "female"})
}

/// Somebody else whom CHT knows.
const OTHER: &str = "0b9de9b5-9a4b-4c6c-8bb9-5bd0cb2d1a11";

fn know_other(world: &World) {
    world
        .cht
        .add_person(json!({"_id": OTHER, "type": "person", "name": "Test Other", "patient_id": "99321"}));
}

fn weight(subject: Value) -> Value {
    json!({"resourceType": "Observation", "identifier": [{"system": "urn:emr:obs", "value": "o"}], "status": "final",
        "code": {"text": "Weight"}, "subject": subject, "valueQuantity": {"value": 60}})
}

fn subject(world: &World) -> Value {
    world.fhir.resources("Observation")[0]["subject"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_own_id_is_not_the_servers() {
    let world = World::new().await;
    // A stranger whom the server calls so.
    let stranger = world.fhir.add(patient("urn:else", "1"));
    let id = format!("Patient/{}", stranger["id"].as_str().expect("an id"));
    let (status, answer) = world.post("/fhir/Observation", &weight(json!({"reference": id}))).await;
    assert_eq!(status, 201, "{answer}");
    let subject = subject(&world);
    assert!(subject.get("reference").is_none(), "{subject}");
    assert_eq!(subject["identifier"]["value"], json!(id));
    assert!(subject["identifier"]["system"].as_str().is_some_and(|s| s.contains("anonymous")), "{subject}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_id_that_we_answered_with_may_be_used() {
    let world = World::new().await;
    let (status, answer) = world.post("/fhir/Patient", &patient("urn:emr:mrn", "7")).await;
    assert_eq!(status, 201);
    let id = answer["id"].as_str().expect("an id");
    world.settled().await;
    let about = json!({"reference": format!("Patient/{id}")});
    assert_eq!(world.post("/fhir/Observation", &weight(about)).await.0, 201);
    assert_eq!(
        subject(&world)["reference"],
        format!("Patient/{}", world.fhir.resources("Patient")[0]["id"].as_str().unwrap_or_default())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_own_id_is_remembered_where_it_vouches_for_it() {
    let world = World::new().await;
    world.fhir.add(patient("urn:else", "1"));
    let mut own = patient("urn:emr:mrn", "7");
    own["id"] = json!("17");
    assert_eq!(world.put("/fhir/Patient/17", &own).await.0, 200);
    world.settled().await;
    assert_eq!(world.post("/fhir/Observation", &weight(json!({"reference": "Patient/17"}))).await.0, 201);
    let known = world.fhir.resources("Patient").into_iter().find(|p| p["identifier"][0]["value"] == "7");
    let id = known.expect("the patient")["id"].as_str().expect("an id").to_string();
    assert_eq!(subject(&world)["reference"], format!("Patient/{id}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_of_a_bundle_refer_to_each_other_as_servers_write_them() {
    let world = World::new().await;
    world.fhir.add(patient("urn:else", "1"));
    let mut own = patient("urn:emr:mrn", "7");
    own["id"] = json!("1");
    for (full_url, reference) in [
        ("https://emr.example.org/fhir/Patient/1", "Patient/1"),
        ("https://emr.example.org/fhir/Patient/1", "https://emr.example.org/fhir/Patient/1"),
        ("urn:uuid:6f1bdb6c-6fb6-4b8e-8f2c-0a8f2a5a2f01", "urn:uuid:6f1bdb6c-6fb6-4b8e-8f2c-0a8f2a5a2f01"),
    ] {
        let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
            {"fullUrl": full_url, "resource": own, "request": {"method": "POST", "url": "Patient"}},
            {"resource": weight(json!({"reference": reference})), "request": {"method": "POST", "url": "Observation"}}]});
        let (status, answer) = world.post("/fhir", &bundle).await;
        assert_eq!(status, 200, "{answer}");
        world.settled().await;
        let known = world.fhir.resources("Patient").into_iter().find(|p| p["identifier"][0]["value"] == "7");
        let id = known.expect("the patient")["id"].as_str().expect("an id").to_string();
        assert_eq!(subject(&world)["reference"], format!("Patient/{id}"), "{reference}");
        // Each entry is answered for itself.
        let locations: Vec<&str> =
            [0, 1].iter().filter_map(|i| answer["entry"][i]["response"]["location"].as_str()).collect();
        assert_eq!(locations[0], format!("Patient/{id}"), "{answer}");
        assert!(locations[1].starts_with("Observation/"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_patient_of_a_bundle_is_looked_at() {
    let world = World::new().await;
    world.post("/fhir/Patient", &patient("urn:a", "1")).await;
    world.post("/fhir/Patient", &patient("urn:b", "2")).await;
    world.settled().await;
    let mut both = patient("urn:a", "1");
    both["identifier"] = json!([{"system": "urn:a", "value": "1"}, {"system": "urn:b", "value": "2"}]);
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        {"resource": patient("urn:c", "3"), "request": {"method": "POST", "url": "Patient"}},
        {"resource": both, "request": {"method": "POST", "url": "Patient"}}]});
    let (status, answer) = world.post("/fhir", &bundle).await;
    assert_eq!(status, 422, "{answer}");
    assert_eq!(world.fhir.resources("Patient").len(), 2, "nothing of it is done");
}

#[tokio::test(flavor = "multi_thread")]
async fn short_codes_find_the_patient_who_came_from_elsewhere() {
    let world = World::new().await;
    let body = fixture("docs-patient-ids-01")["body"].clone();
    let external = body["doc"]["external_id"].clone();
    let (status, answer) = world.post("/cht/patient_ids", &body).await;
    assert_eq!((status, answer["status"].as_str()), (200, Some("failed")), "nobody has come yet: {answer}");
    // On the server only: another system put it there.
    world.fhir.add(patient("urn:emr:mrn", external.as_str().expect("a value")));
    let (_, answer) = world.post("/cht/patient_ids", &body).await;
    assert_eq!(answer["status"], "delivered", "{answer}");
    let patients = world.fhir.resources("Patient");
    assert_eq!(patients.len(), 1);
    let values: Vec<&str> = patients[0]["identifier"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|i| i["system"].as_str())
        .collect();
    assert!(values.contains(&"urn:emr:mrn") && values.contains(&"urn:cht:shortcode"), "{values:?}");
    // Two who have it are nobody.
    let mut second = fixture("docs-patient-ids-02")["body"].clone();
    second["doc"]["external_id"] = json!("X-1");
    world.fhir.add(patient("urn:a", "X-1"));
    world.fhir.add(patient("urn:b", "X-1"));
    let (_, answer) = world.post("/cht/patient_ids", &second).await;
    assert_eq!(answer["status"], "failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conditional_create_changes_nothing_that_is_there() {
    let world = World::new().await;
    let mut first = patient("urn:emr:mrn", "7");
    assert_eq!(world.post("/fhir/Patient", &first).await.0, 201);
    first["gender"] = json!("male");
    let request = world.http.post(world.url("/fhir/Patient")).json(&first);
    let request = request.header("If-None-Exist", "identifier=urn:emr:mrn|7");
    let (status, answer) = world.send(request).await;
    assert_eq!((status, answer["resourceType"].as_str()), (200, Some("OperationOutcome")), "{answer}");
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [{"resource": first,
        "request": {"method": "POST", "url": "Patient", "ifNoneExist": "identifier=urn:emr:mrn|7"}}]});
    assert_eq!(world.post("/fhir", &bundle).await.0, 200);
    world.settled().await;
    let patients = world.fhir.resources("Patient");
    assert_eq!((patients.len(), &patients[0]["gender"]), (1, &json!("female")));
    assert!(patients[0]["meta"].get("tag").is_none());
    // The address of an update says which one is meant.
    let unnamed = json!({"resourceType": "Patient", "gender": "other"});
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [{"resource": unnamed,
        "request": {"method": "PUT", "url": "Patient?identifier=urn:emr:mrn|7"}}]});
    assert_eq!(world.post("/fhir", &bundle).await.0, 200);
    world.settled().await;
    let patients = world.fhir.resources("Patient");
    assert_eq!((patients.len(), &patients[0]["gender"]), (1, &json!("other")));
    let (status, answer) = world.post("/fhir/Bundle", &bundle).await;
    assert_eq!(status, 404, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patient_who_was_deleted_on_the_server_is_made_anew() {
    let world = World::new().await;
    let push = fixture("full-person-10")["body"].clone();
    world.post("/cht/push", &push).await;
    world.settled().await;
    let id = world.fhir.resources("Patient")[0]["id"].as_str().expect("an id").to_string();
    world.fhir.remove("Patient", &id);
    let mut later = push.clone();
    later["doc"]["phone"] = json!("+254712000199");
    let (_, answer) = world.post("/cht/push", &later).await;
    assert_eq!(answer["status"], "delivered", "{answer}");
    assert_eq!(world.fhir.resources("Patient").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_clinic_wrote_of_a_patient_stays() {
    let world = World::new().await;
    let mut push = fixture("full-person-10")["body"].clone();
    push["doc"]["date_of_death"] = json!("2026-11-02");
    world.post("/cht/push", &push).await;
    world.settled().await;
    let id = world.fhir.resources("Patient")[0]["id"].as_str().expect("an id").to_string();
    world.fhir.update("Patient", &id, |patient| {
        let telecom = patient["telecom"].as_array_mut().expect("phones");
        telecom.push(json!({"system": "phone", "value": "+254799999999"}));
        patient["name"].as_array_mut().expect("names").push(json!({"use": "maiden", "text": "Achieng Were"}));
    });
    // An EMR that names her only.
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        {"resource": patient("urn:cht:uuid", push["doc"]["_id"].as_str().expect("an id")), "request": {"method": "POST", "url": "Patient"}}]});
    assert_eq!(world.post("/fhir", &bundle).await.0, 200);
    push["doc"]["phone"] = json!("+254712000199");
    world.post("/cht/push", &push).await;
    world.settled().await;
    let patient = world.fhir.resources("Patient").remove(0);
    assert_eq!(patient["deceasedDateTime"], "2026-11-02", "{patient}");
    let phones: Vec<&str> =
        patient["telecom"].as_array().into_iter().flatten().filter_map(|t| t["value"].as_str()).collect();
    assert!(phones.contains(&"+254712000199") && phones.contains(&"+254799999999"), "{phones:?}");
    assert!(!phones.contains(&"+254712000101"), "CHT's old one goes: {phones:?}");
    assert_eq!(patient["name"].as_array().map(Vec::len), Some(3), "{patient}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_keeps_the_requester_it_came_with() {
    let world = World::new().await;
    world.know_patient();
    let mut request = ltfu("SR-1");
    request["identifier"][0]["system"] = json!("https://emr.example.org/requests");
    request["requester"] = json!({"reference": "Organization/5"});
    assert_eq!(world.post("/fhir/ServiceRequest", &request).await.0, 201);
    world.settled().await;
    let before = world.fhir.resources("ServiceRequest")[0]["requester"].clone();
    let asked = world.cht.reports()[0]["_id"].as_str().expect("an id").to_string();
    let report = world
        .cht
        .complete_follow_up(&asked, "ltfu_follow_up", json!({"outcome": "found"}))
        .expect("a report");
    assert!(world.cht.push(&report).await);
    world.settled().await;
    let after = &world.fhir.resources("ServiceRequest")[0];
    assert_eq!((after["status"].as_str(), &after["requester"]), (Some("completed"), &before));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_one_name_keeps_it_when_it_is_written_again() {
    let world = World::new().await;
    let resources = [
        json!({"resourceType": "Location", "identifier": [{"system": "s", "value": "l"}], "name": "One", "address": {"city": "Kisumu"}}),
        json!({"resourceType": "Organization", "identifier": [{"system": "s", "value": "o"}], "name": "One"}),
        json!({"resourceType": "Endpoint", "identifier": [{"system": "s", "value": "e"}], "status": "active", "name": "One",
            "connectionType": {"code": "hl7-fhir-rest"}, "payloadType": [{"text": "x"}], "address": "https://emr.example.org/a"}),
    ];
    for mut resource in resources {
        let kind = resource["resourceType"].as_str().expect("a type").to_string();
        assert_eq!(world.post(&format!("/fhir/{kind}"), &resource).await.0, 201);
        resource["name"] = json!("Two");
        assert_eq!(world.post(&format!("/fhir/{kind}"), &resource).await.0, 201);
        world.settled().await;
        let stored = world.fhir.resources(&kind).remove(0);
        assert_eq!((&stored["name"], &stored["address"]), (&json!("Two"), &resource["address"]), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bundles_without_requests_are_taken_and_nothing_is_added_to_them() {
    let world = World::new().await;
    world.know_patient();
    for kind in ["collection", "message"] {
        let bundle = json!({"resourceType": "Bundle", "type": kind, "entry": [{"resource": ltfu(kind)}]});
        let (status, answer) = world.post("/fhir", &bundle).await;
        assert_eq!(status, 200, "{answer}");
    }
    world.settled().await;
    assert_eq!(world.cht.reports().len(), 2);
    let empty = json!({"resourceType": "Bundle", "type": "transaction", "entry": [{"resource": ltfu("x")}]});
    let (_, answer) = world.post("/fhir", &empty).await;
    assert!(!answer.to_string().contains("null"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_may_refer_to_what_came_with_it() {
    let world = World::new().await;
    world.know_patient();
    let name = "urn:uuid:6f1bdb6c-6fb6-4b8e-8f2c-0a8f2a5a2f07";
    let mut request = ltfu("SR-1");
    request["supportingInfo"] = json!([{"reference": name}]);
    let about = json!({"identifier": {"system": "urn:cht:uuid", "value": crate::world::PATIENT}});
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        {"fullUrl": name, "resource": weight(about), "request": {"method": "POST", "url": "Observation"}},
        {"resource": request, "request": {"method": "POST", "url": "ServiceRequest"}}]});
    let (status, answer) = world.post("/fhir", &bundle).await;
    assert_eq!(status, 200, "{answer}");
    world.settled().await;
    let id = world.fhir.resources("Observation")[0]["id"].as_str().expect("an id").to_string();
    let expected = json!([{"reference": format!("Observation/{id}")}]);
    assert_eq!(world.fhir.resources("ServiceRequest")[0]["supportingInfo"], expected);
    // And it keeps it when it is completed.
    let asked = world.cht.reports()[0]["_id"].as_str().expect("an id").to_string();
    let report = world
        .cht
        .complete_follow_up(&asked, "ltfu_follow_up", json!({"outcome": "found"}))
        .expect("a report");
    assert!(world.cht.push(&report).await);
    let rows = world.settled().await;
    assert!(rows.iter().all(|row| row.status != "failed"), "{}", json!(rows));
    let request = &world.fhir.resources("ServiceRequest")[0];
    assert_eq!((&request["status"], &request["supportingInfo"]), (&json!("completed"), &expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_calls_two_people_one_links_nobody() {
    let world = World::new().await;
    world.know_patient();
    know_other(&world);
    let uuid = |value: &str| json!({"system": "urn:cht:uuid", "value": value});
    let code = json!({"system": "urn:cht:shortcode", "value": "99321"});
    for both in [json!([uuid(PATIENT), uuid(OTHER)]), json!([uuid(PATIENT), code])] {
        let mut request = ltfu("SR-1");
        request["contained"] = json!([{"resourceType": "Patient", "id": "p", "identifier": both}]);
        request["subject"] = json!({"reference": "#p"});
        let (status, answer) = world.post("/fhir/ServiceRequest", &request).await;
        assert_eq!((status, &answer["issue"][0]["code"]), (422, &json!("conflict")), "{answer}");
        assert_eq!(answer["issue"][0]["expression"][0], "ServiceRequest.subject");
    }
    assert!(world.cht.reports().is_empty());
    // Each of them is still somebody.
    for (i, one) in [PATIENT, OTHER].into_iter().enumerate() {
        let mut request = ltfu(&format!("SR-{i}"));
        request["subject"] = json!({"identifier": uuid(one)});
        let (status, answer) = world.post("/fhir/ServiceRequest", &request).await;
        assert_eq!(status, 201, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_patients_of_one_bundle_with_two_uuids_are_two() {
    let world = World::new().await;
    let patient = |uuid: &str| {
        json!({"resource": {"resourceType": "Patient", "identifier": [{"system": "urn:cht:uuid", "value": uuid},
            {"system": "urn:household", "value": "7"}]}, "request": {"method": "POST", "url": "Patient"}})
    };
    let bundle = json!({"resourceType": "Bundle", "type": "transaction",
        "entry": [patient(PATIENT), patient(OTHER)]});
    let (status, answer) = world.post("/fhir", &bundle).await;
    assert_eq!((status, &answer["issue"][0]["code"]), (422, &json!("conflict")), "{answer}");
    assert_eq!(answer["issue"][0]["expression"][0], "Bundle.entry[1].resource.identifier");
    assert!(world.fhir.resources("Patient").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_with_a_comma_is_one_value() {
    let world = World::new().await;
    assert_eq!(world.post("/fhir/Patient", &patient("http://c", "7")).await.0, 201);
    for (system, value) in [("http://x", "9,http://c|7"), ("http://e|1", "2"), ("http://e", "1|2")] {
        assert_eq!(world.post("/fhir/Patient", &patient(system, value)).await.0, 201);
    }
    world.settled().await;
    let all = world.fhir.resources("Patient");
    assert!(
        all.len() == 4 && all.iter().all(|p| p["identifier"].as_array().is_some_and(|i| i.len() == 1)),
        "{}",
        json!(all)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_speaks_in_the_mediators_names() {
    let world = World::new().await;
    let stranger = world.fhir.add(patient("urn:else", "1"));
    let mut claim = patient("urn:emr:mrn", "7");
    claim["identifier"]
        .as_array_mut()
        .expect("a list")
        .push(json!({"system": "urn:cht-fhir-mediator:at:fhir:Patient", "value": stranger["id"]}));
    let (status, answer) = world.post("/fhir/Patient", &claim).await;
    assert_eq!(status, 400);
    assert!(
        answer["issue"][0]["expression"][0]
            .as_str()
            .is_some_and(|p| p.starts_with("Patient.identifier[1].system")),
        "{answer}"
    );
    assert_eq!(world.fhir.resources("Patient").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_and_its_request_are_about_one_patient() {
    let world = World::new().await;
    world.know_patient();
    know_other(&world);
    let name = "urn:uuid:6f1bdb6c-6fb6-4b8e-8f2c-0a8f2a5a2f07";
    let task = json!({"resourceType": "Task", "status": "requested", "intent": "order",
        "identifier": [{"system": "urn:emr:tasks", "value": "T-1"}], "focus": {"reference": name},
        "for": {"identifier": {"system": "urn:cht:uuid", "value": OTHER}}});
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        {"fullUrl": name, "resource": ltfu("SR-1"), "request": {"method": "POST", "url": "ServiceRequest"}},
        {"resource": task, "request": {"method": "POST", "url": "Task"}}]});
    let (status, answer) = world.post("/fhir", &bundle).await;
    assert_eq!((status, &answer["issue"][0]["code"]), (422, &json!("conflict")), "{answer}");
    assert_eq!(answer["issue"][0]["expression"][0], "Bundle.entry[1].resource.for");
    assert!(world.cht.reports().is_empty());
}
