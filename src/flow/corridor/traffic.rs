//! The schedule, behind a lock.
use crate::flow::gate::{Gate, Limits};
use crate::flow::ports::{Clock, Failure, FailureKind, Guard};
use crate::flow::schedule::Schedule;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The schedule, shared with whoever asks a neighbour something outside a delivery.
pub struct Traffic {
    schedule: Mutex<Schedule>,
    clock: Arc<dyn Clock>,
}

impl Traffic {
    /// `callbacks` are the limits of each host that is called back.
    pub fn new(gates: HashMap<String, Gate>, callbacks: Limits, clock: Arc<dyn Clock>) -> Self {
        Self { schedule: Mutex::new(Schedule::with_gates(gates, callbacks)), clock }
    }

    pub(in crate::flow) fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guard for Traffic {
    fn closed(&self, destination: &str) -> Option<Failure> {
        let now = self.clock.now();
        let (until, reason) = self.schedule().closed(destination, now)?;
        let wait = Duration::from_millis((until - now).max(0) as u64);
        let message = format!("{destination} is left alone for {} s: {reason}", wait.as_secs());
        Some(Failure::new(FailureKind::Transient(Some(wait)), message))
    }

    fn report(&self, destination: &str, failure: Option<&Failure>) {
        let now = self.clock.now();
        self.schedule().report(destination, failure, now);
    }
}
