//! Being a member of OpenHIM: registered, and heard of every few seconds. Nothing waits for it.
use super::OpenHimApi;
use super::finish::Finisher;
use crate::config;
use crate::flow::ports::{Clock, Failure, FailureKind, Journal, OpenHim};
use async_trait::async_trait;
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

pub const URN: &str = "urn:mediator:cht-fhir-mediator";
const REGISTRATION: &str = include_str!("../../../mediator-config/mediator.json");
/// A refused login is not repeated sooner: OpenHIM's operators see each try.
const REFUSED_PAUSE: Duration = Duration::from_secs(300);

/// What OpenHIM's console may change while we run; called with the mediator's configuration there.
pub type Configure = Arc<dyn Fn(&Value) + Send + Sync>;

pub struct Membership {
    api: Arc<OpenHimApi>,
    settings: config::OpenHim,
    configure: Configure,
    state: Mutex<String>,
    started: Instant,
}

impl Membership {
    pub fn new(api: Arc<OpenHimApi>, settings: &config::OpenHim, configure: Configure) -> Self {
        Self {
            api,
            settings: settings.clone(),
            configure,
            state: Mutex::new("not registered yet".into()),
            started: Instant::now(),
        }
    }

    fn note(&self, state: impl Into<String>) {
        let state = state.into();
        metrics::gauge!("openhim_registered").set(f64::from(u8::from(state == "registered")));
        let mut known = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != state {
            tracing::info!(state, "OpenHIM");
            *known = state;
        }
    }

    /// Until told to stop: registers, beats, and finishes transactions.
    pub async fn run(
        self: Arc<Self>,
        journal: Arc<dyn Journal>,
        clock: Arc<dyn Clock>,
        stop: CancellationToken,
    ) {
        let finisher = Finisher::new(self.api.clone(), journal, clock);
        tokio::spawn(finisher.run(stop.clone()));
        let every = Duration::from_secs(self.settings.heartbeat_seconds);
        let mut registered = false;
        loop {
            let pause = match self.beat(&mut registered).await {
                Ok(()) => {
                    self.note("registered");
                    every
                }
                Err(failure) => {
                    registered = false;
                    self.note(format!("not registered: {}", failure.message));
                    if failure.kind == FailureKind::Unauthorised { REFUSED_PAUSE.max(every) } else { every }
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn beat(&self, registered: &mut bool) -> Result<(), Failure> {
        if !*registered {
            self.register().await?;
        }
        // A change that was made before the first beat is told only if we ask for it.
        let first = !std::mem::replace(registered, true);
        if self.heartbeat(first).await? {
            return Ok(());
        }
        // It does not know us any more.
        self.register().await?;
        match self.heartbeat(true).await? {
            true => Ok(()),
            false => Err(Failure::transient("OpenHIM forgets us as soon as we register")),
        }
    }

    /// `false`: OpenHIM does not know us.
    async fn heartbeat(&self, ask_for_config: bool) -> Result<bool, Failure> {
        let mut body = json!({"uptime": self.started.elapsed().as_secs_f64()});
        if ask_for_config {
            body["config"] = json!(true);
        }
        let answer = self.api.call(Method::POST, &format!("/mediators/{URN}/heartbeat"), Some(&body)).await?;
        match answer.status.as_u16() {
            404 => Ok(false),
            200..=299 => {
                // Empty or the text `OK`: nothing has changed.
                if let Some(config) = answer.json().filter(Value::is_object) {
                    (self.configure)(&config);
                }
                Ok(true)
            }
            _ => Err(answer.failure("OpenHIM")),
        }
    }

    async fn register(&self) -> Result<(), Failure> {
        let body = registration(&self.settings).map_err(Failure::permanent)?;
        let answer = self.api.call(Method::POST, "/mediators", Some(&body)).await?;
        if !answer.status.is_success() {
            return Err(answer.failure("OpenHIM"));
        }
        match self.settings.install_channels {
            true => self.install_channels(&body).await,
            false => Ok(()),
        }
    }

    /// Those of ours that are not there: one that is, and that an operator may have changed, stays.
    async fn install_channels(&self, registration: &Value) -> Result<(), Failure> {
        let there = self.api.get("/channels").await?;
        let there: Vec<&str> =
            there.as_array().into_iter().flatten().filter_map(|c| c["name"].as_str()).collect();
        let ours = registration["defaultChannelConfig"].as_array().into_iter().flatten();
        let missing: Vec<&str> = ours
            .filter_map(|channel| channel["name"].as_str())
            .filter(|name| !there.contains(name))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let answer =
            self.api.call(Method::POST, &format!("/mediators/{URN}/channels"), Some(&json!(missing))).await?;
        match answer.status.is_success() {
            true => Ok(()),
            false => Err(answer.failure("OpenHIM")),
        }
    }
}

#[async_trait]
impl OpenHim for Membership {
    fn state(&self) -> String {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn is_asynchronous(&self, transaction: &str) -> bool {
        self.api.is_asynchronous(transaction).await
    }
}

/// What we register with: the shipped file, with our version and where we are reached.
fn registration(settings: &config::OpenHim) -> Result<Value, String> {
    let mut body: Value = serde_json::from_str(REGISTRATION).map_err(|e| format!("mediator.json: {e}"))?;
    body["urn"] = json!(URN);
    body["version"] = json!(env!("CARGO_PKG_VERSION"));
    let at = url::Url::parse(&settings.reachable_at).map_err(|e| format!("openhim.reachable_at: {e}"))?;
    let (host, port) = (at.host_str().unwrap_or_default(), at.port_or_known_default().unwrap_or(80));
    let secured = at.scheme() == "https";
    let mut place = |route: &mut Value| {
        route["host"] = json!(host);
        route["port"] = json!(port);
        route["secured"] = json!(secured);
    };
    body["endpoints"].as_array_mut().into_iter().flatten().for_each(&mut place);
    for channel in body["defaultChannelConfig"].as_array_mut().into_iter().flatten() {
        channel["routes"].as_array_mut().into_iter().flatten().for_each(&mut place);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registration_has_what_openhim_asks_for() {
        let settings =
            crate::config::load(None, std::iter::empty()).map_err(|_| ()).expect("defaults").openhim;
        let settings =
            config::OpenHim { reachable_at: "https://mediator.example.org:3443".into(), ..settings };
        let body = registration(&settings).expect("a registration");
        assert_eq!((&body["urn"], &body["version"]), (&json!(URN), &json!(env!("CARGO_PKG_VERSION"))));
        assert!(!body["endpoints"].as_array().expect("endpoints").is_empty());
        for channel in body["defaultChannelConfig"].as_array().expect("channels") {
            // A channel without methods never matches, and reruns carry a body only for these.
            let methods = channel["methods"].as_array().expect("methods");
            assert!(
                methods
                    .iter()
                    .all(|method| ["GET", "POST", "PUT"].contains(&method.as_str().unwrap_or_default()))
            );
            assert!(!methods.is_empty());
            let route = &channel["routes"][0];
            assert_eq!(
                (&route["host"], &route["port"], &route["secured"]),
                (&json!("mediator.example.org"), &json!(3443), &json!(true))
            );
            assert_eq!(route["primary"], true);
            assert!(route.get("password").is_none(), "secrets stay out of OpenHIM's configuration");
            // Anybody could name any client on a public channel.
            assert_eq!(channel["authType"], "private");
        }
        for parameter in body["configDefs"].as_array().expect("parameters") {
            assert!(
                ["string", "bool", "number", "option"]
                    .contains(&parameter["type"].as_str().unwrap_or_default())
            );
            assert!(parameter["type"] != "password");
        }
    }
}
