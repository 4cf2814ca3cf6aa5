//! Resources made fit for another server. Pure.
use crate::domain::follow_up::Meaning;
use crate::domain::identifier::{Identifier, system};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Identifiers without a system, and a system's own ids, are the client's: two clients' `Patient/1`
/// are two people.
pub(super) fn scoped(meaning: Meaning, client: &str) -> Meaning {
    let Ok(mut value) = serde_json::to_value(&meaning) else { return meaning };
    let own = system::own(client);
    if !replace_system(&mut value, &own) {
        return meaning;
    }
    serde_json::from_value(value).unwrap_or(meaning)
}

pub(super) fn replace_system(value: &mut Value, own: &str) -> bool {
    match value {
        Value::Array(items) => {
            items.iter_mut().map(|item| replace_system(item, own)).filter(|changed| *changed).count() > 0
        }
        Value::Object(fields) => {
            let mut any = false;
            for (key, field) in fields {
                if key == "system" && field == system::REQUEST {
                    *field = json!(own);
                    any = true;
                } else {
                    any = replace_system(field, own) || any;
                }
            }
            any
        }
        _ => false,
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
