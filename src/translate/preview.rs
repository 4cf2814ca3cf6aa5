//! A translation for people to read: what would be sent.
use super::Translated;
use crate::domain::fhir::{Entry, transaction_bundle};
use crate::domain::follow_up::{Contact, Meaning, Subject};
use crate::domain::identifier::system;
use crate::domain::record::RecordDraft;
use serde_json::{Value, json};

pub(super) fn preview(translated: &Translated) -> Value {
    let mut entries: Vec<Entry> = Vec::new();
    for part in &translated.parts {
        match &part.meaning {
            // A request to CHT is what the message is for; what is kept beside it is not shown.
            Meaning::FollowUpRequest(request) if request.contacts.is_empty() => {
                return record(&request.record, &request.subject);
            }
            Meaning::FollowUpRequest(request) => return traced(&request.contacts, &request.subject),
            Meaning::Result(result) => return record(&result.record, &result.subject),
            Meaning::ReferralUpdate(update) => return record(&update.record, &update.subject),
            Meaning::Resources(draft) => entries.extend(draft.entries.iter().cloned()),
            Meaning::Outcome(outcome) => entries.extend(outcome.draft.entries.iter().cloned()),
            Meaning::Lapse(_) | Meaning::Ignored(_) => {}
        }
    }
    match entries.as_slice() {
        [] => json!({}),
        [one] => one.resource.clone(),
        _ => transaction_bundle(&entries),
    }
}

/// A record for each; about the index case, as long as nobody knows the contact.
fn traced(contacts: &[Contact], index: &Subject) -> Value {
    let of = |contact: &Contact| {
        let known = contact.names.iter().any(|name| name.system.starts_with("urn:cht:"));
        let own = Subject { identifiers: contact.names.clone(), ..Subject::default() };
        record(&contact.record, if known { &own } else { index })
    };
    match contacts {
        [one] => of(one),
        several => several.iter().map(of).collect(),
    }
}

/// The patient as the message names them; which person of CHT that is, identification finds.
fn record(draft: &RecordDraft, subject: &Subject) -> Value {
    let by = |system: &str| subject.identifiers.iter().find(|i| i.system == system).map(|i| i.value.clone());
    let patient = by(system::CHT_UUID).or_else(|| by(system::CHT_SHORTCODE)).unwrap_or_default();
    let mut body = draft.clone().about(&patient, 0, None).body();
    body["_meta"] = json!({"form": draft.form});
    if patient.is_empty()
        && let Some(fields) = body.as_object_mut()
    {
        fields.remove(&draft.patient_field);
    }
    body
}
