//! `check`: everything that can be verified without running.
use crate::config;
use crate::translate::Mappings;
use serde_json::Value;
use std::path::Path;
use std::process::ExitCode;

pub(super) fn run(file: Option<&Path>) -> ExitCode {
    let mut mistakes: Vec<String> = Vec::new();
    match config::load(file, std::env::vars()) {
        Err(errors) => mistakes.extend(errors.iter().map(ToString::to_string)),
        Ok(settings) => {
            for warning in config::warnings(&settings) {
                eprintln!("warning: {warning}");
            }
            let names = match Mappings::new(&settings.translate) {
                Ok(mappings) => mappings.all_names(),
                Err(found) => {
                    mistakes.extend(found.iter().map(ToString::to_string));
                    Vec::new()
                }
            };
            for name in settings.delivery.to.keys().filter(|name| *name != "default" && !names.contains(name))
            {
                mistakes.push(format!(
                    "delivery.to.{name}: there is no mapping of this name; there are: {}",
                    names.join(", ")
                ));
            }
            println!("configuration: fine; mappings: {}", names.join(", "));
        }
    }
    let profiles = Path::new("fhir-profiles");
    if profiles.is_dir() {
        mistakes.extend(profile_mistakes(profiles));
    }
    for mistake in &mistakes {
        eprintln!("{mistake}");
    }
    if mistakes.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Every profile file is JSON and a conformance resource with a url.
fn profile_mistakes(folder: &Path) -> Vec<String> {
    let Ok(files) = std::fs::read_dir(folder) else {
        return vec![format!("{}: cannot be read", folder.display())];
    };
    let mut mistakes = Vec::new();
    let mut seen = 0;
    for path in
        files.flatten().map(|file| file.path()).filter(|path| path.extension().is_some_and(|e| e == "json"))
    {
        seen += 1;
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        match serde_json::from_str::<Value>(&text) {
            Err(error) => {
                mistakes.push(format!("{}:{}:{}: not JSON", path.display(), error.line(), error.column()))
            }
            Ok(profile) if profile["resourceType"].as_str().is_none() => {
                mistakes.push(format!("{}:1: resourceType is missing", path.display()));
            }
            Ok(_) => {}
        }
    }
    println!("profiles: {seen} read");
    mistakes
}
