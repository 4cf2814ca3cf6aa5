//! A resource that is kept on the FHIR servers as it came.
use super::Part;
use super::inbound::{Around, Door, cht_aware, identifier_of, patient_identifiers, subject_of};
use super::values::text;
use crate::domain::fhir::{Entry, Write, identifiers, set_identifiers, take_create_only};
use crate::domain::follow_up::{Draft, Meaning, Subject};
use crate::domain::identifier::{Identifier, system};
use serde_json::{Value, json};
use std::collections::HashMap;

/// `url` is where it stands on its sender's side, or the Bundle's name for it.
pub(super) fn store(resource: &Value, url: Option<&str>, around: &Around) -> Draft {
    let kind = resource["resourceType"].as_str().unwrap_or_default();
    let mut stored = resource.clone();
    let create_only = take_create_only(&mut stored);
    name_our_way(&mut stored, kind == "Patient");
    let target = identifier_of(&stored);
    let subject = match kind {
        "Patient" => Some(Subject {
            identifiers: patient_identifiers(&stored, Door::Fhir)
                .into_iter()
                .map(of_its_sender)
                .chain(own_id(resource, url))
                .collect(),
            reference: None,
            path: "Patient.identifier".into(),
        }),
        "RelatedPerson" => subject_of(resource, "patient", around, Door::Fhir),
        _ => subject_of(resource, "subject", around, Door::Fhir),
    };
    carry(&mut stored, &target);
    let write = if create_only { Write::CreateIfMissing } else { write_of(kind) };
    let mut entry = Entry::new(target, write, stored);
    if let Some(url) = url.filter(|url| url.starts_with("urn:uuid:")) {
        entry.full_url = url.to_string();
    }
    Draft { entries: vec![entry], subject, referral: None }
}

/// Without a system it is the sender's own.
fn of_its_sender(identifier: Identifier) -> Identifier {
    match identifier.system.is_empty() {
        true => Identifier::new(system::REQUEST, identifier.value),
        false => identifier,
    }
}

/// The sender's own id of a patient, where the sender vouches for it: later messages may name the
/// patient by it. An id in the body of a POST means nothing.
fn own_id(patient: &Value, url: Option<&str>) -> Vec<Identifier> {
    let (Some(id), Some(url)) = (text(&patient["id"]), url) else { return Vec::new() };
    let own = format!("Patient/{id}");
    let names: Vec<&str> = match url {
        url if url == own => vec![url],
        url if url.ends_with(&format!("/{own}")) => vec![url, &own],
        _ => Vec::new(),
    };
    names.into_iter().map(|name| Identifier::new(system::REQUEST, name)).collect()
}

/// References between the entries of a Bundle, by `fullUrl` or by type and id, become those between the
/// entries that are sent; a request is sent apart and named by its identifier.
pub(super) fn name_each_other(parts: &mut [Part], bundle: &[&Value]) {
    let mut names: HashMap<String, Value> = HashMap::new();
    for part in parts.iter() {
        let Some(came) = part.entry.and_then(|i| bundle.get(i)) else { continue };
        let kind = came["resource"]["resourceType"].as_str().unwrap_or_default();
        let reference = match &part.meaning {
            Meaning::Resources(draft) => {
                draft.entries.last().map(|entry| json!({"reference": entry.full_url}))
            }
            Meaning::FollowUpRequest(request) => Some(json!({"type": kind,
                "identifier": {"system": request.identifier.system, "value": request.identifier.value}})),
            _ => None,
        };
        let Some(reference) = reference else { continue };
        let id = text(&came["resource"]["id"]).map(|id| format!("{kind}/{id}"));
        let names_of = text(&came["fullUrl"]).map(String::from).into_iter().chain(id);
        names_of.for_each(|name| drop(names.insert(name, reference.clone())));
    }
    for part in parts {
        match &mut part.meaning {
            Meaning::Resources(draft) => {
                draft.entries.iter_mut().for_each(|entry| rename(&mut entry.resource, &names));
            }
            Meaning::FollowUpRequest(request) => rename(&mut request.resource, &names),
            _ => {}
        }
    }
}

fn rename(value: &mut Value, names: &HashMap<String, Value>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, names)),
        Value::Object(fields) => {
            let known = fields.get("reference").and_then(Value::as_str).and_then(|name| names.get(name));
            if let Some(Value::Object(known)) = known {
                fields.remove("reference");
                fields.extend(known.clone());
            }
            fields.values_mut().for_each(|field| rename(field, names));
        }
        _ => {}
    }
}

/// What others may have added to stays; what is one record of one moment is replaced.
fn write_of(kind: &str) -> Write {
    match kind {
        "Encounter"
        | "Observation"
        | "QuestionnaireResponse"
        | "Communication"
        | "DiagnosticReport"
        | "MedicationRequest"
        | "Appointment"
        | "Task"
        | "ServiceRequest" => Write::Replace,
        _ => Write::Merge { keep: Vec::new() },
    }
}

fn name_our_way(resource: &mut Value, is_patient: bool) {
    for identifier in resource["identifier"].as_array_mut().into_iter().flatten() {
        let Some(value) = text(&identifier["value"]).map(String::from) else { continue };
        let given = text(&identifier["system"]).unwrap_or_default();
        if is_patient {
            let ours = cht_aware(given, &value, text(&identifier["type"]["text"]), Door::Fhir);
            if !ours.system.is_empty() {
                identifier["system"] = json!(ours.system);
            }
        }
    }
}

/// The identifier that it goes by is among its own; ids and versions are the server's.
fn carry(resource: &mut Value, target: &Identifier) {
    let mut all = identifiers(resource).to_vec();
    let same = |i: &&mut Value| {
        text(&i["value"]) == Some(&target.value) && text(&i["system"]).is_none_or(|s| s == target.system)
    };
    match all.iter_mut().find(same) {
        Some(identifier) => identifier["system"] = json!(target.system),
        None => all.insert(0, json!({"system": target.system, "value": target.value})),
    }
    set_identifiers(resource, all);
    if let Some(fields) = resource.as_object_mut() {
        fields.remove("id");
        if let Some(meta) = fields.get_mut("meta").and_then(Value::as_object_mut) {
            meta.remove("versionId");
            meta.remove("lastUpdated");
        }
        if fields.get("meta").is_some_and(|meta| meta.as_object().is_some_and(serde_json::Map::is_empty)) {
            fields.remove("meta");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fhir::Target;

    #[test]
    fn it_goes_by_its_identifier_and_keeps_no_foreign_id() {
        let patient = json!({"resourceType": "Patient", "id": "7", "meta": {"versionId": "3", "lastUpdated": "x"},
            "identifier": [{"system": "urn:nupi", "value": "N1"}]});
        let draft = store(&patient, None, &Around(Vec::new()));
        assert!(draft.entries[0].target == Target::Identifier(Identifier::new("urn:nupi", "N1")));
        assert!(
            draft.entries[0].resource.get("id").is_none() && draft.entries[0].resource.get("meta").is_none()
        );
    }

    #[test]
    fn a_number_without_a_system_is_no_short_code_of_cht() {
        let patient = json!({"resourceType": "Patient", "identifier": [{"value": "83288"}]});
        let draft = store(&patient, None, &Around(Vec::new()));
        assert_eq!(draft.entries[0].resource["identifier"][0]["system"], system::REQUEST);
        assert_eq!(
            draft.subject.map(|s| s.identifiers),
            Some(vec![Identifier::new(system::REQUEST, "83288")])
        );
    }

    #[test]
    fn a_type_with_one_identifier_keeps_one() {
        let answers = json!({"resourceType": "QuestionnaireResponse", "id": "7", "status": "completed"});
        let draft = store(&answers, None, &Around(Vec::new()));
        let expected = json!({"system": system::REQUEST, "value": "QuestionnaireResponse/7"});
        assert_eq!(draft.entries[0].resource["identifier"], expected);
        let named =
            json!({"resourceType": "QuestionnaireResponse", "identifier": {"system": "s", "value": "1"}});
        let draft = store(&named, None, &Around(Vec::new()));
        assert_eq!(draft.entries[0].resource["identifier"], named["identifier"]);
        assert!(draft.entries[0].target == Target::Identifier(Identifier::new("s", "1")));
    }

    #[test]
    fn without_an_identifier_by_its_id() {
        let draft = store(&json!({"resourceType": "Encounter", "id": "7"}), None, &Around(Vec::new()));
        assert_eq!(
            draft.entries[0].resource["identifier"][0],
            json!({"system": system::REQUEST, "value": "Encounter/7"})
        );
    }
}
