//! The bodies of the TypeScript mediator's routes (peer-routes.md): accepted with all their
//! oddities, and made valid R4.
use super::values::{is_document_id, pruned, text};
use super::{Refusal, missing};
use crate::domain::fhir::{Entry, Write};
use crate::domain::follow_up::{Draft, Subject};
use crate::domain::identifier::{Identifier, system};
use serde_json::{Value, json};

/// A FHIR resource as CHT's outbound builds it.
pub(super) fn resource(kind: &str, body: &Value) -> Result<Draft, Refusal> {
    let mut resource = pruned(body).unwrap_or_else(|| json!({}));
    resource["resourceType"] = json!(kind);
    resource["identifier"] = identifiers(&resource["identifier"]);
    match kind {
        "Patient" => named_patient(resource),
        "Practitioner" => practitioner(resource),
        "Endpoint" => endpoint(resource),
        _ => organization(kind, resource),
    }
}

/// One or several, bare or as a list; the peer's system and `cht/` prefix become ours.
fn identifiers(value: &Value) -> Value {
    let all = match value {
        Value::Array(items) => items.clone(),
        one @ Value::Object(_) => vec![one.clone()],
        _ => Vec::new(),
    };
    let mut kept: Vec<Value> = Vec::new();
    for mut identifier in all {
        let Some(value) = text(&identifier["value"]).map(String::from) else { continue };
        let value = value.strip_prefix("cht/").unwrap_or(&value).to_string();
        let given = text(&identifier["system"]).unwrap_or_default();
        if matches!(given, "" | system::PEER_CHT) {
            let ours = if is_document_id(&value) { system::CHT_UUID } else { system::REQUEST };
            identifier["system"] = json!(ours);
        }
        identifier["value"] = json!(value);
        kept.push(identifier);
    }
    json!(kept)
}

fn first_identifier(resource: &Value) -> Option<Identifier> {
    let first = &resource["identifier"][0];
    Some(Identifier::new(text(&first["system"])?, text(&first["value"])?))
}

fn all_identifiers(resource: &Value) -> Vec<Identifier> {
    let all = resource["identifier"].as_array().into_iter().flatten();
    all.filter_map(|i| Some(Identifier::new(text(&i["system"])?, text(&i["value"])?))).collect()
}

/// The whole name stands in `family`; which part of it is which nobody knows, so `text` keeps it.
fn names(resource: &mut Value) {
    let Some(names) = resource["name"].as_array_mut() else { return };
    names.retain(Value::is_object);
    for name in names {
        let family = text(&name["family"]).unwrap_or_default().to_string();
        let given: Vec<&str> = name["given"].as_array().into_iter().flatten().filter_map(text).collect();
        let whole: Vec<&str> =
            given.iter().copied().chain([family.as_str()]).filter(|part| !part.is_empty()).collect();
        let whole = whole.join(" ");
        if text(&name["text"]).is_none() && !whole.is_empty() {
            name["text"] = json!(whole);
        }
        if let Some(fields) = name.as_object_mut() {
            fields.remove("system");
        }
    }
}

fn named_patient(mut patient: Value) -> Result<Draft, Refusal> {
    let target = first_identifier(&patient).ok_or_else(|| missing("Patient.identifier"))?;
    names(&mut patient);
    let subject = Subject {
        identifiers: all_identifiers(&patient),
        reference: None,
        path: "Patient.identifier".into(),
    };
    let entry = Entry::new(target, Write::Merge { keep: vec![] }, patient);
    Ok(Draft { entries: vec![entry], subject: Some(subject), referral: None })
}

fn practitioner(mut practitioner: Value) -> Result<Draft, Refusal> {
    let target = first_identifier(&practitioner).ok_or_else(|| missing("Practitioner.identifier"))?;
    names(&mut practitioner);
    Ok(Draft {
        entries: vec![Entry::new(target, Write::Merge { keep: vec![] }, practitioner)],
        ..Draft::default()
    })
}

fn organization(kind: &str, mut resource: Value) -> Result<Draft, Refusal> {
    let target = first_identifier(&resource).ok_or_else(|| missing(&format!("{kind}.identifier")))?;
    if let Some(first) = resource["name"].as_array().and_then(|names| names.first()).cloned() {
        resource["name"] = first;
    }
    if kind == "Organization" && resource["active"].is_null() {
        resource["active"] = json!(true);
    }
    own_references(&mut resource["endpoint"]);
    if resource["endpoint"].is_null()
        && let Some(fields) = resource.as_object_mut()
    {
        fields.remove("endpoint");
    }
    Ok(Draft {
        entries: vec![Entry::new(target, Write::Merge { keep: vec![] }, resource)],
        ..Draft::default()
    })
}

/// `Endpoint/<identifier>`: an identifier, whatever it looks like.
fn own_references(endpoints: &mut Value) {
    for endpoint in endpoints.as_array_mut().into_iter().flatten() {
        let Some(value) =
            text(&endpoint["reference"]).and_then(|r| r.rsplit(['/', '=', '|']).next()).map(String::from)
        else {
            continue;
        };
        let system = if is_document_id(&value) { system::CHT_UUID } else { system::REQUEST };
        *endpoint = json!({"type": "Endpoint", "identifier": {"system": system, "value": value}});
    }
}

fn endpoint(mut endpoint: Value) -> Result<Draft, Refusal> {
    let target = first_identifier(&endpoint).ok_or_else(|| missing("Endpoint.identifier"))?;
    text(&endpoint["address"]).ok_or_else(|| missing("Endpoint.address"))?;
    let defaults = [
        ("status", json!("active")),
        (
            "connectionType",
            json!({"system": "http://terminology.hl7.org/CodeSystem/endpoint-connection-type", "code": "hl7-fhir-rest"}),
        ),
        ("payloadType", json!([{"text": "application/fhir+json"}])),
    ];
    for (element, value) in defaults {
        if endpoint[element].is_null() {
            endpoint[element] = value;
        }
    }
    if endpoint["payloadType"].is_object() {
        endpoint["payloadType"] = json!([endpoint["payloadType"]]);
    }
    Ok(Draft {
        entries: vec![Entry::new(target, Write::Merge { keep: vec![] }, endpoint)],
        ..Draft::default()
    })
}
