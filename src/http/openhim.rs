//! Answers in OpenHIM's words, for whoever came through it (contract: openhim.md, response).
use super::Door;
use crate::domain::orchestration::Orchestration;
use crate::domain::plan::Status;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

const URN: &str = "urn:mediator:cht-fhir-mediator";

/// The transaction of OpenHIM that a request is part of, as its core says.
#[derive(Clone)]
pub(super) struct Via {
    pub id: String,
}

/// What became of our transaction, for the envelope.
#[derive(Clone)]
pub(super) struct Told {
    pub id: String,
    pub status: Status,
    pub orchestrations: Vec<Orchestration>,
}

/// `X-OpenHIM-TransactionID`, in the form that core gives ids: nothing else is written anywhere.
pub(super) fn via(headers: &HeaderMap) -> Option<Via> {
    let id = headers.get("x-openhim-transactionid")?.to_str().ok()?;
    let plain = (8..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    plain.then(|| Via { id: id.to_string() })
}

/// Who calls OpenHIM, as it says. Node.js writes headers in Latin-1; whatever is in it, two ids stay two.
pub(super) fn client(headers: &HeaderMap) -> Option<String> {
    let id = headers.get("x-openhim-clientid")?.as_bytes();
    (!id.is_empty()).then(|| id.iter().map(|byte| char::from(*byte)).collect())
}

/// The transaction that this one is a rerun of.
pub(super) fn parent(headers: &HeaderMap) -> Option<String> {
    let id = headers.get("parentid")?.to_str().ok()?;
    (!id.is_empty() && id.len() <= 64).then(|| id.to_string())
}

/// Wraps the answers to requests that came through OpenHIM; all others pass.
pub(super) async fn envelope(State(door): State<Door>, request: Request, next: Next) -> Response {
    let Some(via) = via(request.headers()).filter(|_| door.0.openhim.is_some()) else {
        return next.run(request).await;
    };
    let mut request = request;
    let core = Core::default();
    request.extensions_mut().insert(core.clone());
    let response = next.run(request).await;
    if !core.is_it() {
        return response;
    }
    let told = response.extensions().get::<Told>().cloned();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let status = match &told {
        Some(told) => door.word(told, &via).await,
        None => None,
    };
    let code = parts.status.as_u16();
    let mut envelope = json!({
        "x-mediator-urn": URN,
        "response": {"status": code, "headers": shown(&parts.headers),
            "body": String::from_utf8_lossy(&bytes), "timestamp": door.corridor().now()},
        "orchestrations": told.as_ref().map(|told| json!(told.orchestrations)).unwrap_or_else(|| json!([])),
    });
    if let Some(told) = &told {
        envelope["properties"] =
            json!({"mediatorTransaction": told.id, "mediatorStatus": told.status.as_str()});
    }
    if let Some(status) = status {
        envelope["status"] = json!(status);
    }
    // Core repeats whatever has an error, so only what was not accepted has one: the rest we repeat.
    if code >= 500 {
        envelope["status"] = json!("Failed");
        envelope["error"] =
            json!({"message": "the mediator could not keep the message; it is to be sent again"});
    }
    wrapped(parts.headers, &envelope)
}

/// Whether it is OpenHIM's core that calls: known once it has shown who it is.
#[derive(Clone, Default)]
pub(super) struct Core(Arc<AtomicBool>);

impl Core {
    pub(super) fn is_known(&self) {
        self.0.store(true, Relaxed);
    }

    fn is_it(&self) -> bool {
        self.0.load(Relaxed)
    }
}

fn shown(headers: &HeaderMap) -> BTreeMap<String, String> {
    let all = headers.iter().filter(|(name, _)| *name != CONTENT_LENGTH);
    all.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_string()))).collect()
}

/// Never compressed: core takes identity only.
fn wrapped(inner: HeaderMap, envelope: &Value) -> Response {
    let mut response = Response::new(Body::from(envelope.to_string()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json+openhim"));
    for name in [LOCATION, hyper::header::HeaderName::from_static("x-transaction-id")] {
        if let Some(value) = inner.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    response
}

impl Door {
    /// OpenHIM's word for how it stands. Nothing for what is still open on an asynchronous channel: only
    /// then core waits to be told.
    async fn word(&self, told: &Told, via: &Via) -> Option<&'static str> {
        match told.status {
            Status::Delivered | Status::Ignored => Some("Successful"),
            Status::Failed | Status::Cancelled => Some("Failed"),
            Status::Open => {
                self.corridor().journal().tell_later(&via.id);
                let asynchronous = match &self.0.openhim {
                    Some(openhim) => openhim.is_asynchronous(&via.id).await,
                    None => false,
                };
                (!asynchronous).then_some("Processing")
            }
        }
    }
}
