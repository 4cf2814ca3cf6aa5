//! When to try again: exponential backoff with full jitter, never before the destination asked, and
//! not for ever.
use super::ports::Millis;
use rand::Rng;
use std::time::Duration;

#[derive(Clone, Copy)]
pub struct Backoff {
    pub first: Duration,
    pub longest: Duration,
    pub give_up_after: Duration,
}

impl Backoff {
    /// Wait before attempt `attempts + 1`.
    pub fn delay(&self, attempts: u32, asked: Option<Duration>, random: &mut impl Rng) -> Duration {
        let most = self.first.saturating_mul(1 << attempts.saturating_sub(1).min(20)).min(self.longest);
        let jittered = most.mul_f64(random.random_range(0.5..1.0));
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
        let mut random = rand::rng();
        for (attempts, most) in [(1, 1), (2, 2), (3, 4), (7, 60), (4_000_000_000, 60)] {
            let delay = BACKOFF.delay(attempts, None, &mut random);
            assert!(delay <= Duration::from_secs(most), "{attempts}: {delay:?}");
            assert!(delay >= Duration::from_secs(most) / 2, "{attempts}: {delay:?}");
        }
    }

    #[test]
    fn the_destination_may_ask_for_more() {
        let asked = Some(Duration::from_secs(3489));
        assert_eq!(BACKOFF.delay(1, asked, &mut rand::rng()), Duration::from_secs(3489));
    }

    #[test]
    fn it_ends() {
        assert!(!BACKOFF.is_exhausted(0, 3_600_000));
        assert!(BACKOFF.is_exhausted(0, 3_600_001));
    }
}
