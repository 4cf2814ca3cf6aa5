//! What EMRs and FHIR servers send: resources, Bundles, and follow-up requests.
use super::Door;
use super::lists::{self, Items};
use super::reply::{self, Reader, refusal};
use super::request::{LARGE, Place, Read, off_the_loop_if};
use crate::config::Role;
use crate::domain::audit::Act;
use crate::domain::fhir::{identifiers, mark_create_only, mark_if_match, set_identifiers};
use crate::domain::follow_up::{FollowUp, Kind};
use crate::domain::identifier::Identifier;
use crate::domain::message::Route;
use crate::flow::audit::patients;
use crate::flow::identify::directory_key;
use crate::flow::ports::{Head, JournalError};
use crate::translate::{
    Profiles, Refusal, TYPES, add_problems, capabilities, check_fhir, check_names, check_taken, check_valid,
    is_url_of, plain, spread,
};
use axum::extract::{Request, State};
use axum::response::Response;
use hyper::header::{HeaderMap, IF_MATCH};
use serde_json::{Value, json};

pub(super) const ROLES: &[Role] = &[Role::Fhir];

/// The TypeScript mediator's route for follow-up requests.
pub(super) async fn service_request(State(door): State<Door>, request: Request) -> Response {
    let read = match receive(&door, request, &[Role::Fhir, Role::Push]).await {
        Ok(read) => read,
        Err(refused) => return *refused,
    };
    let mut body = read.body.clone();
    if let Some(fields) = body.as_object_mut() {
        fields.entry("resourceType").or_insert(json!("ServiceRequest"));
    }
    take(&door, Read { body, ..read }, Route::ServiceRequest, Some("ServiceRequest"), 201).await
}

/// Where a resource of this type is not taken by this route.
fn is_no_route(kind: &str) -> Option<Response> {
    let text = match kind {
        "Bundle" => "POST a Bundle to /fhir, without its type in the address".to_string(),
        kind if TYPES.contains(&kind) => return None,
        _ => format!("{} is not taken; these are: {}", plain(kind), TYPES.join(", ")),
    };
    Some(refusal(Reader::Fhir, 404, "not-supported", "", &text))
}

pub(super) async fn create(
    State(door): State<Door>,
    Place(kind): Place<String>,
    request: Request,
) -> Response {
    let condition = request.headers().get("if-none-exist");
    let condition = condition.map(|text| text.to_str().unwrap_or_default().to_string());
    let later = lists::prefers_later(request.headers());
    let mut read = match receive(&door, request, roles_of(&kind)).await {
        Ok(read) => read,
        Err(refused) => return *refused,
    };
    if let Some(no) = is_no_route(&kind) {
        return no;
    }
    if let Some(condition) = condition {
        let Some((system, value)) = identifier_in(&condition) else {
            let text = "If-None-Exist takes identifier=system|value";
            return refusal(Reader::Fhir, 400, "not-supported", "", text);
        };
        put_first(&mut read.body, &system, &value);
        mark_create_only(&mut read.body);
    }
    // An id in a create is the server's to give (https://hl7.org/fhir/R4/http.html#create). Where
    // nothing else names the resource, it still tells a repeat.
    if kind == "Patient" && !identifiers(&read.body).is_empty() {
        read.body.as_object_mut().map(|fields| fields.remove("id"));
    }
    let route = route_for(&read, &kind);
    match spread_out(&door, read, &kind, later).await {
        Ok(answer) => answer,
        Err(read) => take(&door, *read, route, Some(&kind), 201).await,
    }
}

/// Patients have a path of their own, since they are looked up too.
pub(super) async fn create_patient(door: State<Door>, request: Request) -> Response {
    create(door, Place("Patient".into()), request).await
}

pub(super) async fn update_patient(door: State<Door>, id: Place<String>, request: Request) -> Response {
    update(door, Place(("Patient".into(), id.0)), request).await
}

pub(super) async fn update_patient_by_identifier(door: State<Door>, request: Request) -> Response {
    update_by_identifier(door, Place("Patient".into()), request).await
}

pub(super) async fn update(
    State(door): State<Door>,
    Place((kind, id)): Place<(String, String)>,
    request: Request,
) -> Response {
    let seen = version_seen(request.headers());
    let mut read = match receive(&door, request, roles_of(&kind)).await {
        Ok(read) => read,
        Err(refused) => return *refused,
    };
    if let Some(no) = is_no_route(&kind) {
        return no;
    }
    if let Some(version) = seen.filter(|_| matches!(kind.as_str(), "ServiceRequest" | "Task")) {
        mark_if_match(&mut read.body, &version);
    }
    if read.body["id"].as_str() != Some(&id) {
        let path = format!("{kind}.id");
        let text = "the resource's id is not the one in the address";
        return refusal(Reader::Fhir, 400, "invalid", &path, text);
    }
    let route = route_for(&read, &kind);
    take(&door, read, route, Some(&kind), 200).await
}

/// The version that may be changed only (<https://hl7.org/fhir/R4/http.html#concurrency>): `W/"v3"`. Versions of ours
/// look like no server's: HAPI's rest-hook sends an `If-Match` of its own.
fn version_seen(headers: &HeaderMap) -> Option<String> {
    version_in(headers.get(IF_MATCH)?.to_str().ok()?)
}

/// `W/"v3"`, also without its wrapping.
fn version_in(seen: &str) -> Option<String> {
    let version = seen.trim().strip_prefix("W/").unwrap_or(seen.trim()).trim_matches('"');
    let number = version.strip_prefix('v')?;
    let is_ours = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    is_ours.then(|| version.to_string())
}

/// CHT's outbound puts its CHWs here too.
fn roles_of(kind: &str) -> &'static [Role] {
    if kind == "Practitioner" { &[Role::Fhir, Role::Push] } else { ROLES }
}

/// What CHT pushes is answered as all its pushes are.
fn route_for(read: &Read, kind: &str) -> Route {
    match read.caller.may(Role::Fhir) {
        true => Route::Fhir(kind.into()),
        false => Route::DropIn(kind.into()),
    }
}

/// `PUT /fhir/{Type}?identifier=system|value`.
pub(super) async fn update_by_identifier(
    State(door): State<Door>,
    Place(kind): Place<String>,
    request: Request,
) -> Response {
    let query = request.uri().query().unwrap_or_default().to_string();
    let seen = version_seen(request.headers());
    let mut read = match receive(&door, request, ROLES).await {
        Ok(read) => read,
        Err(refused) => return *refused,
    };
    if let Some(no) = is_no_route(&kind) {
        return no;
    }
    let Some((system, value)) = identifier_in(&query) else {
        let text = "a conditional update takes ?identifier=system|value";
        return refusal(Reader::Fhir, 400, "not-supported", "", text);
    };
    put_first(&mut read.body, &system, &value);
    if let Some(version) = seen.filter(|_| matches!(kind.as_str(), "ServiceRequest" | "Task")) {
        mark_if_match(&mut read.body, &version);
    }
    take(&door, read, Route::Fhir(kind.clone()), Some(&kind), 200).await
}

/// What an entry of a transaction asks besides its resource: the identifier that it goes by, and whether
/// what is there already stays as it is.
fn apply_conditions(entry: &mut Value) -> Result<(), Refusal> {
    let request = entry.get("request").cloned().unwrap_or_default();
    let refuse = |element: &str| {
        let message = "only conditions of the form identifier=system|value are taken".to_string();
        Err(Refusal { path: format!("request.{element}"), code: "not-supported", message })
    };
    let url = request["url"].as_str().unwrap_or_default().to_string();
    let create = request["ifNoneExist"].as_str().map(str::to_string);
    let seen = request["ifMatch"].as_str().and_then(version_in);
    let method = request["method"].as_str().map(str::to_string);
    let Some(resource) = entry.get_mut("resource").filter(|resource| resource.is_object()) else {
        return Ok(());
    };
    match (method.as_deref(), url.split_once('?')) {
        (Some("PUT"), Some((_, query))) => match identifier_in(query) {
            Some((system, value)) => put_first(resource, &system, &value),
            None => return refuse("url"),
        },
        (Some("PUT"), None) if resource["id"].is_null() => {
            if let Some(id) = url.rsplit('/').next().filter(|_| url.contains('/')) {
                resource["id"] = json!(id);
            }
        }
        _ => {}
    }
    let is_request = matches!(resource["resourceType"].as_str(), Some("ServiceRequest" | "Task"));
    if let Some(version) = seen.filter(|_| is_request) {
        mark_if_match(resource, &version);
    }
    match create.as_deref().map(identifier_in) {
        Some(Some((system, value))) => {
            put_first(resource, &system, &value);
            mark_create_only(resource);
            Ok(())
        }
        Some(None) => refuse("ifNoneExist"),
        None => Ok(()),
    }
}

/// `identifier=system|value`, with whatever address before it.
fn identifier_in(query: &str) -> Option<(String, String)> {
    let query = query.rsplit('?').next()?;
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    let (name, token) = pairs.next()?;
    if name != "identifier" || pairs.next().is_some() {
        return None;
    }
    let Identifier { system, value } = Identifier::of_token(&token)?;
    (!value.is_empty()).then_some((system, value))
}

/// The identifier that the caller goes by is the one that counts.
fn put_first(resource: &mut Value, system: &str, value: &str) {
    if !(resource["identifier"].is_null() || resource["identifier"].is_array()) || !resource.is_object() {
        return; // refused as it is, or the one that it has
    }
    let mut all = identifiers(resource).to_vec();
    let wanted = |i: &Value| i["value"] == value && i["system"].as_str().unwrap_or_default() == system;
    let first = match all.iter().position(wanted) {
        Some(at) => all.remove(at),
        None if system.is_empty() => json!({"value": value}),
        None => json!({"system": system, "value": value}),
    };
    all.insert(0, first);
    set_identifiers(resource, all);
}

/// A transaction, message or collection is one act; a batch is as many as it has entries.
pub(super) async fn bundle(State(door): State<Door>, request: Request) -> Response {
    let opened = match door.open(request, Reader::Fhir, ROLES).await {
        Ok(opened) => opened,
        Err(refused) => return *refused,
    };
    if opened.is_ndjson() {
        return lists::upload(&door, opened).await;
    }
    let later = lists::prefers_later(&opened.parts.headers);
    let mut read = match opened.read(door.0.limits).await {
        Ok(read) => read,
        Err(refused) => return *refused,
    };
    let entries = read.body.get_mut("entry").and_then(Value::as_array_mut);
    for (i, entry) in entries.into_iter().flatten().enumerate() {
        if entry.is_object()
            && let Err(problem) = apply_conditions(entry)
        {
            let path = format!("Bundle.entry[{i}].{}", problem.path);
            return reply::problems(400, &located(vec![Refusal { path, ..problem }], &read.bytes));
        }
    }
    let is_batch = read.body["resourceType"] == "Bundle" && read.body["type"] == "batch";
    match is_batch {
        true => match check_fhir(Some("Bundle"), &read.body, &door.0.profiles) {
            found if found.is_empty() => batch(&door, read, later).await,
            found => reply::problems(400, &located(found, &read.bytes)),
        },
        false => match spread_out(&door, read, "Bundle", later).await {
            Ok(answer) => answer,
            Err(read) => take(&door, *read, Route::Fhir(String::new()), Some("Bundle"), 200).await,
        },
    }
}

/// A request for a group is as many as it has members; gives back what is no such.
async fn spread_out(door: &Door, read: Read, kind: &str, later: bool) -> Result<Response, Box<Read>> {
    if read.body["resourceType"] != kind {
        return Err(Box::new(read));
    }
    let items = match spread(&read.body) {
        Ok(None) => return Err(Box::new(read)),
        Ok(Some(items)) => items,
        Err(problem) => return Ok(reply::problems(422, &[problem])),
    };
    let mut list = Items::new(door, read.caller, read.idempotency_key, later);
    for item in items {
        if let Err(error) = list.add(Ok(item)).await {
            return Ok(door.unsafe_now(Reader::Fhir, &error));
        }
    }
    Ok(list.finish().await)
}

async fn receive(door: &Door, request: Request, roles: &[Role]) -> Result<Read, Box<Response>> {
    door.open(request, Reader::Fhir, roles).await?.read(door.0.limits).await
}

async fn take(door: &Door, read: Read, route: Route, kind: Option<&str>, created: u16) -> Response {
    let profiles = &door.0.profiles;
    let found = off_the_loop_if(read.bytes.len() > LARGE, || {
        let mut found = match door.flags(&route) {
            // CHT repeats for ever what is refused: it is taken, and fails visibly.
            _ if route.is_cht() => Vec::new(),
            true => flagged(&route, kind, &read.body, profiles),
            false => check_fhir(kind, &read.body, profiles),
        };
        if !route.is_cht() {
            add_problems(&mut found, check_names(&read.body, &read.caller.id));
        }
        located(found, &read.bytes)
    });
    if !found.is_empty() {
        return reply::problems(400, &found);
    }
    let caller = read.caller.clone();
    let bytes = read.body.to_string().into_bytes();
    let message = door.message(&caller, route, Read { bytes, ..read });
    door.take(message, created, &caller).await
}

/// What this route refuses although it takes what is not valid: the rest is told in the log, by number.
fn flagged(route: &Route, kind: Option<&str>, body: &Value, profiles: &Profiles) -> Vec<Refusal> {
    let hard = check_taken(kind, body);
    let soft = check_valid(body, profiles).len();
    if hard.is_empty() && soft > 0 {
        metrics::counter!("fhir_flagged", "route" => route.family()).increment(1);
        tracing::warn!(route = route.family(), issues = soft, "accepted although it is not valid FHIR");
    }
    hard
}

/// Problems of a large body that are told with their place: each is looked for from the start.
const LOCATED: usize = 5;

/// With line and column in what was sent.
fn located(problems: Vec<Refusal>, bytes: &[u8]) -> Vec<Refusal> {
    let most = if bytes.len() > LARGE { LOCATED } else { problems.len() };
    let at = |problem: Refusal| match fhir_validate::locate(bytes, &problem.path) {
        Some((line, column)) if !problem.path.is_empty() => {
            Refusal { message: format!("{} (line {line}, column {column})", problem.message), ..problem }
        }
        _ => problem,
    };
    problems
        .into_iter()
        .enumerate()
        .map(|(i, problem)| if i < most { at(problem) } else { problem })
        .collect()
}

/// Each entry is a transaction of its own and answered by itself; one bad entry spoils no other.
async fn batch(door: &Door, read: Read, later: bool) -> Response {
    let mut read = read;
    let entries = read.body["entry"].as_array_mut().map(std::mem::take).unwrap_or_default();
    let mut list = Items::new(door, read.caller, read.idempotency_key, later);
    for (i, entry) in entries.into_iter().enumerate() {
        let at = |problem: Refusal| {
            let rest = problem.path.split_once('.').map(|(_, rest)| format!(".{rest}")).unwrap_or_default();
            Refusal { path: format!("Bundle.entry[{i}].resource{rest}"), ..problem }
        };
        let item = entry_resource(entry, i);
        if let Err(error) = list.add_at(item, at).await {
            return door.unsafe_now(Reader::Fhir, &error);
        }
    }
    list.finish().await
}

/// The resource of an entry, if what is asked for it is a POST or a PUT of one.
fn entry_resource(mut entry: Value, index: usize) -> Result<Value, Vec<Refusal>> {
    let kind = entry["resource"]["resourceType"].as_str().unwrap_or_default();
    let refuse = |element: &str, code, message: String| {
        let path = format!("Bundle.entry[{index}].request.{element}");
        Err(vec![Refusal { path, code, message }])
    };
    let method = entry["request"]["method"].as_str().unwrap_or_default();
    if TYPES.contains(&kind) && !matches!(method, "POST" | "PUT") {
        return refuse("method", "not-supported", "a batch entry is a POST or a PUT".into());
    }
    let url = entry["request"]["url"].as_str().unwrap_or_default();
    if TYPES.contains(&kind) && !is_url_of(url, kind) {
        return refuse("url", "value", format!("a {kind} goes to {kind}"));
    }
    Ok(entry["resource"].take())
}

pub(super) async fn entry_outcome(door: &Door, head: &Head, base: &str, deadline: i64) -> Value {
    match door.corridor().wait(head, deadline).await {
        Some(answer) if answer.status < 300 => entry_answer(answer.status, Value::Null, answer.location),
        Some(answer) => entry_answer(answer.status, answer.body, None),
        None => entry_answer(202, Value::Null, Some(format!("{base}/transactions/{}", head.id))),
    }
}

pub(super) fn entry_answer(status: u16, outcome: Value, location: Option<String>) -> Value {
    let reason =
        hyper::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or_default();
    let mut response = json!({"status": format!("{status} {reason}")});
    if !outcome.is_null() {
        response["outcome"] = outcome;
    }
    if let Some(location) = location {
        response["location"] = json!(location);
    }
    json!({"response": response})
}

/// A request of this client by its own number, the id that it was answered with, or that of its transaction.
async fn read_one(door: &Door, client: &str, kind: &str, id: &str) -> Result<Option<Value>, JournalError> {
    let journal = door.corridor().journal();
    let mut found = journal.follow_ups_named(id).await?;
    if let Some(transaction) = journal.transaction(id).await?.filter(|t| t.client == client) {
        let part = transaction.plan.as_ref().and_then(|plan| plan.parts.first());
        let resource = part.and_then(|part| part.resource.as_ref()).unwrap_or(&Value::Null);
        if let Some(name) = resource["identifier"][0]["value"].as_str() {
            found.extend(journal.follow_ups_named(name).await?);
        }
    }
    if let Some(identifier) = journal.directory(&directory_key(client, kind, id)).await?
        && let Ok(identifier) = serde_json::from_value(identifier)
    {
        found.extend(journal.follow_up(Kind::FollowUp, &identifier).await?);
    }
    let view = door.corridor().view(client);
    let own = |f: &FollowUp| view.shows(f) && f.resource_type() == kind;
    Ok(found.into_iter().find(own).map(|follow_up| {
        let mut resource = follow_up.shown();
        resource["id"] = json!(id);
        resource
    }))
}

pub(super) async fn read(
    State(door): State<Door>,
    Place((kind, id)): Place<(String, String)>,
    request: Request,
) -> Response {
    let opened = match door.open(request, Reader::Fhir, ROLES).await {
        Ok(opened) => opened,
        Err(refused) => return *refused,
    };
    match read_one(&door, &opened.caller.id, &kind, &id).await {
        Ok(Some(resource)) => {
            let caller = &opened.caller;
            let route = Route::Fhir(kind.clone());
            let about = patients(&route, &caller.id, caller.destination.as_deref(), &resource);
            let act = Act::Read { what: format!("{kind}/{id}") };
            match door.shows(Reader::Fhir, caller, act, None, about).await {
                Ok(()) => reply::with_version(reply::json_response(Reader::Fhir, 200, &resource), &resource),
                Err(refused) => *refused,
            }
        }
        Ok(None) => {
            let text = "only requests that you sent here, and referrals to your facilities, can be read here";
            refusal(Reader::Fhir, 404, "not-found", "", text)
        }
        Err(error) => door.unsafe_now(Reader::Fhir, &error),
    }
}

/// <https://hl7.org/fhir/R4/capabilitystatement.html>; it is one of the profiles.
pub(super) async fn metadata() -> Response {
    let mut body = capabilities().clone();
    body["software"]["version"] = json!(crate::version::VERSION);
    reply::json_response(Reader::Fhir, 200, &body)
}
