//! Where settings come from: the compiled-in defaults, a file over them, the environment over both.
//! What is wrong is said with its place, its key and what was expected; all of it at once.
use super::check::check;
use super::{Settings, secrets};
use std::fmt;
use std::path::Path;
use toml::{Table, Value};
use toml_edit::{Document, Item};

pub const DEFAULTS: &str = include_str!("../../mediator-config/mediator.toml");
const PREFIX: &str = "MEDIATOR__";

/// `mediator.toml:12: server.lissten: no such setting; did you mean listen?`
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigError {
    /// A file's name, or an environment variable's.
    pub place: String,
    pub line: Option<usize>,
    pub key: String,
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.place)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        match self.key.is_empty() {
            true => write!(f, ": {}", self.message),
            false => write!(f, ": {}: {}", self.key, self.message),
        }
    }
}

/// Knows for each key where its value was written.
struct Origin {
    file: String,
    document: Option<Document<String>>,
    variables: Vec<(Vec<String>, String)>,
}

impl Origin {
    fn error(&self, key: &str, message: impl Into<String>) -> ConfigError {
        let path: Vec<String> = segments(key);
        let variable =
            self.variables.iter().find(|(known, _)| starts_with(known, &path) || starts_with(&path, known));
        let (place, line) = match (variable, self.line(&path)) {
            (Some((_, variable)), _) => (variable.clone(), None),
            (None, Some(line)) => (self.file.clone(), Some(line)),
            (None, None) if self.document.is_some() => (self.file.clone(), None),
            (None, None) => ("mediator-config/mediator.toml (defaults)".to_string(), None),
        };
        ConfigError { place, line, key: key.to_string(), message: message.into() }
    }

    /// The line of a key, or of the nearest thing around it.
    fn line(&self, path: &[String]) -> Option<usize> {
        let document = self.document.as_ref()?;
        let mut item: &Item = document.as_item();
        let mut span = None;
        for segment in path {
            let table = item.as_table_like();
            let key = table.and_then(|table| table.get_key_value(segment)).and_then(|(key, _)| key.span());
            let next = match segment.parse::<usize>() {
                Ok(index) => item.get(index),
                Err(_) => item.get(segment.as_str()),
            };
            let Some(next) = next else { break };
            span = key.or_else(|| next.span()).or(span);
            item = next;
        }
        let before = document.raw().get(..span?.start)?;
        Some(before.matches('\n').count() + 1)
    }
}

fn starts_with(path: &[String], start: &[String]) -> bool {
    path.len() >= start.len() && path[..start.len()] == *start
}

/// Loads and checks the settings. `environment` is all of it; other variables than ours are skipped.
pub fn load(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Settings, Vec<ConfigError>> {
    let mut origin = Origin { file: String::new(), document: None, variables: Vec::new() };
    let defaults: Table = DEFAULTS.parse().map_err(|e| vec![origin.error("", format!("{e}"))])?;
    let mut merged = Value::Table(defaults.clone());
    if let Some(path) = file {
        origin.file = path.display().to_string();
        let (table, document) = read_file(path, &origin)?;
        origin.document = Some(document);
        overlay(&mut merged, Value::Table(table));
    }
    let mut errors = Vec::new();
    for (variable, text) in environment {
        let Some(name) = variable.strip_prefix(PREFIX) else { continue };
        let path: Vec<String> = name.split("__").map(str::to_lowercase).collect();
        let value = value_of(&defaults, &path, &text);
        origin.variables.push((path.clone(), variable));
        if let Err(message) = set(&mut merged, &path, value) {
            errors.push(origin.error(&path.join("."), message));
        }
    }
    let variables: Vec<String> = origin.variables.iter().map(|(path, _)| path.join(".")).collect();
    for (key, message) in secrets::read(&mut merged, &variables) {
        errors.push(origin.error(&key, message));
    }
    let settings = read_all(merged, &Value::Table(defaults), &origin, &mut errors);
    if let Some(settings) = &settings {
        errors.extend(check(settings).into_iter().map(|(key, message)| origin.error(&key, message)));
    }
    match settings {
        Some(settings) if errors.is_empty() => Ok(settings),
        _ => Err(errors),
    }
}

/// A mistake that shows only beside other things (a mapping, a profile), with its place.
pub fn mistake(file: Option<&Path>, key: &str, message: impl Into<String>) -> ConfigError {
    let mut origin = Origin { file: String::new(), document: None, variables: Vec::new() };
    if let Some(path) = file {
        origin.file = path.display().to_string();
        origin.document = read_file(path, &origin).ok().map(|(_, document)| document);
    }
    origin.variables = std::env::vars()
        .filter_map(|(name, _)| {
            let path = name.strip_prefix(PREFIX)?.split("__").map(str::to_lowercase).collect();
            Some((path, name))
        })
        .collect();
    origin.error(key, message)
}

fn read_file(path: &Path, origin: &Origin) -> Result<(Table, Document<String>), Vec<ConfigError>> {
    let fail = |line, message: String| {
        vec![ConfigError { place: origin.file.clone(), line, key: String::new(), message }]
    };
    let text = std::fs::read_to_string(path).map_err(|e| fail(None, format!("cannot be read: {e}")))?;
    let document = Document::parse(text.clone()).map_err(|e| {
        let line =
            e.span().and_then(|span| text.get(..span.start)).map(|before| before.matches('\n').count() + 1);
        // Only the last line of the message: the others show the file's line, which may hold a secret.
        fail(line, format!("not TOML: {}", e.message().lines().collect::<Vec<_>>().join(" ")))
    })?;
    let table = text.parse::<Table>().map_err(|e| fail(None, e.message().to_string()))?;
    Ok((table, document))
}

/// Lays `over` over `under`, table by table.
fn overlay(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Table(under), Value::Table(over)) => {
            for (key, value) in over {
                match under.get_mut(&key) {
                    Some(known) => overlay(known, value),
                    None => {
                        under.insert(key, value);
                    }
                }
            }
        }
        (under, over) => *under = over,
    }
}

/// A variable's text as the type that the default has; a secret or a name stays the text it is.
fn value_of(defaults: &Table, path: &[String], text: &str) -> Value {
    let mut like: Vec<&str> = path.iter().map(String::as_str).collect();
    if let ["destinations", _, rest @ ..] = like.as_slice() {
        like = std::iter::once("fhir").chain(rest.iter().copied()).collect();
    }
    let default = like
        .iter()
        .skip(1)
        .try_fold(defaults.get(like[0]), |value, key| Some(value.and_then(|value| value.get(key))));
    match default.flatten() {
        None | Some(Value::String(_)) => Value::String(text.to_string()),
        Some(_) => parsed(text).unwrap_or_else(|| Value::String(text.to_string())),
    }
}

fn parsed(text: &str) -> Option<Value> {
    let toml = format!("v = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("v"));
    toml.or_else(|| serde_json::from_str::<Value>(text).ok())
}

fn set(value: &mut Value, path: &[String], new: Value) -> Result<(), String> {
    let Some((first, rest)) = path.split_first() else { return Ok(()) };
    let Value::Table(table) = value else { return Err("this is no section".into()) };
    if rest.is_empty() {
        table.insert(first.clone(), new);
        return Ok(());
    }
    set(table.entry(first.clone()).or_insert(Value::Table(Table::new())), rest, new)
}

/// Reads the settings; what is wrong is noted and taken out, so that the next mistake is found too.
fn read_all(
    mut merged: Value,
    defaults: &Value,
    origin: &Origin,
    errors: &mut Vec<ConfigError>,
) -> Option<Settings> {
    for _ in 0..100 {
        let error = match serde_path_to_error::deserialize::<_, Settings>(merged.clone()) {
            Ok(settings) => return Some(settings),
            Err(error) => error,
        };
        let key = error.path().to_string().replace('[', ".").replace(']', "");
        let key = if key == "." { String::new() } else { key };
        let (key, message) = in_words(&key, error.inner().message());
        errors.push(origin.error(&key, message));
        if !mend(&mut merged, defaults, &segments(&key)) {
            return None;
        }
    }
    None
}

/// serde's message in ours; an unknown key is part of the path.
fn in_words(key: &str, message: &str) -> (String, String) {
    let message = message.lines().next().unwrap_or_default();
    if let Some(rest) = message.strip_prefix("unknown field `") {
        let (unknown, known) = rest.split_once('`').unwrap_or((rest, ""));
        let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        let full = match key.rsplit('.').next() == Some(unknown) || key.is_empty() && unknown.is_empty() {
            true => key.to_string(),
            false => [key, unknown].iter().filter(|s| !s.is_empty()).copied().collect::<Vec<_>>().join("."),
        };
        return (full, format!("no such setting; {}", nearest(unknown, &known)));
    }
    if let Some(rest) = message.strip_prefix("missing field `") {
        let field = rest.trim_end_matches('`');
        let full = [key, field].iter().filter(|s| !s.is_empty()).copied().collect::<Vec<_>>().join(".");
        return (full, "this setting is missing".into());
    }
    (key.to_string(), without_value(message))
}

fn nearest(unknown: &str, known: &[&str]) -> String {
    let best = known.iter().map(|k| (strsim::jaro_winkler(unknown, k), k)).max_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((score, name)) if score > 0.8 => format!("did you mean {name}?"),
        _ => format!("there are: {}", known.join(", ")),
    }
}

/// `invalid type: string "abc", expected u64` without what was found: it may be a secret.
fn without_value(message: &str) -> String {
    let mut quoted: String =
        message.split('"').enumerate().map(|(i, part)| if i % 2 == 1 { "…" } else { part }).collect();
    for kind in ["integer", "floating point", "boolean"] {
        if let Some((before, rest)) = quoted.split_once(&format!("{kind} `"))
            && let Some((_, after)) = rest.split_once('`')
        {
            quoted = format!("{before}another kind of value{after}");
        }
    }
    quoted
        .replace("invalid type: ", "found ")
        .replace("invalid value: ", "found ")
        .replace("string …", "a text")
        .replace("unknown variant", "found")
        .replace("u16", "a number up to 65535")
        .replace("u32", "a whole number")
        .replace("u64", "a whole number")
        .replace("usize", "a whole number")
        .replace("invalid socket address syntax", "expected an address and port, such as 127.0.0.1:3410")
}

/// Takes a wrong value out: the default comes back, or nothing. Says whether there was anything.
fn mend(merged: &mut Value, defaults: &Value, path: &[String]) -> bool {
    let Some((last, parents)) = path.split_last() else { return false };
    let parent =
        |value: &Value| parents.iter().try_fold(value.clone(), |value, key| step(&value, key).cloned());
    let default = parent(defaults).and_then(|value| step(&value, last).cloned());
    let mut here = merged;
    for key in parents {
        let next = match (key.parse::<usize>(), here) {
            (Ok(index), Value::Array(items)) => items.get_mut(index),
            (_, Value::Table(table)) => table.get_mut(key),
            _ => None,
        };
        let Some(next) = next else { return false };
        here = next;
    }
    match (here, last.parse::<usize>(), default) {
        (Value::Table(table), _, Some(default)) => table.insert(last.clone(), default).is_some(),
        (Value::Table(table), _, None) => table.remove(last).is_some(),
        (Value::Array(items), Ok(index), _) if index < items.len() => {
            items.remove(index);
            true
        }
        _ => false,
    }
}

fn step<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match key.parse::<usize>() {
        Ok(index) => value.get(index).or_else(|| value.get(key)),
        Err(_) => value.get(key),
    }
}

fn segments(key: &str) -> Vec<String> {
    key.split('.').filter(|s| !s.is_empty()).map(String::from).collect()
}

#[cfg(test)]
mod tests;
