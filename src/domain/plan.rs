//! What a translated and identified message makes the mediator do, and how far that is.
use super::fhir::Entry;
use super::follow_up::State;
use super::identifier::Identifier;
use super::person::Change;
use super::record::Record;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// One act towards one destination. Repeating it has no second effect.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Write resources to a FHIR server.
    Fhir { entries: Vec<Entry> },
    /// Create a JSON-form report in CHT.
    ChtRecord {
        record: Record,
        /// The request that it asks a CHW to carry out.
        follow_up: Option<Identifier>,
        /// The news of a referral that it tells.
        #[serde(default)]
        news: Option<News>,
    },
    /// Create a person in CHT.
    ChtPerson {
        /// What `POST /api/v1/people` takes, with the `_id` that makes a repeat the same act.
        body: Value,
        /// Who that is in the crosswalk.
        person: String,
    },
    /// Change a person of CHT who came from elsewhere.
    ChtPersonChange { change: Change },
    /// `PUT {address}/{Type}/{id}`, as HAPI's rest-hook Subscriptions do.
    Callback {
        address: String,
        full_url: String,
        resource: Value,
        /// The Subscription that asks for it: it knows how.
        #[serde(default)]
        subscription: Option<String>,
    },
}

/// What CHT knows of a referral once the record is there.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct News {
    pub referral: Identifier,
    pub state: State,
    /// State and what was written, as they are remembered.
    pub said: String,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Name of a destination: `cht`, `fhir`, one of `[destinations]`, or `callback:HOST`.
    pub destination: String,
    pub act: Act,
    /// Index of the step that must have ended, well or not, before this one.
    pub after: Option<usize>,
    /// Index of the step that must have been done before this one; if it fails, so does this.
    #[serde(default)]
    pub needs: Option<usize>,
    /// Index of the message's part that asked for it.
    pub part: usize,
}

/// What one part of a message was answered with; one part a Bundle entry.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct PartNote {
    pub entry: Option<usize>,
    /// `resources`, `outcome`, `follow_up_request`, `referral_update`, `result`, `ignored`.
    pub kind: String,
    /// The resource to answer with, if the caller sent one.
    pub resource: Option<Value>,
    /// It was only to be made where there is none: nobody knows whether it was.
    #[serde(default)]
    pub create_only: bool,
    /// What it is called among the entries that are sent: its id is the one that the server gives.
    #[serde(default)]
    pub full_url: Option<String>,
    /// In words: what was made of it, or why nothing was.
    pub text: String,
}

#[derive(Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Plan {
    pub parts: Vec<PartNote>,
    pub steps: Vec<Step>,
}

/// How far a step is.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Progress {
    pub status: StepStatus,
    pub attempts: u32,
    /// Milliseconds since 1970 before which it is not tried again.
    pub not_before: i64,
    pub error: Option<String>,
    /// The error in our words only, which name nobody.
    #[serde(default)]
    pub cause: Option<String>,
    /// `full_url` to `Type/id` on the server; for a record, `report` to its uuid.
    pub ids: BTreeMap<String, String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    #[default]
    Open,
    Done,
    Failed,
}

/// Where a transaction is. Every accepted one ends in a state other than `Open`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Open,
    Delivered,
    Failed,
    Ignored,
    Cancelled,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Ignored => "ignored",
            Self::Cancelled => "cancelled",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Open, Self::Delivered, Self::Failed, Self::Ignored, Self::Cancelled]
            .into_iter()
            .find(|s| s.as_str() == text)
    }
}
