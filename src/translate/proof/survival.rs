//! Which fields come back as they went, seen on the cases.
use super::cases::{Case, Direction, made};
use super::roots;
use crate::translate::language::codec::Around;
use crate::translate::language::compile::Compiled;
use crate::translate::language::eval::{self, is_answered};
use crate::translate::language::tree::{Back, Base, EntryRule, Over, Place, ROOTS, Rule, Source as From};
use crate::translate::{Mappings, Source, language::back};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Whether something survives; with the reason if not.
#[derive(Clone, PartialEq, Debug)]
pub enum Survives {
    Yes,
    /// In some cases, not in others.
    Partly(String),
    No(String),
    /// No case has it.
    Unseen,
}

#[derive(Clone, Debug)]
pub struct Field {
    /// A path of the source (`doc.name`) or an element of what is made (`Patient.name.text`).
    pub path: String,
    /// The field is the source's: source -> target -> source. Else target -> source -> target.
    pub of_source: bool,
    pub survives: Survives,
}

pub fn fields(mappings: &Mappings, mapping: &Compiled, cases: &[&Case]) -> Vec<Field> {
    if mapping.one_way.is_some() {
        return Vec::new();
    }
    let mut seen = Seen::default();
    for case in cases.iter().filter(|case| case.direction == Direction::Out) {
        let (Ok(target), Some(source)) = (made(mappings, case), documents(mappings, case)) else { continue };
        let target = of_record(mapping, target);
        let around = Around::of(&mappings.settings, case.received);
        let read = back::read(mapping, &target, around);
        seen.source(mapping, &source, &read);
        seen.target(mapping, &target, &with_message(read, &source), around);
    }
    let mut fields = Vec::new();
    for place in places(mapping) {
        let path = place.path.to_string();
        let survives = judged(seen.source.get(&path), || reason(mapping, &place));
        // What another mapping brought is judged there.
        if survives == Survives::Unseen && !is_own(mapping, &place) {
            continue;
        }
        if !fields.iter().any(|field: &Field| field.path == path) {
            fields.push(Field { path, of_source: true, survives });
        }
    }
    for (path, counts) in &seen.target {
        let survives =
            judged(Some(counts), || "it is made of something that cannot be read back from it".into());
        fields.push(Field { path: path.clone(), of_source: false, survives });
    }
    fields
}

#[derive(Default)]
struct Counts {
    kept: usize,
    lost: usize,
}

#[derive(Default)]
struct Seen {
    source: BTreeMap<String, Counts>,
    target: BTreeMap<String, Counts>,
}

impl Seen {
    fn source(&mut self, mapping: &Compiled, source: &Map<String, Value>, read: &Map<String, Value>) {
        for place in places(mapping) {
            let before = value_at(&place, source).map(|value| without(mapping, &place, value));
            if !before.as_ref().is_some_and(is_answered) {
                continue;
            }
            let kept =
                value_at(&place, read).zip(before).is_some_and(|(after, before)| same(&before, &after));
            let counts = self.source.entry(place.path.to_string()).or_default();
            if kept { counts.kept += 1 } else { counts.lost += 1 }
        }
    }

    fn target(&mut self, mapping: &Compiled, target: &Value, read: &Map<String, Value>, around: Around) {
        let again = eval::apply(mapping, roots(read), around, false);
        let again: Vec<(String, Value)> = again.map(|output| leaves_of(mapping, output)).unwrap_or_default();
        let before = match mapping.record {
            Some(_) => flat("record", &target["fields"]),
            None => resources(target)
                .into_iter()
                .flat_map(|r| flat(r["resourceType"].as_str().unwrap_or_default(), r))
                .collect(),
        };
        let mut left = again;
        for (path, value) in before {
            // References between entries are made from what they refer to.
            let known = left.iter().position(|(other, there)| *other == path && *there == value);
            let counts = self.target.entry(path).or_default();
            match known {
                Some(i) => {
                    left.swap_remove(i);
                    counts.kept += 1;
                }
                None => counts.lost += 1,
            }
        }
    }
}

fn judged(counts: Option<&Counts>, why: impl Fn() -> String) -> Survives {
    match counts {
        None => Survives::Unseen,
        Some(Counts { lost: 0, .. }) => Survives::Yes,
        Some(Counts { kept: 0, .. }) => Survives::No(why()),
        Some(Counts { kept, lost }) => Survives::Partly(format!("{} of {}: {}", kept, kept + lost, why())),
    }
}

fn is_own(mapping: &Compiled, place: &Place) -> bool {
    let rules = mapping.rules();
    let mut reading = rules.iter().filter(|rule| rule.places().contains(&place)).peekable();
    reading.peek().is_none() || reading.any(|rule| rule.origin.file == mapping.file)
}

/// The rules of what is made: not those of what is only told of a message.
fn rules(mapping: &Compiled) -> Vec<&Rule> {
    let mut rules = Vec::new();
    let trees = mapping
        .trees()
        .into_iter()
        .filter(|(name, _)| !matches!(*name, "answers" | "forms" | "outcome" | "state"));
    trees.for_each(|(_, tree)| tree.rules(&mut rules));
    rules
}

/// Every path of the source that a rule reads: items of a list count as the list.
fn places(mapping: &Compiled) -> Vec<Place> {
    let mut all: Vec<Place> = Vec::new();
    for rule in rules(mapping) {
        if !matches!(rule.source, From::Rest { .. }) {
            all.extend(rule.places().into_iter().cloned());
        }
    }
    all.extend(
        mapping.entries.iter().filter_map(|entry| entry.over.as_ref()).map(|over| over.place().clone()),
    );
    let message = ROOTS.iter().position(|root| *root == "message");
    all.retain(|place| match place.base {
        Base::Root(index) => Some(index) != message && place.path.steps.len() > 1,
        Base::Item(_) => false,
    });
    let mut once: Vec<Place> = Vec::new();
    for place in all {
        if !once.contains(&place) {
            once.push(place);
        }
    }
    once
}

fn value_at(place: &Place, documents: &Map<String, Value>) -> Option<Value> {
    let Base::Root(index) = place.base else { return None };
    let root = documents.get(*ROOTS.get(index)?)?;
    place.path.read(root).ok().flatten().cloned()
}

/// Without what is left out on purpose.
fn without(mapping: &Compiled, place: &Place, mut value: Value) -> Value {
    for over in mapping.entries.iter().filter_map(|entry| entry.over.as_ref()) {
        if let (Over::Leaves { place: own, except, .. }, Some(fields)) = (over, value.as_object_mut())
            && own == place
        {
            except.iter().for_each(|key| {
                fields.remove(key);
            });
        }
    }
    value
}

/// Texts are the same without blanks around; what was not answered counts as absent.
fn same(before: &Value, after: &Value) -> bool {
    match (before, after) {
        (Value::String(a), Value::String(b)) => a.trim() == b.trim(),
        (Value::Object(a), Value::Object(b)) => a
            .iter()
            .filter(|(_, value)| is_answered(value))
            .all(|(key, value)| b.get(key).is_some_and(|other| same(value, other))),
        (Value::Array(a), Value::Array(b)) => a
            .iter()
            .enumerate()
            .filter(|(_, value)| is_answered(value))
            .all(|(i, value)| b.get(i).is_some_and(|other| same(value, other))),
        (a, b) => a == b,
    }
}

/// Why a path does not come back, as its rules say.
fn reason(mapping: &Compiled, place: &Place) -> String {
    let rules: Vec<&Rule> =
        rules(mapping).into_iter().filter(|rule| rule.places().contains(&place)).collect();
    if let Some(entry) = alternative(mapping, place) {
        return format!("only where no {entry} is made of what stands before it");
    }
    let mut reasons: Vec<String> = Vec::new();
    for rule in rules {
        reasons.extend(rule.codecs.iter().filter_map(|codec| codec.loss()).map(String::from));
        reasons.extend(rule.table.as_ref().and_then(|(table, _)| table.loss()));
        if matches!(rule.back, Back::Never) {
            reasons.push("it is not read backwards (back: false)".into());
        }
        if let From::Paths(places) = &rule.source
            && places.len() > 1
            && places.first() != Some(place)
        {
            reasons.push(format!("what comes back is written to {}", places[0].path));
        }
        if let From::ByAge { .. } = rule.source {
            reasons.push("an age is made a birth date".into());
        }
    }
    let over =
        mapping.entries.iter().find(|entry| entry.over.as_ref().is_some_and(|over| over.place() == place));
    if over.is_some_and(|entry| entry.when.is_some()) {
        reasons.push("items for which its `if` does not hold are left out".into());
    }
    let mut seen = std::collections::HashSet::new();
    reasons.retain(|reason| seen.insert(reason.clone()));
    if reasons.is_empty() && is_joined(mapping, place) {
        return "several become one text".into();
    }
    match reasons.is_empty() {
        true => "it is only used in a join, a condition or expr, without a back".into(),
        false => reasons.join("; "),
    }
}

fn is_joined(mapping: &Compiled, place: &Place) -> bool {
    let joins = mapping.rules().into_iter().filter_map(|rule| match &rule.source {
        From::Join { parts, .. } => Some(parts),
        _ => None,
    });
    let mut rules = Vec::new();
    joins.flatten().for_each(|tree| tree.rules(&mut rules));
    rules.iter().any(|rule| rule.places().contains(&place))
}

/// The name of the entry, if the place is read by later entries of that name only.
fn alternative<'m>(mapping: &'m Compiled, place: &Place) -> Option<&'m str> {
    let reads = |entry: &EntryRule| {
        let mut rules = Vec::new();
        entry.resource.rules(&mut rules);
        rules.iter().any(|rule| rule.places().contains(&place))
    };
    let index = mapping.entries.iter().position(reads)?;
    let (earlier, from) = mapping.entries.split_at(index);
    let first = from.first()?;
    earlier.iter().any(|entry| entry.name == first.name).then_some(first.name.as_str())
}

fn resources(target: &Value) -> Vec<&Value> {
    match target["entry"].as_array() {
        Some(entries) => entries.iter().map(|entry| &entry["resource"]).collect(),
        None => vec![target],
    }
}

/// Leaves with their element, without the numbers of list items.
fn flat(path: &str, value: &Value) -> Vec<(String, Value)> {
    match value {
        Value::Object(fields) => {
            fields.iter().flat_map(|(key, value)| flat(&format!("{path}.{key}"), value)).collect()
        }
        Value::Array(items) => items.iter().flat_map(|item| flat(path, item)).collect(),
        leaf => vec![(path.to_string(), leaf.clone())],
    }
}

fn leaves_of(mapping: &Compiled, output: eval::Output) -> Vec<(String, Value)> {
    match (&mapping.record, output.record) {
        (Some(_), fields) => flat("record", &Value::Object(fields.unwrap_or_default())),
        (None, _) => output
            .entries
            .iter()
            .flat_map(|made| flat(made.resource["resourceType"].as_str().unwrap_or_default(), &made.resource))
            .collect(),
    }
}

/// A preview of a record as `back` reads it.
fn of_record(mapping: &Compiled, target: Value) -> Value {
    if mapping.record.is_none() {
        return target;
    }
    let mut fields = target.as_object().cloned().unwrap_or_default();
    fields.remove("_meta");
    fields.remove(&mapping.record.as_ref().map(|record| record.patient_field.clone()).unwrap_or_default());
    serde_json::json!({"fields": fields})
}

/// The message's own facts are no document's.
fn with_message(mut read: Map<String, Value>, source: &Map<String, Value>) -> Map<String, Value> {
    if let Some(message) = source.get("message") {
        read.insert("message".into(), message.clone());
    }
    read
}

fn documents(mappings: &Mappings, case: &Case) -> Option<Map<String, Value>> {
    let source = Source { route: &case.route, body: &case.input, received: case.received };
    mappings.documents(&source).into_iter().next()
}
