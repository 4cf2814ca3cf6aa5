//! The mediator as a process, which can be killed.
use crate::world::{PATIENT, any, free_port};
use cht_fhir_mediator::standins::{callback, cht, fhir};
use serde_json::{Value, json};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Its journal is sealed with this.
pub const KEY: &str = "b2xkIGtleSBvbGQga2V5IG9sZCBrZXkgb2xkIGtleSA=";

pub struct Process {
    pub cht: cht::Handle,
    pub fhir: fhir::Handle,
    pub emr: callback::Handle,
    pub http: reqwest::Client,
    pub folder: tempfile::TempDir,
    pub port: u16,
    pub child: Child,
    pub deaths: usize,
    /// Further settings.
    further: Vec<(String, String)>,
}

impl Process {
    pub async fn new(failpoint: &str) -> Self {
        Self::with(failpoint, &[]).await
    }

    /// With further settings (`MEDIATOR__...`).
    pub async fn with(failpoint: &str, further: &[(&str, &str)]) -> Self {
        let further: Vec<(String, String)> =
            further.iter().map(|(key, value)| (format!("MEDIATOR__{key}"), value.to_string())).collect();
        let port = free_port();
        let outbound_url = Some(format!("http://127.0.0.1:{port}/cht/push"));
        let cht = cht::start(
            any(),
            cht::Options { outbound_url, index_delay: Duration::from_millis(200), ..Default::default() },
        )
        .await
        .expect("a CHT");
        let fhir = fhir::start(any(), fhir::Options::default()).await.expect("a FHIR server");
        let emr = callback::start(any()).await.expect("an endpoint");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("key"), KEY).expect("a key");
        let child = start(port, &folder, &cht, &fhir, failpoint, &further);
        let http =
            reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().expect("a client");
        let mut it = Self { cht, fhir, emr, http, folder, port, child, deaths: 0, further };
        it.cht.add_person(
            json!({"_id": PATIENT, "type": "person", "name": "Achieng Otieno", "patient_id": "83288"}),
        );
        it.alive().await;
        it
    }

    /// Starts the mediator again if it is dead, without a failpoint, and waits until it answers.
    pub async fn alive(&mut self) {
        let until = Instant::now() + Duration::from_secs(90);
        loop {
            if self.child.try_wait().expect("a child").is_some() {
                self.deaths += 1;
                self.begin();
            }
            if self.get("/health/live").await.is_some() {
                return;
            }
            assert!(Instant::now() < until, "the mediator does not come up");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// An answer's status, and its text.
    pub async fn ask(&self, path: &str) -> (u16, String) {
        let answer = self.http.get(format!("http://127.0.0.1:{}{path}", self.port)).send().await;
        let answer = answer.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    }

    /// A figure of `/metrics`.
    pub async fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.ask("/metrics").await;
        let of = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
        text.lines().find_map(of).unwrap_or_else(|| panic!("no {name} in {text}"))
    }

    /// Memory in use, in kB: now, and at most so far.
    pub fn memory(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a process");
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.trim_end_matches("kB").trim().parse().ok()).expect("a figure")
        };
        (of("VmRSS:"), of("VmHWM:"))
    }

    /// Pages of the program's own file in memory, in kB: a debug build has many.
    pub fn program(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a process");
        let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).expect("a line");
        line.trim().trim_end_matches("kB").trim().parse().expect("a figure")
    }

    pub fn journal(&self, suffix: &str) -> std::path::PathBuf {
        self.folder.path().join(format!("journal.db{suffix}"))
    }

    /// Starts it again, without a failpoint.
    pub fn begin(&mut self) {
        self.child = start(self.port, &self.folder, &self.cht, &self.fhir, "", &self.further);
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self) -> std::process::ExitStatus {
        let until = Instant::now() + Duration::from_secs(90);
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(Instant::now() < until, "it does not end: {}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Runs a command on the same journal: exit code, standard output and error.
    pub fn cli(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = command(&self.folder, self.port, &self.cht, &self.fhir)
            .envs(self.further.clone())
            .args(arguments)
            .output()
            .expect("run");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub async fn get(&self, path: &str) -> Option<Value> {
        let answer = self.http.get(format!("http://127.0.0.1:{}{path}", self.port)).send().await.ok()?;
        answer.json().await.ok()
    }

    /// Sends until the answer is 2xx, as CHT and a careful EMR do.
    pub async fn send(&mut self, put: bool, path: &str, body: &Value) -> Value {
        for _ in 0..20 {
            let url = format!("http://127.0.0.1:{}{path}", self.port);
            let request = if put { self.http.put(url) } else { self.http.post(url) };
            if let Ok(answer) = request.json(body).send().await {
                let status = answer.status();
                let body: Value = answer.json().await.unwrap_or_default();
                assert!(status.is_success(), "{path}: {status} {body}");
                return body;
            }
            self.alive().await;
        }
        panic!("{path} was never accepted");
    }

    pub async fn until<T>(&mut self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let until = Instant::now() + Duration::from_secs(90);
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            assert!(Instant::now() < until, "never: {what}");
            self.alive().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn settled(&mut self) -> Vec<Value> {
        let until = Instant::now() + Duration::from_secs(90);
        loop {
            self.alive().await;
            let rows = self.get("/transactions?limit=10000").await.unwrap_or_default();
            let rows = rows["transactions"].as_array().cloned().unwrap_or_default();
            if !rows.is_empty()
                && rows.iter().all(|row| row["status"] != "open")
                && self.cht.push_again().await == 0
            {
                return rows;
            }
            assert!(Instant::now() < until, "still open: {rows:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn start(
    port: u16,
    folder: &tempfile::TempDir,
    cht: &cht::Handle,
    fhir: &fhir::Handle,
    failpoint: &str,
    further: &[(String, String)],
) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.path().join("log"));
    command(folder, port, cht, fhir)
        .arg("serve")
        .envs(further.iter().cloned())
        .env("MEDIATOR_FAILPOINT", failpoint)
        .envs(further.iter().cloned())
        .stderr(Stdio::from(log.expect("a log")))
        .spawn()
        .expect("a mediator")
}

/// The program with the settings of this process.
fn command(folder: &tempfile::TempDir, port: u16, cht: &cht::Handle, fhir: &fhir::Handle) -> Command {
    let login = cht::Options::default();
    // A write beyond a limit is to fail like one to a full disk, and not to be the end.
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_cht-fhir-mediator")])
        .env("MEDIATOR__SERVER__LISTEN", format!("127.0.0.1:{port}"))
        .env("MEDIATOR__JOURNAL__URL", format!("sqlite:{}", folder.path().join("journal.db").display()))
        .env("MEDIATOR__JOURNAL__KEY_FILE", folder.path().join("key"))
        .env("MEDIATOR__TRANSLATE__MAPPINGS", folder.path().join("mappings"))
        .env("MEDIATOR__CHT__URL", cht.url())
        .env("MEDIATOR__CHT__USERNAME", login.username)
        .env("MEDIATOR__CHT__PASSWORD", login.password)
        .env("MEDIATOR__FHIR__URL", fhir.url())
        .env("MEDIATOR__FHIR__POLL_SECONDS", "1")
        .env("MEDIATOR__DELIVERY__FIRST_RETRY_MS", "50")
        .env("MEDIATOR__DELIVERY__LONGEST_RETRY_MS", "500")
        .env("MEDIATOR__CALLBACKS__ALLOW_PRIVATE", "true")
        .env("MEDIATOR__CHT__INDEX_LAG_MS", "300")
        .env("MEDIATOR__LOG__FILTER", "debug");
    command
}
