//! A compiled mapping, applied to one message.
use super::codec::{Around, plain};
use super::compile::Compiled;
use super::path::{Path, Step};
use super::script::Sandbox;
use super::tree::{
    Condition, EntryRule, Object, Origin, Over, Place, ROOTS, Rule, Scope, Script, Source, Taken, Test, Tree,
    is_at_or_below,
};
use crate::domain::fhir::full_url;
use crate::domain::identifier::Identifier;
use crate::translate::values::{concepts, date, is_document_id, text};
use serde_json::{Map, Value, json};
use std::cell::RefCell;
use std::collections::HashMap;
use uuid::Uuid;

/// What a message gives to a mapping; absent roots are null.
#[derive(Clone, Copy)]
pub struct Inputs<'v> {
    pub roots: [&'v Value; 6],
}

impl Default for Inputs<'_> {
    fn default() -> Self {
        Self { roots: [&Value::Null; 6] }
    }
}

impl<'v> Inputs<'v> {
    pub fn with(mut self, name: &str, value: &'v Value) -> Self {
        if let Some(index) = ROOTS.iter().position(|root| *root == name) {
            self.roots[index] = value;
        }
        self
    }
}

/// Why a message could not be mapped. `message` holds no value of it.
#[derive(Debug)]
pub struct Failure {
    pub origin: Origin,
    /// The path in the message.
    pub path: String,
    /// IssueType code.
    pub code: &'static str,
    pub message: String,
}

/// A resource that was made.
pub struct Made<'m> {
    pub rule: &'m EntryRule,
    pub identifier: Identifier,
    pub full_url: String,
    pub resource: Value,
}

/// From where an element of the output came.
#[derive(Clone, Debug, PartialEq)]
pub struct Traced {
    /// `Patient.name[0].text`.
    pub element: String,
    pub origin: Origin,
    /// Paths of the message; empty for what is made of nothing in it.
    pub from: Vec<String>,
}

#[derive(Default)]
pub struct Output<'m> {
    pub entries: Vec<Made<'m>>,
    /// Fields of the CHT record.
    pub record: Option<Map<String, Value>>,
    pub answers: Option<String>,
    /// Forms of the records that a report answers.
    pub forms: Vec<String>,
    pub outcome: Option<String>,
    /// How far the requests are that a report answers, as a Task's status.
    pub state: Option<String>,
    pub trace: Vec<Traced>,
}

type Outcome<T> = Result<T, Box<Failure>>;

/// What an entry is called in the trace until all are made; no element is.
const ENTRY: &str = "#";

pub struct Run<'v> {
    inputs: Inputs<'v>,
    around: Around<'v>,
    sandbox: RefCell<Option<Sandbox>>,
    urls: RefCell<HashMap<String, String>>,
    /// See [`Compiled::kept`].
    kept: &'v [(Place, Vec<String>)],
    /// Where in the output we are, if that is told.
    trace: Option<RefCell<(String, Vec<Traced>)>>,
}

pub fn apply<'m>(mapping: &'m Compiled, inputs: Inputs, around: Around, trace: bool) -> Outcome<Output<'m>> {
    let mut run = Run::new(inputs, around, trace);
    run.kept = &mapping.kept;
    let mut output = Output::default();
    for rule in &mapping.entries {
        run.entry(rule, &mut output)?;
    }
    run.number(&output);
    if let Some(outcome) = &mapping.outcome {
        output.forms = run.within("forms", || run.texts(std::slice::from_ref(&outcome.forms), None))?;
        output.answers = run
            .within("answers", || run.tree(&outcome.answers, None))?
            .as_ref()
            .and_then(text)
            .map(String::from);
        let code = match (&outcome.code, &outcome.says) {
            (Some(code), _) => run.within("outcome", || run.tree(code, None))?,
            (None, Some(says)) => {
                let made = output.entries.iter().find(|made| made.rule.name == *says);
                made.map(|made| made.resource["valueCodeableConcept"]["coding"][0]["code"].clone())
            }
            (None, None) => None,
        };
        output.outcome = code.as_ref().and_then(text).map(String::from);
        if let Some(state) = &outcome.state {
            let state = run.within("state", || run.tree(state, None))?;
            output.state = state.as_ref().and_then(text).map(String::from);
        }
    }
    if let Some(record) = &mapping.record {
        let fields = run.within("record", || run.whole(&record.fields, None))?;
        output.record = Some(match fields {
            Some(Value::Object(fields)) => fields,
            _ => Map::new(),
        });
    }
    if let Some(trace) = run.trace {
        output.trace = trace.into_inner().1;
    }
    Ok(output)
}

/// Whether a mapping serves a message. A path of another kind than it says is as if absent.
pub fn holds(condition: &Condition, inputs: Inputs, around: Around) -> Outcome<bool> {
    Run::new(inputs, around, false).condition(condition, None)
}

impl<'v> Run<'v> {
    pub fn new(inputs: Inputs<'v>, around: Around<'v>, trace: bool) -> Self {
        Self {
            inputs,
            around,
            sandbox: RefCell::default(),
            urls: RefCell::default(),
            kept: &[],
            trace: trace.then(RefCell::default),
        }
    }

    fn entry<'m>(&self, rule: &'m EntryRule, output: &mut Output<'m>) -> Outcome<()> {
        let known = output.entries.iter().any(|made| made.rule.name == rule.name);
        if known && rule.over.is_none() {
            return Ok(());
        }
        let mut make = |scope: Option<&Scope>| -> Outcome<()> {
            if let Some(when) = &rule.when
                && !self.condition(when, scope)?
            {
                return Ok(());
            }
            // Which of several of a type it is, is known when all are made.
            let place = format!("{}{}", ENTRY, output.entries.len());
            let Some(resource) = self.within(&place, || self.whole(&rule.resource, scope))? else {
                return Ok(());
            };
            let Some(identifier) = first_identifier(&resource) else {
                return Err(Box::new(Failure {
                    origin: rule.origin.clone(),
                    path: identifier_path(rule, scope).unwrap_or_else(|| "doc".into()),
                    code: "required",
                    message: "missing or empty: without an identifier the resource could not be found again"
                        .into(),
                }));
            };
            let full_url = full_url(resource["resourceType"].as_str().unwrap_or_default(), &identifier);
            let mut urls = self.urls.borrow_mut();
            urls.entry(rule.name.clone()).or_insert_with(|| full_url.clone());
            if rule.over.is_some() {
                urls.insert(one_of(&rule.name, &identifier.value), full_url.clone());
            }
            drop(urls);
            output.entries.push(Made { rule, identifier, full_url, resource });
            Ok(())
        };
        match &rule.over {
            None => make(None),
            Some(over) => self.each(over, None, &rule.origin, &mut |scope| make(Some(scope))),
        }
    }

    /// `Observation[2]` where there are several of a type.
    fn number(&self, output: &Output) {
        let Some(trace) = &self.trace else { return };
        let kinds: Vec<&str> = output
            .entries
            .iter()
            .map(|made| made.resource["resourceType"].as_str().unwrap_or("Resource"))
            .collect();
        for traced in &mut trace.borrow_mut().1 {
            let Some(rest) = traced.element.strip_prefix(ENTRY) else { continue };
            let (index, below) =
                rest.split_once('.').map_or((rest, None), |(index, below)| (index, Some(below)));
            let Some((index, kind)) =
                index.parse().ok().and_then(|index: usize| Some((index, *kinds.get(index)?)))
            else {
                continue;
            };
            let before = kinds[..index].iter().filter(|other| **other == kind).count();
            let several = kinds.iter().filter(|other| **other == kind).count() > 1;
            let own = if several { format!("{kind}[{before}]") } else { kind.into() };
            traced.element = below.map_or(own.clone(), |below| format!("{own}.{below}"));
        }
    }

    /// Runs `work` with `step` added to where we are.
    fn within<T>(&self, step: &str, work: impl FnOnce() -> T) -> T {
        let Some(trace) = &self.trace else { return work() };
        let length = trace.borrow().0.len();
        {
            let path = &mut trace.borrow_mut().0;
            if !path.is_empty() && !step.starts_with('[') {
                path.push('.');
            }
            path.push_str(step);
        }
        let result = work();
        trace.borrow_mut().0.truncate(length);
        result
    }

    fn tree(&self, tree: &Tree, scope: Option<&Scope>) -> Outcome<Option<Value>> {
        match tree {
            Tree::Literal(Value::Null) => Ok(None),
            Tree::Literal(value) => Ok(Some(value.clone())),
            Tree::Object(object) => self.object(object, scope),
            Tree::List(items) => self.list(items, scope),
            Tree::Rule(rule) => self.rule(rule, scope),
        }
    }

    /// A resource or record: it is made whatever was answered.
    fn whole(&self, tree: &Tree, scope: Option<&Scope>) -> Outcome<Option<Value>> {
        match tree {
            Tree::Object(object) => self.fields(object, scope).map(|(made, _)| Some(Value::Object(made))),
            other => self.tree(other, scope),
        }
    }

    /// Nothing, if it has rules and none of them gives anything.
    fn object(&self, object: &Object, scope: Option<&Scope>) -> Outcome<Option<Value>> {
        let told = self.trace.as_ref().map(|trace| trace.borrow().1.len());
        let (made, is_answered) = self.fields(object, scope)?;
        let is_made = !made.is_empty() && is_answered;
        if let (Some(trace), Some(told), false) = (&self.trace, told, is_made) {
            trace.borrow_mut().1.truncate(told);
        }
        Ok(is_made.then_some(Value::Object(made)))
    }

    /// What it has, and whether that is more than what stands there whatever was answered.
    fn fields(&self, object: &Object, scope: Option<&Scope>) -> Outcome<(Map<String, Value>, bool)> {
        let mut made = Map::new();
        let (mut ruled, mut answered) = (false, false);
        for ((key, tree), origin) in object.fields.iter().zip(&object.origins) {
            let literal = tree.is_literal();
            let value = match &self.trace {
                None => self.tree(tree, scope)?,
                Some(_) => self.within(key, || {
                    if literal && !matches!(tree, Tree::Object(_)) {
                        self.tell(origin, Vec::new());
                    }
                    self.tree(tree, scope)
                })?,
            };
            ruled |= !literal;
            if let Some(value) = value {
                answered |= !literal;
                made.insert(key.clone(), value);
            }
        }
        Ok((made, answered || !ruled))
    }

    fn list(&self, items: &[Tree], scope: Option<&Scope>) -> Outcome<Option<Value>> {
        let mut made = Vec::new();
        for tree in items {
            let step = self.trace.as_ref().map(|_| format!("[{}]", made.len())).unwrap_or_default();
            let value = self.within(&step, || self.tree(tree, scope))?;
            match (tree, value) {
                (Tree::Rule(rule), Some(Value::Array(several)))
                    if matches!(rule.source, Source::Each { .. }) =>
                {
                    made.extend(several);
                }
                (_, Some(value)) => made.push(value),
                (_, None) => {}
            }
        }
        Ok((!made.is_empty()).then_some(Value::Array(made)))
    }

    fn rule(&self, rule: &Rule, scope: Option<&Scope>) -> Outcome<Option<Value>> {
        let applies = match &rule.when {
            Some(when) => self.condition(when, scope)?,
            None => true,
        };
        let (value, from) = match &rule.source {
            Source::If { then, otherwise } => {
                let chosen = if applies { then } else { otherwise };
                let value = chosen.as_ref().map(|tree| self.tree(tree, scope)).transpose()?.flatten();
                return self.ended(rule, value, &[], scope);
            }
            _ if !applies => return Ok(None),
            Source::Paths(places) => match self.first(rule, places, scope)? {
                Some((value, place)) => (Some(value), vec![place]),
                None => (None, places.iter().collect()),
            },
            Source::Expr(script) => (self.run(script, scope, Sandbox::run)?, Vec::new()),
            Source::Reference { name, of: None } => {
                (self.urls.borrow().get(name).map(|url| json!(url)), Vec::new())
            }
            Source::Reference { name, of: Some(of) } => {
                let value = of.read(&self.inputs.roots, scope).ok().flatten().and_then(text);
                let url = value.and_then(|value| self.urls.borrow().get(&one_of(name, value)).cloned());
                (url.map(|url| json!(url)), Vec::new())
            }
            Source::Each { over, body } => {
                let mut made = Vec::new();
                self.each(over, scope, &rule.origin, &mut |scope| {
                    made.extend(self.tree(body, Some(scope))?);
                    Ok(())
                })?;
                ((!made.is_empty()).then_some(Value::Array(made)), vec![over.place()])
            }
            Source::Join { parts, with } => {
                let texts = self.texts(parts, scope)?;
                ((!texts.is_empty()).then(|| json!(texts.join(with))), Vec::new())
            }
            Source::Derive(parts) => {
                let texts = self.texts(parts, scope)?;
                let all = (texts.len() == parts.len()).then(|| texts.join("\u{1f}"));
                (
                    all.map(|all| json!(Uuid::new_v5(&Uuid::NAMESPACE_URL, all.as_bytes()).to_string())),
                    Vec::new(),
                )
            }
            Source::Index { depth } => (Scope::at(scope, *depth).map(|scope| json!(scope.index)), Vec::new()),
            Source::ByAge { years, months, on } => {
                (self.by_age(years.as_ref(), months.as_ref(), on, scope), vec![on])
            }
            Source::Rest { place, except, taken } => {
                let taken = taken.get().map(Vec::as_slice).unwrap_or_default();
                (self.rest(place, except, taken, scope), vec![place])
            }
            Source::Inline(tree) => (self.tree(tree, scope)?, Vec::new()),
        };
        let value = match value {
            Some(value) => self.written(rule, value, &from, scope)?,
            None => None,
        };
        self.ended(rule, value, &from, scope)
    }

    /// The default, the error of what is required, and the trace.
    fn ended(
        &self,
        rule: &Rule,
        value: Option<Value>,
        from: &[&Place],
        scope: Option<&Scope>,
    ) -> Outcome<Option<Value>> {
        let value = value.or_else(|| rule.default.clone());
        if value.is_none() && rule.required {
            let on_the_way = from.iter().find_map(|place| {
                place.read(&self.inputs.roots, scope).err().map(|other| (*place, other.expected))
            });
            return Err(match on_the_way {
                Some((place, expected)) => {
                    failure(rule, &[place], scope, "structure", format!("expected {expected} on the way"))
                }
                None => failure(rule, from, scope, "required", "missing or empty".into()),
            });
        }
        if self.trace.is_some()
            && value.is_some()
            && !matches!(rule.source, Source::If { .. } | Source::Each { .. } | Source::Inline(_))
        {
            let from = match &rule.source {
                Source::Expr(script) => script.names.iter().map(|(name, _)| name.clone()).collect(),
                _ => from.iter().map(|place| place.in_message(scope)).collect(),
            };
            self.tell(&rule.origin, from);
        }
        Ok(value)
    }

    fn tell(&self, origin: &Origin, from: Vec<String>) {
        if let Some(trace) = &self.trace {
            let mut trace = trace.borrow_mut();
            let element = trace.0.clone();
            trace.1.push(Traced { element, origin: origin.clone(), from });
        }
    }

    /// Whether `leaves` make something of every answer there, whatever this rule does.
    fn is_kept(&self, place: &Place) -> bool {
        self.kept.iter().any(|(above, except)| {
            let own = &above.path.steps;
            let below =
                Path { steps: place.path.steps.get(own.len()..).unwrap_or_default().to_vec() }.to_string();
            let is_passed_over = |name: &String| {
                below
                    .strip_prefix(name.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            };
            place.base == above.base
                && place.path.steps.starts_with(own)
                && !except.iter().any(is_passed_over)
        })
    }

    /// The first path that is answered. Without a codec it must be one value. What stands on the way
    /// and leads nowhere (a text where a group was meant) is no answer to this question. What stands at
    /// the end and is none that the rule takes (a group) is one: another path of the list may still be
    /// meant, but if none is, and no `leaves` finds it, it is not dropped in silence.
    fn first<'r, 's>(
        &self,
        rule: &Rule,
        places: &'r [Place],
        scope: Option<&'s Scope<'s>>,
    ) -> Outcome<Option<(Value, &'r Place)>> {
        let mut other_kind = None;
        for place in places {
            let Ok(Some(value)) = place.read(&self.inputs.roots, scope) else { continue };
            let taken = match rule.codecs.first() {
                Some(codec) => codec.out(value, &self.around),
                None => plain(value).map(|value| {
                    value.map(|value| match value {
                        Value::String(written) => json!(written.trim()),
                        other => other.clone(),
                    })
                }),
            };
            match taken {
                Ok(Some(value)) => return Ok(Some((value, place))),
                Ok(None) => {}
                Err(_) if !is_answered(value) => {}
                Err(expected) => {
                    let failure = failure(rule, &[place], scope, "value", expected.into());
                    if !value.is_object() && !value.is_array() {
                        return Err(failure);
                    }
                    // A group is of another form; a list is this question, answered in another way.
                    if rule.required || value.is_array() || !self.is_kept(place) {
                        other_kind.get_or_insert(failure);
                    }
                }
            }
        }
        other_kind.map_or(Ok(None), Err)
    }

    /// Through the codecs and the table.
    fn written(
        &self,
        rule: &Rule,
        value: Value,
        from: &[&Place],
        scope: Option<&Scope>,
    ) -> Outcome<Option<Value>> {
        let mut value = value;
        let done = usize::from(matches!(rule.source, Source::Paths(_)));
        for codec in rule.codecs.iter().skip(done) {
            match codec.out(&value, &self.around) {
                Ok(Some(next)) => value = next,
                Ok(None) => return Ok(None),
                Err(expected) => return Err(failure(rule, from, scope, "value", expected.into())),
            }
        }
        let Some((table, give)) = &rule.table else { return Ok(Some(value)) };
        let code = match &value {
            Value::String(code) => code.clone(),
            other => other.to_string(),
        };
        table.out(&code, *give).map_err(|_| {
            failure(rule, from, scope, "code-invalid", format!("its code is not in the table {}", table.name))
        })
    }

    fn each(
        &self,
        over: &Over,
        scope: Option<&Scope>,
        origin: &Origin,
        work: &mut dyn FnMut(&Scope) -> Outcome<()>,
    ) -> Outcome<()> {
        let place = over.place();
        let wrong = |expected: &str| {
            Box::new(Failure {
                origin: origin.clone(),
                path: place.in_message(scope),
                code: "structure",
                message: format!("expected {expected}"),
            })
        };
        let Ok(Some(found)) = place.read(&self.inputs.roots, scope) else { return Ok(()) };
        let mut next = 0;
        let mut of = |item: &Value, leaf: Option<&str>| {
            let index = next;
            next += 1;
            work(&Scope { up: scope, index, item, over, leaf })
        };
        let mut on = |item: &Value| of(item, None);
        match over {
            Over::Items { .. } => match found {
                Value::Array(items) => items.iter().try_for_each(on),
                Value::Null => Ok(()),
                Value::String(written) if written.trim().is_empty() => Ok(()),
                _ => Err(wrong("a list")),
            },
            Over::Split { by, .. } => match found {
                Value::Null => Ok(()),
                Value::String(written) => {
                    let words: Vec<&str> = written.split(by.as_str()).map(str::trim).collect();
                    words.into_iter().filter(|word| !word.is_empty()).try_for_each(|word| on(&json!(word)))
                }
                _ => Err(wrong("one text")),
            },
            Over::Leaves { except, .. } => {
                let mut leaves = Vec::new();
                collect(found, String::new(), except, &mut leaves);
                let hidden = hidden_beside(place, &self.inputs.roots, scope);
                leaves.iter().try_for_each(|(path, value)| of(&leaf(path, value, found, &hidden), Some(path)))
            }
        }
    }

    fn texts(&self, parts: &[Tree], scope: Option<&Scope>) -> Outcome<Vec<String>> {
        let mut texts = Vec::new();
        for part in parts {
            match self.tree(part, scope)? {
                Some(Value::String(written)) => texts.push(written),
                Some(Value::Array(items)) => texts.extend(items.iter().filter_map(text).map(String::from)),
                Some(other) => texts.push(other.to_string()),
                None => {}
            }
        }
        Ok(texts)
    }

    fn by_age(
        &self,
        years: Option<&Place>,
        months: Option<&Place>,
        on: &Place,
        scope: Option<&Scope>,
    ) -> Option<Value> {
        let read = |place: &Place| place.read(&self.inputs.roots, scope).ok().flatten();
        let number = |place: Option<&Place>| -> Option<i64> {
            let value = place.and_then(read)?;
            value.as_i64().or_else(|| text(value)?.parse().ok())
        };
        let day = date(read(on)?, self.around.time_zone)?;
        let (years, months) = (number(years), number(months));
        let before = |years: i64, months: i64| {
            let span = jiff::Span::new().try_years(years).ok()?.try_months(months).ok()?;
            day.checked_sub(span).ok()
        };
        let born = before(years.unwrap_or(0), months.unwrap_or(0))?;
        match (years, months) {
            (None, None) => None,
            (_, None) => Some(json!(format!("{:04}", born.year()))),
            _ => Some(json!(format!("{:04}-{:02}", born.year(), born.month()))),
        }
    }

    /// What no rule takes, a line each.
    fn rest(
        &self,
        place: &Place,
        except: &[String],
        taken: &[Taken],
        scope: Option<&Scope>,
    ) -> Option<Value> {
        let found = place.read(&self.inputs.roots, scope).ok().flatten()?;
        let mut leaves = Vec::new();
        collect(found, String::new(), except, &mut leaves);
        let own = place.path.steps.len();
        // Where something is taken, and the words that are, if it is not all.
        let mut gone: Vec<(&[Step], Option<Vec<String>>)> = Vec::new();
        for taken in taken {
            let answered = |place: &&Place| {
                place.read(&self.inputs.roots, scope).ok().flatten().is_some_and(is_answered)
            };
            // Of several paths only the first that is answered.
            let places: Vec<&Place> = match taken.places.len() {
                1 => taken.places.iter().collect(),
                _ => taken.places.iter().find(answered).into_iter().collect(),
            };
            for of in places.into_iter().filter(|of| of.base == place.base && of.path.steps.len() > own) {
                let words = taken.words_only.then(|| {
                    let value = of.read(&self.inputs.roots, scope).ok().flatten();
                    value.map(concepts).unwrap_or_default()
                });
                gone.push((&of.path.steps, words));
            }
        }
        let is_taken = |path: &str, value: &Value| {
            let steps = path.split('.').filter(|step| step.parse::<usize>().is_err());
            let steps = steps.map(|step| Step::Key(step.into()));
            let whole: Vec<Step> = place.path.steps.iter().cloned().chain(steps).collect();
            gone.iter().any(|(of, words)| {
                is_at_or_below(&whole, of)
                    && words
                        .as_ref()
                        .is_none_or(|words| words.iter().any(|word| Some(word.as_str()) == text(value)))
            })
        };
        let left: Vec<&(String, Value)> =
            leaves.iter().filter(|(path, value)| !is_taken(path, value)).collect();
        let beside = |path: &str, name: &str| {
            let above = path.rsplit_once('.').map(|(above, _)| above).unwrap_or_default();
            left.iter().find(|(other, _)| {
                other.strip_prefix(above).is_some_and(|rest| rest.trim_start_matches('.') == name)
            })
        };
        let line = |(path, value): &(String, Value)| {
            let written = match value {
                Value::String(written) => written.trim().to_string(),
                other => other.to_string(),
            };
            // A code and its system are one.
            match path.rsplit('.').next() {
                Some("system") if beside(path, "code").is_some() => None,
                // What it refers to came along, and is no words.
                Some("reference") if written.starts_with('#') => None,
                Some("code") => match beside(path, "system").and_then(|(_, system)| text(system)) {
                    Some(system) => Some(format!("{path}: {system}|{written}")),
                    None => Some(format!("{path}: {written}")),
                },
                _ => Some(format!("{path}: {written}")),
            }
        };
        let lines: Vec<String> = left.iter().filter_map(|leaf| line(leaf)).collect();
        (!lines.is_empty()).then(|| json!(lines.join("\n")))
    }

    fn run<T>(
        &self,
        script: &Script,
        scope: Option<&Scope>,
        work: impl FnOnce(&Sandbox, &Script, &[&Value]) -> Result<T, super::script::Failure>,
    ) -> Outcome<T> {
        let fail = |failure: super::script::Failure| {
            let mut origin = script.origin.clone();
            if let Some(at) = failure.at.filter(|at| at.line > 1) {
                origin.at.line += at.line - 1;
            }
            let path = script.names.first().map(|(_, place)| place.in_message(scope)).unwrap_or_default();
            Box::new(Failure {
                origin,
                path,
                code: "processing",
                message: format!("expr: {}", failure.message),
            })
        };
        let mut slot = self.sandbox.borrow_mut();
        let sandbox = match slot.take() {
            Some(sandbox) if sandbox.reach().covers(&script.reach) => sandbox,
            Some(sandbox) => Sandbox::new(&sandbox.reach().with(&script.reach)).map_err(fail)?,
            None => Sandbox::new(&script.reach).map_err(fail)?,
        };
        let sandbox = slot.insert(sandbox);
        let arguments: Vec<&Value> = script
            .names
            .iter()
            .map(|(_, place)| place.read(&self.inputs.roots, scope).ok().flatten().unwrap_or(&Value::Null))
            .collect();
        work(sandbox, script, &arguments).map_err(fail)
    }

    pub fn condition(&self, condition: &Condition, scope: Option<&Scope>) -> Outcome<bool> {
        Ok(match condition {
            Condition::All(all) => {
                for one in all {
                    if !self.condition(one, scope)? {
                        return Ok(false);
                    }
                }
                true
            }
            Condition::Any(any) => {
                for one in any {
                    if self.condition(one, scope)? {
                        return Ok(true);
                    }
                }
                false
            }
            Condition::Not(one) => !self.condition(one, scope)?,
            Condition::Test(place, test) if place.path.has_any() => {
                let all = place.path.read_all(place.start(&self.inputs.roots, scope));
                match test {
                    Test::NoneOf(_) | Test::Present(false) => all.into_iter().all(|v| test.holds(Some(v))),
                    _ => all.into_iter().any(|value| test.holds(Some(value))),
                }
            }
            Condition::Test(place, test) => {
                let value = place.read(&self.inputs.roots, scope).ok().flatten();
                test.holds(value)
            }
            Condition::Expr(script) => self.run(script, scope, Sandbox::holds)?,
        })
    }

    /// A template alone, for `back`.
    pub fn value(&self, tree: &Tree) -> Outcome<Option<Value>> {
        self.tree(tree, None)
    }
}

impl Test {
    fn holds(&self, value: Option<&Value>) -> bool {
        let value = value.unwrap_or(&Value::Null);
        // XForms write numbers and flags as text: what is the same as it is written is the same.
        let is = |wanted: &Value| {
            value == wanted || as_written(value).is_some_and(|own| as_written(wanted) == Some(own))
        };
        match self {
            Self::OneOf(wanted) => wanted.iter().any(is),
            Self::NoneOf(wanted) => !wanted.iter().any(is),
            Self::Present(wanted) => is_answered(value) == *wanted,
            Self::HasText(part) => text(value).is_some_and(|written| written.to_lowercase().contains(part)),
            Self::Uuid(wanted) => text(value).is_some_and(is_document_id) == *wanted,
            Self::Has(word) => text(value).is_some_and(|all| all.split_whitespace().any(|w| w == word)),
        }
    }
}

fn as_written(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text.trim()),
        Value::Number(number) => Some(number.as_str()),
        Value::Bool(true) => Some("true"),
        Value::Bool(false) => Some("false"),
        _ => None,
    }
}

pub fn is_answered(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(written) => !written.trim().is_empty(),
        Value::Array(items) => items.iter().any(is_answered),
        Value::Object(fields) => fields.values().any(is_answered),
        _ => true,
    }
}

fn failure(
    rule: &Rule,
    from: &[&Place],
    scope: Option<&Scope>,
    code: &'static str,
    message: String,
) -> Box<Failure> {
    let path = from.first().map(|place| place.in_message(scope)).unwrap_or_default();
    Box::new(Failure { origin: rule.origin.clone(), path, code, message })
}

/// The first identifier of a resource; QuestionnaireResponse and Bundle have but one.
pub fn first_identifier(resource: &Value) -> Option<Identifier> {
    let first = crate::domain::fhir::identifiers(resource).first()?;
    Some(Identifier::new(text(&first["system"])?, text(&first["value"])?))
}

/// The literal `resourceType` of a template.
pub fn resource_type(tree: &Tree) -> Option<&str> {
    match tree {
        Tree::Object(object) => match &object.fields.iter().find(|(key, _)| key == "resourceType")?.1 {
            Tree::Literal(Value::String(kind)) => Some(kind),
            _ => None,
        },
        Tree::Rule(rule) => match &rule.source {
            Source::Inline(tree) => resource_type(tree),
            _ => None,
        },
        _ => None,
    }
}

/// The path of the message from which an entry's identifier is made.
pub fn identifier_path(rule: &EntryRule, scope: Option<&Scope>) -> Option<String> {
    let mut rules = Vec::new();
    match &rule.resource {
        Tree::Object(object) => {
            object.fields.iter().find(|(key, _)| key == "identifier")?.1.rules(&mut rules)
        }
        tree => {
            let mut all = Vec::new();
            tree.rules(&mut all);
            if let Some(Rule { source: Source::Inline(Tree::Object(object)), .. }) = all.first() {
                object.fields.iter().find(|(key, _)| key == "identifier")?.1.rules(&mut rules);
            }
        }
    }
    rules.iter().flat_map(|rule| rule.places()).next().map(|place| place.in_message(scope))
}

/// Of several entries of one name the one with this identifier.
fn one_of(name: &str, value: &str) -> String {
    format!("{name} {value}")
}

/// What CHT lists beside a report's `fields` as hidden: dotted paths of calculated and hidden answers, and of
/// groups of such.
fn hidden_beside<'v>(place: &Place, roots: &[&'v Value], scope: Option<&'v Scope<'v>>) -> Vec<&'v str> {
    let Some((_, above)) = place.path.steps.split_last() else { return Vec::new() };
    let key = Step::Key("hidden_fields".into());
    let path = Path { steps: above.iter().cloned().chain([key]).collect() };
    let found = Place { base: place.base, path }.read(roots, scope).ok().flatten().and_then(Value::as_array);
    found.into_iter().flatten().filter_map(text).collect()
}

/// An answer as `item`: `path`, `name`, `value`, `kind`, `digits` and `hidden`; within a repeat also `list` (its name),
/// `number` (from 1) and `row` (all of it).
fn leaf(path: &str, value: &Value, below: &Value, hidden: &[&str]) -> Value {
    let is_index = |part: &str| part.parse::<usize>().is_ok();
    let name = path.rsplit('.').find(|part| !is_index(part)).unwrap_or(path);
    let kind = match value {
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        _ => "text",
    };
    let is_hidden = !hidden.is_empty() && {
        let plain: Vec<&str> = path.split('.').filter(|part| !is_index(part)).collect();
        let plain = plain.join(".");
        let covers =
            |of: &str| plain.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        hidden.iter().any(|of| covers(of))
    };
    let is_number = |written: &str| written.parse::<serde_json::Number>().is_ok();
    let digits = value.is_number() || text(value).is_some_and(is_number);
    let mut item = json!({"path": path, "name": name, "value": value, "kind": kind, "digits": digits,
        "hidden": is_hidden});
    let parts: Vec<&str> = path.split('.').collect();
    let last = parts.iter().rposition(|part| is_index(part)).filter(|last| *last > 0);
    if let Some((last, number)) = last.and_then(|last| Some((last, parts[last].parse::<usize>().ok()?))) {
        let row = parts[..=last].iter().try_fold(below, |value, part| match value {
            Value::Array(items) => items.get(part.parse::<usize>().ok()?),
            other => other.get(part),
        });
        item["list"] = json!(parts[last - 1]);
        item["number"] = json!(number + 1);
        item["row"] = json!(row);
    }
    item
}

/// Every answered leaf with its dotted path; `except` are names or dotted paths below the start.
fn collect(value: &Value, path: String, except: &[String], found: &mut Vec<(String, Value)>) {
    let below = |key: &str| if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                let at = below(key);
                if !except.contains(&at) {
                    collect(field, at, except, found);
                }
            }
        }
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(i, item)| collect(item, below(&i.to_string()), except, found));
        }
        Value::Null => {}
        Value::String(written) if written.trim().is_empty() => {}
        answer => found.push((path, answer.clone())),
    }
}
