//! What the door tells the audit trail: what was shown to whom, before it is shown, and who was sent away.
use super::Door;
use super::auth::Caller;
use super::reply::{Code, Reader, refusal};
use crate::domain::audit::{Act, Agent, Event, Kind};
use crate::domain::identifier::Identifier;
use crate::flow::ports::Millis;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use hyper::Method;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

/// Where a connection comes from.
#[derive(Clone, Copy)]
pub struct Peer(pub SocketAddr);

pub(super) fn address(extensions: &hyper::http::Extensions) -> Option<String> {
    extensions.get::<Peer>().map(|Peer(address)| address.ip()).map(|ip: IpAddr| ip.to_canonical().to_string())
}

/// Who a request turns out to be from.
#[derive(Clone, Default)]
pub(super) struct Known(Arc<Mutex<Option<Agent>>>);

impl Known {
    /// For whoever looks at the request from outside, if anybody does.
    pub(super) fn note(extensions: &hyper::http::Extensions, agent: Agent) {
        if let Some(Self(known)) = extensions.get() {
            *known.lock().unwrap_or_else(PoisonError::into_inner) = Some(agent);
        }
    }

    fn take(&self) -> Option<Agent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Caller {
    pub(super) fn agent(&self) -> Agent {
        Agent::new(Kind::Client, &self.id, self.from.clone())
    }
}

impl Door {
    /// Records that a caller is about to be shown something. What cannot be recorded is not shown.
    pub(super) async fn shows(
        &self,
        reader: Reader,
        caller: &Caller,
        act: Act,
        transaction: Option<String>,
        patients: Vec<Identifier>,
    ) -> Result<(), Box<Response>> {
        let event = Event { transaction, patients, ..self.corridor().event(caller.agent(), act) };
        self.corridor().journal().record(event).await.map_err(|error| {
            tracing::error!(%error, "nothing is shown that the audit trail cannot record");
            let text = "the audit trail cannot record this now; try again later";
            Box::new(refusal(reader, 503, "transient", "", text))
        })
    }

    /// Refusals that were only counted get their record.
    pub fn count_refusals(&self) {
        let now = self.corridor().now();
        if let Some(act) = self.0.refusals.lock().unwrap_or_else(PoisonError::into_inner).close(now) {
            self.note(act);
        }
    }

    fn note(&self, act: Act) {
        self.corridor().journal().note(self.corridor().event(Agent::mediator(), act));
    }

    fn refused(&self, by: Agent, act: Act) {
        let now = self.corridor().now();
        let (recorded, counted) = self.0.refusals.lock().unwrap_or_else(PoisonError::into_inner).take(now);
        if let Some(act) = counted {
            self.note(act);
        }
        if recorded {
            self.corridor().journal().note(self.corridor().event(by, act));
        }
    }
}

/// Sees who is sent away, whyever. What became a transaction is none of it: its end is recorded.
pub(super) async fn refusals(State(door): State<Door>, mut request: Request, next: Next) -> Response {
    let known = Known::default();
    request.extensions_mut().insert(known.clone());
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let from = address(request.extensions());
    let response = next.run(request).await;
    let (status, code) = (response.status().as_u16(), response.extensions().get::<Code>());
    let code = code.map_or("", |Code(code)| code.as_str());
    let is_refusal = (400..500).contains(&status) || (status == 503 && code == "throttled");
    if is_refusal && !response.headers().contains_key("x-transaction-id") {
        let by = known.take().unwrap_or_else(|| Agent::new(Kind::Stranger, "", from));
        let route = route.as_ref().map_or("(no route)", |route| route.as_str());
        let request = format!("{} {route}", plain(&method));
        door.refused(by, Act::Refused { request, status, code: code.to_string() });
    }
    response
}

/// A method that nobody made up.
fn plain(method: &Method) -> &str {
    match *method {
        Method::GET
        | Method::POST
        | Method::PUT
        | Method::DELETE
        | Method::PATCH
        | Method::HEAD
        | Method::OPTIONS => method.as_str(),
        _ => "(other)",
    }
}

/// Refusals that get a record of their own in a minute; further ones are counted, and the number is recorded: a
/// flood of them must not fill the disk.
const RECORDED: u32 = 30;
const MINUTE: Millis = 60_000;

#[derive(Default)]
pub(super) struct Refusals {
    since: Millis,
    recorded: u32,
    counted: u64,
}

impl Refusals {
    /// Whether this one gets a record, and what is to be said of the minute that is over.
    fn take(&mut self, now: Millis) -> (bool, Option<Act>) {
        let is_over = !(self.since..self.since + MINUTE).contains(&now);
        let counted = if is_over { self.close(now) } else { None };
        self.recorded = (self.recorded + 1).min(RECORDED + 1);
        if self.recorded > RECORDED {
            self.counted += 1;
            return (false, counted);
        }
        (true, counted)
    }

    /// Begins a new minute.
    fn close(&mut self, now: Millis) -> Option<Act> {
        let over = std::mem::replace(self, Self { since: now, ..Self::default() });
        (over.counted > 0).then_some(Act::Counted { refusals: over.counted, since: over.since })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_thirty_records_a_minute_and_a_number() {
        let mut refusals = Refusals::default();
        let start = 1_795_467_014_033;
        let (mut recorded, mut counted) = (0, 0);
        for i in 0..180_000 {
            let (is_recorded, act) = refusals.take(start + i);
            recorded += u64::from(is_recorded);
            if let Some(Act::Counted { refusals, .. }) = act {
                counted += refusals;
            }
        }
        if let Some(Act::Counted { refusals, .. }) = refusals.close(start + 180_000) {
            counted += refusals;
        }
        assert_eq!((recorded, recorded + counted), (90, 180_000));
        assert_eq!(refusals.close(start + 200_000), None, "nothing is said of nothing");
    }

    #[test]
    fn a_clock_that_jumps_back_begins_a_new_minute() {
        let mut refusals = Refusals::default();
        (0..100).for_each(|_| drop(refusals.take(1_000_000)));
        let (recorded, counted) = refusals.take(10);
        assert!(recorded && matches!(counted, Some(Act::Counted { refusals: 70, .. })));
    }
}
