//! The calls that are made for one transaction, noted where they are made and taken where it ends.
use crate::domain::orchestration::{MOST, Orchestration};
use std::cell::RefCell;

tokio::task_local! {
    static NOTED: RefCell<Vec<Orchestration>>;
}

/// Runs `work` and answers what was noted in it.
pub(super) async fn noted<T>(work: impl Future<Output = T>) -> (T, Vec<Orchestration>) {
    NOTED
        .scope(RefCell::default(), async {
            let done = work.await;
            (done, NOTED.with(RefCell::take))
        })
        .await
}

/// What has been noted so far.
pub(super) fn take() -> Vec<Orchestration> {
    NOTED.try_with(RefCell::take).unwrap_or_default()
}

/// Whether anybody wants to know.
pub fn wanted() -> bool {
    NOTED.try_with(|_| ()).is_ok()
}

pub fn note(orchestration: Orchestration) {
    let _ = NOTED.try_with(|noted| {
        let mut noted = noted.borrow_mut();
        if noted.len() < MOST {
            noted.push(orchestration);
        }
    });
}
