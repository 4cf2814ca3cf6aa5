//! A FHIR R4 server, in memory, as far as the mediator and an EMR's client meet one.
//!
//! It behaves like HAPI FHIR with its usual settings: ids are numbers it gives itself, an update
//! that changes nothing makes no version, pages of a search are reached by opaque links, and
//! Subscriptions of type rest-hook are delivered by `PUT <endpoint>/<Type>/<id>`.
mod check;
mod hooks;
mod routes;
mod search;
mod store;
mod transaction;

use super::faults::Faults;
use super::server::Server;
use super::{Clock, Ids, client, lock};
use axum::Router;
use hooks::Hooks;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store::{Store, Written};
use tokio::net::TcpListener;

#[derive(Clone)]
pub enum Auth {
    Basic { username: String, password: String },
    Bearer(String),
}

#[derive(Clone)]
pub struct Options {
    /// None: everybody may do everything.
    pub auth: Option<Auth>,
    /// What an If-Match of another version is answered with: 412 (FHIR) or 409 (HAPI).
    pub if_match_status: u16,
    /// References must lead to resources that are there.
    pub referential_integrity: bool,
    /// What its clock shows at the start, in milliseconds since 1970; none: what the machine's shows.
    pub clock: Option<i64>,
}

impl Default for Options {
    fn default() -> Self {
        Self { auth: None, if_match_status: 412, referential_integrity: false, clock: None }
    }
}

/// Why a request is refused, as an OperationOutcome says it.
#[derive(Debug)]
struct Failure {
    status: u16,
    code: &'static str,
    text: String,
}

impl Failure {
    fn new(status: u16, code: &'static str, text: &str) -> Self {
        Self { status, code, text: text.into() }
    }

    fn outcome(&self) -> Value {
        json!({"resourceType": "OperationOutcome",
            "issue": [{"severity": "error", "code": self.code, "diagnostics": self.text}]})
    }
}

struct Fhir {
    base: String,
    auth: Option<Auth>,
    store: Mutex<Store>,
    /// None: nobody is told.
    hooks: Option<Hooks>,
}

impl Fhir {
    /// Works on the store, and tells the subscribers what was written.
    fn write<T>(&self, work: impl FnOnce(&mut Store) -> Result<T, Failure>) -> Result<T, Failure> {
        let mut store = lock(&self.store);
        let done = work(&mut store)?;
        for change in store.take_changes() {
            if let Some(hooks) = &self.hooks {
                hooks.notify(&store, &change);
            }
        }
        Ok(done)
    }
}

pub struct Handle {
    server: Option<Server>,
    fhir: Arc<Fhir>,
    faults: Faults,
}

pub async fn start(bind: SocketAddr, options: Options) -> io::Result<Handle> {
    let listener = TcpListener::bind(bind).await?;
    let hooks = Hooks::start(client(Duration::from_secs(10))?);
    let base = format!("http://{}/fhir", listener.local_addr()?);
    let (mut handle, router) = with_hooks(base, options, Some(hooks));
    handle.server = Some(Server::start(listener, router, handle.faults.clone()).await?);
    Ok(handle)
}

/// One that listens nowhere: whoever has its routes carries the requests for `base` to them, and its faults.
/// Subscriptions are not served.
pub fn unbound(base: &str, options: Options) -> (Handle, Router) {
    with_hooks(base.into(), options, None)
}

fn with_hooks(base: String, options: Options, hooks: Option<Hooks>) -> (Handle, Router) {
    let auth = options.auth.clone();
    let fhir = Arc::new(Fhir { base, auth, store: Mutex::new(Store::new(options)), hooks });
    let router = routes::router(fhir.clone());
    (Handle { server: None, fhir, faults: Faults::default() }, router)
}

impl Handle {
    /// The base address, with `/fhir` at its end.
    pub fn url(&self) -> String {
        self.fhir.base.clone()
    }

    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// All resources of a type.
    pub fn resources(&self, kind: &str) -> Vec<Value> {
        lock(&self.fhir.store).all(kind).cloned().collect()
    }

    pub fn get(&self, kind: &str, id: &str) -> Option<Value> {
        lock(&self.fhir.store).read(kind, id).ok().cloned()
    }

    /// How many resources of each type have each identifier (`system|value`). More than one is a duplicate.
    pub fn ledger(&self) -> BTreeMap<(String, String), usize> {
        let store = lock(&self.fhir.store);
        let mut ledger = BTreeMap::new();
        for resource in store.kinds().flat_map(|kind| store.all(kind)) {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
            for identifier in resource["identifier"].as_array().into_iter().flatten() {
                let token = format!("{}|{}", text(&identifier["system"]), text(&identifier["value"]));
                *ledger.entry((text(&resource["resourceType"]), token)).or_default() += 1;
            }
        }
        ledger
    }

    /// Puts a resource in as it is, unchecked, under its `id` or a new one. Answers it as stored.
    pub fn add(&self, resource: Value) -> Value {
        let kind = resource["resourceType"].as_str().unwrap_or_default().to_string();
        self.put(&kind, resource["id"].as_str().map(Into::into), resource)
    }

    /// Deletes a resource, as a clinician or a merge would.
    pub fn remove(&self, kind: &str, id: &str) {
        let _ = lock(&self.fhir.store).delete(kind, id);
    }

    /// Changes a resource as a clinician would in the EMR. None: it isn't there.
    pub fn update(&self, kind: &str, id: &str, change: impl FnOnce(&mut Value)) -> Option<Value> {
        let mut resource = self.get(kind, id)?;
        change(&mut resource);
        Some(self.put(kind, Some(id.into()), resource))
    }

    fn put(&self, kind: &str, id: Option<String>, resource: Value) -> Value {
        let written = self.fhir.write(|store| {
            let id = id.unwrap_or_else(|| store.next_id());
            store.put(kind, &id, resource)
        });
        written.map_or_else(|failure| failure.outcome(), |Written { resource, .. }| resource)
    }

    /// Delivers every resource of this type to `{endpoint}/{Type}/{id}` when it is written.
    pub fn subscribe(&self, kind: &str, endpoint: &str, headers: &[(&str, &str)]) {
        let headers: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        self.add(json!({"resourceType": "Subscription", "status": "active", "reason": "a test",
            "criteria": format!("{kind}?"), "channel": {"type": "rest-hook", "endpoint": endpoint,
            "payload": "application/fhir+json", "header": headers}}));
    }

    pub async fn stop(self) {
        if let Some(server) = self.server {
            server.stop().await;
        }
    }
}

#[cfg(test)]
mod tests;
