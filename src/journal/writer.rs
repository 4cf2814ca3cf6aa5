//! The one writer: a thread that takes whatever waits, writes it in one transaction, and pays for
//! one fsync. Under load hundreds of messages share it.
use super::file::{Watched, is_of_the_disk, words};
use crate::flow::ports::JournalError;
use rusqlite::Connection;
use std::collections::HashSet;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::time::Duration;

/// How long a write that nobody waits for may wait for company.
const LINGER: Duration = Duration::from_millis(100);
/// Writes in one commit.
const GROUP: usize = 512;
/// Writes that may wait for the writer.
const QUEUE: usize = 8192;
/// How soon what could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// May be called again if its commit failed.
type Work = Box<dyn FnMut(&Connection) -> rusqlite::Result<()> + Send>;
type Done = Box<dyn FnOnce(Result<(), JournalError>) + Send>;

pub(super) struct Write {
    pub work: Work,
    pub done: Done,
    /// Somebody waits for it. Otherwise it may join the next group, and is kept until it is written.
    pub waited_for: bool,
    /// The transaction whose state it is: of several that could not be written only the newest counts.
    pub of: Option<String>,
}

#[derive(Clone)]
pub(super) struct Writer {
    queue: SyncSender<Write>,
    pub(super) file: Watched,
}

impl Writer {
    pub(super) fn start(
        connection: Connection,
        path: &Path,
    ) -> std::io::Result<(Self, std::thread::JoinHandle<()>)> {
        let (queue, inbox) = std::sync::mpsc::sync_channel(QUEUE);
        let file = Watched::new(path);
        let own = file.clone();
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || run(&connection, &inbox, &own))?;
        Ok((Self { queue, file }, thread))
    }

    /// Hands a write over; full means that the disk does not keep up.
    pub(super) fn submit(&self, write: Write) -> Result<(), JournalError> {
        self.queue.try_send(write).map_err(|error| match error {
            TrySendError::Full(_) => JournalError::Full(QUEUE as u64),
            TrySendError::Disconnected(_) => JournalError::Unwritable("the journal is closed".into()),
        })
    }

    /// Hands over a write that must not be refused: marks of what is done already. Waits if the disk
    /// does not keep up.
    pub(super) fn submit_always(&self, write: Write) {
        if self.queue.send(write).is_err() {
            tracing::error!(
                "a mark came after the journal was closed; its act is repeated at the next start"
            );
        }
    }
}

fn run(connection: &Connection, inbox: &Receiver<Write>, file: &Watched) {
    // Marks that could not be written: they go with the next group that can.
    let mut kept: Vec<Write> = Vec::new();
    loop {
        let first = match kept.is_empty() && file.trouble().is_none() {
            true => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => inbox.recv_timeout(AGAIN),
        };
        let mut group = std::mem::take(&mut kept);
        match first {
            Ok(write) => group.push(write),
            // Callers stay away while we are not ready: nobody but us finds out that it can be written again.
            Err(RecvTimeoutError::Timeout) => group.push(probe()),
            Err(RecvTimeoutError::Disconnected) => {
                let _ = commit(connection, &mut group, file);
                return;
            }
        }
        gather(inbox, &mut group);
        kept = finish(connection, group, file);
    }
}

/// Changes nothing, and has to be written all the same.
fn probe() -> Write {
    let work = |connection: &Connection| {
        let version: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        connection.pragma_update(None, "user_version", version)
    };
    Write { work: Box::new(work), done: Box::new(|_| {}), waited_for: true, of: None }
}

/// Adds what else waits. A group that nobody waits for lingers.
fn gather(inbox: &Receiver<Write>, group: &mut Vec<Write>) {
    let until = std::time::Instant::now() + LINGER;
    while group.len() < GROUP {
        let waited_for = group.iter().any(|write| write.waited_for);
        let next = if waited_for {
            inbox.try_recv().ok()
        } else {
            inbox.recv_timeout(until.saturating_duration_since(std::time::Instant::now())).ok()
        };
        match next {
            Some(write) => group.push(write),
            None => return,
        }
    }
}

/// Commits a group and tells who waits. What nobody waits for and was not written is given back.
pub(super) fn finish(connection: &Connection, mut group: Vec<Write>, file: &Watched) -> Vec<Write> {
    match commit(connection, &mut group, file) {
        Ok(failed) => {
            file.note(None);
            for (i, write) in group.into_iter().enumerate() {
                (write.done)(failed.get(&i).map_or(Ok(()), |e| Err(JournalError::Unwritable(e.clone()))));
            }
            Vec::new()
        }
        Err(error) => {
            file.note(Some(error.clone()));
            let mut kept = Vec::new();
            for write in group {
                match write.waited_for {
                    true => (write.done)(Err(JournalError::Unwritable(error.clone()))),
                    false => kept.push(write),
                }
            }
            newest(kept)
        }
    }
}

/// Of each transaction the last mark: it says all that those before it say.
fn newest(kept: Vec<Write>) -> Vec<Write> {
    let mut seen = HashSet::new();
    let mut last: Vec<Write> = kept
        .into_iter()
        .rev()
        .filter(|write| write.of.as_ref().is_none_or(|id| seen.insert(id.clone())))
        .collect();
    last.reverse();
    last
}

/// One transaction; each write in a savepoint of its own, so that one that fails spoils no other.
fn commit(
    connection: &Connection,
    group: &mut [Write],
    file: &Watched,
) -> Result<std::collections::HashMap<usize, String>, String> {
    let mut failed = std::collections::HashMap::new();
    if let Some(lost) = file.lost() {
        return Err(lost);
    }
    connection.execute_batch("BEGIN IMMEDIATE").map_err(|e| words(&e))?;
    let written: rusqlite::Result<usize> = (|| {
        for (i, write) in group.iter_mut().enumerate() {
            connection.prepare_cached("SAVEPOINT one")?.execute([])?;
            match (write.work)(connection) {
                Ok(()) => {}
                Err(error) if is_of_the_disk(&error) => return Err(error),
                Err(error) => {
                    connection.prepare_cached("ROLLBACK TO one")?.execute([])?;
                    tracing::error!(%error, "a write to the journal was refused");
                    failed.insert(i, error.to_string());
                }
            }
            connection.prepare_cached("RELEASE one")?.execute([])?;
        }
        crate::failpoint::reach("journal-before-commit");
        connection.prepare_cached("COMMIT")?.execute([])
    })();
    match written {
        Ok(_) => {
            metrics::histogram!("journal_group_size").record(group.len() as f64);
            Ok(failed)
        }
        Err(error) => {
            if !connection.is_autocommit() {
                let _ = connection.execute_batch("ROLLBACK");
            }
            file.look_at(&error);
            Err(words(&error))
        }
    }
}
