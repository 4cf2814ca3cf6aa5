//! How far a request is, in FHIR's words and in ours.
use serde::{Deserialize, Serialize};

/// Who asked whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An EMR asks a CHW to find a patient, or to trace a contact.
    FollowUp,
    /// A CHW asks a clinic to see a patient.
    Referral,
}

/// How far a request is: [`State::request_status`] as OpenHIE's workflow has it
/// (`on-hold`: claimed), [`State::task_status`] for whoever speaks Task.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Requested,
    /// Claimed: whoever is to do it has been told.
    Accepted,
    /// Tried, and to be tried again.
    InProgress,
    Completed,
    /// Refused by whoever was to do it.
    Rejected,
    /// Withdrawn by whoever asked.
    Cancelled,
    /// Nobody did it in time.
    Expired,
}

impl State {
    /// From `ServiceRequest.status` (<https://hl7.org/fhir/R4/valueset-request-status.html>).
    pub fn of_request(status: &str) -> Option<Self> {
        Some(match status {
            "draft" | "active" => Self::Requested,
            "on-hold" => Self::Accepted,
            "completed" => Self::Completed,
            "revoked" | "entered-in-error" => Self::Cancelled,
            _ => return None,
        })
    }

    /// From `Task.status` (<https://hl7.org/fhir/R4/valueset-task-status.html>).
    pub fn of_task(status: &str) -> Option<Self> {
        Some(match status {
            "draft" | "requested" | "received" | "ready" => Self::Requested,
            "accepted" => Self::Accepted,
            "in-progress" | "on-hold" => Self::InProgress,
            "completed" => Self::Completed,
            "rejected" | "failed" => Self::Rejected,
            "cancelled" | "entered-in-error" => Self::Cancelled,
            _ => return None,
        })
    }

    pub fn request_status(self) -> &'static str {
        match self {
            Self::Requested => "active",
            Self::Accepted | Self::InProgress => "on-hold",
            Self::Completed => "completed",
            Self::Rejected | Self::Cancelled | Self::Expired => "revoked",
        }
    }

    pub fn task_status(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Accepted => "accepted",
            Self::InProgress => "in-progress",
            Self::Completed => "completed",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
            Self::Expired => "failed",
        }
    }

    /// By the type of the resource that asks.
    pub fn status_of(self, kind: &str) -> &'static str {
        match kind {
            "Task" => self.task_status(),
            _ => self.request_status(),
        }
    }

    pub fn is_open(self) -> bool {
        matches!(self, Self::Requested | Self::Accepted | Self::InProgress)
    }

    /// Withdrawn, refused or too late: nothing is to be done any more, and nothing came of it.
    pub fn is_void(self) -> bool {
        matches!(self, Self::Rejected | Self::Cancelled | Self::Expired)
    }
}
