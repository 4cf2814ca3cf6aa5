//! Behind a real OpenHIM: registered, its channels installed, messages through it, reruns, retries.
//! What only later ones do (asynchronous channels, Basic login) is in `it/openhim.rs`, with a stand-in.
use crate::world::{World, fixture, free_port};
use base64::Engine;
use cht_fhir_mediator::http::auth::hash_secret;
use cht_fhir_mediator::standins::cht;
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha512};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const USER: &str = "root@openhim.org";
const PASSWORD: &str = "openhim-password";
const URN: &str = "urn:mediator:cht-fhir-mediator";

struct OpenHim {
    child: Child,
    port: u16,
    http: reqwest::Client,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl OpenHim {
    /// Whoever is told the port may come before OpenHIM does.
    fn start(port: u16) -> Self {
        let child = crate::part("openhim/up.sh")
            .arg(port.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let http = reqwest::Client::builder()
            .no_proxy()
            .danger_accept_invalid_certs(true)
            .timeout(Duration::from_secs(30))
            .build()
            .expect("a client");
        Self { child: child.expect("an OpenHIM"), port, http }
    }

    async fn is_up(&self) {
        let until = Instant::now() + Duration::from_secs(300);
        let url = format!("https://127.0.0.1:{}/heartbeat", self.port);
        while self.http.get(&url).send().await.is_err() {
            assert!(Instant::now() < until, "OpenHIM does not come up");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let base = format!("https://127.0.0.1:{}", self.port);
        let told: Value = self
            .http
            .get(format!("{base}/authenticate/{USER}"))
            .send()
            .await
            .expect("an answer")
            .json()
            .await
            .expect("JSON");
        let (salt, ts) = (told["salt"].as_str().expect("salt"), told["ts"].as_str().expect("time"));
        let inner = hex(&Sha512::digest(format!("{salt}{PASSWORD}")));
        let token = hex(&Sha512::digest(format!("{inner}{salt}{ts}")));
        let mut request = self
            .http
            .request(method, format!("{base}{path}"))
            .header("auth-username", USER)
            .header("auth-ts", ts)
            .header("auth-salt", salt)
            .header("auth-token", token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.expect("an answer");
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("a body");
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call(Method::GET, path, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// One of its users, who may use channels for `role`.
    async fn add_client(&self, id: &str, role: &str) {
        let body = json!({"clientID": id, "name": id, "roles": [role], "passwordAlgorithm": "sha512",
            "passwordSalt": "salt", "passwordHash": hex(&Sha512::digest(format!("{id}-secretsalt")))});
        let (status, answer) = self.call(Method::POST, "/clients", Some(body)).await;
        assert_eq!(status, 201, "{answer}");
    }

    async fn channel(&self, name: &str) -> Value {
        let all = self.get("/channels").await;
        let found = all.as_array().expect("channels").iter().find(|channel| channel["name"] == name);
        found.unwrap_or_else(|| panic!("no channel {name}: {all}")).clone()
    }

    async fn change_channel(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut channel = self.channel(name).await;
        change(&mut channel);
        let path = format!("/channels/{}", channel["_id"].as_str().expect("an id"));
        let (status, answer) = self.call(Method::PUT, &path, Some(channel)).await;
        assert_eq!(status, 200, "{answer}");
        // Core keeps what it knows of channels for a second.
        tokio::time::sleep(Duration::from_millis(1500)).await;
    }

    /// Through the router, as the client `id`.
    async fn post(&self, id: &str, path: &str, body: &Value) -> (u16, Value, String) {
        let answer = self
            .http
            .post(format!("http://127.0.0.1:{}{path}", self.port + 1))
            .basic_auth(id, Some(format!("{id}-secret")))
            .json(body)
            .send()
            .await
            .expect("an answer");
        let status = answer.status().as_u16();
        let header = answer.headers().get("x-openhim-transactionid").and_then(|id| id.to_str().ok());
        let transaction = header.unwrap_or_default().to_string();
        let text = answer.text().await.expect("a body");
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)), transaction)
    }

    async fn transaction(&self, id: &str) -> Value {
        self.get(&format!("/transactions/{id}")).await
    }

    async fn until(&self, id: &str, status: &str) -> Value {
        let until = Instant::now() + Duration::from_secs(400);
        loop {
            let transaction = self.transaction(id).await;
            if transaction["status"] == status {
                return transaction;
            }
            assert!(Instant::now() < until, "never {status}: {transaction}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

impl Drop for OpenHim {
    fn drop(&mut self) {
        let _ = std::process::Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

async fn world(port: u16) -> World {
    let secret = hash_secret("route-secret").expect("a hash");
    let clients = json!([{"id": "openhim", "secret": secret, "roles": ["push", "fhir"], "openhim": true},
        {"id": "ops", "secret": secret, "roles": ["admin"]}]);
    let mut world = World::closed(
        &[
            ("CLIENTS", clients.to_string().as_str()),
            ("OPENHIM__ENABLED", "true"),
            ("OPENHIM__API_URL", &format!("https://127.0.0.1:{port}")),
            ("OPENHIM__USERNAME", USER),
            ("OPENHIM__PASSWORD", PASSWORD),
            ("OPENHIM__CA_FILE", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/parts/openhim/certificate.pem")),
            ("OPENHIM__HEARTBEAT_SECONDS", "1"),
            ("OPENHIM__INSTALL_CHANNELS", "true"),
            ("SERVER__ANSWER_WITHIN_MS", "1500"),
        ],
        cht::Options::default(),
    )
    .await;
    world.settings.openhim.reachable_at = world.url("");
    world.open().await;
    world
}

async fn state(world: &World) -> String {
    world.get("/health/ready").await.1["openhim"].as_str().unwrap_or_default().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_a_real_openhim() {
    if !crate::have_java("real OpenHIM") || !crate::have_node("real OpenHIM") {
        return;
    }
    // OpenHIM takes seven in a row.
    let port = free_port();
    (0..6).for_each(|_| {
        free_port();
    });
    // It works before OpenHIM is there.
    let mut world = world(port).await;
    assert!(state(&world).await.starts_with("not registered"));
    let him = OpenHim::start(port);
    him.is_up().await;
    registered(&him, &world).await;
    a_referral_through_it(&him, &world).await;
    a_server_that_is_away(&him, &world).await;
    reruns(&him, &world).await;
    what_cannot_be_taken(&him, &world).await;
    two_clients_of_openhim_are_two(&him, &world).await;
    configured_from_its_console(&him, &world).await;
    retried_by_itself(&him, &mut world).await;
}

async fn registered(him: &OpenHim, world: &World) {
    let until = Instant::now() + Duration::from_secs(120);
    while state(world).await != "registered" {
        assert!(Instant::now() < until, "{}", state(world).await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let mediator = him.get(&format!("/mediators/{URN}")).await;
    assert_eq!(mediator["version"], env!("CARGO_PKG_VERSION"));
    assert!(mediator["_lastHeartbeat"].is_string() && mediator["_uptime"].is_number(), "{mediator}");
    him.add_client("cht", "chws").await;
    him.add_client("emr", "emrs").await;
    him.add_client("other-emr", "emrs").await;
    // What an operator adds in the console: how OpenHIM shows us who it is.
    for name in ["CHT to FHIR", "FHIR to CHT"] {
        him.change_channel(name, |channel| {
            channel["routes"][0]["username"] = json!("openhim");
            channel["routes"][0]["password"] = json!("route-secret");
        })
        .await;
    }
    // Forgotten, it registers again and leaves the channels as they are.
    let (status, _) = him.call(Method::DELETE, &format!("/mediators/{URN}"), None).await;
    assert_eq!(status, 200);
    let until = Instant::now() + Duration::from_secs(90);
    while him.call(Method::GET, &format!("/mediators/{URN}"), None).await.0 != 200 {
        assert!(Instant::now() < until, "not registered again");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(him.channel("CHT to FHIR").await["routes"][0]["username"], "openhim");
}

async fn a_referral_through_it(him: &OpenHim, world: &World) {
    let push = fixture("full-report-09")["body"].clone();
    let (status, body, id) = him.post("cht", "/mediator/cht/push", &push).await;
    assert_eq!((status, body["status"].as_str()), (200, Some("delivered")), "{body}");
    let transaction = him.until(&id, "Successful").await;
    let calls = transaction["orchestrations"].as_array().expect("orchestrations");
    // Core adds its own call of us.
    let ours = |call: &&Value| call["group"] == "fhir" && call["request"]["method"] == "POST";
    let sent = calls.iter().find(ours).expect("the Bundle");
    let body = sent["request"]["body"].as_str().expect("a body");
    // 4.0.5 keeps bodies as base64.
    let body = match base64::engine::general_purpose::STANDARD.decode(body) {
        Ok(bytes) => String::from_utf8(bytes).expect("text"),
        Err(_) => body.to_string(),
    };
    assert!(body.contains("ServiceRequest"), "{body}");
    assert_eq!(sent["response"]["status"], 200);
    assert_eq!(transaction["properties"]["mediatorStatus"], "delivered");
    assert!(transaction["error"].is_null());
    assert_eq!(world.fhir.resources("ServiceRequest").len(), 1);
    // Whoever may not use the channel does not reach us.
    let before = world.transactions().await.len();
    assert_eq!(him.post("emr", "/mediator/cht/push", &push).await.0, 401);
    assert_eq!(world.transactions().await.len(), before);
    // Who comes by another way is not answered in OpenHIM's words, whatever it says.
    let request = world.http.get(world.url("/transactions")).basic_auth("ops", Some("route-secret"));
    let request = request.header("x-openhim-transactionid", "0123456789abcdef01234567");
    assert!(world.send(request).await.1["transactions"].is_array());
}

fn person(n: usize) -> Value {
    let mut push = fixture("full-person-10")["body"].clone();
    push["doc"]["_id"] = json!(format!("a54a8e4f-c505-4ed9-a6f2-{n:012}"));
    push["doc"]["patient_id"] = json!(format!("9{n:04}"));
    push["doc"]["external_id"] = json!("");
    push
}

async fn a_server_that_is_away(him: &OpenHim, world: &World) {
    world.fhir.faults().set_down(true);
    let (status, body, id) = him.post("cht", "/mediator/cht/push", &person(1)).await;
    assert_eq!((status, body["status"].as_str()), (202, Some("open")), "{body}");
    assert_eq!(him.until(&id, "Processing").await["response"]["status"], 202);
    world.fhir.faults().set_down(false);
    let transaction = him.until(&id, "Successful").await;
    let calls = transaction["orchestrations"].as_array().expect("orchestrations");
    assert!(
        calls.iter().any(|call| call["error"]["message"].is_string()),
        "those that failed are shown: {calls:?}"
    );
    // What nobody can carry out is shown as failed, and not tried again and again.
    world.fhir.faults().on("POST", "/fhir").fail_next(1, 422);
    let (status, body, id) = him.post("cht", "/mediator/cht/push", &person(2)).await;
    assert_eq!((status, body["status"].as_str()), (200, Some("failed")), "{body}");
    assert!(him.until(&id, "Failed").await["error"].is_null());
    // Rerun by our own operator, it is told what came of it.
    let ours = body["transaction"].as_str().expect("an id");
    let request = world.http.post(world.url(&format!("/transactions/{ours}/rerun")));
    assert_eq!(world.send(request.basic_auth("ops", Some("route-secret"))).await.0, 200);
    him.until(&id, "Successful").await;
}

async fn rerun(him: &OpenHim, id: &str) -> String {
    let (status, answer) = him.call(Method::POST, "/tasks", Some(json!({"tids": [id]}))).await;
    assert_eq!(status, 201, "{answer}");
    let until = Instant::now() + Duration::from_secs(120);
    loop {
        let again =
            him.get(&format!("/transactions?filterLimit=100&filterPage=0&filters={}", "%7B%7D")).await;
        let again = again.as_array().expect("transactions").iter().find(|t| t["parentID"] == id).cloned();
        if let Some(id) = again.and_then(|t| t["_id"].as_str().map(String::from)) {
            return id;
        }
        assert!(Instant::now() < until, "never rerun");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn reruns(him: &OpenHim, world: &World) {
    let (_, _, id) = him.post("cht", "/mediator/cht/push", &person(3)).await;
    him.until(&id, "Successful").await;
    let (transactions, ledger) = (world.transactions().await.len(), world.fhir.ledger());
    let again = rerun(him, &id).await;
    him.until(&again, "Successful").await;
    assert_eq!(world.transactions().await.len(), transactions, "a rerun is a repeat");
    assert_eq!(world.fhir.ledger(), ledger);
    // What an EMR sent is still its own when it is rerun.
    let patient = json!({"resourceType": "Patient", "identifier": [{"value": "17"}], "gender": "female"});
    let (status, body, id) = him.post("emr", "/mediator/fhir/Patient", &patient).await;
    assert_eq!(status, 201, "{body}");
    him.until(&id, "Successful").await;
    let transactions = world.transactions().await.len();
    let again = rerun(him, &id).await;
    him.until(&again, "Successful").await;
    assert_eq!(world.transactions().await.len(), transactions);
}

async fn what_cannot_be_taken(him: &OpenHim, world: &World) {
    let before = world.transactions().await.len();
    let wrong = json!({"resourceType": "Patient", "gender": "femal"});
    let (status, body, id) = him.post("emr", "/mediator/fhir/Patient", &wrong).await;
    assert_eq!((status, body["resourceType"].as_str()), (400, Some("OperationOutcome")), "{body}");
    let transaction = him.until(&id, "Completed").await;
    assert!(transaction["error"].is_null(), "nothing that is worth another try: {transaction}");
    assert_eq!(world.transactions().await.len(), before);
}

async fn two_clients_of_openhim_are_two(him: &OpenHim, world: &World) {
    let patient =
        |gender: &str| json!({"resourceType": "Patient", "identifier": [{"value": "P-1"}], "gender": gender});
    let before = world.fhir.resources("Patient").len();
    assert_eq!(him.post("emr", "/mediator/fhir/Patient", &patient("female")).await.0, 201);
    assert_eq!(him.post("other-emr", "/mediator/fhir/Patient", &patient("male")).await.0, 201);
    assert_eq!(world.fhir.resources("Patient").len(), before + 2);
}

async fn configured_from_its_console(him: &OpenHim, world: &World) {
    let config = json!({"answer_within_ms": 200, "log_filter": "warn"});
    let (status, answer) = him.call(Method::PUT, &format!("/mediators/{URN}/config"), Some(config)).await;
    assert_eq!(status, 200, "{answer}");
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.fhir.faults().on("POST", "/fhir").hang_next(1, 1200);
    let started = Instant::now();
    let (status, _, id) = him.post("cht", "/mediator/cht/push", &person(5)).await;
    assert!(
        status == 202 && started.elapsed() < Duration::from_millis(1100),
        "{status} {:?}",
        started.elapsed()
    );
    him.until(&id, "Successful").await;
}

/// The mediator is away: core answers 500, keeps the transaction, and sends it again by itself.
async fn retried_by_itself(him: &OpenHim, world: &mut World) {
    world.close().await;
    assert_eq!(him.post("cht", "/mediator/cht/push", &person(6)).await.0, 500);
    world.open().await;
    let until = Instant::now() + Duration::from_secs(400);
    let wanted = person(6)["doc"]["_id"].clone();
    while !world.fhir.resources("Patient").iter().any(|p| p["identifier"][0]["value"] == wanted) {
        assert!(Instant::now() < until, "never sent again");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
