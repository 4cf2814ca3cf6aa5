//! A report in which a CHW sends the patient to a clinic: the visit, and a ServiceRequest and a Task
//! that the clinic takes from there.
use super::Refusal;
use super::values::{humanised, text};
use super::visit::{Visit, visit};
use crate::config;
use crate::domain::fhir::{Entry, Write};
use crate::domain::follow_up::Draft;
use serde_json::{Value, json};

/// When a report is a referral: its form, the answer that says so, and which answers do.
struct Rule {
    /// Empty: any form.
    form: &'static str,
    path: &'static str,
    /// Empty: any answer.
    answers: &'static [&'static str],
}

const YES: &[&str] = &["yes", "true", "1"];

const RULES: &[Rule] = &[
    // The danger signs of CHT's default forms end in this answer.
    Rule { form: "", path: "/t_danger_signs_referral_follow_up", answers: YES },
    Rule { form: "child_assessment", path: "/referred", answers: YES },
    Rule { form: "tb_contact_tracing", path: "/contact_tracing/referred", answers: YES },
    // A form made for referring: `mediator-config/cht` has one.
    Rule { form: "referral", path: "", answers: &[] },
];

pub(super) fn is_referral(doc: &Value) -> bool {
    let form = text(&doc["form"]).unwrap_or_default();
    let rules = RULES.iter().filter(|rule| rule.form.is_empty() || rule.form == form);
    rules.filter_map(|rule| Some((rule, doc["fields"].pointer(rule.path)?))).any(|(rule, answer)| {
        rule.answers.is_empty()
            || text(answer).is_some_and(|a| rule.answers.contains(&a))
            || answer == &json!(true)
    })
}

pub(super) fn referral(doc: &Value, settings: &config::Translate, received: i64) -> Result<Draft, Refusal> {
    let mut visit = visit(doc, settings, received)?;
    let request = request(doc, &visit);
    let task = task(doc, &visit, &request.full_url);
    visit.draft.entries.extend([request, task]);
    visit.draft.referral = Some(visit.report);
    Ok(visit.draft)
}

fn request(doc: &Value, visit: &Visit) -> Entry {
    let form = text(&doc["form"]).unwrap_or_default();
    let mut request = json!({
        "resourceType": "ServiceRequest",
        "identifier": [{"system": visit.report.system, "value": visit.report.value}],
        "status": "active",
        "intent": "order",
        "priority": priority(doc),
        "category": [{"coding": [{"system": "http://snomed.info/sct", "code": "3457005", "display": "Patient referral"}]}],
        "code": {"coding": [{"system": "urn:cht:form", "code": form}], "text": humanised(form)},
        "subject": {"reference": visit.patient},
        "encounter": {"reference": visit.encounter},
        "authoredOn": visit.when,
    });
    if let Some(practitioner) = &visit.practitioner {
        request["requester"] = json!({"reference": practitioner});
    }
    let reasons = reasons(doc);
    if !reasons.is_empty() {
        request["reasonCode"] = reasons.iter().map(|reason| json!({"text": reason})).collect();
    }
    let note = ["/referral/note", "/referral/notes", "/note", "/notes"].iter();
    if let Some(words) = note.filter_map(|path| text(doc["fields"].pointer(path)?)).next() {
        request["note"] = json!([{"text": words}]);
    }
    if let Some(facility) = doc["fields"].pointer("/referral/facility").and_then(text) {
        request["performer"] = json!([{"type": "Organization", "display": facility}]);
    }
    // The clinic moves it on; a corrected report must not take it back to the start.
    Entry::new(visit.report.clone(), Write::Merge { keep: vec!["status".into()] }, request)
}

fn task(doc: &Value, visit: &Visit, request: &str) -> Entry {
    let mut task = json!({
        "resourceType": "Task",
        "identifier": [{"system": visit.report.system, "value": visit.report.value}],
        "status": "requested",
        "intent": "order",
        "priority": priority(doc),
        "code": {"coding": [{"system": "http://hl7.org/fhir/CodeSystem/task-code", "code": "fulfill"}],
            "text": "See the patient whom a community health worker referred"},
        "focus": {"reference": request},
        "for": {"reference": visit.patient},
        "encounter": {"reference": visit.encounter},
        "authoredOn": visit.when,
    });
    if let Some(practitioner) = &visit.practitioner {
        task["requester"] = json!({"reference": practitioner});
    }
    let theirs = ["status", "statusReason", "businessStatus", "owner", "output", "note", "executionPeriod"];
    let keep = theirs.iter().map(|element| element.to_string()).collect();
    Entry::new(visit.report.clone(), Write::Merge { keep }, task)
}

fn priority(doc: &Value) -> &'static str {
    let urgency = ["/referral/urgency", "/urgency", "/priority"].iter();
    let urgency = urgency.filter_map(|path| text(doc["fields"].pointer(path)?)).next().unwrap_or("urgent");
    match urgency {
        "routine" | "low" | "normal" | "no" => "routine",
        "stat" | "emergency" => "stat",
        "asap" => "asap",
        _ => "urgent",
    }
}

/// What was found: the danger signs that are there, or the reason that was chosen.
fn reasons(doc: &Value) -> Vec<String> {
    if let Some(reason) = doc["fields"].pointer("/referral/reason").and_then(text) {
        return reason.split_whitespace().map(humanised).collect();
    }
    super::visit::answers(doc)
        .into_iter()
        .filter(|(path, answer)| {
            path.contains("danger_sign") && answer.as_str().is_some_and(|a| YES.contains(&a))
        })
        .filter_map(|(path, _)| path.rsplit('.').next().map(humanised))
        .take(20)
        .collect()
}
