//! Constants that FHIR or a profile forbids, wherever they stand: literals, defaults, and what tables
//! give. No case has to run through them.
use crate::translate::language::mistake::Mistake;
use crate::translate::language::tree::{EntryRule, Origin, Rule, Source, Tree};
use crate::translate::set::Set;
use fhir_validate::Issue;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

pub(super) fn forbidden(set: &Set) -> Vec<Mistake> {
    let mut found: Vec<Mistake> = Vec::new();
    for entry in set.all().flat_map(|mapping| &mapping.entries) {
        for branch in [Branch::Then, Branch::Otherwise] {
            for (path, origin, message) in Skeleton::of(entry, branch).wrong(set, entry) {
                let key = path.rsplit('.').next().unwrap_or_default();
                let mistake = set.mistake(&origin, key, &format!("{path}: {message}"));
                if !found.contains(&mistake) {
                    found.push(mistake);
                }
            }
        }
    }
    found
}

/// Which side of every `if` is looked at.
#[derive(Clone, Copy, PartialEq)]
enum Branch {
    Then,
    Otherwise,
}

/// A resource of which only the constants are there.
struct Skeleton {
    branch: Branch,
    resource: Value,
    /// Where the mapping says what stands at a path.
    origins: BTreeMap<String, Origin>,
    /// Paths of what only a message tells.
    open: Vec<String>,
    /// What may stand at such a path: its JSON pointer, and the value.
    choices: Vec<Choice>,
}

struct Choice {
    path: String,
    pointer: String,
    value: Value,
}

/// A place in the resource: as FHIRPath and as JSON pointer.
#[derive(Clone)]
struct At {
    path: String,
    pointer: String,
}

impl At {
    fn key(&self, key: &str) -> Self {
        Self { path: format!("{}.{key}", self.path), pointer: format!("{}/{key}", self.pointer) }
    }

    fn item(&self, index: usize) -> Self {
        Self { path: format!("{}[{index}]", self.path), pointer: format!("{}/{index}", self.pointer) }
    }
}

fn is_at_or_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

impl Skeleton {
    fn of(entry: &EntryRule, branch: Branch) -> Self {
        let mut own = Self {
            branch,
            resource: Value::Null,
            origins: BTreeMap::new(),
            open: Vec::new(),
            choices: Vec::new(),
        };
        let kind = match &entry.resource {
            Tree::Object(object) => object.fields.iter().find(|(key, _)| key == "resourceType"),
            _ => None,
        };
        if let Some((_, Tree::Literal(Value::String(kind)))) = kind {
            let at = At { path: kind.clone(), pointer: String::new() };
            own.resource = own.value(&entry.resource, &at, &entry.origin).unwrap_or_default();
        }
        own
    }

    fn value(&mut self, tree: &Tree, at: &At, origin: &Origin) -> Option<Value> {
        let made = match tree {
            Tree::Literal(value) => Some(value.clone()),
            Tree::Object(object) => {
                let mut made = Map::new();
                for ((key, tree), origin) in object.fields.iter().zip(&object.origins) {
                    if let Some(value) = self.value(tree, &at.key(key), origin) {
                        made.insert(key.clone(), value);
                    }
                }
                (!made.is_empty()).then_some(Value::Object(made))
            }
            Tree::List(items) => {
                let mut made = Vec::new();
                for item in items {
                    // What repeats within a list is items of that list.
                    let (item, origin) = match item {
                        Tree::Rule(rule) => match &rule.source {
                            Source::Each { body, .. } => (body, &rule.origin),
                            _ => (item, origin),
                        },
                        _ => (item, origin),
                    };
                    made.extend(self.value(item, &at.item(made.len()), origin));
                }
                (!made.is_empty()).then_some(Value::Array(made))
            }
            Tree::Rule(rule) => self.rule(rule, at),
        };
        if made.is_some() {
            self.origins.entry(at.path.clone()).or_insert_with(|| origin.clone());
        }
        made
    }

    fn rule(&mut self, rule: &Rule, at: &At) -> Option<Value> {
        match &rule.source {
            Source::Each { body, .. } => {
                let item = self.value(body, &at.item(0), &rule.origin)?;
                Some(Value::Array(vec![item]))
            }
            Source::Inline(tree) => self.value(tree, at, &rule.origin),
            Source::If { then, otherwise } => {
                let tree = if self.branch == Branch::Then { then } else { otherwise };
                match tree {
                    Some(tree) => self.value(tree, at, &rule.origin),
                    None => self.leave_open(at, rule),
                }
            }
            _ => {
                let given = rule.table.iter().flat_map(|(table, give)| table.given(*give));
                let choices = given.chain(rule.default.clone());
                let choice = |value| Choice { path: at.path.clone(), pointer: at.pointer.clone(), value };
                self.choices.extend(choices.map(choice));
                self.leave_open(at, rule)
            }
        }
    }

    fn leave_open(&mut self, at: &At, rule: &Rule) -> Option<Value> {
        self.origins.insert(at.path.clone(), rule.origin.clone());
        self.open.push(at.path.clone());
        None
    }

    /// What is wrong with the literals, and with each choice beside them.
    fn wrong(&self, set: &Set, entry: &EntryRule) -> Vec<(String, Origin, String)> {
        let definitions = &set.conformance.definitions;
        let judge = |resource: &Value, chosen: Option<&str>| -> Vec<(String, Origin, String)> {
            let issues = definitions.validate(resource, entry.profile.as_deref());
            issues.into_iter().filter_map(|issue| self.told(issue, chosen)).collect()
        };
        let mut found = judge(&self.resource, None);
        for choice in &self.choices {
            let mut resource = self.resource.clone();
            if put(&mut resource, &choice.pointer, choice.value.clone()) {
                let wrong = judge(&resource, Some(&choice.path));
                found.extend(wrong.into_iter().filter(|(path, ..)| concerns(path, &choice.path)));
            }
        }
        found
    }

    /// An issue counts only where nothing is open: what a message brings may be what is missing.
    fn told(&self, issue: Issue, chosen: Option<&str>) -> Option<(String, Origin, String)> {
        let path = issue.expression;
        let place = match self.origins.contains_key(&path) {
            true => path.as_str(),
            // What is missing, or unknown, in something that is there; a resource is never whole.
            false => path.rsplit_once('.').map(|(above, _)| above).filter(|above| above.contains('.'))?,
        };
        let is_open = |open: &String| is_at_or_below(open, place) && chosen != Some(open.as_str());
        if self.open.iter().any(is_open) {
            return None;
        }
        let origin = self.origins.get(place).or_else(|| self.origins.get(chosen?))?;
        Some((path, origin.clone(), issue.message))
    }
}

/// Whether an issue at `path` may come of what stands at `chosen`.
fn concerns(path: &str, chosen: &str) -> bool {
    is_at_or_below(path, chosen) || is_at_or_below(chosen, path)
}

/// Puts a value where the skeleton has none; whether there is such a place.
fn put(resource: &mut Value, pointer: &str, value: Value) -> bool {
    let mut here = resource;
    for step in pointer.split('/').skip(1) {
        let next = match here {
            Value::Array(items) => match step.parse::<usize>() {
                Ok(index) if index == items.len() => {
                    items.push(Value::Null);
                    items.last_mut()
                }
                Ok(index) => items.get_mut(index),
                Err(_) => None,
            },
            Value::Null => {
                *here = match step.parse::<usize>() {
                    Ok(_) => Value::Array(vec![Value::Null]),
                    Err(_) => Value::Object(Map::from_iter([(step.to_string(), Value::Null)])),
                };
                match here {
                    Value::Array(items) => items.first_mut(),
                    other => other.get_mut(step),
                }
            }
            Value::Object(fields) => Some(fields.entry(step).or_insert(Value::Null)),
            _ => None,
        };
        match next {
            Some(next) => here = next,
            None => return false,
        }
    }
    *here = value;
    true
}
