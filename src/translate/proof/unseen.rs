//! Paths that no example has: a misspelling is one of them.
use super::cases::{Case, Direction};
use crate::translate::language::mistake::{At, Mistake, nearest};
use crate::translate::language::path::{Path, Step};
use crate::translate::language::tree::{Base, Origin, Place, ROOTS, Source as From};
use crate::translate::set::Set;
use serde_json::Value;

pub(super) fn paths(set: &Set, cases: &[Case]) -> Vec<Mistake> {
    let mut found: Vec<Mistake> = Vec::new();
    let out = cases.iter().filter(|case| case.direction == Direction::Out);
    let all: Vec<Value> = out.map(|case| documents_of(&case.input)).collect();
    for mapping in set.all() {
        // Its own cases, and those of mappings that it is part of.
        let brought = |case: &&Case| {
            case.mapping == mapping.name
                || set
                    .get(&case.mapping)
                    .is_some_and(|other| other.rules().iter().any(|rule| rule.origin.file == mapping.file))
        };
        let documents: Vec<Value> = cases
            .iter()
            .filter(|case| case.direction == Direction::Out)
            .filter(brought)
            .map(|case| documents_of(&case.input))
            .collect();
        let mut tell = |origin: &Origin, place: &Place, documents: &[Value]| {
            let key = place.path.to_string();
            let message = format!("no example has this path{}", hint(place, documents));
            let mistake = set.mistake(origin, &key, &message);
            if !found.contains(&mistake) {
                found.push(mistake);
            }
        };
        // Conditions are asked of whatever comes, so any example will do; and of several conditions of
        // which any will do, that of one of them.
        let seen: Vec<bool> = mapping.asked.iter().map(|asked| is_seen(&asked.place, &all)).collect();
        let seen_among: Vec<_> = mapping
            .asked
            .iter()
            .zip(&seen)
            .filter(|(_, seen)| **seen)
            .filter_map(|(asked, _)| asked.among)
            .collect();
        for (asked, _) in mapping.asked.iter().zip(&seen).filter(|(_, seen)| !**seen) {
            if !asked.among.is_some_and(|list| seen_among.contains(&list)) {
                tell(&asked.origin, &asked.place, &all);
            }
        }
        // What another mapping brought is judged there.
        for rule in mapping.rules().into_iter().filter(|rule| rule.origin.file == mapping.file) {
            // Of several paths any may be the one that is there.
            let places = match &rule.source {
                From::Paths(places) if places.len() > 1 => {
                    match places.iter().any(|place| is_seen(place, &documents)) {
                        true => Vec::new(),
                        false => places.iter().collect(),
                    }
                }
                _ => rule.places(),
            };
            for place in places.into_iter().filter(|place| !is_seen(place, &documents)) {
                tell(&rule.origin, place, &documents);
            }
        }
    }
    found.retain(|mistake| mistake.at != At::default());
    found
}

/// A body under every root that it can be.
fn documents_of(input: &Value) -> Value {
    let mut all = serde_json::Map::new();
    all.insert("doc".into(), input["doc"].clone());
    all.insert("body".into(), input.clone());
    all.insert("resource".into(), input.clone());
    Value::Object(all)
}

fn start<'d>(place: &Place, documents: &'d Value) -> Option<Vec<&'d Value>> {
    let Base::Root(index) = place.base else { return None };
    let root = *ROOTS.get(index)?;
    match root {
        "doc" | "body" => Some(vec![&documents[root]]),
        // A Bundle's entries are resources, and one of them is the patient.
        "resource" | "patient" => {
            let whole = &documents["resource"];
            let mut all = vec![whole];
            all.extend(whole["entry"].as_array().into_iter().flatten().map(|entry| &entry["resource"]));
            all.extend(whole["contained"].as_array().into_iter().flatten());
            Some(all)
        }
        _ => None,
    }
}

/// The key is there, answered or not.
fn is_seen(place: &Place, documents: &[Value]) -> bool {
    documents.iter().any(|document| match start(place, document) {
        None => true,
        Some(starts) => starts.into_iter().any(|start| place.path.read(start).ok().flatten().is_some()),
    })
}

/// The nearest key where the path leaves what the examples have.
fn hint(place: &Place, documents: &[Value]) -> String {
    let steps = &place.path.steps;
    for length in (1..steps.len()).rev() {
        let Some(Step::Key(wrong)) = steps.get(length) else { continue };
        let above = Path { steps: steps[..length].to_vec() };
        let mut keys: Vec<String> = Vec::new();
        for document in documents {
            for start in start(place, document).unwrap_or_default() {
                if let Ok(Some(Value::Object(fields))) = above.read(start) {
                    keys.extend(fields.keys().cloned());
                }
            }
        }
        keys.sort();
        keys.dedup();
        if !keys.is_empty() {
            let hint = nearest(wrong, keys.iter().map(String::as_str));
            return if hint.starts_with("did you") { format!("; {hint}") } else { String::new() };
        }
    }
    String::new()
}
