//! Resources made fit for another server. Pure.
use crate::domain::fhir::Target;
use crate::domain::follow_up::{Draft, Meaning, Subject};
use crate::domain::identifier::{Identifier, system};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Identifiers without a system, and a system's own ids, are the client's: two clients' `Patient/1`
/// are two people.
pub(super) fn scoped(mut meaning: Meaning, client: &str) -> Meaning {
    let own = Own(system::own(client));
    match &mut meaning {
        Meaning::Resources(draft) => own.draft(draft),
        Meaning::Outcome(outcome) => own.draft(&mut outcome.draft),
        Meaning::FollowUpRequest(request) => {
            own.identifier(&mut request.identifier);
            own.subject(&mut request.subject);
            request.focus.iter_mut().for_each(|focus| own.identifier(focus));
            own.value(&mut request.resource);
            own.fields(&mut request.record.fields);
            for contact in &mut request.contacts {
                own.identifier(&mut contact.identifier);
                contact.names.iter_mut().for_each(|name| own.identifier(name));
                own.value(&mut contact.person);
                own.value(&mut contact.task);
                own.fields(&mut contact.record.fields);
            }
        }
        Meaning::ReferralUpdate(update) => {
            own.identifier(&mut update.referral);
            own.subject(&mut update.subject);
            own.value(&mut update.resource);
            own.fields(&mut update.record.fields);
        }
        Meaning::Result(result) => {
            own.identifier(&mut result.identifier);
            own.subject(&mut result.subject);
            own.fields(&mut result.record.fields);
        }
        Meaning::Lapse(lapse) => own.identifier(&mut lapse.identifier),
        Meaning::Ignored(_) => {}
    }
    meaning
}

/// The client's system, in place of none.
struct Own(String);

impl Own {
    fn identifier(&self, identifier: &mut Identifier) {
        if identifier.system == system::REQUEST {
            identifier.system.clone_from(&self.0);
        }
    }

    fn subject(&self, subject: &mut Subject) {
        subject.identifiers.iter_mut().for_each(|identifier| self.identifier(identifier));
    }

    fn draft(&self, draft: &mut Draft) {
        for entry in &mut draft.entries {
            if let Target::Identifier(identifier) = &mut entry.target {
                self.identifier(identifier);
            }
            self.value(&mut entry.resource);
        }
        draft.subject.iter_mut().for_each(|subject| self.subject(subject));
        draft.referral.iter_mut().for_each(|referral| self.identifier(referral));
    }

    fn value(&self, value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            Value::Object(fields) => self.fields(fields),
            _ => {}
        }
    }

    fn fields(&self, fields: &mut Map<String, Value>) {
        for (key, field) in fields {
            match key == "system" && field == system::REQUEST {
                true => *field = json!(self.0),
                false => self.value(field),
            }
        }
    }
}

/// References to what stands on the caller's side mean nothing, or somebody else, on another server:
/// those in `known` become what they are there, others a name that says whose they are.
pub(super) fn make_references_logical(value: &mut Value, client: &str, known: &BTreeMap<String, String>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| make_references_logical(item, client, known)),
        Value::Object(fields) => {
            let foreign = |reference: &&str| !reference.starts_with("urn:") && !reference.starts_with('#');
            let literal = fields.get("reference").and_then(Value::as_str).filter(foreign).map(str::to_string);
            match literal {
                Some(literal) if known.contains_key(&literal) => {
                    fields.insert("reference".into(), json!(known[&literal]));
                }
                Some(literal) => {
                    fields.remove("reference");
                    if let Some(kind) = kind_of(&literal) {
                        fields.entry("type").or_insert(json!(kind));
                    }
                    fields.entry("identifier").or_insert(logical(&literal, client));
                }
                None => {}
            }
            fields.values_mut().for_each(|field| make_references_logical(field, client, known));
        }
        _ => {}
    }
}

/// `Patient` of `Patient/1`, `https://emr.example.org/fhir/Patient/1` and `Patient?identifier=x`.
fn kind_of(reference: &str) -> Option<&str> {
    let path = reference.split('?').next()?.trim_end_matches('/');
    let kind = match reference.contains('?') {
        true => path.rsplit('/').next()?,
        false => path.rsplit('/').nth(1)?,
    };
    (kind.starts_with(|c: char| c.is_ascii_uppercase()) && kind.bytes().all(|b| b.is_ascii_alphabetic()))
        .then_some(kind)
}

/// A search by identifier names it by that.
fn logical(reference: &str, client: &str) -> Value {
    let query = reference.split_once('?').map(|(_, query)| query).unwrap_or_default();
    let token = url::form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == "identifier")
        .map(|(_, token)| token.into_owned());
    match token.as_deref().and_then(|token| token.split_once('|')) {
        Some((system, value)) if !system.is_empty() => json!({"system": system, "value": value}),
        _ => json!({"system": system::own(client), "value": reference}),
    }
}

pub(super) fn subject_element(resource: &Value) -> &'static str {
    if resource["resourceType"] == "Task" { "for" } else { "subject" }
}

pub(super) fn identifiers_of(resource: &Value) -> Vec<Identifier> {
    let all = resource["identifier"].as_array().into_iter().flatten();
    all.filter_map(Identifier::of).filter(|i| !system::is_ours_alone(&i.system)).collect()
}
