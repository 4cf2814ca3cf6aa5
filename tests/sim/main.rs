//! The whole corridor in one thread, from the HTTP door to its neighbours' routes, with its real statements on
//! its real schema. Time, chance, the network and the disk are the simulation's, and every run is drawn from
//! one seed: it can be had again. See "Simulation" in docs/ARCHITECTURE.md.
//!
//! `MEDIATOR_SIM_SEEDS=100000` runs more of them; `MEDIATOR_SIM_SEED` with `MEDIATOR_SIM_BUG` replays one.
// Clippy allows it in test functions only, and helpers of tests are none.
#![allow(clippy::unwrap_used)]

mod check;
mod fate;
mod life;
mod net;
mod play;
mod stage;
mod sweep;
mod world;

use cht_fhir_mediator::planted::BUGS;
use sweep::{Failure, failures, number, replay};
use world::run;

/// Seeds that must hold.
const SEEDS: u64 = 2000;
/// Seeds within which each planted bug must be found.
const FOUND_WITHIN: u64 = 2000;

#[test]
fn nothing_is_lost_doubled_or_turned_round_by_any_seed() {
    if let Some(seed) = number("MEDIATOR_SIM_SEED") {
        return replay(seed);
    }
    let seeds = number("MEDIATOR_SIM_SEEDS").unwrap_or(SEEDS);
    let failed: Vec<String> = failures(seeds, None, 20).iter().map(Failure::to_string).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn every_planted_bug_is_found() {
    for bug in BUGS {
        let found = failures(FOUND_WITHIN, Some(*bug), 1);
        match found.first() {
            Some(failure) => {
                println!("{bug:?}: found by seed {}: {:?}", failure.seed, failure.run.violations)
            }
            None => panic!("{bug:?} is not found within {FOUND_WITHIN} seeds"),
        }
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..20 {
        let (first, second) = (run(seed, None, false), run(seed, None, false));
        let differs = first.lines.iter().zip(&second.lines).position(|(a, b)| a != b);
        if let Some(at) = differs {
            panic!("seed {seed}, line {at}:\n{}\n{}", first.lines[at], second.lines[at]);
        }
        assert!(first == second, "seed {seed}: one is longer");
    }
}
