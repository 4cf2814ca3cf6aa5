//! The bodies of the TypeScript mediator's routes (peer-routes.md): accepted with all their
//! oddities, and made valid R4.
use super::values::{human_name, is_document_id, known_date, pruned, text};
use super::{Refusal, missing};
use crate::domain::fhir::{Entry, Write};
use crate::domain::follow_up::{Draft, Subject};
use crate::domain::identifier::{Identifier, system};
use jiff::tz::TimeZone;
use serde_json::{Value, json};

/// A FHIR resource as CHT's outbound builds it.
pub(super) fn resource(kind: &str, body: &Value, zone: &TimeZone) -> Result<Draft, Refusal> {
    let mut resource = pruned(body).unwrap_or_else(|| json!({}));
    resource["resourceType"] = json!(kind);
    let named_by_peer = is_from_peer(&resource["identifier"]);
    resource["identifier"] = identifiers(&resource["identifier"]);
    if matches!(kind, "Patient" | "Practitioner") {
        names(&mut resource, named_by_peer);
        // CHT writes some dates with a time; what is no date at all is refused with its path.
        if let Some(date) = known_date(&resource["birthDate"], zone) {
            resource["birthDate"] = json!(date);
        }
    }
    match kind {
        "Patient" => named_patient(resource),
        "Practitioner" => practitioner(resource),
        "Endpoint" => endpoint(resource),
        _ => organization(kind, resource),
    }
}

/// Whether a configuration made for the TypeScript mediator wrote it.
fn is_from_peer(identifier: &Value) -> bool {
    let all = match identifier {
        Value::Array(items) => items.as_slice(),
        one => std::slice::from_ref(one),
    };
    let is_peers = |i: &Value| {
        i["system"] == system::PEER_CHT || text(&i["value"]).is_some_and(|value| value.starts_with("cht/"))
    };
    all.iter().any(is_peers)
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

/// The peer's configurations write the whole name as `family`, and the short name by which people call
/// somebody as `given`. Of others' names the text is made of the parts.
fn names(resource: &mut Value, named_by_peer: bool) {
    let Some(names) = resource["name"].as_array_mut() else { return };
    names.retain(Value::is_object);
    let mut nicknames = Vec::new();
    for name in names.iter_mut() {
        let family = text(&name["family"]).unwrap_or_default().to_string();
        let given: Vec<&str> = name["given"].as_array().into_iter().flatten().filter_map(text).collect();
        let given = given.join(" ");
        if named_by_peer && !family.is_empty() && text(&name["text"]).is_none() {
            *name = human_name(&family, false);
            nicknames.extend((!given.is_empty()).then(|| json!({"use": "nickname", "text": given})));
            continue;
        }
        let whole = format!("{given} {family}");
        if text(&name["text"]).is_none() && !whole.trim().is_empty() {
            name["text"] = json!(whole.trim());
        }
        if let Some(fields) = name.as_object_mut() {
            fields.remove("system");
        }
    }
    names.append(&mut nicknames);
}

fn named_patient(patient: Value) -> Result<Draft, Refusal> {
    let target = first_identifier(&patient).ok_or_else(|| missing("Patient.identifier"))?;
    let subject = Subject {
        identifiers: all_identifiers(&patient),
        reference: None,
        path: "Patient.identifier".into(),
    };
    let entry = Entry::new(target, Write::Merge { keep: vec![] }, patient);
    Ok(Draft { entries: vec![entry], subject: Some(subject), referral: None })
}

fn practitioner(practitioner: Value) -> Result<Draft, Refusal> {
    let target = first_identifier(&practitioner).ok_or_else(|| missing("Practitioner.identifier"))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn patient(body: Value) -> Value {
        let draft = resource("Patient", &body, &TimeZone::UTC).map_err(|refusal| refusal.to_string());
        draft.expect("a patient").entries.remove(0).resource
    }

    #[test]
    fn the_peer_writes_the_whole_name_as_family() {
        let made = patient(
            json!({"identifier": [{"system": "cht", "value": "a54a8e4f-c505-4ed9-a6f2-eb7bdad2fb9d"}],
            "name": [{"use": "official", "family": "Achieng Otieno", "given": ["Achi"]}], "birthDate": "1992-11-23T00:00:00.000Z"}),
        );
        assert_eq!(
            made["name"],
            json!([{"use": "official", "text": "Achieng Otieno", "family": "Otieno", "given": ["Achieng"]},
                {"use": "nickname", "text": "Achi"}])
        );
        assert_eq!(made["birthDate"], "1992-11-23");
    }

    #[test]
    fn others_names_are_made_of_their_parts() {
        let made = patient(json!({"identifier": [{"system": "urn:mrn", "value": "1"}],
            "name": [{"family": "García López", "given": ["María"]}]}));
        assert_eq!(made["name"][0]["text"], "María García López");
        assert_eq!(made["name"][0]["family"], "García López");
    }
}
