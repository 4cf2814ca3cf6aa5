//! CHT's documents: looked up, hydrated and indexed as CHT does it.
use super::{Clock, Ids};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

struct Saved {
    doc: Value,
    at: Instant,
}

pub(super) struct Store {
    pub(super) clock: Clock,
    pub(super) ids: Ids,
    docs: BTreeMap<String, Saved>,
}

/// The text under a key; empty if there is none.
pub(super) fn text<'a>(doc: &'a Value, key: &str) -> &'a str {
    doc[key].as_str().unwrap_or_default()
}

pub(super) fn is_person(doc: &Value) -> bool {
    contact_type(doc) == "person"
}

/// 5.x writes `type: "contact"` and the type proper in `contact_type`.
fn contact_type(doc: &Value) -> &str {
    if text(doc, "type") == "contact" { text(doc, "contact_type") } else { text(doc, "type") }
}

fn is_report(doc: &Value) -> bool {
    text(doc, "type") == "data_record"
}

/// Lineages end sooner in life; a circle does not end.
const DEEPEST_LINEAGE: usize = 12;

impl Store {
    pub(super) fn new(clock: Clock) -> Self {
        Self { ids: Ids::of(&clock), clock, docs: BTreeMap::new() }
    }

    /// Saves a document, with an `_id` and a `_rev` of CouchDB's kind. Answers it as saved.
    pub(super) fn save(&mut self, mut doc: Value) -> Value {
        if text(&doc, "_id").is_empty() {
            doc["_id"] = self.ids.next().to_string().into();
        }
        let id = text(&doc, "_id").to_string();
        let before = self.docs.get(&id);
        let generation: u64 =
            before.and_then(|saved| text(&saved.doc, "_rev").split('-').next()?.parse().ok()).unwrap_or(0);
        doc["_rev"] = format!(
            "{}-{}",
            generation + 1,
            Uuid::new_v5(&Uuid::NAMESPACE_OID, doc.to_string().as_bytes()).simple()
        )
        .into();
        let at = before.map_or_else(Instant::now, |saved| saved.at);
        self.docs.insert(id, Saved { doc: doc.clone(), at });
        doc
    }

    pub(super) fn get(&self, id: &str) -> Option<&Value> {
        self.docs.get(id).map(|saved| &saved.doc)
    }

    pub(super) fn report(&self, id: &str) -> Option<&Value> {
        self.get(id).filter(|doc| is_report(doc))
    }

    pub(super) fn person(&self, id: &str) -> Option<&Value> {
        self.get(id).filter(|doc| is_person(doc))
    }

    pub(super) fn contact(&self, id: &str) -> Option<&Value> {
        self.get(id).filter(|doc| !is_report(doc))
    }

    pub(super) fn reports(&self) -> Vec<Value> {
        let mut reports: Vec<&Saved> = self.docs.values().filter(|saved| is_report(&saved.doc)).collect();
        reports.sort_by_key(|saved| saved.at);
        reports.into_iter().map(|saved| saved.doc.clone()).collect()
    }

    pub(super) fn people(&self) -> Vec<Value> {
        self.docs.values().map(|saved| &saved.doc).filter(|doc| is_person(doc)).cloned().collect()
    }

    /// The person whom `fields` names: `patient_id` first, then `patient_uuid`. Either may hold
    /// the short code or the uuid. A number resolves to nobody.
    pub(super) fn patient(&self, fields: &Value) -> Option<&Value> {
        ["patient_id", "patient_uuid"].iter().find_map(|key| self.subject(text(fields, key)))
    }

    fn subject(&self, key: &str) -> Option<&Value> {
        if key.is_empty() {
            return None;
        }
        let by_code =
            || self.docs.values().map(|s| &s.doc).find(|d| is_person(d) && text(d, "patient_id") == key);
        self.person(key).or_else(by_code)
    }

    pub(super) fn by_phone(&self, phone: &str) -> Vec<Value> {
        let people = self.docs.values().map(|saved| &saved.doc).filter(|doc| !is_report(doc));
        people.filter(|doc| text(doc, "phone") == phone).map(|doc| self.hydrated(doc)).collect()
    }

    /// The document as an outbound push and hydrate show it: lineage whole, patient added.
    pub(super) fn hydrated(&self, doc: &Value) -> Value {
        let mut doc = doc.clone();
        if is_report(&doc) {
            if doc["contact"].is_object() {
                doc["contact"] = self.with_lineage(&doc["contact"], 0);
            }
            let patient = self.patient(&doc["fields"]).or_else(|| self.subject(text(&doc, "patient_id")));
            if let Some(patient) = patient {
                doc["patient"] = self.with_lineage(patient, 0);
            }
            return doc;
        }
        self.with_lineage(&doc, 0)
    }

    /// A stub or a document, with every parent and every parent's contact in full.
    fn with_lineage(&self, stub: &Value, depth: usize) -> Value {
        let mut doc = self.get(text(stub, "_id")).unwrap_or(stub).clone();
        if depth >= DEEPEST_LINEAGE {
            return doc;
        }
        if let Some(contact) = self.get(text(&doc["contact"], "_id")) {
            doc["contact"] = contact.clone();
        }
        if doc["parent"].is_object() {
            doc["parent"] = self.with_lineage(&doc["parent"], depth + 1);
        }
        doc
    }

    /// `{_id, parent: {_id, ...}}`, as a contact's `parent` is stored.
    pub(super) fn lineage(&self, id: &str) -> Option<Value> {
        let doc = self.contact(id)?;
        let mut stub = Map::from_iter([("_id".to_string(), id.into())]);
        if doc["parent"].is_object() {
            stub.insert("parent".into(), stubs(&doc["parent"], 0));
        }
        Some(Value::Object(stub))
    }

    /// Reports found by `freetext`, those indexed at least `delay` ago.
    pub(super) fn reports_by_freetext(&self, freetext: &str, delay: Duration) -> Vec<String> {
        let indexed = self.docs.values().filter(|s| is_report(&s.doc) && s.at.elapsed() >= delay);
        indexed.filter(|s| is_found(&s.doc, freetext)).map(|s| text(&s.doc, "_id").into()).collect()
    }

    pub(super) fn contacts_by_freetext(&self, freetext: Option<&str>, kind: Option<&str>) -> Vec<String> {
        let contacts = self.docs.values().map(|saved| &saved.doc).filter(|doc| !is_report(doc));
        contacts
            .filter(|doc| kind.is_none_or(|kind| contact_type(doc) == kind))
            .filter(|doc| freetext.is_none_or(|freetext| is_found(doc, freetext)))
            .map(|doc| text(doc, "_id").into())
            .collect()
    }

    /// Rows of the view `reports_by_subject`, which CouchDB brings up to date when it is read.
    pub(super) fn rows_by_subject(&self, key: &str) -> Vec<Value> {
        let names = |doc: &Value| {
            let of_fields =
                ["patient_id", "patient_uuid", "place_id"].iter().any(|k| text(&doc["fields"], k) == key);
            of_fields || text(doc, "patient_id") == key || text(doc, "place_id") == key
        };
        let reports = self.reports().into_iter().filter(names);
        reports.map(|doc| json!({"id": doc["_id"], "key": key, "value": doc["reported_date"]})).collect()
    }

    /// The next free five-digit short code.
    pub(super) fn shortcode(&self) -> String {
        format!("{:05}", (self.docs.len() * 7919 + self.clock.now_ms() as usize) % 100_000)
    }
}

fn stubs(parent: &Value, depth: usize) -> Value {
    let mut stub = json!({"_id": parent["_id"]});
    if parent["parent"].is_object() && depth < DEEPEST_LINEAGE {
        stub["parent"] = stubs(&parent["parent"], depth + 1);
    }
    stub
}

/// CHT's index holds `key:value` of the whole value, and each word. With a colon the whole is
/// asked for, otherwise the beginning of a word.
fn is_found(doc: &Value, freetext: &str) -> bool {
    let wanted = freetext.to_lowercase();
    if wanted.chars().count() < 3 {
        return false;
    }
    let top = doc.as_object().into_iter().flatten();
    top.chain(doc["fields"].as_object().into_iter().flatten()).any(|(key, value)| {
        let indexed = indexed_text(key, value);
        indexed.is_some_and(|text| match wanted.contains(':') {
            true => format!("{}:{text}", key.to_lowercase()) == wanted,
            false => {
                text.split_whitespace().any(|word| word.chars().count() > 2 && word.starts_with(&wanted))
            }
        })
    })
}

fn indexed_text(key: &str, value: &Value) -> Option<String> {
    if key.ends_with("_date") {
        return None;
    }
    let text = match value {
        Value::String(text) => text.to_lowercase(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    (text.chars().count() <= 1000).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freetext_finds_whole_values_by_key_and_words_by_their_beginning() {
        let doc = json!({"type": "data_record", "fields": {
            "external_id": "SR-2026-000117", "note": "Missed ART refill", "days_late": 26,
            "seen_date": "2026-11-20", "urgent": true, "group": {"inner": "hidden"},
        }});
        for found in [
            "external_id:sr-2026-000117",
            "external_id:SR-2026-000117",
            "note:missed art refill",
            "days_late:26",
            "miss",
            "refill",
        ] {
            assert!(is_found(&doc, found), "{found}");
        }
        for lost in [
            "external_id:sr-2026",
            "external_id:117",
            "note:missed",
            "seen_date:2026-11-20",
            "urgent:true",
            "inner:hidden",
            "hidden",
            "ar",
        ] {
            assert!(!is_found(&doc, lost), "{lost}");
        }
    }

    #[test]
    fn a_patient_is_found_by_short_code_or_uuid_in_either_field_but_not_by_a_number() {
        let mut store = Store::new(Clock::new(None));
        let person =
            json!({"_id": "p-1", "type": "contact", "contact_type": "person", "patient_id": "08328"});
        store.save(person);
        for fields in [
            json!({"patient_id": "08328"}),
            json!({"patient_id": "p-1"}),
            json!({"patient_uuid": "08328"}),
            json!({"patient_id": "none", "patient_uuid": "p-1"}),
        ] {
            assert!(store.patient(&fields).is_some(), "{fields}");
        }
        assert!(store.patient(&json!({"patient_id": 8328})).is_none());
    }
}
