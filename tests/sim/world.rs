//! One run: the mediator in all its lives, its neighbours, and what became of it.
use crate::check;
use crate::fate::{BEGINNING, Fate, lock};
use crate::life::{Mediator, Now, Outside};
use crate::net::{FLIGHT, Neighbour, call};
use crate::play;
use crate::stage::{FHIR, stage};
use axum::Router;
use axum::body::Body;
use axum::http::{self, Method};
use cht_fhir_mediator::planted::{Bug, plant};
use cht_fhir_mediator::standins::{callback, cht, fhir};
use rusqlite::Connection;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const USERNAME: &str = "interop-client";
pub const PASSWORD: &str = "interop-password";

/// How long things fail at most.
const STORM: Duration = Duration::from_secs(90);
/// How long all may take to settle once nothing fails.
const SETTLES: Duration = Duration::from_secs(3600);
/// How long CHT's search lags behind; `cht.index_lag_ms` is longer by what a request may be on its way.
const INDEX_LAG: Duration = Duration::from_secs(2);

pub struct World {
    pub fate: Arc<Fate>,
    pub cht: cht::Handle,
    pub fhir: Arc<fhir::Handle>,
    pub emr: callback::Handle,
    pub now: Now,
    outside: Outside,
    /// Transactions by which a sender was told that its message is safe.
    pub acknowledged: Mutex<Vec<String>>,
    pub expected: Mutex<check::Expected>,
    /// What no sender should have been told.
    pub refused: Mutex<Vec<String>>,
    /// Each patient's versions, in the order in which they stood on the FHIR server.
    pub stood: Arc<Mutex<BTreeMap<String, Vec<u64>>>>,
}

/// What one run came to.
#[derive(PartialEq, Eq)]
pub struct Run {
    pub violations: Vec<String>,
    pub lines: Vec<String>,
}

/// One run, from its seed alone; `is_told` as it goes.
pub fn run(seed: u64, bug: Option<Bug>, is_told: bool) -> Run {
    plant(bug);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let world = Arc::new(World::new(seed, is_told));
        let violations = world.clone().live().await;
        Run { violations, lines: world.fate.lines() }
    })
}

impl World {
    fn new(seed: u64, is_told: bool) -> Self {
        let fate = Arc::new(Fate::new(seed, is_told));
        let (username, password) = (USERNAME.into(), PASSWORD.into());
        let options = cht::Options {
            username,
            password,
            index_delay: INDEX_LAG,
            clock: Some(BEGINNING),
            ..Default::default()
        };
        let (cht, cht_routes) = cht::unbound(options).expect("a CHT");
        let options = fhir::Options { clock: Some(BEGINNING), ..Default::default() };
        let (fhir, fhir_routes) = fhir::unbound(FHIR, options);
        let (emr, emr_routes) = callback::unbound();
        let fhir = Arc::new(fhir);
        let neighbour = |name, router: Router, watch: Box<dyn Fn() + Send + Sync>| {
            Arc::new(Neighbour { name, router, fate: fate.clone(), watch })
        };
        let stood: Arc<Mutex<BTreeMap<String, Vec<u64>>>> = Arc::default();
        let (seen, server, noted) = (stood.clone(), fhir.clone(), fate.clone());
        let outside = Outside {
            disk: Arc::new(Mutex::new(Connection::open_in_memory().expect("a disk"))),
            cht: neighbour("CHT", cht_routes, Box::new(|| ())),
            fhir: neighbour("FHIR", fhir_routes, Box::new(move || note_versions(&server, &seen, &noted))),
            emr: neighbour("EMR", emr_routes, Box::new(|| ())),
        };
        Self {
            fate,
            cht,
            fhir,
            emr,
            now: Now::default(),
            outside,
            acknowledged: Mutex::default(),
            expected: Mutex::default(),
            refused: Mutex::default(),
            stood,
        }
    }

    /// The storm, the calm after it, and what is wrong then.
    async fn live(self: Arc<Self>) -> Vec<String> {
        tokio::spawn(self.clone().keep_alive());
        tokio::spawn(self.clone().turn_the_clock());
        let mut playing = tokio::spawn(play::play(self.clone()));
        let ended = tokio::time::timeout(STORM, &mut playing).await.is_ok();
        self.fate.pause(20_000).await;
        self.fate.calm();
        let settled = async {
            if !ended && playing.await.is_err() {
                self.fate.note("the play broke off");
            }
            self.settled().await
        };
        match tokio::time::timeout(SETTLES, settled).await {
            Ok(mediator) => check::violations(&self, &mediator).await,
            Err(_) => vec!["something is open for ever".into()],
        }
    }

    /// Starts the mediator whenever it is dead.
    async fn keep_alive(self: Arc<Self>) {
        for life in 0.. {
            let dies = life < self.fate.temper.kills && !self.fate.is_calm();
            let last = if dies { self.fate.between(1, 400) } else { 0 };
            if let Some(mediator) = Mediator::start(stage(), &self.fate, &self.outside, last).await {
                self.now.set(Some(mediator.clone()));
                mediator.life.dead.cancelled().await;
                self.now.set(None);
            }
            tokio::time::sleep(Duration::from_millis(2 * FLIGHT + self.fate.between(0, 5000))).await;
        }
    }

    async fn turn_the_clock(self: Arc<Self>) {
        while self.fate.temper.clock_jumps && !self.fate.is_calm() {
            self.fate.pause(20_000).await;
            if !self.fate.is_calm() {
                let wrong_by = self.fate.between(0, 60_000) as i64 - 30_000;
                self.fate.wrong_by.store(wrong_by, Relaxed);
                self.fate.note(format!("the mediator's clock is wrong by {wrong_by} ms"));
            }
        }
    }

    /// When nothing is open, and polls have found nothing more.
    async fn settled(&self) -> Mediator {
        let mut idle = 0;
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            let mediator = self.now.get();
            match mediator.filter(|mediator| mediator.corridor.state().0 == 0) {
                Some(mediator) if idle == 10 => return mediator,
                Some(_) => idle += 1,
                None => idle = 0,
            }
        }
    }

    /// Sends it until it is told that it is safe.
    pub async fn send(&self, method: Method, path: &str, body: &Value) {
        loop {
            let answer = self.ask(method.clone(), path, body).await;
            let told = match &answer {
                Some((status, transaction)) => format!("{status} {transaction}"),
                None => "no answer".into(),
            };
            self.fate.note(format!("sender: {method} {path} {}: {told}", play::called(body)));
            match answer {
                Some((200..300, transaction)) => return lock(&self.acknowledged).push(transaction),
                Some((status @ 400..500, _)) => return lock(&self.refused).push(format!("{path}: {status}")),
                _ => self.fate.pause(3000).await,
            }
        }
    }

    /// The status and the transaction; none: no answer came.
    async fn ask(&self, method: Method, path: &str, body: &Value) -> Option<(u16, String)> {
        self.fate.pause(FLIGHT).await;
        let temper = self.fate.temper;
        let mediator = self.now.get()?;
        if self.fate.strikes(temper.lost_before) {
            return None;
        }
        let request =
            http::Request::builder().method(method).uri(path).header("content-type", "application/json");
        let request = request.body(Body::from(body.to_string())).expect("a request");
        let patience = if self.fate.strikes(temper.hangs_up) { self.fate.between(0, 100) } else { 12_000 };
        let answer = tokio::select! {
            biased;
            () = mediator.life.dead.cancelled() => None,
            answer = call(mediator.door, request) => Some(answer),
            () = tokio::time::sleep(Duration::from_millis(patience)) => None,
        }?;
        self.fate.pause(FLIGHT).await;
        if self.fate.strikes(temper.lost_after) {
            return None;
        }
        let transaction = answer.headers().get("x-transaction-id").and_then(|id| id.to_str().ok());
        Some((answer.status().as_u16(), transaction.unwrap_or_default().to_string()))
    }

    /// What takes a while to be there.
    pub async fn until<T>(&self, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
    }
}

/// A version counts once for as long as it stands.
fn note_versions(server: &fhir::Handle, stood: &Mutex<BTreeMap<String, Vec<u64>>>, fate: &Fate) {
    for patient in server.resources("Patient") {
        let Some((uuid, version)) = play::version_of(&patient) else { continue };
        let mut stood = lock(stood);
        let versions = stood.entry(uuid.clone()).or_default();
        if versions.last() != Some(&version) {
            fate.note(format!("Patient of {uuid} stands at version {version}"));
            versions.push(version);
        }
    }
}
