//! Connections for which nobody works: they send slowly, or nothing. When there is no room, the one that
//! has been so for longest has to go, so that slow senders keep nobody else out.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

#[derive(Clone, Default)]
pub(super) struct Idle(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// By when they came or were last answered.
    waiting: Mutex<Waiting>,
    came: Notify,
}

#[derive(Default)]
struct Waiting {
    turns: u64,
    by_turn: BTreeMap<u64, CancellationToken>,
}

impl Idle {
    /// A connection that has come, and what ends it.
    pub(super) fn seat(&self, end: CancellationToken) -> Seat {
        let seat = Seat { idle: self.clone(), end, turn: Mutex::default() };
        seat.rest();
        seat
    }

    /// Ends the connection that has been idle for longest; answers whether there is one.
    pub(super) fn dismiss(&self) -> bool {
        let longest = self.waiting().by_turn.pop_first();
        longest.inspect(|(_, end)| end.cancel()).is_some()
    }

    /// Until one more is idle.
    pub(super) async fn one_more(&self) {
        self.0.came.notified().await;
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct Seat {
    idle: Idle,
    end: CancellationToken,
    turn: Mutex<Option<u64>>,
}

impl Seat {
    /// Nobody works for it.
    pub(super) fn rest(&self) {
        let mut waiting = self.idle.waiting();
        waiting.turns += 1;
        let turn = waiting.turns;
        waiting.by_turn.insert(turn, self.end.clone());
        drop(waiting);
        *self.turn() = Some(turn);
        self.idle.0.came.notify_one();
    }

    /// It has sent a request.
    pub(super) fn work(&self) {
        if let Some(turn) = self.turn().take() {
            self.idle.waiting().by_turn.remove(&turn);
        }
    }

    fn turn(&self) -> MutexGuard<'_, Option<u64>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.work();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_been_idle_for_longest_goes_first_and_who_works_stays() {
        let idle = Idle::default();
        let ends: Vec<CancellationToken> = (0..4).map(|_| CancellationToken::new()).collect();
        let mut seats: Vec<Seat> = ends.iter().map(|end| idle.seat(end.clone())).collect();
        let gone = || -> Vec<bool> { ends.iter().map(CancellationToken::is_cancelled).collect() };
        seats[0].work();
        seats[1].work();
        seats[1].rest();
        assert!(idle.dismiss());
        assert_eq!(gone(), [false, false, true, false]);
        drop(seats.remove(3));
        assert!(idle.dismiss());
        assert_eq!(gone(), [false, true, true, false], "the one that was answered last");
        assert!(!idle.dismiss(), "the first is at work, the last has gone");
    }
}
