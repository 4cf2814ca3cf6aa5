//! A mediator in this process with a journal of its own, a CHT, a FHIR server and an EMR's endpoint:
//! stand-ins that keep the contracts.
use cht_fhir_mediator::config::{self, Settings};
use cht_fhir_mediator::flow::ports::{Filter, Row};
use cht_fhir_mediator::house::House;
use cht_fhir_mediator::standins::{callback, cht, fhir};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

pub const PATIENT: &str = "a54a8e4f-c505-4ed9-a6f2-eb7bdad2fb9d";

pub struct World {
    pub cht: cht::Handle,
    pub fhir: fhir::Handle,
    pub emr: callback::Handle,
    pub house: Option<House>,
    pub settings: Settings,
    pub http: reqwest::Client,
    /// Keeps the journal's folder.
    _folder: tempfile::TempDir,
}

pub fn any() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// A port that stays ours until we listen on it: below those that the system gives to outgoing
/// connections, and never the same twice in a process.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % 100) as u16 * 100;
    loop {
        let port = 15_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 15_000;
        if std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

pub fn fixture(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/pushes/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).expect("a fixture")).expect("JSON")
}

impl World {
    pub async fn new() -> Self {
        Self::with(&[], cht::Options::default()).await
    }

    /// With further settings (`MEDIATOR__...`), and a CHT that pushes to the mediator.
    pub async fn with(further: &[(&str, &str)], options: cht::Options) -> Self {
        let mut world = Self::closed(further, options).await;
        world.open().await;
        world
    }

    /// The same, not yet open.
    pub async fn closed(further: &[(&str, &str)], options: cht::Options) -> Self {
        let port = free_port();
        let options = cht::Options {
            outbound_url: Some(format!("http://127.0.0.1:{port}/mediator/cht/push")),
            ..options
        };
        let cht = cht::start(any(), options.clone()).await.expect("a CHT");
        let fhir = fhir::start(any(), fhir::Options::default()).await.expect("a FHIR server");
        let emr = callback::start(any()).await.expect("an endpoint");
        let folder = tempfile::tempdir().expect("a folder");
        let journal = format!("sqlite:{}", folder.path().join("journal.db").display());
        let own = [
            ("SERVER__LISTEN", format!("127.0.0.1:{port}")),
            ("JOURNAL__URL", journal),
            ("CHT__URL", cht.url()),
            ("CHT__USERNAME", options.username.clone()),
            ("CHT__PASSWORD", options.password.clone()),
            ("FHIR__URL", fhir.url()),
            ("FHIR__POLL_SECONDS", "0".into()),
            ("DELIVERY__FIRST_RETRY_MS", "50".into()),
            ("DELIVERY__LONGEST_RETRY_MS", "500".into()),
            ("DELIVERY__BREAKER_PAUSE_MS", "300".into()),
            ("CALLBACKS__ALLOW_PRIVATE", "true".into()),
            ("CHT__INDEX_LAG_MS", "300".into()),
        ];
        let environment = own.into_iter().map(|(key, value)| (format!("MEDIATOR__{key}"), value));
        let further = further.iter().map(|(key, value)| (format!("MEDIATOR__{key}"), value.to_string()));
        let settings =
            config::load(None, environment.chain(further)).map_err(|e| format!("{e:?}")).expect("settings");
        Self {
            cht,
            fhir,
            emr,
            house: None,
            settings,
            http: reqwest::Client::builder().no_proxy().build().expect("a client"),
            _folder: folder,
        }
    }

    pub async fn open(&mut self) {
        self.house = Some(House::open(&self.settings).await.expect("an open house"));
    }

    pub async fn close(&mut self) {
        if let Some(house) = self.house.take() {
            house.close().await;
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.settings.server.listen)
    }

    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send(self.http.post(self.url(path)).json(body)).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send(self.http.put(self.url(path)).json(body)).await
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.send(self.http.get(self.url(path))).await
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> (u16, Value) {
        let answer = request.send().await.expect("an answer");
        let status = answer.status().as_u16();
        let bytes = answer.bytes().await.expect("a body");
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    pub async fn transactions(&self) -> Vec<Row> {
        let house = self.house.as_ref().expect("an open house");
        house.corridor.journal().list(Filter::default()).await.expect("a list")
    }

    /// Until no transaction is open.
    pub async fn settled(&self) -> Vec<Row> {
        let until = Instant::now() + Duration::from_secs(90);
        loop {
            let all = self.transactions().await;
            if all.iter().all(|row| row.status != "open") {
                return all;
            }
            assert!(
                Instant::now() < until,
                "still open: {}",
                json!(all.iter().filter(|r| r.status == "open").collect::<Vec<_>>())
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Until something holds that takes a moment.
    pub async fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let until = Instant::now() + Duration::from_secs(90);
        while !holds(self) {
            assert!(Instant::now() < until, "never: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Makes CHT know the patient of most fixtures.
    pub fn know_patient(&self) {
        self.cht.add_person(
            json!({"_id": PATIENT, "type": "person", "name": "Achieng Otieno", "patient_id": "83288",
            "sex": "female", "date_of_birth": "1992-03-14", "phone": "+254712000101"}),
        );
    }
}

pub fn ltfu(identifier: &str) -> Value {
    json!({"resourceType": "ServiceRequest", "status": "active", "intent": "order", "priority": "urgent",
        "identifier": [{"system": "urn:emr:requests", "value": identifier}],
        "code": {"text": "Find patient lost to follow-up"}, "reasonCode": [{"text": "Missed ART refill"}],
        "occurrenceDateTime": "2026-10-28", "subject": {"identifier": {"system": "urn:cht:uuid", "value": PATIENT}}})
}
