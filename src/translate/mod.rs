//! What a message means. Pure: no clock, no network, no store.
//!
//! The corridor knows this door only; behind it stands one file a mapping.
use crate::domain::follow_up::Meaning;
use crate::domain::message::Route;
use serde_json::Value;

/// A journaled message, to be translated.
pub struct Source<'a> {
    pub route: &'a Route,
    pub body: &'a Value,
    /// Milliseconds since 1970 at which it was received.
    pub received: i64,
}

/// What one entry of a message means. A message that is no Bundle has one part.
pub struct Part {
    /// Index in `Bundle.entry` of the entry that the caller is answered for.
    pub entry: Option<usize>,
    pub meaning: Meaning,
}

pub struct Translated {
    /// The mapping that claimed the message; for a Bundle, those of its parts, joined by `+`.
    pub mapping: String,
    pub parts: Vec<Part>,
}

/// Why a message cannot be translated, in words for whoever sent or mapped it.
/// `message` names elements and codes, never a patient's data.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct Refusal {
    /// FHIRPath or document path of the element: `ServiceRequest.subject`, `doc.fields.patient_id`.
    pub path: String,
    /// IssueType code (<https://hl7.org/fhir/R4/valueset-issue-type.html>).
    pub code: &'static str,
    pub message: String,
}

pub struct Mappings {}
impl Mappings {
    pub fn translate(&self, _source: &Source, _mapping: Option<&str>) -> Result<Translated, Refusal> {
        Err(Refusal { path: String::new(), code: "x", message: String::new() })
    }
}
pub fn check_fhir(_kind: Option<&str>, _body: &Value) -> Vec<Refusal> {
    Vec::new()
}
