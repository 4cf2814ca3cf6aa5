//! A journal's copy, taken while it is in use, and put back.
use super::claim::Claim;
use super::hand::only_reads;
use super::rekey::{hold, settle};
use super::schema;
use super::seal::Keys;
use crate::flow::ports::LOST_SINCE;
use rusqlite::{Connection, OptionalExtension, Result};
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
    let part = Part::beside(to, ".part")?;
    let copied = only_reads(journal).and_then(|c| c.execute("VACUUM INTO ?1", [part.path.to_string_lossy()]));
    copied.map_err(|e| of(journal, e))?;
    let contents = only_reads(&part.path).map_err(|e| e.to_string()).and_then(|c| contents(&c));
    let contents = contents.map_err(|why| of(to, why))?;
    part.put(to)?;
    Ok(contents)
}

/// Puts a backup in the journal's place. What was there is kept beside it: answers what is there now,
/// and where the old one is.
pub fn restore(backup: &Path, journal: &Path, keys: &Keys) -> Result<(Contents, Option<PathBuf>), String> {
    let _claim = Claim::on(journal)?;
    let part = Part::beside(journal, ".restore")?;
    fs::copy(backup, &part.path).map_err(|e| of(backup, e))?;
    let contents = made_ready(&part.path).map_err(|why| of(backup, why))?;
    if let Some(id) = contents.key.as_deref().filter(|id| !keys.has(id)) {
        let why = format!(
            "it is sealed with the key {id}, which journal.key does not have; add it after the newest"
        );
        return Err(of(backup, why));
    }
    let (aside, held) = match journal.exists() {
        true => {
            set_aside(journal).map(|(aside, held)| (Some(aside), held)).map_err(|why| of(journal, why))?
        }
        false => (None, None),
    };
    part.put(journal)?;
    drop(held);
    Ok((contents, aside))
}

fn of(file: &Path, why: impl fmt::Display) -> String {
    format!("{}: {why}", file.display())
}

/// What came after the newest message in it may have taken effect without it: that is noted.
fn made_ready(part: &Path) -> Result<Contents, String> {
    let told = |e: rusqlite::Error| e.to_string();
    let c = Connection::open(part).map_err(told)?;
    is_whole(part, &c)?;
    let contents = contents(&c)?;
    let since = "INSERT OR REPLACE INTO watermarks (name, value) \
                 SELECT ?1, CAST(COALESCE(MAX(received), 0) AS TEXT) FROM transactions";
    c.execute(since, [LOST_SINCE]).map_err(told)?;
    settle(&c)?;
    Ok(contents)
}

/// A file that was cut off may look sound to SQLite, which reads nothing where nothing is.
fn is_whole(part: &Path, c: &Connection) -> Result<(), String> {
    let pragma = |name: &str| c.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, u64>(0));
    let expected = pragma("page_count").and_then(|pages| Ok(pages * pragma("page_size")?));
    let expected = expected.map_err(|e| e.to_string())?;
    let is = fs::metadata(part).map_err(|e| e.to_string())?.len();
    match is < expected || is % pragma("page_size").map_err(|e| e.to_string())? != 0 {
        true => Err(format!("damaged: it has {is} bytes of {expected}")),
        false => Ok(()),
    }
}

/// Another name for the journal that is there, WAL and all. There is no moment without a journal: a
/// mediator that started then would begin an empty one.
fn set_aside(journal: &Path) -> std::io::Result<(PathBuf, Option<Connection>)> {
    // A damaged one cannot be settled; then its WAL goes with it.
    let settled = Connection::open(journal).ok().filter(|c| settle(c).is_ok() && hold(c, "main").is_ok());
    let aside = beside(journal, &jiff::Timestamp::now().strftime(".before-%Y%m%dT%H%M%S").to_string());
    fs::hard_link(journal, &aside)?;
    let wal = beside(journal, "-wal");
    if settled.is_none() && wal.exists() {
        fs::rename(&wal, beside(&aside, "-wal"))?;
    }
    let _ = fs::remove_file(beside(journal, "-shm"));
    Ok((aside, settled))
}

/// Whole, and of a release that is not newer than this one.
fn contents(c: &Connection) -> Result<Contents, String> {
    let told = |e: rusqlite::Error| e.to_string();
    let sound: String = c.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(told)?;
    if sound != "ok" {
        return Err(format!("damaged: {sound}"));
    }
    schema::refuse_newer(c).map_err(told)?;
    let counts = counts(c).map_err(|_| "this is no journal")?;
    let key = match c.table_exists(None, "sealed").map_err(told)? {
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

/// `journal.db` and `.part` to `journal.db.part`.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(suffix);
    name.into()
}

/// A file in the making, which only we can read. Gone if it comes to nothing.
pub(super) struct Part {
    pub path: PathBuf,
}

impl Part {
    /// Takes the place of what an interrupted run has left.
    pub fn beside(to: &Path, suffix: &str) -> Result<Self, String> {
        let path = beside(to, suffix);
        let _ = fs::remove_file(&path);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&path).map_err(|e| of(&path, e))?;
        Ok(Self { path })
    }

    /// Gives it its name, for good.
    pub fn put(self, to: &Path) -> Result<(), String> {
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let put = File::open(&self.path)
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(&self.path, to))
            .and_then(|()| File::open(folder)?.sync_all());
        put.map_err(|e| of(to, e))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
