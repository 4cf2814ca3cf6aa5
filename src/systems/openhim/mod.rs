//! OpenHIM's API, as its contract has it (openhim.md): we register as a mediator, beat, take configuration,
//! install channels, and tell of transactions that ended after their callers were answered.
mod finish;
mod login;
mod membership;
pub mod pin;

use super::client::{Answer, Http};
use crate::config;
use crate::flow::ports::{Failure, FailureKind};
use login::Login;
use reqwest::{Method, RequestBuilder, header};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use membership::{Membership, URN};

/// A question in the middle of an answer must not delay it.
const SHORT: Duration = Duration::from_secs(2);
/// How long what a channel is counts.
const CHANNEL_KEPT: Duration = Duration::from_secs(60);

pub struct OpenHimApi {
    http: Http,
    base: String,
    login: Login,
    channels: Mutex<HashMap<String, (Instant, bool)>>,
}

impl OpenHimApi {
    pub fn new(settings: &config::OpenHim) -> Result<Self, String> {
        let mut builder = reqwest::Client::builder()
            .timeout(Duration::from_millis(settings.timeout_ms))
            .redirect(reqwest::redirect::Policy::none());
        let _ = rustls::crypto::ring::default_provider().install_default();
        if let Some(file) = &settings.ca_file {
            builder = builder.tls_backend_preconfigured(pin::config(file)?);
        }
        let password = settings.password.clone().unwrap_or_else(|| "".to_string().into());
        Ok(Self {
            http: builder.build().map_err(|e| e.to_string())?.into(),
            base: settings.api_url.trim_end_matches('/').to_string(),
            login: Login::new(settings.username.clone(), password),
            channels: Mutex::default(),
        })
    }

    fn request(&self, method: &Method, path: &str, body: Option<&Value>) -> RequestBuilder {
        let request = self.http.request(method.clone(), format!("{}{path}", self.base));
        match body {
            Some(body) => request.header(header::CONTENT_TYPE, "application/json").body(body.to_string()),
            None => request,
        }
    }

    /// By the login that worked last, and by the other one if that is refused. Never more: a wrong
    /// password is not tried again and again.
    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, Failure> {
        let mut refused = None;
        for by_token in [self.login.is_by_token(), !self.login.is_by_token()] {
            let request = self.request(&method, path, body);
            let request = match by_token {
                true => match self.login.token(&self.http, &self.base, request).await {
                    Ok(request) => request,
                    // OpenHIM since 8 does not know this login.
                    Err(failure) if failure.kind == FailureKind::Permanent && refused.is_some() => break,
                    Err(failure) => return Err(failure),
                },
                false => self.login.basic(request),
            };
            let answer = self.http.send(request, "OpenHIM").await?;
            if answer.status.as_u16() != 401 {
                self.login.prefer_token(by_token);
                return Ok(answer);
            }
            refused = Some(answer);
        }
        let message = "OpenHIM refused our credentials: check openhim.username and openhim.password";
        Err(Failure::new(FailureKind::Unauthorised, message))
    }

    async fn get(&self, path: &str) -> Result<Value, Failure> {
        let answer = self.call(Method::GET, path, None).await?;
        match answer.status.is_success() {
            true => answer.json().ok_or_else(|| Failure::transient("OpenHIM answered without JSON")),
            false => Err(answer.failure("OpenHIM")),
        }
    }

    /// Whether a transaction came by an asynchronous channel. Not known in time: no.
    async fn is_asynchronous(&self, transaction: &str) -> bool {
        let asked = tokio::time::timeout(SHORT, self.channel_is_asynchronous(transaction)).await;
        matches!(asked, Ok(Ok(true)))
    }

    async fn channel_is_asynchronous(&self, transaction: &str) -> Result<bool, Failure> {
        let transaction = self.get(&format!("/transactions/{}", segment(transaction))).await?;
        let channel = transaction["channelID"].as_str().unwrap_or_default().to_string();
        let kept = self.channels.lock().unwrap_or_else(PoisonError::into_inner).get(&channel).copied();
        if let Some((_, is_asynchronous)) = kept.filter(|(at, _)| at.elapsed() < CHANNEL_KEPT) {
            return Ok(is_asynchronous);
        }
        let settings = self.get(&format!("/channels/{}", segment(&channel))).await?;
        let is_asynchronous = settings["isAsynchronousProcess"] == true;
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.insert(channel, (Instant::now(), is_asynchronous));
        Ok(is_asynchronous)
    }
}

/// One segment of a path, whatever a header said.
fn segment(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}
