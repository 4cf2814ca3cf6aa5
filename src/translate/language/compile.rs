//! A mapping's file becomes what is walked. Every mistake is found with its line.
use super::codec::{self, Codec};
use super::mistake::{At, Mistake, nearest};
use super::path::{Path, Step};
use super::spec::{BackSpec, EntrySpec, MappingFile, RuleSpec};
use super::table::{Files, Table};
use super::tree::{
    Back, Base, Condition, EntryRule, Object, Origin, Over, Place, ROOTS, Rule, Script, Source, Taken, Test,
    Tree,
};
use super::yaml::{Kind, Node, parse};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

/// The keys that make a rule of an object. None is an element of FHIR; `~path` is the key `path`.
pub const SOURCES: &[&str] = &[
    "path", "expr", "ref", "each", "leaves", "if", "index", "join", "derive", "by_age", "rest", "fragment",
    "literal",
];

/// Whether a key does something in a rule of this kind.
fn has_effect(kind: &str, key: &str) -> bool {
    let own: &[&str] = match kind {
        "if" => &["then", "else"],
        "each" => &["split", "item", "do"],
        "leaves" => &["except", "item", "do"],
        "join" => &["with"],
        "rest" => &["except"],
        "fragment" | "ref" => &["of"],
        _ => &[],
    };
    let of_all: &[&str] = match kind {
        "literal" => &["if"],
        // What stands in the branches says how it is written.
        "if" => &["default", "required", "back"],
        _ => &["if", "as", "table", "give", "default", "required", "back"],
    };
    key == kind || own.contains(&key) || of_all.contains(&key)
}

/// A file, read and of the right form, not compiled yet.
pub struct Parsed {
    pub file: Arc<str>,
    pub text: String,
    pub spec: MappingFile,
    pub node: Node,
}

/// What a mapping makes besides resources.
#[derive(Debug)]
pub struct Outcome {
    pub encounter: String,
    pub answers: Tree,
    pub forms: Tree,
    /// One of these two.
    pub code: Option<Tree>,
    pub says: Option<String>,
    pub state: Option<Tree>,
}

#[derive(Debug)]
pub struct RecordRule {
    pub form: String,
    pub patient_field: String,
    pub lookup_field: String,
    pub each_contact: bool,
    pub fields: Tree,
}

#[derive(Debug)]
pub struct Asked {
    pub origin: Origin,
    pub place: Place,
    /// One of several conditions of which any will do: where their list stands.
    pub among: Option<At>,
}

#[derive(Debug)]
pub struct Compiled {
    pub name: String,
    pub title: String,
    pub file: Arc<str>,
    pub when: Option<Condition>,
    pub fallback: bool,
    /// Mappings that go before it.
    pub after: Vec<String>,
    /// Mappings that it goes before.
    pub before: Vec<String>,
    /// Why it is not read backwards.
    pub one_way: Option<String>,
    pub entries: Vec<EntryRule>,
    pub subject: Option<String>,
    pub referral: Option<String>,
    pub outcome: Option<Outcome>,
    pub record: Option<RecordRule>,
    /// Paths of this file that are read, but by no rule: in conditions, and what entries repeat.
    pub asked: Vec<Asked>,
    /// Below these, and not below what is passed over, every answer is made something of.
    pub kept: Vec<(Place, Vec<String>)>,
}

/// Reads one file. `name` is the file's, without `.yaml`.
pub fn read(file: &str, name: &str, text: &str) -> Result<Parsed, Vec<Mistake>> {
    let node = parse(text).map_err(|(at, message)| vec![Mistake::new(file, text, at, "", message)])?;
    let spec: MappingFile = typed(&node, &node, &[], file, text).map_err(|mistake| vec![*mistake])?;
    if spec.mapping != name {
        let at = node.find(&["mapping".to_string()]);
        let message = format!("expected {name}, the name of the file");
        return Err(vec![Mistake::new(file, text, at, "mapping", message)]);
    }
    Ok(Parsed { file: file.into(), text: text.into(), spec, node })
}

/// A node as the type that says what may stand there.
fn typed<T: DeserializeOwned>(
    node: &Node,
    root: &Node,
    above: &[String],
    file: &str,
    text: &str,
) -> Result<T, Box<Mistake>> {
    serde_path_to_error::deserialize(node.value()).map_err(|error| {
        let mut steps: Vec<String> = error
            .path()
            .to_string()
            .replace('[', ".")
            .replace(']', "")
            .split('.')
            .filter(|step| !step.is_empty() && *step != "?")
            .map(String::from)
            .collect();
        let message = in_words(&error.inner().to_string(), &mut steps, node);
        let full: Vec<String> = above.iter().cloned().chain(steps).collect();
        Box::new(Mistake::new(file, text, root.find(&full), key_of(&full), message))
    })
}

/// `entries[1].resource`.
pub fn key_of(steps: &[String]) -> String {
    let mut key = String::new();
    for step in steps {
        match step.parse::<usize>() {
            Ok(index) => key.push_str(&format!("[{index}]")),
            Err(_) if key.is_empty() => key.push_str(step),
            Err(_) => key.push_str(&format!(".{step}")),
        }
    }
    key
}

/// serde's message in ours. An unknown key becomes part of the path.
fn in_words(message: &str, steps: &mut Vec<String>, node: &Node) -> String {
    let ticks: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if message.starts_with("unknown field") {
        let (unknown, known) = ticks.split_first().map(|(u, k)| (*u, k)).unwrap_or_default();
        if steps.last().map(String::as_str) != Some(unknown) && has(node, steps, unknown) {
            steps.push(unknown.into());
        }
        return format!("no such key; {}", nearest(unknown, known.iter().copied()));
    }
    if message.starts_with("unknown variant") {
        let (unknown, known) = ticks.split_first().map(|(u, k)| (*u, k)).unwrap_or_default();
        return format!("{unknown} is none of these; {}", nearest(unknown, known.iter().copied()));
    }
    if message.starts_with("missing field") {
        return format!("the key {} is missing", ticks.first().copied().unwrap_or_default());
    }
    if message.contains("did not match any variant") {
        let last = steps.last().map(String::as_str).unwrap_or_default();
        if last == "as" || steps.iter().rev().nth(1).is_some_and(|step| step == "as") {
            return wrong_codec(node, steps);
        }
        return wrong_alternative(message, steps, node);
    }
    message.split(" at line ").next().unwrap_or(message).replace("invalid type: ", "found ")
}

/// What may stand where one of several forms does.
fn wrong_alternative(message: &str, steps: &mut Vec<String>, node: &Node) -> String {
    let (expected, known): (&str, &[&str]) = match message.rsplit(' ').next().unwrap_or_default() {
        "CodeSpec" => ("a code, or {system, code, display}", &["system", "code", "display"]),
        "BackSpec" => ("false, or paths of the source with what to write there", &[]),
        "OneOrMany" => ("one, or a list of them", &[]),
        _ => ("another kind of value (see docs/MAPPING.md)", &[]),
    };
    let written = at_steps(node, steps).map(Node::entries).unwrap_or_default();
    match written.iter().find(|entry| !known.is_empty() && !known.contains(&entry.key.as_str())) {
        Some(entry) => {
            steps.push(entry.key.clone());
            format!("no such key; {}", nearest(&entry.key, known.iter().copied()))
        }
        None => format!("expected {expected}"),
    }
}

fn at_steps<'n>(node: &'n Node, steps: &[String]) -> Option<&'n Node> {
    steps
        .iter()
        .try_fold(node, |node, step| node.get(step).or_else(|| node.items().get(step.parse::<usize>().ok()?)))
}

fn wrong_codec(node: &Node, steps: &[String]) -> String {
    let written = at_steps(node, steps);
    let names: Vec<&str> = written
        .map(|node| node.text().into_iter().chain(node.items().iter().filter_map(Node::text)).collect())
        .unwrap_or_default();
    match names.iter().find(|name| !codec::NAMES.contains(name)) {
        Some(name) => format!("there is no codec {name}; {}", nearest(name, codec::NAMES.iter().copied())),
        None => format!("expected a codec: {}", codec::NAMES.join(", ")),
    }
}

fn has(node: &Node, steps: &[String], key: &str) -> bool {
    at_steps(node, steps).is_some_and(|node| node.get(key).is_some())
}

/// Every file of a set, by mapping name.
pub type All = BTreeMap<String, Parsed>;

/// Compiles one mapping; others are there for `include` and `fragment`.
pub fn compile(parsed: &Parsed, all: &All, files: &dyn Files) -> Result<Compiled, Vec<Mistake>> {
    let mut compiler = Compiler::new(parsed, all, files, None);
    let compiled = compiler.mapping();
    if compiler.mistakes.is_empty() { Ok(compiled) } else { Err(compiler.mistakes) }
}

/// Whether the `after` of a mapping, or the `before` of others, leads back to it.
fn is_after_itself(name: &str, all: &All) -> bool {
    let mut seen: Vec<&str> = Vec::new();
    let mut open = vec![name];
    while let Some(one) = open.pop() {
        let after = all.get(one).into_iter().flat_map(|parsed| parsed.spec.after.iter());
        let before = all.iter().filter(|(_, parsed)| parsed.spec.before.iter().any(|b| b == one));
        for other in after.chain(before.map(|(name, _)| name)) {
            if other == name {
                return true;
            }
            if !seen.contains(&other.as_str()) {
                seen.push(other);
                open.push(other);
            }
        }
    }
    false
}

/// How deep `fragment` and `include` may go.
const DEEPEST_USE: usize = 8;

struct Compiler<'a> {
    parsed: &'a Parsed,
    all: &'a All,
    files: &'a dyn Files,
    tables: HashMap<String, Arc<Table>>,
    aliases: HashMap<String, Place>,
    /// Names of items, outermost first.
    items: Vec<String>,
    /// Names of the entries so far, for `ref`.
    entries: Vec<String>,
    /// Their types, as far as they are told.
    kinds: HashMap<String, String>,
    /// Within `back`, where `value` is known.
    in_back: bool,
    taken: Arc<OnceLock<Vec<Taken>>>,
    /// See [`Compiled::asked`].
    asked: Vec<Asked>,
    /// The list of conditions that we are in, the outermost.
    alternatives: Option<At>,
    depth: usize,
    mistakes: Vec<Mistake>,
}

type At2<'n> = (&'n Node, Vec<String>);

fn below<'n>(here: &At2<'n>, step: impl ToString, node: &'n Node) -> At2<'n> {
    let mut steps = here.1.clone();
    steps.push(step.to_string());
    (node, steps)
}

impl<'a> Compiler<'a> {
    fn new(parsed: &'a Parsed, all: &'a All, files: &'a dyn Files, doc: Option<Place>) -> Self {
        let mut compiler = Self {
            parsed,
            all,
            files,
            tables: HashMap::new(),
            aliases: HashMap::new(),
            items: Vec::new(),
            entries: Vec::new(),
            kinds: HashMap::new(),
            in_back: false,
            taken: Arc::default(),
            asked: Vec::new(),
            alternatives: None,
            depth: 0,
            mistakes: Vec::new(),
        };
        compiler.aliases.extend(doc.map(|place| ("doc".to_string(), place)));
        compiler.names_of_paths();
        for (name, spec) in &parsed.spec.tables {
            let codes = parsed.node.get("tables").and_then(|tables| tables.get(name)?.get("codes"));
            let order: Vec<String> =
                codes.into_iter().flat_map(|codes| codes.entries()).map(|entry| entry.key.clone()).collect();
            match Table::load(name, spec, &order, files) {
                Ok(table) => {
                    compiler.tables.insert(name.clone(), Arc::new(table));
                }
                Err(why) => compiler.mistake(&["tables".to_string(), name.clone()], why),
            }
        }
        compiler
    }

    /// `let`: a name may stand for a path that begins with another, in whatever order.
    fn names_of_paths(&mut self) {
        let mut left: Vec<(&String, &String)> = self.parsed.spec.aliases.iter().collect();
        while !left.is_empty() {
            let begins_with = |path: &str, name: &str| {
                path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            };
            let waits = |(name, path): &(&String, &String)| {
                let is_root = ROOTS.iter().any(|root| begins_with(path, root)) && begins_with(path, name);
                !is_root && left.iter().any(|(other, _)| begins_with(path, other))
            };
            let (later, now): (Vec<_>, Vec<_>) = left.iter().copied().partition(waits);
            if now.is_empty() {
                for (name, _) in later {
                    self.mistake(&["let".to_string(), name.clone()], "it leads back to itself");
                }
                return;
            }
            for (name, path) in now {
                if let Some(place) = self.place(path, &["let".to_string(), name.clone()]) {
                    self.aliases.insert(name.clone(), place);
                }
            }
            left = later;
        }
    }

    fn mistake(&mut self, steps: &[String], message: impl Into<String>) {
        let at = self.parsed.node.find(steps);
        self.mistakes.push(Mistake::new(&self.parsed.file, &self.parsed.text, at, key_of(steps), message));
    }

    fn origin(&self, at: At) -> Origin {
        Origin { file: self.parsed.file.clone(), at }
    }

    fn mapping(&mut self) -> Compiled {
        let root: At2 = (&self.parsed.node, Vec::new());
        let spec = self.parsed.spec.clone();
        let when = self.key(&root, "when").map(|at| self.condition(&at));
        for (key, names) in [("after", &spec.after), ("before", &spec.before)] {
            for (i, name) in names.iter().enumerate().filter(|(_, name)| !self.all.contains_key(*name)) {
                let known = nearest(name, self.all.keys().map(String::as_str));
                let message = format!("there is no mapping {name}; {known}");
                self.mistake(&[key.to_string(), i.to_string()], message);
            }
        }
        if is_after_itself(&spec.mapping, self.all) {
            let key = if spec.after.is_empty() { "before" } else { "after" };
            self.mistake(&[key.to_string()], "by these it would serve only after itself");
        }
        let mut entries = Vec::new();
        if let Some(list) = self.key(&root, "entries") {
            for (i, node) in list.0.items().iter().enumerate() {
                if let Some(spec) = spec.entries.get(i) {
                    entries.extend(self.entry(&below(&list, i, node), spec));
                }
            }
        }
        self.entries = entries.iter().map(|entry: &EntryRule| entry.name.clone()).collect();
        for (key, name) in [("subject", &spec.subject), ("referral", &spec.referral)] {
            if let Some(name) = name.as_ref().filter(|name| !self.entries.contains(name)) {
                let message = format!("no entry has this name; {}", self.nearest_entry(name));
                self.mistake(&[key.to_string()], message);
            }
        }
        let outcome = self.key(&root, "outcome").zip(spec.outcome.as_ref()).and_then(|(at, outcome)| {
            let named = [("encounter", Some(&outcome.encounter)), ("says", outcome.says.as_ref())];
            for (key, name) in named.into_iter().filter_map(|(key, name)| Some((key, name?))) {
                if !self.entries.contains(name) {
                    let message = format!("no entry has this name; {}", self.nearest_entry(name));
                    self.mistake(&["outcome".to_string(), key.to_string()], message);
                }
            }
            let answers = self.key(&at, "answers").map(|at| self.template(&at))?;
            let code = self.key(&at, "code").map(|at| self.template(&at));
            let forms = self.key(&at, "forms").map(|at| self.template(&at))?;
            let state = self.key(&at, "state").map(|at| self.template(&at));
            let says = outcome.says.clone();
            if code.is_some() == says.is_some() {
                self.mistake(&["outcome".to_string()], "expected one of code and says");
            }
            Some(Outcome { encounter: outcome.encounter.clone(), answers, forms, code, says, state })
        });
        let record = self.key(&root, "record").zip(spec.record.as_ref()).and_then(|(at, record)| {
            Some(RecordRule {
                form: record.form.clone(),
                patient_field: record.patient_field.clone(),
                lookup_field: record.lookup_field.clone(),
                each_contact: record.each_contact,
                fields: self.key(&at, "fields").map(|at| self.template(&at))?,
            })
        });
        if entries.is_empty() && record.is_none() && self.mistakes.is_empty() && !spec.disabled {
            self.mistake(&["mapping".to_string()], "it makes nothing: expected entries or a record");
        }
        let kept = entries.iter().filter(|entry: &&EntryRule| entry.when.is_none());
        let kept = kept.filter_map(|entry| match &entry.over {
            Some(Over::Leaves { place, except, .. }) => Some((place.clone(), except.clone())),
            _ => None,
        });
        let kept = kept.collect();
        let compiled = Compiled {
            name: spec.mapping,
            title: spec.title,
            file: self.parsed.file.clone(),
            when,
            fallback: spec.fallback,
            after: spec.after,
            before: spec.before,
            one_way: spec.one_way,
            entries,
            subject: spec.subject,
            referral: spec.referral,
            outcome,
            record,
            asked: std::mem::take(&mut self.asked),
            kept,
        };
        let mut taken = Vec::new();
        compiled.trees().into_iter().for_each(|(_, tree)| tree.takes(&mut Vec::new(), &mut taken));
        // Nobody else fills it: a mapping is compiled once.
        self.taken.set(taken).unwrap_or_default();
        compiled
    }

    fn nearest_entry(&self, name: &str) -> String {
        nearest(name, self.entries.iter().map(String::as_str))
    }

    fn key<'n>(&self, here: &At2<'n>, key: &str) -> Option<At2<'n>> {
        here.0.get(key).map(|node| below(here, key, node))
    }

    fn entry(&mut self, here: &At2, spec: &EntrySpec) -> Vec<EntryRule> {
        if let Some(name) = &spec.include {
            return self.included(here, name);
        }
        let Some(name) = spec.entry.clone() else {
            self.mistake(&here.1, "expected entry: a name, or include: a mapping");
            return Vec::new();
        };
        let Some(resource) = self.key(here, "resource") else {
            self.mistake(&here.1, "expected resource: what is made");
            return Vec::new();
        };
        let (each, leaves) = (spec.each.as_deref(), spec.leaves.as_deref());
        let over = self.over(here, each, leaves, &spec.except, None, spec.item.as_deref());
        if let Some(over) = &over {
            let key = if each.is_some() { "each" } else { "leaves" };
            let at = self.key(here, key).map_or(here.0.at, |(node, _)| node.at);
            self.ask(at, over.place());
        }
        let when = self.key(here, "if").map(|at| self.condition(&at));
        if let Some(kind) = resource.0.get("resourceType").and_then(Node::text) {
            match self.files.definitions().is_known(kind) {
                true => self.elements(&resource, kind),
                false => self.mistake(
                    &below(&resource, "resourceType", resource.0).1,
                    "no type of resource that is known here",
                ),
            }
        }
        if let Some(url) = spec
            .profile
            .as_ref()
            .filter(|url| !self.files.definitions().profiles().any(|known| known == *url))
        {
            let known = nearest(url, self.files.definitions().profiles());
            self.mistake(&below(here, "profile", here.0).1, format!("no profile has this URL; {known}"));
        }
        if let Some(kind) = resource.0.get("resourceType").and_then(Node::text) {
            self.kinds.insert(name.clone(), kind.into());
        }
        let resource = self.template(&resource);
        if over.is_some() {
            self.items.pop();
        }
        self.entries.push(name.clone());
        vec![EntryRule {
            name,
            origin: self.origin(here.0.at),
            when,
            over,
            write: spec.write,
            keep: spec.keep.clone(),
            profile: spec.profile.clone(),
            resource,
        }]
    }

    /// Names that R4 does not have at this path of a resource.
    fn elements(&mut self, here: &At2, path: &str) {
        if let Kind::List(items) = &here.0.kind {
            return items.iter().enumerate().for_each(|(i, item)| self.elements(&below(here, i, item), path));
        }
        let entries = here.0.entries();
        if SOURCES.iter().any(|source| here.0.get(source).is_some()) {
            // The branches of a rule stand at the same path.
            for key in ["then", "else", "do"] {
                if let Some(at) = self.key(here, key) {
                    self.elements(&at, path);
                }
            }
            return;
        }
        let Some(known) = self.files.definitions().children(path) else { return };
        for entry in entries {
            let at = below(here, &entry.key, &entry.node);
            let name = entry.key.strip_prefix('~').unwrap_or(&entry.key);
            let name = name.strip_prefix('_').unwrap_or(name);
            if name == "resourceType" {
                continue;
            }
            match known.iter().find(|child| child.name == name) {
                Some(_) if name == "contained" || name == "resource" => {}
                Some(child) => {
                    self.elements(&at, &format!("{path}.{name}"));
                    if !child.targets.is_empty() {
                        self.targets(&at, &child.targets);
                    }
                }
                None => {
                    let hint = nearest(name, known.iter().map(|child| child.name.as_str()));
                    let hint = if hint.starts_with("did you") { format!("; {hint}") } else { String::new() };
                    self.mistake(&at.1, format!("{path} has no such element in R4{hint}"));
                }
            }
        }
    }

    /// `ref` to an entry of a type that the element does not refer to.
    fn targets(&mut self, here: &At2, targets: &[String]) {
        if let Some(name) = here.0.get("ref").and_then(Node::text)
            && let Some(kind) = self.kinds.get(name)
            && !targets.contains(kind)
        {
            let message = format!("{name} is a {kind}; expected a reference to {}", targets.join(" or "));
            let steps: Vec<String> = here.1.iter().cloned().chain(["ref".to_string()]).collect();
            return self.mistake(&steps, message);
        }
        for (i, item) in here.0.items().iter().enumerate() {
            self.targets(&below(here, i, item), targets);
        }
        for key in ["reference", "then", "else", "do"] {
            if let Some(at) = self.key(here, key) {
                self.targets(&at, targets);
            }
        }
    }

    /// What another mapping makes; its names are ours from here on.
    fn included(&mut self, here: &At2, name: &str) -> Vec<EntryRule> {
        let steps: Vec<String> = here.1.iter().cloned().chain(["include".to_string()]).collect();
        let Some(other) = self.all.get(name) else {
            let message =
                format!("there is no mapping {name}; {}", nearest(name, self.all.keys().map(String::as_str)));
            self.mistake(&steps, message);
            return Vec::new();
        };
        if self.depth >= DEEPEST_USE || other.file == self.parsed.file {
            self.mistake(&steps, "mappings that include each other");
            return Vec::new();
        }
        let mut compiler = Compiler::new(other, self.all, self.files, None);
        compiler.depth = self.depth + 1;
        compiler.taken = self.taken.clone();
        let root: At2 = (&other.node, Vec::new());
        let mut made = Vec::new();
        if let Some(list) = compiler.key(&root, "entries") {
            for (node, (i, spec)) in list.0.items().iter().zip(other.spec.entries.iter().enumerate()) {
                made.extend(compiler.entry(&below(&list, i, node), spec));
            }
        }
        self.mistakes.extend(compiler.mistakes);
        self.kinds.extend(compiler.kinds);
        self.entries.extend(made.iter().map(|entry| entry.name.clone()));
        made
    }

    /// What is repeated; the item's name is known from here on.
    fn over(
        &mut self,
        here: &At2,
        each: Option<&str>,
        leaves: Option<&str>,
        except: &[String],
        split: Option<&str>,
        item: Option<&str>,
    ) -> Option<Over> {
        let (key, path) = each.map(|path| ("each", path)).or(leaves.map(|path| ("leaves", path)))?;
        let steps: Vec<String> = here.1.iter().cloned().chain([key.to_string()]).collect();
        let place = self.place(path, &steps)?;
        let depth = self.items.len();
        self.items.push(item.unwrap_or("item").to_string());
        Some(match (key, split) {
            ("leaves", _) => Over::Leaves { place, except: except.to_vec(), depth },
            (_, Some(by)) => Over::Split { place, by: by.into(), depth },
            _ => Over::Items { place, depth },
        })
    }

    fn place(&mut self, text: &str, steps: &[String]) -> Option<Place> {
        let path = match Path::parse(text) {
            Ok(path) => path,
            Err(why) => {
                self.mistake(steps, why);
                return None;
            }
        };
        let Some(Step::Key(name)) = path.steps.first() else {
            self.mistake(steps, "a path begins with a name, such as doc");
            return None;
        };
        if let Some(depth) = self.items.iter().rposition(|item| item == name) {
            return Some(Place { base: Base::Item(depth), path });
        }
        if let Some(alias) = self.aliases.get(name) {
            let joined = alias.path.join(&path.steps[1..]);
            return Some(Place { base: alias.base, path: joined });
        }
        match ROOTS.iter().position(|root| root == name) {
            Some(index) if *name != "value" || self.in_back => Some(Place { base: Base::Root(index), path }),
            _ => {
                let roots = ROOTS.iter().filter(|root| **root != "value").copied();
                let known: Vec<&str> = roots
                    .chain(self.aliases.keys().map(String::as_str))
                    .chain(self.items.iter().map(String::as_str))
                    .collect();
                let message = format!("nothing here is called {name}; {}", nearest(name, known.into_iter()));
                self.mistake(steps, message);
                None
            }
        }
    }

    fn template(&mut self, here: &At2) -> Tree {
        let (node, steps) = here;
        match &node.kind {
            Kind::Scalar(value) => Tree::Literal(value.clone()),
            Kind::List(items) => Tree::List(
                items.iter().enumerate().map(|(i, item)| self.template(&below(here, i, item))).collect(),
            ),
            Kind::Map(_) if SOURCES.iter().any(|source| node.get(source).is_some()) => {
                match typed::<RuleSpec>(node, &self.parsed.node, steps, &self.parsed.file, &self.parsed.text)
                {
                    Ok(spec) => self.rule(here, spec),
                    Err(mistake) => {
                        self.mistakes.push(*mistake);
                        Tree::Literal(Value::Null)
                    }
                }
            }
            Kind::Map(entries) => {
                let field = |compiler: &mut Self, entry: &'_ super::yaml::Entry| {
                    let key = entry.key.strip_prefix('~').unwrap_or(&entry.key).to_string();
                    (key, compiler.template(&below(here, &entry.key, &entry.node)))
                };
                let fields = entries.iter().map(|entry| field(self, entry)).collect();
                let origins = entries.iter().map(|entry| self.origin(entry.key_at)).collect();
                Tree::Object(Object { fields, origins })
            }
        }
    }

    fn rule(&mut self, here: &At2, spec: RuleSpec) -> Tree {
        let (node, steps) = here;
        let sources: Vec<&str> = SOURCES.iter().filter(|key| node.get(key).is_some()).copied().collect();
        let plain: Vec<&str> = sources.iter().filter(|key| **key != "if").copied().collect();
        let with = |key: &str| -> Vec<String> { steps.iter().cloned().chain([key.to_string()]).collect() };
        if plain.len() > 1 {
            let message = format!("one of these at a time: {}", plain.join(", "));
            self.mistake(steps, message);
            return Tree::Literal(Value::Null);
        }
        let kind = plain.first().copied().unwrap_or("if");
        let idle: Vec<&str> = node
            .entries()
            .iter()
            .map(|entry| entry.key.as_str())
            .filter(|key| !has_effect(kind, key) || (*key == "give" && node.get("table").is_none()))
            .collect();
        for key in idle {
            let message = match key {
                "then" | "else" => "it belongs to an if that stands alone".to_string(),
                "give" if has_effect(kind, key) => "it has no effect without table".into(),
                _ => format!("it has no effect beside {kind}"),
            };
            self.mistake(&with(key), message);
        }
        let when = spec.condition.is_some().then(|| self.key(here, "if")).flatten();
        let condition = when.map(|at| self.condition(&at));
        let (when, source) = match plain.first() {
            None => {
                let then = self.key(here, "then").map(|at| self.template(&at));
                let otherwise = self.key(here, "else").map(|at| self.template(&at));
                if then.is_none() && otherwise.is_none() {
                    self.mistake(steps, "expected then or else beside if");
                }
                (condition, Source::If { then, otherwise })
            }
            Some(&"literal") => {
                let literal = Tree::Literal(spec.literal.clone().unwrap_or_default());
                if condition.is_none() {
                    return literal;
                }
                (condition, Source::If { then: Some(literal), otherwise: None })
            }
            Some(key) => match self.source(here, key, &spec) {
                Some(source) => (condition, source),
                None => return Tree::Literal(Value::Null),
            },
        };
        let table = spec.table.as_ref().and_then(|name| match self.tables.get(name) {
            Some(table) => Some((table.clone(), spec.give)),
            None => {
                let known = nearest(name, self.parsed.spec.tables.keys().map(String::as_str));
                if !self.parsed.spec.tables.contains_key(name) {
                    self.mistake(&with("table"), format!("there is no table {name}; {known}"));
                }
                None
            }
        });
        let codecs: Vec<Codec> = spec.codec.map(super::spec::OneOrMany::into_vec).unwrap_or_default();
        let back = self.back(here, spec.back.as_ref());
        Tree::Rule(Box::new(Rule {
            // Where its source stands, which is what an error is about.
            origin: self.origin(
                node.entries()
                    .iter()
                    .find(|e| plain.first().unwrap_or(&"if") == &e.key)
                    .map_or(node.at, |e| e.key_at),
            ),
            when,
            source,
            codecs,
            table,
            default: spec.default,
            required: spec.required,
            back,
        }))
    }

    fn source(&mut self, here: &At2, key: &str, spec: &RuleSpec) -> Option<Source> {
        let steps = |key: &str| -> Vec<String> { here.1.iter().cloned().chain([key.to_string()]).collect() };
        let place = |compiler: &mut Self, path: &Option<String>, key: &str| {
            path.as_ref().and_then(|path| compiler.place(path, &steps(key)))
        };
        Some(match key {
            "path" => {
                let paths = spec.path.clone()?.into_vec();
                let places: Vec<Place> =
                    paths.iter().filter_map(|path| self.place(path, &steps("path"))).collect();
                if paths.is_empty() {
                    self.mistake(&steps("path"), "expected a path");
                }
                Source::Paths(places)
            }
            "expr" => Source::Expr(self.script(here, "expr")?),
            "ref" => {
                let name = spec.reference.clone()?;
                if !self.entries.contains(&name) {
                    let message =
                        format!("no entry before this one is called {name}; {}", self.nearest_entry(&name));
                    self.mistake(&steps("ref"), message);
                }
                Source::Reference { name, of: place(self, &spec.of, "of") }
            }
            "each" | "leaves" => {
                let (each, leaves) = (spec.each.as_deref(), spec.leaves.as_deref());
                let over =
                    self.over(here, each, leaves, &spec.except, spec.split.as_deref(), spec.item.as_deref())?;
                let body = match self.key(here, "do") {
                    Some(at) => self.template(&at),
                    None => {
                        self.mistake(&here.1, "expected do: what is made for each item");
                        Tree::Literal(Value::Null)
                    }
                };
                self.items.pop();
                Source::Each { over, body }
            }
            "join" | "derive" => {
                let list = self.key(here, key)?;
                let parts = list.0.items().iter().enumerate();
                let parts = parts.map(|(i, item)| self.template(&below(&list, i, item))).collect();
                match key {
                    "join" => Source::Join { parts, with: spec.with.clone().unwrap_or_else(|| "\n".into()) },
                    _ => Source::Derive(parts),
                }
            }
            "index" => {
                let name = spec.index.clone()?;
                let Some(depth) = self.items.iter().rposition(|item| *item == name) else {
                    let known = nearest(&name, self.items.iter().map(String::as_str));
                    self.mistake(&steps("index"), format!("no item here is called {name}; {known}"));
                    return None;
                };
                Source::Index { depth }
            }
            "by_age" => {
                let age = spec.by_age.as_ref()?;
                let on = self.place(&age.on, &steps("by_age"))?;
                Source::ByAge {
                    years: place(self, &age.years, "by_age"),
                    months: place(self, &age.months, "by_age"),
                    on,
                }
            }
            "rest" => {
                let place = place(self, &spec.rest, "rest")?;
                self.ask(here.0.at, &place);
                Source::Rest { place, except: spec.except.clone(), taken: self.taken.clone() }
            }
            _ => Source::Inline(self.inline(here, spec)?),
        })
    }

    /// `fragment: patient.patient` with `of: doc.patient`: that entry's resource, of that document.
    fn inline(&mut self, here: &At2, spec: &RuleSpec) -> Option<Tree> {
        let steps: Vec<String> = here.1.iter().cloned().chain(["fragment".to_string()]).collect();
        let wanted = spec.fragment.clone()?;
        let of = spec.of.clone().unwrap_or_else(|| "doc".into());
        let of = self.place(&of, &here.1.iter().cloned().chain(["of".to_string()]).collect::<Vec<_>>())?;
        let (mapping, entry) = wanted.split_once('.').unwrap_or((&wanted, ""));
        let found = self.all.get(mapping).and_then(|other| {
            let index = other.spec.entries.iter().position(|e| e.entry.as_deref() == Some(entry))?;
            Some((other, index))
        });
        let Some((other, index)) = found.filter(|_| self.depth < DEEPEST_USE) else {
            let all = self.all.iter().flat_map(|(name, parsed)| {
                let entries = parsed.spec.entries.iter().filter_map(|entry| entry.entry.as_ref());
                entries.map(move |entry| format!("{name}.{entry}"))
            });
            let all: Vec<String> = all.collect();
            let message =
                format!("expected mapping.entry; {}", nearest(&wanted, all.iter().map(String::as_str)));
            self.mistake(&steps, message);
            return None;
        };
        let mut compiler = Compiler::new(other, self.all, self.files, Some(of));
        compiler.depth = self.depth + 1;
        compiler.items = self.items.clone();
        compiler.taken = self.taken.clone();
        let root: At2 = (&other.node, Vec::new());
        let list = compiler.key(&root, "entries")?;
        let entry = below(&list, index, list.0.items().get(index)?);
        let tree = compiler.key(&entry, "resource").map(|at| compiler.template(&at));
        self.mistakes.extend(compiler.mistakes);
        tree
    }

    fn back(&mut self, here: &At2, spec: Option<&BackSpec>) -> Back {
        let steps: Vec<String> = here.1.iter().cloned().chain(["back".to_string()]).collect();
        match spec {
            None => Back::Itself,
            Some(BackSpec::Never(false)) => Back::Never,
            Some(BackSpec::Never(true)) => {
                self.mistake(&steps, "expected false, or paths of the source with what to write there");
                Back::Never
            }
            Some(BackSpec::To(_)) => {
                let Some(map) = self.key(here, "back") else { return Back::Never };
                let mut to = Vec::new();
                for entry in map.0.entries() {
                    let at = below(&map, &entry.key, &entry.node);
                    if let Some(place) = self.place(&entry.key, &at.1) {
                        self.in_back = true;
                        to.push((place, self.template(&at)));
                        self.in_back = false;
                    }
                }
                Back::To(to)
            }
        }
    }

    fn script(&mut self, here: &At2, key: &str) -> Option<Script> {
        let node = here.0.get(key)?;
        let steps: Vec<String> = here.1.iter().cloned().chain([key.to_string()]).collect();
        let Some(code) = node.text() else {
            self.mistake(&steps, "expected JavaScript as text");
            return None;
        };
        if let Err((at, message)) = super::script::parse(code) {
            let column = if at.line <= 1 { node.at.column + at.column.saturating_sub(1) } else { at.column };
            let place = At { line: node.at.line + at.line.saturating_sub(1), column };
            let mistake = Mistake::new(&self.parsed.file, &self.parsed.text, place, key_of(&steps), message);
            self.mistakes.push(mistake);
            return None;
        }
        let mut known: Vec<String> = ROOTS.iter().map(ToString::to_string).collect();
        known.extend(self.aliases.keys().cloned().chain(self.items.clone()));
        known.retain(|name| (name != "value" || self.in_back) && mentions(code, name));
        let mut names: Vec<(String, Place)> = Vec::new();
        for name in known {
            let place = self.place(&name, &steps);
            names.retain(|(other, _)| *other != name);
            names.extend(place.map(|place| (name, place)));
        }
        let reach = super::reach::Reach::of(code);
        Some(Script { origin: self.origin(node.at), code: code.into(), reach, names })
    }

    fn ask(&mut self, at: At, place: &Place) {
        let (origin, place) = (self.origin(at), place.clone());
        self.asked.push(Asked { origin, place, among: self.alternatives });
    }

    fn condition(&mut self, here: &At2) -> Condition {
        let (node, steps) = here;
        match &node.kind {
            Kind::List(items) => {
                let around = self.alternatives;
                self.alternatives = around.or(Some(node.at));
                let any = items.iter().enumerate().map(|(i, item)| self.condition(&below(here, i, item)));
                let any = any.collect();
                self.alternatives = around;
                Condition::Any(any)
            }
            Kind::Map(entries) => {
                let mut all = Vec::new();
                for entry in entries {
                    let at = below(here, &entry.key, &entry.node);
                    all.extend(match entry.key.as_str() {
                        "not" => Some(Condition::Not(Box::new(self.condition(&at)))),
                        "any" => Some(self.condition(&at)),
                        "all" => Some(Condition::All(
                            at.0.items()
                                .iter()
                                .enumerate()
                                .map(|(i, item)| self.condition(&below(&at, i, item)))
                                .collect(),
                        )),
                        "expr" => self.script(here, "expr").map(Condition::Expr),
                        path => {
                            let test = self.test(&at);
                            let place = self.place(path, &at.1);
                            if let Some(place) = &place {
                                self.ask(entry.key_at, place);
                            }
                            place.zip(test).map(|(place, test)| Condition::Test(place, test))
                        }
                    });
                }
                Condition::All(all)
            }
            Kind::Scalar(_) => {
                self.mistake(steps, "expected paths and what must stand there, such as doc.form: referral");
                Condition::All(Vec::new())
            }
        }
    }

    fn test(&mut self, here: &At2) -> Option<Test> {
        let values = |node: &Node| -> Option<Vec<Value>> {
            match &node.kind {
                Kind::Scalar(Value::Null) => None,
                Kind::Scalar(value) => Some(vec![value.clone()]),
                Kind::List(items) => items
                    .iter()
                    .map(|item| match &item.kind {
                        Kind::Scalar(value) => Some(value.clone()),
                        _ => None,
                    })
                    .collect(),
                Kind::Map(_) => None,
            }
        };
        let test = match (&here.0.kind, here.0.entries()) {
            (Kind::Map(_), [entry]) => match (entry.key.as_str(), &entry.node.kind) {
                ("present", Kind::Scalar(Value::Bool(wanted))) => Some(Test::Present(*wanted)),
                ("not", _) => values(&entry.node).map(Test::NoneOf),
                ("has", Kind::Scalar(Value::String(word))) => Some(Test::Has(word.clone())),
                ("has_text", Kind::Scalar(Value::String(part))) => Some(Test::HasText(part.to_lowercase())),
                ("uuid", Kind::Scalar(Value::Bool(wanted))) => Some(Test::Uuid(*wanted)),
                _ => None,
            },
            (Kind::Map(_), _) => None,
            _ => values(here.0).map(Test::OneOf),
        };
        if test.is_none() {
            let expected = "expected a value, a list of values, {present: true}, {not: value}, {has: word}, {has_text: part} or {uuid: true}";
            self.mistake(&here.1, expected);
        }
        test
    }
}

/// Whether a name stands in code as a word of its own.
fn mentions(code: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    code.match_indices(name).any(|(i, _)| {
        !code[..i].chars().next_back().is_some_and(|c| is_word(c) || c == '.')
            && !code[i + name.len()..].chars().next().is_some_and(is_word)
    })
}

impl Compiled {
    /// Every template, with the name of what it makes.
    pub fn trees(&self) -> Vec<(&str, &Tree)> {
        let mut all: Vec<(&str, &Tree)> =
            self.entries.iter().map(|entry| (entry.name.as_str(), &entry.resource)).collect();
        all.extend(self.outcome.iter().flat_map(|o| [("answers", &o.answers), ("forms", &o.forms)]));
        let told = self.outcome.iter();
        all.extend(told.clone().flat_map(|o| o.code.iter().map(|code| ("outcome", code))));
        all.extend(told.flat_map(|o| o.state.iter().map(|state| ("state", state))));
        all.extend(self.record.iter().map(|record| ("record", &record.fields)));
        all
    }

    pub fn rules(&self) -> Vec<&Rule> {
        let mut rules = Vec::new();
        self.trees().into_iter().for_each(|(_, tree)| tree.rules(&mut rules));
        rules
    }

    /// Every path that it reads.
    pub fn places(&self) -> Vec<&Place> {
        let rules = self.rules();
        let mut places: Vec<&Place> = rules.iter().flat_map(|rule| rule.places()).collect();
        rules.iter().filter_map(|rule| rule.when.as_ref()).for_each(|when| when.places(&mut places));
        for entry in &self.entries {
            places.extend(entry.over.iter().map(Over::place));
            entry.when.iter().for_each(|when| when.places(&mut places));
        }
        self.when.iter().for_each(|when| when.places(&mut places));
        places
    }
}
