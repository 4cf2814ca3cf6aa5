//! The embedded journal: SQLite in WAL mode, synchronous=FULL, one writer that groups commits.
use super::audit::{self, append};
use super::file;
use super::follow_ups;
use super::hand::{Hand, Read, Threads};
use super::retain;
use super::rows::{self, HEAD, LIST, TRANSACTION, to_json};
use super::schema;
use super::seal::{Keys, Seal};
use super::writer::Write;
use crate::domain::audit::Event;
use crate::domain::identifier::{Identifier, system};
use crate::domain::message::Route;
use crate::domain::plan::{Progress, Status, StepStatus};
use crate::flow::confirm;
use crate::flow::ports::{
    Accepted, Action, Command, Facts, Filter, Head, Journal, JournalError, Mark, Millis, NewTransaction, Row,
    Tell, Transaction,
};
use crate::planted::{Bug, is_planted};
use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::oneshot;

/// By transaction: the number and the mark.
type Pending = HashMap<String, (u64, Arc<Mark>)>;

pub struct Embedded {
    pub(super) hand: Box<dyn Hand>,
    seal: Seal,
    objection: Option<String>,
    /// Marks handed over and not yet written: whoever reads a transaction reads them too.
    pending: Arc<Mutex<Pending>>,
    marks: AtomicU64,
    max_open: u64,
    tell: Arc<OnceLock<Tell>>,
}

/// What a write leaves for whoever waits; taken when its commit is safe.
type Slot<T> = Arc<Mutex<Option<Result<T, JournalError>>>>;

impl Embedded {
    /// Opens or makes the journal at `path`, in clear, migrating an older one.
    pub fn open(path: &Path, max_open: u64) -> Result<Self, JournalError> {
        Self::open_with(path, max_open, &Keys::default())
    }

    /// The same, sealed with the newest of the keys. One that is sealed with none of them, or not at all,
    /// can be read as far as it is in clear: see [`Self::objection`].
    pub fn open_with(path: &Path, max_open: u64, keys: &Keys) -> Result<Self, JournalError> {
        let connection = Connection::open(path).map_err(unwritable)?;
        prepare(&connection).map_err(unwritable)?;
        let seal = Seal::of(&connection, keys).map_err(unwritable)?;
        seal.install(&connection).map_err(unwritable)?;
        let objection = seal.objection(keys);
        if objection.is_none() {
            follow_ups::index_old(&connection).map_err(unwritable)?;
        }
        let hand = Threads::start(connection, path, seal.clone())
            .map_err(|e| JournalError::Unwritable(e.to_string()))?;
        Ok(Self { objection, ..Self::held_by(Box::new(hand), seal, max_open) })
    }

    /// A journal in memory that belongs to whoever keeps the connection, and is written as `disk` says.
    #[cfg(feature = "simulation")]
    pub fn in_one_thread(
        connection: Arc<Mutex<Connection>>,
        disk: Arc<dyn super::one_thread::Disk>,
        max_open: u64,
    ) -> Result<Self, JournalError> {
        prepare(&lock(&connection)).map_err(unwritable)?;
        Seal::Clear.install(&lock(&connection)).map_err(unwritable)?;
        let hand = super::one_thread::OneThread::start(connection, disk);
        Ok(Self::held_by(Box::new(hand), Seal::Clear, max_open))
    }

    fn held_by(hand: Box<dyn Hand>, seal: Seal, max_open: u64) -> Self {
        let (pending, tell) = (Arc::default(), Arc::default());
        Self { hand, seal, objection: None, pending, marks: AtomicU64::new(0), max_open, tell }
    }

    /// Why nobody may work on it with the keys that were given.
    pub fn objection(&self) -> Option<&str> {
        self.objection.as_deref()
    }

    /// The id of the key that it is sealed with.
    pub fn sealed_with(&self) -> Option<&str> {
        self.seal.key_id()
    }

    /// Reads it for damage: what is half there must not be worked on.
    pub fn check(&self) -> Result<(), JournalError> {
        self.hand.check().map_err(JournalError::Unreadable)
    }

    /// Runs `work` in the next group and answers when that is on disk.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, JournalError>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> rusqlite::Result<Result<T, JournalError>> + Send + 'static,
    {
        self.write_and_tell(work, |_| {}).await
    }

    /// The same; `tell` is called by the writer, in the order of the writes, before this answers.
    async fn write_and_tell<T, F, G>(&self, mut work: F, tell: G) -> Result<T, JournalError>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> rusqlite::Result<Result<T, JournalError>> + Send + 'static,
        G: FnOnce(&T) + Send + 'static,
    {
        let slot: Slot<T> = Arc::default();
        let (done, waits) = oneshot::channel();
        let (left, safe) = (slot.clone(), slot.clone());
        let write = Write {
            work: Box::new(move |connection| {
                let made = work(connection)?;
                *left.lock().map_err(|_| rusqlite::Error::InvalidQuery)? = Some(made);
                Ok(())
            }),
            done: Box::new(move |result| {
                if result.is_ok()
                    && let Some(Ok(made)) = lock(&safe).as_ref()
                {
                    tell(made);
                }
                let _ = done.send(result);
            }),
            waited_for: true,
            of: None,
        };
        self.hand.submit(write)?;
        waits.await.map_err(|_| JournalError::Unwritable("the journal is closed".into()))??;
        let made = slot.lock().ok().and_then(|mut slot| slot.take());
        made.unwrap_or_else(|| Err(JournalError::Unwritable("a write left no result".into())))
    }

    /// With the next write, and nobody waits for it.
    fn note_via(&self, state: &'static str, openhim: &str) {
        let openhim = openhim.to_string();
        self.hand.submit_always(Write {
            work: Box::new(move |c| {
                let sql = "UPDATE via SET state = ?2 WHERE openhim = ?1";
                c.prepare_cached(sql)?.execute(params![openhim, state]).map(drop)
            }),
            done: Box::new(|_| {}),
            waited_for: false,
            of: None,
        });
    }

    /// A few rows, by their keys.
    pub(super) async fn read<T, F>(&self, work: F) -> Result<T, JournalError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.look(work, |hand, read| hand.read(read)).await
    }

    /// What may be long.
    pub(super) async fn scan<T, F>(&self, work: F) -> Result<T, JournalError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.look(work, |hand, read| hand.scan(read)).await
    }

    async fn look<T, F>(&self, work: F, by: impl FnOnce(&dyn Hand, Read)) -> Result<T, JournalError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (done, made) = oneshot::channel();
        by(&*self.hand, Box::new(move |connection| drop(done.send(connection.and_then(work)))));
        made.await.map_err(|_| JournalError::Unreadable("a reading ended without a result".into()))?.map_err(
            |e| {
                self.hand.look_at(&e);
                JournalError::Unreadable(file::words(&e))
            },
        )
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A transaction as it will read once the mark is written.
fn marked(mut transaction: Transaction, mark: &Mark) -> Transaction {
    if transaction.head.status != Status::Cancelled {
        transaction.head.status = mark.status;
    }
    transaction.head.not_before = mark.not_before;
    transaction.attempts = mark.attempts;
    transaction.error = mark.error.clone();
    transaction.cause = mark.cause.clone();
    transaction.mapping = mark.mapping.clone();
    transaction.plan = mark.plan.clone().or(transaction.plan);
    transaction.progress = mark.progress.clone();
    transaction.answer = mark.answer.clone();
    if !mark.orchestrations.is_empty() {
        transaction.orchestrations = mark.orchestrations.clone();
    }
    transaction.finished = (mark.status != Status::Open).then_some(mark.at);
    transaction
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.set_prepared_statement_cache_capacity(64);
    schema::migrate(connection)
}

fn unwritable(error: rusqlite::Error) -> JournalError {
    JournalError::Unwritable(file::words(&error))
}

/// The newest version of what a message is, before it: the last to come that was not late itself.
struct Newest {
    head: Head,
    digest: String,
    /// The highest that has come.
    revision: Option<i64>,
}

impl Newest {
    fn read(c: &Connection, key: &str) -> rusqlite::Result<Option<Self>> {
        c.prepare_cached(&format!(
            "WITH highest AS (SELECT MAX(revision) AS highest FROM transactions WHERE key = name(?1)) \
             SELECT {HEAD}, unname(digest), highest FROM transactions, highest WHERE key = name(?1) \
             AND (revision IS NULL OR revision >= highest) ORDER BY seq DESC LIMIT 1"
        ))?
        .query_row([key], |row| {
            Ok(Self { head: rows::head(row)?, digest: row.get(5)?, revision: row.get(6)? })
        })
        .optional()
    }

    /// A version that is older than this one has come late.
    fn overtakes(&self, new: &NewTransaction) -> bool {
        let is_late = matches!((self.revision, new.revision), (Some(known), Some(late)) if late < known);
        is_late && !is_planted(Bug::OldVersionTakenForNew)
    }
}

/// A failed or cancelled one is no answer: whoever sends it again wants it tried again.
fn is_answer(head: &Head) -> bool {
    !matches!(head.status, Status::Failed | Status::Cancelled)
}

/// The transaction that a message is a repeat of: the newest with its key; but what OpenHIM sends again,
/// and a version that is older than the newest, is what it was.
fn repeat_of(c: &Connection, new: &NewTransaction, newest: &Newest) -> rusqlite::Result<Option<Head>> {
    // A poll only finds again what it found.
    let is_poll = matches!(new.route, Route::Poll(_));
    if newest.digest == new.digest && (is_poll || is_answer(&newest.head)) {
        return Ok(Some(newest.head.clone()));
    }
    let was = match &new.again {
        Some(again) => c
            .prepare_cached(&format!(
                "SELECT {HEAD} FROM transactions WHERE id IN (SELECT id FROM via WHERE openhim = ?1) \
                 AND key = name(?2) AND digest = name(?3)"
            ))?
            .query_row([again, &new.key, &new.digest], rows::head)
            .optional()?,
        None => None,
    };
    if let Some(was) = was.filter(|was| is_answer(was) || was.id != newest.head.id) {
        return Ok(Some(was));
    }
    match newest.overtakes(new) {
        true => c
            .prepare_cached(&format!(
                "SELECT {HEAD} FROM transactions WHERE key = name(?1) AND digest = name(?2) ORDER BY seq DESC LIMIT 1"
            ))?
            .query_row([&new.key, &new.digest], rows::head)
            .optional(),
        false => Ok(None),
    }
}

fn accept_one(c: &Connection, new: &NewTransaction) -> rusqlite::Result<Accepted> {
    let newest = Newest::read(c, &new.key)?;
    if let Some(newest) = newest.as_ref().filter(|newest| new.strict && newest.digest != new.digest) {
        return Ok(Accepted::KeyReused(newest.head.clone()));
    }
    let repeat = match &newest {
        Some(newest) => repeat_of(c, new, newest)?,
        None => None,
    };
    if let Some(via) = &new.via {
        write_via(c, via, repeat.as_ref().map_or(&new.id, |head| &head.id), new.received)?;
    }
    if let Some(head) = repeat {
        return Ok(Accepted::Repeat(head));
    }
    let head = insert(c, new)?;
    match newest.filter(|newest| newest.overtakes(new)) {
        Some(newest) => overtaken(c, head, &newest.head.id, new.received).map(Accepted::Repeat),
        None => Ok(Accepted::New(head)),
    }
}

/// Kept and shown, and nothing is done with it.
fn overtaken(c: &Connection, head: Head, newer: &str, at: Millis) -> rusqlite::Result<Head> {
    let why = format!("a newer version of it has come before it ({newer})");
    let answer = confirm::cht(&head.id, Status::Ignored, Some(&why));
    c.prepare_cached(
        "UPDATE transactions SET status = 'ignored', error = seal('error', id, ?2), cause = ?2, \
         answer = seal('answer', id, ?3), finished = ?4 WHERE id = ?1",
    )?
    .execute(params![head.id, why, to_json(&answer)?, at])?;
    Ok(Head { status: Status::Ignored, ..head })
}

fn insert(c: &Connection, new: &NewTransaction) -> rusqlite::Result<Head> {
    let subjects = with_people(c, &new.subjects)?;
    c.prepare_cached(
        "INSERT INTO transactions (id, route, client, home, key, digest, subjects, received, revision) \
         VALUES (?1, ?2, ?3, ?4, name(?5), name(?6), seal('subjects', ?1, ?7), ?8, ?9)",
    )?
    .execute(params![
        new.id,
        new.route.to_string(),
        new.client,
        new.home,
        new.key,
        new.digest,
        to_json(&subjects)?,
        new.received,
        new.revision
    ])?;
    let seq = c.last_insert_rowid();
    c.prepare_cached("INSERT INTO bodies (seq, body) VALUES (?1, seal('body', ?2, ?3))")?
        .execute(params![seq, new.id, new.body])?;
    Ok(Head { seq, id: new.id.clone(), subjects, status: Status::Open, not_before: 0 })
}

fn write_via(c: &Connection, openhim: &str, id: &str, at: Millis) -> rusqlite::Result<()> {
    c.prepare_cached("INSERT OR REPLACE INTO via (openhim, id, since) VALUES (?1, ?2, ?3)")?
        .execute(params![openhim, id, at])?;
    Ok(())
}

/// Adds the people whose identifiers are among the subjects, so that a message by short code and one
/// by uuid keep their order.
fn with_people(c: &Connection, subjects: &[String]) -> rusqlite::Result<Vec<String>> {
    let mut all: std::collections::BTreeSet<String> = subjects.iter().cloned().collect();
    let mut people =
        c.prepare_cached("SELECT unname(person) FROM identifiers WHERE value = name(?1) LIMIT 8")?;
    for subject in subjects {
        for person in people.query_map([subject], |row| row.get::<_, String>(0))? {
            all.insert(person?);
        }
    }
    Ok(all.into_iter().collect())
}

fn write_mark(c: &Connection, mark: &Mark) -> rusqlite::Result<()> {
    let finished = (mark.status != Status::Open).then_some(mark.at);
    // A cancelled transaction stays so, whatever a late worker says; its progress is still noted.
    c.prepare_cached(
        "UPDATE transactions SET status = CASE WHEN status = 'cancelled' THEN status ELSE ?2 END, \
         attempts = ?3, not_before = ?4, error = seal('error', id, ?5), mapping = ?6, \
         progress = seal('progress', id, ?7), answer = seal('answer', id, ?8), finished = ?9, cause = ?10, \
         orchestrations = COALESCE(seal('orchestrations', id, ?11), orchestrations) WHERE id = ?1",
    )?
    .execute(params![
        mark.id,
        mark.status.as_str(),
        mark.attempts,
        mark.not_before,
        mark.error,
        mark.mapping,
        to_json(&mark.progress)?,
        mark.answer.as_ref().map(to_json).transpose()?,
        finished,
        mark.cause,
        (!mark.orchestrations.is_empty()).then(|| to_json(&mark.orchestrations)).transpose()?
    ])?;
    if let Some(plan) = &mark.plan {
        c.prepare_cached(
            "INSERT OR REPLACE INTO plans (seq, plan) \
             SELECT seq, seal('plan', id, ?2) FROM transactions WHERE id = ?1",
        )?
        .execute(params![mark.id, to_json(&**plan)?])?;
    }
    mark.audit.iter().try_for_each(|event| append(c, event))
}

/// The system of the first identifier that is somebody else's, if there is one.
fn conflict(c: &Connection, facts: &Facts) -> rusqlite::Result<Option<String>> {
    for (identifier, person) in &facts.links {
        if owner(c, identifier)?.is_some_and(|other| other != *person) {
            return Ok(Some(identifier.system.clone()));
        }
    }
    Ok(None)
}

fn owner(c: &Connection, identifier: &Identifier) -> rusqlite::Result<Option<String>> {
    c.prepare_cached("SELECT unname(person) FROM identifiers WHERE system = ?1 AND value = name(?2)")?
        .query_row([&identifier.system, &identifier.value], |row| row.get(0))
        .optional()
}

fn write_facts(c: &Connection, facts: &Facts) -> rusqlite::Result<()> {
    for (identifier, person) in &facts.links {
        c.prepare_cached(
            "INSERT OR IGNORE INTO identifiers (system, value, person) VALUES (?1, name(?2), name(?3))",
        )?
        .execute([&identifier.system, &identifier.value, person])?;
    }
    for follow_up in &facts.follow_ups {
        follow_ups::write(c, follow_up)?;
    }
    for (key, resource) in &facts.directory {
        c.prepare_cached(
            "INSERT OR REPLACE INTO directory (key, resource) VALUES (name(?1), seal('resource', ?1, ?2))",
        )?
        .execute(params![key, to_json(resource)?])?;
    }
    Ok(())
}

/// The newest delivered message with the same key that came after this one.
fn newer_of(c: &Connection, id: &str) -> rusqlite::Result<Option<String>> {
    c.prepare_cached(
        "SELECT n.id FROM transactions o JOIN transactions n ON n.key = o.key \
         AND (n.seq > o.seq OR n.revision > o.revision) WHERE o.id = ?1 AND n.status = 'delivered' ORDER BY n.seq DESC LIMIT 1",
    )?
    .query_row([id], |row| row.get(0))
    .optional()
}

fn is_forgotten(c: &Connection, id: &str) -> rusqlite::Result<bool> {
    let sql =
        "SELECT NOT EXISTS (SELECT 1 FROM bodies b WHERE b.seq = t.seq) FROM transactions t WHERE id = ?1";
    c.query_row(sql, [id], |row| row.get(0))
}

fn change(c: &Connection, id: &str, action: Action, at: Millis) -> rusqlite::Result<Result<Head, String>> {
    let found = c
        .prepare_cached(&format!("SELECT {HEAD} FROM transactions WHERE id = ?1"))?
        .query_row([id], rows::head)
        .optional()?;
    let Some(head) = found else { return Ok(Err("there is no such transaction".into())) };
    if action != Action::Cancel
        && let Some(newer) = newer_of(c, id)?
    {
        return Ok(Err(format!(
            "a newer version of the same was delivered after it ({newer}): this one would take that back; \
             cancel it instead"
        )));
    }
    match (action, head.status) {
        (Action::Rerun | Action::RerunAsPlanned, _) if is_forgotten(c, id)? => {
            return Ok(Err(
                "what it said was removed after journal.keep_bodies_days; it has to be sent again".into(),
            ));
        }
        (Action::Rerun | Action::RerunAsPlanned, Status::Open) => {
            c.execute("UPDATE transactions SET not_before = 0 WHERE id = ?1", [id])?;
        }
        (Action::Rerun | Action::RerunAsPlanned, Status::Delivered) => {
            return Ok(Err("it is delivered already; nothing is left to do".into()));
        }
        // The plan is made anew, so that a mended mapping or configuration takes effect; what is
        // done of it is found again at the destinations.
        (Action::Rerun, _) => {
            c.execute(
                "UPDATE transactions SET status = 'open', reruns = reruns + 1, not_before = 0, error = NULL, \
                 cause = NULL, progress = NULL, answer = NULL, finished = NULL WHERE id = ?1",
                [id],
            )?;
            c.execute("DELETE FROM plans WHERE seq = ?1", [head.seq])?;
        }
        (Action::RerunAsPlanned, _) => {
            let sql = "SELECT unseal('progress', id, progress) FROM transactions JOIN plans USING (seq) WHERE id = ?1";
            let progress: Option<Option<String>> = c.query_row(sql, [id], |row| row.get(0)).optional()?;
            let Some(progress) = progress else {
                return Ok(Err(
                    "it failed before anything was planned: only a rerun by the mappings of now can help"
                        .into(),
                ));
            };
            let mut steps: Vec<Progress> =
                progress.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
            for step in steps.iter_mut().filter(|step| step.status != StepStatus::Done) {
                (step.status, step.not_before, step.error) = (StepStatus::Open, 0, None);
            }
            c.execute(
                "UPDATE transactions SET status = 'open', not_before = 0, error = NULL, \
                 cause = NULL, progress = seal('progress', id, ?2), answer = NULL, finished = NULL WHERE id = ?1",
                params![id, to_json(&steps)?],
            )?;
        }
        (Action::Cancel, Status::Open | Status::Failed) => {
            c.execute(
                "UPDATE transactions SET status = 'cancelled', finished = ?2 WHERE id = ?1",
                params![id, at],
            )?;
        }
        (Action::Cancel, status) => {
            return Ok(Err(format!(
                "it is {} already; only an open or failed one can be cancelled",
                status.as_str()
            )));
        }
    }
    // OpenHIM is told what becomes of it this time.
    c.execute("UPDATE via SET state = 'later' WHERE id = ?1", [id])?;
    let head = c.query_row(&format!("SELECT {HEAD} FROM transactions WHERE id = ?1"), [id], rows::head)?;
    Ok(Ok(head))
}

#[async_trait]
impl Journal for Embedded {
    fn trouble(&self) -> Option<String> {
        self.hand.trouble()
    }

    async fn accept(&self, messages: Vec<NewTransaction>) -> Result<Vec<Accepted>, JournalError> {
        let (max_open, tell) = (self.max_open, self.tell.clone());
        let work = move |c: &Connection| {
            let open: u64 = c
                .prepare_cached("SELECT n FROM counts WHERE status = 'open'")?
                .query_row([], |row| row.get(0))
                .optional()?
                .unwrap_or(0);
            if open >= max_open {
                return Ok(Err(JournalError::Full(open)));
            }
            let accept = |new| {
                let accepted = accept_one(c, new)?;
                audit::accepted(new, &accepted).map_or(Ok(()), |event| append(c, &event))?;
                Ok(accepted)
            };
            messages.iter().map(accept).collect::<rusqlite::Result<Vec<_>>>().map(Ok)
        };
        let tell = move |accepted: &Vec<Accepted>| {
            if let Some(tell) = tell.get() {
                tell(accepted);
            }
        };
        self.write_and_tell(work, tell).await
    }

    fn on_accepted(&self, tell: Tell) {
        let _ = self.tell.set(tell);
    }

    async fn commit(&self, mark: Mark, facts: Facts) -> Result<(), JournalError> {
        let id = mark.id.clone();
        let written = self.write(move |c| {
            if let Some(system) = conflict(c, &facts)? {
                return Ok(Err(JournalError::Conflict(system)));
            }
            write_facts(c, &facts)?;
            write_mark(c, &mark)?;
            Ok(Ok(()))
        });
        let written = written.await;
        if written.is_ok() {
            // Marks before it were written before it.
            lock(&self.pending).remove(&id);
        }
        written
    }

    fn mark(&self, mut mark: Mark) {
        let (pending, id, number) = (self.pending.clone(), mark.id.clone(), self.marks.fetch_add(1, Relaxed));
        let mark = {
            let mut pending = lock(&pending);
            // Only the newest is read and kept: it says all that those before it say.
            if let Some((_, earlier)) = pending.get(&id) {
                mark.plan = mark.plan.or_else(|| earlier.plan.clone());
            }
            let mark = Arc::new(mark);
            pending.insert(id.clone(), (number, mark.clone()));
            mark
        };
        // One that has something for the audit trail is written even if a newer one says all else.
        let of = mark.audit.is_empty().then(|| id.clone());
        self.hand.submit_always(Write {
            work: Box::new(move |c| write_mark(c, &mark)),
            done: Box::new(move |_| {
                let mut pending = lock(&pending);
                if pending.get(&id).is_some_and(|(newest, _)| *newest == number) {
                    pending.remove(&id);
                }
            }),
            waited_for: false,
            of,
        });
    }

    async fn transaction(&self, id: &str) -> Result<Option<Transaction>, JournalError> {
        // Looked at before the row: what is no longer pending then is in the row.
        let pending = lock(&self.pending).get(id).map(|(_, mark)| mark.clone());
        let id = id.to_string();
        let read = self.read(move |c| {
            c.prepare_cached(&format!("SELECT {TRANSACTION} FROM transactions WHERE id = ?1"))?
                .query_row([id], rows::transaction)
                .optional()
        });
        let found = read.await?;
        Ok(found.map(|transaction| match pending {
            Some(mark) => marked(transaction, &mark),
            None => transaction,
        }))
    }

    async fn take_up(&self) -> Result<Vec<Head>, JournalError> {
        let due = "UPDATE transactions SET not_before = 0 WHERE status = 'open' AND not_before > 0";
        self.write(move |c| c.execute(due, []).map(Ok)).await?;
        self.open().await
    }

    async fn open(&self) -> Result<Vec<Head>, JournalError> {
        self.scan(|c| {
            c.prepare(&format!("SELECT {HEAD} FROM transactions WHERE status = 'open' ORDER BY seq"))?
                .query_map([], rows::head)?
                .collect()
        })
        .await
    }

    async fn list(&self, filter: Filter) -> Result<Vec<Row>, JournalError> {
        self.scan(move |c| {
            let open = format!("SELECT {HEAD} FROM transactions WHERE status = 'open' ORDER BY seq");
            let mut open = c.prepare(&open)?;
            let open = open.query_map([], rows::head)?.collect::<rusqlite::Result<Vec<_>>>()?;
            let lanes = rows::Lanes::of(open.into_iter());
            c.prepare(&format!(
                "SELECT {LIST} FROM (SELECT * FROM transactions \
                 WHERE (?1 IS NULL OR status = ?1) AND (?2 IS NULL OR route = ?2) \
                 ORDER BY seq DESC LIMIT ?3) t ORDER BY seq"
            ))?
            .query_map(
                params![filter.status.map(Status::as_str), filter.route, filter.limit.map_or(-1, i64::from)],
                |row| rows::list(row, &lanes),
            )?
            .collect()
        })
        .await
    }

    async fn counts(&self) -> Result<BTreeMap<String, u64>, JournalError> {
        self.read(|c| {
            c.prepare_cached("SELECT status, n FROM counts")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })
        .await
    }

    async fn person(&self, identifier: &Identifier) -> Result<Option<String>, JournalError> {
        let identifier = identifier.clone();
        self.read(move |c| owner(c, &identifier)).await
    }

    async fn people_with(&self, value: &str) -> Result<Vec<String>, JournalError> {
        let value = value.to_string();
        self.read(move |c| {
            c.prepare_cached(
                "SELECT DISTINCT unname(person) FROM identifiers WHERE value = name(?1) \
                 AND system NOT IN (?2, ?3, ?4) ORDER BY 1",
            )?
            .query_map([&value, system::CHT_UUID, system::CHT_SHORTCODE, system::IN_CHT], |row| row.get(0))?
            .collect()
        })
        .await
    }

    async fn first_received(&self, id: &str) -> Result<Option<Millis>, JournalError> {
        let id = id.to_string();
        self.read(move |c| {
            c.prepare_cached(
                "SELECT MIN(received) FROM transactions WHERE key = (SELECT key FROM transactions WHERE id = ?1)",
            )?
            .query_row([id], |row| row.get(0))
        })
        .await
    }

    async fn identifiers(&self, person: &str) -> Result<Vec<Identifier>, JournalError> {
        let person = person.to_string();
        self.read(move |c| {
            c.prepare_cached(
                "SELECT system, unname(value) FROM identifiers WHERE person = name(?1) ORDER BY 1, 2",
            )?
            .query_map([person], |row| Ok(Identifier { system: row.get(0)?, value: row.get(1)? }))?
            .collect()
        })
        .await
    }

    async fn directory(&self, key: &str) -> Result<Option<serde_json::Value>, JournalError> {
        let key = key.to_string();
        self.read(move |c| {
            c.prepare_cached("SELECT unseal('resource', ?1, resource) FROM directory WHERE key = name(?1)")?
                .query_row([key], |row| rows::json(row, 0))
                .optional()
        })
        .await
    }

    fn tell_later(&self, openhim: &str) {
        self.note_via("later", openhim);
    }

    fn told(&self, openhim: &str) {
        self.note_via("told", openhim);
    }

    async fn untold(&self, before: Millis, limit: u32) -> Result<Vec<(String, String)>, JournalError> {
        self.scan(move |c| {
            c.prepare_cached(
                "SELECT v.openhim, v.id FROM via v JOIN transactions t ON t.id = v.id \
                 WHERE v.state <> 'told' AND t.status <> 'open' AND (v.state = 'later' OR v.since < ?1) \
                 ORDER BY v.since LIMIT ?2",
            )?
            .query_map(params![before, limit], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect()
        })
        .await
    }

    async fn client_via(&self, openhim: &str) -> Result<Option<String>, JournalError> {
        let openhim = openhim.to_string();
        self.read(move |c| {
            c.prepare_cached(
                "SELECT t.client FROM via v JOIN transactions t ON t.id = v.id WHERE v.openhim = ?1 LIMIT 1",
            )?
            .query_row([openhim], |row| row.get(0))
            .optional()
        })
        .await
    }

    async fn watermark(&self, name: &str) -> Result<Option<String>, JournalError> {
        let name = name.to_string();
        self.read(move |c| {
            c.query_row("SELECT value FROM watermarks WHERE name = ?1", [name], |row| row.get(0)).optional()
        })
        .await
    }

    async fn set_watermark(&self, name: &str, value: &str) -> Result<(), JournalError> {
        let (name, value) = (name.to_string(), value.to_string());
        self.write(move |c| {
            c.execute("INSERT OR REPLACE INTO watermarks (name, value) VALUES (?1, ?2)", [&name, &value])?;
            Ok(Ok(()))
        })
        .await
    }

    async fn request(&self, action: Action, transaction: &str, by: &str) -> Result<i64, JournalError> {
        let (transaction, by) = (transaction.to_string(), by.to_string());
        self.write(move |c| {
            c.execute(
                "INSERT INTO commands (action, transaction_id, asked_by) VALUES (?1, ?2, ?3)",
                [action.as_str(), &transaction, &by],
            )?;
            Ok(Ok(c.last_insert_rowid()))
        })
        .await
    }

    async fn commands(&self) -> Result<Vec<Command>, JournalError> {
        self.read(|c| {
            c.prepare_cached(
                "SELECT number, action, transaction_id, asked_by FROM commands WHERE outcome IS NULL ORDER BY number",
            )?
            .query_map([], |row| {
                let action = Action::parse(&row.get::<_, String>(1)?).unwrap_or(Action::Rerun);
                Ok(Command { number: row.get(0)?, action, transaction: row.get(2)?, by: row.get(3)? })
            })?
            .collect()
        })
        .await
    }

    async fn command_done(&self, number: i64, outcome: &str) -> Result<(), JournalError> {
        let outcome = outcome.to_string();
        self.write(move |c| {
            c.execute("UPDATE commands SET outcome = ?2 WHERE number = ?1", params![number, outcome])?;
            Ok(Ok(()))
        })
        .await
    }

    async fn command_outcome(&self, number: i64) -> Result<Option<String>, JournalError> {
        self.read(move |c| {
            c.query_row("SELECT outcome FROM commands WHERE number = ?1", [number], |row| row.get(0))
                .optional()
                .map(Option::flatten)
        })
        .await
    }

    async fn change(
        &self,
        id: &str,
        action: Action,
        audit: Event,
    ) -> Result<Result<Head, String>, JournalError> {
        let own = id.to_string();
        let work = move |c: &Connection| {
            let changed = change(c, &own, action, audit.at)?;
            if changed.is_ok() {
                append(c, &audit)?;
            }
            Ok(Ok(changed))
        };
        let changed = self.write(work).await;
        lock(&self.pending).remove(id);
        changed
    }

    async fn retain(&self, before: Millis, now: Millis) -> Result<u64, JournalError> {
        self.write(move |c| retain::remove(c, before, now).map(Ok)).await
    }

    async fn forget(&self, before: Millis, now: Millis) -> Result<u64, JournalError> {
        self.write(move |c| retain::forget(c, before, now).map(Ok)).await
    }
}
