//! A request, step by step: closed, opened once its sender is known and may come in, read. The body
//! is out of reach before.
use super::audit::{self, Known};
use super::auth::{Caller, Clients, Denied};
use super::json;
use super::reply::{Reader, refusal};
use crate::config::Role;
use crate::domain::audit::{Agent, Kind};
use crate::flow::off_the_loop;
use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Request};
use axum::response::Response;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What stands in a path. One that is no text is refused like every other mistake.
pub struct Place<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Place<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let found = Path::<T>::from_request_parts(parts, state).await;
        found
            .map(|Path(found)| Self(found))
            .map_err(|_| refusal(Reader::Fhir, 400, "structure", "", "the path is not UTF-8"))
    }
}

/// As it came.
pub struct Closed {
    parts: Parts,
    body: Body,
    reader: Reader,
}

/// From somebody who may send it.
pub struct Opened {
    pub caller: Caller,
    pub parts: Parts,
    body: Body,
    reader: Reader,
}

/// Read whole.
pub struct Read {
    pub caller: Caller,
    pub idempotency_key: Option<String>,
    pub bytes: Vec<u8>,
    pub body: Value,
}

#[derive(Clone, Copy)]
pub struct Limits {
    pub max_body_bytes: usize,
    pub max_list_bytes: usize,
    pub read_timeout: Duration,
}

impl Closed {
    pub fn new(request: Request, reader: Reader) -> Self {
        let (parts, body) = request.into_parts();
        Self { parts, body, reader }
    }

    /// Lets in whoever has one of the roles.
    pub async fn open(self, clients: &Clients, roles: &[Role]) -> Result<Opened, Box<Response>> {
        let shown = said_once(&self.parts, AUTHORIZATION);
        let extensions = &self.parts.extensions;
        let caller = match shown {
            Ok(shown) => clients.authenticate(shown).await,
            Err(()) => Err(Denied::Wrong),
        };
        let caller = match caller {
            Ok(caller) if roles.iter().any(|role| caller.may(*role)) => Ok(caller),
            Ok(caller) => {
                let from = audit::address(extensions);
                Known::note(extensions, Caller { from, ..caller }.agent());
                Err(Denied::Role)
            }
            Err(denied) => {
                let claimed = shown.ok().and_then(|shown| clients.claimed(shown)).unwrap_or_default();
                let stranger = Agent::new(Kind::Stranger, claimed, audit::address(extensions));
                Known::note(extensions, stranger);
                Err(denied)
            }
        };
        match caller {
            Ok(caller) => Ok(Opened { caller, parts: self.parts, body: self.body, reader: self.reader }),
            Err(denied) => Err(Box::new(denial(self.reader, &denied))),
        }
    }
}

fn denial(reader: Reader, denied: &Denied) -> Response {
    metrics::counter!("requests_denied").increment(1);
    match denied {
        Denied::Missing => refusal(reader, 401, "login", "", "say who you are: Basic or Bearer"),
        Denied::Wrong => refusal(reader, 401, "login", "", "the client id or secret is wrong"),
        Denied::TooBusy => refusal(reader, 503, "throttled", "", "too many logins at once; try again"),
        Denied::Role => {
            refusal(reader, 403, "forbidden", "", "this client does not have the role for this route")
        }
    }
}

/// A body's lines, as they come.
pub struct Lines {
    body: Body,
    reader: Reader,
    limits: Limits,
    until: tokio::time::Instant,
    buffer: Vec<u8>,
    /// Of what is in the buffer, looked through for the end of a line.
    seen: usize,
    total: usize,
    number: usize,
    ended: bool,
}

pub struct Line {
    /// From 1.
    pub number: usize,
    pub bytes: Vec<u8>,
}

/// How long all of a list may take to arrive.
const LIST_WITHIN: Duration = Duration::from_secs(600);

impl Lines {
    /// The next one; a line, and the list, must not be too long, and each part of it come in time.
    pub async fn next(&mut self) -> Result<Option<Line>, Box<Response>> {
        let refuse = |code: u16, kind, text: &str| Err(Box::new(refusal(self.reader, code, kind, "", text)));
        loop {
            if let Some(end) = self.buffer[self.seen..].iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(self.seen + end + 1);
                return Ok(Some(self.line(rest)));
            }
            self.seen = self.buffer.len();
            if self.seen > self.limits.max_body_bytes {
                return refuse(413, "too-long", "a line is larger than server.max_body_bytes");
            }
            if self.ended {
                return Ok((!self.buffer.is_empty()).then(|| self.line(Vec::new())));
            }
            let wait = self.limits.read_timeout.min(self.until - tokio::time::Instant::now());
            let frame = match tokio::time::timeout(wait, self.body.frame()).await {
                Err(_) => return refuse(408, "timeout", "the list did not arrive in time"),
                Ok(Some(Err(_))) => return refuse(400, "structure", "the list broke off"),
                Ok(Some(Ok(frame))) => frame,
                Ok(None) => {
                    self.ended = true;
                    continue;
                }
            };
            let data = frame.into_data().unwrap_or_default();
            self.total += data.len();
            self.buffer.extend_from_slice(&data);
            if self.total > self.limits.max_list_bytes {
                return refuse(
                    413,
                    "too-long",
                    "the list is larger than server.max_list_bytes; send it in parts",
                );
            }
        }
    }

    fn line(&mut self, rest: Vec<u8>) -> Line {
        self.number += 1;
        self.seen = 0;
        Line { number: self.number, bytes: std::mem::replace(&mut self.buffer, rest) }
    }
}

impl Opened {
    /// A resource a line.
    pub fn is_ndjson(&self) -> bool {
        let kind = self.parts.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        kind.is_some_and(|kind| kind.to_lowercase().contains("ndjson"))
    }

    pub fn idempotency_key(&self) -> Result<Option<String>, Box<Response>> {
        idempotency_key(&self.parts).map_err(|text| Box::new(refusal(self.reader, 400, "value", "", text)))
    }

    pub fn lines(self, limits: Limits) -> Lines {
        Lines {
            body: self.body,
            reader: self.reader,
            limits,
            until: tokio::time::Instant::now() + LIST_WITHIN,
            buffer: Vec::new(),
            seen: 0,
            total: 0,
            number: 0,
            ended: false,
        }
    }

    /// The pairs of a form, not yet taken apart.
    pub async fn form(mut self, limits: Limits) -> Result<(Self, Vec<u8>), Box<Response>> {
        const FORM: &str = "application/x-www-form-urlencoded";
        if is_compressed(&self.parts) || kind_of(&self.parts).is_none_or(|kind| kind != FORM) {
            return Err(Box::new(refusal(self.reader, 415, "not-supported", "", &format!("send {FORM}"))));
        }
        let bytes = self.bytes(limits).await?;
        Ok((self, bytes))
    }

    async fn bytes(&mut self, limits: Limits) -> Result<Vec<u8>, Box<Response>> {
        let refuse = |status, code, text: &str| Box::new(refusal(self.reader, status, code, "", text));
        let too_large =
            format!("the body is larger than {} bytes (server.max_body_bytes)", limits.max_body_bytes);
        if declared_length(&self.parts).is_some_and(|length| length > limits.max_body_bytes as u64) {
            return Err(refuse(413, "too-long", &too_large));
        }
        let body = Limited::new(std::mem::take(&mut self.body), limits.max_body_bytes).collect();
        match tokio::time::timeout(limits.read_timeout, body).await {
            Err(_) => Err(refuse(408, "timeout", "the body did not arrive in time")),
            Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => {
                Err(refuse(413, "too-long", &too_large))
            }
            Ok(Err(_)) => Err(refuse(400, "structure", "the body broke off")),
            Ok(Ok(collected)) => Ok(collected.to_bytes().to_vec()),
        }
    }

    pub async fn read(mut self, limits: Limits) -> Result<Read, Box<Response>> {
        let reader = self.reader;
        let refuse = |status, code, text: &str| Box::new(refusal(reader, status, code, "", text));
        if let Some(text) = wrong_kind(&self.parts) {
            return Err(refuse(415, "not-supported", &text));
        }
        let idempotency_key = idempotency_key(&self.parts).map_err(|text| refuse(400, "value", text))?;
        let bytes = self.bytes(limits).await?;
        let body = off_the_loop_if(bytes.len() > LARGE, || json::parse(&bytes))
            .map_err(|e| refuse(400, "structure", &format!("the body is not JSON that can be taken: {e}")))?;
        if !body.is_object() {
            return Err(refuse(400, "structure", "the body is not a JSON object"));
        }
        Ok(Read { caller: self.caller, idempotency_key, bytes, body })
    }
}

/// Bodies that take more than a moment to read and to judge.
pub const LARGE: usize = 64 << 10;

pub fn off_the_loop_if<T>(is_long: bool, work: impl FnOnce() -> T) -> T {
    if is_long { off_the_loop(work) } else { work() }
}

/// A header that stands twice says one thing to us and another to whoever is before us.
fn said_once(parts: &Parts, name: HeaderName) -> Result<Option<&HeaderValue>, ()> {
    let mut all = parts.headers.get_all(name).iter();
    let first = all.next();
    all.next().is_none().then_some(first).ok_or(())
}

/// Longest key that is taken.
const LONGEST_KEY: usize = 200;

/// One that cannot be kept would let a repeat take effect again.
fn idempotency_key(parts: &Parts) -> Result<Option<String>, &'static str> {
    const EXPECTED: &str = "Idempotency-Key is one key of 1 to 200 letters, digits or signs of ASCII";
    let Some(key) = said_once(parts, IDEMPOTENCY_KEY).map_err(|()| EXPECTED)? else { return Ok(None) };
    let is_plain = (1..=LONGEST_KEY).contains(&key.len()) && key.as_bytes().iter().all(u8::is_ascii_graphic);
    let key = key.to_str().ok().filter(|_| is_plain).ok_or(EXPECTED)?;
    Ok(Some(key.to_string()))
}

fn declared_length(parts: &Parts) -> Option<u64> {
    parts.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn is_compressed(parts: &Parts) -> bool {
    parts.headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity")
}

/// What the body is said to be, without parameters.
fn kind_of(parts: &Parts) -> Option<String> {
    let kind = parts.headers.get(CONTENT_TYPE)?.to_str().unwrap_or("?");
    Some(kind.split(';').next().unwrap_or_default().trim().to_lowercase())
}

fn wrong_kind(parts: &Parts) -> Option<String> {
    if is_compressed(parts) {
        return Some("compressed bodies are not taken; send it as it is".into());
    }
    let kind = kind_of(parts)?;
    let json = matches!(
        kind.as_str(),
        "application/json" | "application/fhir+json" | "application/json+fhir" | "text/json"
    );
    (!json).then(|| "send application/fhir+json or application/json".into())
}
