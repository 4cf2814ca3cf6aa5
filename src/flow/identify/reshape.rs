//! Resources made fit for another server. Pure.
use crate::domain::follow_up::Meaning;
use crate::domain::identifier::{Identifier, system};
use serde_json::{Value, json};

/// Identifiers without a system, and a system's own ids, are the client's: two clients' `Patient/1`
/// are two people.
pub(super) fn scoped(meaning: Meaning, client: &str) -> Meaning {
    let Ok(mut value) = serde_json::to_value(&meaning) else { return meaning };
    let own = format!("{}:{client}", system::REQUEST);
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

/// Literal references to resources on the caller's side mean nothing on another server.
pub(super) fn make_references_logical(value: &mut Value, client: &str) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| make_references_logical(item, client)),
        Value::Object(fields) => {
            let literal = fields.get("reference").and_then(Value::as_str).map(str::to_string);
            if let Some(literal) = literal
                && !literal.starts_with("urn:uuid:")
                && !literal.starts_with('#')
                && !literal.contains("://")
            {
                fields.remove("reference");
                let kind = literal.split(['/', '?']).next().unwrap_or_default();
                if kind.chars().all(|c| c.is_ascii_alphabetic()) && !kind.is_empty() {
                    fields.entry("type").or_insert(json!(kind));
                }
                let identifier = json!({"system": format!("{}:{client}", system::REQUEST), "value": literal});
                fields.entry("identifier").or_insert(identifier);
            }
            fields.values_mut().for_each(|field| make_references_logical(field, client));
        }
        _ => {}
    }
}

pub(super) fn subject_element(resource: &Value) -> &'static str {
    if resource["resourceType"] == "Task" { "for" } else { "subject" }
}

pub(super) fn identifiers_of(resource: &Value) -> Vec<Identifier> {
    let all = resource["identifier"].as_array().into_iter().flatten();
    all.filter_map(|i| {
        let value = i["value"].as_str().filter(|v| !v.is_empty())?;
        Some(Identifier::new(i["system"].as_str().unwrap_or_default(), value))
    })
    .collect()
}
