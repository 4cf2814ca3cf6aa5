//! The command line.
/// Prints a line. A reader who has seen enough (`| head`) is no mistake of ours.
macro_rules! say {
    ($($words:tt)*) => {{
        use std::io::Write;
        if writeln!(std::io::stdout(), $($words)*).is_err() {
            std::process::exit(0);
        }
    }};
}

mod audit;
mod check;
mod journal;
mod scaffold;
mod secret;
mod serve;
mod transactions;
mod translate;

use crate::config::{self, Settings};
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Mediates between the Community Health Toolkit and FHIR R4 systems.
#[derive(Parser)]
#[command(version = crate::version::full(), arg_required_else_help = true)]
pub struct Cli {
    /// The configuration file; without one the defaults hold (see mediator-config/mediator.toml).
    #[arg(long, short, global = true, env = "MEDIATOR_CONFIG")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Play a referral and a lost-to-follow-up request against stand-ins, and stay up to try by hand.
    Sandbox(crate::sandbox::Options),
    /// Run for real.
    Serve,
    /// Print what a CHT push or a FHIR body becomes. Sends nothing.
    Translate(translate::Options),
    /// Verify the configuration, the mappings and the profiles.
    Check(check::Options),
    /// Write a mapping to start from: of an XForm, a JSON form of app_settings, or an example report.
    Scaffold(scaffold::Options),
    /// Print the JSON Schema of mapping files, for editors.
    MappingSchema,
    /// Find, explain and rerun what did not arrive.
    #[command(subcommand)]
    Transactions(transactions::Command),
    /// Verify and export the audit trail.
    #[command(subcommand)]
    Audit(audit::Command),
    /// The journal's key, backup and restore.
    #[command(subcommand)]
    Journal(journal::Command),
    /// Make a client's secret: prints the hash for the configuration.
    HashSecret,
    /// Ask a running mediator whether it is ready: for container health checks.
    Health,
}

pub fn run() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::HashSecret => secret::run(),
        Command::Journal(journal::Command::NewKey) => journal::new_key(),
        Command::MappingSchema => {
            print!("{}", crate::translate::mapping_schema());
            ExitCode::SUCCESS
        }
        Command::Check(options) => check::run(cli.config.as_deref(), &options),
        Command::Sandbox(options) => with_runtime(crate::sandbox::run(options)),
        command => match settings(cli.config.as_deref()) {
            Err(code) => code,
            Ok(settings) => match command {
                Command::Serve => with_runtime(serve::run(settings)),
                Command::Translate(options) => translate::run(&settings, &options),
                Command::Scaffold(options) => scaffold::run(&settings, &options),
                Command::Transactions(command) => with_runtime(transactions::run(settings, command)),
                Command::Audit(command) => with_runtime(audit::run(settings, command)),
                Command::Journal(command) => journal::run(&settings, command),
                Command::Health => with_runtime(serve::health(settings)),
                Command::HashSecret | Command::MappingSchema | Command::Check(_) | Command::Sandbox(_) => {
                    ExitCode::SUCCESS
                }
            },
        },
    }
}

/// Pieces of long work (translations, scans of the journal, checks of secrets) at once.
const LONG_WORK: usize = 16;

fn with_runtime(work: impl Future<Output = ExitCode>) -> ExitCode {
    // Each thread that has been in long work keeps memory: so many at once are enough.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    match runtime.enable_all().max_blocking_threads(LONG_WORK).build() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => fail(&error.to_string()),
    }
}

/// The settings, or every mistake in them on stderr.
fn settings(file: Option<&std::path::Path>) -> Result<Settings, ExitCode> {
    config::load(file, std::env::vars()).map_err(|errors| {
        for error in &errors {
            eprintln!("{error}");
        }
        eprintln!("{} mistake(s) in the configuration; nothing was started", errors.len());
        ExitCode::from(2)
    })
}

fn no_journal(path: &std::path::Path) -> String {
    format!("there is no journal at {}; is journal.url the one that serve uses?", path.display())
}

fn fail(message: &str) -> ExitCode {
    eprintln!("{message}");
    ExitCode::FAILURE
}
