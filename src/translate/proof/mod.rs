//! Shows that a set of mappings does what it should: its cases, who serves what, which fields survive
//! the way there and back, and which paths no example has.
pub mod cases;
mod constants;
pub mod survival;
mod unseen;

use super::language::eval::Inputs;
use super::language::mistake::Mistake;
use super::{Mappings, Source};
use cases::{Case, Direction, Wrong};
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
    report.warnings.extend(set.conformance.warnings.iter().cloned());
    report.mistakes.extend(constants::forbidden(&set).iter().map(ToString::to_string));
    for case in &cases {
        // The folder may change what a built-in mapping includes, and so what its cases become: that is
        // looked at. That what is translated now would fail then is a mistake wherever it is.
        let foreign = !set.own.is_empty() && !set.own.contains(&case.mapping);
        match cases::run(mappings, case) {
            Ok(()) => {}
            Err(Wrong::Differs(why)) if foreign => report.warnings.push(format!("{}: {why}", case.file)),
            Err(Wrong::Differs(why) | Wrong::Fails(why)) => {
                report.mistakes.push(format!("{}: {why}", case.file))
            }
        }
    }
    cases.iter().for_each(|case| claimed(mappings, case, &mut report));
    unserved(mappings, &mut report);
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

/// Who serves what: told at every start, because it takes no translation.
pub fn at_start(mappings: &Mappings) -> Vec<String> {
    let mut report = Report::default();
    for case in cases::each(&mappings.set()).flatten() {
        claimed(mappings, &case, &mut report);
    }
    unserved(mappings, &mut report);
    report.mistakes.append(&mut report.warnings);
    report.mistakes
}

/// Routes that nothing serves.
fn unserved(mappings: &Mappings, report: &mut Report) {
    let mut kinds: BTreeMap<String, (bool, String)> = BTreeMap::new();
    for case in cases::specimens().filter(|case| case.direction == Direction::Out) {
        let source = Source { route: &case.route, body: &case.input, received: case.received };
        for documents in mappings.documents(&source) {
            let kind = match documents["message"]["kind"].as_str() {
                Some("push") => documents["doc"]["type"].as_str().unwrap_or_default().to_string(),
                other => other.unwrap_or_default().to_string(),
            };
            let kind = if kind.is_empty() { String::new() } else { format!(" ({kind})") };
            let known = kinds.entry(format!("{}{kind}", super::served(&case.route)));
            let (is_served, _) = known.or_insert_with(|| (false, case.mapping.clone()));
            *is_served |= mappings.claims(&source).is_ok_and(|claims| !claims.is_empty());
        }
    }
    for (route, (_, mapping)) in kinds.into_iter().filter(|(_, (is_served, _))| !is_served) {
        let told = format!("no mapping serves what comes by {route}; the built-in {mapping} does");
        report.warnings.push(told);
    }
}

/// A case must be served by its mapping alone, or be of one that serves only who names it.
fn claimed(mappings: &Mappings, case: &Case, report: &mut Report) {
    let set = mappings.set();
    let has_when = set.get(&case.mapping).is_some_and(|mapping| mapping.when.is_some());
    if case.direction == Direction::Back || !has_when {
        return;
    }
    let source = Source { route: &case.route, body: &case.input, received: case.received };
    let claims: Vec<String> = mappings.claims(&source).unwrap_or_default();
    match claims.as_slice() {
        [] => report.mistakes.push(format!(
            "{}: the `when` of {} does not hold for it: nothing serves it",
            case.file, case.mapping
        )),
        [one] if *one == case.mapping => {}
        [other] => {
            let told = format!("{}: it is served by {other} and not by {}", case.file, case.mapping);
            // What a fallback, or a built-in mapping, once served has a mapping of its own now.
            let is_meant = set.own.contains(other) && !set.own.contains(&case.mapping)
                || set.get(&case.mapping).is_some_and(|mapping| mapping.fallback);
            if is_meant { report.warnings.push(told) } else { report.mistakes.push(told) }
        }
        several => report.mistakes.push(format!(
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
