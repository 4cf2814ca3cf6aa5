//! What the corridor needs from the world. The rooms of `journal` and `systems` provide it;
//! `house` puts them together.
use super::audit::{Audit, patients};
use super::follow_ups::{FollowUps, Subscription};
use crate::domain::audit::Event;
use crate::domain::fhir::Entry;
use crate::domain::follow_up::FollowUp;
use crate::domain::identifier::Identifier;
use crate::domain::message::Route;
use crate::domain::orchestration::Orchestration;
use crate::domain::person::Change;
use crate::domain::plan::{Plan, Progress, Status};
use crate::domain::record::Record;
use async_trait::async_trait;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Milliseconds since 1970.
pub type Millis = i64;

/// The time, as an argument.
pub trait Clock: Send + Sync + 'static {
    /// The time of day: for what is written down and told to others. Somebody may set it.
    fn now(&self) -> Millis;
    /// For all waiting: goes on evenly from `now` at the start, whatever is done to the time of day.
    fn steady(&self) -> Millis;
}

/// What is left to chance, as an argument.
pub trait Chance: Send + Sync + 'static {
    /// An id that nothing else has.
    fn id(&self) -> uuid::Uuid;
    /// From 0 up to 1.
    fn fraction(&self) -> f64;
}

/// A message to be journaled.
#[derive(Clone)]
pub struct NewTransaction {
    pub id: String,
    pub route: Route,
    pub client: String,
    /// The destination whose ids the client's resources have.
    pub home: Option<String>,
    /// Business identity: what is the same message when it comes again.
    pub key: String,
    /// Digest of the content: a repeat has the key and the digest of the newest of its key.
    pub digest: String,
    /// Patients and requests the message is about: order is kept within each.
    pub subjects: Vec<String>,
    pub received: Millis,
    /// A body with the same key but another digest is a mistake of the caller (`Idempotency-Key`).
    pub strict: bool,
    pub body: Vec<u8>,
    /// OpenHIM's id of the transaction that brought it.
    pub via: Option<String>,
    /// OpenHIM's id of the transaction that it says it sends again.
    pub again: Option<String>,
    pub revision: Option<i64>,
    /// The IP address that it came from, for the audit trail.
    pub from: Option<String>,
    /// The people that it is about, as the audit trail names them.
    pub patients: Vec<Identifier>,
}

/// Answer to journaling a message.
#[cfg_attr(test, derive(Debug))]
#[derive(Clone, PartialEq, Eq)]
pub enum Accepted {
    New(Head),
    /// The same message is known already, in flight or done.
    Repeat(Head),
    /// The `Idempotency-Key` was used for another body.
    KeyReused(Head),
}

impl Accepted {
    pub fn head(&self) -> &Head {
        match self {
            Self::New(head) | Self::Repeat(head) | Self::KeyReused(head) => head,
        }
    }
}

/// What scheduling needs to know of a transaction.
#[cfg_attr(test, derive(Debug))]
#[derive(Clone, PartialEq, Eq)]
pub struct Head {
    /// Order of arrival.
    pub seq: i64,
    pub id: String,
    pub subjects: Vec<String>,
    pub status: Status,
    pub not_before: Millis,
}

/// A journaled message, read back. Only the journal makes one: whoever holds it knows that it is safe.
#[derive(Clone)]
pub struct Transaction {
    pub head: Head,
    pub route: Route,
    pub client: String,
    pub home: Option<String>,
    pub received: Millis,
    pub body: Vec<u8>,
    /// Times that an operator asked for it again.
    pub reruns: u32,
    pub attempts: u32,
    pub mapping: Option<String>,
    pub error: Option<String>,
    /// The error in our words only, which name nobody: what is told of it where the rest is sealed.
    pub cause: Option<String>,
    pub plan: Option<Arc<Plan>>,
    pub progress: Vec<Progress>,
    pub answer: Option<Answer>,
    pub finished: Option<Millis>,
    /// It came through OpenHIM, which is told what was said to whom.
    pub through_openhim: bool,
    /// The last calls that were made for it, if it did.
    pub orchestrations: Vec<Orchestration>,
}

impl Transaction {
    /// The people that it is about, as the audit trail names them.
    pub fn patients(&self) -> Vec<Identifier> {
        let body = serde_json::from_slice(&self.body).unwrap_or_default();
        patients(&self.route, &self.client, self.home.as_deref(), &body)
    }
}

/// What a caller is told.
#[derive(Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
    pub location: Option<String>,
}

/// The change of a transaction's state.
#[derive(Clone)]
pub struct Mark {
    pub id: String,
    pub status: Status,
    pub attempts: u32,
    pub not_before: Millis,
    pub error: Option<String>,
    /// The error in our words only.
    pub cause: Option<String>,
    pub mapping: Option<String>,
    /// Nothing: it has the plan that it had.
    pub plan: Option<Arc<Plan>>,
    pub progress: Vec<Progress>,
    pub answer: Option<Answer>,
    pub orchestrations: Vec<Orchestration>,
    pub at: Millis,
    /// What the audit trail is told together with it.
    pub audit: Vec<Event>,
}

/// What a plan needs to be true before it is carried out, and what its steps changed.
#[derive(Clone, Default)]
pub struct Facts {
    /// Identifiers and the person whose they are.
    pub links: Vec<(Identifier, String)>,
    pub follow_ups: Vec<FollowUp>,
    /// Organizations and Endpoints, by every identifier and `Type/id` they go by.
    pub directory: Vec<(String, Value)>,
}

impl Facts {
    pub fn is_empty(&self) -> bool {
        self.links.is_empty() && self.follow_ups.is_empty() && self.directory.is_empty()
    }
}

/// What an operator asks for through the command line while the mediator runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    pub number: i64,
    pub action: Action,
    pub transaction: String,
    /// The OS user who asks.
    pub by: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Translated anew, by the mappings of now.
    Rerun,
    /// What the mapping of then made is delivered; nothing is translated.
    RerunAsPlanned,
    Cancel,
}

impl Action {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rerun => "rerun",
            Self::RerunAsPlanned => "rerun-as-planned",
            Self::Cancel => "cancel",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Rerun, Self::RerunAsPlanned, Self::Cancel].into_iter().find(|action| action.as_str() == text)
    }
}

/// A line of `transactions list`.
#[derive(Clone, serde::Serialize)]
pub struct Row {
    pub id: String,
    pub route: String,
    /// RFC 3339.
    pub received: String,
    pub status: String,
    pub attempts: u32,
    pub error: Option<String>,
    pub client: String,
    pub mapping: Option<String>,
    /// The transaction that it waits behind, being about the same patient or request.
    pub waits_for: Option<String>,
    /// RFC 3339; when it is tried next.
    pub next_attempt: Option<String>,
}

#[derive(Clone, Default)]
pub struct Filter {
    pub status: Option<Status>,
    pub route: Option<String>,
    pub limit: Option<u32>,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    #[error("the journal is full: {0} transactions are open")]
    Full(u64),
    #[error("the journal cannot be written: {0}")]
    Unwritable(String),
    #[error("the journal cannot be read: {0}")]
    Unreadable(String),
    /// One identifier, two people. Carries the identifier's system only.
    #[error("an identifier of {0} belongs to two people")]
    Conflict(String),
}

/// The watermark of a journal that was put back from a backup: the milliseconds since 1970 from which on
/// messages may have taken effect that it does not know.
pub const LOST_SINCE: &str = "lost since";

/// Called with what has been accepted.
pub type Tell = Arc<dyn Fn(&[Accepted]) + Send + Sync>;

/// The durable store. `journal::contract` is the suite that every implementation passes.
#[async_trait]
pub trait Journal: Audit + FollowUps {
    /// Whom to tell of each accepted message, once it is safe, in the order of their numbers and before
    /// its sender is: what is on disk is carried out even if nobody waits for the answer any more.
    fn on_accepted(&self, tell: Tell);
    /// Stores messages; answers when they are safe on disk.
    async fn accept(&self, messages: Vec<NewTransaction>) -> Result<Vec<Accepted>, JournalError>;
    /// Stores a state together with the facts that go with it; answers when they are safe.
    /// Refuses all of it if an identifier is somebody else's.
    async fn commit(&self, mark: Mark, facts: Facts) -> Result<(), JournalError>;
    /// Notes a state, with the next write: a mark that a crash loses is an act repeated, and acts
    /// are repeatable. [`Journal::transaction`] reads it at once, lists a moment later.
    fn mark(&self, mark: Mark);
    async fn transaction(&self, id: &str) -> Result<Option<Transaction>, JournalError>;
    /// Why nothing can be stored at present, if so.
    fn trouble(&self) -> Option<String>;
    /// What was open when we last stopped, in order of arrival. All of it is due: what was waited for may
    /// have been mended.
    async fn take_up(&self) -> Result<Vec<Head>, JournalError>;
    /// Every open transaction, in order of arrival.
    async fn open(&self) -> Result<Vec<Head>, JournalError>;
    async fn list(&self, filter: Filter) -> Result<Vec<Row>, JournalError>;
    async fn counts(&self) -> Result<BTreeMap<String, u64>, JournalError>;

    async fn person(&self, identifier: &Identifier) -> Result<Option<String>, JournalError>;
    /// Everybody who has an identifier of this value, of whatever system but CHT's own.
    async fn people_with(&self, value: &str) -> Result<Vec<String>, JournalError>;
    /// When the first message with the key of this transaction came.
    async fn first_received(&self, id: &str) -> Result<Option<Millis>, JournalError>;
    async fn identifiers(&self, person: &str) -> Result<Vec<Identifier>, JournalError>;
    async fn directory(&self, key: &str) -> Result<Option<Value>, JournalError>;

    async fn watermark(&self, name: &str) -> Result<Option<String>, JournalError>;
    async fn set_watermark(&self, name: &str, value: &str) -> Result<(), JournalError>;

    /// OpenHIM's transaction is to be told later what became of ours. With the next write.
    fn tell_later(&self, openhim: &str);
    /// It has been told. With the next write: telling it twice changes nothing.
    fn told(&self, openhim: &str);
    /// OpenHIM's and our ids of finished transactions of which it has not been told: those that are to be
    /// told later, and those whose callers have waited since before `before`.
    async fn untold(&self, before: Millis, limit: u32) -> Result<Vec<(String, String)>, JournalError>;
    /// Who sent what OpenHIM's transaction brought.
    async fn client_via(&self, openhim: &str) -> Result<Option<String>, JournalError>;

    /// Leaves a command for the mediator that runs on this journal.
    async fn request(&self, action: Action, transaction: &str, by: &str) -> Result<i64, JournalError>;
    async fn commands(&self) -> Result<Vec<Command>, JournalError>;
    async fn command_done(&self, number: i64, outcome: &str) -> Result<(), JournalError>;
    async fn command_outcome(&self, number: i64) -> Result<Option<String>, JournalError>;
    /// Opens a transaction again (rerun) or ends it (cancel), durably, and with its record in the audit trail.
    async fn change(
        &self,
        id: &str,
        action: Action,
        audit: Event,
    ) -> Result<Result<Head, String>, JournalError>;
    /// Removes what is finished and older than `before`, and records that; failed ones stay. Answers how many.
    async fn retain(&self, before: Millis, now: Millis) -> Result<u64, JournalError>;
    /// Removes what such ones said and what was made of it, but not that they came; records that. Answers how
    /// many.
    async fn forget(&self, before: Millis, now: Millis) -> Result<u64, JournalError>;
}

/// Why a call to a destination did not succeed. `message` is for operators: the destination's own
/// words, without what the message said of a patient.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub kind: FailureKind,
    /// In our words: fit for a log, and to be told about other messages.
    pub message: String,
    /// In the destination's own words. They may name a patient: for the transaction itself only.
    pub words: String,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FailureKind {
    /// Worth repeating; not sooner than asked for.
    Transient(Option<Duration>),
    /// The same, but it may be this message that upsets the destination, and no other: it answered 500.
    Fault(Option<Duration>),
    /// The destination will never take it as it is.
    Permanent,
    /// Our credentials are refused: calling again would lock us out.
    Unauthorised,
}

/// How long a destination that refused our credentials is left alone: CHT locks an address out
/// after ten failed logins in ten seconds (cht.md, auth and limits).
pub const UNAUTHORISED_PAUSE: Duration = Duration::from_secs(600);

impl Failure {
    pub fn transient(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Transient(None), message)
    }
    pub fn permanent(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Permanent, message)
    }
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), words: String::new() }
    }
    pub fn in_words(self, words: impl Into<String>) -> Self {
        Self { words: words.into(), ..self }
    }

    /// All that is known, for the transaction that failed.
    pub fn full(&self) -> String {
        match self.words.is_empty() {
            true => self.message.clone(),
            false => format!("{}: {}", self.message, self.words),
        }
    }

    /// How long at least to wait before the next try; `None`: as the backoff says.
    pub fn wait(&self) -> Option<Duration> {
        match self.kind {
            FailureKind::Transient(asked) | FailureKind::Fault(asked) => asked,
            FailureKind::Unauthorised => Some(UNAUTHORISED_PAUSE),
            FailureKind::Permanent => None,
        }
    }
}

/// `full_url` to `Type/id` as the server has it.
pub type ServerIds = BTreeMap<String, String>;

pub struct Page {
    pub resources: Vec<Value>,
    pub next: Option<String>,
}

#[async_trait]
pub trait FhirServer: Send + Sync + 'static {
    /// Writes the entries; atomically where the server takes transactions.
    async fn write(&self, entries: Vec<Entry>) -> Result<ServerIds, Failure>;
    /// `reference` is `Type/id`.
    async fn read(&self, reference: &str) -> Result<Option<Value>, Failure>;
    /// One page of a search: the first, or the one that the last called `next`.
    async fn page(&self, kind: &str, query: &[(&str, &str)], next: Option<&str>) -> Result<Page, Failure>;
    /// Every match of a search, all pages.
    async fn search(&self, kind: &str, query: &[(&str, &str)]) -> Result<Vec<Value>, Failure>;
}

#[async_trait]
pub trait Cht: Send + Sync + 'static {
    /// Creates the report, or finds the one that an earlier attempt made: its uuid.
    async fn create_record(&self, record: &Record) -> Result<String, Failure>;
    /// Creates the person with the `_id` of the body, or finds that it is there: its uuid.
    async fn create_person(&self, body: &Value) -> Result<String, Failure>;
    /// Changes what is said otherwise of a person. Who is not there any more is left so.
    async fn change_person(&self, change: &Change) -> Result<(), Failure>;
    /// The person with this CHT uuid.
    async fn person(&self, uuid: &str) -> Result<Option<Value>, Failure>;
    /// The people with this short code.
    async fn people_with_shortcode(&self, shortcode: &str) -> Result<Vec<Value>, Failure>;
    /// Documents with all that CHT knows around them: of a contact every place above it, of a report its
    /// patient. Who is not there is left out.
    async fn hydrated(&self, uuids: &[String]) -> Result<Vec<Value>, Failure>;
    /// Contacts who are stored with this phone (E.164), hydrated. Those stored in another shape it does not find.
    async fn contacts_with_phone(&self, phone: &str) -> Result<Vec<Value>, Failure>;
    /// Uuids of people of whose texts one word begins like this; `most` at the most.
    async fn people_with_word(&self, word: &str, most: usize) -> Result<Vec<String>, Failure>;
    /// Uuids of people of whom a field is written exactly so; capitals don't matter.
    async fn people_with(&self, field: &str, written: &str) -> Result<Vec<String>, Failure>;
    /// Uuids of the reports about somebody, by uuid or short code, and when each was written (ms since 1970).
    async fn reports_about(&self, subject: &str) -> Result<Vec<(String, i64)>, Failure>;
}

/// Keeps calls away from destinations that are down or refuse us, and no more at once than they bear.
#[async_trait]
pub trait Guard: Send + Sync + 'static {
    /// Waits for room; the failure to give instead of calling, if the destination is closed.
    async fn enter(&self, destination: &str) -> Result<(), Failure>;
    /// The same for a transaction, which does not wait here: without room it is carried on when there is.
    fn try_enter(&self, destination: &str, seq: i64) -> Result<bool, Failure>;
    /// How the call went; once for each that entered.
    fn leave(&self, destination: &str, failure: Option<&Failure>);
}

/// What a door must know of OpenHIM to answer in its words.
#[async_trait]
pub trait OpenHim: Send + Sync + 'static {
    /// Whether we are registered, in words.
    fn state(&self) -> String;
    /// Whether a transaction of its came by an asynchronous channel: then it waits to be told by us.
    async fn is_asynchronous(&self, transaction: &str) -> bool;
}

#[async_trait]
pub trait Callbacks: Send + Sync + 'static {
    /// Says why an address may not be called, before anything depends on it.
    fn check(&self, address: &str) -> Result<(), String>;
    async fn put(&self, address: &str, kind: &str, id: &str, resource: &Value) -> Result<(), Failure>;
    /// The same as a Subscription asks for it.
    async fn notify(&self, subscription: &Subscription, id: &str, resource: &Value) -> Result<(), Failure>;
}
