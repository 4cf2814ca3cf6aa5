//! Callers who wait.
use super::Settled;
use std::collections::HashMap;
use tokio::sync::oneshot;

/// Who waits for what.
#[derive(Default)]
pub(super) struct Settle {
    pub(super) waiters: HashMap<String, Vec<oneshot::Sender<Settled>>>,
}

impl Settle {
    pub(super) fn tell(&mut self, id: &str, settled: &Settled) {
        for waiter in self.waiters.remove(id).into_iter().flatten() {
            let _ = waiter.send(settled.clone());
        }
    }
}
