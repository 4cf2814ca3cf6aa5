//! Whom a request to trace contacts names: RelatedPersons and Patients, contained or beside it in the same Bundle.
use super::inbound::{Around, Door, patient_identifiers};
use super::values::{text, whole_name};
use crate::domain::fhir::{CANONICAL, identifiers};
use crate::domain::identifier::Identifier;
use serde_json::{Value, json};

/// A contact of a request, as the mapping sees it and as a person.
pub(super) struct Contact {
    /// Of the request for this one: the same each time.
    pub identifier: Identifier,
    /// The request as if it were for this contact alone, who is its only RelatedPerson.
    pub request: Value,
    /// By what the sender calls them.
    pub names: Vec<Identifier>,
    /// A Patient, with what is known of them.
    pub person: Value,
}

/// Those of a request that is called so.
pub(super) fn contacts(request: &Value, called: &Identifier, around: &Around) -> Vec<Contact> {
    let mut found: Vec<(String, &Value)> = Vec::new();
    for one in contained(request).filter(|one| is_contact(request, one)) {
        found.push((format!("#{}", one["id"].as_str().unwrap_or_default()), one));
    }
    for (url, one) in around.0.iter().filter(|(_, one)| is_contact(request, one)) {
        if one["resourceType"] == "RelatedPerson" || is_named(request, url, one) {
            found.push((url.to_string(), one));
        }
    }
    let mut keys: Vec<String> = Vec::new();
    found
        .into_iter()
        .enumerate()
        .map(|(i, (url, one))| {
            let mut key = key_of(one).unwrap_or_else(|| match url.as_str() {
                "" | "#" => format!("{}", i + 1),
                url => url.trim_start_matches('#').to_string(),
            });
            // Two systems may give the same number to two people.
            if keys.contains(&key) {
                let system = identifiers(one).iter().find_map(Identifier::of).map(|own| own.system);
                key = format!("{key}|{}", system.unwrap_or_else(|| (i + 1).to_string()));
            }
            keys.push(key.clone());
            let identifier = Identifier::new(&called.system, format!("{}#{key}", called.value));
            Contact {
                request: alone(request, one, &identifier),
                identifier,
                names: names(one),
                person: person(one),
            }
        })
        .collect()
}

fn contained(request: &Value) -> impl Iterator<Item = &Value> {
    request["contained"].as_array().into_iter().flatten()
}

/// A RelatedPerson, or a Patient who is not the index case.
fn is_contact(request: &Value, one: &Value) -> bool {
    match one["resourceType"].as_str() {
        Some("RelatedPerson") => true,
        Some("Patient") => {
            let element = if request["resourceType"] == "Task" { "for" } else { "subject" };
            let index = &request[element];
            let own = one["id"].as_str().map(|id| [format!("#{id}"), format!("Patient/{id}")]);
            let by_reference = text(&index["reference"])
                .is_some_and(|name| own.is_some_and(|own| own.iter().any(|own| own == name)));
            let by_name = Identifier::of(&index["identifier"]).is_some_and(|name| names(one).contains(&name));
            !by_reference && !by_name && identifiers(one).len() + usize::from(!one["name"].is_null()) > 0
        }
        _ => false,
    }
}

/// A Patient beside the request may be anybody: only one that the request names is a contact.
fn is_named(request: &Value, url: &str, one: &Value) -> bool {
    let own = one["id"].as_str().map(|id| format!("Patient/{id}"));
    let inputs = request["input"].as_array().into_iter().flatten().map(|input| &input["valueReference"]);
    let named = request["supportingInfo"].as_array().into_iter().flatten().chain(inputs);
    let mut names = named.filter_map(|reference| text(&reference["reference"]));
    names.any(|name| (!url.is_empty() && name == url) || own.as_deref() == Some(name))
}

fn names(one: &Value) -> Vec<Identifier> {
    patient_identifiers(one, Door::Fhir)
}

fn key_of(one: &Value) -> Option<String> {
    identifiers(one).iter().find_map(Identifier::of).map(|own| own.value)
}

/// Nobody else's name is in what is made for this one.
fn alone(request: &Value, one: &Value, identifier: &Identifier) -> Value {
    let mut own = request.clone();
    let mut related = one.clone();
    if one["resourceType"] == "Patient" {
        related = json!({"resourceType": "RelatedPerson", "id": one["id"], "identifier": one["identifier"],
            "name": one["name"], "telecom": one["telecom"], "gender": one["gender"], "birthDate": one["birthDate"],
            "address": one["address"]});
        if let Some(fields) = related.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
    }
    let others = contained(request).filter(|other| !is_contact(request, other)).cloned();
    own["contained"] = others.chain([related]).collect();
    let mut name = json!({"value": identifier.value});
    if !identifier.system.is_empty() {
        name["system"] = identifier.system.clone().into();
    }
    own["identifier"] = json!([name]);
    own
}

fn person(one: &Value) -> Value {
    let mut person = json!({"resourceType": "Patient"});
    for element in ["identifier", "name", "telecom", "gender", "birthDate", "address"] {
        if !one[element].is_null() {
            person[element] = one[element].clone();
        }
    }
    if person["name"][0]["text"].is_null()
        && let Some(name) = one["name"].get(0).and_then(whole_name)
    {
        person["name"][0]["text"] = name.into();
    }
    person
}

/// The Task that a contact's tracing is, for FHIR servers: of the request, about the contact.
pub(super) fn task(request: &Value, called: &Identifier, contact: &Contact) -> Value {
    let kind = request["resourceType"].as_str().unwrap_or_default();
    let mut task = json!({"resourceType": "Task", "status": "requested", "intent": "order",
        "identifier": contact.request["identifier"],
        "code": {"coding": [{"system": format!("{CANONICAL}CodeSystem/request-kind"), "code": "contact-tracing",
            "display": "Contact tracing"}]},
        "focus": {"type": kind, "identifier": {"system": called.system, "value": called.value}}});
    for element in ["priority", "authoredOn", "requester"] {
        if !request[element].is_null() {
            task[element] = request[element].clone();
        }
    }
    task
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called() -> Identifier {
        Identifier::new("urn:emr:requests", "CT-1")
    }

    #[test]
    fn each_is_alone_in_a_request_of_its_own() {
        let request = json!({"resourceType": "ServiceRequest", "identifier": [{"system": "urn:emr:requests", "value": "CT-1"}],
            "subject": {"identifier": {"system": "urn:mrn", "value": "index"}},
            "contained": [{"resourceType": "RelatedPerson", "id": "a", "name": [{"given": ["Otieno"], "family": "Ouma"}]},
                {"resourceType": "Patient", "id": "b", "identifier": [{"system": "urn:mrn", "value": "M-2"}], "name": [{"text": "Akoth"}]},
                {"resourceType": "Patient", "id": "i", "identifier": [{"system": "urn:mrn", "value": "index"}]},
                {"resourceType": "Encounter", "id": "e"}]});
        let found = contacts(&request, &called(), &Around(Vec::new()));
        let keys: Vec<&str> = found.iter().map(|contact| contact.identifier.value.as_str()).collect();
        assert_eq!(keys, ["CT-1#a", "CT-1#M-2"]);
        assert!(!found[0].request.to_string().contains("Akoth"));
        assert_eq!(found[1].request["contained"][2]["resourceType"], "RelatedPerson");
        assert_eq!(found[0].person["name"][0]["text"], "Otieno Ouma");
        assert_eq!(found[1].names, [Identifier::new("urn:mrn", "M-2")]);
    }

    #[test]
    fn beside_it_only_who_is_named_is_a_contact() {
        let request = json!({"resourceType": "ServiceRequest", "subject": {"reference": "urn:uuid:i"},
            "supportingInfo": [{"reference": "urn:uuid:p"}]});
        let patient = |value: &str| json!({"resourceType": "Patient", "identifier": [{"value": value}]});
        let (index, named, other) = (patient("i"), patient("p"), patient("o"));
        let related = json!({"resourceType": "RelatedPerson", "identifier": [{"value": "r"}]});
        let around = Around(vec![
            ("urn:uuid:i", &index),
            ("urn:uuid:p", &named),
            ("urn:uuid:o", &other),
            ("urn:uuid:r", &related),
        ]);
        let found = contacts(&request, &called(), &around);
        let keys: Vec<&str> = found.iter().map(|contact| contact.identifier.value.as_str()).collect();
        assert_eq!(keys, ["CT-1#p", "CT-1#r"]);
    }
}
