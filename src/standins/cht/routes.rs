//! CHT's routes.
use super::store::{Store, text};
use super::{Cht, follow_new_person, record};
use crate::standins::{basic, lock};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;

type Answer = (StatusCode, Json<Value>);
type Params = Query<HashMap<String, String>>;

/// CHT refuses bodies beyond 32 MB with 413.
const LARGEST_BODY: usize = 32 << 20;

pub(super) fn router(cht: Arc<Cht>) -> Router {
    Router::new()
        .route("/api/v2/records", post(records))
        .route("/api/v1/report/uuid", get(report_uuids))
        .route("/api/v1/report/{id}", get(report))
        .route("/api/v1/person/{id}", get(person))
        .route("/api/v1/contact/uuid", get(contact_uuids))
        .route("/api/v1/contact/{id}", get(contact))
        .route("/api/v1/hydrate", get(hydrate_get).post(hydrate_post))
        .route("/api/v1/people", post(people))
        .route("/api/v1/contacts-by-phone", get(by_phone_get).post(by_phone_post))
        .route("/api/deploy-info", get(deploy_info))
        .route("/medic/{id}", get(document).put(replace))
        .route("/medic/_design/medic-client/_view/reports_by_subject", get(reports_by_subject))
        .fallback(no_such_path)
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(middleware::from_fn_with_state(cht.clone(), login))
        .with_state(cht)
}

async fn login(State(cht): State<Arc<Cht>>, request: Request, next: Next) -> Response {
    match refused_login(&cht, request.headers()) {
        Some(refusal) => refusal,
        None => next.run(request).await,
    }
}

fn refused_login(cht: &Cht, headers: &HeaderMap) -> Option<Response> {
    if cht.is_locked_out() {
        return Some(code(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests").into_response());
    }
    let sent = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let authorization = sent(header::AUTHORIZATION);
    if authorization == Some(&basic(&cht.options.username, &cht.options.password)) {
        return None;
    }
    if authorization.is_some() {
        cht.note_failed_login();
    }
    Some(match sent(header::ACCEPT) {
        Some(accept) if accept.contains("application/json") => {
            code(StatusCode::UNAUTHORIZED, "unauthorized").into_response()
        }
        _ => (StatusCode::FOUND, [(header::LOCATION, "/medic/login")]).into_response(),
    })
}

fn code(status: StatusCode, error: &str) -> Answer {
    (status, Json(json!({"code": status.as_u16(), "error": error})))
}

fn ok(body: Value) -> Answer {
    (StatusCode::OK, Json(body))
}

fn bad_parameter(reason: &str) -> Answer {
    (StatusCode::BAD_REQUEST, Json(json!({"error": "bad_request", "reason": reason})))
}

fn content_type(headers: &HeaderMap) -> &str {
    headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

async fn no_such_path() -> Answer {
    (StatusCode::NOT_FOUND, Json(json!({"error": "not_found", "reason": "Database does not exist."})))
}

async fn deploy_info() -> Answer {
    ok(json!({"application": "medic", "base_version": "5.2.0", "build": "5.2.0-1", "namespace": "medic",
        "schema_version": 2, "time": "2026-11-23T00:00:00.000Z", "version": "5.2.0", "user": ""}))
}

async fn records(State(cht): State<Arc<Cht>>, headers: HeaderMap, body: Bytes) -> Answer {
    let parsed = match content_type(&headers).starts_with("application/json") {
        true => record::parse(&cht.options.forms, &body),
        false => Err(record::Refused(None)),
    };
    match parsed {
        Ok(parsed) => ok(json!({"success": true, "id": cht.take_record(parsed).await})),
        Err(record::Refused(details)) => {
            let mut body = json!({"code": 500, "error": "Server error"});
            if let Some(details) = details {
                body["details"] = details.into();
            }
            (StatusCode::INTERNAL_SERVER_ERROR, Json(body))
        }
    }
}

/// CouchDB's own, which api passes on for users who are online.
async fn document(State(cht): State<Arc<Cht>>, Path(id): Path<String>) -> Answer {
    match lock(&cht.store).get(&id) {
        Some(doc) => ok(doc.clone()),
        None => (StatusCode::NOT_FOUND, Json(json!({"error": "not_found", "reason": "missing"}))),
    }
}

async fn replace(State(cht): State<Arc<Cht>>, Path(id): Path<String>, body: Bytes) -> Answer {
    let doc: Value = serde_json::from_slice(&body).unwrap_or_default();
    let saved = {
        let mut store = lock(&cht.store);
        if store.get(&id).is_some_and(|before| before["_rev"] != doc["_rev"]) {
            let conflict = json!({"error": "conflict", "reason": "Document update conflict."});
            return (StatusCode::CONFLICT, Json(conflict));
        }
        store.save(doc)
    };
    let pushed = lock(&cht.store).hydrated(&saved);
    tokio::spawn(async move { cht.pusher.push(&pushed).await });
    (StatusCode::CREATED, Json(json!({"ok": true, "id": saved["_id"], "rev": saved["_rev"]})))
}

async fn report(State(cht): State<Arc<Cht>>, Path(id): Path<String>, query: Params) -> Answer {
    let store = lock(&cht.store);
    found(&store, store.report(&id), &query, "Report not found")
}

async fn person(State(cht): State<Arc<Cht>>, Path(id): Path<String>, query: Params) -> Answer {
    let store = lock(&cht.store);
    found(&store, store.person(&id), &query, "Person not found")
}

async fn contact(State(cht): State<Arc<Cht>>, Path(id): Path<String>, query: Params) -> Answer {
    let store = lock(&cht.store);
    found(&store, store.contact(&id), &query, "Contact not found")
}

fn found(store: &Store, doc: Option<&Value>, query: &Params, missing: &str) -> Answer {
    let with_lineage = query.get("with_lineage").is_some_and(|value| value == "true");
    match doc {
        Some(doc) if with_lineage => ok(store.hydrated(doc)),
        Some(doc) => ok(doc.clone()),
        None => code(StatusCode::NOT_FOUND, missing),
    }
}

async fn report_uuids(State(cht): State<Arc<Cht>>, query: Params) -> Answer {
    let Some(freetext) = query.get("freetext") else {
        return code(StatusCode::BAD_REQUEST, "Invalid freetext [undefined].");
    };
    page(lock(&cht.store).reports_by_freetext(freetext, cht.options.index_delay))
}

async fn contact_uuids(State(cht): State<Arc<Cht>>, query: Params) -> Answer {
    let (freetext, kind) = (query.get("freetext"), query.get("type"));
    if freetext.is_none() && kind.is_none() {
        return code(StatusCode::BAD_REQUEST, "Either query param freetext or type is required");
    }
    page(lock(&cht.store).contacts_by_freetext(freetext.map(String::as_str), kind.map(String::as_str)))
}

fn page(ids: Vec<String>) -> Answer {
    ok(json!({"data": ids, "cursor": null}))
}

async fn hydrate_get(State(cht): State<Arc<Cht>>, query: Params) -> Answer {
    let ids = query.get("doc_ids").and_then(|ids| serde_json::from_str(ids).ok());
    hydrate(&cht, &ids.unwrap_or_default())
}

async fn hydrate_post(State(cht): State<Arc<Cht>>, body: Bytes) -> Answer {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    hydrate(&cht, &body["doc_ids"])
}

fn hydrate(cht: &Cht, ids: &Value) -> Answer {
    let Some(ids) = ids.as_array() else { return bad_parameter("`doc_ids` parameter must be a json array.") };
    let store = lock(&cht.store);
    let docs = ids.iter().map(|id| match id.as_str().and_then(|id| store.get(id)) {
        Some(doc) => json!({"id": id, "doc": store.hydrated(doc)}),
        None => json!({"id": id, "error": "not_found"}),
    });
    ok(docs.collect())
}

async fn by_phone_get(State(cht): State<Arc<Cht>>, query: Params) -> Answer {
    by_phone(&cht, query.get("phone").map(String::as_str))
}

async fn by_phone_post(State(cht): State<Arc<Cht>>, body: Bytes) -> Answer {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    by_phone(&cht, body["phone"].as_str())
}

/// What is asked for is normalised; what is stored is not.
fn by_phone(cht: &Cht, phone: Option<&str>) -> Answer {
    let number = phone.and_then(|phone| phonenumber::parse(Some(phonenumber::country::KE), phone).ok());
    let Some(number) = number.filter(phonenumber::is_valid) else {
        return bad_parameter("`phone` parameter is required and must be a valid phone number");
    };
    let docs = lock(&cht.store).by_phone(&number.format().mode(phonenumber::Mode::E164).to_string());
    if docs.is_empty() {
        return (StatusCode::NOT_FOUND, Json(json!({"error": "not_found", "reason": "no matches found"})));
    }
    ok(json!({"ok": true, "docs": docs}))
}

async fn people(State(cht): State<Arc<Cht>>, headers: HeaderMap, body: Bytes) -> Answer {
    const EMPTY: &str = "Request body is empty or Content-Type header was not set to application/json.";
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    // A charset behind it is refused, too.
    if content_type(&headers) != "application/json" || body.as_object().is_none_or(serde_json::Map::is_empty)
    {
        return code(StatusCode::BAD_REQUEST, EMPTY);
    }
    match create_person(&mut lock(&cht.store), body) {
        Ok(person) => {
            tokio::spawn(follow_new_person(cht.clone(), text(&person, "_id").into()));
            ok(json!({"ok": true, "id": person["_id"], "rev": person["_rev"]}))
        }
        Err(answer) => answer,
    }
}

fn create_person(store: &mut Store, mut person: Value) -> Result<Value, Answer> {
    let refuse = |error: &str| Err(code(StatusCode::BAD_REQUEST, error));
    match &person["type"] {
        Value::Null => person["type"] = "person".into(),
        kind if kind == "person" => {}
        _ => return refuse("Wrong type, this is not a person."),
    }
    match &person["name"] {
        Value::Null => return refuse("Person is missing a \"name\" property."),
        Value::String(_) => {}
        _ => return refuse("Property \"name\" must be a string."),
    }
    if store.get(text(&person, "_id")).is_some() {
        return Err(code(StatusCode::CONFLICT, "Document update conflict."));
    }
    let place = person.as_object_mut().and_then(|person| person.remove("place")).unwrap_or_default();
    // A `parent` that is text is kept as it is, and then leads nowhere.
    if !place.is_null() {
        person["parent"] = parent(store, place)?;
    }
    if person["reported_date"].is_null() {
        person["reported_date"] = store.clock.now_ms().into();
    }
    Ok(store.save(person))
}

/// `place` names a place, or describes a new one.
fn parent(store: &mut Store, place: Value) -> Result<Value, Answer> {
    let id = match place {
        Value::String(id) => id,
        described => text(&store.save(described), "_id").to_string(),
    };
    store.lineage(&id).ok_or_else(|| code(StatusCode::NOT_FOUND, "Failed to find place."))
}

async fn reports_by_subject(State(cht): State<Arc<Cht>>, query: Params) -> Answer {
    let key: Option<Value> = query.get("key").and_then(|key| serde_json::from_str(key).ok());
    let Some(key) = key else {
        return (
            StatusCode::BAD_REQUEST,
            Json(json!({"error": "query_parse_error", "reason": "Invalid value for key"})),
        );
    };
    let store = lock(&cht.store);
    let rows = store.rows_by_subject(key.as_str().unwrap_or_default());
    ok(json!({"total_rows": store.reports().len(), "offset": 0, "rows": rows}))
}
