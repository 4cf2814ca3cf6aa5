//! A CHT person: Patient, or Practitioner if it is somebody who cares for patients.
use super::values::{date, gender, human_name, phone, text};
use super::{Refusal, missing};
use crate::config;
use crate::domain::fhir::{Entry, Write};
use crate::domain::follow_up::{Draft, Subject};
use crate::domain::identifier::{Identifier, system};
use serde_json::{Map, Value, json};

/// Roles of those who care for patients; everybody else in CHT is one.
const CARERS: &[&str] = &["chw", "chw_supervisor", "nurse", "clinician", "manager", "midwife"];

/// Identifiers that deployments keep beside CHT's own.
const FURTHER: &[(&str, &str)] =
    &[("nupi", "urn:cht:nupi"), ("national_id", "urn:cht:national-id"), ("upi", "urn:cht:upi")];

pub(super) fn is_person(doc: &Value) -> bool {
    doc["type"] == "person" || (doc["type"] == "contact" && doc["contact_type"] == "person")
}

pub(super) fn is_carer(doc: &Value) -> bool {
    text(&doc["role"]).is_some_and(|role| CARERS.contains(&role))
}

/// The Patient of a person document.
pub(super) fn patient(doc: &Value, settings: &config::Translate) -> Result<Draft, Refusal> {
    let subject = subject(doc, "doc").ok_or_else(|| missing("doc._id"))?;
    let entry = patient_entry(doc, &subject, settings);
    Ok(Draft { entries: vec![entry], subject: Some(subject), referral: None })
}

pub(super) fn practitioner(doc: &Value, settings: &config::Translate) -> Result<Draft, Refusal> {
    let id = text(&doc["_id"]).ok_or_else(|| missing("doc._id"))?;
    Ok(Draft {
        entries: vec![practitioner_entry(id, doc, settings, Write::Merge { keep: vec![] })],
        ..Draft::default()
    })
}

/// Every identifier of a person document.
pub(super) fn subject(doc: &Value, path: &str) -> Option<Subject> {
    let uuid = text(&doc["_id"])?;
    let mut identifiers = vec![Identifier::new(system::CHT_UUID, uuid)];
    let own = [("patient_id", system::CHT_SHORTCODE), ("external_id", system::CHT_EXTERNAL_ID)];
    for (key, system) in own.iter().chain(FURTHER) {
        identifiers.extend(text(&doc[*key]).map(|value| Identifier::new(*system, value)));
    }
    Some(Subject { identifiers, reference: None, path: format!("{path}._id") })
}

pub(super) fn patient_entry(doc: &Value, subject: &Subject, settings: &config::Translate) -> Entry {
    let mut patient = Map::new();
    patient.insert("resourceType".into(), json!("Patient"));
    patient.insert("identifier".into(), identifiers_of(subject));
    patient.insert("active".into(), json!(text(&doc["muted"]).is_none()));
    put(&mut patient, "name", name_of(doc));
    put(&mut patient, "telecom", telecom(doc, settings));
    put(&mut patient, "gender", gender(&doc["sex"]).map(|g| json!(g)));
    put(&mut patient, "birthDate", birth_date(doc).map(|d| json!(d)));
    put(&mut patient, "deceasedDateTime", date(&doc["date_of_death"]).map(|d| json!(d.to_string())));
    put(&mut patient, "address", address(doc));
    Entry::new(subject.identifiers[0].clone(), Write::Merge { keep: vec![] }, Value::Object(patient))
}

/// All that is known of a patient whom a report only names.
pub(super) fn bare_patient(subject: &Subject) -> Entry {
    let resource = json!({"resourceType": "Patient", "identifier": identifiers_of(subject)});
    Entry::new(subject.identifiers[0].clone(), Write::CreateIfMissing, resource)
}

/// Somebody who cares for patients. `write` says whether we know all of them or a name only.
pub(super) fn practitioner_entry(id: &str, doc: &Value, settings: &config::Translate, write: Write) -> Entry {
    let identifier = Identifier::new(system::CHT_UUID, id);
    let mut practitioner = Map::new();
    practitioner.insert("resourceType".into(), json!("Practitioner"));
    practitioner
        .insert("identifier".into(), json!([{"system": identifier.system, "value": identifier.value}]));
    put(&mut practitioner, "name", name_of(doc));
    put(&mut practitioner, "telecom", telecom(doc, settings));
    put(&mut practitioner, "gender", gender(&doc["sex"]).map(|g| json!(g)));
    put(&mut practitioner, "birthDate", birth_date(doc).map(|d| json!(d)));
    Entry::new(identifier, write, Value::Object(practitioner))
}

pub(super) fn identifiers_of(subject: &Subject) -> Value {
    subject.identifiers.iter().map(|i| json!({"system": i.system, "value": i.value})).collect()
}

fn name_of(doc: &Value) -> Option<Value> {
    let mut names = vec![human_name(text(&doc["name"])?)];
    names.extend(text(&doc["short_name"]).map(|short| json!({"use": "nickname", "text": short})));
    Some(json!(names))
}

fn telecom(doc: &Value, settings: &config::Translate) -> Option<Value> {
    let phones: Vec<Value> = ["phone", "phone_alternate"]
        .iter()
        .enumerate()
        .filter_map(|(i, key)| {
            let number = phone(text(&doc[*key])?, &settings.default_country);
            Some(json!({"system": "phone", "value": number, "rank": i + 1}))
        })
        .collect();
    (!phones.is_empty()).then(|| json!(phones))
}

/// An estimated date is only known to the year. `ephemeral_dob.dob_approx` is never asked: for an
/// exact date it is the day of entry.
fn birth_date(doc: &Value) -> Option<String> {
    let born = date(&doc["date_of_birth"])?;
    Some(match text(&doc["date_of_birth_method"]) {
        Some("approx") => format!("{:04}", born.year()),
        _ => born.to_string(),
    })
}

/// Where they live, by the names of the places above them.
fn address(doc: &Value) -> Option<Value> {
    let mut names = Vec::new();
    let mut place = &doc["parent"];
    while place.is_object() && names.len() < 8 {
        names.extend(text(&place["name"]));
        place = &place["parent"];
    }
    (!names.is_empty()).then(|| json!([{"use": "home", "text": names.join(", ")}]))
}

fn put(resource: &mut Map<String, Value>, element: &str, value: Option<Value>) {
    if let Some(value) = value {
        resource.insert(element.into(), value);
    }
}
