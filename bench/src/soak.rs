//! `-- soak 60 500`: so many minutes at so many messages a second, a line each minute. What grows is seen.
use crate::load::{Load, percentile};
use crate::neighbours::Neighbours;
use crate::process::Process;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;

const MINUTE: Duration = Duration::from_secs(60);

pub async fn soak(neighbours: &Neighbours, load: &Load, minutes: u64, rate: u32) {
    let mediator = Process::mediator(neighbours).await;
    println!(
        "{:>6}{:>10}{:>10}{:>10}{:>10}{:>8}{:>8}",
        "minute", "sent", "p50 ms", "p99 ms", "CPU us", "RSS MB", "files"
    );
    for minute in 1..=minutes {
        let before = mediator.cpu_seconds();
        let mut took = at_rate(&mediator, load, rate).await;
        took.sort_by(f64::total_cmp);
        println!(
            "{minute:>6}{:>10}{:>10.1}{:>10.1}{:>10.0}{:>8.0}{:>8}",
            took.len(),
            percentile(&took, 0.5),
            percentile(&took, 0.99),
            (mediator.cpu_seconds() - before) * 1e6 / took.len() as f64,
            mediator.rss_mb(),
            mediator.open_files(),
        );
    }
}

/// A minute's messages, each sent when its time has come, whatever became of those before it.
async fn at_rate(mediator: &Process, load: &Load, rate: u32) -> Vec<f64> {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (took, end) = (Arc::new(Mutex::new(Vec::new())), Instant::now() + MINUTE);
    let mut sent = tokio::task::JoinSet::new();
    while Instant::now() < end {
        ticks.tick().await;
        let (one, took) = (load.one(&mediator.base, &mediator.http), took.clone());
        sent.spawn(async move {
            let ms = one.await;
            took.lock().unwrap_or_else(PoisonError::into_inner).push(ms);
        });
        while sent.try_join_next().is_some() {}
    }
    sent.join_all().await;
    std::mem::take(&mut *took.lock().unwrap_or_else(PoisonError::into_inner))
}
