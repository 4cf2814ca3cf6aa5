//! CHT's outbound push, and what CHT makes of the answers.
use super::store::text;
use crate::standins::lock;
use reqwest::{Client, Response, header};
use serde_json::{Value, json};
use std::sync::Mutex;

/// Pushes to one address, and remembers what was not taken.
pub(super) struct Pusher {
    /// By what, and where.
    pub(super) to: Option<(Client, String)>,
    pub(super) auth: Option<(String, String)>,
    pub(super) failed: Mutex<Vec<Value>>,
}

impl Pusher {
    /// Whether CHT takes the document for pushed. Nowhere to push to counts as pushed.
    pub(super) async fn push(&self, doc: &Value) -> bool {
        let Some((client, url)) = &self.to else { return true };
        let mut request = client
            .post(url)
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, "Community Health Toolkit/5.2.0")
            .json(&json!({"doc": doc}));
        if let Some((username, password)) = &self.auth {
            request = request.basic_auth(username, Some(password));
        }
        let pushed = match request.send().await {
            Ok(response) => is_pushed(response).await,
            Err(_) => false,
        };
        if !pushed {
            self.remember(doc);
        }
        pushed
    }

    /// CHT has one task for a document and pushes it as it is by then.
    fn remember(&self, doc: &Value) {
        let mut failed = lock(&self.failed);
        failed.retain(|other| text(other, "_id") != text(doc, "_id"));
        failed.push(doc.clone());
    }
}

/// The body is JSON if it says so, and is then parsed: nothing is no JSON.
async fn is_pushed(response: Response) -> bool {
    let status = response.status().as_u16();
    if status == 304 {
        return true;
    }
    if !(200..300).contains(&status) {
        return false;
    }
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let is_json = kind.starts_with("application/json");
    match response.bytes().await {
        Ok(body) => !is_json || serde_json::from_slice::<Value>(&body).is_ok(),
        Err(_) => false,
    }
}
