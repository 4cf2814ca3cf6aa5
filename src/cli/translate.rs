//! `translate`.
use super::fail;
use crate::config::Settings;
use crate::domain::follow_up::Meaning;
use crate::domain::message::Route;
use crate::translate::language::eval::Traced;
use crate::translate::language::yaml;
use crate::translate::proof::cases::{self, Direction};
use crate::translate::{Mappings, Source, Translated, check_fhir, guess_route};
use clap::Args;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Args)]
pub(super) struct Options {
    /// The mapping; without it, the one that claims the file's content.
    #[arg(long)]
    mapping: Option<String>,
    /// Read what the mapping makes backwards: print what it is made of.
    #[arg(long, requires = "mapping")]
    back: bool,
    /// Also print, for each element that is made, the mapping's line and the input's path.
    #[arg(long)]
    explain: bool,
    /// Write the output as what is expected: into the case that FILE is, or a new case beside the
    /// mapping.
    #[arg(long)]
    accept: bool,
    /// When the message came (RFC 3339); now, if not given.
    #[arg(long)]
    received: Option<jiff::Timestamp>,
    /// A CHT push, a stored CHT document, a FHIR body, or a case; `-` for standard input.
    file: PathBuf,
}

/// What the file holds.
struct Message {
    route: Option<Route>,
    body: Value,
    received: Option<i64>,
    /// The case's text, if it is one.
    case: Option<String>,
    /// A case that is read backwards, by the mapping that it stands beside.
    back: Option<String>,
}

pub(super) fn run(settings: &Settings, options: &Options) -> ExitCode {
    match work(settings, options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => fail(&message),
    }
}

fn work(settings: &Settings, options: &Options) -> Result<(), String> {
    let name = options.file.display();
    let told = |why: &dyn std::fmt::Display| format!("{name}: {why}");
    let message = read(&options.file, options.mapping.as_deref()).map_err(|why| told(&why))?;
    let mappings = Mappings::new(&settings.translate)
        .map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    let given = options.received.map(|instant| instant.as_millisecond());
    let fresh = if options.accept { cases::RECEIVED } else { jiff::Timestamp::now().as_millisecond() };
    let received = given.or(message.received).unwrap_or(fresh);
    let backwards = if options.back { options.mapping.as_ref() } else { message.back.as_ref() };
    if let Some(mapping) = backwards {
        let back = mappings.back(mapping, &message.body, received).map_err(|refusal| told(&refusal))?;
        if back.is_empty() {
            return Err(told(&format!("{mapping} makes nothing like it")));
        }
        return finish(settings, options, &message, mapping, received, &Value::Object(back));
    }
    let Some(route) = &message.route else {
        return Err(told(
            &"neither a CHT push (`doc`), nor a CHT document (`_id`), nor a FHIR resource (`resourceType`)",
        ));
    };
    if let Route::Fhir(kind) = route {
        let problems = {
            let kind = if kind.is_empty() { "Bundle" } else { kind };
            check_fhir(Some(kind), &message.body, &settings.server.profiles)
        };
        if !problems.is_empty() {
            return Err(problems.iter().map(|problem| told(problem)).collect::<Vec<_>>().join("\n"));
        }
    }
    let source = Source { route, body: &message.body, received };
    let (translated, trace) = mappings
        .explain(&source, options.mapping.as_deref(), options.explain)
        .map_err(|refusal| told(&refusal))?;
    if let Some(why) = only_ignored(&translated) {
        return Err(told(&why));
    }
    eprintln!("mapping: {}", translated.label());
    trace.iter().for_each(|traced| eprintln!("{}", explained(traced)));
    let made = mappings.preview(&translated);
    let mapping = options.mapping.clone().unwrap_or_else(|| translated.mapping.clone());
    finish(settings, options, &message, &mapping, received, &made)
}

/// Prints it, or writes it as what is expected.
fn finish(
    settings: &Settings,
    options: &Options,
    message: &Message,
    mapping: &str,
    received: i64,
    made: &Value,
) -> Result<(), String> {
    if !options.accept {
        say!("{}", serde_json::to_string_pretty(made).map_err(|e| e.to_string())?);
        return Ok(());
    }
    let (path, case) = match &message.case {
        Some(case) => (options.file.clone(), cases::with_output(case, &options.file, made)?),
        None => {
            let folder = &settings.translate.mappings;
            if !folder.is_dir() {
                return Err(format!("{}: no such folder (translate.mappings)", folder.display()));
            }
            let folder = folder.join(format!("{mapping}.cases"));
            std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
            let stem = options.file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
            let route = message.route.clone().unwrap_or(Route::ChtPush(None));
            let mut case = cases::new(&route, received, &message.body, made);
            if options.back {
                case["direction"] = json!("back");
            }
            (folder.join(format!("{}.json", stem.unwrap_or_else(|| "case".into()))), cases::written(&case))
        }
    };
    std::fs::write(&path, case).map_err(|e| format!("{}: {e}", path.display()))?;
    say!("{}: accepted; look at the difference before you commit it", path.display());
    Ok(())
}

fn read(file: &Path, mapping: Option<&str>) -> Result<Message, String> {
    let bytes = match file.as_os_str() == "-" {
        true => {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut std::io::stdin(), &mut bytes).map(|_| bytes)
        }
        false => std::fs::read(file),
    };
    let bytes = bytes.map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&bytes);
    let is_yaml = file.extension().is_some_and(|e| e == "yaml" || e == "yml");
    let value = match is_yaml {
        true => yaml::parse(&text).map_err(|(at, why)| format!("{}:{}: {why}", at.line, at.column))?.value(),
        false => crate::http::parse_json(&bytes)?,
    };
    let is_case = value["input"].is_object() && (!value["output"].is_null() || value["error"].is_string());
    if !is_case {
        let (route, body) = guess_route(&value).map_or((None, value), |(route, body)| (Some(route), body));
        return Ok(Message { route, body, received: None, case: None, back: None });
    }
    // Beside the mapping `name` it stands in `name.cases`.
    let folder = file.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let beside = folder.and_then(|name| name.strip_suffix(".cases").map(String::from));
    let mapping = mapping.map(String::from).or(beside).unwrap_or_default();
    let case =
        cases::read(&mapping, &file.display().to_string(), &text).map_err(|mistake| mistake.to_string())?;
    if case.direction == Direction::Back && mapping.is_empty() {
        return Err("a case that is read backwards: say by which --mapping".into());
    }
    Ok(Message {
        route: Some(case.route),
        body: case.input,
        received: Some(case.received),
        case: Some(text.into_owned()),
        back: (case.direction == Direction::Back).then_some(mapping),
    })
}

fn only_ignored(translated: &Translated) -> Option<String> {
    let mut why = None;
    for part in &translated.parts {
        match &part.meaning {
            Meaning::Ignored(reason) => why = Some(reason.clone()),
            _ => return None,
        }
    }
    Some(why.unwrap_or_else(|| "nothing to be made of it".into()))
}

/// `Patient.name[0]  mediator-config/mappings/patient.yaml:38  doc.name`
fn explained(traced: &Traced) -> String {
    let place = format!("{}:{}", traced.origin.file, traced.origin.at.line);
    let from = if traced.from.is_empty() { "(as it stands)".into() } else { traced.from.join(", ") };
    format!("{:<48} {place:<48} {from}", traced.element)
}
