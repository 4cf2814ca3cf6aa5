//! A destination's gate: so many calls at once, and none at all for a while after it has failed
//! several times in a row.
use super::ports::{Failure, FailureKind, Millis, UNAUTHORISED_PAUSE};
use std::time::Duration;

#[derive(Clone, Copy)]
pub struct Limits {
    pub max_concurrent: usize,
    pub breaker_failures: u32,
    pub breaker_pause: Duration,
}

pub struct Gate {
    limits: Limits,
    in_use: usize,
    failures: u32,
    /// Closed until then; the first to pass afterwards is the probe.
    closed_until: Millis,
    probing: bool,
    reason: String,
}

#[derive(Debug, PartialEq)]
pub enum Entry {
    Open,
    /// As many calls as allowed are under way.
    Busy,
    Closed {
        until: Millis,
        reason: String,
    },
}

impl Gate {
    pub fn new(limits: Limits) -> Self {
        Self { limits, in_use: 0, failures: 0, closed_until: 0, probing: false, reason: String::new() }
    }

    /// What [`Gate::enter`] would answer.
    pub fn look(&self, now: Millis) -> Entry {
        if now < self.closed_until {
            return Entry::Closed { until: self.closed_until, reason: self.reason.clone() };
        }
        // After a pause one call goes first; the others wait for what becomes of it.
        if self.in_use >= self.limits.max_concurrent || (self.probing && self.in_use > 0) {
            return Entry::Busy;
        }
        Entry::Open
    }

    /// Calls that may begin now; `None` while it is closed.
    pub fn room(&self, now: Millis) -> Option<usize> {
        match self.look(now) {
            Entry::Closed { .. } => None,
            Entry::Busy => Some(0),
            Entry::Open if self.probing => Some(1),
            Entry::Open => Some(self.limits.max_concurrent - self.in_use),
        }
    }

    pub fn enter(&mut self, now: Millis) -> Entry {
        let entry = self.look(now);
        if entry == Entry::Open {
            self.in_use += 1;
        }
        entry
    }

    /// A call has ended; `again` if its message had failed here before.
    pub fn leave(&mut self, failure: Option<&Failure>, again: bool, now: Millis) {
        self.in_use = self.in_use.saturating_sub(1);
        // A message that is answered 500 each time says nothing of the others: it must neither close
        // the gate nor, as the probe, keep it closed.
        if !(again && failure.is_some_and(|f| matches!(f.kind, FailureKind::Fault(_)))) {
            self.report(failure, now);
        }
    }

    /// How a call went, for the breaker.
    fn report(&mut self, failure: Option<&Failure>, now: Millis) {
        let pause = match failure.map(|f| f.kind) {
            Some(FailureKind::Unauthorised) => Some(UNAUTHORISED_PAUSE),
            Some(FailureKind::Transient(asked) | FailureKind::Fault(asked)) => {
                self.failures += 1;
                let broken = self.failures >= self.limits.breaker_failures || self.probing;
                broken.then(|| asked.unwrap_or_default().max(self.limits.breaker_pause))
            }
            Some(FailureKind::Permanent) | None => {
                self.failures = 0;
                self.probing = false;
                None
            }
        };
        if let (Some(pause), Some(failure)) = (pause, failure) {
            self.closed_until = now + pause.as_millis() as Millis;
            self.probing = true;
            self.reason = failure.message.clone();
        }
    }

    /// An operator asks for another try at once.
    pub fn reopen(&mut self) {
        self.closed_until = 0;
    }

    pub fn is_closed(&self, now: Millis) -> bool {
        now < self.closed_until
    }

    /// Nothing is known of it, good or ill.
    pub fn is_idle(&self) -> bool {
        self.in_use == 0 && self.failures == 0 && !self.probing
    }

    pub fn in_use(&self) -> usize {
        self.in_use
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> Gate {
        Gate::new(Limits { max_concurrent: 2, breaker_failures: 3, breaker_pause: Duration::from_secs(30) })
    }

    fn fail(gate: &mut Gate, failure: &Failure, now: Millis) {
        assert_eq!(gate.enter(now), Entry::Open);
        gate.leave(Some(failure), false, now);
    }

    #[test]
    fn only_so_many_at_once() {
        let mut gate = gate();
        assert_eq!(gate.enter(0), Entry::Open);
        assert_eq!(gate.enter(0), Entry::Open);
        assert_eq!(gate.enter(0), Entry::Busy);
        gate.leave(None, false, 0);
        assert_eq!(gate.enter(0), Entry::Open);
    }

    #[test]
    fn it_closes_after_failures_in_a_row_and_lets_one_probe_through() {
        let mut gate = gate();
        let down = Failure::transient("connection refused");
        (0..3).for_each(|_| fail(&mut gate, &down, 0));
        assert!(matches!(gate.enter(29_999), Entry::Closed { until: 30_000, .. }));
        assert_eq!(gate.enter(30_000), Entry::Open);
        assert_eq!(gate.enter(30_000), Entry::Busy);
        gate.leave(None, false, 30_001);
        assert_eq!(gate.enter(30_001), Entry::Open);
        assert_eq!(gate.enter(30_001), Entry::Open);
    }

    #[test]
    fn a_failed_probe_closes_it_again() {
        let mut gate = gate();
        let down = Failure::transient("connection refused");
        (0..3).for_each(|_| fail(&mut gate, &down, 0));
        fail(&mut gate, &down, 30_000);
        assert!(gate.is_closed(59_999));
        assert!(!gate.is_closed(60_000));
    }

    #[test]
    fn one_refusal_of_our_credentials_is_enough() {
        let mut gate = gate();
        fail(&mut gate, &Failure::new(FailureKind::Unauthorised, "401"), 0);
        assert!(gate.is_closed(599_999));
    }

    #[test]
    fn a_message_that_is_answered_500_each_time_keeps_nobody_out() {
        let mut gate = gate();
        let fault = Failure::new(FailureKind::Fault(None), "500");
        (0..3).for_each(|_| fail(&mut gate, &fault, 0));
        assert!(gate.is_closed(29_999), "three messages failed, each for the first time");
        (0..9).for_each(|_| {
            assert_eq!(gate.enter(30_000), Entry::Open);
            gate.leave(Some(&fault), true, 30_000);
        });
        assert_eq!(gate.enter(30_000), Entry::Open, "the next one is the probe");
        gate.leave(None, false, 30_000);
        (0..9).for_each(|_| {
            assert_eq!(gate.enter(30_000), Entry::Open);
            gate.leave(Some(&fault), true, 30_000);
        });
        assert!(!gate.is_closed(30_000));
    }

    #[test]
    fn a_refused_message_says_nothing_of_the_destination() {
        let mut gate = gate();
        (0..9).for_each(|_| fail(&mut gate, &Failure::permanent("422"), 0));
        assert!(!gate.is_closed(0));
    }
}
