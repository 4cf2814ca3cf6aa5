//! Whether we live, whether we can take messages, and how it goes. Nothing of a patient here.
use super::Door;
use super::reply::{Reader, json_response};
use crate::version::{COMMIT, VERSION};
use axum::extract::State;
use axum::response::Response;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde_json::{Value, json};

/// As the TypeScript mediator answers.
pub(super) async fn status(State(door): State<Door>) -> Response {
    let up = door.0.started.elapsed().as_secs_f64();
    let os = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let os: f64 = os.split_whitespace().next().and_then(|s| s.parse().ok()).unwrap_or(up);
    json_response(Reader::Plain, 200, &json!({"status": "success", "osuptime": os, "processuptime": up}))
}

pub(super) async fn live() -> Response {
    json_response(Reader::Plain, 200, &json!({"status": "ok", "version": VERSION, "commit": COMMIT}))
}

/// Ready to take messages: that takes the journal, and nothing else. Destinations that are left
/// alone are named, and no reason to send callers away.
pub(super) async fn ready(State(door): State<Door>) -> Response {
    let journal = door.corridor().journal();
    if let Some(trouble) = journal.trouble() {
        return json_response(Reader::Plain, 503, &json!({"status": "not ready", "error": trouble}));
    }
    let counts = journal.counts().await;
    let (open, gates) = door.corridor().state();
    let gates: Value = gates
        .into_iter()
        .map(|(name, closed)| (name, json!(if closed { "left alone" } else { "ok" })))
        .collect();
    let openhim = door.0.openhim.as_ref().map_or_else(|| "off".to_string(), |openhim| openhim.state());
    let stopping = door.corridor().stopping().is_cancelled();
    match counts {
        Ok(counts) if !stopping => json_response(
            Reader::Plain,
            200,
            &json!({"status": "ready", "open": open, "transactions": counts, "destinations": gates,
                "openhim": openhim, "version": VERSION, "commit": COMMIT}),
        ),
        Ok(_) => json_response(Reader::Plain, 503, &json!({"status": "stopping"})),
        Err(error) => {
            json_response(Reader::Plain, 503, &json!({"status": "not ready", "error": error.to_string()}))
        }
    }
}

/// Prometheus text.
pub(super) async fn metrics(State(door): State<Door>) -> Response {
    let (open, gates) = door.corridor().state();
    metrics::gauge!("build_info", "version" => VERSION, "commit" => COMMIT).set(1);
    metrics::gauge!("transactions_open").set(open as f64);
    let writable = door.corridor().journal().trouble().is_none();
    metrics::gauge!("journal_writable").set(f64::from(u8::from(writable)));
    for (name, closed) in gates {
        metrics::gauge!("destination_left_alone", "destination" => name).set(f64::from(u8::from(closed)));
    }
    let mut response = Response::new(door.0.metrics.render().into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"));
    response
}
