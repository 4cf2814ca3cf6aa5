//! A destination's gate: so many calls at once, and none at all for a while after it has failed
//! several times in a row.
use super::ports::{Failure, FailureKind, Millis};
use std::time::Duration;

#[derive(Clone, Copy)]
pub struct Limits {
    pub max_concurrent: usize,
    pub breaker_failures: u32,
    pub breaker_pause: Duration,
}

/// How long a destination that refused our credentials is left alone: CHT locks an address out
/// after ten failed logins in ten seconds (cht.md, auth and limits).
const UNAUTHORISED_PAUSE: Duration = Duration::from_secs(600);

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

    pub fn enter(&mut self, now: Millis) -> Entry {
        let entry = self.look(now);
        if entry == Entry::Open {
            self.in_use += 1;
        }
        entry
    }

    /// A call has ended. `None`: it succeeded, or failed in a way that says nothing of the destination.
    pub fn leave(&mut self, failure: Option<&Failure>, now: Millis) {
        self.in_use = self.in_use.saturating_sub(1);
        self.report(failure, now);
    }

    /// How a call went, for the breaker.
    pub fn report(&mut self, failure: Option<&Failure>, now: Millis) {
        let pause = match failure.map(|f| f.kind) {
            Some(FailureKind::Unauthorised) => Some(UNAUTHORISED_PAUSE),
            Some(FailureKind::Transient(asked)) => {
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
        gate.leave(Some(failure), now);
    }

    #[test]
    fn only_so_many_at_once() {
        let mut gate = gate();
        assert_eq!(gate.enter(0), Entry::Open);
        assert_eq!(gate.enter(0), Entry::Open);
        assert_eq!(gate.enter(0), Entry::Busy);
        gate.leave(None, 0);
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
        gate.leave(None, 30_001);
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
        fail(&mut gate, &Failure { kind: FailureKind::Unauthorised, message: "401".into() }, 0);
        assert!(gate.is_closed(599_999));
    }

    #[test]
    fn a_refused_message_says_nothing_of_the_destination() {
        let mut gate = gate();
        (0..9).for_each(|_| fail(&mut gate, &Failure::permanent("422"), 0));
        assert!(!gate.is_closed(0));
    }
}
