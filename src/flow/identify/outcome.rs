//! A CHW's report that answers requests: which, and what becomes of them.
use super::requester::callback_destination;
use super::reshape::{make_references_logical, subject_element};
use super::{Draughtsman, Stop, note, refused};
use crate::domain::fhir::{Entry, Target, Write, full_url};
use crate::domain::follow_up::{Kind, Outcome, State};
use crate::domain::plan::{Act, FollowUp, PartNote, Step};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

impl Draughtsman<'_> {
    pub(super) async fn outcome(&mut self, outcome: Outcome) -> Result<PartNote, Stop> {
        let subject = outcome.draft.subject.clone().unwrap_or_default();
        let person = self.link(&subject).await?;
        let answered = self.answered_by(&outcome, &person).await?;
        let mut entries = outcome.draft.entries;
        let mut homes: Vec<(String, Entry)> = Vec::new();
        let patient = entries.iter().find(|e| e.resource_type() == "Patient").map(|e| e.full_url.clone());
        for follow_up in &answered {
            let said = (outcome.outcome.as_str(), outcome.state);
            let request = with_outcome(follow_up, said, &outcome.encounter, patient.as_deref());
            based_on(&mut entries, &outcome.encounter, follow_up, &request);
            match &follow_up.home {
                Some(home) => homes.push((home.clone(), request)),
                None => entries.push(request),
            }
        }
        let encounter = entries.iter().find(|e| e.full_url == outcome.encounter).cloned();
        let first = self.plan.steps.len();
        self.send_with(entries, &homes).await?;
        self.call_back(&answered, encounter, first).await?;
        let text = match answered.len() {
            0 => "a visit; no open request asked for it".to_string(),
            n => format!("the outcome of {n} request(s)"),
        };
        let told = format!("{} {}", self.transaction.head.id, outcome.outcome);
        for mut follow_up in answered {
            follow_up.state = outcome.state;
            follow_up.told.push(told.clone());
            self.facts.follow_ups.push(follow_up);
        }
        Ok(note("outcome", None, text))
    }

    /// The requests that a report answers: the one it names, else every open one about the patient
    /// that its kind of form answers.
    pub(super) async fn answered_by(&self, outcome: &Outcome, person: &str) -> Result<Vec<FollowUp>, Stop> {
        let mut named = match &outcome.answers {
            Some(name) => self.near.journal.follow_ups_named(name).await?,
            None => Vec::new(),
        };
        named.retain(|f| f.kind == Kind::FollowUp);
        // A Task and its ServiceRequest were asked for by one record.
        let asked: Vec<&String> = named.iter().filter_map(|f| f.asked_by.as_ref()).collect();
        let mut others = self.near.journal.follow_ups_of(person).await?;
        others.retain(|f| {
            f.kind == Kind::FollowUp
                && f.asked_by.as_ref().is_some_and(|by| asked.contains(&by))
                && named.iter().all(|known| known.identifier != f.identifier)
        });
        named.extend(others);
        if !named.is_empty() && named.iter().all(|f| f.person != person) {
            return Err(Stop::Refused(refused(
                "doc.fields",
                "conflict",
                "this report is about another patient than the request that it names",
            )));
        }
        // A report that names a request answers that one or none: another form's task, say.
        if outcome.answers.is_some() {
            named.retain(|f| f.person == person);
            return Ok(named);
        }
        let mine = format!("{} ", self.transaction.head.id);
        // A report that was here before the request was does not answer it: it was edited, or verified.
        let first = self.near.journal.first_received(&self.transaction.head.id).await?;
        let mut open = self.near.journal.follow_ups_of(person).await?;
        open.retain(|f| {
            // A rerun answers again what it answered before.
            f.kind == Kind::FollowUp
                && outcome.forms.contains(&f.form)
                && first.is_none_or(|first| f.asked_at <= first)
                && (f.state.is_open() || f.told.iter().any(|told| told.starts_with(&mine)))
        });
        Ok(open)
    }

    async fn call_back(
        &mut self,
        answered: &[FollowUp],
        encounter: Option<Entry>,
        after: usize,
    ) -> Result<(), Stop> {
        let Some(encounter) = encounter else { return Ok(()) };
        let mut addresses = BTreeSet::new();
        for request in answered {
            addresses.extend(self.callback_for(request).await?);
        }
        for address in addresses {
            self.plan.steps.push(Step {
                destination: callback_destination(&address),
                act: Act::Callback {
                    address,
                    full_url: encounter.full_url.clone(),
                    resource: encounter.resource.clone(),
                },
                after: (after < self.plan.steps.len()).then_some(after),
                part: self.plan.parts.len(),
            });
        }
        Ok(())
    }
}

/// The request with its outcome.
pub(super) fn with_outcome(
    follow_up: &FollowUp,
    (outcome, state): (&str, State),
    encounter: &str,
    patient: Option<&str>,
) -> Entry {
    let kind = follow_up.resource["resourceType"].as_str().unwrap_or_default();
    let mut resource = follow_up.resource.clone();
    if follow_up.home.is_none() {
        forget_entries(&mut resource);
    }
    resource["status"] = json!(if kind == "Task" { state.task_status() } else { state.request_status() });
    if kind == "Task" {
        let output = json!({"type": {"text": "outcome"}, "valueString": outcome});
        let visit = json!({"type": {"text": "visit"}, "valueReference": {"reference": encounter}});
        let mut outputs = resource["output"].as_array().cloned().unwrap_or_default();
        outputs.extend([output, visit]);
        resource["output"] = json!(outputs);
    }
    let target = match (&follow_up.home, resource["id"].as_str()) {
        (Some(_), Some(id)) => Target::Id(format!("{kind}/{id}")),
        _ => {
            make_storable(&mut resource, follow_up, patient);
            Target::Identifier(follow_up.identifier.clone())
        }
    };
    Entry {
        full_url: full_url(kind, &follow_up.identifier),
        target,
        write: Write::Merge { keep: Vec::new() },
        resource,
    }
}

/// As it was stored: without the caller's ids, about the patient as the server has them.
pub(super) fn make_storable(resource: &mut Value, follow_up: &FollowUp, patient: Option<&str>) {
    let element = subject_element(resource);
    if let Some(fields) = resource.as_object_mut() {
        fields.remove("id");
        fields.remove("meta");
        fields.remove(element);
    }
    if let Some(patient) = patient {
        resource[element] = json!({"reference": patient});
    }
    make_references_logical(resource, &follow_up.client, &BTreeMap::new());
}

/// What it said of other entries of its Bundle is on the server, and has no name here any more.
fn forget_entries(resource: &mut Value) {
    if let Some(fields) = resource.as_object_mut() {
        fields.retain(|_, field| !names_an_entry(field));
    }
}

fn names_an_entry(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(names_an_entry),
        Value::Object(fields) => {
            fields.get("reference").and_then(Value::as_str).is_some_and(|name| name.starts_with("urn:uuid:"))
                || fields.values().any(names_an_entry)
        }
        _ => false,
    }
}

pub(super) fn based_on(entries: &mut [Entry], encounter: &str, follow_up: &FollowUp, request: &Entry) {
    if follow_up.resource["resourceType"] != "ServiceRequest" {
        return;
    }
    let reference = match (&follow_up.home, &request.target) {
        // Literal only where it is the server's own; elsewhere the request goes by its identifier.
        (Some(_), _) => json!({"type": "ServiceRequest",
            "identifier": {"system": follow_up.identifier.system, "value": follow_up.identifier.value}}),
        _ => json!({"reference": request.full_url}),
    };
    for entry in entries.iter_mut().filter(|entry| entry.full_url == encounter) {
        let mut all = entry.resource["basedOn"].as_array().cloned().unwrap_or_default();
        all.push(reference.clone());
        entry.resource["basedOn"] = json!(all);
    }
}
