//! What a translated and identified message makes the mediator do, and how far that is.
use super::fhir::Entry;
use super::follow_up::{Kind, State};
use super::identifier::Identifier;
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
    /// `PUT {address}/{Type}/{id}`, as HAPI's rest-hook Subscriptions do.
    Callback { address: String, full_url: String, resource: Value },
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
    /// Index of the message's part that asked for it.
    pub part: usize,
}

/// A request that begins or moves on when the plan is made.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct FollowUp {
    pub kind: Kind,
    pub identifier: Identifier,
    /// The person's id in the crosswalk.
    pub person: String,
    pub state: State,
    /// The ServiceRequest or Task, with its newest known status.
    pub resource: Value,
    /// Form of the CHT record that asks the CHW; empty for a referral.
    #[serde(default)]
    pub form: String,
    /// CHT uuid of that record, once it is there.
    #[serde(default)]
    pub record: Option<String>,
    /// Where the requester wants the outcome sent.
    #[serde(default)]
    pub callback: Option<String>,
    /// Who asked; nobody else may read it.
    #[serde(default)]
    pub client: String,
    /// The destination on which `resource.id` is the id, if it came from there.
    #[serde(default)]
    pub home: Option<String>,
    /// States and details that CHT has been told of.
    #[serde(default)]
    pub told: Vec<String>,
    /// The transaction that asks CHT for a CHW. Several names of one request share it.
    #[serde(default)]
    pub asked_by: Option<String>,
    /// The date of the record that first asked, in milliseconds since 1970.
    #[serde(default)]
    pub asked_at: i64,
}

impl FollowUp {
    /// CHT knows this now.
    pub fn has_been_told(&mut self, news: &News) {
        if !self.told.contains(&news.said) {
            self.told.push(news.said.clone());
            self.state = news.state;
        }
    }

    /// The request with the status that it has by now.
    pub fn shown(&self) -> Value {
        let mut resource = self.resource.clone();
        let status = match resource["resourceType"].as_str() {
            Some("Task") => self.state.task_status(),
            _ => self.state.request_status(),
        };
        resource["status"] = status.into();
        resource
    }
}

/// What one part of a message was answered with; one part a Bundle entry.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct PartNote {
    pub entry: Option<usize>,
    /// `resources`, `outcome`, `follow_up_request`, `referral_update`, `ignored`.
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
