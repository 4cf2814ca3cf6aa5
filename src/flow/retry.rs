//! When to try again: exponential backoff with full jitter, never before the destination asked, and
//! not for ever.
use super::ports::Millis;
use std::time::Duration;

#[derive(Clone, Copy)]
pub struct Backoff {
    pub first: Duration,
    pub longest: Duration,
    pub give_up_after: Duration,
}

impl Backoff {
    /// Wait before attempt `attempts + 1`; `fraction`, from 0 to 1, is its jitter.
    pub fn delay(&self, attempts: u32, asked: Option<Duration>, fraction: f64) -> Duration {
        let most = self.first.saturating_mul(1 << attempts.saturating_sub(1).min(20)).min(self.longest);
        let jittered = most.mul_f64(0.5 + fraction / 2.0);
        jittered.max(asked.unwrap_or_default())
    }

    /// Whether a message received then has been tried for long enough.
    pub fn is_exhausted(&self, received: Millis, now: Millis) -> bool {
        now - received > self.give_up_after.as_millis() as Millis
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff {
        first: Duration::from_secs(1),
        longest: Duration::from_secs(60),
        give_up_after: Duration::from_secs(3600),
    };

    #[test]
    fn it_grows_to_the_longest_and_no_further() {
        for (attempts, most) in [(1, 1), (2, 2), (3, 4), (7, 60), (4_000_000_000, 60)] {
            let most = Duration::from_secs(most);
            assert_eq!(BACKOFF.delay(attempts, None, 0.0), most / 2, "{attempts}");
            assert_eq!(BACKOFF.delay(attempts, None, 1.0), most, "{attempts}");
        }
    }

    #[test]
    fn the_destination_may_ask_for_more() {
        let asked = Some(Duration::from_secs(3489));
        assert_eq!(BACKOFF.delay(1, asked, 0.5), Duration::from_secs(3489));
    }

    #[test]
    fn it_ends() {
        assert!(!BACKOFF.is_exhausted(0, 3_600_000));
        assert!(BACKOFF.is_exhausted(0, 3_600_001));
    }
}
