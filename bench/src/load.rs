//! Messages, and how they are sent.
use crate::neighbours::Neighbours;
use crate::process::Process;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

type Make = Arc<dyn Fn() -> Value + Send + Sync>;

#[derive(Clone)]
pub struct Load {
    pub path: &'static str,
    make: Make,
    requester: bool,
    behind: bool,
}

pub struct Measured {
    pub rate: f64,
    pub p50: f64,
    pub p99: f64,
    pub cpu_us: f64,
    pub rss_mb: f64,
}

impl Load {
    pub fn new(path: &'static str, make: impl Fn() -> Value + Send + Sync + 'static) -> Self {
        Self { path, make: Arc::new(make), requester: false, behind: false }
    }

    pub fn with_requester(self) -> Self {
        Self { requester: true, ..self }
    }

    pub fn behind_one_that_hangs(self) -> Self {
        Self { behind: true, ..self }
    }

    pub async fn prepare(&self, process: &Process, neighbours: &Neighbours) {
        neighbours.hang(false);
        if self.requester {
            let endpoint = json!({"resourceType": "Endpoint", "identifier": [{"system": "x", "value": "e"}], "address": "http://127.0.0.1:9"});
            let clinic = json!({"resourceType": "Organization", "identifier": [{"system": "x", "value": "clinic"}], "endpoint": [{"reference": "Endpoint/e"}]});
            process.post("/endpoint", &endpoint).await;
            process.post("/organization", &clinic).await;
        }
        if self.behind {
            neighbours.hang(true);
            process.post(self.path, &(self.make)()).await;
        }
    }

    /// Sends one; answers how long it took, in milliseconds.
    pub fn one(&self, base: &str, http: &reqwest::Client) -> impl Future<Output = f64> + Send + 'static {
        let body = (self.make)().to_string();
        let request = http.post(format!("{base}{}", self.path)).header("content-type", "application/json");
        async move {
            let started = Instant::now();
            let answer = request.body(body).send().await.expect("an answer");
            assert!(answer.status().is_success(), "{}", answer.status());
            let _ = answer.bytes().await;
            started.elapsed().as_secs_f64() * 1000.0
        }
    }

    /// Sends until `done` says so; answers the latencies in milliseconds.
    pub async fn send(
        &self,
        base: &str,
        http: &reqwest::Client,
        connections: usize,
        done: impl Fn(usize) -> bool + Send + Sync + 'static,
    ) -> Vec<f64> {
        let (done, sent) = (Arc::new(done), Arc::new(std::sync::atomic::AtomicUsize::new(0)));
        let workers = (0..connections).map(|_| {
            let (load, http, base, done, sent) =
                (self.clone(), http.clone(), base.to_string(), done.clone(), sent.clone());
            tokio::spawn(async move {
                let mut took = Vec::new();
                while !done(sent.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    took.push(load.one(&base, &http).await);
                }
                took
            })
        });
        let workers: Vec<_> = workers.collect();
        let mut all = Vec::new();
        for worker in workers {
            all.extend(worker.await.expect("a worker"));
        }
        all
    }
}

pub fn until(time: Duration) -> impl Fn(usize) -> bool {
    let end = Instant::now() + time;
    move |_| Instant::now() >= end
}

pub fn percentile(sorted: &[f64], part: f64) -> f64 {
    let at = ((sorted.len() as f64 * part) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or_default()
}
