//! Requests and referrals, as the corridor keeps them and the door shows them.
use super::ports::{Answer, JournalError, Millis};
use crate::domain::follow_up::{Criteria, FollowUp, Kind, Span, View};
use crate::domain::identifier::Identifier;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Where a page ends: when its last request changed, and its number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Cursor(pub Millis, pub i64);

/// A FHIR R4 Subscription of a client (<https://hl7.org/fhir/R4/subscription.html>), of the type rest-hook.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Subscription {
    pub id: String,
    pub client: String,
    /// `ServiceRequest`, `Task`, or `Encounter`: of what came of requests.
    pub resource_type: String,
    pub criteria: Criteria,
    pub endpoint: String,
    /// Whether the resource is sent (PUT), or only word that something is new (POST).
    pub with_payload: bool,
    /// Lines of the header, such as `Authorization: Bearer ...`.
    pub headers: Vec<String>,
    /// As it was sent, with our id, and without the headers.
    pub resource: Value,
}

/// What was sent as one: <https://hl7.org/fhir/R4/async.html> has the answers.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct List {
    pub id: String,
    pub client: String,
    /// Milliseconds since 1970.
    pub at: Millis,
    /// In the order in which they were sent.
    pub items: Vec<Item>,
}

/// What became of an item at the door.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    /// The transaction that it is.
    Transaction(String),
    /// With this status and OperationOutcome.
    Refused(u16, Value),
}

impl Item {
    pub fn transaction(&self) -> Option<&str> {
        match self {
            Self::Transaction(id) => Some(id),
            Self::Refused(..) => None,
        }
    }
}

/// The requests of a time, by OpenHIE's indicators.
#[derive(Clone, PartialEq, Debug)]
pub struct Tally {
    /// As configured; others are one.
    pub program: Option<String>,
    /// The facility that asked, or of a referral the one that was asked.
    pub place: Option<String>,
    pub created: u64,
    pub claimed: u64,
    pub completed: u64,
    pub outcomes: BTreeMap<String, u64>,
}

#[async_trait]
pub trait FollowUps: Send + Sync + 'static {
    async fn follow_up(&self, kind: Kind, identifier: &Identifier) -> Result<Option<FollowUp>, JournalError>;
    /// Requests about a person, oldest first.
    async fn follow_ups_of(&self, person: &str) -> Result<Vec<FollowUp>, JournalError>;
    /// A request by its identifier's value, by its id in our answers, or by its record's uuid.
    async fn follow_ups_named(&self, name: &str) -> Result<Vec<FollowUp>, JournalError>;
    /// What somebody may see and asks for, the least lately changed first, after a cursor.
    async fn find_follow_ups(
        &self,
        view: View,
        criteria: Criteria,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<(Cursor, FollowUp)>, JournalError>;
    /// Open ones whose day has come.
    async fn lapsed(&self, now: Millis, limit: usize) -> Result<Vec<FollowUp>, JournalError>;
    /// `None`: of everybody.
    async fn tally(&self, view: Option<View>, span: Span) -> Result<Vec<Tally>, JournalError>;

    /// Keeps what a list is made of, durably.
    async fn keep_list(&self, list: List) -> Result<(), JournalError>;
    async fn list_of(&self, id: &str) -> Result<Option<List>, JournalError>;
    /// Of transactions that are there, the answers; `None` of those that are open.
    async fn answers(&self, ids: Vec<String>) -> Result<BTreeMap<String, Option<Answer>>, JournalError>;

    /// Keeps a Subscription, durably; one with the same id is replaced.
    async fn subscribe(&self, subscription: Subscription) -> Result<(), JournalError>;
    /// Answers whether it was there.
    async fn unsubscribe(&self, id: &str) -> Result<bool, JournalError>;
    async fn subscription(&self, id: &str) -> Result<Option<Subscription>, JournalError>;
    /// Of a client if one is named, of a type of resource if one is named.
    async fn subscriptions(
        &self,
        client: Option<&str>,
        resource_type: Option<&str>,
    ) -> Result<Vec<Subscription>, JournalError>;
}
