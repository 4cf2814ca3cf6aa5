//! Behind OpenHIM 8.5: a stand-in that keeps its contract, with its traps. A real 4.0.5 is in `real/`.
use crate::world::{World, any, fixture, ltfu};
use cht_fhir_mediator::domain::audit::Act;
use cht_fhir_mediator::domain::audit::chain::Link;
use cht_fhir_mediator::flow::audit::Search;
use cht_fhir_mediator::http::auth::hash_secret;
use cht_fhir_mediator::standins::cht;
use cht_fhir_mediator::standins::openhim::{self, Handle, PASSWORD, USERNAME};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const URN: &str = "urn:mediator:cht-fhir-mediator";

struct Exchange {
    him: Handle,
    world: World,
}

impl Exchange {
    async fn new(further: &[(&str, &str)]) -> Self {
        let exchange = Self::unregistered(further).await;
        exchange.until_state("registered").await;
        exchange
    }

    async fn unregistered(further: &[(&str, &str)]) -> Self {
        let him = openhim::start(any()).await.expect("an OpenHIM");
        let secret = hash_secret("route-secret").expect("a hash");
        let clients = json!([{"id": "openhim", "secret": secret, "roles": ["push", "fhir"], "openhim": true},
            {"id": "emr", "secret": secret, "roles": ["fhir"]}, {"id": "ops", "secret": secret, "roles": ["admin"]}])
        .to_string();
        let url = him.api_url();
        let mut own = vec![
            ("CLIENTS", clients.as_str()),
            ("OPENHIM__ENABLED", "true"),
            ("OPENHIM__API_URL", url.as_str()),
            ("OPENHIM__USERNAME", USERNAME),
            ("OPENHIM__PASSWORD", PASSWORD),
            ("OPENHIM__HEARTBEAT_SECONDS", "1"),
            ("OPENHIM__INSTALL_CHANNELS", "true"),
            ("SERVER__ANSWER_WITHIN_MS", "700"),
        ];
        own.extend_from_slice(further);
        let mut world = World::closed(&own, cht::Options::default()).await;
        world.settings.openhim.reachable_at = world.url("");
        world.open().await;
        Self { him, world }
    }

    async fn state(&self) -> String {
        self.world.get("/health/ready").await.1["openhim"].as_str().unwrap_or_default().to_string()
    }

    async fn until_state(&self, state: &str) {
        let until = Instant::now() + Duration::from_secs(90);
        while self.state().await != state {
            assert!(Instant::now() < until, "never {state}: {}", self.state().await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.him.change_channels(|channel| {
            channel["routes"][0]["username"] = json!("openhim");
            channel["routes"][0]["password"] = json!("route-secret");
        });
    }

    /// Through OpenHIM; answers its transaction too.
    async fn post_as(&self, client: &str, path: &str, body: &Value) -> (u16, Value, Value) {
        let request = self.world.http.post(format!("{}{path}", self.him.url()));
        let answer = request.basic_auth(client, Some("any")).json(body).send().await.expect("an answer");
        let status = answer.status().as_u16();
        let id = answer.headers()["x-openhim-transactionid"].to_str().expect("an id").to_string();
        let body = serde_json::from_slice(&answer.bytes().await.expect("a body")).unwrap_or_default();
        (status, body, self.him.transaction(&id))
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value, Value) {
        self.post_as("cht", path, body).await
    }

    /// The audit trail says that OpenHIM was told of our transaction so many times.
    async fn until_disclosed(&self, transaction: &Value, times: usize) {
        let id = transaction.as_str().expect("an id").to_string();
        let journal = self.world.house.as_ref().expect("an open house").corridor.journal().clone();
        let until = Instant::now() + Duration::from_secs(90);
        loop {
            let search = Search { about: vec![id.clone()], limit: 100, ..Search::default() };
            let found = journal.records(search).await.expect("the trail");
            let disclosed = |link: &&Link| {
                let event = &link.record.event;
                matches!(&event.act, Act::Delivered { to, .. } if to == "openhim")
                    && event.patients.len() == 1
            };
            let found = found.iter().filter(disclosed).count();
            if found == times {
                return;
            }
            assert!(Instant::now() < until, "recorded {found} times, told {times} times");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn until(&self, transaction: &Value, status: &str) -> Value {
        let id = transaction["_id"].as_str().expect("an id");
        let until = Instant::now() + Duration::from_secs(90);
        loop {
            let transaction = self.him.transaction(id);
            if transaction["status"] == status {
                return transaction;
            }
            assert!(Instant::now() < until, "never {status}: {transaction}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn person(n: usize) -> Value {
    let mut push = fixture("full-person-10")["body"].clone();
    push["doc"]["_id"] = json!(format!("a54a8e4f-c505-4ed9-a6f2-{n:012}"));
    push["doc"]["patient_id"] = json!(format!("9{n:04}"));
    push["doc"]["external_id"] = json!("");
    push
}

#[tokio::test(flavor = "multi_thread")]
async fn it_registers_by_basic_login_beats_and_installs_its_channels() {
    let exchange = Exchange::new(&[]).await;
    let mediator = exchange.him.mediator().expect("registered");
    assert_eq!(mediator["urn"], URN);
    let names: Vec<Value> = exchange.him.channels().iter().map(|channel| channel["name"].clone()).collect();
    assert_eq!(names, ["CHT to FHIR", "FHIR to CHT"]);
    // Forgotten, it registers again; channels that are there stay as they are.
    exchange.him.forget_mediator();
    let until = Instant::now() + Duration::from_secs(90);
    while exchange.him.mediator().is_none() {
        assert!(Instant::now() < until, "never registered again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    exchange.until_state("registered").await;
    assert_eq!(exchange.him.channels().len(), 2);
    // Basic once; the token of old releases is not asked for when Basic works.
    assert_eq!(exchange.him.refused(), 0);
    let metrics = exchange.world.http.get(exchange.world.url("/metrics")).send().await.expect("an answer");
    assert!(metrics.text().await.expect("text").contains("openhim_registered 1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_works_without_openhim_and_says_so() {
    let mut exchange = Exchange::unregistered(&[("OPENHIM__API_URL", "http://127.0.0.1:1")]).await;
    let (status, ready) = exchange.world.get("/health/ready").await;
    assert_eq!(status, 200);
    assert!(ready["openhim"].as_str().is_some_and(|state| state.starts_with("not registered")), "{ready}");
    let push = exchange.world.http.post(exchange.world.url("/cht/push")).json(&person(1));
    let (status, body) = exchange.world.send(push.basic_auth("openhim", Some("route-secret"))).await;
    assert_eq!((status, body["status"].as_str()), (200, Some("delivered")));
    exchange.world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_not_tried_again_and_again() {
    let exchange = Exchange::unregistered(&[("OPENHIM__PASSWORD", "wrong")]).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(exchange.state().await.contains("refused our credentials"), "{}", exchange.state().await);
    assert!(exchange.him.refused() <= 2, "{}", exchange.him.refused());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_we_answer_makes_core_stumble() {
    let exchange = Exchange::new(&[]).await;
    let world = &exchange.world;
    world.know_patient();
    let delivered = exchange.post("/mediator/cht/push", &person(1)).await;
    assert_eq!((delivered.0, &delivered.2["status"]), (200, &json!("Successful")));
    exchange.until_disclosed(&delivered.2["properties"]["mediatorTransaction"], 1).await;
    let ignored =
        exchange.post("/mediator/cht/push", &json!({"doc": {"_id": "x", "type": "feedback"}})).await;
    assert_eq!((ignored.0, &ignored.2["status"]), (200, &json!("Successful")));
    world.fhir.faults().on("POST", "/fhir").fail_next(1, 422);
    let failed = exchange.post("/mediator/cht/push", &person(2)).await;
    assert_eq!((failed.0, &failed.2["status"]), (200, &json!("Failed")));
    let request = exchange.post_as("emr", "/mediator/fhir/ServiceRequest", &ltfu("SR-1")).await;
    assert_eq!((request.0, &request.2["status"]), (201, &json!("Successful")));
    assert_eq!(request.1["resourceType"], "ServiceRequest");
    let wrong = exchange
        .post_as("emr", "/mediator/fhir/Patient", &json!({"resourceType": "Patient", "gender": 1}))
        .await;
    assert_eq!((wrong.0, &wrong.2["status"]), (400, &json!("Completed")));
    let mut of_nobody = ltfu("SR-2");
    of_nobody["subject"] = json!({"identifier": {"system": "urn:emr:mrn", "value": "nobody"}});
    let unknown = exchange.post_as("emr", "/mediator/fhir/ServiceRequest", &of_nobody).await;
    assert_eq!((unknown.0, &unknown.2["status"]), (422, &json!("Failed")));
    let bundle = json!({"resourceType": "Bundle", "type": "batch", "entry": [
        {"resource": {"resourceType": "Patient", "identifier": [{"system": "s", "value": "1"}]}, "request": {"method": "POST", "url": "Patient"}}]});
    let batch = exchange.post_as("emr", "/mediator/fhir", &bundle).await;
    assert_eq!((batch.0, &batch.2["status"]), (200, &json!("Successful")));
    world.cht.faults().on("POST", "/api/v2/records").say_next(
        1,
        200,
        "<html>\u{feff}\u{1F600} not JSON</html>",
    );
    exchange.post_as("emr", "/mediator/fhir/ServiceRequest", &ltfu("SR-3")).await;
    for transaction in exchange.him.transactions() {
        assert_eq!(
            transaction["autoRetry"], false,
            "only what was not accepted is worth a retry: {transaction}"
        );
        assert!(transaction["storedAt"].is_number(), "stored whole: {transaction}");
        assert!(transaction["response"]["headers"]["content-type"].is_string());
    }
    // What was said to whom, and nothing that shows who we are.
    let calls = request.2["orchestrations"].as_array().expect("orchestrations");
    assert!(
        calls.iter().any(|call| call["group"] == "CHT" && call["request"]["method"] == "POST"),
        "{calls:?}"
    );
    let all = json!(exchange.him.transactions()).to_string();
    assert!(!all.to_lowercase().contains("authorization") && !all.contains(&world.settings.cht.username));
    assert_eq!(exchange.him.crashes(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_is_told_later_on_both_kinds_of_channels() {
    let exchange = Exchange::new(&[]).await;
    for (asynchronous, pending) in [(false, "Processing"), (true, "Pending Async")] {
        exchange.him.change_channels(|channel| channel["isAsynchronousProcess"] = json!(asynchronous));
        if asynchronous {
            // What a channel is, is kept for a while: this one is new.
            exchange.him.change_channels(|channel| {
                channel["_id"] = json!(format!("new{}", channel["_id"].as_str().unwrap_or_default()))
            });
        }
        exchange.world.fhir.faults().set_down(true);
        let (status, _, transaction) =
            exchange.post("/mediator/cht/push", &person(10 + usize::from(asynchronous))).await;
        assert_eq!((status, &transaction["status"]), (202, &json!(pending)));
        exchange.world.fhir.faults().set_down(false);
        let told = exchange.until(&transaction, "Successful").await;
        assert!(told["orchestrations"].as_array().is_some_and(|calls| calls.len() > 1), "{told}");
        assert_eq!(told["properties"]["mediatorStatus"], "delivered");
        let at_once = transaction["orchestrations"].as_array().is_some_and(|calls| !calls.is_empty());
        let id = &told["properties"]["mediatorTransaction"];
        exchange.until_disclosed(id, 1 + usize::from(at_once)).await;
    }
    assert_eq!(exchange.him.crashes(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_while_openhim_is_away_or_we_are_is_told_afterwards() {
    let mut exchange = Exchange::new(&[]).await;
    exchange.world.fhir.faults().set_down(true);
    let (_, _, transaction) = exchange.post("/mediator/cht/push", &person(1)).await;
    // OpenHIM's API fails for a while.
    exchange.him.faults().on("PUT", "/transactions/").fail_next(2, 503);
    exchange.world.close().await;
    exchange.world.fhir.faults().set_down(false);
    exchange.world.open().await;
    exchange.until(&transaction, "Successful").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reruns_and_retries_have_no_second_effect() {
    let exchange = Exchange::new(&[]).await;
    exchange.world.know_patient();
    let (_, _, push) = exchange.post("/mediator/cht/push", &person(1)).await;
    let unnamed = json!({"resourceType": "Patient", "identifier": [{"value": "17"}]});
    let (_, _, patient) = exchange.post_as("emr", "/mediator/fhir/Patient", &unnamed).await;
    let (_, _, request) = exchange.post_as("emr", "/mediator/fhir/ServiceRequest", &ltfu("SR-1")).await;
    exchange.world.settled().await;
    let before = (
        exchange.world.transactions().await.len(),
        exchange.world.fhir.ledger(),
        exchange.world.cht.reports().len(),
    );
    for original in [&push, &patient, &request] {
        let id = exchange.him.rerun(original["_id"].as_str().expect("an id")).await.expect("rerun");
        assert_eq!(exchange.him.transaction(&id)["status"], "Successful");
        // A rerun of a rerun too.
        exchange.him.rerun(&id).await.expect("rerun");
    }
    let after = (
        exchange.world.transactions().await.len(),
        exchange.world.fhir.ledger(),
        exchange.world.cht.reports().len(),
    );
    assert_eq!(before, after);
    // What was not accepted is sent again by core itself, until it is.
    let mut exchange = exchange;
    exchange.world.close().await;
    assert_eq!(exchange.post("/mediator/cht/push", &person(2)).await.0, 500);
    assert_eq!(exchange.him.auto_retry().await, 1);
    exchange.world.open().await;
    assert_eq!(exchange.him.auto_retry().await, 1);
    assert_eq!(exchange.him.auto_retry().await, 0);
    exchange.world.settled().await;
    let (_, body) = exchange.world.get("/health/ready").await;
    assert_eq!(body["transactions"]["open"], 0, "{body}");
    let wanted = person(2)["doc"]["_id"].clone();
    let made = exchange.world.fhir.resources("Patient");
    assert_eq!(made.iter().filter(|patient| patient["identifier"][0]["value"] == wanted).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_core_speaks_for_others() {
    let exchange = Exchange::new(&[]).await;
    let world = &exchange.world;
    let (_, _, transaction) = exchange.post("/mediator/cht/push", &person(1)).await;
    let id = transaction["_id"].as_str().expect("an id").to_string();
    // Another client names OpenHIM's transaction, and another client's name.
    let request = world.http.post(world.url("/fhir/Patient")).basic_auth("emr", Some("route-secret"));
    let request = request.header("x-openhim-transactionid", &id).header("x-openhim-clientid", "somebody");
    let answer = request
        .json(&json!({"resourceType": "Patient", "identifier": [{"value": "17"}]}))
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status().as_u16(), 201);
    assert_eq!(answer.headers()["content-type"], "application/fhir+json");
    let rows = world.settled().await;
    assert_eq!(rows.last().expect("a row").client, "emr");
    assert!(rows.iter().any(|row| row.client == "openhim/cht"));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(exchange.him.transaction(&id), transaction, "nobody else changes it");
    // Two clients of OpenHIM are two: what they call alike is not one.
    let patient = json!({"resourceType": "Patient", "identifier": [{"value": "P-1"}]});
    let before = world.fhir.resources("Patient").len();
    exchange.post_as("emr-a", "/mediator/fhir/Patient", &patient).await;
    exchange.post_as("emr-b", "/mediator/fhir/Patient", &patient).await;
    assert_eq!(world.fhir.resources("Patient").len(), before + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn its_console_configures_us_and_nonsense_changes_nothing() {
    let exchange = Exchange::new(&[]).await;
    for (config, quick) in [
        (json!({"answer_within_ms": "soon", "log_filter": 5}), false),
        (json!({"answer_within_ms": 100}), true),
    ] {
        exchange.him.configure(config);
        tokio::time::sleep(Duration::from_millis(2200)).await;
        exchange.world.fhir.faults().on("POST", "/fhir").hang_next(1, 400);
        let (status, ..) = exchange.post("/mediator/cht/push", &person(usize::from(quick))).await;
        assert_eq!(status == 202, quick);
        exchange.world.settled().await;
    }
}
