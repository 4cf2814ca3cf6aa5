//! The bodies of the TypeScript mediator's routes (peer-routes.md): accepted with all their
//! oddities, and made valid R4.
use super::person::{bare_patient, identifiers_of, patient};
use super::values::{humanised, is_document_id, pruned, reported, text};
use super::{Refusal, missing};
use crate::config;
use crate::domain::fhir::{Entry, Write, full_url};
use crate::domain::follow_up::{Draft, Subject};
use crate::domain::identifier::{Identifier, system};
use serde_json::{Value, json};

/// A FHIR resource as CHT's outbound builds it.
pub(super) fn resource(kind: &str, body: &Value, received: i64) -> Result<Draft, Refusal> {
    let mut resource = pruned(body).unwrap_or_else(|| json!({}));
    resource["resourceType"] = json!(kind);
    resource["identifier"] = identifiers(&resource["identifier"]);
    match kind {
        "Patient" => named_patient(resource),
        "Practitioner" => practitioner(resource),
        "Encounter" => encounter(resource, received),
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

/// Its identifier is the patient's, and it carries no date: its own identity is that patient on that
/// day, which is what CHT's repeats of a push have in common.
fn encounter(mut encounter: Value, received: i64) -> Result<Draft, Refusal> {
    let reference = text(&encounter["subject"]["reference"]).unwrap_or_default();
    let named = reference.rsplit(['/', '=', '|']).next().filter(|id| !id.is_empty()).map(String::from);
    let id = named.or_else(|| first_identifier(&encounter).map(|i| i.value));
    let id = id.ok_or_else(|| missing("Encounter.subject.reference"))?;
    let subject = patient_named(&id, "Encounter.subject.reference");
    let when = reported(&Value::Null, received);
    let content = format!("{} {encounter} {}", subject.identifiers[0].token(), &when[..10.min(when.len())]);
    let own = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, content.as_bytes());
    let own = Identifier::new(system::CHT_REPORT, own.to_string());
    let patient = bare_patient(&subject);
    encounter["identifier"] = json!([{"system": own.system, "value": own.value}]);
    encounter["subject"] = json!({"reference": patient.full_url});
    encounter["class"] = class(&encounter["class"]);
    if encounter["status"].is_null() {
        encounter["status"] = json!("finished");
    }
    if encounter["period"].is_null() {
        encounter["period"] = json!({"start": when});
    }
    let entry = Entry::new(own, Write::Merge { keep: vec![] }, encounter);
    Ok(Draft { entries: vec![patient, entry], subject: Some(subject), referral: None })
}

fn class(value: &Value) -> Value {
    if value.is_object() {
        return value.clone();
    }
    let (code, display) = match text(value).unwrap_or_default() {
        "home" | "home health" | "HH" => ("HH", "home health"),
        "inpatient" | "IMP" => ("IMP", "inpatient encounter"),
        "emergency" | "EMER" => ("EMER", "emergency"),
        "virtual" | "VR" => ("VR", "virtual"),
        _ => ("AMB", "ambulatory"),
    };
    json!({"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": code, "display": display})
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

/// `/cht/patient`: some fields of a person document.
pub(super) fn cht_patient(body: &Value, settings: &config::Translate) -> Result<Draft, Refusal> {
    patient(&body["doc"], settings)
}

/// `/cht/patient_ids`: the short code that CHT gave to a patient from elsewhere. `_id` is the record's
/// and not the person's.
pub(super) fn patient_ids(body: &Value) -> Result<Draft, Refusal> {
    let doc = &body["doc"];
    let external = text(&doc["external_id"]).ok_or_else(|| missing("doc.external_id"))?;
    let shortcode = text(&doc["patient_id"]).ok_or_else(|| missing("doc.patient_id"))?;
    let subject = Subject {
        identifiers: vec![
            Identifier::new(system::CHT_EXTERNAL_ID, external),
            Identifier::new(system::CHT_SHORTCODE, shortcode),
        ],
        reference: None,
        path: "doc.external_id".into(),
    };
    let resource = json!({"resourceType": "Patient", "identifier": identifiers_of(&subject)});
    let entry = Entry::new(subject.identifiers[0].clone(), Write::Merge { keep: vec![] }, resource);
    Ok(Draft { entries: vec![entry], subject: Some(subject), referral: None })
}

/// `/cht/encounter`: a visit with the answers that the outbound configuration picked.
pub(super) fn cht_encounter(body: &Value, received: i64) -> Result<Draft, Refusal> {
    let id = text(&body["id"]).ok_or_else(|| missing("id"))?;
    let patient = text(&body["patient_uuid"]).ok_or_else(|| missing("patient_uuid"))?;
    let subject = patient_named(patient, "patient_uuid");
    let patient = bare_patient(&subject);
    let report = Identifier::new(system::CHT_REPORT, id);
    let when = reported(body, received);
    let encounter_url = full_url("Encounter", &report);
    let encounter = json!({
        "resourceType": "Encounter",
        "identifier": [{"system": report.system, "value": report.value}],
        "status": "finished",
        "class": class(&Value::Null),
        "type": [{"text": "Community health worker visit"}],
        "subject": {"reference": patient.full_url},
        "period": {"start": when, "end": when},
    });
    let patient_url = patient.full_url.clone();
    let mut entries = vec![patient, Entry::new(report.clone(), Write::Merge { keep: vec![] }, encounter)];
    for (i, observed) in body["observations"].as_array().into_iter().flatten().enumerate() {
        if let Some((element, value)) = observed_value(observed) {
            entries.push(observation(
                &report,
                i,
                observed,
                element,
                value,
                &patient_url,
                &encounter_url,
                &when,
            ));
        }
    }
    Ok(Draft { entries, subject: Some(subject), referral: None })
}

/// The value and its element; none where the question was not answered: `false` for a code that does
/// not apply, `""`, nothing, or a unit without a number.
fn observed_value(observed: &Value) -> Option<(&'static str, Value)> {
    if let Some(code) = text(&observed["valueCode"]) {
        return Some(("valueCodeableConcept", json!({"coding": [{"code": code}]})));
    }
    if let Some(words) = text(&observed["valueString"]) {
        return Some(("valueString", json!(words)));
    }
    if let Some(when) = super::values::date(&observed["valueDateTime"]) {
        return Some(("valueDateTime", json!(when.to_string())));
    }
    if observed["valueQuantity"]["value"].is_number() {
        return pruned(&observed["valueQuantity"]).map(|quantity| ("valueQuantity", quantity));
    }
    let plain = [
        ("valueBoolean", observed["valueBoolean"].is_boolean()),
        ("valueInteger", observed["valueInteger"].is_i64()),
    ];
    if let Some((element, _)) = plain.into_iter().find(|(_, there)| *there) {
        return Some((element, observed[element].clone()));
    }
    let concept = pruned(&observed["valueCodeableConcept"]).filter(Value::is_object)?;
    Some(("valueCodeableConcept", concept))
}

#[expect(clippy::too_many_arguments, reason = "an Observation's elements, each from elsewhere")]
fn observation(
    report: &Identifier,
    index: usize,
    observed: &Value,
    element: &str,
    value: Value,
    patient: &str,
    encounter: &str,
    when: &str,
) -> Entry {
    let code = text(&observed["code"]).unwrap_or("unknown");
    let label = text(&observed["label"]).map_or_else(|| humanised(code), String::from);
    let identifier = Identifier::new(&report.system, format!("{}#{index}", report.value));
    let mut observation = json!({
        "resourceType": "Observation",
        "identifier": [{"system": identifier.system, "value": identifier.value}],
        "status": "final",
        "code": {"coding": [{"code": code}], "text": label},
        "subject": {"reference": patient},
        "encounter": {"reference": encounter},
        "effectiveDateTime": when,
    });
    observation[element] = value;
    Entry::new(identifier, Write::Replace, observation)
}

fn patient_named(id: &str, path: &str) -> Subject {
    let system = if is_document_id(id) { system::CHT_UUID } else { system::CHT_SHORTCODE };
    Subject { identifiers: vec![Identifier::new(system, id)], reference: None, path: path.into() }
}
