//! CHT and a FHIR server that answer at once and keep nothing.
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

#[derive(Default)]
struct Mood {
    refuses: AtomicBool,
    hangs: AtomicBool,
    number: AtomicU64,
}

#[derive(Clone)]
pub struct Neighbours {
    mood: Arc<Mood>,
    pub port: u16,
}

impl Neighbours {
    pub fn refuse(&self, refuses: bool) {
        self.mood.refuses.store(refuses, Relaxed);
    }

    pub fn hang(&self, hangs: bool) {
        self.mood.hangs.store(hangs, Relaxed);
    }
}

pub async fn start() -> Neighbours {
    let mood = Arc::new(Mood::default());
    let router = Router::new()
        .route("/fhir", axum::routing::post(transaction))
        .route("/fhir/{*rest}", axum::routing::any(fhir))
        .route("/api/v1/person/{id}", axum::routing::get(person))
        .fallback(cht)
        .with_state(mood.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move { axum::serve(listener, router).await });
    Neighbours { mood, port }
}

fn answer(body: &Value) -> Response {
    ([("content-type", "application/json")], body.to_string()).into_response()
}

async fn moody(mood: &Mood) -> Option<Response> {
    if mood.hangs.load(Relaxed) {
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
    mood.refuses.load(Relaxed).then(|| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

async fn transaction(State(mood): State<Arc<Mood>>, body: Bytes) -> Response {
    if let Some(refused) = moody(&mood).await {
        return refused;
    }
    let bundle: Value = serde_json::from_slice(&body).unwrap_or_default();
    let entries: Vec<Value> = bundle["entry"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|entry| {
            let kind = entry["resource"]["resourceType"].as_str().unwrap_or_default();
            let number = mood.number.fetch_add(1, Relaxed);
            json!({"response": {"status": "201 Created", "location": format!("{kind}/{number}/_history/1")}})
        })
        .collect();
    answer(&json!({"resourceType": "Bundle", "type": "transaction-response", "entry": entries}))
}

async fn fhir(State(mood): State<Arc<Mood>>, method: Method, uri: Uri) -> Response {
    if let Some(refused) = moody(&mood).await {
        return refused;
    }
    if method == Method::GET && uri.query().is_some() {
        return answer(&json!({"resourceType": "Bundle", "type": "searchset"}));
    }
    StatusCode::NOT_FOUND.into_response()
}

async fn person(Path(id): Path<String>) -> Response {
    answer(&json!({"_id": id, "type": "person", "name": "Test Person"}))
}

async fn cht(State(mood): State<Arc<Mood>>, method: Method, uri: Uri) -> Response {
    let path = uri.path();
    if method == Method::POST && path == "/api/v2/records" {
        let number = mood.number.fetch_add(1, Relaxed);
        return answer(&json!({"success": true, "id": format!("report-{number}")}));
    }
    match path {
        "/api/v1/report/uuid" => answer(&json!({"data": [], "cursor": null})),
        _ => answer(&json!({"_id": path.rsplit('/').next(), "type": "data_record", "errors": []})),
    }
}
