//! The mediator, or the floor, as a process whose CPU and memory are read from `/proc`.
use crate::load::{Load, Measured, percentile, until};
use crate::neighbours::Neighbours;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

/// Ticks a second, on every Linux that we know.
const TICKS: f64 = 100.0;

pub struct Process {
    child: Child,
    pub base: String,
    pub http: reqwest::Client,
    start: Box<dyn Fn() -> Command + Send + Sync>,
    _folder: tempfile::TempDir,
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Beside us: built by the same command, or by `cargo build --release`.
fn mediator() -> PathBuf {
    let own = std::env::current_exe().expect("a program");
    let path = own.with_file_name("cht-fhir-mediator");
    assert!(path.is_file(), "first: cargo build --release (there is no {})", path.display());
    path
}

impl Process {
    pub async fn floor() -> Self {
        Self::of(|port, folder| {
            let mut command = Command::new(std::env::current_exe().expect("a program"));
            command.arg("floor").arg(port.to_string()).arg(folder.join("journal.db"));
            command
        })
        .await
    }

    pub async fn mediator(neighbours: &Neighbours) -> Self {
        let there = neighbours.port;
        Self::of(move |port, folder| {
            let mut command = Command::new(mediator());
            command
                .arg("serve")
                .env("MEDIATOR__SERVER__LISTEN", format!("127.0.0.1:{port}"))
                .env("MEDIATOR__JOURNAL__URL", format!("sqlite:{}", folder.join("journal.db").display()))
                .env("MEDIATOR__JOURNAL__MAX_OPEN", "10000000")
                .env("MEDIATOR__FHIR__URL", format!("http://127.0.0.1:{there}/fhir"))
                .env("MEDIATOR__FHIR__POLL_SECONDS", "0")
                .env("MEDIATOR__CHT__URL", format!("http://127.0.0.1:{there}"))
                .env("MEDIATOR__CALLBACKS__ALLOW_PRIVATE", "true")
                .env("MEDIATOR__LOG__FILTER", "error");
            command
        })
        .await
    }

    async fn of(command: impl Fn(u16, &Path) -> Command + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (port, path) = (free_port(), folder.path().to_path_buf());
        let start = Box::new(move || {
            let mut command = command(port, &path);
            command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
            command
        });
        let child = start().spawn().expect("started");
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let it = Self { child, base: format!("http://127.0.0.1:{port}"), http, start, _folder: folder };
        it.is_up().await;
        it
    }

    async fn is_up(&self) {
        let until = Instant::now() + Duration::from_secs(60);
        while self.http.get(format!("{}/health/live", self.base)).send().await.is_err() {
            assert!(Instant::now() < until, "it does not come up");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub async fn post(&self, path: &str, body: &Value) {
        let request = self.http.post(format!("{}{path}", self.base));
        let request = request.header("content-type", "application/json").body(body.to_string());
        // One that hangs is told 202 in the end: nobody waits for that.
        let _ = tokio::time::timeout(Duration::from_millis(500), request.send()).await;
    }

    pub async fn measure(&self, load: &Load, connections: usize, time: Duration) -> Measured {
        load.send(&self.base, &self.http, connections, until(Duration::from_millis(300))).await;
        let (before, started) = (self.cpu_seconds(), Instant::now());
        let mut took = load.send(&self.base, &self.http, connections, until(time)).await;
        let elapsed = started.elapsed();
        let cpu = self.cpu_seconds() - before;
        took.sort_by(f64::total_cmp);
        Measured {
            rate: took.len() as f64 / elapsed.as_secs_f64(),
            p50: percentile(&took, 0.5),
            p99: percentile(&took, 0.99),
            cpu_us: cpu * 1e6 / took.len() as f64,
            rss_mb: self.rss_mb(),
        }
    }

    pub async fn send(&self, load: &Load, connections: usize, count: usize) {
        load.send(&self.base, &self.http, connections, move |sent| sent >= count).await;
    }

    pub async fn kill(&mut self) {
        self.child.kill().await.expect("killed");
    }

    pub async fn start_again(&mut self) -> Duration {
        let started = Instant::now();
        self.child = (self.start)().spawn().expect("started");
        self.is_up().await;
        started.elapsed()
    }

    fn read(&self, what: &str) -> String {
        let pid = self.child.id().unwrap_or_default();
        std::fs::read_to_string(format!("/proc/{pid}/{what}")).unwrap_or_default()
    }

    pub fn open_files(&self) -> usize {
        let pid = self.child.id().unwrap_or_default();
        std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
    }

    pub fn cpu_seconds(&self) -> f64 {
        let stat = self.read("stat");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
        (ticks(11) + ticks(12)) / TICKS
    }

    pub fn rss_mb(&self) -> f64 {
        let status = self.read("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.split_whitespace().next().and_then(|kb| kb.parse::<f64>().ok()).unwrap_or_default() / 1024.0
    }
}
