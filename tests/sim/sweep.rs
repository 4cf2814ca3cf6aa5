//! Many seeds, and one again.
use crate::world::{Run, run};
use cht_fhir_mediator::planted::{BUGS, Bug};
use std::fmt;
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub struct Failure {
    pub seed: u64,
    bug: Option<Bug>,
    pub run: Run,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} fails:\n  {}", self.seed, self.run.violations.join("\n  "))?;
        let bug = self.bug.map(|bug| format!("MEDIATOR_SIM_BUG={bug:?} ")).unwrap_or_default();
        write!(
            f,
            "replay it: {bug}MEDIATOR_SIM_SEED={} cargo test --all-features --test sim by_any_seed -- --nocapture",
            self.seed
        )
    }
}

/// Up to `enough` of the seeds below `seeds` that fail, the lowest first: each core takes the next.
pub fn failures(seeds: u64, bug: Option<Bug>, enough: usize) -> Vec<Failure> {
    let (next, failures) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= seeds || failures.lock().unwrap().len() >= enough {
                        return;
                    }
                    let run = safely(seed, bug);
                    if !run.violations.is_empty() {
                        failures.lock().unwrap().push(Failure { seed, bug, run });
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort_by_key(|failure: &Failure| failure.seed);
    failures
}

/// A panic is a failure of its seed.
fn safely(seed: u64, bug: Option<Bug>) -> Run {
    catch_unwind(|| run(seed, bug, false))
        .unwrap_or_else(|_| Run { violations: vec!["it panicked".into()], lines: Vec::new() })
}

/// Runs one seed, and tells all that happened.
pub fn replay(seed: u64) {
    let name = std::env::var("MEDIATOR_SIM_BUG").ok();
    let bug = name.map(|name| *BUGS.iter().find(|bug| format!("{bug:?}") == name).expect("a planted bug"));
    // What the mediator itself says of it, between the lines.
    let _ = tracing_subscriber::fmt().without_time().with_ansi(false).with_test_writer().try_init();
    let run = run(seed, bug, true);
    assert!(run.violations.is_empty(), "seed {seed}: {}", run.violations.join("\n"));
}

pub fn number(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().expect("a number"))
}
