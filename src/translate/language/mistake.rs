//! What is wrong in a mapping's file, for whoever wrote it.
use std::fmt;

/// Line and column, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct At {
    pub line: u32,
    pub column: u32,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mistake {
    /// As it was given on the command line or in the configuration.
    pub file: String,
    pub at: At,
    /// `entries[1].resource.gender.table`.
    pub key: String,
    /// What was expected.
    pub message: String,
    /// The file's line at which it is.
    pub shown: String,
}

impl Mistake {
    pub fn new(file: &str, source: &str, at: At, key: impl Into<String>, message: impl Into<String>) -> Self {
        let shown = (at.line as usize).checked_sub(1).and_then(|i| source.lines().nth(i));
        Self {
            file: file.into(),
            at,
            key: key.into(),
            message: message.into(),
            shown: shown.unwrap_or_default().chars().take(160).collect(),
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.at.line > 0 {
            write!(f, ":{}:{}", self.at.line, self.at.column)?;
        }
        f.write_str(": ")?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        if self.at.line > 0 && !self.shown.trim().is_empty() {
            let caret = " ".repeat((self.at.column as usize).saturating_sub(1).min(160));
            write!(f, "\n{:>5} | {}\n      | {caret}^", self.at.line, self.shown)?;
        }
        Ok(())
    }
}

/// `did you mean "name"?`, or what there is.
pub fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    let best = known.iter().map(|k| (strsim::jaro_winkler(wrong, k), *k)).max_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((score, name)) if score > 0.8 => format!("did you mean {name}?"),
        _ if known.is_empty() => "there are none".into(),
        _ if known.len() > 40 => format!("there are {} others", known.len()),
        _ => format!("there are: {}", known.join(", ")),
    }
}
