//! Shows that a set of mappings does what it should: its cases, who serves what, which fields survive
//! the way there and back, and which paths no example has.
pub mod cases;
pub mod survival;
mod unseen;

use super::language::eval::Inputs;
use super::language::mistake::Mistake;
use super::{Mappings, Source};
use cases::{Case, Direction};
use serde_json::Value;
use std::collections::BTreeMap;
use survival::Field;

#[derive(Default)]
pub struct Report {
    /// What must be mended.
    pub mistakes: Vec<String>,
    /// What should be looked at.
    pub warnings: Vec<String>,
    pub cases: usize,
    /// By mapping: what survives CHT -> FHIR -> CHT (or the other way, for records) and back again.
    pub fields: BTreeMap<String, Vec<Field>>,
}

/// Runs everything that can be shown without sending anything.
pub fn prove(mappings: &Mappings) -> Report {
    let set = mappings.set();
    let mut report = Report::default();
    let (cases, broken) = cases::load(&set);
    report.mistakes.extend(broken.iter().map(ToString::to_string));
    report.cases = cases.len();
    for case in &cases {
        if let Err(why) = cases::run(mappings, case) {
            let foreign = !set.own.is_empty() && !set.own.contains(&case.mapping);
            let told = format!("{}: {why}", case.file);
            match foreign {
                // A file of the folder changes what a built-in mapping includes.
                true => report.warnings.push(told),
                false => report.mistakes.push(told),
            }
        }
        match claimed(mappings, case) {
            // What a fallback once served has a mapping of its own now.
            Some(told) if set.get(&case.mapping).is_some_and(|mapping| mapping.fallback) => {
                report.warnings.push(told)
            }
            told => report.mistakes.extend(told),
        }
    }
    for mapping in set.all() {
        let own: Vec<&Case> = cases.iter().filter(|case| case.mapping == mapping.name).collect();
        if own.is_empty() {
            let message =
                format!("it has no case; put one into {}.cases, or run translate --accept", mapping.name);
            report.warnings.push(format!("{}: {message}", mapping.file));
        }
        report.fields.insert(mapping.name.clone(), survival::fields(mappings, mapping, &own));
    }
    report.warnings.extend(unseen::paths(&set, &cases).iter().map(ToString::to_string));
    report
}

/// A case must be served by its mapping alone, or be of one that serves only who names it.
fn claimed(mappings: &Mappings, case: &Case) -> Option<String> {
    let set = mappings.set();
    if case.direction == Direction::Back || set.get(&case.mapping)?.when.is_none() {
        return None;
    }
    let source = Source { route: &case.route, body: &case.input, received: case.received };
    let claims: Vec<String> = mappings.claims(&source).unwrap_or_default();
    match claims.as_slice() {
        [] => Some(format!(
            "{}: the `when` of {} does not hold for it: nothing serves it",
            case.file, case.mapping
        )),
        [one] if *one == case.mapping => None,
        [other] => Some(format!("{}: it is served by {other} and not by {}", case.file, case.mapping)),
        several => Some(format!(
            "{}: it is served by several mappings: {}; their `when` must tell them apart",
            case.file,
            several.join(", ")
        )),
    }
}

/// The documents that a case gives to a mapping, by root.
pub(super) fn roots<'v>(documents: &'v serde_json::Map<String, Value>) -> Inputs<'v> {
    documents.iter().fold(Inputs::default(), |inputs, (name, value)| inputs.with(name, value))
}

/// `file:line:column: ...`
pub fn told(mistakes: &[Mistake]) -> Vec<String> {
    mistakes.iter().map(ToString::to_string).collect()
}
