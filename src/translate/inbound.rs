//! An EMR's request that a CHW follow a patient up: ServiceRequest or Task.
use super::values::{date, day, is_document_id, text};
use super::{Refusal, required};
use crate::config;
use crate::domain::follow_up::{FollowUpRequest, State, Subject};
use crate::domain::identifier::{Identifier, system};
use crate::domain::record::RecordDraft;
use serde_json::{Map, Value, json};

/// The other resources that came with one: `fullUrl` and resource.
pub(super) struct Around<'a>(pub Vec<(&'a str, &'a Value)>);

/// How the request came.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Door {
    Fhir,
    /// `/service-request` of the TypeScript mediator: a plain form, and `Patient/<identifier>` is an
    /// identifier.
    DropIn,
}

pub(super) fn follow_up_request(
    resource: &Value,
    around: &Around,
    door: Door,
    settings: &config::Translate,
    received: i64,
) -> Result<FollowUpRequest, Refusal> {
    let kind = resource["resourceType"].as_str().unwrap_or_default();
    let element = if kind == "Task" { "for" } else { "subject" };
    let path = format!("{kind}.{element}");
    let subject = subject_of(resource, element, around, door)
        .filter(|subject| !subject.identifiers.is_empty() || subject.reference.is_some())
        .ok_or_else(|| required(&path, "the request names no patient"))?;
    let status = resource["status"].as_str().unwrap_or_default();
    let state = if kind == "Task" { State::of_task(status) } else { State::of_request(status) };
    let state = state.ok_or_else(|| Refusal {
        path: format!("{kind}.status"),
        code: "code-invalid",
        message: "expected a status that says where the request is".into(),
    })?;
    let identifier = identifier_of(resource);
    let record = match door {
        Door::DropIn => RecordDraft {
            form: "INTEROP_FOLLOW_UP".into(),
            patient_field: "patient_uuid".into(),
            lookup_field: "patient_uuid".into(),
            fields: Map::new(),
        },
        Door::Fhir => RecordDraft {
            form: settings.follow_up_form.clone(),
            patient_field: "patient_uuid".into(),
            lookup_field: "external_id".into(),
            fields: fields(resource, &identifier, patient_of(resource, element, around), received),
        },
    };
    let requester = &resource["requester"];
    let requester =
        text(&requester["reference"]).or(text(&requester["identifier"]["value"])).map(String::from);
    Ok(FollowUpRequest { identifier, state, subject, requester, resource: resource.clone(), record })
}

/// What the CHW gets to read; what is not there is left out.
fn fields(
    resource: &Value,
    identifier: &Identifier,
    patient: Option<&Value>,
    received: i64,
) -> Map<String, Value> {
    let missed = ["/occurrenceDateTime", "/occurrencePeriod/start", "/restriction/period/end"];
    let missed = missed.iter().find_map(|path| date(resource.pointer(path)?));
    let late = missed.zip(day(received)).map(|(missed, today)| i64::from((today - missed).get_days()));
    let late = late.filter(|days: &i64| *days > 0);
    let urgent = matches!(resource["priority"].as_str(), Some("urgent" | "asap" | "stat"));
    let phone = patient.and_then(|patient| {
        let all = patient["telecom"].as_array().into_iter().flatten();
        all.filter(|t| t["system"] == "phone").find_map(|t| text(&t["value"]))
    });
    let reasons: Vec<String> = concepts(&resource["reasonCode"]);
    let program = concepts(&resource["category"]).into_iter().chain(concepts(&resource["code"])).next();
    let notes = notes(resource);
    [
        ("external_id", Some(json!(identifier.value))),
        ("program", program.map(Value::from)),
        ("reason", (!reasons.is_empty()).then(|| json!(reasons.join("; ")))),
        ("appointment_date", missed.map(|missed| json!(missed.to_string()))),
        ("days_late", late.map(Value::from)),
        ("urgent", resource["priority"].is_string().then(|| json!(urgent))),
        ("phone", phone.map(Value::from)),
        ("note", (!notes.is_empty()).then(|| json!(notes.join("\n")))),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key.to_string(), value?)))
    .collect()
}

fn notes(resource: &Value) -> Vec<&str> {
    let all = resource["note"].as_array().into_iter().flatten().filter_map(|note| text(&note["text"]));
    all.chain(["description", "patientInstruction"].iter().filter_map(|element| text(&resource[*element])))
        .collect()
}

/// CodeableConcepts in words; one or a list of them.
pub(super) fn concepts(value: &Value) -> Vec<String> {
    let all = match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(_) => vec![value],
        _ => Vec::new(),
    };
    all.into_iter()
        .filter_map(|concept| {
            let coding = &concept["coding"][0];
            text(&concept["text"]).or(text(&coding["display"])).or(text(&coding["code"])).map(String::from)
        })
        .collect()
}

/// The first identifier; without any the id, and without that the content.
pub(super) fn identifier_of(resource: &Value) -> Identifier {
    let kind = resource["resourceType"].as_str().unwrap_or_default();
    let all = resource["identifier"].as_array().into_iter().flatten();
    let first = all.filter_map(|i| Some((text(&i["system"]), text(&i["value"])?))).next();
    match (first, text(&resource["id"])) {
        (Some((given, value)), _) => Identifier::new(given.unwrap_or(system::REQUEST), value),
        (None, Some(id)) => Identifier::new(system::REQUEST, format!("{kind}/{id}")),
        (None, None) => {
            let own = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, resource.to_string().as_bytes());
            Identifier::new(system::REQUEST, own.to_string())
        }
    }
}

/// The Patient resource itself, if it came along.
fn patient_of<'a>(resource: &'a Value, element: &str, around: &'a Around) -> Option<&'a Value> {
    let reference = text(&resource[element]["reference"])?;
    if let Some(id) = reference.strip_prefix('#') {
        let mut contained = resource["contained"].as_array().into_iter().flatten();
        return contained.find(|r| r["id"] == id);
    }
    let is_meant = |(url, patient): &&(&str, &Value)| {
        let id = text(&patient["id"]).map(|id| format!("Patient/{id}"));
        patient["resourceType"] == "Patient" && (*url == reference || id.as_deref() == Some(reference))
    };
    around.0.iter().find(is_meant).map(|(_, patient)| *patient)
}

/// The patient as the element names it, with every identifier that can be had.
pub(super) fn subject_of(resource: &Value, element: &str, around: &Around, door: Door) -> Option<Subject> {
    let named = &resource[element];
    if !named.is_object() {
        return None;
    }
    let kind = resource["resourceType"].as_str().unwrap_or_default();
    let mut subject = Subject { path: format!("{kind}.{element}"), ..Subject::default() };
    subject.identifiers.extend(one_identifier(&named["identifier"]));
    if let Some(reference) = text(&named["reference"]) {
        match patient_of(resource, element, around) {
            Some(patient) => subject.identifiers.extend(patient_identifiers(patient)),
            None => read_reference(reference, door, &mut subject),
        }
    }
    subject.identifiers.sort();
    subject.identifiers.dedup();
    Some(subject)
}

/// `Patient?identifier=system|value`, `Patient/?identifier=value`, `Patient/id`.
fn read_reference(reference: &str, door: Door, subject: &mut Subject) {
    if let Some((_, query)) = reference.split_once("identifier=") {
        let query = format!("i={query}");
        let token = url::form_urlencoded::parse(query.as_bytes()).next();
        let token = token.map(|(_, token)| token.into_owned()).unwrap_or_default();
        let (system, value) = token.split_once('|').unwrap_or(("", &token));
        subject.identifiers.push(cht_aware(system, value, None));
        return;
    }
    let Some((kind, id)) = reference.rsplit_once('/') else { return };
    if kind.rsplit('/').next() != Some("Patient") {
        return;
    }
    subject.reference = Some(format!("Patient/{id}"));
    // A server's own id is a number like a short code is: only the drop-in route means an identifier.
    if is_document_id(id) || door == Door::DropIn {
        subject.identifiers.push(cht_aware("", id, None));
    }
}

pub(super) fn patient_identifiers(patient: &Value) -> Vec<Identifier> {
    patient["identifier"].as_array().into_iter().flatten().filter_map(one_identifier).collect()
}

fn one_identifier(identifier: &Value) -> Option<Identifier> {
    let kind = text(&identifier["type"]["text"]);
    Some(cht_aware(text(&identifier["system"]).unwrap_or_default(), text(&identifier["value"])?, kind))
}

/// What others call CHT's identifiers becomes ours: the peer's system, its type names, and bare values
/// that look like one.
pub(super) fn cht_aware(given: &str, value: &str, kind: Option<&str>) -> Identifier {
    let from_cht = matches!(given, "" | system::PEER_CHT)
        || matches!(kind, Some("CHT Document ID" | "CHT Patient ID" | "CHT Record ID"));
    let is_code = (4..=13).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_digit());
    if from_cht && is_document_id(value) {
        Identifier::new(system::CHT_UUID, value)
    } else if from_cht && is_code {
        Identifier::new(system::CHT_SHORTCODE, value)
    } else {
        Identifier::new(given, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> config::Translate {
        config::Translate {
            default_country: "KE".into(),
            follow_up_form: "LTFU_REQUEST".into(),
            referral_form: "REF_BACK".into(),
        }
    }

    const UUID: &str = "a54a8e4f-c505-4ed9-a6f2-eb7bdad2fb9d";

    fn of(resource: Value, door: Door) -> Result<FollowUpRequest, Refusal> {
        follow_up_request(&resource, &Around(Vec::new()), door, &settings(), 1_795_467_014_033)
    }

    #[test]
    fn every_way_to_name_a_patient() {
        for (subject, expected) in [
            (json!({"reference": format!("Patient/{UUID}")}), Identifier::new(system::CHT_UUID, UUID)),
            (
                json!({"reference": format!("Patient?identifier=cht|{UUID}")}),
                Identifier::new(system::CHT_UUID, UUID),
            ),
            (
                json!({"reference": format!("Patient/?identifier={UUID}")}),
                Identifier::new(system::CHT_UUID, UUID),
            ),
            (
                json!({"identifier": {"system": "cht", "value": "83288"}}),
                Identifier::new(system::CHT_SHORTCODE, "83288"),
            ),
            (
                json!({"identifier": {"system": system::CHT_UUID, "value": "x"}}),
                Identifier::new(system::CHT_UUID, "x"),
            ),
            (
                json!({"identifier": {"system": "urn:nupi", "value": "83288"}}),
                Identifier::new("urn:nupi", "83288"),
            ),
        ] {
            let request = of(
                json!({"resourceType": "ServiceRequest", "status": "active", "subject": subject}),
                Door::Fhir,
            );
            assert_eq!(request.expect("a request").subject.identifiers, [expected]);
        }
    }

    #[test]
    fn a_number_is_a_short_code_on_the_drop_in_route_only() {
        let body = json!({"resourceType": "ServiceRequest", "status": "active", "subject": {"reference": "Patient/83288"}});
        assert!(of(body.clone(), Door::Fhir).expect("a request").subject.identifiers.is_empty());
        let request = of(body, Door::DropIn).expect("a request");
        assert_eq!(request.subject.identifiers, [Identifier::new(system::CHT_SHORTCODE, "83288")]);
        assert_eq!(request.record.form, "INTEROP_FOLLOW_UP");
    }

    #[test]
    fn the_chw_reads_what_the_clinic_wrote() {
        let request = of(
            json!({"resourceType": "ServiceRequest", "status": "active", "priority": "urgent",
                "identifier": [{"system": "urn:emr", "value": "SR-1"}], "occurrenceDateTime": "2026-11-13",
                "category": [{"text": "HIV"}], "reasonCode": [{"coding": [{"display": "Missed ART refill"}]}],
                "note": [{"text": "Prefers the evening"}], "subject": {"reference": "#p"},
                "contained": [{"resourceType": "Patient", "id": "p", "identifier": [{"system": "cht", "value": UUID}],
                    "telecom": [{"system": "phone", "value": "0733111222"}]}]}),
            Door::Fhir,
        )
        .expect("a request");
        let fields = Value::Object(request.record.fields);
        assert_eq!(
            fields,
            json!({"external_id": "SR-1", "program": "HIV", "reason": "Missed ART refill", "appointment_date": "2026-11-13",
                "days_late": 10, "urgent": true, "phone": "0733111222", "note": "Prefers the evening"})
        );
    }

    #[test]
    fn nobody_is_no_patient() {
        let refused =
            of(json!({"resourceType": "Task", "status": "requested"}), Door::Fhir).err().expect("refused");
        assert_eq!((refused.path.as_str(), refused.code), ("Task.for", "required"));
    }
}
