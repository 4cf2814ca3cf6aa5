//! kill -9 at every step of the corridor: whoever sends keeps sending until it is told 2xx, the
//! mediator is started again, and then the ledgers at both ends are compared: nothing lost, nothing
//! doubled.
#![cfg(feature = "failpoints")]
#[path = "it/world.rs"]
#[expect(dead_code, reason = "this binary runs the mediator as a process of its own")]
mod world;

use cht_fhir_mediator::failpoint::PLACES;
use cht_fhir_mediator::standins::{callback, cht, fhir};
use serde_json::{Value, json};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use world::{PATIENT, any, fixture, free_port, ltfu};

struct Crash {
    cht: cht::Handle,
    fhir: fhir::Handle,
    emr: callback::Handle,
    http: reqwest::Client,
    folder: tempfile::TempDir,
    port: u16,
    child: Child,
    deaths: usize,
}

impl Crash {
    async fn new(failpoint: &str) -> Self {
        let port = free_port();
        let outbound_url = Some(format!("http://127.0.0.1:{port}/cht/push"));
        let cht =
            cht::start(any(), cht::Options { outbound_url, ..Default::default() }).await.expect("a CHT");
        let fhir = fhir::start(any(), fhir::Options::default()).await.expect("a FHIR server");
        let emr = callback::start(any()).await.expect("an endpoint");
        let folder = tempfile::tempdir().expect("a folder");
        let child = start(port, &folder, &cht, &fhir, failpoint);
        let http =
            reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().expect("a client");
        let mut crash = Self { cht, fhir, emr, http, folder, port, child, deaths: 0 };
        crash.cht.add_person(
            json!({"_id": PATIENT, "type": "person", "name": "Achieng Otieno", "patient_id": "83288"}),
        );
        crash.alive().await;
        crash
    }

    /// Starts the mediator again if it is dead, without a failpoint, and waits until it answers.
    async fn alive(&mut self) {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            if self.child.try_wait().expect("a child").is_some() {
                self.deaths += 1;
                self.child = start(self.port, &self.folder, &self.cht, &self.fhir, "");
            }
            if self.get("/health/live").await.is_some() {
                return;
            }
            assert!(Instant::now() < until, "the mediator does not come up");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn get(&self, path: &str) -> Option<Value> {
        let answer = self.http.get(format!("http://127.0.0.1:{}{path}", self.port)).send().await.ok()?;
        answer.json().await.ok()
    }

    /// Sends until the answer is 2xx, as CHT and a careful EMR do.
    async fn send(&mut self, put: bool, path: &str, body: &Value) -> Value {
        for _ in 0..20 {
            let url = format!("http://127.0.0.1:{}{path}", self.port);
            let request = if put { self.http.put(url) } else { self.http.post(url) };
            if let Ok(answer) = request.json(body).send().await {
                let status = answer.status();
                let body: Value = answer.json().await.unwrap_or_default();
                assert!(status.is_success(), "{path}: {status} {body}");
                return body;
            }
            self.alive().await;
        }
        panic!("{path} was never accepted");
    }

    async fn until<T>(&mut self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            assert!(Instant::now() < until, "never: {what}");
            self.alive().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn settled(&mut self) -> Vec<Value> {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            self.alive().await;
            let rows = self.get("/transactions?limit=10000").await.unwrap_or_default();
            let rows = rows["transactions"].as_array().cloned().unwrap_or_default();
            if !rows.is_empty()
                && rows.iter().all(|row| row["status"] != "open")
                && self.cht.push_again().await == 0
            {
                return rows;
            }
            assert!(Instant::now() < until, "still open: {rows:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Both loops, once each.
    async fn play(&mut self) {
        let person = fixture("full-person-10")["body"].clone();
        self.send(false, "/cht/push", &person).await;
        let referral = fixture("full-report-20")["body"].clone();
        self.cht.add_person(referral["doc"]["patient"].clone());
        self.send(false, "/cht/push", &referral).await;
        self.send(false, "/endpoint", &json!({"resourceType": "Endpoint", "identifier": [{"system": "x", "value": "e"}], "address": self.emr.url()})).await;
        self.send(false, "/organization", &json!({"resourceType": "Organization", "identifier": [{"system": "x", "value": "o"}], "endpoint": [{"reference": "Endpoint/e"}]})).await;
        let mut task = self.until("the Task", |c| c.fhir.resources("Task").pop()).await;
        let mut request = ltfu("SR-1");
        request["requester"] = json!({"reference": "Organization/o"});
        self.send(false, "/fhir/ServiceRequest", &request).await;
        for status in ["accepted", "completed"] {
            task["status"] = json!(status);
            let path = format!("/fhir/Task/{}", task["id"].as_str().expect("an id"));
            self.send(true, &path, &task).await;
        }
        let record = self
            .until("the record", |c| c.cht.reports().into_iter().find(|r| r["form"] == "LTFU_REQUEST"))
            .await;
        let report = self.cht.complete_follow_up(
            record["_id"].as_str().expect("an id"),
            "ltfu_follow_up",
            json!({"outcome": "found"}),
        );
        self.send(false, "/cht/push", &json!({"doc": report.expect("a report")})).await;
    }

    /// Nothing lost, nothing doubled, at either end.
    async fn compare(&mut self, what: &str) {
        let rows = self.settled().await;
        let bad: Vec<_> = rows.iter().filter(|row| row["status"] == "failed").collect();
        assert!(bad.is_empty(), "{what}: {bad:?}");
        let told: Vec<String> = self
            .cht
            .reports()
            .iter()
            .filter(|r| r["form"] == "REF_BACK" || r["form"] == "LTFU_REQUEST")
            .map(|r| {
                format!(
                    "{} {}",
                    r["form"].as_str().unwrap_or_default(),
                    r["fields"]["status"].as_str().unwrap_or_default()
                )
            })
            .collect();
        let mut sorted = told.clone();
        sorted.sort();
        assert_eq!(sorted, ["LTFU_REQUEST ", "REF_BACK accepted", "REF_BACK completed"], "{what}");
        let position = |form: &str| told.iter().position(|t| t == form);
        assert!(position("REF_BACK accepted") < position("REF_BACK completed"), "{what}: out of order");
        let doubled: Vec<_> = self.fhir.ledger().into_iter().filter(|(_, n)| *n != 1).collect();
        assert!(doubled.is_empty(), "{what}: {doubled:?}");
        for (kind, n) in [
            ("Patient", 2),
            ("Task", 1),
            ("ServiceRequest", 2),
            ("Encounter", 2),
            ("Organization", 1),
            ("Endpoint", 1),
        ] {
            assert_eq!(self.fhir.resources(kind).len(), n, "{what}: {kind}");
        }
        let completed =
            self.fhir.resources("ServiceRequest").into_iter().filter(|r| r["status"] == "completed").count();
        assert_eq!(completed, 1, "{what}");
        let mut calls: Vec<String> =
            self.emr.received().into_iter().map(|r| format!("{} {}", r.method, r.path)).collect();
        calls.dedup();
        assert_eq!(calls.len(), 1, "{what}: the requester is told of one Encounter: {calls:?}");
    }
}

impl Drop for Crash {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(
    port: u16,
    folder: &tempfile::TempDir,
    cht: &cht::Handle,
    fhir: &fhir::Handle,
    failpoint: &str,
) -> Child {
    let login = cht::Options::default();
    Command::new(env!("CARGO_BIN_EXE_cht-fhir-mediator"))
        .arg("serve")
        .env("MEDIATOR_FAILPOINT", failpoint)
        .env("MEDIATOR__SERVER__LISTEN", format!("127.0.0.1:{port}"))
        .env("MEDIATOR__JOURNAL__URL", format!("sqlite:{}", folder.path().join("journal.db").display()))
        .env("MEDIATOR__CHT__URL", cht.url())
        .env("MEDIATOR__CHT__USERNAME", login.username)
        .env("MEDIATOR__CHT__PASSWORD", login.password)
        .env("MEDIATOR__FHIR__URL", fhir.url())
        .env("MEDIATOR__FHIR__POLL_SECONDS", "0")
        .env("MEDIATOR__DELIVERY__FIRST_RETRY_MS", "50")
        .env("MEDIATOR__DELIVERY__LONGEST_RETRY_MS", "500")
        .env("MEDIATOR__CALLBACKS__ALLOW_PRIVATE", "true")
        .stderr(Stdio::null())
        .spawn()
        .expect("a mediator")
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step() {
    for place in PLACES {
        for nth in [1, 2, 4, 7] {
            let what = format!("{place}:{nth}");
            let mut crash = Crash::new(&what).await;
            crash.play().await;
            crash.compare(&what).await;
            assert!(crash.deaths > 0 || nth > 4, "{what} was never reached");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_again_and_again_at_any_moment() {
    let mut crash = Crash::new("").await;
    for round in 0..12_u64 {
        let kills = crash.child.id();
        let moment = Duration::from_millis(round * 37 % 113 + 5);
        std::thread::spawn(move || {
            std::thread::sleep(moment);
            let _ = Command::new("kill").args(["-9", &kills.to_string()]).status();
        });
        for i in 0..10 {
            let id = format!("{PATIENT_PREFIX}{:04}{i:04}", round);
            let body = json!({"doc": {"_id": id, "type": "person", "name": "Test Person", "patient_id": format!("9{round:02}{i:02}")}});
            crash.send(false, "/cht/push", &body).await;
        }
        crash.alive().await;
    }
    crash.settled().await;
    assert_eq!(crash.fhir.resources("Patient").len(), 120);
    assert!(crash.fhir.ledger().values().all(|n| *n == 1));
    assert!(crash.deaths >= 10, "{} deaths", crash.deaths);
}

const PATIENT_PREFIX: &str = "a54a8e4f-c505-4ed9-a6f2-eb7b";
