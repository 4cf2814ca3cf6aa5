//! Many at once, each a transaction of its own with an answer of its own: NDJSON, a batch, a request for a
//! Group. A long list is answered 202, and asked for by its address
//! (<https://hl7.org/fhir/R4/async.html>).
use super::Door;
use super::auth::Caller;
use super::fhir::{ROLES, entry_answer, entry_outcome};
use super::json;
use super::reply::{self, Reader, refusal};
use super::request::{Opened, Place, Read};
use crate::domain::audit::Act;
use crate::domain::fhir::mark_listed;
use crate::domain::message::Route;
use crate::flow::confirm::operation_outcome;
use crate::flow::corridor::Message;
use crate::flow::follow_ups::{Item, List};
use crate::flow::ports::{Accepted, JournalError};
use crate::translate::{self, Refusal, TYPES, add_problems, check_fhir, check_names};
use axum::extract::{Request, State};
use axum::response::Response;
use hyper::StatusCode;
use hyper::header::{CONTENT_LOCATION, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use serde_json::{Value, json};

/// Items that are taken into the journal together.
const CHUNK: usize = 100;
/// Longer lists are not waited for.
const SHORT: usize = 500;

const PREFER: HeaderName = HeaderName::from_static("prefer");

/// A list on its way in.
pub(super) struct Items<'a> {
    door: &'a Door,
    caller: Caller,
    idempotency_key: Option<String>,
    items: Vec<Item>,
    /// Accepted ones, as far as they may still be waited for.
    accepted: Vec<(usize, Accepted)>,
    /// Not yet in the journal.
    waiting: Vec<(usize, Message)>,
    later: bool,
}

/// Whether the caller would rather ask for the answers than wait for them.
pub(super) fn prefers_later(headers: &HeaderMap) -> bool {
    headers.get_all(PREFER).iter().any(|prefer| prefer.to_str().is_ok_and(|p| p.contains("respond-async")))
}

impl<'a> Items<'a> {
    pub(super) fn new(door: &'a Door, caller: Caller, idempotency_key: Option<String>, later: bool) -> Self {
        let (items, accepted, waiting) = (Vec::new(), Vec::new(), Vec::new());
        Self { door, caller, idempotency_key, items, accepted, waiting, later }
    }

    /// Takes one more; it is safe when a later one has been taken, or [`Items::finish`] has.
    pub(super) async fn add(&mut self, item: Result<Value, Vec<Refusal>>) -> Result<(), JournalError> {
        self.add_at(item, |problem| problem).await
    }

    /// The same; `at` tells a problem's place in what was sent.
    pub(super) async fn add_at(
        &mut self,
        item: Result<Value, Vec<Refusal>>,
        at: impl Fn(Refusal) -> Refusal,
    ) -> Result<(), JournalError> {
        let index = self.items.len();
        let message = item.and_then(|resource| {
            self.message(index, resource).map_err(|problems| problems.into_iter().map(at).collect())
        });
        match message {
            Ok(message) => {
                self.items.push(Item::Transaction(String::new()));
                self.waiting.push((index, message));
            }
            Err(problems) => self.items.push(Item::Refused(400, reply::outcome_of(&problems))),
        }
        if self.waiting.len() >= CHUNK { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), JournalError> {
        let (places, messages): (Vec<usize>, Vec<Message>) = self.waiting.drain(..).unzip();
        if messages.is_empty() {
            return Ok(());
        }
        let accepted = self.door.corridor().accept(messages).await?;
        for (place, accepted) in places.into_iter().zip(accepted) {
            self.items[place] = match &accepted {
                Accepted::KeyReused(_) => {
                    let reused = super::KEY_REUSED;
                    Item::Refused(422, operation_outcome("error", "duplicate", "", reused))
                }
                other => Item::Transaction(other.head().id.clone()),
            };
            if self.accepted.len() < SHORT {
                self.accepted.push((place, accepted));
            }
        }
        Ok(())
    }

    fn message(&self, index: usize, mut resource: Value) -> Result<Message, Vec<Refusal>> {
        let kind = resource["resourceType"].as_str().unwrap_or_default().to_string();
        if kind != "Bundle" && !TYPES.contains(&kind.as_str()) {
            let message = format!("only these types are taken: {}", TYPES.join(", "));
            return Err(vec![Refusal { path: "resourceType".into(), code: "not-supported", message }]);
        }
        let mut problems = check_fhir(Some(&kind), &resource, &self.door.0.profiles);
        add_problems(&mut problems, check_names(&resource, &self.caller.id));
        if !problems.is_empty() {
            return Err(problems);
        }
        let route = match kind.as_str() {
            "Bundle" => Route::Fhir(String::new()),
            _ => Route::Fhir(kind),
        };
        listed(&mut resource);
        let read = Read {
            caller: self.caller.clone(),
            // Each item is an act of its own.
            idempotency_key: self.idempotency_key.as_ref().map(|key| format!("{key} {index}")),
            bytes: resource.to_string().into_bytes(),
            body: resource,
        };
        Ok(self.door.message(&self.caller, route, read))
    }

    /// Every answer, if they come in time; else where to ask for them.
    pub(super) async fn finish(mut self) -> Response {
        let deadline = self.door.deadline();
        if let Err(error) = self.flush().await {
            return self.door.unsafe_now(Reader::Fhir, &error);
        }
        if !self.later && self.items.len() <= SHORT {
            return self.answered(deadline).await;
        }
        match self.kept().await {
            Ok(id) => asked_for(&self.caller.base, &id, self.items.len()),
            Err(error) => self.door.unsafe_now(Reader::Fhir, &error),
        }
    }

    /// So that its answers can be asked for.
    async fn kept(&self) -> Result<String, JournalError> {
        let corridor = self.door.corridor();
        let id = uuid::Uuid::now_v7().to_string();
        let list = List {
            id: id.clone(),
            client: self.caller.id.clone(),
            at: corridor.now(),
            items: self.items.clone(),
        };
        corridor.journal().keep_list(list).await?;
        Ok(id)
    }

    async fn answered(self, deadline: i64) -> Response {
        let mut answers: Vec<Value> = Vec::with_capacity(self.items.len());
        let mut accepted = self.accepted.iter().peekable();
        for (index, item) in self.items.iter().enumerate() {
            answers.push(match (item, accepted.next_if(|(place, _)| *place == index)) {
                (Item::Refused(status, outcome), _) => entry_answer(*status, outcome.clone(), None),
                (Item::Transaction(_), Some((_, accepted))) => {
                    entry_outcome(self.door, accepted.head(), &self.caller.base, deadline).await
                }
                (Item::Transaction(id), None) => entry_answer(202, Value::Null, Some(transaction(id))),
            });
        }
        let body = json!({"resourceType": "Bundle", "type": "batch-response", "entry": answers});
        reply::json_response(Reader::Fhir, 200, &body)
    }
}

/// Whoever is still asked for the same is not asked for again: of requests that came in a list.
fn listed(resource: &mut Value) {
    match resource["resourceType"].as_str() {
        Some("ServiceRequest" | "Task") => mark_listed(resource),
        Some("Bundle") => {
            let entries = resource["entry"].as_array_mut().into_iter().flatten();
            entries.for_each(|entry| listed(&mut entry["resource"]));
        }
        _ => {}
    }
}

fn transaction(id: &str) -> String {
    format!("/transactions/{id}")
}

fn asked_for(base: &str, id: &str, items: usize) -> Response {
    let place = format!("{base}/lists/{id}");
    let text = format!("{items} items are safe; ask for what became of each at {place}");
    let body = operation_outcome("information", "informational", "", &text);
    let mut response = reply::json_response(Reader::Fhir, 202, &body);
    if let Ok(place) = HeaderValue::from_str(&place) {
        response.headers_mut().insert(CONTENT_LOCATION, place);
    }
    response
}

/// `application/fhir+ndjson`: a resource a line, read as they come, so that a long list takes no room.
pub(super) async fn upload(door: &Door, opened: Opened) -> Response {
    let key = match opened.idempotency_key() {
        Ok(key) => key,
        Err(refused) => return *refused,
    };
    let (caller, later) = (opened.caller.clone(), prefers_later(&opened.parts.headers));
    let mut items = Items::new(door, caller, key, later);
    let mut lines = opened.lines(door.0.limits);
    loop {
        let line = match lines.next().await {
            Ok(Some(line)) => line,
            Ok(None) => break,
            Err(refused) => return broken_off(items, *refused).await,
        };
        if line.bytes.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let number = line.number;
        let parsed = json::parse(&line.bytes).map_err(|why| {
            let message = format!("line {number} is not JSON that can be taken: {why}");
            vec![Refusal { path: String::new(), code: "structure", message }]
        });
        if let Err(error) = items.add(parsed).await {
            return door.unsafe_now(Reader::Fhir, &error);
        }
    }
    if items.items.is_empty() {
        return refusal(
            Reader::Fhir,
            400,
            "structure",
            "",
            "the list is empty: a resource a line is expected",
        );
    }
    items.finish().await
}

/// What came before stays; whoever sends it again is told the same of it.
async fn broken_off(mut items: Items<'_>, refused: Response) -> Response {
    match items.flush().await {
        Ok(()) => refused,
        Err(error) => items.door.unsafe_now(Reader::Fhir, &error),
    }
}

/// What KenyaEMR's Afyastat module posts. It takes 200 and 201 for "taken" and repeats whatever else it is told: what
/// is safe is taken, and each document is answered by itself.
pub(super) async fn afyastat(State(door): State<Door>, request: Request) -> Response {
    let opened = match door.open(request, Reader::Fhir, ROLES).await {
        Ok(opened) => opened,
        Err(refused) => return *refused,
    };
    let read = match opened.read(door.0.limits).await {
        Ok(read) => read,
        Err(refused) => return *refused,
    };
    let requests = match translate::afyastat(&read.body) {
        Ok(requests) => requests,
        // Not taken, so that it stays in the EMR's queue, where it is seen.
        Err(problems) => return reply::problems(400, &problems),
    };
    let mut items = Items::new(&door, read.caller, read.idempotency_key, false);
    for item in requests {
        if let Err(error) = items.add(Ok(item)).await {
            return door.unsafe_now(Reader::Fhir, &error);
        }
    }
    let mut response = items.finish().await;
    if response.status() == StatusCode::ACCEPTED {
        *response.status_mut() = StatusCode::OK;
    }
    response
}

/// What became of a list: 202 while some of it is open, then a batch-response.
pub(super) async fn show(State(door): State<Door>, Place(id): Place<String>, request: Request) -> Response {
    let opened = match door.open(request, Reader::Fhir, ROLES).await {
        Ok(opened) => opened,
        Err(refused) => return *refused,
    };
    let journal = door.corridor().journal();
    let found = match journal.list_of(&id).await {
        Ok(found) => found.filter(|list| list.client == opened.caller.id),
        Err(error) => return door.unsafe_now(Reader::Fhir, &error),
    };
    let Some(list) = found else {
        let text = "you have sent no list of this id, or it is no longer kept";
        return refusal(Reader::Fhir, 404, "not-found", "", text);
    };
    let ids = list.items.iter().filter_map(Item::transaction).map(String::from).collect();
    let ends = match journal.answers(ids).await {
        Ok(ends) => ends,
        Err(error) => return door.unsafe_now(Reader::Fhir, &error),
    };
    let open = ends.values().filter(|answer| answer.is_none()).count();
    if open > 0 {
        return still(open, list.items.len());
    }
    let act = Act::Read { what: format!("lists/{id}") };
    if let Err(refused) = door.shows(Reader::Fhir, &opened.caller, act, None, Vec::new()).await {
        return *refused;
    }
    let answers: Vec<Value> = list
        .items
        .iter()
        .map(|item| match item {
            Item::Refused(status, outcome) => entry_answer(*status, outcome.clone(), None),
            Item::Transaction(id) => match ends.get(id) {
                Some(Some(answer)) if answer.status < 300 => {
                    entry_answer(answer.status, Value::Null, answer.location.clone())
                }
                Some(Some(answer)) => entry_answer(answer.status, answer.body.clone(), None),
                _ => entry_answer(410, Value::Null, Some(transaction(id))),
            },
        })
        .collect();
    let body = json!({"resourceType": "Bundle", "type": "batch-response", "entry": answers});
    reply::json_response(Reader::Fhir, 200, &body)
}

fn still(open: usize, all: usize) -> Response {
    let text = format!("{} of {all} are done", all - open);
    let body = operation_outcome("information", "informational", "", &text);
    let mut response = reply::json_response(Reader::Fhir, 202, &body);
    if let Ok(progress) = HeaderValue::from_str(&text) {
        response.headers_mut().insert(HeaderName::from_static("x-progress"), progress);
    }
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
    response
}
