//! `transactions`: read from the journal itself, so that it works while `serve` runs and while it
//! does not. Changes are left for the mediator, which makes them.
use super::fail;
use crate::config::Settings;
use crate::domain::audit::Act as Deed;
use crate::domain::message::Route;
use crate::domain::plan::{Act, Status};
use crate::flow::audit::Audit;
use crate::flow::ports::{Action, Filter, Journal, JournalError, Row, Transaction};
use crate::house;
use crate::journal::embedded::Embedded;
use crate::translate::check_valid;
use clap::{Args, Subcommand};
use std::process::ExitCode;
use std::time::Duration;

#[derive(Subcommand)]
pub(super) enum Command {
    /// List transactions, oldest first.
    List(List),
    /// Explain one: what came, what was made of it, where it went, what came back.
    Show {
        id: String,
        /// Also print what the message said. Patient data.
        #[arg(long)]
        body: bool,
    },
    /// Try a failed, ignored or cancelled one again, or an open one at once. It is translated anew, by
    /// the mappings of now.
    Rerun {
        id: String,
        /// Deliver what the mapping of then made.
        #[arg(long)]
        as_planned: bool,
    },
    /// Give an open or failed one up.
    Cancel { id: String },
}

#[derive(Args)]
pub(super) struct List {
    /// open, delivered, failed, ignored or cancelled.
    #[arg(long)]
    status: Option<String>,
    /// Such as /cht/push.
    #[arg(long)]
    route: Option<String>,
    /// The newest so many.
    #[arg(long)]
    limit: Option<u32>,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

/// How long the command waits for a running mediator to obey.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn run(settings: Settings, command: Command) -> ExitCode {
    let path = house::journal_path(&settings);
    if !path.exists() {
        return fail(&super::no_journal(path));
    }
    let journal = match house::journal(&settings) {
        Ok(journal) => journal,
        Err(error) => return fail(&error),
    };
    if let Err(error) = leave_trace(&journal, &command).await {
        return fail(&format!("{error}; nothing is shown that the audit trail cannot record"));
    }
    if let Some(objection) = journal.objection() {
        eprintln!("{objection}");
    }
    match command {
        Command::List(options) => list(&journal, options).await,
        Command::Show { id, body } => show(&journal, &id, body).await,
        Command::Rerun { id, as_planned: true } => change(&journal, &id, Action::RerunAsPlanned).await,
        Command::Rerun { id, .. } => change(&journal, &id, Action::Rerun).await,
        Command::Cancel { id } => change(&journal, &id, Action::Cancel).await,
    }
}

/// Who looked at what. Changes are recorded where they are made.
async fn leave_trace(journal: &Embedded, command: &Command) -> Result<(), JournalError> {
    let (act, transaction) = match command {
        Command::List(_) => (Deed::Searched { path: "transactions list".into(), query: String::new() }, None),
        Command::Show { id, body } => {
            let what = if *body { "transaction with its body" } else { "transaction" };
            (Deed::Read { what: what.into() }, Some(id.clone()))
        }
        Command::Rerun { .. } | Command::Cancel { .. } => return Ok(()),
    };
    let found = match &transaction {
        Some(id) => journal.transaction(id).await?,
        None => None,
    };
    if transaction.is_some() && found.is_none() {
        return Ok(());
    }
    let patients = found.map(|found| found.patients()).unwrap_or_default();
    journal.record(super::audit::event(act, transaction, patients)).await
}

async fn list(journal: &Embedded, options: List) -> ExitCode {
    let status = match options.status.as_deref().map(|text| (text, Status::parse(text))) {
        Some((text, None)) => {
            return fail(&format!(
                "{text} is no status; expected open, delivered, failed, ignored or cancelled"
            ));
        }
        Some((_, status)) => status,
        None => None,
    };
    let rows = match journal.list(Filter { status, route: options.route, limit: options.limit }).await {
        Ok(rows) => rows,
        Err(error) => return fail(&error.to_string()),
    };
    for row in &rows {
        match options.json {
            true => say!("{}", serde_json::to_string(row).unwrap_or_default()),
            false => say!("{}", line(row)),
        }
    }
    if rows.is_empty() && !options.json {
        say!("no transactions");
    }
    ExitCode::SUCCESS
}

fn line(row: &Row) -> String {
    let received = row.received.get(..19).unwrap_or(&row.received);
    let mut line = format!("{}  {received}  {:<9}  {:<22} x{}", row.id, row.status, row.route, row.attempts);
    if let Some(error) = &row.error {
        line.push_str(&format!("  {error}"));
    }
    if let Some(other) = &row.waits_for {
        line.push_str(&format!("  (waits for {other})"));
    }
    line
}

async fn show(journal: &Embedded, id: &str, body: bool) -> ExitCode {
    let transaction = match journal.transaction(id).await {
        Ok(Some(transaction)) => transaction,
        Ok(None) => return fail(&format!("there is no transaction {id}")),
        Err(error) => return fail(&error.to_string()),
    };
    say!("{}", explained(&transaction).trim_end());
    if let Some(flags) = flagged(&transaction) {
        say!("{flags}");
    }
    match (transaction.body.is_empty(), journal.objection()) {
        (true, Some(_)) => say!("body       sealed"),
        (true, None) => say!("body       removed after journal.keep_bodies_days"),
        (false, _) if body => say!("body       {}", String::from_utf8_lossy(&transaction.body)),
        (false, _) => {}
    }
    ExitCode::SUCCESS
}

fn explained(t: &Transaction) -> String {
    let time =
        |millis: i64| jiff::Timestamp::from_millisecond(millis).map(|t| t.to_string()).unwrap_or_default();
    let mut text = format!("id         {}\n", t.head.id);
    text.push_str(&format!("came       {} from {} by {}\n", time(t.received), t.client, t.route));
    text.push_str(&format!(
        "status     {} after {} attempt(s), {} rerun(s)\n",
        t.head.status.as_str(),
        t.attempts,
        t.reruns
    ));
    if let Some(mapping) = &t.mapping {
        text.push_str(&format!("mapping    {mapping}\n"));
    }
    if let Some(error) = &t.error {
        text.push_str(&format!("why        {error}\n"));
    }
    for part in t.plan.iter().flat_map(|plan| &plan.parts) {
        text.push_str(&format!("made       {}\n", part.text));
    }
    let steps = t.plan.iter().flat_map(|plan| &plan.steps);
    for (step, progress) in steps.zip(&t.progress) {
        let what = match &step.act {
            Act::Fhir { entries } => format!("{} resource(s)", entries.len()),
            Act::ChtRecord { record, .. } => format!("{} report", record.form),
            Act::ChtPerson { .. } => "person".into(),
            Act::ChtPersonChange { change } => format!("change of a person's {}", change.fields().join(", ")),
            Act::Callback { .. } => "callback".into(),
        };
        let status = serde_json::to_value(progress.status)
            .ok()
            .and_then(|v| v.as_str().map(String::from))
            .unwrap_or_default();
        text.push_str(&format!(
            "step       {what} to {}: {status} after {} attempt(s)",
            step.destination, progress.attempts
        ));
        if let Some(error) = &progress.error {
            text.push_str(&format!("; {error}"));
        }
        text.push('\n');
        for id in progress.ids.values() {
            text.push_str(&format!("           {id}\n"));
        }
    }
    text.push_str(match t.head.status {
        Status::Failed => {
            "next       mend the cause, then `transactions rerun ID`; or `transactions cancel ID`\n"
        }
        Status::Open => "next       it is tried again by itself; `transactions rerun ID` tries at once\n",
        _ => "",
    });
    text
}

/// What was not valid of FHIR that was taken all the same (`server.flag_invalid`).
fn flagged(transaction: &Transaction) -> Option<String> {
    if !matches!(transaction.route, Route::Fhir(_) | Route::ServiceRequest | Route::Poll(_)) {
        return None;
    }
    let body: serde_json::Value = serde_json::from_slice(&transaction.body).ok()?;
    let problems = check_valid(&body, &Default::default());
    let lines: Vec<String> = problems.iter().map(|problem| format!("not valid  {problem}")).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

async fn change(journal: &Embedded, id: &str, action: Action) -> ExitCode {
    // One that cannot be read can be cancelled all the same.
    if let Ok(None) = journal.transaction(id).await {
        return fail(&format!("there is no transaction {id}"));
    }
    let number = match journal.request(action, id, &super::audit::user()).await {
        Ok(number) => number,
        Err(error) => return fail(&error.to_string()),
    };
    let until = std::time::Instant::now() + PATIENCE;
    while std::time::Instant::now() < until {
        match journal.command_outcome(number).await {
            Ok(Some(outcome)) if outcome == "done" => {
                say!("the mediator has taken it up; `transactions show {id}` tells how it stands");
                return ExitCode::SUCCESS;
            }
            Ok(Some(why)) => return fail(&why),
            Ok(None) => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(error) => return fail(&error.to_string()),
        }
    }
    say!("no mediator runs on this journal now; it is done when one starts");
    ExitCode::SUCCESS
}
