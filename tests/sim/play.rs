//! What happens in a run: people are pushed in versions, referred, and asked for; the clinic and the CHW
//! answer. Only invented people.
use crate::fate::lock;
use crate::stage::EMR;
use crate::world::World;
use axum::http::Method;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::task::JoinSet;

/// What a run is about, by bits.
const VERSIONS: u64 = 1;
const REFERRALS: u64 = 2;
const REQUESTS: u64 = 4;

pub async fn play(world: Arc<World>) {
    let about = world.fate.between(1, 7);
    let mut parts = JoinSet::new();
    for n in 0..2 {
        world.cht.add_person(person(n, 0)["doc"].clone());
        if about & VERSIONS != 0 {
            parts.spawn(versions(world.clone(), n));
        }
        if about & REQUESTS != 0 {
            parts.spawn(request(world.clone(), n));
        }
    }
    for n in 0..3 {
        if about & REFERRALS != 0 {
            parts.spawn(referral(world.clone(), n));
        }
    }
    parts.join_all().await;
}

/// A person changes; what is pushed may come twice, late, and in another order.
async fn versions(world: Arc<World>, n: u64) {
    let mut late = JoinSet::new();
    let push = |version| {
        let world = world.clone();
        async move { world.send(Method::POST, "/cht/push", &person(n, version)).await }
    };
    let newest = world.fate.between(1, 3);
    for version in 0..=newest {
        world.cht.add_person(person(n, version)["doc"].clone());
        match world.fate.happens(600) {
            true => push(version).await,
            false => drop(late.spawn(push(version))),
        }
        if world.fate.happens(300) {
            late.spawn(push(world.fate.between(0, version)));
        }
        world.fate.pause(3000).await;
    }
    late.join_all().await;
    lock(&world.expected).newest.insert(uuid(n), newest);
}

/// A CHW refers; the clinic moves the Task on. Polls find it, even if its server tells us now and then.
async fn referral(world: Arc<World>, n: u64) {
    world.fate.pause(5000).await;
    world.send(Method::POST, "/cht/push", &report(n)).await;
    lock(&world.expected).referrals.insert(referral_id(n));
    let task = world.until(|world| {
        world.fhir.resources("Task").into_iter().find(|task| task["identifier"][0]["value"] == referral_id(n))
    });
    let task = task.await["id"].as_str().unwrap_or_default().to_string();
    for status in ["accepted", "completed"] {
        world.fate.pause(15_000).await;
        let moved =
            world.fhir.update("Task", &task, |task| task["status"] = json!(status)).expect("the Task");
        world.fate.note(format!("clinic: Task/{task} is {status}"));
        if world.fate.happens(300) {
            world.send(Method::PUT, &format!("/fhir/Task/{task}"), &moved).await;
        }
    }
}

/// An EMR asks for a patient, CHT raises a task, and the CHW goes and tells.
async fn request(world: Arc<World>, n: u64) {
    let by_name = world.fate.happens(400);
    if by_name {
        introduce(&world, n).await;
    }
    world.send(Method::POST, "/fhir/ServiceRequest", &service_request(n, by_name)).await;
    lock(&world.expected).requests.insert(request_id(n));
    let asked = world.until(|world| {
        world.cht.reports().into_iter().find(|report| report["fields"]["external_id"] == request_id(n))
    });
    let asked = asked.await["_id"].as_str().unwrap_or_default().to_string();
    let mut parts = JoinSet::new();
    if let Some(record) = world.cht.hydrated(&asked) {
        let world = world.clone();
        parts.spawn(async move { world.send(Method::POST, "/cht/push", &json!({"doc": record})).await });
    }
    world.fate.pause(10_000).await;
    let outcome = json!({"outcome": "found"});
    let mut visit = world.cht.complete_follow_up(&asked, "ltfu_follow_up", outcome).expect("a report");
    // CHT puts its patient into a report anew for each push; ours would tell an old phone.
    visit["patient"].as_object_mut().map(|patient| patient.remove("phone"));
    world.send(Method::POST, "/cht/push", &json!({"doc": visit})).await;
    parts.join_all().await;
}

async fn introduce(world: &World, n: u64) {
    let endpoint = json!({"resourceType": "Endpoint", "address": EMR,
        "identifier": [{"system": "urn:emr", "value": format!("e-{n}")}]});
    world.send(Method::POST, "/endpoint", &endpoint).await;
    let organization = json!({"resourceType": "Organization",
        "identifier": [{"system": "urn:emr", "value": format!("o-{n}")}],
        "endpoint": [{"reference": format!("Endpoint/e-{n}")}]});
    world.send(Method::POST, "/organization", &organization).await;
}

pub fn uuid(n: u64) -> String {
    format!("d54a8e4f-c505-4ed9-a6f2-{n:012}")
}

pub fn referral_id(n: u64) -> String {
    format!("e54a8e4f-c505-4ed9-a6f2-{n:012}")
}

pub fn request_id(n: u64) -> String {
    format!("SR-{n}")
}

fn person(n: u64, version: u64) -> Value {
    json!({"doc": {"_id": uuid(n), "_rev": format!("{}-x", version + 1), "type": "person", "name": "Test Person",
        "patient_id": format!("{:05}", 10_000 + n), "phone": format!("+2547{n:04}{version:04}"),
        "date_of_birth": "1990-01-01", "sex": "female"}})
}

/// What a line of the trace calls a message.
pub fn called(body: &Value) -> String {
    let (doc, identifier) = (&body["doc"], &body["identifier"][0]["value"]);
    match doc["_id"].as_str() {
        Some(id) => format!("{id} {}", doc["_rev"].as_str().unwrap_or_default()),
        None => identifier.as_str().unwrap_or_default().to_string(),
    }
}

/// Whose Patient it is, and which version of the person.
pub fn version_of(patient: &Value) -> Option<(String, u64)> {
    let identifiers = patient["identifier"].as_array()?;
    let uuid = identifiers.iter().find(|identifier| identifier["system"] == "urn:cht:uuid")?;
    let phone = patient["telecom"][0]["value"].as_str()?;
    Some((uuid["value"].as_str()?.to_string(), phone[phone.len() - 4..].parse().ok()?))
}

/// Two of three are about the same person.
fn report(n: u64) -> Value {
    let patient = uuid(n / 2);
    json!({"doc": {"_id": referral_id(n), "_rev": "1-x", "type": "data_record", "form": "referral",
        "content_type": "xml", "reported_date": 1_793_181_600_000_i64,
        "contact": {"_id": "f54a8e4f-c505-4ed9-a6f2-eb7bdad2fb9d", "type": "person", "role": "chw", "name": "Test Worker"},
        "patient": {"_id": patient, "type": "person", "name": "Test Person", "patient_id": format!("{:05}", 10_000 + n / 2)},
        "fields": {"patient_id": patient, "inputs": {"contact": {"_id": patient}},
            "referral": {"reason": "fever", "urgency": "urgent"}}}})
}

fn service_request(n: u64, by_name: bool) -> Value {
    let mut request = json!({"resourceType": "ServiceRequest", "status": "active", "intent": "order",
        "identifier": [{"system": "urn:emr:requests", "value": request_id(n)}], "code": {"text": "Find her"},
        "subject": {"identifier": {"system": "urn:cht:uuid", "value": uuid(n)}}});
    if by_name {
        request["requester"] = json!({"reference": format!("Organization/o-{n}")});
    }
    request
}
