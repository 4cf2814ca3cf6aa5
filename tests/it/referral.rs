//! A CHW refers; the clinic answers.
use crate::world::{World, fixture};
use serde_json::{Value, json};

/// Refers the child of the fixture; answers the report's uuid.
async fn refer(world: &World) -> String {
    let push = fixture("full-report-20");
    let patient = push["body"]["doc"]["patient"].clone();
    world.cht.add_person(json!({"_id": patient["_id"], "type": "person", "name": patient["name"], "patient_id": patient["patient_id"]}));
    let (status, body) = world.post("/cht/push", &push["body"]).await;
    assert_eq!((status, body["status"].as_str()), (200, Some("delivered")), "{body}");
    push["body"]["doc"]["_id"].as_str().expect("an id").to_string()
}

fn only(world: &World, kind: &str) -> Value {
    let all = world.fhir.resources(kind);
    assert_eq!(all.len(), 1, "{kind}");
    all[0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_arrives_with_everything_the_chw_wrote() {
    let world = World::new().await;
    let report = refer(&world).await;
    let (patient, request, task) =
        (only(&world, "Patient"), only(&world, "ServiceRequest"), only(&world, "Task"));
    let at = |r: &Value| {
        format!("{}/{}", r["resourceType"].as_str().unwrap_or_default(), r["id"].as_str().unwrap_or_default())
    };
    assert_eq!(request["identifier"][0]["value"], report);
    assert_eq!(request["subject"]["reference"], at(&patient));
    assert_eq!(task["focus"]["reference"], at(&request));
    assert_eq!(request["requester"]["reference"], at(&only(&world, "Practitioner")));
    assert_eq!(request["encounter"]["reference"], at(&only(&world, "Encounter")));
    let temperature = world
        .fhir
        .resources("Observation")
        .into_iter()
        .find(|o| o["code"]["coding"][0]["code"] == "g_malaria.malaria_temp");
    assert_eq!(temperature.expect("an answer")["valueQuantity"]["value"], json!(39.2));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_news_of_it_is_a_report_once() {
    let world = World::new().await;
    let report = refer(&world).await;
    let mut task = only(&world, "Task");
    for (status, repeats) in [("accepted", 2), ("in-progress", 1), ("completed", 3)] {
        task["status"] = json!(status);
        if status == "completed" {
            task["output"] = json!([{"type": {"text": "outcome"}, "valueString": "treated for malaria"}]);
        }
        for _ in 0..repeats {
            let id = task["id"].as_str().expect("an id");
            let (code, body) = world.put(&format!("/fhir/Task/{id}"), &task).await;
            assert!((200..=201).contains(&code), "{code} {body}");
        }
    }
    world.settled().await;
    let told: Vec<Value> = world.cht.reports().iter().map(|r| r["fields"].clone()).collect();
    let states: Vec<&str> = told.iter().filter_map(|f| f["status"].as_str()).collect();
    assert_eq!(states, ["accepted", "in-progress", "completed"]);
    let last = &told[2];
    assert_eq!((last["external_id"].as_str(), last["outcome"].as_i64()), (Some(report.as_str()), Some(1)));
    assert_eq!(last["note"], "outcome: treated for malaria");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_report_does_not_take_the_task_back() {
    let world = World::new().await;
    refer(&world).await;
    let task = only(&world, "Task");
    world.fhir.update("Task", task["id"].as_str().expect("an id"), |t| t["status"] = json!("accepted"));
    let mut push = fixture("full-report-20")["body"].clone();
    push["doc"]["fields"]["g_malaria"]["malaria_temp"] = json!("38.9");
    world.post("/cht/push", &push).await;
    assert_eq!(only(&world, "Task")["status"], "accepted");
    let temperature = world
        .fhir
        .resources("Observation")
        .into_iter()
        .find(|o| o["code"]["coding"][0]["code"] == "g_malaria.malaria_temp");
    assert_eq!(temperature.expect("an answer")["valueQuantity"]["value"], json!(38.9));
}

#[tokio::test(flavor = "multi_thread")]
async fn news_is_found_by_polling_where_the_server_does_not_tell() {
    let world = World::with(&[("FHIR__POLL_SECONDS", "1")], Default::default()).await;
    refer(&world).await;
    let task = only(&world, "Task");
    world.fhir.update("Task", task["id"].as_str().expect("an id"), |t| t["status"] = json!("rejected"));
    world.until("the report", |w| w.cht.reports().len() == 1).await;
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    world.settled().await;
    let reports = world.cht.reports();
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0]["fields"]["outcome"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn news_of_a_referral_that_nobody_made_is_refused() {
    let world = World::new().await;
    let task = json!({"resourceType": "Task", "status": "completed", "intent": "order",
        "identifier": [{"system": "urn:cht:report", "value": "nobody"}], "for": {"reference": "Patient/1"}});
    let (status, body) = world.post("/fhir/Task", &task).await;
    assert_eq!(status, 422, "{body}");
    assert_eq!(body["issue"][0]["expression"][0], "Task.identifier");
}
