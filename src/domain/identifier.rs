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
    /// Transactions of ours, in the audit trail.
    pub const TRANSACTION: &str = "urn:cht-fhir-mediator:transaction";
    /// Clients of `[[clients]]`, in the audit trail.
    pub const CLIENT: &str = "urn:cht-fhir-mediator:client";
    /// Users of the command line, by their names on the machine, in the audit trail.
    pub const OS_USER: &str = "urn:cht-fhir-mediator:os-user";
    /// The ids of Patients that a client was answered with: it may name them so later.
    pub fn told(client: &str) -> String {
        format!("urn:cht-fhir-mediator:told:{client}")
    }
    /// The ids that a destination gave to Patients.
    pub fn at_server(destination: &str) -> String {
        format!("urn:cht-fhir-mediator:at:{destination}:Patient")
    }
    /// A client's own ids, and its identifiers without a system.
    pub fn own(client: &str) -> String {
        format!("{REQUEST}:{client}")
    }
    /// Whether only the mediator itself may say so, and no server either.
    pub fn is_ours_alone(system: &str) -> bool {
        system.starts_with("urn:cht-fhir-mediator:") && system != REQUEST && !is_a_clients(system)
    }
    /// Whether this client may not say so.
    pub fn is_reserved(system: &str, client: &str) -> bool {
        is_ours_alone(system) || (is_a_clients(system) && system != own(client))
    }
    fn is_a_clients(system: &str) -> bool {
        system.strip_prefix(REQUEST).is_some_and(|rest| rest.starts_with(':'))
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

    /// A FHIR element's, if it has a value; without a system that is empty.
    pub fn of(element: &serde_json::Value) -> Option<Self> {
        let value = element["value"].as_str().filter(|value| !value.is_empty())?;
        Some(Self::new(element["system"].as_str().unwrap_or_default(), value))
    }

    /// `system|value`, as a FHIR search token: no two identifiers have the same.
    pub fn token(&self) -> String {
        format!("{}|{}", search_value(&self.system), search_value(&self.value))
    }

    /// What a search token means; `None` where it asks for one of several.
    pub fn of_token(token: &str) -> Option<Self> {
        let mut parts = vec![String::new()];
        let mut letters = token.chars();
        while let Some(letter) = letters.next() {
            match letter {
                '\\' => parts.last_mut()?.extend(letters.next()),
                '|' if parts.len() == 1 => parts.push(String::new()),
                ',' => return None,
                other => parts.last_mut()?.push(other),
            }
        }
        let value = parts.pop()?;
        Some(Self::new(parts.pop().unwrap_or_default(), value))
    }
}

/// Where `,` `|` `$` mean something else in a search (<https://hl7.org/fhir/R4/search.html#escaping>).
pub fn search_value(raw: &str) -> String {
    let mut escaped = String::with_capacity(raw.len());
    for letter in raw.chars() {
        if matches!(letter, ',' | '|' | '$' | '\\') {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

/// The value of an identifier can name a patient: it never reaches a log.
impl fmt::Debug for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identifier({}|…)", self.system)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_means_one_identifier() {
        for (system, value) in
            [("http://e", "1"), ("http://e|1", "2"), ("http://e", "1|2"), ("", "9,http://c|7$\\")]
        {
            let identifier = Identifier::new(system, value);
            assert!(Identifier::of_token(&identifier.token()) == Some(identifier), "{system} {value}");
        }
        assert_ne!(Identifier::new("http://e|1", "2").token(), Identifier::new("http://e", "1|2").token());
        assert!(Identifier::of_token("http://e|1,2").is_none());
        assert!(Identifier::of_token("83288") == Some(Identifier::new("", "83288")));
    }
}
