//! Hundreds of patients at once, as EMRs export them.
use crate::world::{World, ltfu};
use serde_json::{Value, json};

fn uuid(n: usize) -> String {
    format!("c54a8e4f-c505-4ed9-a6f2-{n:012}")
}

fn know(world: &World, people: usize) {
    for n in 0..people {
        world.cht.add_person(json!({"_id": uuid(n), "type": "person", "name": "Test Person",
            "patient_id": format!("{}", 70_000 + n), "sex": "female", "date_of_birth": "1990-01-01"}));
    }
}

fn request(n: usize, week: usize) -> Value {
    let mut request = ltfu(&format!("W{week}-{n}"));
    request["category"] = json!([{"text": "HIV"}]);
    request["subject"] = json!({"identifier": {"system": "urn:cht:uuid", "value": uuid(n)}});
    request
}

fn lines(all: impl Iterator<Item = Value>) -> String {
    all.map(|one| format!("{one}\n")).collect()
}

async fn upload(world: &World, body: String, prefer: Option<&str>) -> (u16, Option<String>, Value) {
    let mut post =
        world.http.post(world.url("/fhir")).header("content-type", "application/fhir+ndjson").body(body);
    if let Some(prefer) = prefer {
        post = post.header("prefer", prefer);
    }
    let answer = post.send().await.expect("an answer");
    let status = answer.status().as_u16();
    let place =
        answer.headers().get("content-location").map(|place| place.to_str().expect("text").to_string());
    (status, place, answer.json().await.expect("JSON"))
}

fn statuses(bundle: &Value) -> Vec<String> {
    let entries = bundle["entry"].as_array().into_iter().flatten();
    let status = |entry: &Value| entry["response"]["status"].as_str().unwrap_or_default()[..3].to_string();
    entries.map(status).collect()
}

fn asked(world: &World) -> usize {
    world.cht.reports().iter().filter(|report| report["form"] == "LTFU_REQUEST").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_300_with_seven_bad_ones_and_the_same_list_next_week() {
    let world = World::with(&[("SERVER__ANSWER_WITHIN_MS", "60000")], Default::default()).await;
    know(&world, 296);
    let list = |week: usize| {
        let mut all: Vec<Value> = (0..300).map(|n| request(n, week)).collect();
        // Four whom CHT does not know, and three that are no requests.
        all[17]["status"] = json!("lost");
        all[130] = json!({"resourceType": "Medication"});
        let mut text = lines(all.into_iter());
        text = text.replacen(&format!("\"value\":\"W{week}-200\""), "\"value\":", 1);
        text
    };
    let (status, _, answer) = upload(&world, list(48), None).await;
    assert_eq!((status, answer["type"].as_str()), (200, Some("batch-response")), "{answer}");
    let found = statuses(&answer);
    assert_eq!(found.len(), 300);
    let bad: Vec<(usize, &str)> =
        found.iter().enumerate().filter(|(_, s)| *s != "201").map(|(n, s)| (n, s.as_str())).collect();
    assert_eq!(
        bad,
        [(17, "400"), (130, "400"), (200, "400"), (296, "422"), (297, "422"), (298, "422"), (299, "422")]
    );
    let why = &answer["entry"][200]["response"]["outcome"]["issue"][0]["diagnostics"];
    assert!(why.as_str().is_some_and(|why| why.starts_with("line 201 ")), "{why}");
    world.settled().await;
    assert_eq!(asked(&world), 293);
    // By other names, and nobody is asked for twice who is still open.
    let (status, _, answer) = upload(&world, list(49), None).await;
    assert_eq!((status, statuses(&answer).iter().filter(|s| *s == "201").count()), (200, 293));
    world.settled().await;
    assert_eq!(asked(&world), 293);
    // What came of it is told by both names.
    let record =
        world.cht.reports().into_iter().find(|r| r["fields"]["external_id"] == "W48-5").expect("a record");
    let report = world
        .cht
        .complete_follow_up(
            record["_id"].as_str().expect("an id"),
            "ltfu_follow_up",
            json!({"outcome": "found"}),
        )
        .expect("a report");
    assert!(world.cht.push(&report).await);
    world.settled().await;
    for name in ["W48-5", "W49-5"] {
        assert_eq!(
            world.get(&format!("/fhir/ServiceRequest/{name}")).await.1["status"],
            "completed",
            "{name}"
        );
    }
    let third = lines(std::iter::once(request(5, 50)));
    assert_eq!(upload(&world, third, None).await.0, 200);
    world.settled().await;
    assert_eq!(asked(&world), 294, "she was found, and is lost again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_list_is_asked_for_by_its_address() {
    let mut world = World::with(&[], Default::default()).await;
    know(&world, 20);
    world.cht.faults().set_down(true);
    let (status, place, answer) =
        upload(&world, lines((0..20).map(|n| request(n, 48))), Some("respond-async")).await;
    let place = place.unwrap_or_else(|| panic!("{status} {answer}"));
    assert_eq!(status, 202);
    let (status, body) = world.get(&place).await;
    assert_eq!((status, body["issue"][0]["diagnostics"].as_str()), (202, Some("0 of 20 are done")));
    // A restart changes nothing.
    world.close().await;
    world.cht.faults().set_down(false);
    world.open().await;
    world.settled().await;
    let (status, body) = world.get(&place).await;
    assert_eq!((status, statuses(&body)), (200, vec!["201".to_string(); 20]), "{body}");
    assert_eq!(asked(&world), 20);
    assert_eq!(world.get("/lists/0193a000-0000-7000-8000-000000000000").await.0, 404);
    let (status, _, body) = upload(&world, "\n\n".into(), None).await;
    assert_eq!((status, body["issue"][0]["code"].as_str()), (400, Some("structure")));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_for_a_group_is_a_task_for_each_of_it() {
    let world = World::with(&[("SERVER__ANSWER_WITHIN_MS", "60000")], Default::default()).await;
    know(&world, 3);
    let member = |n: usize| json!({"entity": {"identifier": {"system": "urn:cht:uuid", "value": uuid(n)}}});
    let mut list = ltfu("W48");
    list["subject"] = json!({"reference": "#g"});
    list["contained"] = json!([{"resourceType": "Group", "id": "g", "type": "person", "actual": true,
        "member": [member(0), member(1), member(9)]}]);
    let (status, answer) = world.post("/fhir/ServiceRequest", &list).await;
    assert_eq!(
        (status, statuses(&answer)),
        (200, vec!["201".into(), "201".into(), "422".into()]),
        "{answer}"
    );
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        {"fullUrl": "urn:uuid:6f1bdb6c-6fb6-4b8e-8f2c-0a8f2a5a2f00", "resource": {"resourceType": "Group", "type": "person", "actual": true,
            "member": [{"entity": {"reference": "urn:uuid:6f1bdb6c-6fb6-4b8e-8f2c-0a8f2a5a2f01"}}]}, "request": {"method": "POST", "url": "Group"}},
        {"fullUrl": "urn:uuid:6f1bdb6c-6fb6-4b8e-8f2c-0a8f2a5a2f01", "resource": {"resourceType": "Patient",
            "identifier": [{"system": "urn:emr:mrn", "value": "M-2"}, {"system": "urn:cht:uuid", "value": uuid(2)}]}, "request": {"method": "POST", "url": "Patient"}},
        {"fullUrl": "urn:uuid:6f1bdb6c-6fb6-4b8e-8f2c-0a8f2a5a2f02", "resource": {"resourceType": "ServiceRequest", "status": "active", "intent": "order",
            "identifier": [{"system": "urn:emr:lists", "value": "W49"}], "code": {"text": "Find"},
            "subject": {"reference": "urn:uuid:6f1bdb6c-6fb6-4b8e-8f2c-0a8f2a5a2f00"}}, "request": {"method": "POST", "url": "ServiceRequest"}}]});
    let (status, answer) = world.post("/fhir", &bundle).await;
    assert_eq!((status, statuses(&answer)), (200, vec!["200".to_string()]), "{answer}");
    world.settled().await;
    let mut names: Vec<String> = world
        .cht
        .reports()
        .iter()
        .map(|r| r["fields"]["external_id"].as_str().unwrap_or("?").to_string())
        .collect();
    names.sort();
    assert_eq!(names, [format!("W48#{}", uuid(0)), format!("W48#{}", uuid(1)), "W49#M-2".into()]);
    list["contained"][0]["member"] = json!([]);
    list["contained"][0].as_object_mut().expect("an object").remove("member");
    assert_eq!(world.post("/fhir/ServiceRequest", &list).await.0, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_breaks_off_keeps_what_came_and_is_sent_again() {
    let world = World::with(
        &[("SERVER__MAX_BODY_BYTES", "5000"), ("SERVER__READ_TIMEOUT_MS", "500")],
        Default::default(),
    )
    .await;
    know(&world, 150);
    let mut text = lines((0..150).map(|n| request(n, 48)));
    let whole = text.clone();
    text.push_str(&"x".repeat(6000));
    let (status, _, body) = upload(&world, text, None).await;
    assert_eq!((status, body["issue"][0]["code"].as_str()), (413, Some("too-long")));
    world.settled().await;
    assert_eq!(asked(&world), 150, "what came before is safe");
    let (status, _, body) = upload(&world, whole, None).await;
    assert_eq!((status, statuses(&body).len()), (200, 150));
    world.settled().await;
    assert_eq!(asked(&world), 150);
}
