//! What a mapping made, as the message's meaning.
use super::language::compile::Compiled;
use super::language::eval::{Made, Output, identifier_path};
use super::language::spec::WriteSpec;
use super::{Refusal, values::text};
use crate::domain::fhir::{Entry, Write, identifiers};
use crate::domain::follow_up::{Draft, Meaning, Outcome, State, Subject};
use crate::domain::identifier::Identifier;
use crate::domain::record::RecordDraft;

/// Of a CHT document: resources, or the outcome of a request.
pub(super) fn of_resources(mapping: &Compiled, output: Output) -> Result<Meaning, Refusal> {
    let named = |name: &Option<String>| {
        let name = name.as_ref()?;
        output.entries.iter().find(|made| made.rule.name == *name)
    };
    let subject = named(&mapping.subject).map(subject_of);
    let referral = named(&mapping.referral).map(|made| made.identifier.clone());
    let encounter = mapping.outcome.as_ref().map(|outcome| {
        let visit = output.entries.iter().find(|made| made.rule.name == outcome.encounter);
        visit.map(|made| made.full_url.clone()).unwrap_or_default()
    });
    let draft = Draft { entries: output.entries.into_iter().map(entry).collect(), subject, referral };
    Ok(match (&mapping.outcome, encounter) {
        (Some(_), Some(encounter)) => Meaning::Outcome(Outcome {
            draft,
            encounter,
            answers: output.answers,
            forms: output.forms,
            outcome: output.outcome.unwrap_or_else(|| "done".into()),
            state: state_of(output.state.as_deref())?,
        }),
        _ => Meaning::Resources(draft),
    })
}

fn state_of(status: Option<&str>) -> Result<State, Refusal> {
    let Some(status) = status else { return Ok(State::Completed) };
    State::of_task(status).ok_or_else(|| Refusal {
        path: "outcome.state".into(),
        code: "code-invalid",
        message: "expected a Task's status, such as completed or in-progress".into(),
    })
}

/// The CHT record that a mapping made.
pub(super) fn record(mapping: &Compiled, output: Output) -> Option<RecordDraft> {
    let record = mapping.record.as_ref()?;
    Some(RecordDraft {
        form: record.form.clone(),
        patient_field: record.patient_field.clone(),
        lookup_field: record.lookup_field.clone(),
        fields: output.record.unwrap_or_default(),
    })
}

fn entry(made: Made) -> Entry {
    let write = match made.rule.write {
        WriteSpec::Merge => Write::Merge { keep: made.rule.keep.clone() },
        WriteSpec::Whole => Write::Whole { keep: made.rule.keep.clone() },
        WriteSpec::Replace => Write::Replace,
        WriteSpec::Create => Write::CreateIfMissing,
    };
    Entry::new(made.identifier, write, made.resource)
}

fn subject_of(made: &Made) -> Subject {
    let identifiers = identifiers(&made.resource)
        .iter()
        .filter_map(|i| Some(Identifier::new(text(&i["system"])?, text(&i["value"])?)))
        .collect();
    let path = identifier_path(made.rule, None).unwrap_or_else(|| "doc".into());
    Subject { identifiers, reference: None, path }
}
