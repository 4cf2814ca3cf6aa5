//! OpenHIM 8.5 as its contract has it (openhim.md): the API that mediators use, and the router that sends
//! clients' requests to a mediator and reads what it answers, with every trap that the contract lists.
use super::faults::Faults;
use super::server::Server;
use super::{basic, client, lock, now_ms};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;

pub const USERNAME: &str = "root@openhim.org";
pub const PASSWORD: &str = "openhim-password";

#[derive(Default)]
struct Store {
    mediator: Option<Value>,
    config: Value,
    config_changed: bool,
    channels: Vec<Value>,
    transactions: BTreeMap<String, Value>,
    /// What a mediator did that makes core's worker crash.
    crashes: Vec<String>,
    /// Logins by what was refused.
    refused: usize,
    number: u64,
}

struct Him {
    store: Mutex<Store>,
    http: reqwest::Client,
}

pub struct Handle {
    api: Server,
    router: Server,
    him: Arc<Him>,
    faults: Faults,
}

/// The API and the router, on ports of their own.
pub async fn start(api: SocketAddr) -> io::Result<Handle> {
    let him = Arc::new(Him { store: Mutex::default(), http: client(Duration::from_secs(60))? });
    let faults = Faults::default();
    let routes = Router::new()
        .route("/mediators", post(register))
        .route("/mediators/{urn}", get(mediator))
        .route("/mediators/{urn}/heartbeat", post(heartbeat))
        .route("/mediators/{urn}/channels", post(install))
        .route("/channels", get(channels))
        .route("/channels/{id}", get(channel))
        .route("/transactions/{id}", get(transaction).put(update))
        .with_state(him.clone());
    let api = Server::start(TcpListener::bind(api).await?, routes, faults.clone()).await?;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let routing = Router::new().fallback(route).with_state(him.clone());
    let router = Server::start(TcpListener::bind(any).await?, routing, Faults::default()).await?;
    Ok(Handle { api, router, him, faults })
}

impl Handle {
    pub fn api_url(&self) -> String {
        format!("http://{}", self.api.address)
    }

    /// Where clients send.
    pub fn url(&self) -> String {
        format!("http://{}", self.router.address)
    }

    /// Of the API.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    pub fn mediator(&self) -> Option<Value> {
        lock(&self.him.store).mediator.clone()
    }

    /// An operator removes the mediator.
    pub fn forget_mediator(&self) {
        lock(&self.him.store).mediator = None;
    }

    /// An operator changes the mediator's configuration in the console.
    pub fn configure(&self, config: Value) {
        let mut store = lock(&self.him.store);
        (store.config, store.config_changed) = (config, true);
    }

    pub fn channels(&self) -> Vec<Value> {
        lock(&self.him.store).channels.clone()
    }

    /// Changes every channel.
    pub fn change_channels(&self, change: impl Fn(&mut Value)) {
        lock(&self.him.store).channels.iter_mut().for_each(change);
    }

    pub fn transaction(&self, id: &str) -> Value {
        lock(&self.him.store).transactions.get(id).cloned().unwrap_or_default()
    }

    pub fn transactions(&self) -> Vec<Value> {
        lock(&self.him.store).transactions.values().cloned().collect()
    }

    /// What made core's worker crash.
    pub fn crashes(&self) -> Vec<String> {
        lock(&self.him.store).crashes.clone()
    }

    /// Logins that were refused.
    pub fn refused(&self) -> usize {
        lock(&self.him.store).refused
    }

    /// Sends a transaction again, as a task of the console does. Answers the new one's id.
    pub async fn rerun(&self, id: &str) -> Option<String> {
        let old = self.transaction(id);
        let request = &old["request"];
        let body = request["body"].as_str()?.as_bytes().to_vec();
        let rerun = Rerun { parent: id.into(), client: old["clientID"].as_str()?.to_string() };
        let method: Method = request["method"].as_str()?.parse().ok()?;
        let channel =
            lock(&self.him.store).channels.iter().find(|c| c["_id"] == old["channelID"]).cloned()?;
        let (new, _) =
            forward(&self.him, &channel, &method, request["path"].as_str()?, body.into(), None, Some(&rerun))
                .await;
        Some(new)
    }

    /// What its job does each minute: sends again whatever is marked for it. Answers how many.
    pub async fn auto_retry(&self) -> usize {
        let due: Vec<String> = {
            let mut store = lock(&self.him.store);
            let marked = store.transactions.values_mut().filter(|t| t["autoRetry"] == true);
            marked
                .filter_map(|t| {
                    t["autoRetry"] = json!(false);
                    t["_id"].as_str().map(String::from)
                })
                .collect()
        };
        for id in &due {
            self.rerun(id).await;
        }
        due.len()
    }

    pub async fn stop(self) {
        self.api.stop().await;
        self.router.stop().await;
    }
}

/// Basic only: the token of earlier releases is unknown.
fn logged_in(him: &Him, headers: &HeaderMap) -> bool {
    let sent = headers.get("authorization").and_then(|sent| sent.to_str().ok());
    let known = sent == Some(&basic(USERNAME, PASSWORD));
    if !known {
        lock(&him.store).refused += 1;
    }
    known
}

fn say(status: u16, body: impl Into<String>) -> Response {
    (StatusCode::from_u16(status).unwrap_or_default(), body.into()).into_response()
}

macro_rules! only_users {
    ($him:expr, $headers:expr) => {
        if !logged_in(&$him, &$headers) {
            return say(401, "");
        }
    };
}

async fn register(State(him): State<Arc<Him>>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    only_users!(him, headers);
    let version = body["version"].as_str().unwrap_or_default();
    let semantic = version.split('.').filter(|part| part.parse::<u32>().is_ok()).count() == 3;
    let endpoints = body["endpoints"].as_array().is_some_and(|all| !all.is_empty());
    if !body["urn"].is_string() || !body["name"].is_string() || !semantic || !endpoints {
        return say(400, "urn, name, a semantic version and at least one endpoint are required");
    }
    let mut store = lock(&him.store);
    // The same or a lower version is taken and ignored.
    let known = store.mediator.as_ref().map(|known| known["version"].clone());
    if known.is_none_or(|known| known.as_str().unwrap_or_default() < version) {
        store.mediator = Some(body);
    }
    say(201, "")
}

async fn mediator(State(him): State<Arc<Him>>, Path(urn): Path<String>, headers: HeaderMap) -> Response {
    only_users!(him, headers);
    match lock(&him.store).mediator.clone().filter(|mediator| mediator["urn"] == urn) {
        Some(mediator) => Json(mediator).into_response(),
        None => say(404, ""),
    }
}

async fn heartbeat(
    State(him): State<Arc<Him>>,
    Path(urn): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    only_users!(him, headers);
    let mut store = lock(&him.store);
    if store.mediator.as_ref().is_none_or(|mediator| mediator["urn"] != urn) {
        return say(404, "");
    }
    if !body["uptime"].is_number() {
        return say(400, "uptime is required");
    }
    let changed = std::mem::take(&mut store.config_changed);
    match (changed || body["config"] == true, store.config.is_object()) {
        (true, true) => Json(store.config.clone()).into_response(),
        (true, false) => say(200, "OK"),
        _ => say(200, ""),
    }
}

async fn install(
    State(him): State<Arc<Him>>,
    Path(urn): Path<String>,
    headers: HeaderMap,
    Json(names): Json<Vec<String>>,
) -> Response {
    only_users!(him, headers);
    let mut store = lock(&him.store);
    let Some(mediator) = store.mediator.clone().filter(|mediator| mediator["urn"] == urn) else {
        return say(404, "");
    };
    let offered = mediator["defaultChannelConfig"].as_array().cloned().unwrap_or_default();
    let wanted: Vec<Value> = match names.is_empty() {
        true => offered.clone(),
        false => {
            offered.iter().filter(|c| names.iter().any(|name| c["name"] == name.as_str())).cloned().collect()
        }
    };
    if wanted.len() < names.len() {
        return say(400, "unknown channel");
    }
    if wanted.iter().any(|new| store.channels.iter().any(|known| known["name"] == new["name"])) {
        return say(500, "duplicate key error");
    }
    for mut channel in wanted {
        store.number += 1;
        channel["_id"] = json!(format!("{:024x}", store.number));
        store.channels.push(channel);
    }
    say(201, "")
}

async fn channels(State(him): State<Arc<Him>>, headers: HeaderMap) -> Response {
    only_users!(him, headers);
    Json(lock(&him.store).channels.clone()).into_response()
}

async fn channel(State(him): State<Arc<Him>>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    only_users!(him, headers);
    match lock(&him.store).channels.iter().find(|channel| channel["_id"] == id) {
        Some(channel) => Json(channel.clone()).into_response(),
        None => say(404, ""),
    }
}

async fn transaction(State(him): State<Arc<Him>>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    only_users!(him, headers);
    match lock(&him.store).transactions.get(&id) {
        Some(transaction) => Json(transaction.clone()).into_response(),
        None => say(404, ""),
    }
}

/// Replaces what is given: orchestrations and properties too.
async fn update(
    State(him): State<Arc<Him>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    only_users!(him, headers);
    let mut store = lock(&him.store);
    let Some(transaction) = store.transactions.get_mut(&id) else { return say(404, "") };
    for (key, value) in body.as_object().into_iter().flatten() {
        transaction[key] = value.clone();
    }
    say(200, "")
}

/// A client's request.
async fn route(
    State(him): State<Arc<Him>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let user = headers.get("authorization").and_then(|sent| sent.to_str().ok()).and_then(user_of);
    let found =
        lock(&him.store).channels.iter().find(|channel| matches(channel, &method, uri.path())).cloned();
    let Some(channel) = found else { return (StatusCode::NOT_FOUND, body).into_response() };
    let Some(user) = user else { return (StatusCode::UNAUTHORIZED, body).into_response() };
    let target = uri.path_and_query().map_or_else(|| uri.path().to_string(), ToString::to_string);
    let (id, (status, answer)) = forward(&him, &channel, &method, &target, body, Some(&user), None).await;
    let mut response = say(status, answer);
    if let Ok(id) = id.parse() {
        response.headers_mut().insert("x-openhim-transactionid", id);
    }
    response
}

/// Anybody with a name is a client here; whom a channel allows is core's business.
fn user_of(header: &str) -> Option<String> {
    use base64::Engine;
    let plain = base64::engine::general_purpose::STANDARD.decode(header.strip_prefix("Basic ")?).ok()?;
    Some(String::from_utf8(plain).ok()?.split(':').next()?.to_string())
}

/// A channel without methods never matches.
fn matches(channel: &Value, method: &Method, path: &str) -> bool {
    let methods = channel["methods"].as_array().map(Vec::as_slice).unwrap_or_default();
    let pattern = channel["urlPattern"].as_str().unwrap_or_default();
    let start = pattern.trim_start_matches('^').split(['(', '$']).next().unwrap_or_default();
    methods.iter().any(|m| m == method.as_str()) && path.starts_with(start)
}

struct Rerun {
    parent: String,
    client: String,
}

async fn forward(
    him: &Him,
    channel: &Value,
    method: &Method,
    target: &str,
    body: Bytes,
    user: Option<&str>,
    rerun: Option<&Rerun>,
) -> (String, (u16, String)) {
    let id = {
        let mut store = lock(&him.store);
        store.number += 1;
        let id = format!("{:024x}", store.number);
        let client = user.or(rerun.map(|rerun| rerun.client.as_str()));
        let transaction = json!({"_id": id, "status": "Processing", "channelID": channel["_id"], "clientID": client,
            "parentID": rerun.map(|rerun| rerun.parent.as_str()),
            "request": {"method": method.as_str(), "path": target, "body": String::from_utf8_lossy(&body)}});
        store.transactions.insert(id.clone(), transaction);
        id
    };
    let route = &channel["routes"][0];
    let url = format!("http://{}:{}{target}", route["host"].as_str().unwrap_or_default(), route["port"]);
    let mut request = him
        .http
        .request(method.clone(), url)
        .header("x-openhim-transactionid", &id)
        .header("connection", "close")
        .header("content-type", "application/json")
        .header("x-forwarded-for", "127.0.0.1")
        .body(body);
    if let Some(user) = user {
        request = request.header("x-openhim-clientid", user);
    }
    if let Some(rerun) = rerun {
        request = request
            .header("parentid", &rerun.parent)
            .header("taskid", "task")
            // The database's id, and not the client's own.
            .header("clientid", format!("{:024x}", 7));
    }
    if let (Some(name), Some(password)) = (route["username"].as_str(), route["password"].as_str()) {
        request = request.basic_auth(name, Some(password));
    }
    let answer = match request.send().await {
        Ok(answer) => answer,
        Err(_) => return (id.clone(), failed(him, &id)),
    };
    let kind = answer.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let (kind, encoded) = (kind.to_string(), answer.headers().contains_key("content-encoding"));
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap_or_default();
    let told = match kind.contains("application/json+openhim") {
        true => read(him, channel, &id, &text, encoded),
        false => plain(him, &id, status, text),
    };
    (id, told)
}

/// 500, and it is sent again by itself.
fn failed(him: &Him, id: &str) -> (u16, String) {
    note(him, id, |t| {
        t["status"] = json!("Failed");
        t["autoRetry"] = json!(true);
    });
    (500, "An internal server error occurred".into())
}

fn note(him: &Him, id: &str, change: impl FnOnce(&mut Value)) {
    if let Some(transaction) = lock(&him.store).transactions.get_mut(id) {
        change(transaction);
    }
}

fn word(status: u16) -> &'static str {
    match status {
        500..=599 => "Failed",
        200..=299 => "Successful",
        _ => "Completed",
    }
}

fn plain(him: &Him, id: &str, status: u16, body: String) -> (u16, String) {
    note(him, id, |t| {
        t["status"] = json!(word(status));
        t["response"] = json!({"status": status, "body": body});
    });
    (status, body)
}

/// A mediator's own kind of answer, and what core makes of mistakes in it.
fn read(him: &Him, channel: &Value, id: &str, text: &str, encoded: bool) -> (u16, String) {
    let crash = |why: &str| {
        lock(&him.store).crashes.push(why.into());
        failed(him, id)
    };
    if encoded {
        return crash("an encoded body");
    }
    let Ok(reply) = serde_json::from_str::<Value>(text) else { return failed(him, id) };
    let Some(status) = reply["response"]["status"].as_u64() else { return failed(him, id) };
    let status = status as u16;
    let body = reply["response"]["body"].as_str().unwrap_or("[object Object]").to_string();
    let Some(orchestrations) = reply["orchestrations"].as_array() else { return (500, String::new()) };
    let (mut kept, mut stored) = (Vec::new(), true);
    for one in orchestrations {
        if !one["request"].is_object() {
            return crash("an orchestration without request");
        }
        let bodies = [&one["request"]["body"], &one["response"]["body"]];
        if bodies.iter().any(|body| !body.is_null() && !body.is_string()) {
            return (500, String::new());
        }
        stored &= one["name"].is_string() && one["request"]["timestamp"].is_number();
        kept.push(one.clone());
    }
    let refused = |key: &String| key.contains('.') || key.starts_with('$');
    stored &= !reply["properties"].as_object().into_iter().flatten().any(|(key, _)| refused(key));
    if !reply["response"]["headers"].is_object() {
        stored = false;
    }
    let asynchronous = channel["isAsynchronousProcess"] == true;
    let said = reply["status"].as_str();
    note(him, id, |t| {
        t["autoRetry"] = json!(!reply["error"].is_null());
        t["status"] = json!(match said {
            Some(said) => said,
            None if asynchronous && status < 300 => "Pending Async",
            None => word(status),
        });
        if stored {
            t["response"] = reply["response"].clone();
            t["orchestrations"] = json!(kept);
            t["properties"] = reply["properties"].clone();
            t["storedAt"] = json!(now_ms());
        }
    });
    match asynchronous && said.is_none() {
        true => (202, body),
        false => (status, body),
    }
}
