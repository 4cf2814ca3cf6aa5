//! `journal`: its key, its backup, and its way back.
use super::fail;
use crate::config::Settings;
use crate::house;
use crate::journal::{backup, rekey, seal};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use rand::TryRngCore;
use secrecy::{ExposeSecret, ExposeSecretMut, SecretBox};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Make a key for `journal.key`, and print it.
    NewKey,
    /// Seal the journal with the newest key of `journal.key`. The mediator must be stopped.
    Rekey,
    /// Copy the journal to a new file, while the mediator runs or not.
    Backup { file: PathBuf },
    /// Put a backup in the journal's place; what was there is kept beside it. The mediator must be stopped.
    Restore { file: PathBuf },
}

pub(super) fn new_key() -> ExitCode {
    let mut key = SecretBox::new(Box::new([0; 32]));
    if let Err(error) = rand::rngs::OsRng.try_fill_bytes(key.expose_secret_mut()) {
        return fail(&format!("the system gives no random numbers: {error}"));
    }
    say!("{}", STANDARD.encode(key.expose_secret()));
    eprintln!(
        "its id is {}; keep it in a file that only the mediator reads (journal.key_file), before older ones, \
         and a copy where the backups are not: without it the journal is lost",
        seal::Key::new(&key).id
    );
    ExitCode::SUCCESS
}

pub(super) fn run(settings: &Settings, command: Command) -> ExitCode {
    let journal = house::journal_path(settings);
    if !journal.exists() && !matches!(command, Command::Restore { .. }) {
        return fail(&super::no_journal(journal));
    }
    let keys = house::journal_keys(settings);
    let done = match command {
        Command::NewKey => return new_key(),
        Command::Rekey => rekey::rekey(journal, &keys, |how_far| eprintln!("{how_far}")),
        Command::Backup { file } => {
            backup::backup(journal, &file).map(|contents| format!("{}: {contents}", file.display()))
        }
        Command::Restore { file } => backup::restore(&file, journal, &keys).map(|(contents, aside)| {
            let kept = aside.map(|aside| format!("\nthe journal that was there is {}", aside.display()));
            format!("{}: {contents}{}", journal.display(), kept.unwrap_or_default())
        }),
    };
    match done {
        Ok(words) => {
            say!("{words}");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}
