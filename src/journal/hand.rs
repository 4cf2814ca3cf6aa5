//! Who holds the database: takes over what is to be written, and lets readers at what is written.
use super::seal::Seal;
use super::writer::{Write, Writer};
use crate::flow::ports::JournalError;
use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(super) type Read = Box<dyn FnOnce(rusqlite::Result<&Connection>) + Send>;

pub(super) trait Hand: Send + Sync + 'static {
    /// Refuses what the disk does not keep up with.
    fn submit(&self, write: Write) -> Result<(), JournalError>;
    /// A write that must not be refused: marks of what is done already.
    fn submit_always(&self, write: Write);
    /// A few rows by their keys, read here and now: that takes less than handing it to somebody else.
    fn read(&self, read: Read);
    /// What may be long.
    fn scan(&self, read: Read);
    /// Why nothing can be written at present, if so.
    fn trouble(&self) -> Option<String>;
    /// Reads the file for damage.
    fn check(&self) -> Result<(), String>;
    /// An error by which the file may have shown itself damaged.
    fn look_at(&self, error: &rusqlite::Error);
}

/// A thread that writes, and readers that have connections of their own and never wait for it.
pub(super) struct Threads {
    writer: Option<Writer>,
    thread: Option<std::thread::JoinHandle<()>>,
    readers: Readers,
}

/// Connections that only read; those that nobody uses are kept.
#[derive(Clone)]
struct Readers {
    path: PathBuf,
    seal: Seal,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Readers {
    fn lend(&self, read: Read) {
        let kept = self.idle().pop();
        match kept.map_or_else(|| reader(&self.path, &self.seal), Ok) {
            Ok(connection) => {
                read(Ok(&connection));
                self.idle().push(connection);
            }
            Err(error) => read(Err(error)),
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Threads {
    pub(super) fn start(connection: Connection, path: &Path, seal: Seal) -> std::io::Result<Self> {
        let (writer, thread) = Writer::start(connection, path)?;
        let readers = Readers { path: path.to_path_buf(), seal, idle: Arc::default() };
        Ok(Self { writer: Some(writer), thread: Some(thread), readers })
    }

    fn writer(&self) -> Result<&Writer, JournalError> {
        self.writer.as_ref().ok_or_else(|| JournalError::Unwritable("the journal is closed".into()))
    }
}

impl Hand for Threads {
    fn submit(&self, write: Write) -> Result<(), JournalError> {
        self.writer()?.submit(write)
    }

    fn submit_always(&self, write: Write) {
        if let Ok(writer) = self.writer() {
            writer.submit_always(write);
        }
    }

    fn read(&self, read: Read) {
        self.readers.lend(read);
    }

    fn scan(&self, read: Read) {
        let readers = self.readers.clone();
        tokio::task::spawn_blocking(move || readers.lend(read));
    }

    fn trouble(&self) -> Option<String> {
        match self.writer() {
            Ok(writer) => writer.file.trouble(),
            Err(error) => Some(error.to_string()),
        }
    }

    fn check(&self) -> Result<(), String> {
        self.writer().map_err(|e| e.to_string())?.file.check()
    }

    fn look_at(&self, error: &rusqlite::Error) {
        if let Ok(writer) = self.writer() {
            writer.file.look_at(error);
        }
    }
}

/// Closing waits for what was handed over.
impl Drop for Threads {
    fn drop(&mut self) {
        self.writer = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub(super) fn reader(path: &Path, seal: &Seal) -> rusqlite::Result<Connection> {
    let connection = only_reads(path)?;
    seal.install(&connection)?;
    Ok(connection)
}

/// What is sealed stays so.
pub(super) fn only_reads(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    Ok(connection)
}
