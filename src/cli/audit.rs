//! `audit`: read from the journal itself, so that it works while `serve` runs and on a copy of the file.
use super::fail;
use crate::config::Settings;
use crate::domain::audit::chain::{Break, Hash, Link, Walk};
use crate::domain::audit::{Act, Agent, Event, Kind, audit_event, chain_of};
use crate::domain::identifier::Identifier;
use crate::flow::audit::{Audit, Search};
use crate::flow::ports::JournalError;
use crate::{house, journal};
use clap::{Args, Subcommand};
use serde_json::Value;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Walk the chain of hashes: says that the trail is whole, or names the first record that is not as it was.
    Verify(Verify),
    /// Print the trail as lines of FHIR AuditEvents, oldest first. Patients are named by identifiers.
    Export {
        /// Only the records after this number.
        #[arg(long, default_value_t = 0)]
        after: u64,
    },
}

#[derive(Args)]
pub(super) struct Verify {
    /// A head that was noted before, as the log tells it: it has to be in the trail.
    #[arg(long)]
    head: Option<String>,
    /// What `audit export` printed, instead of the journal; `-` for standard input.
    #[arg(long)]
    file: Option<PathBuf>,
}

/// Records that are read at once.
const CHUNK: usize = 1000;

pub(super) async fn run(settings: Settings, command: Command) -> ExitCode {
    match command {
        Command::Verify(options) => verify(&settings, &options),
        Command::Export { after } => match export(&settings, after).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        },
    }
}

/// An act of whoever types here.
pub(super) fn event(act: Act, transaction: Option<String>, patients: Vec<Identifier>) -> Event {
    let at = jiff::Timestamp::now().as_millisecond();
    Event { at, by: Agent::new(Kind::User, &user(), None), act, transaction, patients }
}

/// The OS user.
pub(super) fn user() -> String {
    whoami::username().unwrap_or_else(|_| "unknown".into())
}

fn verify(settings: &Settings, options: &Verify) -> ExitCode {
    let expected = match options.head.as_deref().map(|head| (head, Hash::parse(head))) {
        Some((head, None)) => return fail(&format!("{head} is no head; expected 64 hexadecimal digits")),
        Some((_, head)) => head,
        None => None,
    };
    let walked = match &options.file {
        Some(file) => walk_file(file, expected),
        None => {
            journal::audit::verify(house::journal_path(settings), &house::journal_keys(settings), expected)
        }
    };
    match walked {
        Ok(Ok(walk)) => {
            say!("the audit trail is whole: {}", told(&walk));
            ExitCode::SUCCESS
        }
        Ok(Err(broken)) => fail(&format!(
            "the audit trail is broken at record {} ({}): {}",
            broken.seq,
            time(broken.at),
            broken.why
        )),
        Err(error) => fail(&error),
    }
}

fn told(walk: &Walk) -> String {
    if walk.count == 0 {
        return "no records".into();
    }
    let begins = match walk.seq + 1 - walk.count {
        1 => String::new(),
        first => format!(" from number {first} on"),
    };
    let (first, last) = (time(walk.first), time(walk.last));
    format!("{} records{begins}, {first} to {last}, head {}", walk.count, walk.head)
}

fn time(millis: i64) -> String {
    jiff::Timestamp::from_millisecond(millis).map(|t| t.to_string()).unwrap_or_default()
}

/// Walks an export. It may begin anywhere; what it says as FHIR must be what its records say.
fn walk_file(file: &Path, expected: Option<Hash>) -> Result<Result<Walk, Break>, String> {
    let told = |why: &dyn std::fmt::Display| format!("{}: {why}", file.display());
    let reader: Box<dyn BufRead> = match file.as_os_str() == "-" {
        true => Box::new(std::io::stdin().lock()),
        false => Box::new(std::io::BufReader::new(std::fs::File::open(file).map_err(|e| told(&e))?)),
    };
    let mut is_there = expected.is_none();
    let mut walk = Walk::default();
    for (number, line) in reader.lines().enumerate() {
        let line = line.map_err(|e| told(&e))?;
        let resource: Value =
            serde_json::from_str(&line).map_err(|e| told(&format!("line {}: {e}", number + 1)))?;
        let Some((text, previous, hash)) = chain_of(&resource) else {
            return Err(told(&format!("line {}: no AuditEvent of this trail", number + 1)));
        };
        let seq = resource["id"].as_str().and_then(|id| id.parse().ok()).unwrap_or_default();
        if let Err(broken) = walk.step(seq, text, hash, Some(previous)) {
            return Ok(Err(broken));
        }
        let shown = serde_json::from_str(text)
            .map(|record| audit_event(&Link { text: text.into(), record, previous, hash }));
        if shown.ok() != Some(resource) {
            let why = "it says something else than its record: it was changed".into();
            return Ok(Err(Break { seq, at: walk.last, why }));
        }
        is_there = is_there || expected == Some(hash);
    }
    Ok(match is_there {
        true => Ok(walk),
        false => {
            Err(Break { seq: walk.seq, at: walk.last, why: "the head that was noted is not in it".into() })
        }
    })
}

async fn export(settings: &Settings, after: u64) -> Result<(), String> {
    let path = house::journal_path(settings);
    if !path.exists() {
        return Err(super::no_journal(path));
    }
    let journal = house::journal(settings)?;
    let asked = Act::Searched { path: "audit export".into(), query: format!("after={after}") };
    let told = |error: JournalError| error.to_string();
    journal.record(event(asked, None, Vec::new())).await.map_err(told)?;
    let end = journal.head().await.map_err(told)?.map_or(0, |(seq, _)| seq) + 1;
    let mut search = Search { after, before: Some(end), limit: CHUNK, ..Search::default() };
    loop {
        let found = journal.records(search.clone()).await.map_err(told)?;
        found.iter().for_each(|link| say!("{}", audit_event(link)));
        match found.last() {
            Some(last) => search.after = last.record.seq,
            None => return Ok(()),
        }
    }
}
