//! All that is left to chance in one run, drawn from one seed: how long things take, what fails, and what
//! the mediator thinks the time is. What happened is noted, line by line.
use cht_fhir_mediator::flow::ports::{Chance, Clock, Millis};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// 2026-11-18T09:46:40Z.
pub const BEGINNING: Millis = 1_795_000_000_000;

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How likely which fault is in this run, in a thousand. Runs differ: what never fails in one lets another
/// fault go deep.
#[derive(Clone, Copy, Debug)]
pub struct Temper {
    pub unreachable: u32,
    pub lost_before: u32,
    pub lost_after: u32,
    pub refused: u32,
    pub late: u32,
    pub disk_full: u32,
    pub hangs_up: u32,
    pub kills: u32,
    pub clock_jumps: bool,
    /// The FHIR server takes no transactions.
    pub singly: bool,
}

impl Temper {
    fn draw(random: &mut StdRng) -> Self {
        let mut often = |most: u32| match random.random_bool(0.5) {
            true => random.random_range(0..=most),
            false => 0,
        };
        let mut temper = Self {
            unreachable: often(150),
            lost_before: often(150),
            lost_after: often(300),
            refused: often(200),
            late: often(100),
            disk_full: often(250),
            hangs_up: often(150),
            kills: often(4),
            clock_jumps: false,
            singly: false,
        };
        (temper.clock_jumps, temper.singly) = (random.random_bool(0.25), random.random_bool(0.25));
        temper
    }
}

pub struct Fate {
    random: Mutex<StdRng>,
    pub temper: Temper,
    /// Until calm, things fail.
    is_calm: AtomicBool,
    began: Instant,
    /// By how much the mediator's clock is wrong, in milliseconds.
    pub wrong_by: AtomicI64,
    lines: Mutex<Vec<String>>,
    /// Whether each line is printed when it is noted.
    is_told: bool,
}

impl Fate {
    pub fn new(seed: u64, is_told: bool) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let temper = Temper::draw(&mut random);
        let fate = Self {
            random: Mutex::new(random),
            temper,
            is_calm: AtomicBool::new(false),
            began: Instant::now(),
            wrong_by: AtomicI64::new(0),
            lines: Mutex::default(),
            is_told,
        };
        fate.note(format!("{temper:?}"));
        fate
    }

    /// From `from` to `to`, both included.
    pub fn between(&self, from: u64, to: u64) -> u64 {
        lock(&self.random).random_range(from..=to)
    }

    /// So often in a thousand.
    pub fn happens(&self, in_thousand: u32) -> bool {
        self.between(0, 999) < u64::from(in_thousand)
    }

    /// The same, while things fail.
    pub fn strikes(&self, in_thousand: u32) -> bool {
        self.happens(in_thousand) && !self.is_calm()
    }

    /// Up to so many milliseconds: who comes first is chance.
    pub async fn pause(&self, most: u64) {
        let pause = self.between(0, most);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }

    pub fn calm(&self) {
        self.is_calm.store(true, Relaxed);
        self.wrong_by.store(0, Relaxed);
        self.note("all is calm");
    }

    pub fn is_calm(&self) -> bool {
        self.is_calm.load(Relaxed)
    }

    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// What the mediator's machine takes for the time.
    fn wall(&self) -> Millis {
        BEGINNING + self.elapsed().as_millis() as Millis + self.wrong_by.load(Relaxed)
    }

    pub fn note(&self, what: impl Display) {
        let line = format!("{:>8} {what}", self.elapsed().as_millis());
        if self.is_told {
            println!("{line}");
        }
        lock(&self.lines).push(line);
    }

    pub fn lines(&self) -> Vec<String> {
        lock(&self.lines).clone()
    }
}

/// The clock of one life of the mediator.
pub struct Machine {
    fate: Arc<Fate>,
    started: Instant,
    at: Millis,
}

impl Machine {
    pub fn start(fate: Arc<Fate>) -> Self {
        Self { at: fate.wall(), fate, started: Instant::now() }
    }
}

impl Clock for Machine {
    fn now(&self) -> Millis {
        self.fate.wall()
    }

    fn steady(&self) -> Millis {
        self.at + self.started.elapsed().as_millis() as Millis
    }
}

impl Chance for Fate {
    fn id(&self) -> uuid::Uuid {
        uuid::Builder::from_random_bytes(lock(&self.random).random()).into_uuid()
    }

    fn fraction(&self) -> f64 {
        lock(&self.random).random()
    }
}
