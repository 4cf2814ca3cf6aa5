//! `translate`.
use super::fail;
use crate::config::Settings;
use crate::domain::follow_up::Meaning;
use crate::domain::message::Route;
use crate::translate::{Mappings, Source, check_fhir, guess_route};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Args)]
pub(super) struct Options {
    /// The mapping; without it, the one that claims the file's content.
    #[arg(long)]
    mapping: Option<String>,
    /// A CHT push, a stored CHT document, or a FHIR body; `-` for standard input.
    file: PathBuf,
}

pub(super) fn run(settings: &Settings, options: &Options) -> ExitCode {
    let name = options.file.display();
    let bytes = match options.file.as_os_str() == "-" {
        true => {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut std::io::stdin(), &mut bytes).map(|_| bytes)
        }
        false => std::fs::read(&options.file),
    };
    let text = match bytes {
        Ok(text) => text,
        Err(error) => return fail(&format!("{name}: {error}")),
    };
    let value = match crate::http::parse_json(&text) {
        Ok(value) => value,
        Err(error) => return fail(&format!("{name}: {error}")),
    };
    let Some((route, body)) = guess_route(&value) else {
        return fail(&format!(
            "{name}: neither a CHT push (`doc`), nor a CHT document (`_id`), nor a FHIR resource (`resourceType`)"
        ));
    };
    if let Route::Fhir(kind) = &route {
        let problems = check_fhir(Some(if kind.is_empty() { "Bundle" } else { kind }), &body);
        if !problems.is_empty() {
            return fail(&problems.iter().map(|p| format!("{name}: {p}")).collect::<Vec<_>>().join("\n"));
        }
    }
    let mappings = match Mappings::new(&settings.translate) {
        Ok(mappings) => mappings,
        Err(mistakes) => {
            mistakes.iter().for_each(|mistake| eprintln!("{mistake}"));
            return ExitCode::FAILURE;
        }
    };
    let received = jiff::Timestamp::now().as_millisecond();
    let source = Source { route: &route, body: &body, received };
    let translated = match mappings.translate(&source, options.mapping.as_deref()) {
        Ok(translated) => translated,
        Err(refusal) => return fail(&format!("{name}: {refusal}")),
    };
    let ignored: Vec<&String> = translated
        .parts
        .iter()
        .filter_map(|part| match &part.meaning {
            Meaning::Ignored(why) => Some(why),
            _ => None,
        })
        .collect();
    if ignored.len() == translated.parts.len() {
        return fail(&format!(
            "{name}: {}",
            ignored.first().map_or("nothing to be made of it", |why| why.as_str())
        ));
    }
    eprintln!("mapping: {}", translated.mapping);
    match serde_json::to_string_pretty(&mappings.preview(&translated)) {
        Ok(json) => println!("{json}"),
        Err(error) => return fail(&error.to_string()),
    }
    ExitCode::SUCCESS
}
