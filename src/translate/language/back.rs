//! A compiled mapping, read backwards: from what it makes to what it is made of.
use super::codec::Around;
use super::compile::Compiled;
use super::eval::{Inputs, Run};
use super::tree::{Back, Base, Condition, Object, Over, Place, ROOTS, Rule, Source, Test, Tree};
use crate::translate::values::text;
use serde_json::{Map, Value, json};

/// Elements that tell one item of a list from another.
const TELLING: &[&str] = &["resourceType", "system", "url"];

/// Levels of an answer's path: it comes from somebody else's resource.
const DEEPEST: usize = 32;

/// The documents of the source as far as they can be known, by root: `{"doc": {...}}`.
pub fn read(mapping: &Compiled, made: &Value, around: Around) -> Map<String, Value> {
    let mut reader = Reader { roots: vec![Value::Null; ROOTS.len()], items: Vec::new(), around };
    if let Some(record) = &mapping.record {
        reader.tree(&record.fields, &made["fields"]);
    }
    let resources: Vec<&Value> = match made["entry"].as_array() {
        Some(entries) if made["resourceType"] == "Bundle" => entries.iter().map(|e| &e["resource"]).collect(),
        _ => vec![made],
    };
    let mut used = vec![false; resources.len()];
    let mut known: Vec<&str> = Vec::new();
    for entry in &mapping.entries {
        if known.contains(&entry.name.as_str()) && entry.over.is_none() {
            continue;
        }
        let fits = |tree: &Tree, resource: &Value, reader: &Reader| {
            fits(tree, resource) && reader.reads_what_is_required(tree, resource)
        };
        match &entry.over {
            None => {
                let found =
                    (0..resources.len()).find(|i| !used[*i] && fits(&entry.resource, resources[*i], &reader));
                if let Some(i) = found {
                    used[i] = true;
                    known.push(&entry.name);
                    reader.tree(&entry.resource, resources[i]);
                }
            }
            Some(over) => {
                let all: Vec<usize> = (0..resources.len())
                    .filter(|i| !used[*i] && fits(&entry.resource, resources[*i], &reader))
                    .collect();
                all.iter().for_each(|i| used[*i] = true);
                reader.items(over, &entry.resource, &all.iter().map(|i| resources[*i]).collect::<Vec<_>>());
            }
        }
    }
    ROOTS
        .iter()
        .zip(reader.roots)
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.to_string(), value))
        .collect()
}

struct Reader<'c> {
    roots: Vec<Value>,
    /// The items around, outermost first.
    items: Vec<Value>,
    around: Around<'c>,
}

impl Reader<'_> {
    fn write(&mut self, place: &Place, value: Value) {
        if !value.is_null() {
            let root = match place.base {
                Base::Root(index) => self.roots.get_mut(index),
                Base::Item(depth) => self.items.get_mut(depth),
            };
            if let Some(root) = root {
                place.path.write(root, value);
            }
        }
    }

    /// Whether anything could be read.
    fn tree(&mut self, tree: &Tree, value: &Value) -> bool {
        match tree {
            Tree::Literal(literal) => literal == value,
            Tree::Object(object) => match value {
                Value::Object(fields) => {
                    let mut any = false;
                    for (key, tree) in &object.fields {
                        if let Some(value) = fields.get(key) {
                            any |= self.tree(tree, value);
                        }
                    }
                    any
                }
                _ => false,
            },
            Tree::List(templates) => match value {
                Value::Array(items) => self.list(templates, items),
                _ => false,
            },
            Tree::Rule(rule) => self.rule(rule, value),
        }
    }

    /// Each template takes the first item that fits it; what repeats takes all that do.
    fn list(&mut self, templates: &[Tree], items: &[Value]) -> bool {
        let mut used = vec![false; items.len()];
        let mut any = false;
        for template in templates {
            let several = match template {
                Tree::Rule(rule) => match &rule.source {
                    Source::Each { over, body } => Some((over, body)),
                    _ => None,
                },
                _ => None,
            };
            match several {
                Some((over, body)) => {
                    let all: Vec<usize> =
                        (0..items.len()).filter(|i| !used[*i] && fits(body, &items[*i])).collect();
                    all.iter().for_each(|i| used[*i] = true);
                    any |= !all.is_empty();
                    self.items(over, body, &all.iter().map(|i| &items[*i]).collect::<Vec<_>>());
                }
                None => {
                    if let Some(i) = (0..items.len()).find(|i| !used[*i] && fits(template, &items[*i])) {
                        used[i] = true;
                        any |= self.tree(template, &items[i]);
                    }
                }
            }
        }
        any
    }

    fn items(&mut self, over: &Over, body: &Tree, values: &[&Value]) {
        let mut made = Vec::new();
        for value in values {
            self.items.truncate(over.depth());
            self.items.resize(over.depth() + 1, Value::Null);
            self.tree(body, value);
            made.extend(self.items.pop().filter(|item| !item.is_null()));
        }
        if made.is_empty() {
            return;
        }
        match over {
            Over::Items { place, .. } => {
                // Several rules may read parts of the same items.
                let root = match place.base {
                    Base::Root(index) => self.roots.get(index),
                    Base::Item(depth) => self.items.get(depth),
                };
                let known = root.and_then(|root| place.path.read(root).ok().flatten()).cloned();
                let mut all = known.unwrap_or_default();
                laid_over(&mut all, Value::Array(made));
                self.write(place, all);
            }
            Over::Split { place, by, .. } => {
                let words: Vec<&str> = made.iter().filter_map(text).collect();
                self.write(place, json!(words.join(by)));
            }
            Over::Leaves { place, .. } => {
                for item in made {
                    let Some(path) = text(&item["path"]).filter(|path| path.split('.').count() <= DEEPEST)
                    else {
                        continue;
                    };
                    let steps = path.split('.').map(|step| match step.parse() {
                        Ok(index) => super::path::Step::Index(index),
                        Err(_) => super::path::Step::Key(step.into()),
                    });
                    let whole = place.path.join(&steps.collect::<Vec<_>>());
                    self.write(&Place { base: place.base, path: whole }, item["value"].clone());
                }
            }
        }
    }

    fn rule(&mut self, rule: &Rule, value: &Value) -> bool {
        match &rule.back {
            Back::Never => return false,
            Back::To(places) => {
                let run = Run::new(Inputs::default().with("value", value), self.around, false);
                let made: Vec<(&Place, Value)> = places
                    .iter()
                    .filter_map(|(place, tree)| Some((place, run.value(tree).ok().flatten()?)))
                    .collect();
                let any = !made.is_empty();
                made.into_iter().for_each(|(place, value)| self.write(place, value));
                return any;
            }
            Back::Itself => {}
        }
        match &rule.source {
            Source::Paths(places) => match (decoded(rule, value), places.first()) {
                (Some(value), Some(place)) => {
                    self.write(place, value);
                    true
                }
                _ => false,
            },
            Source::If { then, otherwise } => {
                // The first side that can be read; a condition that says `path: value` is written too.
                if let Some(then) = then
                    && fits(then, value)
                    && self.could(then, value)
                {
                    self.tree(then, value);
                    self.hold(rule.when.as_ref());
                    return true;
                }
                otherwise.as_ref().is_some_and(|tree| self.tree(tree, value))
            }
            Source::Each { over, body } => match value {
                Value::Array(items) => {
                    let all: Vec<&Value> = items.iter().filter(|item| fits(body, item)).collect();
                    self.items(over, body, &all);
                    !all.is_empty()
                }
                _ => false,
            },
            Source::Inline(tree) => self.tree(tree, value),
            _ => false,
        }
    }

    fn could(&self, tree: &Tree, value: &Value) -> bool {
        self.empty().tree(tree, value)
    }

    /// Whether a resource holds what its template cannot do without: of several entries of one name,
    /// this is the one that made it.
    fn reads_what_is_required(&self, tree: &Tree, resource: &Value) -> bool {
        let mut rules = Vec::new();
        tree.rules(&mut rules);
        let required: Vec<&Rule> = rules.into_iter().filter(|rule| rule.required).collect();
        if required.is_empty() {
            return true;
        }
        let mut trial = self.empty();
        trial.tree(tree, resource);
        let roots: Vec<&Value> = trial.roots.iter().collect();
        let is_read = |place: &Place| {
            !matches!(place.base, Base::Root(_)) || place.read(&roots, None).ok().flatten().is_some()
        };
        required.iter().all(|rule| rule.places().iter().any(|place| is_read(place)))
    }

    fn empty(&self) -> Self {
        Self {
            roots: vec![Value::Null; ROOTS.len()],
            items: vec![Value::Null; self.items.len()],
            around: self.around,
        }
    }

    fn hold(&mut self, condition: Option<&Condition>) {
        match condition {
            Some(Condition::All(all)) => all.iter().for_each(|one| self.hold(Some(one))),
            Some(Condition::Test(place, Test::OneOf(values))) => {
                if let Some(value) = values.first() {
                    self.write(place, value.clone());
                }
            }
            _ => {}
        }
    }
}

/// Objects and lists part by part; anything else is replaced.
fn laid_over(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                laid_over(under.entry(key).or_insert(Value::Null), value);
            }
        }
        (Value::Array(under), Value::Array(over)) => {
            for (i, value) in over.into_iter().enumerate() {
                match under.get_mut(i) {
                    Some(known) => laid_over(known, value),
                    None => under.push(value),
                }
            }
        }
        (under, over) => *under = over,
    }
}

fn decoded(rule: &Rule, value: &Value) -> Option<Value> {
    if rule.default.as_ref() == Some(value) {
        return None;
    }
    let mut value = match &rule.table {
        Some((table, _)) => json!(table.back(value).ok()?),
        None => value.clone(),
    };
    for codec in rule.codecs.iter().rev() {
        value = codec.back(&value).ok()?;
    }
    Some(value)
}

/// Whether what tells items apart is the same in both.
fn fits(tree: &Tree, value: &Value) -> bool {
    match tree {
        Tree::Object(Object { fields, .. }) => {
            fields.iter().all(|(key, tree)| match (tree, value.get(key)) {
                (Tree::Literal(literal), Some(there)) => literal == there || !is_word(literal),
                (Tree::Literal(_), None) => !TELLING.contains(&key.as_str()),
                (Tree::Object(_), Some(there)) => fits(tree, there),
                (Tree::List(templates), Some(Value::Array(items))) => {
                    // A list of literals tells too: `category: [{coding: [...]}]`. Else one item must fit.
                    let any = |t: &Tree| items.iter().any(|item| fits(t, item));
                    templates.iter().filter(|t| t.is_literal()).all(any) && templates.iter().any(any)
                }
                _ => true,
            })
        }
        Tree::Rule(rule) => match &rule.source {
            Source::Inline(tree) => fits(tree, value),
            Source::If { then: Some(then), otherwise: None } => fits(then, value),
            _ => true,
        },
        _ => true,
    }
}

fn is_word(literal: &Value) -> bool {
    literal.is_string() || literal.is_number() || literal.is_boolean()
}
