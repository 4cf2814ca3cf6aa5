//! The last step: what the caller is told, and kept so that a repeat is told the same.
use super::ports::{Answer, Transaction};
use crate::domain::message::Route;
use crate::domain::plan::{Act, PartNote, Plan, Status, StepStatus};
use crate::translate::Refusal;
use serde_json::{Value, json};

/// The element that a refused version is told by: 412, and not 422.
pub const VERSION: &str = ".meta.versionId";

/// Of a finished transaction.
pub fn answer(transaction: &Transaction, status: Status, refusal: Option<&Refusal>) -> Answer {
    if transaction.route.is_cht() {
        return cht(&transaction.head.id, status, transaction.error.as_deref());
    }
    match status {
        // Whoever could not be told of it is an operator's business: it has been done.
        Status::Failed if refusal.is_none() && only_untold(transaction) => fhir(transaction),
        Status::Failed => failed(transaction, refusal),
        _ => fhir(transaction),
    }
}

/// All has been done but to call somebody back.
fn only_untold(transaction: &Transaction) -> bool {
    let Some(plan) = &transaction.plan else { return false };
    plan.steps.iter().zip(&transaction.progress).all(|(step, progress)| {
        progress.status == StepStatus::Done || matches!(step.act, Act::Callback { .. })
    })
}

/// CHT repeats for ever whatever is not answered 2xx, so it is told 200 whatever became of it.
pub fn cht(id: &str, status: Status, error: Option<&str>) -> Answer {
    let mut body = json!({"transaction": id, "status": status.as_str()});
    if let Some(error) = error {
        body["message"] = json!(error);
    }
    Answer { status: 200, body, location: None }
}

/// What is answered to a repeat when what it said is no longer kept.
pub fn forgotten(id: &str, is_cht: bool, status: Status) -> Answer {
    if is_cht {
        return cht(id, status, None);
    }
    let text = format!("it came before and is {}; what was made of it is no longer kept", status.as_str());
    let body = operation_outcome("information", "informational", "", &format!("{text} (transaction {id})"));
    Answer { status: 200, body, location: None }
}

fn failed(transaction: &Transaction, refusal: Option<&Refusal>) -> Answer {
    let error = transaction.error.clone().unwrap_or_default();
    let (code, path, text) = match refusal {
        Some(refusal) => (refusal.code, refusal.path.clone(), refusal.message.clone()),
        None => ("processing", String::new(), error),
    };
    let body =
        operation_outcome("error", code, &path, &format!("{text} (transaction {})", transaction.head.id));
    let status = if code == "conflict" && path.ends_with(VERSION) { 412 } else { 422 };
    Answer { status, body, location: None }
}

/// <https://hl7.org/fhir/R4/operationoutcome.html>
pub fn operation_outcome(severity: &str, code: &str, expression: &str, text: &str) -> Value {
    let mut issue = json!({"severity": severity, "code": code, "diagnostics": text});
    if !expression.is_empty() {
        issue["expression"] = json!([expression]);
    }
    json!({"resourceType": "OperationOutcome", "issue": [issue]})
}

fn fhir(transaction: &Transaction) -> Answer {
    let empty = Plan::default();
    let plan = transaction.plan.as_deref().unwrap_or(&empty);
    if transaction.route == Route::Fhir(String::new()) {
        return bundle(transaction, plan);
    }
    let Some(part) = plan.parts.first() else {
        return Answer { status: 200, body: json!({}), location: None };
    };
    if transaction.route == Route::ServiceRequest {
        return Answer { status: 201, body: subscription(transaction, part), location: None };
    }
    match named(transaction, plan, 0) {
        Some((_, location)) if part.create_only => {
            let text = format!("{location} has this identifier; if it was there before, nothing was changed");
            let body = operation_outcome("information", "informational", "", &text);
            Answer { status: 200, body, location: Some(location) }
        }
        Some((resource, location)) => Answer { status: 201, body: resource, location: Some(location) },
        None => {
            let body = operation_outcome("information", "informational", "", &part.text);
            Answer { status: 200, body, location: None }
        }
    }
}

/// A part's resource with the id by which it is known: its own, else the first destination's, else
/// the transaction's.
fn named(transaction: &Transaction, plan: &Plan, part: usize) -> Option<(Value, String)> {
    let mut resource = plan.parts.get(part)?.resource.clone()?;
    let kind = resource["resourceType"].as_str()?.to_string();
    let own = resource["id"].as_str().map(String::from);
    let given = own.or_else(|| id_given(transaction, plan, part, &kind));
    let id = given.unwrap_or_else(|| transaction.head.id.clone());
    resource["id"] = json!(id);
    Some((resource, format!("{kind}/{id}")))
}

fn id_given(transaction: &Transaction, plan: &Plan, part: usize, kind: &str) -> Option<String> {
    if let Some(name) = plan.parts.get(part).and_then(|part| part.full_url.as_ref()) {
        let reference = transaction.progress.iter().find_map(|progress| progress.ids.get(name))?;
        return reference.rsplit('/').next().map(String::from);
    }
    plan.steps.iter().zip(&transaction.progress).filter(|(step, _)| step.part == part).find_map(
        |(step, progress)| {
            let Act::Fhir { entries } = &step.act else { return None };
            let entry = entries.iter().rev().find(|entry| entry.resource_type() == kind)?;
            let reference = progress.ids.get(&entry.full_url)?;
            reference.rsplit('/').next().map(String::from)
        },
    )
}

/// The kind of a part that is told of beside another one of its entry.
pub const RESULT: &str = "result";

/// One answer an entry, in the order of the request (<https://hl7.org/fhir/R4/http.html#transaction-response>).
fn bundle(transaction: &Transaction, plan: &Plan) -> Answer {
    let mut parts: Vec<(usize, &PartNote)> = plan.parts.iter().enumerate().collect();
    parts.sort_by_key(|(_, part)| part.entry);
    let mut entries: Vec<Value> = Vec::new();
    for (index, part) in parts {
        let outcome = operation_outcome("information", "informational", "", &part.text);
        // What a CHW is told of an entry is said beside what became of it.
        if part.kind == RESULT
            && let Some(issues) =
                entries.last_mut().and_then(|last| last["response"]["outcome"]["issue"].as_array_mut())
        {
            issues.push(outcome["issue"][0].clone());
            continue;
        }
        let mut response = json!({"status": "200 OK", "outcome": outcome});
        if let Some((_, location)) = named(transaction, plan, index) {
            if !part.create_only {
                response["status"] = json!("201 Created");
            }
            response["location"] = json!(location);
        }
        entries.push(json!({"response": response}));
    }
    let mut body = json!({"resourceType": "Bundle", "type": "transaction-response", "entry": entries});
    if entries.is_empty()
        && let Some(fields) = body.as_object_mut()
    {
        fields.remove("entry");
    }
    Answer { status: 200, body, location: None }
}

/// The TypeScript mediator answers with the Subscription it made; callers read its id. Ours stands
/// for the same promise: the Encounter is PUT to the endpoint.
fn subscription(transaction: &Transaction, part: &PartNote) -> Value {
    let subject = part.resource.as_ref().map(|r| &r["subject"]).cloned().unwrap_or_default();
    let patient = subject["reference"].as_str().unwrap_or_default();
    let patient = patient.rsplit(['/', '=', '|']).next().unwrap_or_default();
    json!({"resourceType": "Subscription", "id": transaction.head.id, "status": "active",
        "reason": "outcome of a follow-up request", "criteria": format!("Encounter?identifier={patient}"),
        "channel": {"type": "rest-hook", "payload": "application/fhir+json"}})
}
