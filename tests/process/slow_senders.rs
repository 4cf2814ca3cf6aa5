//! 10,000 connections that send a byte a second: the door stays open for everybody else.
use crate::process::Process;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// As many as `server.max_connections`, and some more.
const WANTED: u64 = 10_100;
/// Files that this test needs besides.
const OWN: u64 = 200;
/// Memory that a slow connection may cost, in kB.
const EACH_KB: u64 = 32;
/// The longest that somebody else may wait; without the slow ones it is some milliseconds.
const LONGEST: Duration = Duration::from_secs(2);

/// As many connections as the limit on open files allows, for us and for the mediator alike.
fn affordable() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let soft = limit.maximum.unwrap_or(u64::MAX).min(WANTED + 2 * OWN);
    setrlimit(Resource::Nofile, Rlimit { current: Some(soft.max(limit.current.unwrap_or(0))), ..limit })
        .expect("raised");
    WANTED.min(soft - OWN)
}

async fn longest(it: &Process) -> Duration {
    // A new connection each time, as somebody who comes now.
    let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().expect("a client");
    let mut longest = Duration::ZERO;
    for _ in 0..50 {
        let started = Instant::now();
        let sent =
            http.get(format!("http://127.0.0.1:{}/health/ready", it.port)).timeout(LONGEST * 5).send().await;
        assert_eq!(sent.expect("an answer").status(), 200);
        longest = longest.max(started.elapsed());
    }
    longest
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_senders_keep_nobody_else_out_and_cost_little() {
    let n = affordable();
    // Where fewer can be opened, the mediator has fewer places too: its door is full all the same.
    let places = (n - 100).to_string();
    let further = [
        ("SERVER__MAX_CONNECTIONS", places.as_str()),
        // Longer than this test: it is not time that makes room.
        ("SERVER__READ_TIMEOUT_MS", "120000"),
        ("LOG__FILTER", "info"),
    ];
    let mut it = Process::with("", &further).await;
    let without = longest(&it).await;
    let (before, _) = it.memory();
    let mut slow = Vec::new();
    for _ in 0..n {
        let stream = TcpStream::connect(("127.0.0.1", it.port)).await.expect("a connection");
        let _ = stream.try_write(b"POST /cht/push HTTP/1.1\r\nhost: x\r\nx-slow: ");
        slow.push(stream);
    }
    let dripping = tokio::spawn(async move {
        loop {
            slow.iter().for_each(|stream| drop(stream.try_write(b"x")));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    let with = longest(&it).await;
    let (after, _) = it.memory();
    let each = after.saturating_sub(before) / n;
    println!(
        "{n} slow connections of {WANTED} wanted, {places} places: the slowest of 50 others took {without:?} \
         without and {with:?} with them; memory {before} kB without and {after} kB with, {each} kB each"
    );
    assert!(n >= 800, "the limit on open files leaves {n} connections, too few to say anything: ulimit -n");
    assert!(with < LONGEST, "{with:?} with {n} slow connections");
    assert!(each <= EACH_KB, "{each} kB each");
    dripping.abort();
    it.settled_without_messages().await;
}

impl Process {
    /// It lives, and nothing of theirs was taken.
    async fn settled_without_messages(&mut self) {
        self.alive().await;
        assert_eq!(self.deaths, 0);
        let rows = self.get("/transactions").await.expect("a list");
        assert_eq!(rows["transactions"].as_array().map(Vec::len), Some(0));
    }
}
