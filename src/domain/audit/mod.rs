//! The audit trail: who did what, to what, and when. A patient is named by identifiers only, never by a
//! name, a phone or a birth date; what a message says is not in it.
pub mod chain;
mod fhir;

pub use fhir::{audit_event, chain_of};

use super::identifier::{Identifier, system};
use super::plan::Status;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// As it is kept and hashed. A released field is never renamed: trails outlive releases.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Counts from 1, without gaps.
    pub seq: u64,
    /// The machine whose mediator wrote it.
    pub node: String,
    pub event: Event,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Event {
    /// Milliseconds since 1970.
    pub at: i64,
    pub by: Agent,
    pub act: Act,
    /// The transaction that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<String>,
    /// The people that it is about, as the message named them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patients: Vec<Identifier>,
}

/// Who did it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Agent {
    pub kind: Kind,
    /// A client's id, an OS user; empty for a stranger who named none of our clients.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The IP address that it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Client,
    /// Somebody who has not shown who they are. The name is only what they claim.
    Stranger,
    /// At the command line.
    User,
    /// OpenHIM's console.
    #[serde(rename = "openhim")]
    OpenHim,
    /// Ourselves.
    Mediator,
}

impl Agent {
    pub fn new(kind: Kind, name: &str, from: Option<String>) -> Self {
        Self { kind, name: name.into(), from }
    }

    pub fn mediator() -> Self {
        Self::new(Kind::Mediator, "", None)
    }
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Took a message in.
    Accepted {
        route: String,
        /// OpenHIM's transaction that brought it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        via: Option<String>,
        /// It was known already: nothing new began.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        repeat: bool,
    },
    /// Was sent away. `request` is the route, without what a caller wrote into it.
    Refused {
        request: String,
        status: u16,
        code: String,
    },
    /// So many refusals since then that they were only counted.
    Counted {
        refusals: u64,
        since: i64,
    },
    /// Was shown this: `ServiceRequest/SR-1`, `transaction`.
    Read {
        what: String,
    },
    /// Was shown what a search finds.
    Searched {
        path: String,
        query: String,
    },
    /// Reran or cancelled a transaction.
    Changed {
        action: String,
    },
    /// Put these mappings in force.
    Reloaded {
        mappings: Vec<String>,
    },
    /// Changed settings while we run.
    Configured {
        settings: BTreeMap<String, String>,
    },
    /// Was told what a message says: a destination, by us.
    Delivered {
        to: String,
        outcome: Outcome,
        /// Calls so far. Failed ones between the first and the last have no record of their own.
        attempts: u32,
        /// The state in which the transaction ended by it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ends: Option<Status>,
    },
    /// The transaction ended without a delivery.
    Ended {
        status: Status,
    },
    Started {
        version: String,
        listens: String,
        /// The destinations' addresses, by name.
        reaches: BTreeMap<String, String>,
    },
    Stopped,
    /// Removed so many transactions with their bodies, which ended before that time.
    Removed {
        transactions: u64,
        before: i64,
        /// Only what they said: that they came stays.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        only_bodies: bool,
    },
    /// Records up to this number were removed for their age; the last of them had this hash.
    Cut {
        through: u64,
        hash: String,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Done,
    /// It failed, or nobody knows; it is tried again.
    Tried,
    Failed,
}

impl Event {
    /// <https://hl7.org/fhir/R4/valueset-audit-event-action.html>
    pub fn action(&self) -> &'static str {
        match &self.act {
            Act::Accepted { .. } => "C",
            Act::Read { .. } | Act::Delivered { .. } => "R",
            Act::Reloaded { .. } | Act::Configured { .. } => "U",
            Act::Cut { .. } | Act::Removed { .. } => "D",
            Act::Refused { request, .. } => match request.split(' ').next() {
                Some("POST") => "C",
                Some("GET") => "R",
                Some("PUT") => "U",
                _ => "E",
            },
            _ => "E",
        }
    }

    /// <https://hl7.org/fhir/R4/valueset-audit-event-outcome.html>: 0 success, 4 minor, 8 serious failure.
    pub fn outcome(&self) -> &'static str {
        match &self.act {
            Act::Refused { .. } | Act::Delivered { outcome: Outcome::Tried, .. } => "4",
            Act::Counted { .. }
            | Act::Delivered { outcome: Outcome::Failed, .. }
            | Act::Ended { status: Status::Failed } => "8",
            _ => "0",
        }
    }

    /// Whether it is about this transaction, or about a person who goes by this.
    pub fn is_about(&self, name: &str) -> bool {
        self.transaction.as_deref() == Some(name)
            || matches!(&self.act, Act::Accepted { via: Some(via), .. } if via == name)
            || self.patients.iter().any(|patient| patient.value == name || patient.token() == name)
    }

    pub fn is_by(&self, name: &str) -> bool {
        self.by.name == name
    }
}

/// Whether a text of a caller's may be kept: one with a space in it, or not in ASCII, may be a person's name.
pub fn is_fit(text: &str) -> bool {
    text.len() <= 200 && text.chars().all(|c| c.is_ascii_graphic())
}

impl Identifier {
    /// A client's name for a person, if it is fit to be kept: free text may be their name.
    pub fn for_trail(self) -> Option<Self> {
        let fit = is_fit(&self.system) && is_fit(&self.value) && !self.value.is_empty();
        fit.then(|| Self {
            // What deployed configurations write for a CHT uuid.
            system: if self.system == system::PEER_CHT { system::CHT_UUID.into() } else { self.system },
            value: self.value,
        })
    }
}
