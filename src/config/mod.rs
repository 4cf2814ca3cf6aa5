//! Settings: what they are. `load` says where they come from.
//!
//! The defaults and their reasons stand in `mediator-config/mediator.toml`, which is compiled in.
mod check;
mod keys;
mod load;
mod secrets;

pub use check::warnings;
pub use keys::JournalKey;
pub use load::{ConfigError, DEFAULTS, load, mistake};

use jiff::tz::TimeZone;
use secrecy::SecretString;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub server: Server,
    pub journal: Journal,
    pub audit: Audit,
    pub cht: Cht,
    pub fhir: FhirServer,
    /// Further FHIR servers, by name. `[fhir]` is the destination named `fhir`.
    pub destinations: BTreeMap<String, FhirServer>,
    pub clients: Vec<Client>,
    pub delivery: Delivery,
    pub translate: Translate,
    pub follow_up: FollowUp,
    pub people: People,
    pub lookups: Lookups,
    pub callbacks: Callbacks,
    pub openhim: OpenHim,
    pub log: Log,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    pub listen: SocketAddr,
    /// PEM files. Both or none.
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    /// Accept unauthenticated callers on an address that is not loopback.
    pub trust_network: bool,
    /// Routes are served with and without this prefix.
    pub base_path: String,
    pub answer_within_ms: u64,
    pub max_body_bytes: usize,
    /// Of a list of resources, a line each (NDJSON).
    pub max_list_bytes: usize,
    pub max_header_bytes: usize,
    /// A request's head, and then its body, must have arrived within this time.
    pub read_timeout_ms: u64,
    pub max_connections: usize,
    pub shutdown_within_ms: u64,
    /// Routes whose FHIR is taken even if it is not valid, and flagged: `/fhir/Observation`.
    pub flag_invalid: Vec<String>,
    /// Profiles that FHIR from outside must fulfil, by type of resource.
    pub profiles: BTreeMap<String, String>,
    /// Success code by route (`"/patient" = 201`).
    pub success_codes: BTreeMap<String, u16>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    /// `sqlite:PATH`.
    pub url: String,
    /// Open transactions beyond which callers get 503.
    pub max_open: u64,
    /// Delivered, ignored and cancelled transactions are removed after this many days; 0: never.
    pub keep_days: u32,
    /// What they said, and what was made of it, is removed after this many days; 0: with them.
    pub keep_bodies_days: u32,
    /// What the journal is sealed with, newest first; none: it is in clear.
    #[serde(default, deserialize_with = "keys::read")]
    pub key: Vec<JournalKey>,
}

/// The audit trail. It cannot be switched off: whoever could would leave no trace of it.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// Records are removed after this many days; 0: never.
    pub keep_days: u32,
}

/// The interoperability layer whose mediator we are.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenHim {
    pub enabled: bool,
    pub api_url: String,
    pub username: String,
    pub password: Option<SecretString>,
    /// PEM: authorities, or OpenHIM's own certificate.
    pub ca_file: Option<PathBuf>,
    pub timeout_ms: u64,
    pub heartbeat_seconds: u64,
    /// Installs those of our channels that are not there.
    pub install_channels: bool,
    /// Where OpenHIM's core reaches us.
    pub reachable_at: String,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cht {
    pub url: String,
    pub username: String,
    pub password: Option<SecretString>,
    pub ca_file: Option<PathBuf>,
    pub timeout_ms: u64,
    pub max_concurrent: usize,
    /// How long a new report may be missing from searches.
    pub index_lag_ms: u64,
}

/// How we call a FHIR server. At most one of username, bearer and oauth2.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FhirServer {
    pub url: String,
    #[serde(default)]
    pub username: String,
    pub password: Option<SecretString>,
    pub bearer_token: Option<SecretString>,
    pub oauth2: Option<OAuth2>,
    pub ca_file: Option<PathBuf>,
    #[serde(default = "FhirServer::timeout_ms")]
    pub timeout_ms: u64,
    #[serde(default = "FhirServer::max_concurrent")]
    pub max_concurrent: usize,
    /// The server takes transaction Bundles. Otherwise resources are sent one by one.
    #[serde(default = "FhirServer::transactions")]
    pub transactions: bool,
    /// Statuses that mean success.
    #[serde(default = "FhirServer::success_status")]
    pub success_status: Vec<u16>,
    /// JSON Pointers into a successful answer's body that must hold these values,
    /// for servers that answer 200 with an error inside.
    #[serde(default)]
    pub success_body: BTreeMap<String, toml::Value>,
    /// Seconds between polls for news of requests; 0: don't poll.
    #[serde(default)]
    pub poll_seconds: u64,
    /// Seconds by which each poll looks back behind the last one.
    #[serde(default = "FhirServer::poll_overlap_seconds")]
    pub poll_overlap_seconds: u64,
}

impl FhirServer {
    fn timeout_ms() -> u64 {
        30_000
    }
    fn max_concurrent() -> usize {
        16
    }
    fn transactions() -> bool {
        true
    }
    fn success_status() -> Vec<u16> {
        vec![200, 201, 204]
    }
    fn poll_overlap_seconds() -> u64 {
        60
    }
}

/// OAuth2 client credentials (RFC 6749, 4.4).
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OAuth2 {
    pub token_url: String,
    pub client_id: String,
    pub client_secret: Option<SecretString>,
    #[serde(default)]
    pub scope: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// CHT's outbound push, and the drop-in routes.
    Push,
    /// EMRs: `/fhir`, `/service-request`, and the drop-in routes.
    Fhir,
    /// `/transactions`.
    Admin,
    /// Whoever may look any patient of CHT up.
    Lookup,
}

/// Somebody who may call us.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    pub id: String,
    /// Argon2 hash (PHC string) of the client's secret, as `hash-secret` prints it.
    #[serde(alias = "secret_hash", alias = "hash")]
    pub secret: SecretString,
    pub roles: Vec<Role>,
    /// The destination whose own ids this client's references and resource ids are.
    pub destination: Option<String>,
    /// Facilities whose referrals it may see, by the identifier that a referral names them by; `*`: all.
    #[serde(default)]
    pub facilities: Vec<String>,
    /// It is OpenHIM's core, and says who really calls.
    #[serde(default)]
    pub openhim: bool,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    pub first_retry_ms: u64,
    pub longest_retry_ms: u64,
    pub give_up_after_hours: u32,
    /// Transient failures in a row after which a destination is left alone for a while.
    pub breaker_failures: u32,
    pub breaker_pause_ms: u64,
    /// Which destinations get what a mapping makes; `default` for those not named.
    pub to: BTreeMap<String, Vec<String>>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Translate {
    /// ISO 3166 code of the country of phone numbers without a country code.
    pub default_country: String,
    /// Where an instant has its date.
    #[serde(deserialize_with = "time_zone")]
    pub time_zone: TimeZone,
    /// `contact_type` of people in deployments whose contacts are all of the type `contact`.
    pub person_types: Vec<String>,
    /// A folder of mappings over the built-in ones.
    pub mappings: PathBuf,
    /// A folder of profiles, ValueSets, CodeSystems and ConceptMaps over the built-in ones.
    pub profiles: PathBuf,
}

/// When a request is due and when it expires, in days after it was asked; 0: never.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FollowUp {
    pub due_days: u32,
    pub expires_days: u32,
    /// Seconds between two looks at what is due.
    pub check_seconds: u64,
    /// By what a request is for, as its category or code says (`HIV`); capitals don't matter.
    pub programs: BTreeMap<String, Deadlines>,
}

/// What a programme has of its own.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deadlines {
    pub due_days: Option<u32>,
    pub expires_days: Option<u32>,
}

impl FollowUp {
    /// The programme of the configuration that these words name.
    pub fn program(&self, words: &str) -> Option<(&str, &Deadlines)> {
        let is_meant = |name: &str| name.to_lowercase() == words.to_lowercase();
        self.programs.iter().find(|(name, _)| is_meant(name)).map(|(name, own)| (name.as_str(), own))
    }

    /// Days until a request of this programme is due, and until it expires.
    pub fn days(&self, program: Option<&str>) -> (u32, u32) {
        let own =
            program.and_then(|words| self.program(words)).map(|(_, own)| own.clone()).unwrap_or_default();
        (own.due_days.unwrap_or(self.due_days), own.expires_days.unwrap_or(self.expires_days))
    }
}

/// People who are met elsewhere first.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct People {
    /// EMRs' Patients, and contacts to be traced whom CHT does not know, become persons in CHT.
    pub create: bool,
    /// The CHT place of whoever is said to be there: by an identifier (`system|value`), a reference
    /// (`Organization/7`) or a name; capitals don't matter.
    pub places: BTreeMap<String, String>,
    /// The CHT place of those whom nothing else places; empty: they are not made.
    pub holding_place: String,
}

/// People whom other systems look up in CHT.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lookups {
    /// What one client may ask in a minute.
    pub per_minute: NonZeroU32,
    /// Those that are answered at once: CHT has its CHWs to serve.
    pub max_concurrent: usize,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Callbacks {
    /// Hosts (or `host:port`) that may be called back; `*.example.org` for a domain. Empty: any public one.
    pub allow: Vec<String>,
    /// Private, loopback and link-local addresses may be called back.
    pub allow_private: bool,
    pub timeout_ms: u64,
    pub max_concurrent: usize,
    /// How long one that is not taken may hold up what else is about its patient.
    pub holds_up_ms: u64,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// A tracing filter: `info`, `cht_fhir_mediator=debug`.
    pub filter: String,
    /// Lines of JSON instead of text.
    pub json: bool,
}

fn time_zone<'de, D: Deserializer<'de>>(given: D) -> Result<TimeZone, D::Error> {
    let name = String::deserialize(given)?;
    TimeZone::get(&name).map_err(|_| {
        serde::de::Error::custom(format!("`{name}` is no time zone; expected one such as Africa/Nairobi"))
    })
}
