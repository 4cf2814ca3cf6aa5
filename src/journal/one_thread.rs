//! The journal in one thread, for the simulation: the same statements and the same commits, when the
//! simulation says so. What it has not committed when it is given up is lost, as by `kill -9`.
use super::file::Watched;
use super::hand::{Hand, Read};
use super::writer::{Write, finish};
use crate::flow::ports::JournalError;
use async_trait::async_trait;
use rusqlite::{Connection, ffi};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// A disk, as the simulation has it. Neither answers any more once the machine is dead.
#[async_trait]
pub trait Disk: Send + Sync + 'static {
    /// Until a group is to be committed; false: it cannot be. A group that nobody waits for may linger.
    async fn commits(&self, waited_for: bool) -> bool;
    /// Until a reading is to be done.
    async fn reads(&self);
}

#[derive(Clone)]
pub(super) struct OneThread(Arc<Inner>);

struct Inner {
    connection: Arc<Mutex<Connection>>,
    disk: Arc<dyn Disk>,
    queue: Mutex<Vec<Write>>,
    handed_over: Notify,
    file: Watched,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OneThread {
    pub(super) fn start(connection: Arc<Mutex<Connection>>, disk: Arc<dyn Disk>) -> Self {
        let inner = Arc::new(Inner {
            connection,
            disk,
            queue: Mutex::default(),
            handed_over: Notify::new(),
            file: Watched::new(Path::new("")),
        });
        tokio::spawn(inner.clone().write());
        Self(inner)
    }
}

impl Inner {
    async fn write(self: Arc<Self>) {
        loop {
            self.handed_over.notified().await;
            while let Some(waited_for) = self.waits() {
                let works = self.disk.commits(waited_for).await;
                let mut group = std::mem::take(&mut *lock(&self.queue));
                if !works {
                    group.push(full());
                }
                let kept = finish(&lock(&self.connection), group, &self.file);
                lock(&self.queue).splice(0..0, kept);
            }
        }
    }

    /// Whether something waits to be written, and somebody for it.
    fn waits(&self) -> Option<bool> {
        let queue = lock(&self.queue);
        (!queue.is_empty()).then(|| queue.iter().any(|write| write.waited_for))
    }
}

/// A write that finds the disk full.
fn full() -> Write {
    let error = || rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_FULL), None);
    Write { work: Box::new(move |_| Err(error())), done: Box::new(|_| {}), waited_for: true, of: None }
}

impl Hand for OneThread {
    fn submit(&self, write: Write) -> Result<(), JournalError> {
        self.submit_always(write);
        Ok(())
    }

    fn submit_always(&self, write: Write) {
        lock(&self.0.queue).push(write);
        self.0.handed_over.notify_one();
    }

    fn read(&self, read: Read) {
        let inner = self.0.clone();
        tokio::spawn(async move {
            inner.disk.reads().await;
            read(Ok(&lock(&inner.connection)));
        });
    }

    fn scan(&self, read: Read) {
        self.read(read);
    }

    fn trouble(&self) -> Option<String> {
        self.0.file.trouble()
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    fn look_at(&self, error: &rusqlite::Error) {
        self.0.file.look_at(error);
    }
}
