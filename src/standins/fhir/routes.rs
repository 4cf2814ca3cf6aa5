//! The server's routes.
use super::store::{Conditions, Effect, Store, Written, location, parse_query, searchset};
use super::{Auth, Failure, Fhir, transaction};
use crate::standins::{basic, lock};
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::sync::Arc;

/// Of a search that doesn't say `_count`.
const PAGE: usize = 20;

const FHIR_JSON: &str = "application/fhir+json;charset=UTF-8";

type Answer = Result<Response, Failure>;

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        answer(status, &self.outcome())
    }
}

fn answer(status: StatusCode, resource: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, FHIR_JSON)], Body::from(resource.to_string())).into_response()
}

pub(super) fn router(fhir: Arc<Fhir>) -> Router {
    let routes = Router::new()
        .route("/metadata", get(metadata))
        .route("/{kind}", get(search).post(create).put(conditional_update))
        .route("/{kind}/_search", post(search_by_post))
        .route("/{kind}/{id}", get(read).put(update).delete(delete));
    Router::new()
        .nest("/fhir", routes)
        .route("/fhir", get(next_page).post(bundle))
        .route("/fhir/", get(next_page).post(bundle))
        .fallback(unknown)
        .layer(DefaultBodyLimit::max(32 << 20))
        .layer(middleware::from_fn_with_state(fhir.clone(), login))
        .with_state(fhir)
}

async fn login(State(fhir): State<Arc<Fhir>>, request: Request, next: Next) -> Response {
    let wanted = match &fhir.auth {
        Some(Auth::Basic { username, password }) => basic(username, password),
        Some(Auth::Bearer(token)) => format!("Bearer {token}"),
        None => return next.run(request).await,
    };
    let sent = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if sent == Some(&wanted) || request.uri().path() == "/fhir/metadata" {
        return next.run(request).await;
    }
    Failure::new(401, "login", "Missing or wrong Authorization").into_response()
}

async fn unknown() -> Failure {
    Failure::new(404, "not-found", "Unknown address")
}

async fn metadata() -> Json<Value> {
    Json(json!({"resourceType": "CapabilityStatement", "status": "active", "date": "2026-11-24",
        "kind": "instance", "fhirVersion": "4.0.1", "format": ["application/fhir+json", "json"],
        "software": {"name": "FHIR stand-in"}, "rest": [{"mode": "server",
        "interaction": [{"code": "transaction"}, {"code": "batch"}]}]}))
}

/// A body that says it is FHIR in JSON, and is JSON.
fn body_of(headers: &HeaderMap, body: &[u8]) -> Result<Value, Failure> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !matches!(essence, "application/fhir+json" | "application/json" | "application/json+fhir") {
        return Err(Failure::new(415, "not-supported", &format!("Content-Type {kind} is not supported")));
    }
    serde_json::from_slice(body).map_err(|error| {
        Failure::new(400, "structure", &format!("Failed to parse request body as JSON: {error}"))
    })
}

fn conditions(headers: &HeaderMap) -> Conditions {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(Into::into);
    Conditions { if_match: text("if-match"), if_none_exist: text("if-none-exist") }
}

fn written(fhir: &Fhir, headers: &HeaderMap, written: &Written) -> Response {
    let Written { effect, resource } = written;
    let status = if *effect == Effect::Created { StatusCode::CREATED } else { StatusCode::OK };
    let minimal = headers.get("prefer").is_some_and(|value| value == "return=minimal");
    let mut response = match minimal {
        true => status.into_response(),
        false => answer(status, resource),
    };
    let version = resource["meta"]["versionId"].as_str().unwrap_or_default();
    let mut set = |name, value: String| {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    };
    set(header::ETAG, format!("W/\"{version}\""));
    set(header::LOCATION, format!("{}/{}", fhir.base, location(resource)));
    response
}

async fn read(State(fhir): State<Arc<Fhir>>, Path((kind, id)): Path<(String, String)>) -> Answer {
    let resource = lock(&fhir.store).read(&kind, &id)?.clone();
    let version = resource["meta"]["versionId"].as_str().unwrap_or_default();
    Ok(([(header::ETAG, format!("W/\"{version}\""))], answer(StatusCode::OK, &resource)).into_response())
}

async fn create(
    State(fhir): State<Arc<Fhir>>,
    Path(kind): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let resource = body_of(&headers, &body)?;
    let done = fhir.write(|store| store.create(&kind, resource, &conditions(&headers)))?;
    Ok(written(&fhir, &headers, &done))
}

async fn update(
    State(fhir): State<Arc<Fhir>>,
    Path((kind, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let resource = body_of(&headers, &body)?;
    let done = fhir.write(|store| store.update(&kind, &id, resource, &conditions(&headers)))?;
    Ok(written(&fhir, &headers, &done))
}

async fn conditional_update(
    State(fhir): State<Arc<Fhir>>,
    Path(kind): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let resource = body_of(&headers, &body)?;
    let query = query.unwrap_or_default();
    let done =
        fhir.write(|store| store.conditional_update(&kind, &query, resource, &conditions(&headers)))?;
    Ok(written(&fhir, &headers, &done))
}

async fn delete(State(fhir): State<Arc<Fhir>>, Path((kind, id)): Path<(String, String)>) -> Answer {
    fhir.write(|store| store.delete(&kind, &id))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn bundle(State(fhir): State<Arc<Fhir>>, headers: HeaderMap, body: Bytes) -> Answer {
    let bundle = body_of(&headers, &body)?;
    let done = fhir.write(|store| transaction::process(store, bundle))?;
    Ok(answer(StatusCode::OK, &done))
}

async fn search(
    State(fhir): State<Arc<Fhir>>,
    Path(kind): Path<String>,
    RawQuery(query): RawQuery,
) -> Answer {
    first_page(&fhir, &kind, &query.unwrap_or_default())
}

async fn search_by_post(State(fhir): State<Arc<Fhir>>, Path(kind): Path<String>, body: String) -> Answer {
    first_page(&fhir, &kind, &body)
}

fn first_page(fhir: &Fhir, kind: &str, raw: &str) -> Answer {
    let query = parse_query(raw);
    let count = query.iter().find(|(name, _)| name == "_count").map_or(Ok(PAGE), |(_, count)| count.parse());
    let count = count.map_err(|_| Failure::new(400, "processing", "Invalid _count"))?;
    let mut store = lock(&fhir.store);
    let ids =
        store.search(kind, &query)?.iter().map(|r| r["id"].as_str().unwrap_or_default().into()).collect();
    let token = store.keep_pages(ids);
    let own = format!("{}/{kind}?{raw}", fhir.base);
    page(fhir, &store, &token, kind, 0, count, own)
}

/// `?_getpages=token&...`: only ever reached by the link of the page before.
async fn next_page(State(fhir): State<Arc<Fhir>>, RawQuery(query): RawQuery) -> Answer {
    let query = query.unwrap_or_default();
    let parsed = parse_query(&query);
    let value =
        |name| parsed.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str()).unwrap_or_default();
    let number = |name| value(name).parse().unwrap_or_default();
    let own = format!("{}?{query}", fhir.base);
    let (offset, count) = (number("_getpagesoffset"), number("_count"));
    page(&fhir, &lock(&fhir.store), value("_getpages"), value("_type"), offset, count, own)
}

fn page(
    fhir: &Fhir,
    store: &Store,
    token: &str,
    kind: &str,
    offset: usize,
    count: usize,
    own: String,
) -> Answer {
    let (matches, total, more) = store.page(token, kind, offset, count)?;
    let mut links = vec![("self", own)];
    // With `_count=0` only the total is asked for.
    if more && count > 0 {
        let rest = format!("_getpagesoffset={}&_count={count}&_type={kind}", offset + count);
        links.push(("next", format!("{}?_getpages={token}&{rest}", fhir.base)));
    }
    Ok(answer(StatusCode::OK, &searchset(&fhir.base, token, total, &matches, links)))
}
