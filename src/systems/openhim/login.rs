//! How we show OpenHIM's API who we are: Basic since 7.1, a token up to 5.0 (contract: openhim.md,
//! registration; test-parts.md, how 4.0.5 differs). Which one it takes, it tells.
use crate::flow::ports::Failure;
use crate::systems::client::Http;
use reqwest::{Method, RequestBuilder};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha512};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

pub(super) struct Login {
    username: String,
    password: SecretString,
    /// Basic was refused, and a token was not.
    by_token: AtomicBool,
}

impl Login {
    pub(super) fn new(username: String, password: SecretString) -> Self {
        Self { username, password, by_token: AtomicBool::new(false) }
    }

    pub(super) fn is_by_token(&self) -> bool {
        self.by_token.load(Relaxed)
    }

    pub(super) fn prefer_token(&self, by_token: bool) {
        self.by_token.store(by_token, Relaxed);
    }

    pub(super) fn basic(&self, request: RequestBuilder) -> RequestBuilder {
        request.basic_auth(&self.username, Some(self.password.expose_secret()))
    }

    /// The salt and the server's own time, so that a clock that differs keeps nobody out.
    pub(super) async fn token(
        &self,
        http: &Http,
        base: &str,
        request: RequestBuilder,
    ) -> Result<RequestBuilder, Failure> {
        let user: String = url::form_urlencoded::byte_serialize(self.username.as_bytes()).collect();
        let asked = http.request(Method::GET, format!("{base}/authenticate/{user}"));
        let answer = http.send_unseen(asked, "OpenHIM").await?;
        if !answer.status.is_success() {
            return Err(answer.failure("OpenHIM"));
        }
        let told = answer.json().unwrap_or_default();
        let (Some(salt), Some(ts)) = (told["salt"].as_str(), told["ts"].as_str()) else {
            return Err(Failure::transient("OpenHIM answered a login without salt and time"));
        };
        let inner = hex(&Sha512::digest(format!("{salt}{}", self.password.expose_secret())));
        let token = hex(&Sha512::digest(format!("{inner}{salt}{ts}")));
        Ok(request
            .header("auth-username", &self.username)
            .header("auth-ts", ts)
            .header("auth-salt", salt)
            .header("auth-token", token))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
