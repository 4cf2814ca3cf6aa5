//! `expr`: JavaScript in a sandbox. A fresh context for each document, so that nothing of one patient
//! is there for the next; no input or output, no clock, no randomness; time, memory and stack capped.
use super::mistake::At;
use super::tree::Script;
use rquickjs::context::intrinsic::{Date, Eval, Json, MapSet, RegExp, RegExpCompiler};
use rquickjs::function::Args;
use rquickjs::{CatchResultExt, CaughtError, Context, Ctx, Function, Runtime, Value as Js};
use serde_json::Value;
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

const LONGEST: Duration = Duration::from_millis(100);
const MEMORY: usize = 32 * 1024 * 1024;
const STACK: usize = 256 * 1024;

/// What would make a repeat of a message give something else.
const PRELUDE: &str = "(function () {
  const D = Date;
  const no = (what) => { throw new Error(what); };
  function Fixed(...given) {
    if (given.length === 0 || !new.target) no('there is no clock here: use message.received');
    return new D(...given);
  }
  Fixed.prototype = D.prototype;
  D.prototype.constructor = Fixed;
  Fixed.parse = D.parse;
  Fixed.UTC = D.UTC;
  Fixed.now = () => no('there is no clock here: use message.received');
  globalThis.Date = Fixed;
  Math.random = () => no('there is no randomness here');
})()";

/// Why a script gave nothing. Never with a value: what a script throws may be a patient's.
#[derive(Debug, PartialEq)]
pub struct Failure {
    /// Within the code.
    pub at: Option<At>,
    pub message: String,
}

/// The scripts of one document.
pub struct Sandbox {
    context: Context,
    deadline: Rc<Cell<Option<Instant>>>,
}

fn engine(error: impl std::fmt::Display) -> Failure {
    Failure { at: None, message: format!("the script engine: {error}") }
}

impl Sandbox {
    pub fn new() -> Result<Self, Failure> {
        let runtime = Runtime::new().map_err(engine)?;
        runtime.set_memory_limit(MEMORY);
        runtime.set_max_stack_size(STACK);
        let deadline: Rc<Cell<Option<Instant>>> = Rc::default();
        let seen = deadline.clone();
        runtime.set_interrupt_handler(Some(Box::new(move || {
            seen.get().is_some_and(|end| Instant::now() > end)
        })));
        let context = Context::custom::<(Date, Eval, RegExpCompiler, RegExp, Json, MapSet)>(&runtime)
            .map_err(engine)?;
        context.with(|ctx| ctx.eval::<(), _>(PRELUDE)).map_err(engine)?;
        Ok(Self { context, deadline })
    }

    /// The script's value; `None` for undefined and null.
    pub fn run(&self, script: &Script, arguments: &[&Value]) -> Result<Option<Value>, Failure> {
        self.deadline.set(Some(Instant::now() + LONGEST));
        let result = self.context.with(|ctx| {
            let found = evaluate(&ctx, script, arguments);
            found.catch(&ctx).map_err(|error| self.in_words(&error))
        });
        self.deadline.set(None);
        match result? {
            None => Ok(None),
            Some(text) => match serde_json::from_str(&text) {
                Ok(Value::Null) => Ok(None),
                Ok(value) => Ok(Some(value)),
                Err(_) => Err(Failure { at: None, message: "it gave no value that JSON can hold".into() }),
            },
        }
    }

    fn in_words(&self, error: &CaughtError) -> Failure {
        if self.deadline.get().is_some_and(|end| Instant::now() > end) {
            let message = format!("it took longer than {} ms", LONGEST.as_millis());
            return Failure { at: None, message };
        }
        match error {
            CaughtError::Exception(exception) => {
                let name: String = exception.as_object().get("name").unwrap_or_default();
                let known = ["TypeError", "ReferenceError", "RangeError", "SyntaxError", "InternalError"];
                let name = if known.contains(&name.as_str()) { name } else { "an error".into() };
                let at = exception.stack().as_deref().and_then(position);
                Failure { at, message: format!("it threw {name}") }
            }
            CaughtError::Value(_) => Failure { at: None, message: "it threw a value".into() },
            CaughtError::Error(error) => engine(error),
        }
    }
}

/// Code on a line of its own, so that positions are its own.
fn wrapped(code: &str, names: &[&str]) -> String {
    format!("(function ({}) {{ return (\n{code}\n); }})", names.join(", "))
}

fn evaluate<'js>(ctx: &Ctx<'js>, script: &Script, arguments: &[&Value]) -> rquickjs::Result<Option<String>> {
    let names: Vec<&str> = script.names.iter().map(|(name, _)| name.as_str()).collect();
    let function: Function<'js> = ctx.eval(wrapped(&script.code, &names))?;
    let mut given = Args::new(ctx.clone(), arguments.len());
    for argument in arguments {
        given.push_arg(ctx.json_parse(argument.to_string())?)?;
    }
    let value: Js<'js> = function.call_arg(given)?;
    ctx.json_stringify(value)?.map(|text| text.to_string()).transpose()
}

/// Whether it is JavaScript; where it is not, and why.
pub fn parse(code: &str) -> Result<(), (At, String)> {
    let sandbox = Sandbox::new().map_err(|failure| (At::default(), failure.message))?;
    sandbox.deadline.set(Some(Instant::now() + LONGEST));
    sandbox.context.with(|ctx| {
        let made: rquickjs::Result<Function> = ctx.eval(wrapped(code, &[]));
        made.catch(&ctx).map(|_| ()).map_err(|error| match error {
            // The message is about the code, which is the implementer's.
            CaughtError::Exception(exception) => {
                let mut at =
                    exception.stack().as_deref().and_then(position).unwrap_or(At { line: 1, column: 1 });
                // What is missing at the end is missed on our own line after it.
                let last = code.lines().count().max(1) as u32;
                if at.line > last {
                    at = At {
                        line: last,
                        column: code.lines().last().unwrap_or_default().chars().count() as u32,
                    };
                }
                (at, format!("not JavaScript: {}", exception.message().unwrap_or_default()))
            }
            _ => (At { line: 1, column: 1 }, "not JavaScript".into()),
        })
    })
}

/// `at eval_script:2:14`: line 2 is the code's first.
fn position(stack: &str) -> Option<At> {
    let place = stack.lines().find_map(|line| line.split("eval_script:").nth(1))?;
    let mut numbers = place.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<u32>().ok());
    let line = numbers.next()?;
    Some(At { line: line.saturating_sub(1).max(1), column: numbers.next().unwrap_or(1) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::language::path::Path;
    use crate::translate::language::tree::{Base, Origin, Place};
    use serde_json::json;

    fn run(code: &str, doc: &Value) -> Result<Option<Value>, Failure> {
        let place = Place { base: Base::Root(0), path: Path::parse("doc").expect("a path") };
        let origin = Origin { file: "x.yaml".into(), at: At::default() };
        let script = Script { origin, code: code.into(), names: vec![("doc".into(), place)] };
        Sandbox::new().expect("a sandbox").run(&script, &[doc])
    }

    #[test]
    fn it_sees_the_document_and_gives_a_value() {
        let doc = json!({"a": {"b": [1, 2]}, "when": 1795467014033_i64});
        assert_eq!(run("doc.a.b.map(x => x * 2)", &doc), Ok(Some(json!([2, 4]))));
        assert_eq!(run("doc.nothing", &doc), Ok(None));
        assert_eq!(run("new Date(doc.when).toISOString().slice(0, 10)", &doc), Ok(Some(json!("2026-11-23"))));
    }

    #[test]
    fn no_clock_no_chance_no_way_out() {
        for code in [
            "Date.now()",
            "new Date()",
            "Date()",
            "Math.random()",
            "require('fs')",
            "process.env",
            "fetch('http://x')",
            "new (new Date(0).constructor)()",
            "performance.now()",
            "std.open('/etc/passwd')",
        ] {
            assert!(run(code, &json!({})).is_err(), "{code}");
        }
    }

    #[test]
    fn what_never_ends_is_ended() {
        let started = Instant::now();
        let failure = run("(() => { for (;;) {} })()", &json!({})).expect_err("endless");
        assert_eq!(failure.message, "it took longer than 100 ms");
        assert!(started.elapsed() < Duration::from_secs(2));
        assert!(run("(function f() { return f() + 1 })()", &json!({})).is_err());
        assert!(run("'x'.repeat(1 << 28)", &json!({})).is_err());
        assert!(run("Array(1e9).fill('x').join('')", &json!({})).is_err());
        assert!(run("/(a+)+b/.test('a'.repeat(40))", &json!({})).is_err());
    }

    #[test]
    fn an_error_tells_where_and_not_what() {
        let failure = run("\ndoc.name.first.last", &json!({"name": "Achieng"})).expect_err("no object");
        assert_eq!(failure.at.map(|at| at.line), Some(2));
        let failure =
            run("(() => { throw new Error(doc.name) })()", &json!({"name": "Achieng"})).expect_err("thrown");
        assert!(!format!("{failure:?}").contains("Achieng"));
        assert!(parse("doc.a +").is_err() && parse("doc.a + 1").is_ok());
    }
}
