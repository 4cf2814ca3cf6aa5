//! What there is at least: HTTP, JSON read, and the journal's durable write.
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use cht_fhir_mediator::flow::ports::{Journal, NewTransaction};
use cht_fhir_mediator::journal::embedded::Embedded;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;

pub async fn serve() {
    let port = std::env::args().nth(2).unwrap_or_default();
    let path = PathBuf::from(std::env::args().nth(3).unwrap_or_default());
    let journal: Arc<dyn Journal> = Arc::new(Embedded::open(&path, u64::MAX >> 1).expect("a journal"));
    let router = Router::new().route("/{*any}", post(take)).with_state(journal);
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await.expect("a port");
    axum::serve(listener, router).await.expect("served");
}

async fn take(State(journal): State<Arc<dyn Journal>>, body: Bytes) -> &'static str {
    let read: Value = serde_json::from_slice(&body).unwrap_or_default();
    let id = uuid::Uuid::new_v4().to_string();
    let message = NewTransaction {
        id: id.clone(),
        route: "/cht/push".parse().expect("a route"),
        client: "bench".into(),
        home: None,
        key: id.clone(),
        digest: String::new(),
        subjects: vec![read["doc"]["_id"].as_str().unwrap_or_default().into()],
        received: 0,
        strict: false,
        body: body.to_vec(),
        via: None,
        again: None,
        revision: None,
        from: None,
        patients: Vec::new(),
    };
    journal.accept(vec![message]).await.expect("written");
    "{}"
}
