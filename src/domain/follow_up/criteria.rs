//! Which requests somebody asks for: in a search of ours, and by a Subscription.
use super::{FollowUp, Kind};
use crate::domain::identifier::Identifier;
use serde::{Deserialize, Serialize};

/// What is not said restricts nothing.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Criteria {
    /// `ServiceRequest` or `Task`.
    pub resource_type: String,
    /// Statuses in FHIR's words, any of them.
    #[serde(default)]
    pub statuses: Vec<String>,
    #[serde(default)]
    pub ids: Vec<String>,
    /// Of the request, any of them; without a system, of whatever system.
    #[serde(default)]
    pub identifiers: Vec<Identifier>,
    /// The people in the crosswalk that it may be about.
    #[serde(default)]
    pub people: Option<Vec<String>>,
    #[serde(default)]
    pub requesters: Vec<String>,
    /// Identifiers of who is to do it: a facility's number.
    #[serde(default)]
    pub performers: Vec<String>,
    /// `overdue`, `expired`.
    #[serde(default)]
    pub flags: Vec<String>,
    /// Milliseconds since 1970, from and before.
    #[serde(default)]
    pub authored: Span,
    #[serde(default)]
    pub updated: Span,
}

/// From a millisecond on, and before another.
#[derive(Clone, Copy, Default, PartialEq, Debug, Serialize, Deserialize)]
pub struct Span {
    pub from: Option<i64>,
    pub until: Option<i64>,
}

impl Span {
    pub fn has(&self, at: i64) -> bool {
        self.from.is_none_or(|from| at >= from) && self.until.is_none_or(|until| at < until)
    }
}

impl Criteria {
    pub fn matches(&self, request: &FollowUp) -> bool {
        let of_any = |wanted: &[String], is: Option<&str>| {
            wanted.is_empty() || is.is_some_and(|is| wanted.iter().any(|wanted| wanted == is))
        };
        let status = request.state.status_of(request.resource_type());
        request.resource_type() == self.resource_type
            && of_any(&self.statuses, Some(status))
            && of_any(&self.ids, Some(&request.id()))
            && of_any(&self.requesters, request.requester())
            && of_any(&self.performers, request.performer())
            && self.people.as_ref().is_none_or(|people| people.contains(&request.person))
            && (self.identifiers.is_empty() || self.identifiers.iter().any(|i| is_called(request, i)))
            && of_any(&self.flags, request.flag())
            && self.authored.has(request.authored())
            && self.updated.has(request.updated())
    }
}

fn is_called(request: &FollowUp, name: &Identifier) -> bool {
    let own = &request.identifier;
    own.value == name.value && (name.system.is_empty() || own.system == name.system)
}

/// Whose requests somebody sees: those that they sent, and the referrals to their facilities.
#[derive(Clone, Default, PartialEq)]
pub struct View {
    pub client: String,
    /// Identifiers of facilities; `*` for any.
    pub facilities: Vec<String>,
}

impl View {
    pub fn shows(&self, request: &FollowUp) -> bool {
        let is_theirs = |facility: &str| self.facilities.iter().any(|own| own == "*" || own == facility);
        match request.kind {
            Kind::FollowUp => request.client == self.client,
            Kind::Referral => {
                self.facilities.iter().any(|own| own == "*") || request.performer().is_some_and(is_theirs)
            }
        }
    }
}
