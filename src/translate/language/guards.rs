//! Closes what the engine's own interrupts leave open. It stops code that runs too long, but not its own
//! loops over a long text or list: what such a loop costs is told beforehand, and ends the script.
use super::reach::{Level, Reach};
use super::script::Limits;
use rquickjs::context::EvalOptions;
use rquickjs::function::{Constructor, This};
use rquickjs::{Array, CString, Coerced, Ctx, Exception, FromJs, Function, Object, Result, Symbol, Value};
use std::rc::Rc;

/// Methods whose cost is told before they run.
pub(super) struct Guard {
    /// Where they are: `String.prototype`.
    holder: &'static str,
    pub(super) names: &'static [&'static str],
    cost: Cost,
    on: On,
    takes: Takes,
    level: Level,
    /// JavaScript itself calls them, whatever the script names.
    always: bool,
}

/// In steps of the engine, by how long things are: `this`, and the longest argument.
#[derive(Clone, Copy)]
enum Cost {
    /// `this` times an argument.
    Product,
    /// `this` and an argument.
    Sum,
    /// `this` and as many as there are arguments.
    Items,
    /// `this` as many times as the first argument says.
    Times,
    /// `this` and what the first argument says.
    Pad,
    /// Every item, and it is a text.
    Sort,
    /// `this`, and all arguments.
    Concat,
    Argument,
}

/// What `this` must be.
#[derive(Clone, Copy, PartialEq)]
enum On {
    Text,
    List,
    Anything,
}

/// What becomes of an argument. An object could be of one size when it is asked, and of another when it
/// is used.
#[derive(Clone, Copy, PartialEq)]
enum Takes {
    Anything,
    /// Objects as text, but regular expressions and functions.
    Plain,
    Number,
    Text,
    List,
}

const fn text(names: &'static [&'static str], cost: Cost, takes: Takes) -> Guard {
    let level = Level::Lists;
    Guard { holder: "String.prototype", names, cost, on: On::Text, takes, level, always: false }
}

const fn list(names: &'static [&'static str], cost: Cost, takes: Takes) -> Guard {
    let level = Level::Lists;
    Guard { holder: "Array.prototype", names, cost, on: On::List, takes, level, always: false }
}

const fn of(holder: &'static str, names: &'static [&'static str]) -> Guard {
    let (cost, on, takes, level) = (Cost::Argument, On::Anything, Takes::Anything, Level::Lists);
    Guard { holder, names, cost, on, takes, level, always: false }
}

// Not those that only copy: no text is so long that one of these takes a millisecond.
#[rustfmt::skip]
pub(super) const GUARDS: &[Guard] = &[
    text(&["includes", "indexOf", "lastIndexOf", "split", "replace", "replaceAll"], Cost::Product, Takes::Plain),
    text(&["repeat"], Cost::Times, Takes::Number),
    text(&["padStart", "padEnd"], Cost::Pad, Takes::Plain),
    text(
        &["match", "matchAll", "search", "toLowerCase", "toUpperCase", "toLocaleLowerCase", "toLocaleUpperCase",
            "localeCompare", "normalize"],
        Cost::Sum, Takes::Plain,
    ),
    Guard { holder: "RegExp.prototype", level: Level::Patterns, always: true, takes: Takes::Text, ..of("", &["exec", "test"]) },
    of("JSON", &["parse", "stringify"]),
    list(&["includes", "indexOf", "lastIndexOf"], Cost::Product, Takes::Anything),
    Guard { always: true, ..list(&["join", "toString"], Cost::Items, Takes::Anything) },
    list(
        &["toLocaleString", "reverse", "toReversed", "fill", "copyWithin", "slice", "splice", "toSpliced", "with",
            "shift", "unshift", "every", "some", "forEach", "map", "filter", "reduce", "reduceRight", "find",
            "findIndex", "findLast", "findLastIndex"],
        Cost::Items, Takes::Anything,
    ),
    list(&["sort", "toSorted"], Cost::Sort, Takes::Anything),
    list(&["concat"], Cost::Concat, Takes::List),
    of("Array", &["from", "of"]),
    of("Object", &["assign", "entries", "fromEntries", "keys", "values", "getOwnPropertyNames", "freeze", "seal", "groupBy"]),
];

/// Methods that are ours, each made of others.
pub(super) const OWN: &[(&str, &[&str], &str)] = &[
    (
        "flat",
        &["concat", "some"],
        "(({ isArray }) => function (depth = 1) { const made = [].concat(...this.concat()); \
         return depth > 1 && made.some(isArray) ? made.flat(depth - 1) : made; })(Array)",
    ),
    (
        "flatMap",
        &["map", "flat", "concat", "some"],
        "(function (...given) { return this.map(...given).flat(); })",
    ),
];

/// What could make code out of text, walk something of unknown length, or give by chance.
const NEVER: &[(&str, &str)] = &[
    ("", "eval"),
    ("", "Function"),
    ("", "BigInt"),
    ("", "Iterator"),
    ("", "WeakMap"),
    ("", "WeakSet"),
    ("String", "raw"),
    ("Array", "fromAsync"),
    ("Math", "random"),
];

/// What JavaScript must hold itself, so that its collector sees it: the native functions. Kept short, as it
/// is read anew for each document.
const PRELUDE: &str = "(function (check, step, source) { 'use strict'; const { apply } = Reflect; return {
  guard(holder, name, number) {
    const native = holder[name];
    holder[name] = function (...given) { return apply(native, check(number, this, given, source), given); };
  },
  walk(holder) {
    const { next } = holder;
    holder.next = function () { step(); return apply(next, this, []); };
  },
}; })";

/// Guards what the script names, and takes the rest away.
pub(super) fn close<'js>(ctx: &Ctx<'js>, reach: &Reach, limits: &Rc<Limits>) -> Result<()> {
    let mut found = ("", ctx.globals());
    let mut holder = |path: &'static str| -> Result<Object<'js>> {
        if found.0 != path {
            let steps = path.split('.').filter(|step| !step.is_empty());
            let object = steps.into_iter().try_fold(ctx.globals(), |object, step| object.get(step))?;
            found = (path, object);
        }
        Ok(found.1.clone())
    };
    let by = prelude(ctx, reach, limits)?;
    let put: Function = by.get("guard")?;
    for (number, guard) in GUARDS.iter().enumerate().filter(|(_, guard)| guard.level <= reach.level) {
        let holder = holder(guard.holder)?;
        for name in guard.names {
            match guard.always || reach.names(name) {
                true => put.call::<_, ()>((holder.clone(), *name, number))?,
                false => holder.remove(*name)?,
            }
        }
    }
    for (name, _, code) in OWN {
        let holder = holder("Array.prototype")?;
        match reach.names(name) {
            true => holder.set(*name, ctx.eval::<Function, _>(*code)?)?,
            false => holder.remove(*name)?,
        }
    }
    walk_by_steps(ctx, reach, &by.get("walk")?)?;
    // What could make code out of text: the constructors of functions, and of generators.
    Function::prototype(ctx.clone()).remove("constructor")?;
    let generator: Object = ctx.eval("(function* () {})")?;
    generator.get_prototype().map_or(Ok(()), |prototype| prototype.remove("constructor"))?;
    NEVER.iter().try_for_each(|(of, name)| holder(of)?.remove(*name))
}

fn prelude<'js>(ctx: &Ctx<'js>, reach: &Reach, limits: &Rc<Limits>) -> Result<Object<'js>> {
    let own = limits.clone();
    let check =
        move |ctx: Ctx<'js>, number: usize, this: Value<'js>, given: Array<'js>, source: Value<'js>| {
            match GUARDS.get(number) {
                Some(guard) => guard.check(&ctx, this, &given, source.as_function(), &own),
                None => Err(Exception::throw_range(&ctx, "no such guard")),
            }
        };
    let own = limits.clone();
    let step = move |ctx: Ctx<'js>| spend(&ctx, &own, 1.0);
    let source = match reach.level >= Level::Patterns {
        true => source_of_patterns(ctx)?.into_value(),
        false => Value::new_undefined(ctx.clone()),
    };
    // With a name of its own: positions of errors are the script's.
    let mut options = EvalOptions::default();
    options.filename = Some("prelude".into());
    let prelude: Function = ctx.eval_with_options(PRELUDE, options)?;
    prelude.call((Function::new(ctx.clone(), check)?, Function::new(ctx.clone(), step)?, source))
}

/// A getter that only regular expressions have.
fn source_of_patterns<'js>(ctx: &Ctx<'js>) -> Result<Function<'js>> {
    let globals = ctx.globals();
    let prototype: Object = globals.get::<_, Object>("RegExp")?.get("prototype")?;
    let describe: Function = globals.get::<_, Object>("Object")?.get("getOwnPropertyDescriptor")?;
    describe.call::<_, Object>((prototype, "source"))?.get("get")
}

/// Whatever the engine walks by these, it walks by a step of ours.
fn walk_by_steps<'js>(ctx: &Ctx<'js>, reach: &Reach, put: &Function<'js>) -> Result<()> {
    let mut kinds = vec!["Array", "String"];
    if reach.level >= Level::Sets {
        kinds.extend(["Map", "Set"]);
    }
    for kind in kinds {
        let empty: Object = ctx.globals().get::<_, Constructor>(kind)?.construct(())?;
        let begin: Function = empty.get(Symbol::iterator(ctx.clone()))?;
        if let Some(walk) = begin.call::<_, Object>((This(empty),))?.get_prototype() {
            put.call::<_, ()>((walk,))?;
        }
    }
    Ok(())
}

fn spend(ctx: &Ctx, limits: &Limits, steps: f64) -> Result<()> {
    match limits.spend(steps) {
        true => Ok(()),
        false => Err(Exception::throw_range(ctx, "too much")),
    }
}

impl Guard {
    /// Makes of `this` and of the arguments what they must be, and spends what the call will cost.
    fn check<'js>(
        &self,
        ctx: &Ctx<'js>,
        this: Value<'js>,
        given: &Array<'js>,
        source: Option<&Function<'js>>,
        limits: &Limits,
    ) -> Result<Value<'js>> {
        let own = self.own(ctx, this)?;
        let mut taken = Vec::new();
        for (i, value) in given.iter::<Value>().enumerate() {
            let value = self.taken(ctx, value?, source)?;
            if self.takes != Takes::Anything {
                given.set(i, value.clone())?;
            }
            taken.push(value);
        }
        spend(ctx, limits, self.steps(ctx, &own, &taken, limits)?)?;
        Ok(own)
    }

    fn own<'js>(&self, ctx: &Ctx<'js>, this: Value<'js>) -> Result<Value<'js>> {
        match self.on {
            On::Text if this.is_undefined() || this.is_null() => Err(Exception::throw_type(ctx, "no text")),
            On::Text => as_text(ctx, this),
            On::List if this.is_array() || this.is_string() => Ok(this),
            On::List => Err(Exception::throw_type(ctx, "expected a list")),
            On::Anything => Ok(this),
        }
    }

    fn taken<'js>(
        &self,
        ctx: &Ctx<'js>,
        value: Value<'js>,
        source: Option<&Function<'js>>,
    ) -> Result<Value<'js>> {
        match self.takes {
            Takes::Anything => Ok(value),
            Takes::Plain if !value.is_object() || value.is_function() => Ok(value),
            Takes::Plain => match source.map(|source| source.call::<_, Value>((This(value.clone()),))) {
                Some(Ok(_)) => Ok(value),
                Some(Err(_)) => {
                    ctx.catch();
                    as_text(ctx, value)
                }
                None => as_text(ctx, value),
            },
            Takes::Number => Ok(Value::new_float(ctx.clone(), Coerced::<f64>::from_js(ctx, value)?.0)),
            Takes::Text => as_text(ctx, value),
            Takes::List if value.is_array() => Ok(value),
            Takes::List => {
                let list = Array::new(ctx.clone())?;
                list.set(0, value)?;
                Ok(list.into_value())
            }
        }
    }

    fn steps<'js>(
        &self,
        ctx: &Ctx<'js>,
        own: &Value<'js>,
        given: &[Value<'js>],
        limits: &Limits,
    ) -> Result<f64> {
        let number = |value: Option<&Value<'js>>| match value {
            Some(value) => Ok(Coerced::<f64>::from_js(ctx, value.clone())?.0),
            None => Ok::<_, rquickjs::Error>(0.0),
        };
        Ok(match self.cost {
            Cost::Product => size(own)? * largest(given)?,
            Cost::Sum => size(own)? + largest(given)?,
            Cost::Items => size(own)? + given.len() as f64,
            Cost::Times => size(own)? * number(given.first())?.max(1.0),
            Cost::Pad => {
                size(own)? + Some(number(given.first())?).filter(|n| !n.is_nan()).unwrap_or_default()
            }
            Cost::Concat => size(own)? + given.len() as f64 * largest(given)?,
            Cost::Argument => largest(given)?,
            Cost::Sort => {
                let length = size(own)?;
                spend(ctx, limits, length)?;
                let mut longest: f64 = 1.0;
                for i in 0..length as usize {
                    spend(ctx, limits, 1.0)?;
                    longest = match own.as_array() {
                        Some(list) => longest.max(size(&list.get(i)?)?),
                        None => longest,
                    };
                }
                length * 20.0 * longest
            }
        })
    }
}

fn as_text<'js>(ctx: &Ctx<'js>, value: Value<'js>) -> Result<Value<'js>> {
    match value.is_string() {
        true => Ok(value),
        false => Ok(Coerced::<rquickjs::String>::from_js(ctx, value)?.0.into_value()),
    }
}

/// The length of a text or a list; of anything else 1.
fn size(value: &Value) -> Result<f64> {
    if let Some(text) = value.as_string() {
        return Ok(CString::from_string(text.clone())?.len() as f64);
    }
    value.as_array().map_or(Ok(1.0), |list| list.as_object().get("length"))
}

fn largest(values: &[Value]) -> Result<f64> {
    values.iter().try_fold(1.0, |most: f64, value| Ok(most.max(size(value)?)))
}
