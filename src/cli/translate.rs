//! `translate`.
use super::fail;
use crate::config::Settings;
use crate::domain::follow_up::Meaning;
use crate::domain::message::Route;
use crate::translate::language::eval::Traced;
use crate::translate::proof::cases;
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
    /// The case's file as it is.
    case: Option<Value>,
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
    let message = read(&options.file).map_err(|why| told(&why))?;
    let mappings = Mappings::new(&settings.translate)
        .map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    let given = options.received.map(|instant| instant.as_millisecond());
    let fresh = if options.accept { cases::RECEIVED } else { jiff::Timestamp::now().as_millisecond() };
    let received = given.or(message.received).unwrap_or(fresh);
    if let (true, Some(mapping)) = (options.back, &options.mapping) {
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
        println!("{}", serde_json::to_string_pretty(made).map_err(|e| e.to_string())?);
        return Ok(());
    }
    let (path, case) = match &message.case {
        Some(case) => {
            let mut case = case.clone();
            case["output"] = made.clone();
            (options.file.clone(), case)
        }
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
            (folder.join(format!("{}.json", stem.unwrap_or_else(|| "case".into()))), case)
        }
    };
    std::fs::write(&path, cases::written(&case)).map_err(|e| format!("{}: {e}", path.display()))?;
    println!("{}: accepted; look at the difference before you commit it", path.display());
    Ok(())
}

fn read(file: &Path) -> Result<Message, String> {
    let bytes = match file.as_os_str() == "-" {
        true => {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut std::io::stdin(), &mut bytes).map(|_| bytes)
        }
        false => std::fs::read(file),
    };
    let bytes = bytes.map_err(|e| e.to_string())?;
    let value = crate::http::parse_json(&bytes)?;
    let is_case = value["input"].is_object() && (!value["output"].is_null() || value["error"].is_string());
    if !is_case {
        let (route, body) = guess_route(&value).map_or((None, value), |(route, body)| (Some(route), body));
        return Ok(Message { route, body, received: None, case: None });
    }
    let text = String::from_utf8_lossy(&bytes);
    let case = cases::read("", &file.display().to_string(), &text).map_err(|mistake| mistake.to_string())?;
    Ok(Message {
        route: Some(case.route),
        body: case.input,
        received: Some(case.received),
        case: Some(value),
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
    let from = if traced.from.is_empty() { "(made here)".into() } else { traced.from.join(", ") };
    format!("{:<48} {place:<48} {from}", traced.element)
}
