//! What a real CHT has pushed, through the house.
use crate::world::{World, fixture};
use cht_fhir_mediator::standins::cht;

/// Path of a recorded push on our own routes.
fn path(recorded: &str) -> String {
    match recorded {
        "/fhir/Practitioner" => recorded.into(),
        other => other.strip_prefix("/mediator").unwrap_or(other).into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_the_169_ends_in_a_named_state_and_none_is_dropped() {
    let world = World::with(&[], cht::Options::default()).await;
    let folder = format!("{}/tests/fixtures/pushes", env!("CARGO_MANIFEST_DIR"));
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("fixtures")
        .map(|f| f.expect("a file").path().file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names.len(), 169);
    // Patients from elsewhere, whose short codes CHT tells.
    for value in ["MRN-100025", "MRN-100026", "NP/2026/39"] {
        let patient = serde_json::json!({"resourceType": "Patient", "identifier": [{"system": "urn:emr:mrn", "value": value}]});
        assert_eq!(world.post("/fhir/Patient", &patient).await.0, 201);
    }
    let mut failed = Vec::new();
    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    for name in &names {
        let push = fixture(name);
        let (status, body) = world.post(&path(push["path"].as_str().expect("a path")), &push["body"]).await;
        assert!((200..300).contains(&status), "{name}: {status} {body}");
        let state = match push["path"].as_str() {
            Some("/fhir/Practitioner") => "delivered",
            _ => body["status"].as_str().expect("a state"),
        };
        *seen.entry(state.to_string()).or_default() += 1;
        if !matches!(state, "delivered" | "ignored") {
            failed.push(format!("{name}: {body}"));
        }
    }
    let rows = world.settled().await;
    println!("{seen:?}, {} transactions", rows.len());
    // Named failures: records that CHT itself could not attach to a patient.
    let unexpected: Vec<&String> =
        failed.iter().filter(|f| !EXPECTED_FAILURES.iter().any(|e| f.starts_with(e))).collect();
    assert!(unexpected.is_empty(), "{unexpected:#?}");
    let duplicates: Vec<_> = world.fhir.ledger().into_iter().filter(|(_, n)| *n > 1).collect();
    assert!(duplicates.is_empty(), "{duplicates:?}");
}

const EXPECTED_FAILURES: &[&str] = &[];

#[tokio::test(flavor = "multi_thread")]
async fn the_same_push_twice_at_once_is_one_act() {
    let world = World::new().await;
    let push = fixture("full-person-10");
    let (first, second) =
        tokio::join!(world.post("/cht/push", &push["body"]), world.post("/cht/push", &push["body"]));
    assert_eq!((first.0, second.0), (200, 200));
    assert_eq!(first.1, second.1);
    assert_eq!(world.transactions().await.len(), 1);
    let again = world.post("/cht/push", &push["body"]).await;
    assert_eq!(again, first);
    assert_eq!(world.fhir.resources("Patient").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_b_a_sends_a_again() {
    let world = World::new().await;
    let a = fixture("full-person-10")["body"].clone();
    let mut b = a.clone();
    b["doc"]["phone"] = "+254712000199".into();
    for (body, phone) in
        [(&a, "+254712000101"), (&b, "+254712000199"), (&a, "+254712000101"), (&a, "+254712000101")]
    {
        assert_eq!(world.post("/cht/push", body).await.0, 200);
        assert_eq!(world.fhir.resources("Patient")[0]["telecom"][0]["value"], phone);
    }
    assert_eq!(world.transactions().await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unclaimed_document_is_kept_and_shown_as_ignored() {
    let world = World::new().await;
    let (status, body) =
        world.post("/cht/push", &serde_json::json!({"doc": {"_id": "x1", "type": "feedback"}})).await;
    assert_eq!((status, body["status"].as_str()), (200, Some("ignored")));
    assert_eq!(world.settled().await[0].status, "ignored");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_identifier_of_two_people_stops_the_message_visibly() {
    let world = World::new().await;
    let first = fixture("full-person-10")["body"].clone();
    let mut second = first.clone();
    second["doc"]["_id"] = "b54a8e4f-c505-4ed9-a6f2-eb7bdad2fb9d".into();
    world.post("/cht/push", &first).await;
    let (status, body) = world.post("/cht/push", &second).await;
    assert_eq!((status, body["status"].as_str()), (200, Some("failed")));
    assert!(body["message"].as_str().expect("words").contains("two people"), "{body}");
    assert_eq!(world.fhir.resources("Patient").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_and_a_muting_that_are_undone_leave_nothing_behind() {
    let world = World::new().await;
    let alive = fixture("full-person-10")["body"].clone();
    let mut dead = alive.clone();
    dead["doc"]["date_of_death"] = "2026-11-02".into();
    dead["doc"]["muted"] = "2026-11-03T08:00:00.000Z".into();
    world.post("/cht/push", &dead).await;
    world.settled().await;
    let patient = world.fhir.resources("Patient").remove(0);
    assert_eq!((&patient["deceasedDateTime"], &patient["active"]), (&"2026-11-02".into(), &false.into()));
    assert_eq!(patient["extension"].as_array().map(Vec::len), Some(2));
    world.post("/cht/push", &alive).await;
    world.settled().await;
    let patient = world.fhir.resources("Patient").remove(0);
    assert!(
        patient.get("deceasedDateTime").is_none() && patient.get("_deceasedDateTime").is_none(),
        "{patient}"
    );
    assert_eq!((&patient["active"], patient["extension"].as_array().map(Vec::len)), (&true.into(), Some(1)));
}
