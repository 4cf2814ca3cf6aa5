//! The schedule, behind a lock.
use crate::flow::gate::{Entry, Gate, Limits};
use crate::flow::ports::{Clock, Failure, FailureKind, Guard, Millis};
use crate::flow::schedule::Schedule;
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// The schedule, shared with whoever asks a neighbour something outside a delivery.
pub struct Traffic {
    schedule: Mutex<Schedule>,
    clock: Arc<dyn Clock>,
    /// A call somewhere has ended.
    ended: Notify,
}

impl Traffic {
    /// `callbacks` are the limits of each host that is called back.
    pub fn new(gates: HashMap<String, Gate>, callbacks: Limits, clock: Arc<dyn Clock>) -> Self {
        Self { schedule: Mutex::new(Schedule::with_gates(gates, callbacks)), clock, ended: Notify::new() }
    }

    pub(in crate::flow) fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `again` if the message had failed there before.
    pub(in crate::flow) fn leave(&self, destination: &str, failure: Option<&Failure>, again: bool) {
        let now = self.clock.steady();
        self.schedule().leave(destination, failure, again, now);
        self.ended.notify_waiters();
    }
}

#[async_trait]
impl Guard for Traffic {
    async fn enter(&self, destination: &str) -> Result<(), Failure> {
        loop {
            // Before the look, so that a call that ends in between is not missed.
            let ended = self.ended.notified();
            let now = self.clock.steady();
            let entry = self.schedule().pass(destination, now);
            match entry {
                Entry::Open => return Ok(()),
                Entry::Busy => ended.await,
                Entry::Closed { until, reason } => return Err(left_alone(destination, until - now, &reason)),
            }
        }
    }

    fn try_enter(&self, destination: &str, seq: i64) -> Result<bool, Failure> {
        let now = self.clock.steady();
        match self.schedule().enter(destination, seq, now) {
            Entry::Open => Ok(true),
            Entry::Busy => Ok(false),
            Entry::Closed { until, reason } => Err(left_alone(destination, until - now, &reason)),
        }
    }

    fn leave(&self, destination: &str, failure: Option<&Failure>) {
        Traffic::leave(self, destination, failure, false);
    }
}

fn left_alone(destination: &str, still: Millis, reason: &str) -> Failure {
    let wait = Duration::from_millis(still.max(0) as u64);
    let message = format!("{destination} is left alone for {} s: {reason}", wait.as_secs());
    Failure::new(FailureKind::Transient(Some(wait)), message)
}
