//! What a script can reach, as its text shows. The less, the sooner its sandbox is made: what no word of
//! the script names is not guarded but taken away, so that nothing is open that was not seen.
use super::guards::{GUARDS, OWN};
use std::collections::BTreeSet;

/// What of JavaScript there is, each with all before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Compares, computes and chooses, once: nothing in it repeats.
    #[default]
    Plain,
    /// Functions, texts and lists.
    Lists,
    /// Regular expressions.
    Patterns,
    /// Map and Set.
    Sets,
    Dates,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    pub level: Level,
    /// The guarded names among its words.
    words: BTreeSet<&'static str>,
}

/// What a plain script may call: each costs no more than its argument is long.
const PLAIN_CALLS: &[&str] = &[
    "Number",
    "String",
    "Boolean",
    "parseInt",
    "parseFloat",
    "isNaN",
    "round",
    "floor",
    "ceil",
    "trunc",
    "abs",
    "min",
    "max",
    "toFixed",
    "trim",
    "toLowerCase",
    "toUpperCase",
];

impl Reach {
    pub fn of(code: &str) -> Self {
        let words: BTreeSet<&str> = code.split(|c| !is_word(c)).collect();
        if is_plain(code) == Some(true) && !words.contains("Date") {
            return Self::default();
        }
        let has = |names: &[&str]| names.iter().any(|name| words.contains(name));
        let level = if has(&["Date"]) {
            Level::Dates
        } else if has(&["Map", "Set", "groupBy"]) {
            Level::Sets
        } else if code.contains('/') || has(&["RegExp", "match", "matchAll", "search"]) {
            Level::Patterns
        } else {
            Level::Lists
        };
        let mut reach = Self { level, words: BTreeSet::new() };
        let guarded = GUARDS.iter().flat_map(|guard| guard.names.iter().copied());
        reach.words.extend(guarded.filter(|name| words.contains(name)));
        for (name, parts, _) in OWN.iter().filter(|(name, ..)| words.contains(name)) {
            reach.words.extend([*name].iter().chain(*parts));
        }
        reach
    }

    /// Whatever a script may do.
    pub fn everything() -> Self {
        let guarded = GUARDS.iter().flat_map(|guard| guard.names.iter().copied());
        Self { level: Level::Dates, words: guarded.chain(OWN.iter().map(|(name, ..)| *name)).collect() }
    }

    /// Whether what is within another's reach is within this one's.
    pub fn covers(&self, other: &Self) -> bool {
        self.level >= other.level && self.words.is_superset(&other.words)
    }

    pub fn with(&self, other: &Self) -> Self {
        Self { level: self.level.max(other.level), words: &self.words | &other.words }
    }

    /// Whether a method is there, as far as the script's words go.
    pub fn names(&self, method: &str) -> bool {
        self.words.contains(method)
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

/// No function, no loop, no assignment, no call but of the above. `None`: it ends within a text.
fn is_plain(code: &str) -> Option<bool> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
    let mut rest = code;
    // What stood last: a word, or else one character.
    let mut last = "";
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '\'' | '"' => rest[1..].find(first)? + 2,
            _ if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            '=' | '!' | '<' | '>' => rest.find(|c| !"=!<>".contains(c)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let (piece, after) = rest.split_at(length);
        let allowed = match first {
            '\'' | '"' => !piece.contains(['\\', '\n']),
            _ if is_word(first) => piece != "new",
            '=' | '!' | '<' | '>' => {
                ["==", "===", "!=", "!==", "<", ">", "<=", ">=", "!", "!!"].contains(&piece)
            }
            '(' => {
                last.is_empty()
                    || PLAIN_CALLS.contains(&last)
                    || "(?:+-*%<>=!&|,[".contains(last.chars().next_back()?)
            }
            '.' => last != ".",
            other => other.is_ascii_whitespace() || "?:)[]+-*%&|,".contains(other),
        };
        if !allowed {
            return Some(false);
        }
        if !first.is_whitespace() {
            last = piece;
        }
        rest = after;
    }
    Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_script_is_known_by_its_text() {
        for code in [
            "doc.sex === 'female' ? 'female' : 'male'",
            "Math.round((doc.fields.f - 32) / 1.8)",
            "Number(doc.weeks) > 36 && !(doc.a || doc.b[0]?.c)",
            "doc.a + ', ' + String(doc.b).trim()",
        ] {
            let expected = if code.contains('/') { Level::Patterns } else { Level::Plain };
            assert_eq!(Reach::of(code).level, expected, "{code}");
        }
        for code in [
            "(() => 1)()",
            "doc.a.map(x)",
            "doc.a = 1",
            "doc.a += 1",
            "[...doc.a]",
            "new Map",
            "`${doc}`",
            "'a'(1)",
            "doc.a?.(1)",
            "doc.a[0](1)",
            "(doc.a)(1)",
            "'a\\'(",
            "eval('1')",
            "{a: 1}",
            "/a/",
            "Math.random()",
            "'a",
            "function f() {}",
            "doc.a => 1",
            "this.constructor.constructor('1')()",
        ] {
            assert_ne!(Reach::of(code).level, Level::Plain, "{code}");
        }
        assert_eq!(Reach::of("new Date(0)").level, Level::Dates);
    }
}
