//! A report in which a CHW says what came of a request to find or see somebody.
use super::Refusal;
use super::values::text;
use super::visit::visit;
use crate::config;
use crate::domain::follow_up::Outcome;
use serde_json::Value;

/// A form whose reports answer requests.
struct Rule {
    form: &'static str,
    /// Records that they answer; the configured follow-up form besides.
    answers: &'static [&'static str],
    /// Where the outcome stands; the first that is answered counts.
    outcome: &'static [&'static str],
}

const RULES: &[Rule] = &[
    // The form that `mediator-config/cht` has.
    Rule {
        form: "ltfu_follow_up",
        answers: &[],
        outcome: &["/outcome", "/follow_up/outcome", "/g_follow_up/outcome"],
    },
    // The TypeScript mediator's.
    Rule {
        form: "interop_follow_up",
        answers: &["INTEROP_FOLLOW_UP"],
        outcome: &["/vaccination_details/interop_follow_up"],
    },
    Rule {
        form: "trace_follow_up",
        answers: &["TRACE"],
        outcome: &["/trace_details/trace_outcomes", "/trace_details/patient_found", "/patient_found"],
    },
];

pub(super) fn is_outcome(doc: &Value) -> bool {
    rule(doc).is_some()
}

fn rule(doc: &Value) -> Option<&'static Rule> {
    let form = text(&doc["form"])?;
    RULES.iter().find(|rule| rule.form == form)
}

pub(super) fn outcome(doc: &Value, settings: &config::Translate, received: i64) -> Result<Outcome, Refusal> {
    let visit = visit(doc, settings, received)?;
    let (answers, paths) = rule(doc).map(|rule| (rule.answers, rule.outcome)).unwrap_or_default();
    let mut forms: Vec<String> = answers.iter().map(|form| form.to_string()).collect();
    forms.push(settings.follow_up_form.clone());
    let outcome = paths.iter().find_map(|path| text(doc["fields"].pointer(path)?)).unwrap_or("done");
    Ok(Outcome {
        draft: visit.draft,
        encounter: visit.encounter,
        answers: names(doc),
        forms,
        outcome: outcome.to_string(),
    })
}

/// The request that the report names: by its identifier, or by the record that raised the task.
fn names(doc: &Value) -> Option<String> {
    let fields = &doc["fields"];
    let source = (fields["inputs"]["source"] == "task").then_some(&fields["inputs"]["source_id"]);
    let own = [&fields["request_id"], &fields["external_id"]];
    own.into_iter().chain(source).find_map(text).map(String::from)
}
