//! HTTP towards a neighbour: verified TLS, no redirects, bounded time and bounded answers; every
//! way of failing becomes a [`Failure`].
use crate::domain::orchestration::{Asked, Fault, Orchestration, Told, shown};
use crate::flow::orchestrations;
use crate::flow::ports::{Failure, FailureKind};
use async_trait::async_trait;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use reqwest::{IntoUrl, Method, Request, RequestBuilder, StatusCode};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Largest answer that is read.
const MAX_ANSWER: usize = 32 << 20;
/// How much is read of an answer that only its status counts of.
const WORDS: usize = 64 << 10;

/// A client that trusts the system's authorities, and those in `ca_file` besides.
pub fn client(timeout: Duration, ca_file: Option<&Path>) -> Result<reqwest::Client, String> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .timeout(timeout)
        .connect_timeout(timeout.min(Duration::from_secs(10)))
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("cht-fhir-mediator/", env!("CARGO_PKG_VERSION")));
    if let Some(file) = ca_file {
        let pem = std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
        let certificates =
            reqwest::Certificate::from_pem_bundle(&pem).map_err(|e| format!("{}: {e}", file.display()))?;
        for certificate in certificates {
            builder = builder.add_root_certificate(certificate);
        }
    }
    builder.build().map_err(|e| e.to_string())
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.bytes).ok()
    }

    /// The destination's words about a failure: an OperationOutcome's, a JSON error's, or the text.
    pub fn words(&self) -> String {
        let json = self.json().unwrap_or_default();
        let issues = json["issue"].as_array().into_iter().flatten();
        let outcome: Vec<&str> = issues
            .filter_map(|i| i["diagnostics"].as_str().or_else(|| i["details"]["text"].as_str()))
            .collect();
        if !outcome.is_empty() {
            return outcome.join("; ");
        }
        let plain = ["details", "error", "message"].iter().find_map(|key| json[*key].as_str());
        match plain {
            Some(text) => text.to_string(),
            None if json.is_null() => String::from_utf8_lossy(&self.bytes).chars().take(200).collect(),
            None => String::new(),
        }
    }

    pub fn retry_after(&self) -> Option<Duration> {
        let text = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        let asked = match text.parse() {
            Ok(seconds) => Duration::from_secs(seconds),
            // The server's clock and ours may differ: its own date says when it is there.
            Err(_) => {
                let date = |text: &str| httpdate::parse_http_date(text).ok();
                let now = self.headers.get(DATE).and_then(|date| date.to_str().ok()).and_then(date);
                date(text)?.duration_since(now.unwrap_or_else(std::time::SystemTime::now)).unwrap_or_default()
            }
        };
        Some(asked.min(Duration::from_secs(86_400)))
    }

    /// The failure that this answer is.
    pub fn failure(&self, who: &str) -> Failure {
        let kind = match self.status.as_u16() {
            401 => FailureKind::Unauthorised,
            500 => FailureKind::Fault(self.retry_after()),
            408 | 409 | 423 | 425 | 429 | 501..=599 => FailureKind::Transient(self.retry_after()),
            _ => FailureKind::Permanent,
        };
        Failure::new(kind, format!("{who} answered {}", self.status)).in_words(self.words())
    }
}

/// How much of an answer is wanted.
#[derive(Clone, Copy, PartialEq)]
pub enum Extent {
    Whole,
    /// The status, and the beginning of what is said with it.
    Status,
}

/// No answer; the request may have had its effect all the same.
pub struct Broken {
    pub failure: Failure,
    pub sent: bool,
}

/// Takes a request to where it leads and brings the answer.
#[async_trait]
pub trait Wire: Send + Sync + 'static {
    async fn carry(&self, request: Request, extent: Extent, who: &str) -> Result<Answer, Broken>;
}

/// What a room makes its requests with, and sends them by.
#[derive(Clone)]
pub struct Http {
    client: reqwest::Client,
    wire: Arc<dyn Wire>,
}

impl From<reqwest::Client> for Http {
    fn from(client: reqwest::Client) -> Self {
        Self { wire: Arc::new(client.clone()), client }
    }
}

impl Http {
    /// By another wire than the network's. `client` only makes the requests.
    pub fn over(client: reqwest::Client, wire: Arc<dyn Wire>) -> Self {
        Self { client, wire }
    }

    pub fn request(&self, method: Method, url: impl IntoUrl) -> RequestBuilder {
        self.client.request(method, url)
    }

    /// Sends a request and reads the whole answer.
    pub async fn send(&self, request: RequestBuilder, who: &str) -> Result<Answer, Failure> {
        self.attempt(request, who).await.map_err(|broken| broken.failure)
    }

    /// The same for somebody who has nothing to tell but how it went.
    pub async fn tell(&self, request: RequestBuilder, who: &str) -> Result<Answer, Failure> {
        self.noted(request, Extent::Status, who).await.map_err(|broken| broken.failure)
    }

    /// Like [`Http::send`], and nobody is shown it: what is answered is a secret.
    pub async fn send_unseen(&self, request: RequestBuilder, who: &str) -> Result<Answer, Failure> {
        let request = built(request, who).map_err(|broken| broken.failure)?;
        self.wire.carry(request, Extent::Whole, who).await.map_err(|broken| broken.failure)
    }

    pub async fn attempt(&self, request: RequestBuilder, who: &str) -> Result<Answer, Broken> {
        self.noted(request, Extent::Whole, who).await
    }

    async fn noted(&self, request: RequestBuilder, extent: Extent, who: &str) -> Result<Answer, Broken> {
        let request = built(request, who)?;
        if !orchestrations::wanted() {
            return self.wire.carry(request, extent, who).await;
        }
        let asked = asked(&request);
        let result = self.wire.carry(request, extent, who).await;
        let response = result.as_ref().ok().map(told);
        let error = result.as_ref().err().map(|broken| Fault { message: broken.failure.message.clone() });
        let kind = asked.path.rsplit('/').find(|part| part.starts_with(|c: char| c.is_ascii_uppercase()));
        let name = format!("{} {}", asked.method, kind.unwrap_or(asked.path.as_str()));
        orchestrations::note(Orchestration { name, group: who.into(), request: asked, response, error });
        result
    }
}

fn built(request: RequestBuilder, who: &str) -> Result<Request, Broken> {
    request.build().map_err(|error| Broken { failure: unreachable(&error, who), sent: false })
}

/// Without what shows who we are.
fn asked(request: &Request) -> Asked {
    let url = request.url();
    Asked {
        method: request.method().to_string(),
        host: url.host_str().unwrap_or_default().into(),
        port: url.port_or_known_default().map(|port| port.to_string()).unwrap_or_default(),
        path: url.path().into(),
        querystring: url.query().unwrap_or_default().into(),
        headers: plain(request.headers()),
        body: request.body().and_then(|body| body.as_bytes()).map(shown).unwrap_or_default(),
        timestamp: now(),
    }
}

fn told(answer: &Answer) -> Told {
    Told {
        status: answer.status.as_u16(),
        headers: plain(&answer.headers),
        body: shown(&answer.bytes),
        timestamp: now(),
    }
}

fn plain(headers: &HeaderMap) -> BTreeMap<String, String> {
    const SHOWN: &[&str] =
        &["accept", "content-type", "etag", "location", "if-match", "if-none-exist", "retry-after"];
    let shown = headers.iter().filter(|(name, _)| SHOWN.contains(&name.as_str()));
    shown.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_string()))).collect()
}

fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

#[async_trait]
impl Wire for reqwest::Client {
    async fn carry(&self, request: Request, extent: Extent, who: &str) -> Result<Answer, Broken> {
        let broken = |e: reqwest::Error| Broken { failure: unreachable(&e, who), sent: !e.is_connect() };
        let mut response = self.execute(request).await.map_err(broken)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if extent == Extent::Status && bytes.len() + chunk.len() > WORDS {
                break;
            }
            if bytes.len() + chunk.len() > MAX_ANSWER {
                let failure = Failure::permanent(format!("{who} answered with more than {MAX_ANSWER} bytes"));
                return Err(Broken { failure, sent: true });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Answer { status: response.status(), headers: response.headers().clone(), bytes })
    }
}

/// What went wrong on the way, without the address, which can name a patient.
fn unreachable(error: &reqwest::Error, who: &str) -> Failure {
    let mut cause = String::new();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        cause = inner.to_string();
        source = inner.source();
    }
    let what = if error.is_timeout() {
        "did not answer in time".to_string()
    } else if error.is_connect() {
        format!("cannot be reached ({cause})")
    } else {
        format!("broke the connection off ({cause})")
    };
    Failure::transient(format!("{who} {what}"))
}
