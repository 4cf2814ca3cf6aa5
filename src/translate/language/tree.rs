//! A mapping, compiled: what is walked for each message.
use super::codec::Codec;
use super::mistake::At;
use super::path::{OtherKind, Path, Step};
use super::reach::Reach;
use super::spec::{Give, WriteSpec};
use super::table::Table;
use serde_json::Value;
use std::sync::{Arc, OnceLock};

/// What a path can begin with. `value` only in `back`.
pub const ROOTS: &[&str] = &["doc", "body", "resource", "patient", "message", "value"];

/// Where a rule stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    pub file: Arc<str>,
    pub at: At,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Base {
    /// Index in [`ROOTS`].
    Root(usize),
    /// An item of the `each` at this depth.
    Item(usize),
}

/// A path whose beginning is known.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    pub base: Base,
    pub path: Path,
}

/// The items around a rule.
#[derive(Clone, Copy)]
pub struct Scope<'v> {
    pub up: Option<&'v Scope<'v>>,
    pub index: usize,
    pub item: &'v Value,
    /// What is repeated.
    pub over: &'v Over,
    /// Of `leaves`: the answer's path.
    pub leaf: Option<&'v str>,
}

impl<'v> Scope<'v> {
    /// The item of the `each` at this depth.
    pub fn at(scope: Option<&'v Self>, depth: usize) -> Option<&'v Self> {
        let mut here = scope;
        while let Some(scope) = here.filter(|scope| scope.over.depth() != depth) {
            here = scope.up;
        }
        here
    }
}

impl Place {
    pub fn start<'v>(&self, roots: &[&'v Value], scope: Option<&'v Scope<'v>>) -> &'v Value {
        match self.base {
            Base::Root(index) => roots.get(index).copied().unwrap_or(&Value::Null),
            Base::Item(depth) => Scope::at(scope, depth).map_or(&Value::Null, |scope| scope.item),
        }
    }

    /// Its path in the message: `body.observations[2].value`, where the mapping says `item.value`.
    pub fn in_message(&self, scope: Option<&Scope>) -> String {
        let around = match self.base {
            Base::Root(_) => None,
            Base::Item(depth) => Scope::at(scope, depth),
        };
        let Some(scope) = around else { return self.path.to_string() };
        let list = scope.over.place().in_message(scope.up);
        let of_item = Path { steps: self.path.steps.get(1..).unwrap_or_default().to_vec() };
        match (scope.over, scope.leaf) {
            (Over::Leaves { .. }, Some(leaf)) => format!("{list}{}", below(leaf)),
            (Over::Split { .. }, _) => list,
            _ if of_item.steps.is_empty() => format!("{list}[{}]", scope.index),
            _ => format!("{list}[{}]{}", scope.index, of_item.below()),
        }
    }

    pub fn read<'v>(
        &self,
        roots: &[&'v Value],
        scope: Option<&'v Scope<'v>>,
    ) -> Result<Option<&'v Value>, OtherKind> {
        self.path.read(self.start(roots, scope))
    }
}

/// A dotted path of an answer, as it is written below another: `.group[0].x`.
fn below(dotted: &str) -> String {
    let step = |step: &str| match step.parse::<usize>() {
        Ok(index) => format!("[{index}]"),
        Err(_) => format!(".{step}"),
    };
    dotted.split('.').map(step).collect()
}

#[derive(Debug)]
pub enum Tree {
    Literal(Value),
    Object(Object),
    List(Vec<Tree>),
    Rule(Box<Rule>),
}

#[derive(Debug)]
pub struct Object {
    pub fields: Vec<(String, Tree)>,
    /// Where each stands.
    pub origins: Vec<Origin>,
}

#[derive(Debug)]
pub struct Rule {
    pub origin: Origin,
    pub when: Option<Condition>,
    pub source: Source,
    pub codecs: Vec<Codec>,
    pub table: Option<(Arc<Table>, Option<Give>)>,
    pub default: Option<Value>,
    pub required: bool,
    pub back: Back,
}

#[derive(Debug)]
pub enum Source {
    /// The first that is answered.
    Paths(Vec<Place>),
    Expr(Script),
    /// The full URL of the entry of this name; of several, of the one whose identifier's value is `of`.
    Reference {
        name: String,
        of: Option<Place>,
    },
    Each {
        over: Over,
        body: Tree,
    },
    If {
        then: Option<Tree>,
        otherwise: Option<Tree>,
    },
    Join {
        parts: Vec<Tree>,
        with: String,
    },
    Derive(Vec<Tree>),
    Index {
        depth: usize,
    },
    ByAge {
        years: Option<Place>,
        months: Option<Place>,
        on: Place,
    },
    Rest {
        place: Place,
        except: Vec<String>,
        taken: Arc<OnceLock<Vec<Taken>>>,
    },
    /// Another mapping's entry.
    Inline(Tree),
}

/// What is repeated.
#[derive(Debug)]
pub enum Over {
    Items { place: Place, depth: usize },
    Split { place: Place, by: String, depth: usize },
    Leaves { place: Place, except: Vec<String>, depth: usize },
}

impl Over {
    pub fn place(&self) -> &Place {
        match self {
            Self::Items { place, .. } | Self::Split { place, .. } | Self::Leaves { place, .. } => place,
        }
    }

    pub fn depth(&self) -> usize {
        match self {
            Self::Items { depth, .. } | Self::Split { depth, .. } | Self::Leaves { depth, .. } => *depth,
        }
    }
}

/// What one rule takes of the message.
#[derive(Debug)]
pub struct Taken {
    /// Of several the first that is answered.
    pub places: Vec<Place>,
    /// Of CodeableConcepts only the words.
    pub words_only: bool,
}

#[derive(Debug)]
pub enum Back {
    /// The rule itself is read backwards.
    Itself,
    Never,
    To(Vec<(Place, Tree)>),
}

#[derive(Debug)]
pub enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
    Test(Place, Test),
    Expr(Script),
}

#[derive(Debug)]
pub enum Test {
    OneOf(Vec<Value>),
    NoneOf(Vec<Value>),
    Present(bool),
    /// One word of a multi-select.
    Has(String),
    /// A part of the text; capitals don't count.
    HasText(String),
    /// It looks like the id of a CHT document.
    Uuid(bool),
}

/// JavaScript over the roots and items that it names.
#[derive(Debug)]
pub struct Script {
    pub origin: Origin,
    pub code: String,
    pub reach: Reach,
    pub names: Vec<(String, Place)>,
}

/// What makes one resource, or one for each item.
#[derive(Debug)]
pub struct EntryRule {
    pub name: String,
    pub origin: Origin,
    pub when: Option<Condition>,
    pub over: Option<Over>,
    pub write: WriteSpec,
    pub keep: Vec<String>,
    pub profile: Option<String>,
    pub resource: Tree,
}

impl Tree {
    /// Every rule in it, outermost first.
    pub fn rules<'t>(&'t self, found: &mut Vec<&'t Rule>) {
        match self {
            Self::Literal(_) => {}
            Self::Object(object) => object.fields.iter().for_each(|(_, tree)| tree.rules(found)),
            Self::List(items) => items.iter().for_each(|tree| tree.rules(found)),
            Self::Rule(rule) => {
                found.push(rule);
                match &rule.source {
                    Source::Each { body, .. } | Source::Inline(body) => body.rules(found),
                    Source::If { then, otherwise } => {
                        then.iter().chain(otherwise).for_each(|tree| tree.rules(found));
                    }
                    Source::Join { parts, .. } | Source::Derive(parts) => {
                        parts.iter().for_each(|tree| tree.rules(found));
                    }
                    _ => {}
                }
            }
        }
    }

    /// What its rules take, with the places of items as those of their lists.
    pub fn takes(&self, lists: &mut Vec<Place>, found: &mut Vec<Taken>) {
        match self {
            Self::Literal(_) => {}
            Self::Object(object) => object.fields.iter().for_each(|(_, tree)| tree.takes(lists, found)),
            Self::List(items) => items.iter().for_each(|tree| tree.takes(lists, found)),
            Self::Rule(rule) => rule.takes(lists, found),
        }
    }

    pub fn is_literal(&self) -> bool {
        match self {
            Self::Literal(_) => true,
            Self::Object(object) => object.fields.iter().all(|(_, tree)| tree.is_literal()),
            Self::List(items) => items.iter().all(Tree::is_literal),
            Self::Rule(_) => false,
        }
    }
}

impl Rule {
    /// Every path that it reads itself.
    pub fn places(&self) -> Vec<&Place> {
        let mut found = Vec::new();
        match &self.source {
            Source::Paths(places) => found.extend(places),
            Source::Each { over, .. } => found.push(over.place()),
            Source::ByAge { years, months, on } => found.extend(years.iter().chain(months).chain([on])),
            _ => {}
        }
        found
    }
}

impl Rule {
    fn takes(&self, lists: &mut Vec<Place>, found: &mut Vec<Taken>) {
        let whole = |place: &Place, lists: &[Place]| match place.base {
            Base::Item(depth) => match lists.get(depth) {
                Some(list) => Place { base: list.base, path: list.path.join(&place.path.steps[1..]) },
                None => place.clone(),
            },
            Base::Root(_) => place.clone(),
        };
        let mut asked = Vec::new();
        self.when.iter().for_each(|when| when.places(&mut asked));
        for place in asked {
            found.push(Taken { places: vec![whole(place, lists)], words_only: false });
        }
        match &self.source {
            Source::Each { over, body } => {
                let list = whole(over.place(), lists);
                if !matches!(over, Over::Items { .. }) {
                    found.push(Taken { places: vec![list.clone()], words_only: false });
                }
                lists.truncate(over.depth());
                lists.push(list);
                body.takes(lists, found);
                lists.pop();
            }
            Source::Inline(tree) => tree.takes(lists, found),
            Source::If { then, otherwise } => {
                then.iter().chain(otherwise).for_each(|tree| tree.takes(lists, found));
            }
            Source::Join { parts, .. } | Source::Derive(parts) => {
                parts.iter().for_each(|tree| tree.takes(lists, found));
            }
            _ => {
                let places: Vec<Place> = self.places().into_iter().map(|place| whole(place, lists)).collect();
                let words_only = self.codecs.first() == Some(&Codec::Concept);
                found.extend((!places.is_empty()).then_some(Taken { places, words_only }));
            }
        }
    }
}

impl Condition {
    pub fn places<'c>(&'c self, found: &mut Vec<&'c Place>) {
        match self {
            Self::All(all) | Self::Any(all) => all.iter().for_each(|one| one.places(found)),
            Self::Not(one) => one.places(found),
            Self::Test(place, _) => found.push(place),
            Self::Expr(_) => {}
        }
    }
}

/// Whether `path` is this one or below it; indices of lists don't count.
pub fn is_at_or_below(path: &[Step], above: &[Step]) -> bool {
    let keys = |steps: &[Step]| -> Vec<String> {
        steps
            .iter()
            .filter_map(|step| match step {
                Step::Key(key) => Some(key.clone()),
                _ => None,
            })
            .collect()
    };
    keys(path).starts_with(&keys(above))
}
