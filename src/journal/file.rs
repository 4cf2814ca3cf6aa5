//! The journal's file: which it is, and what is wrong with it.
use rusqlite::{Connection, Error, ErrorCode, OpenFlags};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// How long the start waits for the file to be read whole; what is found later is found all the same.
const CHECK_WITHIN: Duration = Duration::from_secs(2);

#[derive(Clone)]
pub(super) struct Watched {
    path: PathBuf,
    /// Device and inode. A file that was removed or replaced can still be written, to no avail.
    identity: Option<(u64, u64)>,
    /// Why the last write failed, if it did.
    trouble: Arc<Mutex<Option<String>>>,
    /// What no waiting mends.
    damage: Arc<OnceLock<String>>,
}

impl Watched {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            identity: identity(path),
            trouble: Arc::default(),
            damage: Arc::default(),
        }
    }

    /// Why nothing can be written at present, if so.
    pub(super) fn trouble(&self) -> Option<String> {
        self.lost().or_else(|| self.last().clone())
    }

    /// Why nothing can be written until somebody mends it, if so.
    pub(super) fn lost(&self) -> Option<String> {
        let gone = self.identity.is_some() && identity(&self.path) != self.identity;
        let gone =
            gone.then(|| format!("{} was removed or replaced while in use: restart", self.path.display()));
        gone.or_else(|| self.damage.get().cloned())
    }

    /// How the last write went. Told once, however long it stays so.
    pub(super) fn note(&self, trouble: Option<String>) {
        let mut last = self.last();
        match (&*last, &trouble) {
            (None, Some(error)) => tracing::error!(error, "the journal cannot be written"),
            (Some(_), None) => tracing::info!("the journal can be written again"),
            _ => {}
        }
        *last = trouble;
    }

    /// An error by which the file shows itself damaged is kept: what is half there is not worked on.
    pub(super) fn look_at(&self, error: &Error) {
        if is_damage(error) && self.damage.set(words(error)).is_ok() {
            tracing::error!(error = words(error), "the journal is damaged");
        }
    }

    /// Reads the whole file for damage.
    pub(super) fn check(&self) -> Result<(), String> {
        let (tell, told) = std::sync::mpsc::channel();
        let file = self.clone();
        let reading = std::thread::Builder::new().name("journal-check".into()).spawn(move || {
            if let Err(error) = quick_check(&file.path) {
                file.look_at(&error);
            }
            let _ = tell.send(());
        });
        reading.map_err(|e| e.to_string())?;
        let _ = told.recv_timeout(CHECK_WITHIN);
        self.damage.get().cloned().map_or(Ok(()), Err)
    }

    fn last(&self) -> MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(unix)]
fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

#[cfg(not(unix))]
fn identity(_: &Path) -> Option<(u64, u64)> {
    None
}

fn quick_check(path: &Path) -> rusqlite::Result<()> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    match found.as_str() {
        "ok" => Ok(()),
        _ => Err(Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), Some(found))),
    }
}

fn is_damage(error: &Error) -> bool {
    use ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
}

/// Errors of the file, not of what is written: whatever goes with it is in doubt.
pub(super) fn is_of_the_disk(error: &Error) -> bool {
    use ErrorCode::{CannotOpen, DiskFull, OutOfMemory, ReadOnly, SystemIoFailure};
    let of_the_disk = [DiskFull, SystemIoFailure, ReadOnly, CannotOpen, OutOfMemory];
    is_damage(error) || error.sqlite_error_code().is_some_and(|code| of_the_disk.contains(&code))
}

/// The error, and what to do about it.
pub(super) fn words(error: &Error) -> String {
    use ErrorCode::{CannotOpen, DiskFull, ReadOnly, SystemIoFailure};
    let advice = match error.sqlite_error_code() {
        _ if is_damage(error) => "stop the mediator and restore the journal from a backup",
        Some(DiskFull | SystemIoFailure) => {
            "look at the disk: is it full, or failing? Once it can be written, all goes on by itself"
        }
        Some(ReadOnly | CannotOpen) => "the mediator's user must be able to write the file and its folder",
        _ => return error.to_string(),
    };
    format!("{error}; {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::ports::Journal;
    use crate::journal::embedded::Embedded;
    use std::os::unix::fs::FileExt;

    /// A journal whose transactions are overwritten.
    fn damaged(folder: &tempfile::TempDir) -> PathBuf {
        let path = folder.path().join("journal.db");
        drop(Embedded::open(&path, 10).expect("a journal"));
        let root = "SELECT rootpage FROM sqlite_master WHERE name = 'transactions'";
        let read = Connection::open(&path).and_then(|c| c.query_row(root, [], |row| row.get::<_, u64>(0)));
        let file = std::fs::OpenOptions::new().write(true).open(&path).expect("the file");
        file.write_all_at(&[0xA5; 4096], (read.expect("a page") - 1) * 4096).expect("overwritten");
        path
    }

    #[test]
    fn the_start_sees_damage_and_says_what_to_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = Watched::new(&damaged(&folder)).check().expect_err("damage");
        assert!(error.contains("restore the journal from a backup"), "{error}");
    }

    #[tokio::test]
    async fn what_a_reading_shows_to_be_damaged_takes_nothing_more() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Embedded::open(&damaged(&folder), 10).expect("nothing of it is read yet");
        assert!(journal.trouble().is_none());
        assert!(journal.list(Default::default()).await.is_err());
        assert!(journal.trouble().is_some_and(|why| why.contains("backup")), "{:?}", journal.trouble());
        assert!(journal.set_watermark("x", "y").await.is_err());
    }
}
