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
use tokio::time::Instant;
use uuid::Uuid;

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

/// A stand-in's own clock: it shows the time that it is set to, or the machine's, and goes as tokio's does,
/// which a test may stop.
#[derive(Clone, Copy)]
struct Clock {
    set: Instant,
    to: i64,
}

impl Clock {
    fn new(to: Option<i64>) -> Self {
        let to = to.unwrap_or_else(now_ms);
        Self { set: Instant::now(), to }
    }

    /// Milliseconds since 1970.
    fn now_ms(&self) -> i64 {
        self.to + self.set.elapsed().as_millis() as i64
    }
}

/// Ids that a stand-in gives: its own, and for the same requests the same.
#[derive(Clone)]
struct Ids {
    seed: i64,
    given: u64,
}

impl Ids {
    fn of(clock: &Clock) -> Self {
        Self { seed: clock.to, given: 0 }
    }

    fn next(&mut self) -> Uuid {
        self.given += 1;
        Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{} {}", self.seed, self.given).as_bytes())
    }
}

/// An HTTP client on behalf of a stand-in, or of whoever plays with it.
pub fn client(timeout: Duration) -> std::io::Result<reqwest::Client> {
    // Whoever installed one first has it; all are the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().timeout(timeout).build().map_err(std::io::Error::other)
}
