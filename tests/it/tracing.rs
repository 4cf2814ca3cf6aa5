//! Contact tracing: an index case and contacts, each traced by a request of its own.
use crate::world::{PATIENT, World, ltfu};
use serde_json::{Value, json};

fn uuid(n: usize) -> String {
    format!("b54a8e4f-c505-4ed9-a6f2-{n:012}")
}

/// The first `known` of the contacts go by an identifier that CHT knows.
fn request(contacts: usize, known: usize) -> Value {
    let mut request = ltfu("CT-1");
    request["code"] = json!({"text": "Contact tracing"});
    request["reasonCode"] = json!([{"text": "TB"}]);
    let contact = |n: usize| {
        let mut contact = json!({"resourceType": "RelatedPerson", "id": format!("c{n}"), "patient": request["subject"],
            "name": [{"text": format!("Test Contact {n}")}], "telecom": [{"system": "phone", "value": format!("+2547120003{n:02}")}],
            "relationship": [{"text": "Neighbour"}]});
        if n < known {
            contact["identifier"] = json!([{"system": "urn:cht:uuid", "value": uuid(n)}]);
        }
        contact
    };
    request["contained"] = (0..contacts).map(contact).collect();
    let name = |n: usize| json!({"reference": format!("#c{n}")});
    request["supportingInfo"] = (0..contacts).map(name).collect();
    request
}

async fn world(known: usize) -> World {
    let world = World::with(&[("SERVER__ANSWER_WITHIN_MS", "30000")], Default::default()).await;
    world.know_patient();
    for n in 0..known {
        world.cht.add_person(json!({"_id": uuid(n), "type": "person", "name": format!("Test Contact {n}"),
            "patient_id": format!("{}", 60_000 + n)}));
    }
    world
}

fn records(world: &World, form: &str) -> Vec<Value> {
    let mut all: Vec<Value> =
        world.cht.reports().into_iter().filter(|report| report["form"] == form).collect();
    all.sort_by_key(|record| record["fields"]["external_id"].as_str().unwrap_or_default().to_string());
    all
}

async fn visit(world: &World, record: &Value, outcome: &str) {
    let id = record["_id"].as_str().expect("an id");
    let report = world
        .cht
        .complete_follow_up(id, "contact_tracing_follow_up", json!({"outcome": outcome}))
        .expect("a report");
    assert!(world.cht.push(&report).await);
    world.settled().await;
}

async fn status(world: &World, kind: &str, identifier: &str) -> Value {
    let (code, body) = world.get(&format!("/fhir/{kind}/{}", identifier.replace('#', "%23"))).await;
    assert_eq!(code, 200, "{identifier}: {body}");
    body["status"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn twelve_contacts_of_whom_three_are_known_are_traced_one_by_one() {
    let mut world = world(3).await;
    let (code, answer) = world.post("/fhir/ServiceRequest", &request(12, 3)).await;
    assert_eq!(code, 201, "{answer}");
    world.settled().await;
    let all = records(&world, "CONTACT_TRACING");
    assert_eq!(all.len(), 12);
    let own: Vec<&str> =
        all.iter().filter_map(|r| r["fields"]["patient_id"].as_str()).filter(|p| *p != PATIENT).collect();
    assert_eq!(own.len(), 3, "who is known is asked for as themselves");
    for record in &all {
        assert_eq!(record["errors"], json!([]));
        let others = record["fields"].to_string().matches("Test Contact").count();
        assert_eq!(others, 1, "nobody else's name: {record}");
    }
    assert_eq!(status(&world, "ServiceRequest", "CT-1").await, "on-hold");
    assert_eq!(world.fhir.resources("Task").len(), 12);
    // The same again asks nobody; one more contact is one more.
    assert_eq!(world.post("/fhir/ServiceRequest", &request(12, 3)).await.0, 201);
    assert_eq!(world.post("/fhir/ServiceRequest", &request(13, 3)).await.0, 201);
    world.settled().await;
    let all = records(&world, "CONTACT_TRACING");
    assert_eq!(all.len(), 13);
    world.close().await;
    world.open().await;
    for (n, record) in all.iter().enumerate() {
        assert_eq!(status(&world, "ServiceRequest", "CT-1").await, "on-hold", "{n} are done");
        visit(&world, record, if n == 4 { "refused" } else { "found" }).await;
        let name = record["fields"]["external_id"].as_str().expect("a name");
        assert_eq!(status(&world, "Task", name).await, "completed");
    }
    assert_eq!(status(&world, "ServiceRequest", "CT-1").await, "completed");
    assert_eq!(world.fhir.resources("ServiceRequest")[0]["status"], "completed");
    assert_eq!(world.fhir.resources("Encounter").len(), 13);
    let done = world.fhir.resources("Task").iter().filter(|task| task["status"] == "completed").count();
    assert_eq!(done, 13);
    // What is done is not asked anew by the same words.
    assert_eq!(world.post("/fhir/ServiceRequest", &request(13, 3)).await.0, 201);
    world.settled().await;
    assert_eq!(records(&world, "CONTACT_TRACING").len(), 13);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawal_of_the_index_withdraws_who_is_still_to_be_traced() {
    let world = world(0).await;
    let mut asked = request(3, 0);
    assert_eq!(world.post("/fhir/ServiceRequest", &asked).await.0, 201);
    world.settled().await;
    visit(&world, &records(&world, "CONTACT_TRACING")[0], "found").await;
    asked["status"] = json!("revoked");
    assert_eq!(world.post("/fhir/ServiceRequest", &asked).await.0, 201);
    world.settled().await;
    let cancels = records(&world, "CONTACT_TRACING_CANCEL");
    let names: Vec<&Value> = cancels.iter().map(|record| &record["fields"]["external_id"]).collect();
    assert_eq!(names, ["CT-1#c1", "CT-1#c2"], "the first has been traced");
    assert_eq!(status(&world, "Task", "CT-1#c0").await, "completed");
    assert_eq!(status(&world, "Task", "CT-1#c1").await, "cancelled");
    assert_eq!(status(&world, "ServiceRequest", "CT-1").await, "revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_of_two_indexes_and_an_index_who_is_a_contact_stay_apart() {
    let world = world(2).await;
    assert_eq!(world.post("/fhir/ServiceRequest", &request(1, 1)).await.0, 201);
    let mut second = request(1, 1);
    second["identifier"][0]["value"] = json!("CT-2");
    second["subject"] = json!({"identifier": {"system": "urn:cht:uuid", "value": uuid(1)}});
    let mut other = second["contained"][0].clone();
    other["id"] = json!("index");
    other["identifier"] = json!([{"system": "urn:cht:uuid", "value": PATIENT}]);
    second["contained"].as_array_mut().expect("a list").push(other);
    second["supportingInfo"].as_array_mut().expect("a list").push(json!({"reference": "#index"}));
    let (code, body) = world.post("/fhir/ServiceRequest", &second).await;
    assert_eq!(code, 201, "{body}");
    world.settled().await;
    let all = records(&world, "CONTACT_TRACING");
    let about: Vec<(&str, &str)> = all
        .iter()
        .map(|r| {
            (
                r["fields"]["external_id"].as_str().expect("a name"),
                r["fields"]["patient_id"].as_str().expect("a patient"),
            )
        })
        .collect();
    let (c0, name) = (uuid(0), format!("CT-1#{}", uuid(0)));
    let (other, index) = (format!("CT-2#{}", uuid(0)), format!("CT-2#{PATIENT}"));
    let mut expected =
        vec![(name.as_str(), c0.as_str()), (other.as_str(), c0.as_str()), (index.as_str(), PATIENT)];
    expected.sort();
    assert_eq!(about, expected);
    // Each answers its own.
    visit(&world, all.iter().find(|r| r["fields"]["external_id"] == name.as_str()).expect("one"), "found")
        .await;
    assert_eq!(status(&world, "ServiceRequest", "CT-1").await, "completed");
    assert_eq!(status(&world, "Task", &other).await, "accepted");
    assert_eq!(status(&world, "ServiceRequest", "CT-2").await, "on-hold");
}
