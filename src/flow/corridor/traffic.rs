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
    /// Something may run that could not before: whoever starts what is ready looks again.
    pub(super) stirred: Notify,
}

impl Traffic {
    /// `callbacks` are the limits of each host that is called back.
    pub fn new(gates: HashMap<String, Gate>, callbacks: Limits, clock: Arc<dyn Clock>) -> Self {
        let schedule = Mutex::new(Schedule::with_gates(gates, callbacks));
        Self { schedule, clock, ended: Notify::new(), stirred: Notify::new() }
    }

    pub(in crate::flow) fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `again` if the message had failed there before.
    pub(in crate::flow) fn leave(&self, destination: &str, failure: Option<&Failure>, again: bool) {
        let now = self.clock.steady();
        self.schedule().leave(destination, failure, again, now);
        self.ended.notify_waiters();
        self.stirred.notify_one();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::Status;
    use crate::flow::ports::{Head, Millis};

    struct Stopped;

    impl Clock for Stopped {
        fn now(&self) -> Millis {
            0
        }

        fn steady(&self) -> Millis {
            0
        }
    }

    #[tokio::test]
    async fn whoever_waits_for_room_is_started_when_a_question_ends() {
        let limits = Limits { max_concurrent: 1, breaker_failures: 9, breaker_pause: Duration::ZERO };
        let gates = HashMap::from([("fhir".to_string(), Gate::new(limits))]);
        let traffic = Traffic::new(gates, limits, Arc::new(Stopped));
        traffic.enter("fhir").await.expect("room for a question");
        {
            let mut schedule = traffic.schedule();
            let head =
                Head { seq: 1, id: "t".into(), subjects: Vec::new(), status: Status::Open, not_before: 0 };
            schedule.add(&head, 0);
            assert!(schedule.next(0).is_some());
            assert_eq!(schedule.enter("fhir", 1, 0), Entry::Busy);
            schedule.stopped(1);
            schedule.set_busy(1);
            assert!(schedule.next(0).is_none());
        }
        Guard::leave(&traffic, "fhir", None);
        let stirred = tokio::time::timeout(Duration::from_secs(5), traffic.stirred.notified());
        stirred.await.expect("whoever starts it is told");
        assert!(traffic.schedule().next(0).is_some());
    }
}
