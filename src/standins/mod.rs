//! Stand-ins for the systems around the mediator: for `sandbox`, and for tests.
//!
//! Each keeps to the contract of the real thing, including what is awkward about it, and can be
//! told to misbehave ([`faults::Faults`]). None of them is the real thing: the parts in
//! `tests/parts` are.
pub mod callback;
pub mod cht;
pub mod faults;
pub mod fhir;
pub mod openhim;
mod server;

use base64::Engine;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A panic in one test's closure must not hide what the others see.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn basic(username: &str, password: &str) -> String {
    let pair = format!("{username}:{password}");
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// An HTTP client on behalf of a stand-in, or of whoever plays with it.
pub fn client(timeout: Duration) -> std::io::Result<reqwest::Client> {
    // Whoever installed one first has it; all are the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().timeout(timeout).build().map_err(std::io::Error::other)
}
