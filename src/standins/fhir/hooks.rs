//! Subscriptions of type rest-hook (<https://hl7.org/fhir/R4/subscription.html>).
use super::store::{Store, parse_query};
use reqwest::{Client, RequestBuilder};
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Delivers one by one, each once: HAPI does not repeat what an endpoint did not take.
pub(super) struct Hooks {
    client: Client,
    queue: UnboundedSender<RequestBuilder>,
}

impl Hooks {
    pub(super) fn start(client: Client) -> Self {
        let (queue, deliveries) = unbounded_channel();
        tokio::spawn(deliver(deliveries));
        Self { client, queue }
    }

    /// Queues a delivery for every active Subscription whose criteria the resource meets.
    pub(super) fn notify(&self, store: &Store, resource: &Value) {
        for subscription in store.all("Subscription").filter(|s| s["status"] == "active") {
            if let Some(request) = self.delivery(store, subscription, resource) {
                // The queue ends with the server only.
                let _ = self.queue.send(request);
            }
        }
    }

    fn delivery(&self, store: &Store, subscription: &Value, resource: &Value) -> Option<RequestBuilder> {
        let (kind, id) = (resource["resourceType"].as_str()?, resource["id"].as_str()?);
        let criteria = subscription["criteria"].as_str()?;
        let (of, query) = criteria.split_once('?').unwrap_or((criteria, ""));
        let matches = || store.search(kind, &parse_query(query)).is_ok_and(|found| found.contains(&resource));
        let channel = &subscription["channel"];
        if of != kind || channel["type"] != "rest-hook" || !matches() {
            return None;
        }
        let endpoint = channel["endpoint"].as_str()?.trim_end_matches('/');
        let mut request = self.client.put(format!("{endpoint}/{kind}/{id}"));
        for header in channel["header"].as_array().into_iter().flatten() {
            if let Some((name, value)) = header.as_str().and_then(|header| header.split_once(':')) {
                request = request.header(name.trim(), value.trim());
            }
        }
        Some(request.header("content-type", "application/fhir+json").body(resource.to_string()))
    }
}

async fn deliver(mut deliveries: UnboundedReceiver<RequestBuilder>) {
    while let Some(request) = deliveries.recv().await {
        let _ = request.send().await;
    }
}
