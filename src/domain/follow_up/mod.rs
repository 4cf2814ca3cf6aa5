//! A request that somebody else is to do something for a patient, and what came of it: a
//! lost-to-follow-up request of an EMR (done by a CHW), or a CHW's referral (done by a clinic).
mod criteria;
mod life;
mod state;

pub use criteria::{Criteria, Span, View};
pub use life::{Event, FollowUp, Happening, replay};
pub use state::{Kind, State};

use super::fhir::Entry;
use super::identifier::Identifier;
use super::record::RecordDraft;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How a message names its patient.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Subject {
    /// Every identifier of the patient that the message carries.
    pub identifiers: Vec<Identifier>,
    /// A literal reference as it came (`Patient/123`), for a server's own id.
    pub reference: Option<String>,
    /// The element that named the patient, for errors: `ServiceRequest.subject`.
    pub path: String,
}

/// An EMR's request that a CHW follow a patient up.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct FollowUpRequest {
    pub identifier: Identifier,
    pub state: State,
    /// The version that its sender has seen, if it may be changed in that version only (`If-Match`).
    #[serde(default)]
    pub if_match: Option<String>,
    /// It came in a list: whoever is still asked for the same is not asked for again.
    #[serde(default)]
    pub listed: bool,
    pub subject: Subject,
    /// The requester as the request names it: `Organization/x`, or an identifier's value.
    pub requester: Option<String>,
    /// Of a Task: the ServiceRequest that it is about, which may have been sent too.
    #[serde(default)]
    pub focus: Option<Identifier>,
    /// The ServiceRequest or Task, as it came, with `identifier` in it.
    pub resource: Value,
    /// What it is for, in words.
    #[serde(default)]
    pub program: Option<String>,
    /// By when it is to be done, in milliseconds since 1970, if it says so.
    #[serde(default)]
    pub due: Option<i64>,
    /// What a CHT deployment gets to see of it.
    pub record: RecordDraft,
    /// If it is to trace contacts: each has a record of its own.
    #[serde(default)]
    pub contacts: Vec<Contact>,
}

/// Somebody whom an index case has been in contact with, to be traced.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Contact {
    /// Of the request for this one.
    pub identifier: Identifier,
    /// What the sender calls the contact; none: only by name.
    pub names: Vec<Identifier>,
    /// A Patient, with what is known of them.
    pub person: Value,
    /// The Task for FHIR servers.
    pub task: Value,
    pub record: RecordDraft,
}

/// A clinic's news of a referral that CHT made.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct ReferralUpdate {
    /// The referral's identifier, as the mediator gave it ([`super::identifier::system::CHT_REPORT`]).
    pub referral: Identifier,
    pub state: State,
    #[serde(default)]
    pub if_match: Option<String>,
    pub subject: Subject,
    /// What the clinic wrote (output, note, reason), digested: two updates that say the same are one.
    pub details: Option<String>,
    /// The ServiceRequest or Task as it came.
    pub resource: Value,
    pub record: RecordDraft,
}

/// What a clinic has found, given or planned, to be told to a CHW.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct ClinicResult {
    pub identifier: Identifier,
    pub subject: Subject,
    /// It never should have been said.
    pub withdrawn: bool,
    /// The mapping that made the record.
    pub mapping: String,
    pub record: RecordDraft,
}

/// Resources for FHIR servers, about one patient or place.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Draft {
    /// In an order in which each refers only to itself and earlier ones.
    pub entries: Vec<Entry>,
    /// The patient, if there is one.
    pub subject: Option<Subject>,
    /// The referral that the entries make, if they make one: what later news of it is matched with.
    pub referral: Option<Identifier>,
}

/// A CHW's report that answers requests of EMRs.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The visit: Patient, Encounter, Observations.
    pub draft: Draft,
    /// `full_url` of the Encounter in the draft.
    pub encounter: String,
    /// What the report says it answers: the request's identifier value, or the CHT uuid of the
    /// report that raised the task. Nothing: every open request about the patient of `forms`.
    pub answers: Option<String>,
    /// The forms of the records that this kind of report answers.
    pub forms: Vec<String>,
    /// What came of it, as a code of the report's own and in words.
    pub outcome: String,
    /// How far the requests are after it: completed, or in progress if another attempt is planned.
    pub state: State,
}

/// A request's day has come: it is due, or expires.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Lapse {
    pub kind: Kind,
    pub identifier: Identifier,
    /// The day, in milliseconds since 1970. Of another one it is, or none, if it was changed meanwhile.
    pub at: i64,
}

/// What a message means.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Meaning {
    Resources(Draft),
    Outcome(Outcome),
    FollowUpRequest(FollowUpRequest),
    ReferralUpdate(ReferralUpdate),
    Result(ClinicResult),
    Lapse(Lapse),
    /// Nothing to be done, and why.
    Ignored(String),
}
