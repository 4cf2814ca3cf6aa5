//! How we show a FHIR server who we are: Basic, a bearer token, or OAuth2 client credentials.
use crate::config;
use crate::flow::ports::{Failure, FailureKind};
use crate::systems::client::Http;
use reqwest::{Method, RequestBuilder};
use secrecy::{ExposeSecret, SecretString};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

pub(super) enum Auth {
    None,
    Basic(String, SecretString),
    Bearer(SecretString),
    OAuth2 { settings: config::OAuth2, http: Http, token: Mutex<Option<(SecretString, Instant)>> },
}

impl Auth {
    pub(super) fn new(settings: &config::FhirServer, http: Http) -> Self {
        if let Some(oauth2) = &settings.oauth2 {
            return Self::OAuth2 { settings: oauth2.clone(), http, token: Mutex::new(None) };
        }
        if let Some(token) = &settings.bearer_token {
            return Self::Bearer(token.clone());
        }
        match &settings.password {
            Some(password) => Self::Basic(settings.username.clone(), password.clone()),
            None => Self::None,
        }
    }

    pub(super) async fn apply(&self, request: RequestBuilder) -> Result<RequestBuilder, Failure> {
        Ok(match self {
            Self::None => request,
            Self::Basic(username, password) => request.basic_auth(username, Some(password.expose_secret())),
            Self::Bearer(token) => request.bearer_auth(token.expose_secret()),
            Self::OAuth2 { settings, http, token } => {
                let mut kept = token.lock().await;
                if kept.as_ref().is_none_or(|(_, until)| *until <= Instant::now()) {
                    *kept = Some(fetch(settings, http).await?);
                }
                match kept.as_ref() {
                    Some((token, _)) => request.bearer_auth(token.expose_secret()),
                    None => request,
                }
            }
        })
    }

    /// The server no longer takes our token: a new one is fetched, if there can be one.
    pub(super) async fn renew(&self) -> Result<bool, Failure> {
        let Self::OAuth2 { settings, http, token } = self else { return Ok(false) };
        *token.lock().await = Some(fetch(settings, http).await?);
        Ok(true)
    }
}

/// RFC 6749, 4.4. Renewed a little before it ends.
async fn fetch(settings: &config::OAuth2, http: &Http) -> Result<(SecretString, Instant), Failure> {
    let secret = settings.client_secret.as_ref().map(|s| s.expose_secret().to_string()).unwrap_or_default();
    let mut form = vec![("grant_type", "client_credentials")];
    if !settings.scope.is_empty() {
        form.push(("scope", &settings.scope));
    }
    let request = http.request(Method::POST, &settings.token_url);
    let request = request.basic_auth(&settings.client_id, Some(secret)).form(&form);
    let answer = http.send_unseen(request, "the token server").await?;
    let json = answer.json().unwrap_or_default();
    match json["access_token"].as_str() {
        Some(token) if answer.status.is_success() => {
            let lives = json["expires_in"].as_u64().unwrap_or(300);
            Ok((
                SecretString::from(token),
                Instant::now() + Duration::from_secs(lives.saturating_sub(30).max(1)),
            ))
        }
        _ => match answer.status.as_u16() {
            400 | 401 | 403 => Err(Failure::new(
                FailureKind::Unauthorised,
                format!("the token server answered {}", answer.status),
            )),
            _ => Err(Failure::transient(format!("the token server answered {}", answer.status))),
        },
    }
}
