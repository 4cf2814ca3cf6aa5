//! What operators ask over HTTP. The command line asks the journal itself.
use super::Door;
use super::reply::{Reader, json_response, refusal};
use super::request::Place;
use crate::config::Role;
use crate::domain::audit::Act;
use crate::domain::message::Route;
use crate::domain::plan::Status;
use crate::flow::ports::{Action, Filter, Transaction};
use axum::extract::{Query, Request, State};
use axum::response::Response;
use serde_json::{Value, json};
use std::collections::HashMap;

const EVERYBODY: &[Role] = &[Role::Admin, Role::Fhir, Role::Push];

/// `?status=failed&route=/cht/push&limit=100`
pub(super) async fn list(
    State(door): State<Door>,
    Query(query): Query<HashMap<String, String>>,
    request: Request,
) -> Response {
    let opened = match door.open(request, Reader::Plain, &[Role::Admin]).await {
        Ok(opened) => opened,
        Err(refused) => return *refused,
    };
    let filter = match filter(&query) {
        Ok(filter) => filter,
        Err(text) => return refusal(Reader::Plain, 400, "invalid", "", text),
    };
    let act = Act::Searched { path: "/transactions".into(), query: asked(&filter) };
    if let Err(refused) = door.shows(Reader::Plain, &opened.caller, act, None, Vec::new()).await {
        return *refused;
    }
    match door.corridor().journal().list(filter).await {
        Ok(rows) => json_response(Reader::Plain, 200, &json!({"transactions": rows})),
        Err(error) => refusal(Reader::Plain, 503, "transient", "", &error.to_string()),
    }
}

/// Transactions that are listed at once.
const MOST: u32 = 10_000;

fn filter(query: &HashMap<String, String>) -> Result<Filter, &'static str> {
    let status = query.get("status").map(|text| Status::parse(text));
    let limit = query.get("limit").map(|text| text.parse().ok().filter(|n| (1..=MOST).contains(n)));
    match (status, limit) {
        (Some(None), _) => Err("status is open, delivered, failed, ignored or cancelled"),
        (_, Some(None)) => Err("limit is a number from 1 to 10000"),
        (status, limit) => Ok(Filter {
            status: status.flatten(),
            route: query.get("route").cloned(),
            limit: Some(limit.flatten().unwrap_or(100)),
        }),
    }
}

/// What was understood of the query, for the audit trail.
fn asked(filter: &Filter) -> String {
    let status = filter.status.map(|status| format!("status={}", status.as_str()));
    let route = filter.route.as_deref().and_then(|route| route.parse::<Route>().ok());
    let route = route.map(|route| format!("route={route}"));
    let limit = filter.limit.map(|limit| format!("limit={limit}"));
    [status, route, limit].into_iter().flatten().collect::<Vec<_>>().join("&")
}

/// How a transaction stands. Who sent it may ask; what it said is not shown.
pub(super) async fn show(State(door): State<Door>, Place(id): Place<String>, request: Request) -> Response {
    let opened = match door.open(request, Reader::Plain, EVERYBODY).await {
        Ok(opened) => opened,
        Err(refused) => return *refused,
    };
    match door.corridor().journal().transaction(&id).await {
        Ok(Some(t)) if t.client == opened.caller.id || opened.caller.may(Role::Admin) => {
            let act = Act::Read { what: "transaction".into() };
            match door.shows(Reader::Plain, &opened.caller, act, Some(id), t.patients()).await {
                Ok(()) => json_response(Reader::Plain, 200, &shown(&t)),
                Err(refused) => *refused,
            }
        }
        Ok(_) => refusal(Reader::Plain, 404, "not-found", "", "there is no such transaction"),
        Err(error) => refusal(Reader::Plain, 503, "transient", "", &error.to_string()),
    }
}

fn shown(transaction: &Transaction) -> Value {
    let empty = Vec::new();
    let plan = transaction.plan.as_ref();
    let steps: Vec<Value> = plan
        .map_or(&empty, |plan| &plan.steps)
        .iter()
        .zip(&transaction.progress)
        .map(|(step, progress)| {
            json!({"destination": step.destination, "status": progress.status, "attempts": progress.attempts,
                "error": progress.error, "ids": progress.ids.values().collect::<Vec<_>>()})
        })
        .collect();
    json!({"id": transaction.head.id, "route": transaction.route, "client": transaction.client,
        "received": rfc3339(transaction.received), "status": transaction.head.status,
        "attempts": transaction.attempts, "mapping": transaction.mapping, "error": transaction.error, "steps": steps,
        "answer": transaction.answer.as_ref().map(|a| json!({"status": a.status, "body": a.body}))})
}

fn rfc3339(millis: i64) -> String {
    jiff::Timestamp::from_millisecond(millis).map(|t| t.to_string()).unwrap_or_default()
}

/// `?as_planned=true` delivers what the mapping of then made.
pub(super) async fn rerun(
    State(door): State<Door>,
    Place(id): Place<String>,
    Query(query): Query<HashMap<String, String>>,
    request: Request,
) -> Response {
    let action = match query.get("as_planned").map(String::as_str) {
        None | Some("false") => Ok(Action::Rerun),
        Some("true" | "") => Ok(Action::RerunAsPlanned),
        Some(_) => Err("as_planned is true or false"),
    };
    change(&door, &id, action, request).await
}

/// Reads the mappings anew.
pub(super) async fn reload(State(door): State<Door>, request: Request) -> Response {
    let opened = match door.open(request, Reader::Plain, &[Role::Admin]).await {
        Ok(opened) => opened,
        Err(refused) => return *refused,
    };
    match door.corridor().reload_mappings(opened.caller.agent()).await {
        Ok(names) => json_response(Reader::Plain, 200, &json!({"mappings": names})),
        Err(mistakes) => json_response(
            Reader::Plain,
            422,
            &json!({
            "error": "the mappings have mistakes; those from before serve on", "mistakes": mistakes}),
        ),
    }
}

pub(super) async fn cancel(State(door): State<Door>, Place(id): Place<String>, request: Request) -> Response {
    change(&door, &id, Ok(Action::Cancel), request).await
}

async fn change(door: &Door, id: &str, action: Result<Action, &str>, request: Request) -> Response {
    let opened = match door.open(request, Reader::Plain, &[Role::Admin]).await {
        Ok(opened) => opened,
        Err(refused) => return *refused,
    };
    let action = match action {
        Ok(action) => action,
        Err(text) => return refusal(Reader::Plain, 400, "invalid", "", text),
    };
    match door.corridor().change(id, action, opened.caller.agent()).await {
        Ok(Ok(head)) => json_response(Reader::Plain, 200, &json!({"id": head.id, "status": head.status})),
        Ok(Err(why)) => refusal(Reader::Plain, 409, "conflict", "", &why),
        Err(error) => refusal(Reader::Plain, 503, "transient", "", &error.to_string()),
    }
}
