//! Callers who wait.
use super::Settled;
use crate::flow::ports::Answer;
use std::collections::{HashMap, VecDeque};
use tokio::sync::oneshot;

/// Who waits for what, and the newest answers, which the journal may not have written yet.
#[derive(Default)]
pub(super) struct Settle {
    pub(super) waiters: HashMap<String, Vec<oneshot::Sender<Settled>>>,
    pub(super) recent: HashMap<String, Answer>,
    order: VecDeque<String>,
}

const RECENT: usize = 4096;

impl Settle {
    pub(super) fn finish(&mut self, id: &str, answer: Answer) {
        self.tell(id, &Settled::Finished(answer.clone()));
        if self.recent.insert(id.to_string(), answer).is_none() {
            self.order.push_back(id.to_string());
        }
        if self.order.len() > RECENT
            && let Some(oldest) = self.order.pop_front()
        {
            self.recent.remove(&oldest);
        }
    }

    pub(super) fn tell(&mut self, id: &str, settled: &Settled) {
        for waiter in self.waiters.remove(id).into_iter().flatten() {
            let _ = waiter.send(settled.clone());
        }
    }
}
