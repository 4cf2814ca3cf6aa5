//! What a message is, seen from outside: its business identity, its content's digest, and whom it
//! is about. Read before translation, so that repeats and order are known at the door.
use crate::domain::message::Route;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

#[cfg_attr(test, derive(Debug))]
#[derive(PartialEq)]
pub struct Envelope {
    pub key: String,
    pub digest: String,
    pub subjects: Vec<String>,
    /// Which version it is, where it says so: a lower one than has come already is old.
    pub revision: Option<i64>,
}

/// `client` keeps the identifiers of two systems apart; CHT's document ids are unique by themselves.
pub fn envelope(route: &Route, client: &str, body: &Value, day: &str) -> Envelope {
    let digest = digest(body);
    match route {
        Route::ChtPush(_) | Route::ChtPatient | Route::ChtPatientIds | Route::ChtEncounter => Envelope {
            key: match cht_id(body) {
                Some(id) => format!("{route} {id}"),
                None => format!("{route} {digest}"),
            },
            subjects: cht_subjects(body),
            digest,
            revision: generation(&body["doc"]["_rev"]),
        },
        // It carries neither a date nor an id of its own: two visits look alike. CHT repeats a push
        // within the day, a second visit comes on another.
        Route::DropIn(kind) if kind == "Encounter" => Envelope {
            key: format!("{route} {client} {}", fhir_id(body).unwrap_or_default()),
            subjects: fhir_subjects(body),
            digest: format!("{day} {digest}"),
            revision: None,
        },
        _ => {
            let (key, digest) = match fhir_id(body) {
                Some(id) => (format!("{route} {client} {id}"), digest),
                // Without a name of its own it can be asked again on another day.
                None if is_request(route) => {
                    (format!("{route} {client} {digest}"), format!("{day} {digest}"))
                }
                None => (format!("{route} {client} {digest}"), digest),
            };
            Envelope { key, digest, subjects: fhir_subjects(body), revision: None }
        }
    }
}

/// CouchDB's `3-60c75460...` is the third version.
fn generation(revision: &Value) -> Option<i64> {
    revision.as_str()?.split('-').next()?.parse().ok()
}

fn is_request(route: &Route) -> bool {
    match route {
        Route::ServiceRequest => true,
        Route::Fhir(kind) => matches!(kind.as_str(), "ServiceRequest" | "Task"),
        _ => false,
    }
}

/// SHA-256 of the content. Revisions and server metadata are not content: CHT pushes a record
/// before and after it is saved, and a server counts versions.
pub fn digest(body: &Value) -> String {
    let mut hash = Sha256::new();
    feed(&mut hash, body);
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn feed(hash: &mut Sha256, value: &Value) {
    match value {
        Value::Object(fields) => {
            hash.update(b"{");
            for (key, value) in fields.iter().filter(|(key, _)| *key != "_rev" && *key != "meta") {
                feed(hash, &Value::String(key.clone()));
                feed(hash, value);
            }
            hash.update(b"}");
        }
        Value::Array(items) => {
            hash.update(b"[");
            items.iter().for_each(|item| feed(hash, item));
            hash.update(b"]");
        }
        other => {
            hash.update(other.to_string().as_bytes());
            hash.update(b",");
        }
    }
}

fn cht_id(body: &Value) -> Option<&str> {
    [&body["doc"]["_id"], &body["id"], &body["_id"]].into_iter().find_map(non_empty)
}

/// The document itself, its patient by every name, and the request that it answers.
fn cht_subjects(body: &Value) -> Vec<String> {
    let doc = if body["doc"].is_object() { &body["doc"] } else { body };
    let fields = &doc["fields"];
    [
        &doc["_id"],
        &doc["id"],
        &doc["patient_id"],
        &doc["patient_uuid"],
        &doc["external_id"],
        &doc["patient"]["_id"],
        &doc["patient"]["patient_id"],
        &fields["patient_id"],
        &fields["patient_uuid"],
        &fields["external_id"],
        &fields["request_id"],
        &fields["inputs"]["contact"]["_id"],
        &fields["inputs"]["source_id"],
    ]
    .into_iter()
    .filter_map(non_empty)
    .map(str::to_string)
    .collect::<BTreeSet<_>>()
    .into_iter()
    .collect()
}

/// A resource's first identifier, or its type and id.
fn fhir_id(resource: &Value) -> Option<String> {
    let kind = resource["resourceType"].as_str()?;
    let identifier = match &resource["identifier"] {
        Value::Array(identifiers) => identifiers.iter().find(|i| non_empty(&i["value"]).is_some()),
        one @ Value::Object(_) => Some(one),
        _ => None,
    };
    if let Some(identifier) = identifier
        && let Some(value) = non_empty(&identifier["value"])
    {
        return Some(format!("{kind} {}|{value}", identifier["system"].as_str().unwrap_or_default()));
    }
    non_empty(&resource["id"]).map(|id| format!("{kind}/{id}"))
}

/// Elements that say whom or what a resource is about. Those that say who made it are left out:
/// a clinic's messages must not wait for each other.
const ABOUT: &[&str] = &["subject", "for", "focus", "basedOn", "patient", "replaces", "beneficiary"];

fn fhir_subjects(body: &Value) -> Vec<String> {
    let mut found = BTreeSet::new();
    for resource in resources(body) {
        collect_names(&resource["identifier"], &mut found);
        if let Some(id) = non_empty(&resource["id"]) {
            found.insert(id.to_string());
        }
        for element in ABOUT {
            collect_names(&resource[*element], &mut found);
        }
    }
    found.into_iter().collect()
}

/// Shared by many patients: no reason for one to wait for another.
const SHARED: &[&str] =
    &["Organization", "Endpoint", "Practitioner", "PractitionerRole", "Location", "MessageHeader"];

fn resources(body: &Value) -> Vec<&Value> {
    let mut all: Vec<&Value> = vec![body];
    all.extend(body["contained"].as_array().into_iter().flatten());
    for entry in body["entry"].as_array().into_iter().flatten() {
        all.push(&entry["resource"]);
        all.extend(entry["resource"]["contained"].as_array().into_iter().flatten());
    }
    let several = all.len() > 1;
    all.retain(|r| !several || !SHARED.contains(&r["resourceType"].as_str().unwrap_or_default()));
    all
}

fn collect_names(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect_names(item, found)),
        Value::Object(fields) => {
            if let Some(value) = fields.get("value").and_then(non_empty) {
                found.insert(value.to_string());
            }
            if let Some(reference) = fields.get("reference").and_then(non_empty) {
                let tail = reference.rsplit(['/', '|', '=', ':', '#']).next().unwrap_or(reference);
                found.insert(tail.to_string());
            }
            if let Some(identifier) = fields.get("identifier") {
                collect_names(identifier, found);
            }
        }
        _ => {}
    }
}

fn non_empty(value: &Value) -> Option<&str> {
    value.as_str().map(str::trim).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(route: &str, body: Value) -> Envelope {
        envelope(&route.parse().expect("a route"), "emr", &body, "2026-11-24")
    }

    #[test]
    fn a_revision_is_no_content() {
        let first = of("/cht/push", json!({"doc": {"_id": "a", "name": "x"}}));
        let again = of("/cht/push", json!({"doc": {"_id": "a", "_rev": "2-b", "name": "x"}}));
        assert_eq!((&first.key, &first.digest), (&again.key, &again.digest));
        assert_eq!((first.revision, again.revision), (None, Some(2)), "but it tells which is older");
        let other = of("/cht/push", json!({"doc": {"_id": "a", "name": "y"}}));
        assert_eq!(first.key, other.key);
        assert_ne!(first.digest, other.digest);
    }

    #[test]
    fn content_that_moves_between_elements_is_other_content() {
        assert_ne!(digest(&json!({"a": "b", "c": ""})), digest(&json!({"a": "", "c": "b"})));
        assert_ne!(digest(&json!(["ab", "c"])), digest(&json!(["a", "bc"])));
        assert_ne!(digest(&json!([["a"], "b"])), digest(&json!(["a", ["b"]])));
    }

    #[test]
    fn two_clients_may_use_the_same_identifier() {
        let body = json!({"resourceType": "Task", "identifier": [{"value": "1"}]});
        let route = "/fhir/Task".parse().expect("a route");
        assert_ne!(envelope(&route, "a", &body, "").key, envelope(&route, "b", &body, "").key);
    }

    #[test]
    fn a_report_is_about_its_patient_by_every_name_and_about_the_request_it_answers() {
        let envelope = of(
            "/cht/push",
            json!({"doc": {"_id": "r", "patient": {"_id": "p", "patient_id": "83288"},
                "fields": {"inputs": {"source_id": "q", "contact": {"_id": "p"}}}}}),
        );
        assert_eq!(envelope.subjects, ["83288", "p", "q", "r"]);
    }

    #[test]
    fn a_request_is_about_its_patient_and_not_about_its_requester() {
        let envelope = of(
            "/fhir/ServiceRequest",
            json!({"resourceType": "ServiceRequest", "identifier": [{"system": "s", "value": "SR-1"}],
                "subject": {"reference": "Patient/p"}, "requester": {"reference": "Organization/o"}}),
        );
        assert_eq!(envelope.subjects, ["SR-1", "p"]);
    }
}
