//! What a stand-in was asked, and how it shall misbehave.
use super::lock;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One misbehaviour, for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done; this is answered.
    Answer { status: u16, retry_after: Option<String> },
    /// Nothing is done, and this body is answered: a proxy's page, half a body, an error.
    Say { status: u16, body: String },
    /// All is done, and answered only after this time.
    Hang(Duration),
    /// Nothing is done, and the connection is closed.
    DropBefore,
    /// All is done, and the connection is closed without an answer.
    DropAfterEffect,
}

/// A request that arrived, in the order of arrival.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub method: String,
    /// Path and query as they came.
    pub path: String,
}

/// How often a request meets which fault, in percent, by chance.
#[derive(Clone, Copy)]
pub struct Chances {
    pub status_500: u32,
    pub drop_before: u32,
    pub drop_after_effect: u32,
    pub late: u32,
    /// How late.
    pub by: Duration,
}

#[derive(Default)]
struct Shared {
    planned: VecDeque<(Filter, Fault)>,
    chance: Option<(Chances, StdRng)>,
    down: bool,
    calls: Vec<Call>,
}

impl Chances {
    fn roll(&self, random: &mut StdRng) -> Option<Fault> {
        let mut left = random.random_range(0..100);
        let kinds = [
            (self.status_500, Fault::Answer { status: 500, retry_after: None }),
            (self.drop_before, Fault::DropBefore),
            (self.drop_after_effect, Fault::DropAfterEffect),
            (self.late, Fault::Hang(self.by)),
        ];
        for (chance, fault) in kinds {
            if left < chance {
                return Some(fault);
            }
            left -= chance;
        }
        None
    }
}

/// Which requests a fault is for: method (empty: any) and beginning of the path.
#[derive(Clone, Default)]
struct Filter {
    method: String,
    path: String,
}

impl Filter {
    fn takes(&self, call: &Call) -> bool {
        (self.method.is_empty() || self.method == call.method) && call.path.starts_with(&self.path)
    }
}

/// Plans faults for the next requests, each for one request, in the order of planning.
#[derive(Clone, Default)]
pub struct Faults {
    shared: Arc<Mutex<Shared>>,
    filter: Filter,
}

impl Faults {
    /// The same, for requests of this method (empty: any) whose path begins so.
    pub fn on(&self, method: &str, path: &str) -> Self {
        let filter = Filter { method: method.into(), path: path.into() };
        Self { shared: self.shared.clone(), filter }
    }

    pub fn plan(&self, n: usize, fault: Fault) {
        let mut shared = lock(&self.shared);
        shared.planned.extend(std::iter::repeat_n((self.filter.clone(), fault), n));
    }

    /// The next `n` are answered with `status`, and nothing is done.
    pub fn fail_next(&self, n: usize, status: u16) {
        self.plan(n, Fault::Answer { status, retry_after: None });
    }

    /// Like [`Faults::fail_next`], with a Retry-After header.
    pub fn fail_next_retry_after(&self, n: usize, status: u16, retry_after: &str) {
        self.plan(n, Fault::Answer { status, retry_after: Some(retry_after.into()) });
    }

    /// The next `n` are answered with `status` and `body`, and nothing is done.
    pub fn say_next(&self, n: usize, status: u16, body: &str) {
        self.plan(n, Fault::Say { status, body: body.into() });
    }

    /// The next `n` take effect, and are answered only after `ms` milliseconds.
    pub fn hang_next(&self, n: usize, ms: u64) {
        self.plan(n, Fault::Hang(Duration::from_millis(ms)));
    }

    /// The next `n` find the connection closed, and nothing is done.
    pub fn drop_before_next(&self, n: usize) {
        self.plan(n, Fault::DropBefore);
    }

    /// The next `n` take effect, and the connection is closed without an answer.
    pub fn drop_after_effect_next(&self, n: usize) {
        self.plan(n, Fault::DropAfterEffect);
    }

    /// While down, every connection is closed as soon as a request has come.
    pub fn set_down(&self, down: bool) {
        lock(&self.shared).down = down;
    }

    /// Every request may meet a fault by chance, the same ones for the same seed.
    pub fn by_chance(&self, chances: Chances, seed: u64) {
        lock(&self.shared).chance = Some((chances, StdRng::seed_from_u64(seed)));
    }

    /// Forgets planned faults that nothing has met, and chance.
    pub fn clear(&self) {
        let mut shared = lock(&self.shared);
        shared.planned.clear();
        shared.chance = None;
    }

    /// Requests so far, those that met a fault included.
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.shared).calls.iter().filter(|call| self.filter.takes(call)).cloned().collect()
    }

    pub fn clear_calls(&self) {
        lock(&self.shared).calls.clear();
    }

    /// Notes a request and takes the fault that is meant for it.
    pub(super) fn meet(&self, call: Call) -> Option<Fault> {
        let mut shared = lock(&self.shared);
        let planned = shared.planned.iter().position(|(filter, _)| filter.takes(&call));
        shared.calls.push(call);
        if shared.down {
            return Some(Fault::DropBefore);
        }
        let planned = planned.and_then(|index| shared.planned.remove(index)).map(|(_, fault)| fault);
        planned.or_else(|| shared.chance.as_mut().and_then(|(chances, random)| chances.roll(random)))
    }
}
