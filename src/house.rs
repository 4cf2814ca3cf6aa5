//! Puts the rooms together; alone knows all of them.
use crate::config::{FhirServer as ServerSettings, Settings};
use crate::domain::audit::{Act, Agent, Kind};
use crate::flow::corridor::{Corridor, Options, Traffic};
use crate::flow::gate::{Gate, Limits};
use crate::flow::identify::Neighbours;
use crate::flow::lapse;
use crate::flow::poll::{self, Poll};
use crate::flow::ports::{Callbacks, Chance, Cht, Clock, FhirServer, Journal, Millis, OpenHim};
use crate::flow::retry::Backoff;
use crate::http::Door;
use crate::http::auth::Clients;
use crate::http::server::Server;
use crate::journal::claim::Claim;
use crate::journal::embedded::Embedded;
use crate::journal::seal::Keys;
use crate::systems::callbacks::HttpCallbacks;
use crate::systems::cht::ChtApi;
use crate::systems::fhir_server::FhirApi;
use crate::systems::openhim::{Membership, OpenHimApi};
use crate::translate::language::mistake::Mistake;
use crate::translate::{self, Mappings};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

pub struct SystemClock {
    started: Instant,
    at: Millis,
}

impl SystemClock {
    pub fn start() -> Self {
        Self { started: Instant::now(), at: jiff::Timestamp::now().as_millisecond() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Millis {
        jiff::Timestamp::now().as_millisecond()
    }

    fn steady(&self) -> Millis {
        self.at + self.started.elapsed().as_millis() as Millis
    }
}

pub struct SystemChance;

impl Chance for SystemChance {
    fn id(&self) -> uuid::Uuid {
        uuid::Uuid::now_v7()
    }

    fn fraction(&self) -> f64 {
        rand::random()
    }
}

/// All that a corridor is not itself.
pub struct Surroundings {
    pub journal: Arc<dyn Journal>,
    pub cht: Arc<dyn Cht>,
    pub servers: BTreeMap<String, Arc<dyn FhirServer>>,
    pub callbacks: Arc<dyn Callbacks>,
    pub clock: Arc<dyn Clock>,
    pub chance: Arc<dyn Chance>,
}

/// A corridor by these settings, not yet started.
pub fn corridor(settings: &Settings, around: Surroundings, mappings: Arc<Mappings>) -> Corridor {
    let traffic = Arc::new(traffic(settings, around.clock.clone()));
    let facilities = settings.clients.iter().map(|c| (c.id.clone(), c.facilities.clone())).collect();
    let near = Neighbours {
        clock: around.clock.clone(),
        mappings: mappings.clone(),
        follow_up: settings.follow_up.clone(),
        people: settings.people.clone(),
        facilities,
        journal: around.journal,
        cht: around.cht,
        servers: around.servers,
        callbacks: around.callbacks,
        guard: traffic.clone(),
        to: settings.delivery.to.clone(),
    };
    Corridor::new(near, mappings, traffic, around.clock, around.chance, options(settings))
}

pub struct House {
    pub corridor: Corridor,
    pub address: SocketAddr,
    pub live: Live,
    door: Door,
    stop: CancellationToken,
    server: tokio::task::JoinHandle<()>,
    within: Duration,
    /// Let go of last.
    _claim: Claim,
}

/// Sets a log filter; answers why it cannot be one.
pub type SetLogFilter = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// What may change while we run, without a restart.
#[derive(Clone)]
pub struct Live {
    answer_within: Arc<AtomicU64>,
    /// Set by whoever set up the log.
    pub log_filter: Arc<OnceLock<SetLogFilter>>,
    /// The filter that OpenHIM's console has set.
    filter: Arc<Mutex<String>>,
}

impl Live {
    /// The mediator's configuration in OpenHIM's console; what is not there stays as our own says. Answers
    /// what is other than before.
    fn configure(&self, config: &Value) -> BTreeMap<String, String> {
        let mut changed = BTreeMap::new();
        match &config["answer_within_ms"] {
            Value::Null => {}
            value => match value.as_u64().filter(|ms| (1..=600_000).contains(ms)) {
                Some(ms) if self.answer_within.swap(ms, Relaxed) != ms => {
                    changed.insert("answer_within_ms".into(), ms.to_string());
                }
                Some(_) => {}
                None => {
                    tracing::warn!("answer_within_ms of OpenHIM's configuration is no number of milliseconds")
                }
            },
        }
        if let Some(filter) = config["log_filter"].as_str().filter(|filter| !filter.is_empty())
            && let Some(set) = self.log_filter.get()
        {
            match set(filter) {
                Ok(()) => {
                    let mut known = self.filter.lock().unwrap_or_else(PoisonError::into_inner);
                    if std::mem::replace(&mut *known, filter.into()) != filter {
                        changed.insert("log_filter".into(), filter.into());
                    }
                }
                Err(error) => tracing::warn!(error, "log_filter of OpenHIM's configuration"),
            }
        }
        changed
    }
}

fn membership(
    settings: &Settings,
    live: &Live,
    corridor: &Corridor,
) -> Result<Option<Arc<Membership>>, String> {
    if !settings.openhim.enabled {
        return Ok(None);
    }
    let api = Arc::new(OpenHimApi::new(&settings.openhim).map_err(|e| format!("openhim: {e}"))?);
    let (live, corridor) = (live.clone(), corridor.clone());
    let configure = Arc::new(move |config: &Value| {
        let settings = live.configure(config);
        if !settings.is_empty() {
            let console = Agent::new(Kind::OpenHim, "", None);
            corridor.journal().note(corridor.event(console, Act::Configured { settings }));
        }
    });
    Ok(Some(Arc::new(Membership::new(api, &settings.openhim, configure))))
}

pub fn journal_path(settings: &Settings) -> &Path {
    Path::new(settings.journal.url.trim_start_matches("sqlite:"))
}

/// Settings that name mappings and profiles which are not there: the key, and what was expected.
pub fn unknown_names(settings: &Settings, mappings: &Mappings) -> Vec<(String, String)> {
    let names = mappings.all_names();
    let to = settings.delivery.to.keys().filter(|name| *name != "default" && !names.contains(name));
    let told = format!("there is no mapping of this name; there are: {}", names.join(", "));
    let of_mappings = to.map(|name| (format!("delivery.to.{name}"), told.clone()));
    let profiles = translate::unknown_profiles(&settings.server.profiles).into_iter();
    of_mappings.chain(profiles.map(|(kind, why)| (format!("server.profiles.{kind}"), why))).collect()
}

pub fn journal_keys(settings: &Settings) -> Keys {
    Keys::new(settings.journal.key.iter().map(Arc::as_ref))
}

/// Opens the journal of the settings, to read it.
pub fn journal(settings: &Settings) -> Result<Embedded, String> {
    let path = journal_path(settings);
    Embedded::open_with(path, settings.journal.max_open, &journal_keys(settings))
        .map_err(|e| format!("{}: {e}", path.display()))
}

/// The same, to work on it.
fn own_journal(settings: &Settings) -> Result<Embedded, String> {
    let journal = journal(settings)?;
    if let Some(objection) = journal.objection() {
        return Err(format!("{}: {objection}", journal_path(settings).display()));
    }
    let newest = journal_keys(settings).newest().map(|key| key.id.clone());
    if journal.sealed_with() != newest.as_deref() {
        tracing::warn!("the journal is sealed with an older key; stop, and run `journal rekey`");
    }
    tracing::info!("the journal is {}", journal_keys(settings).kept());
    Ok(journal)
}

impl House {
    /// Opens the door, takes up what was open, and works. No neighbour has to be there.
    pub async fn open(settings: &Settings) -> Result<Self, String> {
        Self::open_by(Arc::new(SystemClock::start()), settings).await
    }

    /// The same by another clock.
    pub async fn open_by(clock: Arc<dyn Clock>, settings: &Settings) -> Result<Self, String> {
        let metrics = metrics_handle()?;
        let server = Server::bind(&settings.server).await?;
        let address = server.address().map_err(|e| e.to_string())?;
        let claim = Claim::on(journal_path(settings))?;
        let journal = own_journal(settings)?;
        journal.check().map_err(|e| format!("{}: {e}", journal_path(settings).display()))?;
        let journal: Arc<dyn Journal> = Arc::new(journal);
        let servers = servers(settings)?;
        let around = Surroundings {
            journal: journal.clone(),
            cht: Arc::new(ChtApi::new(&settings.cht).map_err(|e| format!("cht: {e}"))?),
            servers: servers.clone(),
            callbacks: Arc::new(
                HttpCallbacks::new(&settings.callbacks).map_err(|e| format!("callbacks: {e}"))?,
            ),
            clock: clock.clone(),
            chance: Arc::new(SystemChance),
        };
        let mappings = Mappings::new(&settings.translate).map_err(|mistakes| told(&mistakes))?;
        if let Some((key, why)) = unknown_names(settings, &mappings).into_iter().next() {
            return Err(format!("{key}: {why}"));
        }
        for warning in translate::proof::at_start(&mappings) {
            tracing::warn!("{warning}");
        }
        let corridor = corridor(settings, around, Arc::new(mappings));
        let answer_within = Arc::new(AtomicU64::new(settings.server.answer_within_ms));
        let live =
            Live { answer_within: answer_within.clone(), log_filter: Arc::default(), filter: Arc::default() };
        let membership = membership(settings, &live, &corridor)?;
        let started = corridor.event(Agent::mediator(), started(settings, address));
        journal.record(started).await.map_err(|e| format!("the audit trail: {e}"))?;
        let taken_up = corridor.start().await.map_err(|e| e.to_string())?;
        start_polls(settings, &servers, &corridor);
        let every = Duration::from_secs(settings.follow_up.check_seconds.max(1));
        tokio::spawn(lapse::run(corridor.clone(), every));
        tokio::spawn(retain(corridor.clone(), settings.journal.keep_days, settings.journal.keep_bodies_days));
        let open = settings.clients.is_empty();
        let openhim = membership.clone().map(|membership| membership as Arc<dyn OpenHim>);
        let clients = Arc::new(Clients::new(&settings.clients, open));
        let door = Door::new(settings, corridor.clone(), clients, metrics, openhim, answer_within);
        if let Some(membership) = membership {
            tokio::spawn(membership.run(journal, clock, corridor.stopping()));
        }
        tokio::spawn(keep_trail(door.clone(), corridor.clone(), settings.audit.keep_days));
        let within = Duration::from_millis(settings.server.shutdown_within_ms);
        let stop = CancellationToken::new();
        let router = door.clone().router(&settings.server.base_path);
        let server = tokio::spawn(server.run(router, stop.clone(), within));
        tracing::info!(%address, taken_up, "open");
        Ok(Self { corridor, address, live, door, stop, server, within, _claim: claim })
    }

    /// No new callers; those inside are answered; what is under way finishes or is parked.
    pub async fn close(self) {
        let half = self.within / 2;
        self.stop.cancel();
        self.corridor.shut_down(half).await;
        let mut server = self.server;
        if tokio::time::timeout(half, &mut server).await.is_err() {
            server.abort();
            // What it would still take in, the next start might not see.
            let _ = server.await;
        }
        self.door.count_refusals();
        let stopped = self.corridor.event(Agent::mediator(), Act::Stopped);
        if let Err(error) = self.corridor.journal().record(stopped).await {
            tracing::error!(%error, "the audit trail does not say that we stopped");
        }
        tell_head(&self.corridor).await;
        tracing::info!("closed");
    }
}

/// What we are, and where the names of destinations in the trail lead.
fn started(settings: &Settings, address: SocketAddr) -> Act {
    let servers = all_servers(settings).map(|(name, server)| (name.to_string(), server.url.clone()));
    let cht = ("cht".to_string(), settings.cht.url.clone());
    Act::Started {
        version: env!("CARGO_PKG_VERSION").into(),
        listens: address.to_string(),
        reaches: servers.chain([cht]).collect(),
    }
}

/// The hash of the newest record goes to the log: whoever rewrites the whole trail cannot rewrite that too.
async fn tell_head(corridor: &Corridor) {
    match corridor.journal().head().await {
        Ok(head) => {
            let (records, head) = head.unwrap_or_default();
            tracing::info!(records, %head, "audit trail");
        }
        Err(error) => tracing::error!(%error, "the audit trail cannot be read"),
    }
}

/// Each minute refusals that were only counted are recorded, each hour the log is told the head, each day what
/// is too old goes.
async fn keep_trail(door: Door, corridor: Corridor, keep_days: u32) {
    let stop = corridor.stopping();
    let mut minute = tokio::time::interval(Duration::from_secs(60));
    for i in 0_u64.. {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = minute.tick() => {}
        }
        door.count_refusals();
        if i % 60 == 0 {
            tell_head(&corridor).await;
        }
        if i % 1440 == 0 && keep_days > 0 {
            cut_trail(&corridor, keep_days).await;
        }
    }
}

async fn cut_trail(corridor: &Corridor, keep_days: u32) {
    let now = corridor.now();
    let before = now - i64::from(keep_days) * 86_400_000;
    loop {
        match corridor.journal().cut(before, now).await {
            Ok(0) => return,
            Ok(_) => tokio::time::sleep(Duration::from_secs(1)).await,
            Err(error) => return tracing::error!(%error, "the audit trail cannot be cut"),
        }
    }
}

fn told(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// One recorder a process, whoever opens a house first.
fn metrics_handle() -> Result<PrometheusHandle, String> {
    static HANDLE: OnceLock<Result<PrometheusHandle, String>> = OnceLock::new();
    let install = || {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("size".into()), &[1.0, 2.0, 4.0, 8.0, 16.0, 64.0, 256.0])
            .map_err(|e| e.to_string())?;
        builder.install_recorder().map_err(|e| e.to_string())
    };
    HANDLE.get_or_init(install).clone()
}

fn all_servers(settings: &Settings) -> impl Iterator<Item = (&str, &ServerSettings)> {
    std::iter::once(("fhir", &settings.fhir))
        .chain(settings.destinations.iter().map(|(name, s)| (name.as_str(), s)))
}

fn servers(settings: &Settings) -> Result<BTreeMap<String, Arc<dyn FhirServer>>, String> {
    all_servers(settings)
        .map(|(name, server)| {
            let api: Arc<dyn FhirServer> =
                Arc::new(FhirApi::new(name, server).map_err(|e| format!("{name}: {e}"))?);
            Ok((name.to_string(), api))
        })
        .collect()
}

fn traffic(settings: &Settings, clock: Arc<dyn Clock>) -> Traffic {
    let limits = |max_concurrent| Limits {
        max_concurrent,
        breaker_failures: settings.delivery.breaker_failures,
        breaker_pause: Duration::from_millis(settings.delivery.breaker_pause_ms),
    };
    let mut gates: HashMap<String, Gate> = all_servers(settings)
        .map(|(name, s)| (name.to_string(), Gate::new(limits(s.max_concurrent))))
        .collect();
    gates.insert("cht".into(), Gate::new(limits(settings.cht.max_concurrent)));
    Traffic::new(gates, limits(settings.callbacks.max_concurrent), clock)
}

fn options(settings: &Settings) -> Options {
    let delivery = &settings.delivery;
    // Every destination can be as busy as it may, and there is still somebody to translate.
    let busiest: usize = all_servers(settings).map(|(_, s)| s.max_concurrent).sum();
    Options {
        backoff: Backoff {
            first: Duration::from_millis(delivery.first_retry_ms),
            longest: Duration::from_millis(delivery.longest_retry_ms),
            give_up_after: Duration::from_secs(u64::from(delivery.give_up_after_hours) * 3600),
        },
        index_lag: Duration::from_millis(settings.cht.index_lag_ms),
        max_running: busiest + settings.cht.max_concurrent + 64,
        holds_up: Duration::from_millis(settings.callbacks.holds_up_ms),
    }
}

/// Begins to ask the servers that do not tell.
pub fn start_polls(
    settings: &Settings,
    servers: &BTreeMap<String, Arc<dyn FhirServer>>,
    corridor: &Corridor,
) {
    for (name, server) in all_servers(settings).filter(|(_, s)| s.poll_seconds > 0) {
        if let Some(api) = servers.get(name) {
            let poll = Poll {
                destination: name.to_string(),
                server: api.clone(),
                every: Duration::from_secs(server.poll_seconds),
                overlap: Duration::from_secs(server.poll_overlap_seconds),
            };
            tokio::spawn(poll::run(poll, corridor.clone()));
        }
    }
}

/// Finished transactions, and before them what they said, go after their days (0: they stay), a thousand
/// at a time.
async fn retain(corridor: Corridor, days: u32, bodies_days: u32) {
    let stop = corridor.stopping();
    // A clock that somebody put forward must not make history of what is of today.
    let before = |days: u32| corridor.now().min(corridor.steady()) - i64::from(days) * 86_400_000;
    loop {
        let mut gone = 0;
        if days > 0 {
            gone += corridor.journal().retain(before(days), corridor.now()).await.unwrap_or_default();
        }
        if bodies_days > 0 {
            gone += corridor.journal().forget(before(bodies_days), corridor.now()).await.unwrap_or_default();
        }
        let pause = if gone > 0 { Duration::from_secs(1) } else { Duration::from_secs(3600) };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}
