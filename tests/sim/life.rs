//! The mediator from a start to a `kill -9`. A kill is the end of all its ports: what still runs of it
//! reaches nobody, and what it had not committed is gone.
use crate::fate::{Fate, Machine, lock};
use crate::net::{Link, Neighbour};
use crate::stage::Stage;
use async_trait::async_trait;
use axum::Router;
use cht_fhir_mediator::config::FhirServer as FhirServerSettings;
use cht_fhir_mediator::flow::corridor::Corridor;
use cht_fhir_mediator::flow::ports::FhirServer;
use cht_fhir_mediator::house::{self, Surroundings};
use cht_fhir_mediator::http::Door;
use cht_fhir_mediator::journal::embedded::Embedded;
use cht_fhir_mediator::journal::one_thread::Disk;
use cht_fhir_mediator::systems::callbacks::HttpCallbacks;
use cht_fhir_mediator::systems::cht::ChtApi;
use cht_fhir_mediator::systems::client::Http;
use cht_fhir_mediator::systems::fhir_server::FhirApi;
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;

pub struct Life {
    fate: Arc<Fate>,
    steps: AtomicU64,
    /// The step at which it is killed; 0: at none.
    last: u64,
    pub dead: CancellationToken,
}

impl Life {
    pub fn new(fate: Arc<Fate>, last: u64) -> Arc<Self> {
        Arc::new(Self { fate, steps: AtomicU64::new(0), last, dead: CancellationToken::new() })
    }

    /// A step between the mediator and the world, after at most so many milliseconds. Nobody comes out of
    /// it who is dead by then.
    pub async fn pass(&self, most: u64) {
        self.fate.pause(most).await;
        if self.steps.fetch_add(1, Relaxed) + 1 == self.last && !self.fate.is_calm() {
            self.fate.note("killed");
            self.dead.cancel();
        }
        if self.dead.is_cancelled() {
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl Disk for Life {
    async fn commits(&self, waited_for: bool) -> bool {
        self.pass(if waited_for { 4 } else { 100 }).await;
        let works = !self.fate.strikes(self.fate.temper.disk_full);
        self.fate.note(if works { "journal: commits" } else { "journal: the disk is full" });
        works
    }

    async fn reads(&self) {
        self.pass(1).await;
    }
}

/// All that outlives the mediator.
pub struct Outside {
    pub disk: Arc<Mutex<Connection>>,
    pub cht: Arc<Neighbour>,
    pub fhir: Arc<Neighbour>,
    pub emr: Arc<Neighbour>,
}

#[derive(Clone)]
pub struct Mediator {
    pub life: Arc<Life>,
    pub door: Router,
    pub corridor: Corridor,
}

impl Mediator {
    /// None if it is killed before it is there.
    pub async fn start(stage: &Stage, fate: &Arc<Fate>, outside: &Outside, last: u64) -> Option<Self> {
        let life = Life::new(fate.clone(), last);
        let around = surroundings(stage, fate, outside, &life);
        let servers = around.servers.clone();
        let corridor = house::corridor(&stage.settings, around, stage.mappings.clone());
        let started = tokio::select! {
            biased;
            () = life.dead.cancelled() => false,
            started = corridor.start() => started.is_ok(),
        };
        if !started {
            // A disk that is full at the start ends it; whoever watches over it starts it again.
            fate.note("it does not start");
            life.dead.cancel();
            return None;
        }
        house::start_polls(&stage.settings, &servers, &corridor);
        fate.note("started");
        Some(Self { life, door: door(stage, &corridor), corridor })
    }
}

fn surroundings(stage: &Stage, fate: &Arc<Fate>, outside: &Outside, life: &Arc<Life>) -> Surroundings {
    let to = |neighbour: &Arc<Neighbour>| {
        let link = Link { life: life.clone(), to: neighbour.clone() };
        Http::over(stage.client.clone(), Arc::new(link))
    };
    let settings = &stage.settings;
    let journal = Embedded::in_one_thread(outside.disk.clone(), life.clone(), settings.journal.max_open);
    let server = FhirServerSettings { transactions: !fate.temper.singly, ..settings.fhir.clone() };
    let fhir: Arc<dyn FhirServer> =
        Arc::new(FhirApi::over(to(&outside.fhir), "fhir", &server).expect("a server"));
    Surroundings {
        journal: Arc::new(journal.expect("a journal")),
        cht: Arc::new(ChtApi::over(to(&outside.cht), &settings.cht)),
        servers: BTreeMap::from([("fhir".to_string(), fhir)]),
        callbacks: Arc::new(HttpCallbacks::over(to(&outside.emr), &settings.callbacks)),
        clock: Arc::new(Machine::start(fate.clone())),
        chance: fate.clone(),
    }
}

fn door(stage: &Stage, corridor: &Corridor) -> Router {
    let settings = &stage.settings;
    let answer_within = Arc::new(AtomicU64::new(settings.server.answer_within_ms));
    let (clients, metrics) = (stage.clients.clone(), stage.metrics.clone());
    Door::new(settings, corridor.clone(), clients, metrics, None, answer_within).router("")
}

/// Who is alive now, if anybody.
#[derive(Default)]
pub struct Now(Mutex<Option<Mediator>>);

impl Now {
    pub fn set(&self, mediator: Option<Mediator>) {
        if let Some(dead) = std::mem::replace(&mut *lock(&self.0), mediator) {
            // What is left of it sleeps for good.
            dead.corridor.stopping().cancel();
        }
    }

    pub fn get(&self) -> Option<Mediator> {
        lock(&self.0).clone().filter(|mediator| !mediator.life.dead.is_cancelled())
    }
}
