//! A client's own R4 Subscriptions (<https://hl7.org/fhir/R4/subscription.html>), of the type rest-hook, on
//! requests and on what came of them.
use super::Door;
use super::reply::{Reader, json_response, refusal};
use super::request::{Opened, Place, Read};
use super::requests::asked_of;
use super::search::{Mode, Pairs, entry, link, pairs, searchset, unknown};
use crate::config::Role;
use crate::domain::audit::Act;
use crate::domain::follow_up::Criteria;
use crate::flow::confirm::operation_outcome;
use crate::flow::follow_ups::Subscription;
use crate::translate::check_valid;
use axum::extract::{Request, State};
use axum::response::Response;
use hyper::header::{HeaderName, HeaderValue, LOCATION};
use serde_json::{Value, json};

const ROLES: &[Role] = &[Role::Fhir];
/// Subscriptions that a client may have.
const MOST: usize = 50;

pub(super) async fn create(State(door): State<Door>, request: Request) -> Response {
    let read = match received(&door, request).await {
        Ok(read) => read,
        Err(refused) => return *refused,
    };
    let name = format!("{} {} {}", read.caller.id, read.body["criteria"], read.body["channel"]["endpoint"]);
    // The same again is the same.
    let id = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, name.as_bytes()).to_string();
    let mut response = keep(&door, read, &id, 201).await;
    if response.status() == 201
        && let Ok(place) = HeaderValue::from_str(&format!("Subscription/{id}"))
    {
        response.headers_mut().insert(LOCATION, place);
    }
    response
}

pub(super) async fn update(State(door): State<Door>, Place(id): Place<String>, request: Request) -> Response {
    let read = match received(&door, request).await {
        Ok(read) => read,
        Err(refused) => return *refused,
    };
    match door.own_subscription(&read.caller.id, &id).await {
        Ok(_) => keep(&door, read, &id, 200).await,
        Err(refused) => *refused,
    }
}

pub(super) async fn read(State(door): State<Door>, Place(id): Place<String>, request: Request) -> Response {
    let opened = match opened(&door, request).await {
        Ok(opened) => opened,
        Err(refused) => return *refused,
    };
    match door.own_subscription(&opened.caller.id, &id).await {
        Ok(subscription) => json_response(Reader::Fhir, 200, &subscription.resource),
        Err(refused) => *refused,
    }
}

pub(super) async fn list(State(door): State<Door>, request: Request) -> Response {
    let opened = match opened(&door, request).await {
        Ok(opened) => opened,
        Err(refused) => return *refused,
    };
    let all = match door.corridor().journal().subscriptions(Some(&opened.caller.id), None).await {
        Ok(all) => all,
        Err(error) => return door.unsafe_now(Reader::Fhir, &error),
    };
    let base = door.address(&opened.parts.headers, &opened.caller.base);
    let links = vec![link("self", &base, "Subscription", &Pairs::new())];
    let entries = all.into_iter().map(|one| entry(&base, one.resource, Mode::Match));
    let entries: Vec<Value> = entries.collect();
    json_response(Reader::Fhir, 200, &searchset(links, Some(entries.len()), entries))
}

pub(super) async fn delete(State(door): State<Door>, Place(id): Place<String>, request: Request) -> Response {
    let opened = match opened(&door, request).await {
        Ok(opened) => opened,
        Err(refused) => return *refused,
    };
    if let Err(refused) = door.own_subscription(&opened.caller.id, &id).await {
        return *refused;
    }
    if let Err(error) = door.corridor().journal().unsubscribe(&id).await {
        return door.unsafe_now(Reader::Fhir, &error);
    }
    door.tell_trail(&opened.caller, "unsubscribed", &id);
    let done = operation_outcome("information", "informational", "", "the Subscription is gone");
    json_response(Reader::Fhir, 200, &done)
}

async fn opened(door: &Door, request: Request) -> Result<Opened, Box<Response>> {
    door.open(request, Reader::Fhir, ROLES).await
}

async fn received(door: &Door, request: Request) -> Result<Read, Box<Response>> {
    opened(door, request).await?.read(door.0.limits).await
}

/// Keeps it, if it can be served; durably, before it is answered.
async fn keep(door: &Door, read: Read, id: &str, status: u16) -> Response {
    let refuse = |status, code, path: &str, why: &str| refusal(Reader::Fhir, status, code, path, why);
    if let Some(problem) = check_valid(&read.body, &door.0.profiles).into_iter().next() {
        return refuse(400, problem.code, &problem.path, &problem.message);
    }
    let subscription = match subscription(&read, id) {
        Ok(subscription) => subscription,
        Err((path, why)) => return refuse(422, "not-supported", path, &why),
    };
    if let Err(why) = door.corridor().check_address(&subscription.endpoint) {
        return refuse(422, "forbidden", "Subscription.channel.endpoint", &why);
    }
    let journal = door.corridor().journal();
    match journal.subscriptions(Some(&read.caller.id), None).await {
        Ok(all) if all.len() >= MOST && all.iter().all(|one| one.id != id) => {
            let why = format!("a client may have {MOST} Subscriptions; delete one");
            return refuse(422, "too-costly", "", &why);
        }
        Ok(_) => {}
        Err(error) => return door.unsafe_now(Reader::Fhir, &error),
    }
    let shown = subscription.resource.clone();
    if let Err(error) = journal.subscribe(subscription).await {
        return door.unsafe_now(Reader::Fhir, &error);
    }
    door.tell_trail(&read.caller, "subscribed", id);
    json_response(Reader::Fhir, status, &shown)
}

impl Door {
    /// Nobody else's: they do not even learn that it is there.
    async fn own_subscription(&self, client: &str, id: &str) -> Result<Subscription, Box<Response>> {
        let found = self.corridor().journal().subscription(id).await;
        let found = found.map_err(|error| Box::new(self.unsafe_now(Reader::Fhir, &error)))?;
        found.filter(|one| one.client == client).ok_or_else(|| {
            let text = "you have no Subscription of this id here";
            Box::new(refusal(Reader::Fhir, 404, "not-found", "", text))
        })
    }

    fn tell_trail(&self, caller: &super::auth::Caller, what: &str, id: &str) {
        let act = Act::Changed { action: format!("{what} {id}") };
        self.corridor().journal().note(self.corridor().event(caller.agent(), act));
    }
}

/// What it asks for; else the element that cannot be served, and why.
fn subscription(read: &Read, id: &str) -> Result<Subscription, (&'static str, String)> {
    let body = &read.body;
    let refuse = |path, why: &str| Err((path, why.to_string()));
    if body["resourceType"] != "Subscription" {
        return refuse("Subscription", "expected a Subscription");
    }
    if !matches!(body["status"].as_str(), Some("requested" | "active")) {
        return refuse("Subscription.status", "expected requested; DELETE one that is no longer wanted");
    }
    let channel = &body["channel"];
    if channel["type"] != "rest-hook" {
        return refuse("Subscription.channel.type", "only rest-hook is served");
    }
    let Some(endpoint) = channel["endpoint"].as_str() else {
        return refuse("Subscription.channel.endpoint", "missing: where to call");
    };
    let payload = channel["payload"].as_str();
    if payload.is_some_and(|kind| !kind.contains("json")) {
        return refuse("Subscription.channel.payload", "application/fhir+json, or none");
    }
    let written = body["criteria"].as_str().unwrap_or_default();
    let (kind, query) = written.split_once('?').unwrap_or((written, ""));
    let criteria = criteria(kind, query).map_err(|why| ("Subscription.criteria", why))?;
    let headers = headers(channel).map_err(|why| ("Subscription.channel.header", why))?;
    let mut resource = body.clone();
    resource["id"] = json!(id);
    resource["status"] = json!("active");
    // They may be secrets: they are used, and not shown again.
    if let Some(channel) = resource["channel"].as_object_mut() {
        channel.remove("header");
    }
    Ok(Subscription {
        id: id.to_string(),
        client: read.caller.id.clone(),
        resource_type: kind.to_string(),
        criteria,
        endpoint: endpoint.to_string(),
        with_payload: payload.is_some(),
        headers,
        resource,
    })
}

fn criteria(kind: &str, query: &str) -> Result<Criteria, String> {
    let pairs = pairs(query.as_bytes());
    match kind {
        "ServiceRequest" | "Task" => {
            const TAKEN: &[&str] = &[
                "_id",
                "identifier",
                "status",
                "requester",
                "requester:identifier",
                "performer:identifier",
                "owner:identifier",
                "_tag",
            ];
            if pairs.iter().any(|(key, _)| !TAKEN.contains(&key.as_str())) {
                return Err(unknown(&TAKEN.join(", ")));
            }
            asked_of(kind, &pairs).map(|asked| asked.criteria)
        }
        "Encounter" if pairs.iter().all(|(key, value)| key == "status" && value == "finished") => {
            Ok(Criteria { resource_type: kind.into(), ..Criteria::default() })
        }
        "Encounter" => {
            Err("of Encounter only status=finished is taken: all that came of your requests".into())
        }
        _ => Err("only ServiceRequest, Task and Encounter can be subscribed to".into()),
    }
}

/// Lines that a header may have, but those that are the connection's own.
fn headers(channel: &Value) -> Result<Vec<String>, String> {
    const OURS: &[&str] = &["host", "content-length", "content-type", "transfer-encoding", "connection"];
    let lines = channel["header"].as_array().into_iter().flatten().filter_map(Value::as_str);
    lines
        .map(|line| {
            let (name, value) =
                line.split_once(':').ok_or("expected lines such as Authorization: Bearer x")?;
            let name = HeaderName::try_from(name.trim()).map_err(|_| "this is no header's name")?;
            HeaderValue::try_from(value.trim()).map_err(|_| "this is no header's value")?;
            match OURS.contains(&name.as_str()) {
                true => Err(format!("{name} is not for you to set")),
                false => Ok(line.to_string()),
            }
        })
        .collect()
}
