//! Cases: a message and what it becomes, in `<mapping>.cases/` beside the mapping.
use crate::domain::message::Route;
use crate::translate::language::mistake::{At, Mistake};
use crate::translate::language::yaml;
use crate::translate::set::Set;
use crate::translate::{Mappings, Source, guess_route};
use serde_json::{Map, Value, json};
use std::path::Path;

/// When a case came, if it does not say: 2026-11-23T18:50:14.033Z.
pub const RECEIVED: i64 = 1_795_467_014_033;

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Direction {
    /// As the mapping is written.
    Out,
    /// What it makes, read backwards.
    Back,
}

pub struct Case {
    pub file: String,
    pub mapping: String,
    pub direction: Direction,
    pub route: Route,
    pub received: i64,
    pub input: Value,
    /// Nothing: it must be refused, and `error` says how.
    pub output: Option<Value>,
    /// A part of the error that is expected.
    pub error: Option<String>,
}

const KEYS: &[&str] = &["note", "direction", "route", "received", "input", "output", "error"];

/// Every case of a set, and what is no case.
pub fn load(set: &Set) -> (Vec<Case>, Vec<Mistake>) {
    let (mut cases, mut mistakes) = (Vec::new(), Vec::new());
    for read in each(set) {
        match read {
            Ok(case) => cases.push(case),
            Err(mistake) => mistakes.push(*mistake),
        }
    }
    (cases, mistakes)
}

/// One after the other: all of them together are many.
pub fn each(set: &Set) -> impl Iterator<Item = Result<Case, Box<Mistake>>> {
    set.case_files().into_iter().map(|(mapping, file, text)| read(&mapping, &file, &text))
}

/// Every case of the mappings that are built in.
pub fn specimens() -> impl Iterator<Item = Case> {
    Set::specimens().into_iter().filter_map(|(mapping, file, text)| read(&mapping, &file, &text).ok())
}

/// A case from its file.
pub fn read(mapping: &str, file: &str, text: &str) -> Result<Case, Box<Mistake>> {
    let fail = |at: At, key: &str, message: &str| Box::new(Mistake::new(file, text, at, key, message));
    let mut whole: Value = match file.ends_with(".json") {
        true => serde_json::from_str(text)
            .map_err(|e| fail(At { line: e.line() as u32, column: e.column() as u32 }, "", "not JSON"))?,
        false => yaml::parse(text).map_err(|(at, why)| fail(at, "", &why))?.value(),
    };
    let first = At { line: 1, column: 1 };
    for key in whole.as_object().into_iter().flatten().map(|(key, _)| key) {
        if !KEYS.contains(&key.as_str()) {
            let hint = crate::translate::language::mistake::nearest(key, KEYS.iter().copied());
            return Err(fail(first, key, &format!("no such key; {hint}")));
        }
    }
    let direction = match whole["direction"].as_str() {
        None | Some("out") => Direction::Out,
        Some("back") => Direction::Back,
        Some(_) => return Err(fail(first, "direction", "expected out or back")),
    };
    if !whole["input"].is_object() {
        return Err(fail(first, "input", "expected a message"));
    }
    let guessed = guess_route(&whole["input"]);
    let (route, input) = match (whole["route"].as_str(), guessed) {
        (Some(route), _) => {
            let route =
                route.parse().map_err(|_| fail(first, "route", "expected a route such as /cht/push"))?;
            (route, whole["input"].take())
        }
        (None, Some(guessed)) if direction == Direction::Out => guessed,
        (None, _) if direction == Direction::Back => (Route::ChtPush(None), whole["input"].take()),
        (None, _) => return Err(fail(first, "route", "it cannot be told by which route this came: say it")),
    };
    let error = whole["error"].as_str().map(String::from);
    let output = (!whole["output"].is_null()).then(|| whole["output"].take());
    if error.is_none() && output.is_none() {
        return Err(fail(first, "output", "expected what it becomes, or error: a part of why it is refused"));
    }
    let received = whole["received"].as_i64().unwrap_or(RECEIVED);
    Ok(Case { file: file.into(), mapping: mapping.into(), direction, route, received, input, output, error })
}

/// What a case becomes.
pub fn made(mappings: &Mappings, case: &Case) -> Result<Value, String> {
    match case.direction {
        Direction::Back => {
            let back = mappings
                .back(&case.mapping, &case.input, case.received)
                .map_err(|refusal| refusal.to_string())?;
            Ok(Value::Object(back))
        }
        Direction::Out => {
            let source = Source { route: &case.route, body: &case.input, received: case.received };
            let translated =
                mappings.translate(&source, Some(&case.mapping)).map_err(|refusal| refusal.to_string())?;
            Ok(mappings.preview(&translated))
        }
    }
}

/// What is other than expected.
pub enum Wrong {
    /// Something else is made of it.
    Differs(String),
    /// It is refused, or should have been.
    Fails(String),
}

pub fn run(mappings: &Mappings, case: &Case) -> Result<(), Wrong> {
    match (made(mappings, case), &case.output, &case.error) {
        (Ok(made), Some(expected), _) => {
            let mut found = Vec::new();
            differences(expected, &made, String::new(), &mut found);
            if found.is_empty() {
                return Ok(());
            }
            let more = found.len().saturating_sub(8);
            let mut told = found.into_iter().take(8).collect::<Vec<_>>().join("\n  ");
            if more > 0 {
                told.push_str(&format!("\n  and {more} more"));
            }
            Err(Wrong::Differs(format!(
                "the output is not as expected (translate --accept takes it as it is):\n  {told}"
            )))
        }
        (Err(why), _, Some(expected)) if why.contains(expected.as_str()) => Ok(()),
        (Err(why), _, Some(expected)) => {
            Err(Wrong::Differs(format!("expected the error \"{expected}\", got: {why}")))
        }
        (Err(why), _, None) => Err(Wrong::Fails(why)),
        (Ok(_), None, _) => Err(Wrong::Differs("expected an error, and it was translated".into())),
    }
}

fn differences(expected: &Value, made: &Value, path: String, found: &mut Vec<String>) {
    let at = if path.is_empty() { "output".to_string() } else { path.clone() };
    match (expected, made) {
        (Value::Object(expected), Value::Object(made)) => {
            for (key, value) in expected {
                let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match made.get(key) {
                    Some(other) => differences(value, other, below, found),
                    None => found.push(format!("{below}: expected {}, is missing", short(value))),
                }
            }
            for (key, value) in made.iter().filter(|(key, _)| !expected.contains_key(*key)) {
                let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                found.push(format!("{below}: not expected: {}", short(value)));
            }
        }
        (Value::Array(expected), Value::Array(made)) => {
            for (i, value) in expected.iter().enumerate() {
                match made.get(i) {
                    Some(other) => differences(value, other, format!("{path}[{i}]"), found),
                    None => found.push(format!("{path}[{i}]: expected {}, is missing", short(value))),
                }
            }
            for (i, value) in made.iter().enumerate().skip(expected.len()) {
                found.push(format!("{path}[{i}]: not expected: {}", short(value)));
            }
        }
        (expected, made) if expected == made => {}
        _ => found.push(format!("{at}: expected {}, is {}", short(expected), short(made))),
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() > 80 { format!("{}…", text.chars().take(80).collect::<String>()) } else { text }
}

/// A case's file, for people to read in version control.
pub fn written(case: &Value) -> String {
    let mut text = serde_json::to_string_pretty(case).unwrap_or_default();
    text.push('\n');
    text
}

/// A case's text with another output. What a YAML file says besides stays.
pub fn with_output(text: &str, file: &Path, output: &Value) -> Result<String, String> {
    if file.extension().is_none_or(|e| e == "json") {
        let mut case: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
        case["output"] = output.clone();
        return Ok(written(&case));
    }
    // JSON is YAML; what is below a key is indented.
    let json = written(output).trim_end().replace('\n', "\n  ");
    let mut lines: Vec<&str> = text.lines().collect();
    let begins = |line: &&str| !line.starts_with([' ', '-', '}', ']']) && !line.is_empty();
    let start = lines.iter().position(|line| line.starts_with("output:")).unwrap_or(lines.len());
    let end = lines.iter().skip(start + 1).position(begins).map_or(lines.len(), |i| start + 1 + i);
    let new = format!("output: {json}");
    lines.splice(start..end, [new.as_str()]);
    Ok(lines.join("\n") + "\n")
}

/// The content of a new case.
pub fn new(route: &Route, received: i64, input: &Value, output: &Value) -> Value {
    let mut case = Map::new();
    case.insert("route".into(), json!(route.to_string()));
    case.insert("received".into(), json!(received));
    case.insert("input".into(), input.clone());
    case.insert("output".into(), output.clone());
    Value::Object(case)
}
