//! `expr`: JavaScript in a sandbox. A fresh context for each document, so that nothing of one patient
//! is there for the next; no input or output, no clock, no randomness; time, memory and stack capped.
use super::guards;
use super::mistake::At;
use super::reach::{Level, Reach};
use super::tree::Script;
use cpu_time::ThreadTime;
use rquickjs::context::EvalOptions;
use rquickjs::context::intrinsic::{Date, Eval, Json, MapSet, RegExp, RegExpCompiler};
use rquickjs::function::Args;
use rquickjs::{
    CatchResultExt, CaughtError, Coerced, Context, Ctx, Exception, FromJs, Function, Runtime, Value as Js,
};
use serde_json::Value;
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

const LONGEST: Duration = Duration::from_millis(100);
const MEMORY: usize = 32 * 1024 * 1024;
const STACK: usize = 256 * 1024;

/// Characters and items that the engine may walk by itself, each some nanoseconds.
const STEPS: f64 = 2e7;

const DATES: &str = include_str!("dates.js");

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
    reach: Reach,
    limits: Rc<Limits>,
}

/// What is left to the script that runs.
#[derive(Default)]
pub(super) struct Limits {
    deadline: Cell<Option<Instant>>,
    /// The time of this thread when it began.
    began: Cell<Option<ThreadTime>>,
    steps: Cell<f64>,
    /// It gave NaN or Infinity.
    no_number: Cell<bool>,
}

impl Limits {
    fn begin(&self) {
        self.steps.set(STEPS);
        self.no_number.set(false);
        self.began.set(ThreadTime::try_now().ok());
        self.deadline.set(Some(Instant::now() + LONGEST));
    }

    /// A busy machine makes a script wait: only the time that it ran itself counts. That is asked for when
    /// the clock says that it may be over, because asking takes longer.
    fn is_over(&self) -> bool {
        let ran_too_long = || self.began.get().is_none_or(|began| began.elapsed() > LONGEST);
        let is_late = self.deadline.get().is_some_and(|end| Instant::now() > end);
        self.steps.get() < 0.0 || is_late && ran_too_long()
    }

    /// Takes steps off; whether there were enough. What is no number is more than there ever is.
    pub(super) fn spend(&self, steps: f64) -> bool {
        let left = self.steps.get() - steps.max(1.0);
        self.steps.set(if left >= 0.0 && !steps.is_nan() { left } else { -1.0 });
        !self.is_over()
    }
}

fn engine(error: impl std::fmt::Display) -> Failure {
    Failure { at: None, message: format!("the script engine: {error}") }
}

impl Sandbox {
    pub fn new(reach: &Reach) -> Result<Self, Failure> {
        let runtime = Runtime::new().map_err(engine)?;
        runtime.set_memory_limit(MEMORY);
        runtime.set_max_stack_size(STACK);
        let limits: Rc<Limits> = Rc::default();
        let seen = limits.clone();
        runtime.set_interrupt_handler(Some(Box::new(move || seen.is_over())));
        let context = match reach.level {
            Level::Plain | Level::Lists => Context::custom::<(Eval, Json)>(&runtime),
            Level::Patterns => Context::custom::<(Eval, RegExpCompiler, RegExp, Json)>(&runtime),
            Level::Sets => Context::custom::<(Eval, RegExpCompiler, RegExp, Json, MapSet)>(&runtime),
            Level::Dates => Context::custom::<(Date, Eval, RegExpCompiler, RegExp, Json, MapSet)>(&runtime),
        }
        .map_err(engine)?;
        limits.begin();
        let own = Self { context, reach: reach.clone(), limits };
        own.prepare().map_err(engine)?;
        Ok(own)
    }

    pub fn reach(&self) -> &Reach {
        &self.reach
    }

    fn prepare(&self) -> rquickjs::Result<()> {
        if self.reach.level == Level::Plain {
            return Ok(());
        }
        self.context.with(|ctx| {
            if self.reach.level == Level::Dates {
                // With a name of its own: positions of errors are the script's.
                let mut options = EvalOptions::default();
                options.filename = Some("dates".into());
                ctx.eval_with_options::<Function, _>(DATES, options)?.call::<_, ()>(())?;
            }
            guards::close(&ctx, &self.reach, &self.limits)
        })
    }

    /// The script's value; `None` for undefined and null.
    pub fn run(&self, script: &Script, arguments: &[&Value]) -> Result<Option<Value>, Failure> {
        match self.within_limits(|ctx| evaluate(ctx, script, arguments, &self.limits))? {
            None => Ok(None),
            Some(text) => match serde_json::from_str(&text) {
                Ok(Value::Null) => Ok(None),
                Ok(value) => Ok(Some(value)),
                Err(_) => Err(Failure { at: None, message: "it gave no value that JSON can hold".into() }),
            },
        }
    }

    /// Whether the script's value is true, as JavaScript has it: not for `0`, `""`, `NaN`, null.
    pub fn holds(&self, script: &Script, arguments: &[&Value]) -> Result<bool, Failure> {
        self.within_limits(|ctx| Ok(Coerced::<bool>::from_js(ctx, called(ctx, script, arguments)?)?.0))
    }

    fn within_limits<T>(
        &self,
        work: impl for<'js> FnOnce(&Ctx<'js>) -> rquickjs::Result<T>,
    ) -> Result<T, Failure> {
        self.limits.begin();
        let result = self.context.with(|ctx| work(&ctx).catch(&ctx).map_err(|error| self.in_words(&error)));
        self.limits.deadline.set(None);
        result
    }

    fn in_words(&self, error: &CaughtError) -> Failure {
        if self.limits.is_over() {
            let message = format!("it took longer than {} ms", LONGEST.as_millis());
            return Failure { at: None, message };
        }
        if self.limits.no_number.get() {
            return Failure { at: None, message: "it gave NaN or Infinity, which is no number".into() };
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

fn called<'js>(ctx: &Ctx<'js>, script: &Script, arguments: &[&Value]) -> rquickjs::Result<Js<'js>> {
    let names: Vec<&str> = script.names.iter().map(|(name, _)| name.as_str()).collect();
    let function: Function<'js> = ctx.eval(wrapped(&script.code, &names))?;
    let mut given = Args::new(ctx.clone(), arguments.len());
    for argument in arguments {
        given.push_arg(ctx.json_parse(argument.to_string())?)?;
    }
    function.call_arg(given)
}

fn evaluate<'js>(
    ctx: &Ctx<'js>,
    script: &Script,
    arguments: &[&Value],
    limits: &Rc<Limits>,
) -> rquickjs::Result<Option<String>> {
    let value = called(ctx, script, arguments)?;
    if !value.is_object() {
        check_number(ctx, &value, limits)?;
        return ctx.json_stringify(value)?.map(|text| text.to_string()).transpose();
    }
    let limits = limits.clone();
    let check = Function::new(ctx.clone(), move |ctx: Ctx<'js>, _: Js<'js>, value: Js<'js>| {
        check_number(&ctx, &value, &limits).map(|()| value)
    })?;
    ctx.json_stringify_replacer(value, check)?.map(|text| text.to_string()).transpose()
}

/// JSON would make null of NaN, and a mapping nothing of null.
fn check_number(ctx: &Ctx, value: &Js, limits: &Limits) -> rquickjs::Result<()> {
    if value.as_float().is_some_and(|number| !number.is_finite()) {
        limits.no_number.set(true);
        return Err(Exception::throw_range(ctx, "no number"));
    }
    Ok(())
}

/// Whether it is JavaScript; where it is not, and why.
pub fn parse(code: &str) -> Result<(), (At, String)> {
    if let Some(unwanted) = unwanted(code) {
        return Err(unwanted);
    }
    let sandbox = Sandbox::new(&Reach::everything()).map_err(|failure| (At::default(), failure.message))?;
    sandbox.limits.begin();
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

/// What the engine cannot be stopped in: one step with a big integer may take minutes. And `async`,
/// which it does not clean up after without promises. Wherever they stand: in a text, too.
fn unwanted(code: &str) -> Option<(At, String)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    for (i, line) in code.lines().enumerate() {
        let mut before = 0;
        for word in line.split(|c: char| !is_word(c)) {
            let what = match word {
                "async" | "await" => "async and await are",
                _ if word.starts_with(|c: char| c.is_ascii_digit()) && word.ends_with('n') => {
                    "big integers, such as 5n, are"
                }
                _ => "",
            };
            if !what.is_empty() {
                let column = line[..before].chars().count() as u32 + 1;
                return Some((At { line: i as u32 + 1, column }, format!("{what} not taken")));
            }
            // What splits is one character.
            before += word.len();
            before += line[before..].chars().next().map_or(0, char::len_utf8);
        }
    }
    None
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
        let script =
            Script { origin, code: code.into(), reach: Reach::of(code), names: vec![("doc".into(), place)] };
        Sandbox::new(&script.reach).expect("a sandbox").run(&script, &[doc])
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

    /// Each of these would run for minutes or for ever in the engine's own loops.
    #[test]
    fn what_never_ends_is_ended() {
        let failure = run("(() => { for (;;) {} })()", &json!({})).expect_err("endless");
        assert_eq!(failure.message, "it took longer than 100 ms");
        for code in [
            "(function f() { return f() + 1 })()",
            "'x'.repeat(1 << 28)",
            "Array(1e9).fill('x').join('')",
            "/(a+)+b/.test('a'.repeat(40))",
            "[].reverse.call({length: 2 ** 53 - 1})",
            "[].forEach.call({get length() { return 2 ** 53 - 1 }}, x => x)",
            "[].copyWithin.call({length: 2 ** 53 - 1}, 0, 5)",
            "[].fill.call({length: 2 ** 53 - 1}, 0)",
            "[].lastIndexOf.call({length: 2 ** 53 - 1}, 0)",
            "[].concat({length: 2 ** 53 - 1, [Symbol.isConcatSpreadable]: true}).length * NaN",
            "Array(1e9).reverse()",
            "Array(4e9).lastIndexOf(1)",
            "Array(4e9).some(x => x)",
            "Array(4e9).sort()",
            "Array(4e9).toString()",
            "[Array(4e9)].flat()",
            "[Array(4e9)].join()",
            "[].concat(Array(4e9))",
            "new Set(Array(4e9)).size",
            "[...Array(4e9)]",
            "Array(4e9).values().drop(4e9).next()",
            "new Set([1]).union({size: 1, has: () => true, keys: () => Array(4e9).values()}).size",
            "Array.from({length: 1e9})",
            "JSON.stringify([Array(4e9)])",
            "String.raw({raw: {length: 2 ** 53 - 1}})",
            "'a'.padEnd(2 ** 30 - 2)",
            "'a'.repeat(3e6).includes('a'.repeat(1e6) + 'b')",
            "'a'.repeat(3e6).indexOf('a'.repeat(1e6) + 'b')",
            "'a'.repeat(3e6).lastIndexOf('b' + 'a'.repeat(1e6))",
            "'a'.repeat(3e6).split('a'.repeat(1e6) + 'b')",
            "'a'.repeat(3e6).replaceAll('a'.repeat(1e6) + 'b', '')",
            "'a'.repeat(3e6).includes({toString: () => 'a'.repeat(1e6) + 'b'})",
            "Array(1e6).fill('a'.repeat(1e6)).indexOf('a'.repeat(1e6 - 1) + 'b')",
            "(() => { const t = 'a'.repeat(2e6); return Array(1e5).fill(0).map((_, i) => t + i % 2).sort() })()",
            "(() => { for (;;) try { 'a'.repeat(3e5).includes('a'.repeat(60) + 'b') } catch {} })()",
            "(() => { for (;;) try { 'é'.repeat(1e5).normalize('NFD') } catch {} })()",
            "(() => { for (;;) try { Array(1e5).fill(0).reverse() } catch {} })()",
            "(() => { for (;;) try { Array.from({length: 1e9}) } catch {} })()",
            "(() => { for (;;) try { [...Array(1e5)] } catch {} })()",
            "(() => { for (;;) try { Object.keys('a'.repeat(1e5)) } catch {} })()",
            "JSON.parse('['.repeat(3e6))",
            "/a*b/.test('a'.repeat(3e6))",
            "'a'.repeat(3e6).replace(/(?:a*)b/g, '')",
            "eval('2n ** 10000000n')",
            "(() => {}).constructor('return 2n ** 1000000n')()",
            "(function* () {}).constructor('yield 1')()",
            "BigInt(2)",
        ] {
            let started = Instant::now();
            assert!(run(code, &json!({})).is_err(), "{code}");
            // Seconds on a busy machine; unguarded, minutes and more.
            assert!(started.elapsed() < Duration::from_secs(30), "{code}: {:?}", started.elapsed());
        }
        for code in ["2n ** 10000000n", "doc.a ** 0x10N + 1_000n", "\n 5n", "async () => 1"] {
            assert!(parse(code).is_err(), "{code}");
        }
        assert!(parse("doc.n5 + doc.in + $5n + 'a5na'").is_ok());
    }

    #[test]
    fn what_a_script_does_not_name_it_cannot_reach() {
        for code in ["'a,b'['spl' + 'it'](',')", "[1, 2]['ma' + 'p'](x => x)", "'ab'['sea' + 'rch']('b')"] {
            assert!(run(code, &json!({})).is_err(), "{code}");
        }
        assert_eq!(run("String([1, 2]) + `${[3, 4]}`", &json!({})), Ok(Some(json!("1,23,4"))));
        let (first, then) = (Reach::of("doc.a.split(',')"), Reach::of("doc.a.match(/x/)"));
        assert!(!first.covers(&then) && !then.covers(&first));
        assert!(first.with(&then).covers(&first) && first.with(&then).covers(&then));
    }

    #[test]
    fn what_is_limited_works_as_ever() {
        for (code, expected) in [
            ("'a-b-c'.split('-').map(x => x.toUpperCase()).join('+')", json!("A+B+C")),
            ("[3, 1, 2].sort((a, b) => b - a)", json!([3, 2, 1])),
            ("['b', 'a', 10, 9].sort()", json!([10, 9, "a", "b"])),
            ("[1, [2, [3, [4]]]].flat(Infinity)", json!([1, 2, 3, 4])),
            ("[1].concat(2, [3, [4]])", json!([1, 2, 3, [4]])),
            ("[[1], [2]].flatMap(x => x)", json!([1, 2])),
            ("[...new Set([1, 1, 2])]", json!([1, 2])),
            ("Object.fromEntries(Object.entries({a: 1}).map(([k, v]) => [k, v + 1]))", json!({"a": 2})),
            ("'07 12'.replace(/\\s/g, '').padStart(6, '0')", json!("000712")),
            ("'x1y2'.replaceAll(/[0-9]/g, d => d * 2)", json!("x2y4")),
            ("'x'.concat(['a', 'b'])", json!("xa,b")),
            ("JSON.parse(JSON.stringify({a: [1, null]}))", json!({"a": [1, null]})),
            ("Array.from('abc', c => c + c)", json!(["aa", "bb", "cc"])),
            ("`${['a', 'b']}`", json!("a,b")),
            ("'abc'.at(-1) + 'a,b'.match(/b/)[0]", json!("cb")),
            ("(() => { let n = 0; for (const c of 'abc') n += c.charCodeAt(0); return n })()", json!(294)),
        ] {
            assert_eq!(run(code, &json!({})), Ok(Some(expected)), "{code}");
        }
    }

    #[test]
    fn the_machine_s_time_zone_is_no_matter() {
        for (code, expected) in [
            ("new Date(0).getHours()", json!(0)),
            ("new Date(2026, 9, 17, 8).toISOString()", json!("2026-10-17T08:00:00.000Z")),
            ("new Date('2026-10-17T08:00').toISOString()", json!("2026-10-17T08:00:00.000Z")),
            ("new Date('2026-10-17T08:00:00+03:00').toISOString()", json!("2026-10-17T05:00:00.000Z")),
            ("new Date('Oct 17, 2026 08:00').toISOString()", json!("2026-10-17T08:00:00.000Z")),
            ("Date.parse('2026-10-17')", json!(1_792_195_200_000_i64)),
            (
                "(() => { const d = new Date(0); d.setHours(5); return d.toISOString() })()",
                json!("1970-01-01T05:00:00.000Z"),
            ),
            ("new Date(0).getTimezoneOffset()", json!(0)),
            ("String(new Date(0))", json!("Thu, 01 Jan 1970 00:00:00 GMT")),
        ] {
            assert_eq!(run(code, &json!({})), Ok(Some(expected)), "{code}");
        }
        assert!(run("new Date(0).toLocaleString()", &json!({})).is_err());
    }

    #[test]
    fn what_is_no_number_is_said() {
        for code in ["Number('abc') * 2", "1 / 0", "({a: [Number('abc')]})"] {
            let failure = run(code, &json!({})).expect_err(code);
            assert!(failure.message.contains("no number"), "{failure:?}");
        }
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
