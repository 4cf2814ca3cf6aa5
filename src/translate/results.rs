//! What a clinic has found, given or planned, for mappings that tell it to a CHW: results, medicines, appointments,
//! stays. The resource is kept on the FHIR servers whatever becomes of this.
use super::inbound::{Around, Door, identifier_of, referred, subject_of};
use super::referral_update::{in_words, value_of};
use super::values::{concepts, text};
use crate::domain::fhir::identifiers;
use crate::domain::follow_up::{ClinicResult, Subject};
use crate::domain::identifier::{Identifier, system};
use crate::domain::record::RecordDraft;
use serde_json::{Value, json};
use std::collections::HashSet;

const TYPES: &[&str] = &["Encounter", "Observation", "DiagnosticReport", "MedicationRequest", "Appointment"];
/// Elements that name what a resource is made of.
const PARTS: [&str; 2] = ["result", "hasMember"];

/// A result, before its record is made.
pub(super) struct Found {
    pub identifier: Identifier,
    subject: Subject,
    withdrawn: bool,
    /// `message` of mappings, but for how it came.
    pub message: Value,
}

impl Found {
    pub(super) fn with(self, mapping: &str, record: RecordDraft) -> ClinicResult {
        let Self { identifier, subject, withdrawn, .. } = self;
        ClinicResult { identifier, subject, withdrawn, mapping: mapping.into(), record }
    }
}

/// What a resource says of a patient; nothing if it is none of these, is part of another one that came with it, or
/// came from CHT: whatever we make of CHT's documents goes by an identifier of CHT's.
pub(super) fn found(
    resource: &Value,
    full_url: Option<&str>,
    around: &Around,
    named: &HashSet<&str>,
) -> Option<Found> {
    let kind = text(&resource["resourceType"]).filter(|kind| TYPES.contains(kind))?;
    let of_cht = |one: &Value| {
        text(&one["system"]).is_some_and(|s| s.starts_with("urn:cht:") || system::is_ours_alone(s))
    };
    if identifiers(resource).iter().any(of_cht) || is_part(resource, full_url, named) {
        return None;
    }
    let subject = match kind {
        "Appointment" => attends(resource, around)?,
        _ => subject_of(resource, "subject", around, Door::Fhir)?,
    };
    let identifier = identifier_of(resource);
    let parts = parts(resource, around);
    let mut message = json!({"kind": "result",
        "identifier": {"system": identifier.system, "value": identifier.value},
        "interpretations": parts.iter().chain([&resource]).flat_map(|one| interpretations(one)).collect::<Vec<_>>()});
    for (key, said) in [
        ("what", what(resource, around)),
        ("value", lines(resource, &parts)),
        ("date", date(resource)),
        ("facility", facility(resource, around)),
    ] {
        if let Some(said) = said {
            message[key] = json!(said);
        }
    }
    let withdrawn = resource["status"] == "entered-in-error";
    Some(Found { identifier, subject, withdrawn, message })
}

/// What resources of a Bundle call their results: who is among them is told of by them.
pub(super) fn parts_named<'a>(around: &Around<'a>) -> HashSet<&'a str> {
    let all = around.0.iter().flat_map(|(_, other)| PARTS.map(|key| &other[key]));
    let references = all.flat_map(|references| references.as_array().into_iter().flatten());
    references.filter_map(|reference| text(&reference["reference"])).collect()
}

fn is_part(resource: &Value, full_url: Option<&str>, named: &HashSet<&str>) -> bool {
    let own = text(&resource["id"]).zip(text(&resource["resourceType"]));
    full_url.is_some_and(|url| named.contains(url))
        || own.is_some_and(|(id, kind)| named.contains(format!("{kind}/{id}").as_str()))
}

/// The Patient among those who take part.
fn attends(appointment: &Value, around: &Around) -> Option<Subject> {
    let all = appointment["participant"].as_array().into_iter().flatten().map(|one| &one["actor"]);
    let is_patient = |actor: &&Value| {
        let reference = text(&actor["reference"]).unwrap_or_default();
        let came =
            referred(appointment, reference, around).is_some_and(|one| one["resourceType"] == "Patient");
        actor["type"] == "Patient" || reference.contains("Patient/") || reference.contains("Patient?") || came
    };
    let patient = all.into_iter().find(is_patient)?;
    let subject = subject_of(
        &json!({"resourceType": "Appointment", "subject": patient,
        "contained": appointment["contained"]}),
        "subject",
        around,
        Door::Fhir,
    )?;
    Some(Subject { path: "Appointment.participant".into(), ..subject })
}

/// Its Observations that came with it.
fn parts<'a>(resource: &'a Value, around: &'a Around) -> Vec<&'a Value> {
    let all = PARTS.iter().flat_map(|key| resource[*key].as_array().into_iter().flatten());
    all.filter_map(|reference| referred(resource, text(&reference["reference"])?, around)).collect()
}

fn interpretations(resource: &Value) -> Vec<String> {
    let all = resource["interpretation"].as_array().into_iter().flatten();
    let codings = all.flat_map(|concept| concept["coding"].as_array().into_iter().flatten());
    codings.filter_map(|coding| text(&coding["code"]).map(String::from)).collect()
}

/// The name of the test, the medicine, the service.
fn what(resource: &Value, around: &Around) -> Option<String> {
    let medicine = text(&resource["medicationReference"]["reference"]).and_then(|name| {
        let medicine = referred(resource, name, around)?;
        concepts(&medicine["code"]).into_iter().next()
    });
    let named = [
        "code",
        "medicationCodeableConcept",
        "serviceType",
        "appointmentType",
        "specialty",
        "reasonCode",
        "type",
    ];
    medicine
        .or_else(|| text(&resource["medicationReference"]["display"]).map(String::from))
        .or_else(|| named.iter().find_map(|key| concepts(&resource[*key]).into_iter().next()))
}

/// What was found, each finding a line.
fn lines(resource: &Value, parts: &[&Value]) -> Option<String> {
    let mut all: Vec<String> = Vec::new();
    all.extend(text(&resource["conclusion"]).map(String::from));
    all.extend(concepts(&resource["conclusionCode"]));
    all.extend(finding(resource));
    for part in parts {
        let name = concepts(&part["code"]).into_iter().next();
        let finding = finding(part);
        all.extend(match (name, finding) {
            (Some(name), Some(finding)) => Some(format!("{name}: {finding}")),
            (name, finding) => finding.or(name),
        });
    }
    let doses = resource["dosageInstruction"].as_array().into_iter().flatten();
    all.extend(
        doses.filter_map(|dose| text(&dose["text"]).or(text(&dose["patientInstruction"])).map(String::from)),
    );
    all.extend(text(&resource["description"]).map(String::from));
    all.extend(concepts(&resource["hospitalization"]["dischargeDisposition"]));
    (!all.is_empty()).then(|| all.join("\n"))
}

/// An Observation's value, those of its components, and how they are judged.
fn finding(observation: &Value) -> Option<String> {
    let judged = |one: &Value, said: String| match concepts(&one["interpretation"]).as_slice() {
        [] => said,
        words => format!("{said} ({})", words.join(", ")),
    };
    let own = value_of(observation).and_then(in_words).map(|said| judged(observation, said));
    let components = observation["component"].as_array().into_iter().flatten().filter_map(|component| {
        let said = judged(component, in_words(value_of(component)?)?);
        Some(
            concepts(&component["code"])
                .into_iter()
                .next()
                .map_or(said.clone(), |name| format!("{name}: {said}")),
        )
    });
    let all: Vec<String> = own.into_iter().chain(components).collect();
    let absent = || concepts(&observation["dataAbsentReason"]).into_iter().next();
    if all.is_empty() { absent() } else { Some(all.join(", ")) }
}

/// When it was found, given, or will be.
fn date(resource: &Value) -> Option<String> {
    let all = [
        &resource["effectiveDateTime"],
        &resource["effectiveInstant"],
        &resource["effectivePeriod"]["end"],
        &resource["effectivePeriod"]["start"],
        &resource["issued"],
        &resource["authoredOn"],
        &resource["start"],
        &resource["period"]["end"],
        &resource["period"]["start"],
        &resource["created"],
    ];
    all.into_iter().find_map(text).map(String::from)
}

/// The name of whoever found or planned it.
fn facility(resource: &Value, around: &Around) -> Option<String> {
    let performers = resource["performer"].as_array().into_iter().flatten();
    let actors = resource["participant"].as_array().into_iter().flatten().map(|one| &one["actor"]);
    let is_person = |actor: &&Value| {
        let name = text(&actor["reference"]).unwrap_or_default();
        actor["type"] == "Patient" || name.contains("Patient/")
    };
    let all = [&resource["serviceProvider"], &resource["requester"]].into_iter();
    all.chain(performers).chain(actors.filter(|actor| !is_person(actor))).find_map(|who| {
        let named = referred(resource, text(&who["reference"]).unwrap_or_default(), around);
        let named = named.filter(|one| one["resourceType"] != "Patient");
        let name = named.and_then(|one| text(&one["name"]).or(text(&one["name"][0]["text"])));
        text(&who["display"]).or(name).map(String::from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(resource: Value, around: Vec<(&str, &Value)>) -> Option<Found> {
        let around = Around(around);
        found(&resource, None, &around, &parts_named(&around))
    }

    #[test]
    fn a_report_says_what_its_results_say() {
        let load = json!({"resourceType": "Observation", "id": "o", "status": "final", "code": {"text": "Viral load"},
            "valueQuantity": {"value": 1200, "unit": "copies/mL", "comparator": ">"},
            "interpretation": [{"text": "high", "coding": [{"code": "HH"}]}]});
        let report = json!({"resourceType": "DiagnosticReport", "status": "final", "code": {"text": "HIV viral load"},
            "conclusion": "Not suppressed", "result": [{"reference": "urn:uuid:o"}], "issued": "2026-11-20T08:00:00Z",
            "performer": [{"display": "Test Laboratory"}],
            "subject": {"identifier": {"system": "urn:cht:uuid", "value": "x"}}});
        let found = of(report.clone(), vec![("urn:uuid:o", &load)]).expect("a result").message;
        assert_eq!(found["what"], "HIV viral load");
        assert_eq!(found["value"], "Not suppressed\nViral load: > 1200 copies/mL (high)");
        assert_eq!(found["facility"], "Test Laboratory");
        assert_eq!(found["interpretations"], json!(["HH"]));
        let mut lone = load.clone();
        lone["subject"] = report["subject"].clone();
        let beside = Around(vec![("", &report)]);
        assert!(
            super::found(&lone, Some("urn:uuid:o"), &beside, &parts_named(&beside)).is_none(),
            "told by the report"
        );
        assert!(of(lone, Vec::new()).is_some());
    }

    #[test]
    fn what_came_from_cht_does_not_go_back() {
        let subject = json!({"identifier": {"system": "urn:cht:uuid", "value": "x"}});
        let visit = json!({"resourceType": "Encounter", "status": "finished", "subject": subject,
            "identifier": [{"system": "urn:cht:report", "value": "r"}]});
        assert!(of(visit, Vec::new()).is_none());
    }

    #[test]
    fn whose_an_appointment_is_stands_among_those_who_take_part() {
        let appointment = json!({"resourceType": "Appointment", "status": "noshow", "start": "2026-11-20T08:00:00Z",
            "serviceType": [{"text": "ART refill"}], "participant": [
                {"actor": {"reference": "Location/1", "display": "Test Clinic"}, "status": "accepted"},
                {"actor": {"type": "Patient", "identifier": {"system": "urn:cht:shortcode", "value": "83288"}}, "status": "accepted"}]});
        let found = of(appointment, Vec::new()).expect("a result");
        assert_eq!(found.subject.identifiers, [Identifier::new("urn:cht:shortcode", "83288")]);
        assert_eq!(
            (&found.message["what"], &found.message["facility"]),
            (&json!("ART refill"), &json!("Test Clinic"))
        );
    }
}
