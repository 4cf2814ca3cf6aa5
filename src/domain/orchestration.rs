//! What was said to a neighbour and what it answered, as OpenHIM shows it beside a transaction
//! (contract: openhim.md, response).
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longer bodies are left out: all that OpenHIM keeps of a transaction shares 15 MiB.
const MAX_BODY: usize = 256 << 10;
/// The last ones of a transaction that are kept.
pub const MOST: usize = 20;

#[cfg_attr(test, derive(Debug))]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Orchestration {
    pub name: String,
    pub group: String,
    pub request: Asked,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<Told>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Fault>,
}

#[cfg_attr(test, derive(Debug))]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    pub method: String,
    pub host: String,
    pub port: String,
    pub path: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub querystring: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
    /// Milliseconds since 1970. OpenHIM stores nothing of a transaction that has one without.
    pub timestamp: i64,
}

#[cfg_attr(test, derive(Debug))]
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Told {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
    pub timestamp: i64,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Fault {
    pub message: String,
}

/// A body as text; what is too long is said to be.
pub fn shown(bytes: &[u8]) -> String {
    match bytes.len() {
        length if length > MAX_BODY => format!("({length} bytes, left out)"),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}
