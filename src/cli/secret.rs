//! `hash-secret`.
use super::fail;
use crate::http::auth::hash_secret;
use std::io::{IsTerminal, Read};
use std::process::ExitCode;

/// Reads a secret from the terminal without showing it, or from a pipe; prints its hash.
pub(super) fn run() -> ExitCode {
    let secret = match read() {
        Ok(secret) if secret.is_empty() => return fail("an empty secret protects nothing"),
        Ok(secret) => secret,
        Err(error) => return fail(&format!("no secret was read: {error}")),
    };
    match hash_secret(&secret) {
        Ok(hash) => {
            say!("{hash}");
            eprintln!("put it under [[clients]] as secret = '...', with an id and roles");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

fn read() -> std::io::Result<String> {
    if std::io::stdin().is_terminal() {
        return rpassword::prompt_password("secret: ");
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_string())
}
