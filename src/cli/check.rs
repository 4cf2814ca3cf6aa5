//! `check`: everything that can be verified without running.
use crate::config;
use crate::house;
use crate::translate::Mappings;
use crate::translate::proof::survival::{Field, Survives};
use crate::translate::proof::{self, Report};
use clap::Args;
use std::path::Path;
use std::process::ExitCode;

#[derive(Args)]
pub(super) struct Options {
    /// Name each element that survives, too, of every mapping or of the one named.
    #[arg(long, num_args = 0..=1, default_missing_value = "")]
    fields: Option<String>,
    /// Only mistakes and warnings.
    #[arg(long, short)]
    quiet: bool,
}

pub(super) fn run(file: Option<&Path>, options: &Options) -> ExitCode {
    let mut mistakes: Vec<String> = Vec::new();
    let mut warnings: Vec<String> = Vec::new();
    let mut said: Vec<String> = Vec::new();
    match config::load(file, std::env::vars()) {
        Err(errors) => mistakes.extend(errors.iter().map(ToString::to_string)),
        Ok(settings) => {
            warnings.extend(config::warnings(&settings).iter().map(ToString::to_string));
            said.push("configuration: read".into());
            said.push(format!("journal: {}", house::journal_keys(&settings).kept()));
            match Mappings::new(&settings.translate) {
                Err(found) => mistakes.extend(proof::told(&found)),
                Ok(mappings) => {
                    let report = proof::prove(&mappings);
                    said.extend(summary(&mappings, &report, options));
                    let (all, own) = mappings.set().conformance.count();
                    said.push(format!(
                        "profiles, ValueSets, CodeSystems and ConceptMaps: {all}, {own} of them yours"
                    ));
                    mistakes.extend(report.mistakes);
                    warnings.extend(report.warnings);
                    let unknown = house::unknown_names(&settings, &mappings);
                    mistakes
                        .extend(unknown.iter().map(|(key, why)| config::mistake(file, key, why).to_string()));
                }
            }
        }
    }
    if !options.quiet {
        said.iter().for_each(|line| say!("{line}"));
    }
    warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    mistakes.iter().for_each(|mistake| eprintln!("{mistake}"));
    match mistakes.len() {
        0 => {
            if !options.quiet {
                say!("all of it holds; {} warning(s)", warnings.len());
            }
            ExitCode::SUCCESS
        }
        count => {
            eprintln!("{count} mistake(s), {} warning(s)", warnings.len());
            ExitCode::FAILURE
        }
    }
}

/// A paragraph a mapping.
fn summary(mappings: &Mappings, report: &Report, options: &Options) -> Vec<String> {
    let set = mappings.set();
    let mut lines = Vec::new();
    // Yours last, next to what is told of them.
    let mut all: Vec<_> = report.fields.iter().collect();
    all.sort_by_key(|(name, _)| set.own.contains(*name));
    for (name, fields) in all {
        let origin = if set.own.contains(name) { "yours" } else { "built in" };
        let title = set.get(name).map(|mapping| mapping.title.as_str()).unwrap_or_default();
        lines.push(format!("\n{name} ({origin}, {}): {title}", set.version(name)));
        let is_record = set.get(name).is_some_and(|mapping| mapping.record.is_some());
        let full = options.fields.as_ref().is_some_and(|wanted| wanted.is_empty() || wanted == name);
        if let Some(why) = set.get(name).and_then(|mapping| mapping.one_way.as_ref()) {
            lines.push(format!("  is not read backwards: {why}"));
        }
        lines.extend(survival(fields, is_record, full));
    }
    lines.push(format!("\nmappings: {}; cases: {}", report.fields.len(), report.cases));
    lines
}

/// Both ways, each with what survives, and what does not by its reason.
fn survival(fields: &[Field], is_record: bool, full: bool) -> Vec<String> {
    let ways = match is_record {
        true => ["FHIR -> CHT -> FHIR", "CHT -> FHIR -> CHT"],
        false => ["CHT -> FHIR -> CHT", "FHIR -> CHT -> FHIR"],
    };
    let mut lines = Vec::new();
    for (of_source, way) in [true, false].into_iter().zip(ways) {
        let fields: Vec<&Field> = fields.iter().filter(|field| field.of_source == of_source).collect();
        let kept: Vec<&str> =
            fields.iter().filter(|f| f.survives == Survives::Yes).map(|f| f.path.as_str()).collect();
        if !fields.is_empty() {
            // Elements of what is made are many; `--fields` names them.
            let named = if full || of_source && !kept.is_empty() { ": " } else { "" };
            let names = if named.is_empty() { String::new() } else { kept.join(", ") };
            lines.push(format!("  {way}: {} of {} survive{named}{names}", kept.len(), fields.len()));
        }
        let mut lost: Vec<(String, Vec<&str>)> = Vec::new();
        for field in fields {
            let why = match &field.survives {
                Survives::Yes => continue,
                Survives::Partly(why) => format!("survives in {why}"),
                Survives::No(why) => format!("does not survive: {why}"),
                Survives::Unseen => "no case has it".into(),
            };
            match lost.iter_mut().find(|(known, _)| *known == why) {
                Some((_, paths)) => paths.push(&field.path),
                None => lost.push((why, vec![&field.path])),
            }
        }
        lines.extend(lost.into_iter().map(|(why, paths)| format!("    {}: {why}", paths.join(", "))));
    }
    lines
}
