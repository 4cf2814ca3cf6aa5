//! 200 neighbours that take what is sent and never answer: everybody else is served as fast as before.
use crate::rude::Rude;
use crate::world::{World, ltfu};
use cht_fhir_mediator::standins::cht;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const HANGING: usize = 200;
/// What the slowest may take beyond twice of what it takes without the hanging ones: this is a debug build
/// beside other tests. One that waited for a hanging neighbour would take many seconds.
const SLACK: Duration = Duration::from_millis(1500);

fn uuid(n: usize) -> String {
    format!("a54a8e4f-c505-4ed9-a6f2-{n:012}")
}

/// The longest that somebody waits who has nothing to do with the hanging ones.
async fn longest(world: &World, what: &str) -> Duration {
    let mut longest = Duration::ZERO;
    for n in 0..50 {
        let patient = json!({"resourceType": "Patient", "identifier": [{"system": "urn:mrn", "value": format!("{what}-{n}")}]});
        let started = Instant::now();
        let (status, body) = world.post("/fhir/Patient", &patient).await;
        longest = longest.max(started.elapsed());
        assert_eq!(status, 201, "{what}: {body}");
    }
    longest
}

/// Sends all at once; nobody waits for the answers.
fn send_all(world: &World, path: &str, bodies: Vec<Value>) {
    for body in bodies {
        tokio::spawn(world.http.post(world.url(path)).json(&body).send());
    }
}

async fn compare(world: &World, without: Duration) {
    let with = longest(world, "with").await;
    println!("the slowest of 50 took {without:?} without and {with:?} with {HANGING} hanging neighbours");
    assert!(with <= without * 2 + SLACK, "{without:?} without, {with:?} with");
}

#[tokio::test(flavor = "multi_thread")]
async fn requesters_that_hang_leave_others_as_fast_as_they_were() {
    let silent = Rude::silent().await;
    // Breakers stay open, so that they hang all the time.
    let further = [("DELIVERY__BREAKER_FAILURES", "1000"), ("CALLBACKS__TIMEOUT_MS", "60000")];
    let world = World::with(&further, cht::Options::default()).await;
    let mut asked = tokio::task::JoinSet::new();
    for n in 0..HANGING {
        world.cht.add_person(json!({"_id": uuid(n), "type": "person", "name": "Test Person", "patient_id": format!("9{n:04}")}));
        let (http, base) = (world.http.clone(), world.url(""));
        // Each a host of its own.
        let address = format!("http://127.0.1.{}:{}", n + 1, silent.address.port());
        let endpoint = json!({"resourceType": "Endpoint", "identifier": [{"system": "x", "value": format!("e-{n}")}], "address": address});
        let organization = json!({"resourceType": "Organization", "identifier": [{"system": "x", "value": format!("o-{n}")}],
            "endpoint": [{"reference": format!("Endpoint/e-{n}")}]});
        let mut request = ltfu(&format!("SR-{n}"));
        request["subject"]["identifier"]["value"] = json!(uuid(n));
        request["requester"] = json!({"reference": format!("Organization/o-{n}")});
        asked.spawn(async move {
            for (path, body) in
                [("/endpoint", endpoint), ("/organization", organization), ("/fhir/ServiceRequest", request)]
            {
                let sent = http.post(format!("{base}{path}")).json(&body).send().await.expect("an answer");
                assert!(sent.status().is_success(), "{path}: {}", sent.status());
            }
        });
    }
    while let Some(done) = asked.join_next().await {
        done.expect("asked");
    }
    world.settled().await;
    let without = longest(&world, "without").await;
    let records = world.cht.reports().into_iter().filter(|report| report["form"] == "LTFU_REQUEST");
    let done = |record: Value| {
        let id = record["_id"].as_str().expect("an id").to_string();
        let report = world.cht.complete_follow_up(&id, "ltfu_follow_up", json!({"outcome": "found"}));
        json!({"doc": report.expect("a report")})
    };
    send_all(&world, "/cht/push", records.map(done).collect());
    world.until("all hang", |_| silent.met() >= HANGING).await;
    compare(&world, without).await;
    assert_eq!(silent.met(), HANGING, "and they still do");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cht_and_a_server_that_hang_leave_others_as_fast_as_they_were() {
    let (lab, cht) = (Rude::silent().await, Rude::silent().await);
    let (lab_url, cht_url) = (format!("http://{}/fhir", lab.address), format!("http://{}", cht.address));
    let further = [
        ("DESTINATIONS__LAB__URL", lab_url.as_str()),
        ("DELIVERY__TO", r#"{ default = ["fhir"], patient = ["lab"] }"#),
        ("CHT__URL", &cht_url),
        ("DELIVERY__BREAKER_FAILURES", "1000"),
    ];
    let world = World::with(&further, cht::Options::default()).await;
    let without = longest(&world, "without").await;
    let people = (0..HANGING).map(|n| json!({"doc": {"_id": uuid(n), "type": "person", "name": "Test Person", "patient_id": format!("9{n:04}")}}));
    let requests = (0..HANGING).map(|n| {
        let mut request = ltfu(&format!("SR-{n}"));
        request["subject"]["identifier"]["value"] = json!(uuid(HANGING + n));
        request
    });
    send_all(&world, "/cht/push", people.collect());
    send_all(&world, "/fhir/ServiceRequest", requests.collect());
    let until = Instant::now() + Duration::from_secs(90);
    while world.transactions().await.len() < 50 + 2 * HANGING {
        assert!(Instant::now() < until, "never accepted");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.until("both hang", |_| lab.met() > 0 && cht.met() > 0).await;
    compare(&world, without).await;
    let open = world.transactions().await.into_iter().filter(|row| row.status == "open").count();
    assert_eq!(open, 2 * HANGING, "and they still do");
}
