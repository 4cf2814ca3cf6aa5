//! An EMR's callback endpoint: takes whatever is sent and remembers it.
use super::faults::Faults;
use super::lock;
use super::server::Server;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Received {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    /// Null if it is no JSON.
    pub body: Value,
}

#[derive(Clone, Default)]
struct Inbox(Arc<Mutex<Vec<Received>>>);

pub struct Handle {
    server: Option<Server>,
    inbox: Inbox,
    faults: Faults,
}

pub async fn start(bind: SocketAddr) -> io::Result<Handle> {
    let (mut handle, router) = unbound();
    let server = Server::start(TcpListener::bind(bind).await?, router, handle.faults.clone()).await?;
    handle.server = Some(server);
    Ok(handle)
}

/// One that listens nowhere: whoever has its routes carries the requests to them, and its faults.
pub fn unbound() -> (Handle, Router) {
    let inbox = Inbox::default();
    let router = Router::new().fallback(receive).with_state(inbox.clone());
    (Handle { server: None, inbox, faults: Faults::default() }, router)
}

impl Handle {
    pub fn url(&self) -> String {
        self.server.as_ref().map_or_else(String::new, |server| format!("http://{}", server.address))
    }

    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// What took effect, in order of arrival.
    pub fn received(&self) -> Vec<Received> {
        lock(&self.inbox.0).clone()
    }

    /// Resources of this type among them.
    pub fn resources(&self, kind: &str) -> Vec<Value> {
        self.received().into_iter().map(|r| r.body).filter(|body| body["resourceType"] == kind).collect()
    }

    pub async fn stop(self) {
        if let Some(server) = self.server {
            server.stop().await;
        }
    }
}

async fn receive(
    State(inbox): State<Inbox>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, Json<Value>) {
    if !matches!(method, Method::PUT | Method::POST) {
        return (StatusCode::METHOD_NOT_ALLOWED, Json(json!({})));
    }
    let headers =
        headers.iter().map(|(k, v)| (k.to_string(), String::from_utf8_lossy(v.as_bytes()).into())).collect();
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let received = Received { method: method.to_string(), path: uri.path().into(), headers, body };
    lock(&inbox.0).push(received);
    (StatusCode::OK, Json(json!({})))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::standins::client;
    use std::time::Duration;

    #[tokio::test]
    async fn it_remembers_what_it_took_and_misbehaves_as_planned() {
        let emr = start(([127, 0, 0, 1], 0).into()).await.unwrap();
        let client = client(Duration::from_secs(5)).unwrap();
        let put = |id: &str| {
            let body = json!({"resourceType": "Encounter", "id": id});
            client.put(format!("{}/hook/Encounter/{id}", emr.url())).json(&body).send()
        };
        emr.faults().fail_next_retry_after(1, 503, "7");
        let refused = put("a").await.unwrap();
        assert_eq!(
            (refused.status().as_u16(), &refused.headers()["retry-after"]),
            (503, &"7".parse().unwrap())
        );
        emr.faults().drop_before_next(1);
        assert!(put("b").await.is_err());
        emr.faults().drop_after_effect_next(1);
        assert!(put("c").await.is_err());
        assert_eq!(put("d").await.unwrap().status(), 200);
        emr.faults().set_down(true);
        assert!(put("e").await.is_err());
        emr.faults().set_down(false);
        emr.faults().on("PUT", "/other").fail_next(1, 500);
        assert_eq!(put("f").await.unwrap().status(), 200);
        let ids: Vec<Value> = emr.resources("Encounter").iter().map(|r| r["id"].clone()).collect();
        assert_eq!(ids, ["c", "d", "f"]);
        assert_eq!(emr.received()[0].path, "/hook/Encounter/c");
        assert_eq!(emr.faults().calls().len(), 6);
        let url = emr.url();
        emr.stop().await;
        assert!(client.get(url).send().await.is_err());
    }
}
