//! A journal's copy, taken while it is in use, and put back.
use super::claim::Claim;
use super::rekey::settle;
use super::schema;
use super::seal::Keys;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

/// What a journal's file holds.
pub struct Contents {
    /// Transactions by status.
    pub counts: BTreeMap<String, u64>,
    /// The id of the key that it is sealed with.
    pub key: Option<String>,
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of_each: Vec<String> = self.counts.iter().map(|(status, n)| format!("{n} {status}")).collect();
        let all: u64 = self.counts.values().sum();
        write!(f, "{all} transactions ({})", of_each.join(", "))?;
        match &self.key {
            Some(id) => write!(f, ", sealed with the key {id}"),
            None => write!(f, ", in clear"),
        }
    }
}

/// Copies the journal as it is at one moment; whoever works on it goes on. The copy has its name only
/// when it is whole, verified and on disk.
pub fn backup(journal: &Path, to: &Path) -> Result<Contents, String> {
    if to.exists() {
        return Err(format!("{} is there already; nothing is overwritten", to.display()));
    }
    let part = beside(to, ".part");
    make_private(&part)?;
    let copied = reader(journal).and_then(|c| c.execute("VACUUM INTO ?1", [part.to_string_lossy()]));
    copied.map_err(|e| format!("{}: {e}", journal.display()))?;
    let contents = contents(&part)?;
    put(&part, to)?;
    Ok(contents)
}

/// Puts a backup in the journal's place. What was there is kept beside it: answers what is there now,
/// and where the old one is.
pub fn restore(backup: &Path, journal: &Path, keys: &Keys) -> Result<(Contents, Option<PathBuf>), String> {
    let _claim = Claim::on(journal)?;
    let part = beside(journal, ".restore");
    make_private(&part)?;
    fs::copy(backup, &part).map_err(|e| format!("{}: {e}", backup.display()))?;
    let contents = contents(&part)?;
    if let Some(id) = contents.key.as_deref().filter(|id| !keys.has(id)) {
        return Err(format!(
            "{} is sealed with the key {id}, which journal.key does not have; add it after the newest",
            backup.display()
        ));
    }
    let aside = match journal.exists() {
        true => Some(set_aside(journal)?),
        false => None,
    };
    put(&part, journal)?;
    Ok((contents, aside))
}

/// Another name for the journal that is there, WAL and all. There is no moment without a journal: a
/// mediator that started then would begin an empty one.
fn set_aside(journal: &Path) -> Result<PathBuf, String> {
    let told = |e: std::io::Error| format!("{}: {e}", journal.display());
    // A damaged one cannot be settled; then its WAL goes with it.
    let settled = Connection::open(journal).map_err(|e| e.to_string()).and_then(|c| settle(&c));
    let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S");
    let aside = beside(journal, &format!(".before-{now}"));
    fs::hard_link(journal, &aside).map_err(told)?;
    let wal = beside(journal, "-wal");
    if settled.is_err() && wal.exists() {
        fs::rename(&wal, beside(&aside, "-wal")).map_err(told)?;
    }
    let _ = fs::remove_file(beside(journal, "-shm"));
    Ok(aside)
}

/// Whole, and of a release that is not newer than this one.
fn contents(file: &Path) -> Result<Contents, String> {
    let told = |e: rusqlite::Error| format!("{}: {e}", file.display());
    let c = reader(file).map_err(told)?;
    let sound: String = c.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(told)?;
    if sound != "ok" {
        return Err(format!("{} is damaged: {sound}", file.display()));
    }
    schema::refuse_newer(&c).map_err(told)?;
    let counts = counts(&c).map_err(|_| format!("{} is no journal", file.display()))?;
    let is_sealed = c.table_exists(None, "sealed").map_err(told)?;
    let key = match is_sealed {
        true => c.query_row("SELECT key_id FROM sealed", [], |row| row.get(0)).optional().map_err(told)?,
        false => None,
    };
    Ok(Contents { counts, key })
}

fn counts(c: &Connection) -> Result<BTreeMap<String, u64>> {
    c.prepare("SELECT status, n FROM counts WHERE n > 0")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

fn reader(path: &Path) -> Result<Connection> {
    let c = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    c.busy_timeout(std::time::Duration::from_secs(10))?;
    Ok(c)
}

/// `journal.db` and `.part` to `journal.db.part`.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(suffix);
    name.into()
}

/// An empty file that only we can read, in place of what an interrupted run left.
pub(super) fn make_private(path: &Path) -> Result<(), String> {
    let told = |e: std::io::Error| format!("{}: {e}", path.display());
    if path.exists() {
        fs::remove_file(path).map_err(told)?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop).map_err(told)
}

/// Gives a complete file its name, for good.
pub(super) fn put(part: &Path, to: &Path) -> Result<(), String> {
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let put = File::open(part)
        .and_then(|file| file.sync_all())
        .and_then(|()| fs::rename(part, to))
        .and_then(|()| File::open(folder)?.sync_all());
    put.map_err(|e| format!("{}: {e}", to.display()))
}
