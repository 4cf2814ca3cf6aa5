//! A CHW's report about a patient: Patient, Encounter, and an Observation for every answered
//! question. Referrals and outcomes of follow-ups are visits with more to them.
use super::person::{bare_patient, patient_entry, practitioner_entry, subject};
use super::values::{humanised, is_document_id, reported, text};
use super::{Refusal, missing};
use crate::config;
use crate::domain::fhir::{Entry, Write};
use crate::domain::follow_up::{Draft, Subject};
use crate::domain::identifier::{Identifier, system};
use serde_json::{Value, json};

/// The parts of a visit that others refer to.
pub(super) struct Visit {
    pub draft: Draft,
    pub report: Identifier,
    pub patient: String,
    pub practitioner: Option<String>,
    pub encounter: String,
    pub when: String,
}

/// An app form's report: one that a CHW filled about somebody.
pub(super) fn is_app_report(doc: &Value) -> bool {
    doc["type"] == "data_record"
        && (text(&doc["content_type"]).is_some() || doc["fields"]["inputs"].is_object())
}

pub(super) fn visit(doc: &Value, settings: &config::Translate, received: i64) -> Result<Visit, Refusal> {
    let id = text(&doc["_id"]).ok_or_else(|| missing("doc._id"))?;
    let form = text(&doc["form"]).ok_or_else(|| missing("doc.form"))?;
    let report = Identifier::new(system::CHT_REPORT, id);
    let (subject, patient) = patient_of(doc, settings)?;
    let when = reported(doc, received);
    let practitioner = practitioner_of(doc, settings);
    let encounter = encounter(&report, form, doc, &patient.full_url, practitioner.as_ref(), &when);
    let (patient_url, encounter_url) = (patient.full_url.clone(), encounter.full_url.clone());
    let practitioner_url = practitioner.as_ref().map(|entry| entry.full_url.clone());
    let mut entries = vec![patient];
    entries.extend(practitioner);
    entries.push(encounter);
    for (path, answer) in answers(doc) {
        entries.push(observation(&report, form, &path, &answer, &patient_url, &encounter_url, &when));
    }
    Ok(Visit {
        draft: Draft { entries, subject: Some(subject), referral: None },
        report,
        patient: patient_url,
        practitioner: practitioner_url,
        encounter: encounter_url,
        when,
    })
}

/// The hydrated patient, else whom the fields name.
fn patient_of(doc: &Value, settings: &config::Translate) -> Result<(Subject, Entry), Refusal> {
    if let Some(subject) = subject(&doc["patient"], "doc.patient") {
        let entry = patient_entry(&doc["patient"], &subject, settings);
        return Ok((subject, entry));
    }
    let fields = &doc["fields"];
    let places = [
        ("doc.fields.inputs.contact._id", &fields["inputs"]["contact"]["_id"]),
        ("doc.fields.patient_uuid", &fields["patient_uuid"]),
        ("doc.fields.patient_id", &fields["patient_id"]),
    ];
    let Some((path, id)) = places.iter().find_map(|(path, value)| Some((*path, text(value)?))) else {
        return Err(missing("doc.fields.patient_id"));
    };
    let system = if is_document_id(id) { system::CHT_UUID } else { system::CHT_SHORTCODE };
    let subject =
        Subject { identifiers: vec![Identifier::new(system, id)], reference: None, path: path.into() };
    let entry = bare_patient(&subject);
    Ok((subject, entry))
}

/// Who made the report. Their own document says more of them, so they are only made if missing.
fn practitioner_of(doc: &Value, settings: &config::Translate) -> Option<Entry> {
    let id = text(&doc["contact"]["_id"])?;
    text(&doc["contact"]["name"])?;
    Some(practitioner_entry(id, &doc["contact"], settings, Write::CreateIfMissing))
}

fn encounter(
    report: &Identifier,
    form: &str,
    doc: &Value,
    patient: &str,
    practitioner: Option<&Entry>,
    when: &str,
) -> Entry {
    let mut encounter = json!({
        "resourceType": "Encounter",
        "identifier": [{"system": report.system, "value": report.value}],
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "HH", "display": "home health"},
        "type": [{"coding": [{"system": "urn:cht:form", "code": form}], "text": humanised(form)}],
        "subject": {"reference": patient},
        "period": {"start": when, "end": when},
    });
    if let Some(practitioner) = practitioner {
        encounter["participant"] = json!([{"individual": {"reference": practitioner.full_url}}]);
    }
    if let Some(place) = text(&doc["contact"]["parent"]["_id"]) {
        encounter["serviceProvider"] =
            json!({"type": "Organization", "identifier": {"system": system::CHT_PLACE, "value": place}});
    }
    Entry::new(report.clone(), Write::Merge { keep: vec![] }, encounter)
}

/// Groups that say how a form was filled, not what was answered.
const NOT_ANSWERS: &[&str] = &["inputs", "meta", "patient_id", "patient_uuid", "patient_name", "instanceID"];

/// Every answered question with its dotted path. Nothing that was written is left out.
pub(super) fn answers(doc: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for (key, value) in doc["fields"].as_object().into_iter().flatten() {
        if !NOT_ANSWERS.contains(&key.as_str()) {
            collect(value, key, &mut found);
        }
    }
    found
}

fn collect(value: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, field)| collect(field, &format!("{path}.{key}"), found))
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, item)| collect(item, &format!("{path}.{i}"), found));
        }
        Value::Null => {}
        Value::String(_) if text(value).is_none() => {}
        answer => found.push((path.to_string(), answer.clone())),
    }
}

fn observation(
    report: &Identifier,
    form: &str,
    path: &str,
    answer: &Value,
    patient: &str,
    encounter: &str,
    when: &str,
) -> Entry {
    let identifier = Identifier::new(&report.system, format!("{}#{path}", report.value));
    let name = path.rsplit('.').find(|part| part.parse::<usize>().is_err()).unwrap_or(path);
    let mut observation = json!({
        "resourceType": "Observation",
        "identifier": [{"system": identifier.system, "value": identifier.value}],
        "status": "final",
        "code": {"coding": [{"system": format!("urn:cht:form:{form}"), "code": path}], "text": humanised(name)},
        "subject": {"reference": patient},
        "encounter": {"reference": encounter},
        "effectiveDateTime": when,
    });
    match answer {
        Value::Bool(yes) => observation["valueBoolean"] = json!(yes),
        Value::Number(number) => observation["valueQuantity"] = json!({"value": number}),
        Value::String(words) => observation["valueString"] = json!(words.trim()),
        _ => {}
    }
    Entry::new(identifier, Write::Replace, observation)
}
