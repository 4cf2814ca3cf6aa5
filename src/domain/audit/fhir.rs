//! A record as a FHIR AuditEvent, in the shapes of IHE's Basic Audit Log Patterns
//! (<https://profiles.ihe.net/ITI/BALP/1.1.3/>). How a kind of record is shown is never changed once it is
//! released: an exported trail is checked against it.
use super::chain::{Hash, Link};
use super::{Act, Agent, Event, Kind, Outcome, Record};
use crate::domain::fhir::CANONICAL;
use crate::domain::identifier::{Identifier, system};
use base64::Engine;
use serde_json::{Value, json};

const BALP: &str = "https://profiles.ihe.net/ITI/BALP/";
const DICOM: &str = "http://dicom.nema.org/resources/ontology/DCM";
const REST: &str = "http://hl7.org/fhir/restful-interaction";
const TERMINOLOGY: &str = "http://terminology.hl7.org/CodeSystem/";

pub fn audit_event(link: &Link) -> Value {
    let Record { seq, node, event } = &link.record;
    let (kind, subtype) = kinds(event);
    let mediator = who(&Agent::mediator(), node);
    let mut resource = json!({
        "resourceType": "AuditEvent",
        "id": seq.to_string(),
        "extension": [chain(link)],
        "type": kind,
        "subtype": [subtype],
        "action": event.action(),
        "recorded": instant(event.at),
        "outcome": event.outcome(),
        "agent": agents(event, node),
        "source": {"site": node, "observer": mediator, "type": [coding(&terminology("security-source-type"), "4", "Application Server")]},
    });
    if let Some(profile) = profile(event) {
        resource["meta"] =
            json!({"profile": [format!("{BALP}StructureDefinition/IHE.BasicAudit.{profile}")]});
    }
    if let Some(words) = outcome_in_words(event) {
        resource["outcomeDesc"] = json!(words);
    }
    let entities = entities(event);
    if !entities.is_empty() {
        resource["entity"] = Value::Array(entities);
    }
    resource
}

/// What binds the record into the trail: its bytes, and the hashes before and after them.
fn chain(link: &Link) -> Value {
    let part = |url: &str, text: &dyn ToString| json!({"url": url, "valueString": text.to_string()});
    json!({"url": format!("{CANONICAL}StructureDefinition/audit-chain"), "extension": [
        part("record", &link.text), part("previous", &link.previous), part("hash", &link.hash)]})
}

/// The record's text, the hash before it and its own, as [`audit_event`] wrote them.
pub fn chain_of(resource: &Value) -> Option<(&str, Hash, Hash)> {
    let parts = resource["extension"].as_array()?.iter().find(|e| {
        e["url"].as_str().and_then(|url| url.strip_prefix(CANONICAL))
            == Some("StructureDefinition/audit-chain")
    })?;
    let part = |url: &str| {
        let parts = parts["extension"].as_array()?;
        parts.iter().find(|part| part["url"] == url)?["valueString"].as_str()
    };
    Some((part("record")?, Hash::parse(part("previous")?)?, Hash::parse(part("hash")?)?))
}

/// The profile that it fulfils. Failures have none but the disclosure's.
fn profile(event: &Event) -> Option<&'static str> {
    let one = event.patients.len() == 1;
    Some(match &event.act {
        Act::Accepted { .. } if one => "PatientCreate",
        Act::Accepted { .. } => "Create",
        Act::Read { .. } if one => "PatientRead",
        Act::Read { .. } => "Read",
        Act::Searched { .. } if one => "PatientQuery",
        Act::Searched { .. } => "Query",
        Act::Delivered { .. } if one => "PrivacyDisclosure.Source",
        _ => return None,
    })
}

/// `type` and `subtype`.
fn kinds(event: &Event) -> (Value, Value) {
    let dicom = |code: &str, display: &str| coding(DICOM, code, display);
    let rest = |code: &str| {
        (coding(&terminology("audit-event-type"), "rest", "RESTful Operation"), coding(REST, code, code))
    };
    let alert = || dicom("110113", "Security Alert");
    let activity = || dicom("110100", "Application Activity");
    match &event.act {
        Act::Accepted { .. } => rest("create"),
        Act::Read { .. } => rest("read"),
        Act::Searched { .. } => rest("search-type"),
        Act::Changed { .. } | Act::Ended { .. } => rest("operation"),
        Act::Removed { .. } => rest("delete"),
        Act::Refused { status: 401, .. } => {
            (dicom("110114", "User Authentication"), dicom("110122", "Login"))
        }
        Act::Refused { status: 403, .. } | Act::Counted { .. } => {
            (alert(), dicom("110132", "Use of Restricted Function"))
        }
        Act::Refused { .. } => match event.action() {
            "C" => rest("create"),
            "R" => rest("read"),
            "U" => rest("update"),
            _ => rest("operation"),
        },
        Act::Reloaded { .. } | Act::Configured { .. } => (alert(), dicom("110131", "Software Configuration")),
        Act::Delivered { .. } => {
            let disclose =
                coding(&terminology("iso-21089-lifecycle"), "disclose", "Disclose Record Lifecycle Event");
            (dicom("110106", "Export"), disclose)
        }
        Act::Started { .. } => (activity(), dicom("110120", "Application Start")),
        Act::Stopped => (activity(), dicom("110121", "Application Stop")),
        Act::Cut { .. } => (dicom("110101", "Audit Log Used"), coding(REST, "delete", "delete")),
    }
}

fn outcome_in_words(event: &Event) -> Option<String> {
    match &event.act {
        Act::Refused { status, code, .. } => Some(format!("{status} {code}")),
        Act::Counted { refusals, .. } => Some(format!("{refusals} more were refused and are only counted")),
        Act::Delivered { outcome: Outcome::Tried, .. } => Some("it is tried again".into()),
        Act::Delivered { outcome: Outcome::Failed, .. } => Some("it is given up".into()),
        _ => None,
    }
}

/// Who sent the data that went over, and who got it, as DICOM counts it: the parameters of a search and a
/// resource to keep come from the client, a resource that is read goes to it.
fn agents(event: &Event, node: &str) -> Vec<Value> {
    const SOURCE: (&str, &str) = ("110153", "Source Role ID");
    const DESTINATION: (&str, &str) = ("110152", "Destination Role ID");
    let ourselves = |role| agent(role, who(&Agent::mediator(), node), false, machine(node));
    match &event.act {
        Act::Delivered { to, .. } => {
            let host = to.rsplit(':').next().unwrap_or(to);
            vec![ourselves(SOURCE), agent(DESTINATION, json!({"display": to}), false, machine(host))]
        }
        _ if event.by.kind == Kind::Mediator => vec![ourselves(("110150", "Application"))],
        act => {
            let (client, server) =
                if matches!(act, Act::Read { .. }) { (DESTINATION, SOURCE) } else { (SOURCE, DESTINATION) };
            let network = match (&event.by.from, event.by.kind) {
                (Some(address), _) => json!({"address": address, "type": "2"}),
                (None, Kind::OpenHim) => machine("openhim"),
                (None, _) => machine(node),
            };
            vec![agent(client, who(&event.by, node), true, network), ourselves(server)]
        }
    }
}

fn agent((code, display): (&str, &str), who: Value, requestor: bool, network: Value) -> Value {
    json!({"type": {"coding": [coding(DICOM, code, display)]}, "who": who, "requestor": requestor, "network": network})
}

fn machine(name: &str) -> Value {
    json!({"address": name, "type": "1"})
}

fn who(agent: &Agent, node: &str) -> Value {
    let named = |system: &str| json!({"identifier": {"system": system, "value": agent.name}});
    match agent.kind {
        Kind::Client => named(system::CLIENT),
        Kind::User => named(system::OS_USER),
        Kind::Stranger if agent.name.is_empty() => json!({"display": "unauthenticated"}),
        Kind::Stranger => json!({"display": format!("unauthenticated, claims to be {}", agent.name)}),
        Kind::OpenHim => json!({"display": "OpenHIM's console"}),
        Kind::Mediator => json!({"display": format!("cht-fhir-mediator on {node}")}),
    }
}

fn entities(event: &Event) -> Vec<Value> {
    let mut all: Vec<Value> = event.patients.iter().map(patient).collect();
    all.extend(object(event));
    if let Act::Accepted { via: Some(via), .. } = &event.act {
        let kind = coding(&format!("{BALP}CodeSystem/BasicAuditEntityType"), "XrequestId", "");
        all.push(json!({"what": {"identifier": {"value": via}}, "type": kind}));
    }
    all
}

fn patient(identifier: &Identifier) -> Value {
    let Identifier { system, value } = identifier;
    json!({"what": {"type": "Patient", "identifier": {"system": system, "value": value}},
        "type": coding(&terminology("audit-entity-type"), "1", "Person"),
        "role": coding(&terminology("object-role"), "1", "Patient")})
}

/// What it was done to or with, besides people.
fn object(event: &Event) -> Option<Value> {
    let job = ("20", "Job");
    let mut entity = match &event.act {
        Act::Searched { path, query } => {
            let asked = if query.is_empty() { path.clone() } else { format!("{path}?{query}") };
            let mut entity = system_object(("24", "Query"));
            entity["description"] = json!(asked);
            entity["query"] = json!(base64::engine::general_purpose::STANDARD.encode(&asked));
            entity
        }
        Act::Read { what } if event.transaction.is_none() => {
            let (kind, id) = what.split_once('/').unwrap_or(("", what));
            let mut entity = system_object(("4", "Domain Resource"));
            entity["what"] = json!({"type": kind, "identifier": {"value": id}});
            entity
        }
        Act::Refused { request, .. } => named(job, request),
        Act::Reloaded { .. } => named(job, "mappings"),
        Act::Configured { .. } => named(job, "settings"),
        Act::Removed { only_bodies: true, .. } => named(job, "bodies of transactions"),
        Act::Removed { .. } => named(job, "transactions"),
        Act::Cut { .. } => named(job, "audit trail"),
        Act::Started { .. } => named(job, "cht-fhir-mediator"),
        _ => system_object(job),
    };
    if let Some(transaction) = &event.transaction {
        entity["what"] = json!({"identifier": {"system": system::TRANSACTION, "value": transaction}});
    }
    let details: Vec<Value> = details(&event.act)
        .into_iter()
        .map(|(kind, text)| json!({"type": kind, "valueString": text}))
        .collect();
    if !details.is_empty() {
        entity["detail"] = Value::Array(details);
    }
    let says_something = ["what", "name", "query", "detail"].iter().any(|key| !entity[*key].is_null());
    says_something.then_some(entity)
}

fn system_object((role, display): (&str, &str)) -> Value {
    json!({"type": coding(&terminology("audit-entity-type"), "2", "System Object"),
        "role": coding(&terminology("object-role"), role, display)})
}

fn named(role: (&str, &str), name: &str) -> Value {
    let mut entity = system_object(role);
    entity["name"] = json!(name);
    entity
}

fn details(act: &Act) -> Vec<(String, String)> {
    let one = |kind: &str, text: &dyn ToString| (kind.to_string(), text.to_string());
    match act {
        Act::Accepted { route, repeat, .. } => {
            let mut all = vec![one("route", route)];
            all.extend(repeat.then(|| one("repeat", &true)));
            all
        }
        Act::Read { what } if !what.contains('/') => vec![one("shown", what)],
        Act::Changed { action } => vec![one("action", action)],
        Act::Counted { refusals, since } => {
            vec![one("refusals", refusals), one("since", &instant(*since))]
        }
        Act::Reloaded { mappings } => mappings.iter().map(|mapping| one("mapping", mapping)).collect(),
        Act::Configured { settings } => settings.iter().map(|(key, value)| one(key, value)).collect(),
        Act::Delivered { attempts, ends, .. } => {
            let mut all = vec![one("attempts", attempts)];
            all.extend(ends.map(|status| one("status", &status.as_str())));
            all
        }
        Act::Ended { status } => vec![one("status", &status.as_str())],
        Act::Started { version, listens, reaches } => {
            let mut all = vec![one("version", version), one("listens", listens)];
            all.extend(reaches.iter().map(|(name, address)| one(&format!("destination {name}"), address)));
            all
        }
        Act::Removed { transactions, before, .. } => {
            vec![one("transactions", transactions), one("before", &instant(*before))]
        }
        Act::Cut { through, hash } => vec![one("through", through), one("hash", hash)],
        Act::Read { .. } | Act::Searched { .. } | Act::Refused { .. } | Act::Stopped => Vec::new(),
    }
}

fn terminology(name: &str) -> String {
    format!("{TERMINOLOGY}{name}")
}

fn coding(system: &str, code: &str, display: &str) -> Value {
    match display {
        "" => json!({"system": system, "code": code}),
        _ => json!({"system": system, "code": code, "display": display}),
    }
}

fn instant(millis: i64) -> String {
    jiff::Timestamp::from_millisecond(millis).map(|t| t.to_string()).unwrap_or_default()
}
