//! Identifiers, each with the system that gave it.
use serde::{Deserialize, Serialize};
use std::fmt;

/// The systems of the identifiers that the mediator itself knows.
pub mod system {
    /// `_id` of a CHT person.
    pub const CHT_UUID: &str = "urn:cht:uuid";
    /// `patient_id`, the short code that CHWs read out.
    pub const CHT_SHORTCODE: &str = "urn:cht:shortcode";
    /// `external_id` as typed into CHT's contact forms.
    pub const CHT_EXTERNAL_ID: &str = "urn:cht:external-id";
    /// `_id` of a CHT report, and of what was made from it.
    pub const CHT_REPORT: &str = "urn:cht:report";
    /// `_id` of a CHT place.
    pub const CHT_PLACE: &str = "urn:cht:place";
    /// Requests that came without an identifier of their own.
    pub const REQUEST: &str = "urn:cht-fhir-mediator:request";
    /// A CHT uuid that CHT itself has sent us or confirmed; others may claim what they like.
    pub const IN_CHT: &str = "urn:cht-fhir-mediator:in-cht";
    /// The ids of Patients that a client was answered with: it may name them so later.
    pub fn told(client: &str) -> String {
        format!("urn:cht-fhir-mediator:told:{client}")
    }
    /// The ids that a destination gave to Patients.
    pub fn at_server(destination: &str) -> String {
        format!("urn:cht-fhir-mediator:at:{destination}:Patient")
    }
    /// What deployed CHT configurations of the TypeScript mediator write for a CHT uuid
    /// (peer routes: `identifier:[{system:"cht",...}]`).
    pub const PEER_CHT: &str = "cht";
}

/// A FHIR Identifier's system and value (<https://hl7.org/fhir/R4/datatypes.html#Identifier>).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identifier {
    pub system: String,
    pub value: String,
}

impl Identifier {
    pub fn new(system: impl Into<String>, value: impl Into<String>) -> Self {
        Self { system: system.into(), value: value.into() }
    }

    /// `system|value`, as a FHIR search token.
    pub fn token(&self) -> String {
        format!("{}|{}", self.system, self.value)
    }
}

/// The value of an identifier can name a patient: it never reaches a log.
impl fmt::Debug for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identifier({}|…)", self.system)
    }
}
