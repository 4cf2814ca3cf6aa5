//! A CHW's report that answers requests: which, and what becomes of them.
use super::request::{as_stored, without_entries};
use super::requester::callback_destination;
use super::reshape::{make_references_logical, subject_element};
use super::{Draughtsman, Stop, note, refused};
use crate::domain::fhir::Entry;
use crate::domain::follow_up::{FollowUp, Happening, Kind, Outcome};
use crate::domain::plan::{Act, PartNote, Step};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

impl Draughtsman<'_> {
    pub(super) async fn outcome(&mut self, outcome: Outcome) -> Result<PartNote, Stop> {
        let subject = outcome.draft.subject.clone().unwrap_or_default();
        let person = self.link(&subject).await?;
        let mut answered = self.answered_by(&outcome, &person).await?;
        let mut entries = outcome.draft.entries.clone();
        let mut homes: Vec<(String, Entry)> = Vec::new();
        let patient = entries.iter().find(|e| e.resource_type() == "Patient").map(|e| e.full_url.clone());
        let told = format!("{} {}", self.transaction.head.id, outcome.outcome);
        for follow_up in &mut answered {
            self.answer(follow_up, &outcome);
            follow_up.told.push(told.clone());
            let request = with_outcome(follow_up, &outcome, patient.as_deref());
            based_on(&mut entries, &outcome.encounter, follow_up, &request);
            match &follow_up.home {
                Some(home) => homes.push((home.clone(), request)),
                None => entries.push(request),
            }
        }
        let encounter = entries.iter().find(|e| e.full_url == outcome.encounter).cloned();
        let first = self.plan.steps.len();
        self.send_with(entries, &homes).await?;
        let after = (first < self.plan.steps.len()).then_some(first);
        if let Some(encounter) = &encounter {
            self.call_back(&answered, encounter, after).await?;
            self.announce_visit(&answered, encounter, after).await?;
        }
        for follow_up in &answered {
            self.announce(follow_up, after).await?;
        }
        let contacts: Vec<FollowUp> = answered.iter().filter(|one| one.index.is_some()).cloned().collect();
        let text = match answered.len() {
            0 => "a visit; no open request asked for it".to_string(),
            n => format!("the outcome of {n} request(s)"),
        };
        self.facts.follow_ups.extend(answered);
        self.finish_indexes(&contacts).await?;
        Ok(note("outcome", None, text))
    }

    /// What was withdrawn or refused stays so: what a CHW found all the same is kept beside it.
    fn answer(&self, request: &mut FollowUp, outcome: &Outcome) {
        let event = self.event(Some(outcome.outcome.clone()));
        if !request.happen(Happening::to(outcome.state), event.clone()) && request.state.is_void() {
            request.happen(Happening::Late, event);
        }
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
        let mut others = self.near.journal.follow_ups_of(person).await?;
        others.retain(|f| {
            named.iter().any(|known| known.is_one_with(f))
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
        encounter: &Entry,
        after: Option<usize>,
    ) -> Result<(), Stop> {
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
                    subscription: None,
                },
                after,
                needs: None,
                part: self.plan.parts.len(),
            });
        }
        Ok(())
    }
}

/// The request with its outcome.
fn with_outcome(follow_up: &FollowUp, outcome: &Outcome, patient: Option<&str>) -> Entry {
    let mut entry = as_stored(&without_entries(follow_up), patient);
    if follow_up.resource_type() == "Task" {
        let said = json!({"type": {"text": "outcome"}, "valueString": outcome.outcome});
        let visit = json!({"type": {"text": "visit"}, "valueReference": {"reference": outcome.encounter}});
        let mut outputs = entry.resource["output"].as_array().cloned().unwrap_or_default();
        outputs.extend([said, visit]);
        entry.resource["output"] = json!(outputs);
    }
    entry
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
pub(super) fn forget_entries(resource: &mut Value) {
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
