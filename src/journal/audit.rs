//! The audit trail in the embedded journal: each record is written in the transaction of what it tells of,
//! and chained to the one before it.
use super::embedded::Embedded;
use super::hand::{only_reads, reader};
use super::rows::to_json;
use super::seal::{Keys, Seal};
use super::writer::Write;
use crate::domain::audit::chain::{Break, Hash, Link, Walk};
use crate::domain::audit::{Act, Agent, Event, Kind, Record};
use crate::domain::identifier::Identifier;
use crate::domain::message::Route;
use crate::flow::audit::{Audit, Search};
use crate::flow::ports::{Accepted, JournalError, Millis, NewTransaction};
use async_trait::async_trait;
use rusqlite::types::Type;
use rusqlite::{Connection, Error, OptionalExtension, Result, Row, params};
use std::path::Path;
use std::sync::LazyLock;

/// Records that are cut off in one transaction: nobody is to wait long behind it.
const CUT: i64 = 10_000;

static NODE: LazyLock<String> =
    LazyLock::new(|| whoami::hostname().ok().filter(|name| !name.is_empty()).unwrap_or("localhost".into()));

/// What the trail says of a message at the door. That a poll finds again what it found is no act.
pub(super) fn accepted(new: &NewTransaction, accepted: &Accepted) -> Option<Event> {
    let repeat = match accepted {
        Accepted::New(_) => false,
        Accepted::Repeat(_) if matches!(new.route, Route::Poll(_)) => return None,
        Accepted::Repeat(_) => true,
        // Refused by whoever asked.
        Accepted::KeyReused(_) => return None,
    };
    Some(Event {
        at: new.received,
        by: Agent::new(Kind::Client, &new.client, new.from.clone()),
        act: Act::Accepted { route: new.route.to_string(), via: new.via.clone(), repeat },
        transaction: Some(accepted.head().id.clone()),
        patients: new.patients.clone(),
    })
}

/// What the mediator does by itself, to no patient in particular.
pub(super) fn by_itself(act: Act, now: Millis) -> Event {
    Event { at: now, by: Agent::mediator(), act, transaction: None, patients: Vec::new() }
}

/// Writes the next record. Another process may have written the one before it.
pub(super) fn append(c: &Connection, event: &Event) -> Result<()> {
    let (seq, previous) = newest(c)?.unwrap_or_default();
    let record = Record { seq: seq + 1, node: NODE.clone(), event: event.clone() };
    let text = to_json(&record)?;
    let hash = previous.of_next(&text);
    // Without a patient in it, it is in clear, so that whoever has no key leaves a trace all the same.
    let value = if event.patients.is_empty() { "?3" } else { "seal('record', CAST(?1 AS TEXT), ?3)" };
    c.prepare_cached(&format!("INSERT INTO audit (seq, at, record, hash) VALUES (?1, ?2, {value}, ?4)"))?
        .execute(params![record.seq, event.at, text, hash.0])
        .map(drop)
}

/// The last number that was given, and the hash of its record: zeros, if that is gone.
fn newest(c: &Connection) -> Result<Option<(u64, Hash)>> {
    c.prepare_cached(
        "SELECT s.seq, a.hash FROM sqlite_sequence s LEFT JOIN audit a ON a.seq = s.seq WHERE s.name = 'audit'",
    )?
    .query_row([], |row| Ok((row.get(0)?, Hash(row.get::<_, Option<[u8; 32]>>(1)?.unwrap_or_default()))))
    .optional()
}

fn cut(c: &Connection, before: Millis, now: Millis) -> Result<u64> {
    let through: Option<i64> = c.query_row(
        "WITH oldest AS (SELECT seq, at FROM audit ORDER BY seq LIMIT ?2) \
         SELECT MAX(seq) FROM oldest WHERE seq < COALESCE((SELECT MIN(seq) FROM oldest WHERE at >= ?1), ?3)",
        params![before, CUT, i64::MAX],
        |row| row.get(0),
    )?;
    let Some(through) = through else { return Ok(0) };
    let last: [u8; 32] = c.query_row("SELECT hash FROM audit WHERE seq = ?1", [through], |row| row.get(0))?;
    let act = Act::Cut { through: through.unsigned_abs(), hash: Hash(last).to_string() };
    append(c, &by_itself(act, now))?;
    c.execute("INSERT INTO audit_cuts (seq, hash) VALUES (?1, ?2)", params![through, last])?;
    c.execute("DELETE FROM audit WHERE seq <= ?1", [through]).map(|gone| gone as u64)
}

/// A record as it was written, sealed or in clear.
pub(super) const RECORD: &str = "CASE typeof(record) WHEN 'text' THEN record \
     ELSE unseal('record', CAST(seq AS TEXT), record) END";

const LINK: &str = "a.text, a.hash, COALESCE((SELECT b.hash FROM audit b WHERE b.seq = a.seq - 1), \
     (SELECT hash FROM audit_cuts WHERE seq = a.seq - 1), zeroblob(32))";

fn link(row: &Row) -> Result<Link> {
    let text: String = row.get(0)?;
    let record = serde_json::from_str(&text)
        .map_err(|e| Error::FromSqlConversionFailure(0, Type::Text, e.to_string().into()))?;
    Ok(Link { text, record, hash: Hash(row.get(1)?), previous: Hash(row.get(2)?) })
}

fn records(c: &Connection, search: &Search) -> Result<Vec<Link>> {
    // What a record must have in it somewhere is looked for first; then it is read and judged.
    let parts: Vec<String> = search.agent.iter().map(to_json).collect::<Result<_>>()?;
    let about: Vec<String> = search
        .about
        .iter()
        .map(|name| to_json(&Identifier::of_token(name).map_or(name.clone(), |identifier| identifier.value)))
        .collect::<Result<_>>()?;
    let order = if search.newest_first { "DESC" } else { "ASC" };
    let mut statement = c.prepare_cached(&format!(
        "SELECT {LINK} FROM (SELECT seq, at, hash, {RECORD} AS text FROM audit) a WHERE a.seq > ?1 AND (?2 IS NULL OR a.seq < ?2) \
         AND (?3 IS NULL OR a.at >= ?3) AND (?4 IS NULL OR a.at < ?4) \
         AND NOT EXISTS (SELECT 1 FROM json_each(?5) p WHERE instr(a.text, p.value) = 0) \
         AND (?6 = '[]' OR EXISTS (SELECT 1 FROM json_each(?6) p WHERE instr(a.text, p.value) > 0)) \
         ORDER BY a.seq {order}"
    ))?;
    let rows = statement.query_map(
        params![search.after, search.before, search.from, search.until, to_json(&parts)?, to_json(&about)?],
        link,
    )?;
    let mut found = Vec::new();
    for row in rows {
        let link = row?;
        if matches(search, &link.record.event) {
            found.push(link);
        }
        if found.len() >= search.limit {
            break;
        }
    }
    Ok(found)
}

fn matches(search: &Search, event: &Event) -> bool {
    search.agent.as_ref().is_none_or(|name| event.is_by(name))
        && (search.about.is_empty() || search.about.iter().any(|name| event.is_about(name)))
        && search.action.as_ref().is_none_or(|action| event.action() == action)
        && search.outcome.as_ref().is_none_or(|outcome| event.outcome() == outcome)
}

#[async_trait]
impl Audit for Embedded {
    async fn record(&self, event: Event) -> std::result::Result<(), JournalError> {
        self.write(move |c| append(c, &event).map(Ok)).await
    }

    fn note(&self, event: Event) {
        self.hand.submit_always(Write {
            work: Box::new(move |c| append(c, &event)),
            done: Box::new(|_| {}),
            waited_for: false,
            of: None,
        });
    }

    async fn records(&self, search: Search) -> std::result::Result<Vec<Link>, JournalError> {
        self.scan(move |c| records(c, &search)).await
    }

    async fn head(&self) -> std::result::Result<Option<(u64, Hash)>, JournalError> {
        self.read(newest).await
    }

    async fn cut(&self, before: Millis, now: Millis) -> std::result::Result<u64, JournalError> {
        self.write(move |c| cut(c, before, now).map(Ok)).await
    }
}

/// Walks the whole trail of the journal at `path`, which may be in use. `expected` is a hash that was noted
/// earlier, and has to be in it.
pub fn verify(
    path: &Path,
    keys: &Keys,
    expected: Option<Hash>,
) -> std::result::Result<std::result::Result<Walk, Break>, String> {
    let told = |e: Error| format!("{}: {e}", path.display());
    let seal = only_reads(path).and_then(|c| Seal::of(&c, keys)).map_err(told)?;
    if let Seal::Locked(_) = seal {
        return Err(format!("{}: {}", path.display(), seal.objection(keys).unwrap_or_default()));
    }
    let connection = reader(path, &seal).map_err(told)?;
    // One view of it, whatever is written meanwhile.
    connection.execute_batch("BEGIN").map_err(told)?;
    walk(&connection, expected).map_err(told)
}

fn walk(c: &Connection, expected: Option<Hash>) -> Result<std::result::Result<Walk, Break>> {
    let last = newest(c)?.map_or(0, |(seq, _)| seq);
    let anchor: Option<(u64, [u8; 32])> = c
        .query_row("SELECT seq, hash FROM audit_cuts ORDER BY seq DESC LIMIT 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let mut is_there = expected.is_none();
    let mut walk = Walk::default();
    let mut statement = c.prepare(&format!("SELECT seq, {RECORD}, hash, at FROM audit ORDER BY seq"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let seq: u64 = row.get(0)?;
        // Of another type than ours, it was not we who wrote it.
        let text = row.get_ref(1)?.as_str().unwrap_or_default();
        let hash = Hash(row.get(2).unwrap_or_default());
        let previous =
            anchor.filter(|(cut, _)| walk.count == 0 && cut + 1 == seq).map(|(_, hash)| Hash(hash));
        if let Err(broken) = walk.step(seq, text, hash, previous) {
            return Ok(Err(broken));
        }
        if row.get::<_, Millis>(3).ok() != Some(walk.last) {
            let why = "its time beside it is not that in it: it was changed".into();
            return Ok(Err(Break { seq, at: walk.last, why }));
        }
        is_there = is_there || expected == Some(hash);
    }
    Ok(match walk.unsigned() {
        Some(broken) => Err(broken),
        None if walk.seq < last => {
            let why = format!("records {} to {last} at the end are missing", walk.seq + 1);
            Err(Break { seq: walk.seq + 1, at: walk.last, why })
        }
        None if !is_there => {
            let why = "the head that was noted is not in the trail: what came after was removed or written anew, or it is older than what is kept".into();
            Err(Break { seq: walk.seq, at: walk.last, why })
        }
        None => Ok(walk),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    struct Trail {
        _folder: tempfile::TempDir,
        path: PathBuf,
    }

    impl Trail {
        /// Of five records.
        async fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let trail = Self { path: folder.path().join("journal.db"), _folder: folder };
            trail.add(5).await;
            trail
        }

        async fn add(&self, records: i64) {
            let journal = Embedded::open(&self.path, 10).expect("a journal");
            for at in 1..=records {
                let act = Act::Read { what: "transaction".into() };
                let by = Agent::new(Kind::User, "alice", None);
                let event = Event { at, by, act, transaction: Some(format!("t{at}")), patients: Vec::new() };
                journal.record(event).await.expect("written");
            }
        }

        /// As somebody would who may write the file.
        fn forge(&self, sql: &str) {
            let c = Connection::open(&self.path).expect("opened");
            c.execute_batch(&format!("DROP TRIGGER audit_stays; DROP TRIGGER audit_is_kept; {sql}"))
                .expect("forged");
        }

        fn broken(&self) -> (u64, String) {
            let broken = verify(&self.path, &Keys::default(), None).expect("read").err().expect("broken");
            (broken.seq, broken.why)
        }
    }

    #[tokio::test]
    async fn nothing_in_the_trail_can_be_changed_or_removed() {
        let trail = Trail::new().await;
        let c = Connection::open(&trail.path).expect("opened");
        for sql in
            ["UPDATE audit SET at = 9 WHERE seq = 2", "DELETE FROM audit WHERE seq = 2", "DELETE FROM audit"]
        {
            let error = c.execute(sql, []).expect_err("refused").to_string();
            assert!(error.contains("append-only"), "{error}");
        }
        assert!(verify(&trail.path, &Keys::default(), None).expect("read").is_ok());
    }

    #[tokio::test]
    async fn whoever_forges_the_file_is_found_out() {
        let cases = [
            ("UPDATE audit SET record = replace(record, 'alice', 'mallory') WHERE seq = 3", 3, "was changed"),
            ("UPDATE audit SET hash = zeroblob(32) WHERE seq = 3", 3, "its hash is not that"),
            ("UPDATE audit SET at = 99 WHERE seq = 3", 3, "its time"),
            ("UPDATE audit SET record = 7 WHERE seq = 3", 3, "no record of this trail"),
            ("DELETE FROM audit WHERE seq = 3", 4, "records 3 to 3 before it are missing"),
            ("DELETE FROM audit WHERE seq <= 2", 3, "records 1 to 2 before it are missing"),
            ("DELETE FROM audit WHERE seq >= 4", 4, "records 4 to 5 at the end are missing"),
            ("DELETE FROM audit", 1, "records 1 to 5 at the end are missing"),
            (
                "INSERT INTO audit SELECT 6, at, replace(record, '\"seq\":5', '\"seq\":6'), hash FROM audit WHERE seq = 5",
                6,
                "written by somebody else",
            ),
            (
                "UPDATE audit SET seq = -2 WHERE seq = 2; UPDATE audit SET seq = 2 WHERE seq = 3; UPDATE audit SET seq = 3 WHERE seq = -2",
                2,
                "another order",
            ),
            (
                "DELETE FROM audit WHERE seq <= 2; INSERT INTO audit_cuts SELECT 2, hash FROM audit WHERE seq = 3",
                3,
                "its hash is not that",
            ),
        ];
        for (sql, seq, words) in cases {
            let trail = Trail::new().await;
            trail.forge(sql);
            let (found, why) = trail.broken();
            assert!(found == seq && why.contains(words), "{sql}: {found}: {why}");
        }
        // The right hash beside a beginning that was removed by hand: no record signs it off.
        let trail = Trail::new().await;
        trail.forge("INSERT INTO audit_cuts SELECT 2, hash FROM audit WHERE seq = 2; DELETE FROM audit WHERE seq <= 2");
        let (seq, why) = trail.broken();
        assert!(seq == 3 && why.contains("no record says that they were removed"), "{why}");
    }

    #[tokio::test]
    async fn what_is_missing_at_the_end_is_missed_after_more_has_come() {
        let trail = Trail::new().await;
        trail.forge("DELETE FROM audit WHERE seq >= 4");
        let c = Connection::open(&trail.path).expect("opened");
        let one = Event {
            at: 9,
            by: Agent::mediator(),
            act: Act::Stopped,
            transaction: None,
            patients: Vec::new(),
        };
        append(&c, &one).expect("written");
        let (seq, why) = trail.broken();
        assert!(seq == 6 && why.contains("records 4 to 5 before it are missing"), "{seq}: {why}");
    }

    #[tokio::test]
    async fn a_trail_that_was_written_anew_lacks_the_head_that_was_noted() {
        let (trail, other) = (Trail::new().await, Trail::new().await);
        let head = verify(&trail.path, &Keys::default(), None)
            .expect("read")
            .map_err(|b| b.why)
            .expect("whole")
            .head;
        trail.add(3).await;
        let grown = verify(&trail.path, &Keys::default(), Some(head))
            .expect("read")
            .map_err(|b| b.why)
            .expect("whole");
        assert_eq!(grown.count, 8);
        other.forge("DELETE FROM audit; DELETE FROM sqlite_sequence WHERE name = 'audit'");
        other.add(4).await;
        assert!(verify(&other.path, &Keys::default(), None).expect("read").is_ok(), "by itself it is whole");
        let broken =
            verify(&other.path, &Keys::default(), Some(head)).expect("read").err().expect("found out");
        assert!(broken.why.contains("the head that was noted is not in the trail"), "{}", broken.why);
    }

    #[tokio::test]
    async fn a_trail_that_was_cut_for_its_age_is_whole() {
        let trail = Trail::new().await;
        let journal = Embedded::open(&trail.path, 10).expect("a journal");
        journal.cut(4, 100).await.expect("cut");
        let walk =
            verify(&trail.path, &Keys::default(), None).expect("read").map_err(|b| b.why).expect("whole");
        assert_eq!((walk.count, walk.seq, walk.first), (3, 6, 4));
        // Even if nothing else is left.
        journal.cut(101, 101).await.expect("cut");
        let walk =
            verify(&trail.path, &Keys::default(), None).expect("read").map_err(|b| b.why).expect("whole");
        assert_eq!((walk.count, walk.seq), (1, 7));
    }
}
