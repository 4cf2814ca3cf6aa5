//! Transactions whose callers were answered before they ended: what became of them is told by
//! `PUT /transactions/{id}`.
use super::{OpenHimApi, segment};
use crate::domain::plan::Status;
use crate::flow::audit::told_openhim;
use crate::flow::ports::{Clock, Failure, FailureKind, Journal, Transaction};
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often we look, and how long after a failure.
const EVERY: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);
/// Who has not been answered by then has hung up.
const GONE: i64 = 60_000;
const AT_ONCE: u32 = 100;

pub(super) struct Finisher {
    api: Arc<OpenHimApi>,
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    /// What our last run has not told of is told now.
    started: i64,
}

impl Finisher {
    pub(super) fn new(api: Arc<OpenHimApi>, journal: Arc<dyn Journal>, clock: Arc<dyn Clock>) -> Self {
        let started = clock.now();
        Self { api, journal, clock, started }
    }

    pub(super) async fn run(self, stop: CancellationToken) {
        let mut pause = EVERY;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = match self.tell().await {
                Ok(()) => EVERY,
                Err(failure) => {
                    tracing::warn!(
                        error = failure.message,
                        "OpenHIM is not told what became of transactions"
                    );
                    (pause * 2).min(LONGEST)
                }
            };
        }
    }

    async fn tell(&self) -> Result<(), Failure> {
        let before = self.started.max(self.clock.now() - GONE);
        let untold =
            self.journal.untold(before, AT_ONCE).await.map_err(|e| Failure::transient(e.to_string()))?;
        for (openhim, id) in untold {
            let transaction =
                self.journal.transaction(&id).await.map_err(|e| Failure::transient(e.to_string()))?;
            if let Some(transaction) = transaction {
                self.put(&openhim, &transaction).await?;
                if let Some(disclosed) = told_openhim(&transaction, self.clock.now()) {
                    self.journal.note(disclosed);
                }
            }
            self.journal.told(&openhim);
        }
        Ok(())
    }

    async fn put(&self, openhim: &str, transaction: &Transaction) -> Result<(), Failure> {
        let body = update(transaction);
        let path = format!("/transactions/{}", segment(openhim));
        let answer = self.api.call(Method::PUT, &path, Some(&body)).await?;
        match answer.status.as_u16() {
            // It keeps transactions for a while only.
            200..=299 | 404 => Ok(()),
            _ => {
                let failure = answer.failure("OpenHIM");
                match failure.kind {
                    FailureKind::Permanent => {
                        tracing::error!(status = %answer.status, "OpenHIM refused the end of a transaction");
                        Ok(())
                    }
                    _ => Err(failure),
                }
            }
        }
    }
}

/// `PUT` replaces orchestrations and properties: the full set is sent.
fn update(transaction: &Transaction) -> Value {
    let answer = transaction.answer.as_ref();
    let (status, body) =
        answer.map_or((200, String::new()), |answer| (answer.status, answer.body.to_string()));
    let at = transaction.finished.unwrap_or(transaction.received);
    json!({
        "status": word(transaction.head.status),
        "response": {"status": status, "headers": {"content-type": "application/json"}, "body": body, "timestamp": at},
        "orchestrations": transaction.orchestrations,
        "properties": properties(&transaction.head.id, transaction.head.status),
    })
}

/// OpenHIM's word for a state.
fn word(status: Status) -> &'static str {
    match status {
        Status::Failed | Status::Cancelled => "Failed",
        Status::Open => "Processing",
        Status::Delivered | Status::Ignored => "Successful",
    }
}

/// Databases refuse dots and dollars in keys, and the transaction is then not stored.
fn properties(id: &str, status: Status) -> Value {
    json!({"mediatorTransaction": id, "mediatorStatus": status.as_str()})
}
