//! The journal copied while it is in use, put back after a kill -9, and sealed under another key.
use crate::process::{KEY, Process};
use crate::world::{fixture, ltfu};
use cht_fhir_mediator::flow::ports::{Filter, Journal, NewTransaction};
use cht_fhir_mediator::journal::embedded::Embedded;
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

const NEW_KEY: &str = "bmV3IGtleSBuZXcga2V5IG5ldyBrZXkgbmV3IGtleSA=";
const PEOPLE: usize = 200;

fn person(n: usize) -> Value {
    json!({"doc": {"_id": format!("a54a8e4f-c505-4ed9-a6f2-eb7bdad2{n:04}"), "type": "person", "name": "Test Person",
        "patient_id": format!("9{n:04}")}})
}

impl Process {
    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// All that senders have, in their order.
    async fn send_all(&mut self) {
        for n in 0..PEOPLE {
            self.send(false, "/cht/push", &person(n)).await;
        }
        self.send(false, "/cht/push", &fixture("full-report-20")["body"]).await;
        self.send(false, "/fhir/ServiceRequest", &ltfu("SR-1")).await;
    }

    async fn has_each_once(&mut self, what: &str) {
        let rows = self.settled().await;
        assert!(rows.iter().all(|row| row["status"] != "failed"), "{what}: {rows:?}");
        assert_eq!(self.fhir.resources("Patient").len(), PEOPLE + 2, "{what}");
        assert_eq!(self.fhir.resources("Encounter").len(), 1, "{what}");
        let doubled: Vec<_> = self.fhir.ledger().into_iter().filter(|(_, n)| *n != 1).collect();
        assert!(doubled.is_empty(), "{what}: {doubled:?}");
        let asked = self.cht.reports().iter().filter(|report| report["form"] == "LTFU_REQUEST").count();
        assert_eq!(asked, 1, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_is_put_back_to_no_second_effect() {
    let mut it = Process::new("").await;
    it.cht.add_person(fixture("full-report-20")["body"]["doc"]["patient"].clone());
    let (http, url) = (it.http.clone(), format!("http://127.0.0.1:{}/cht/push", it.port));
    let load = tokio::spawn(async move {
        for n in 0..PEOPLE {
            let answer = http.post(&url).json(&person(n)).send().await.expect("an answer");
            assert!(answer.status().is_success());
        }
    });
    it.until("half of the people", |it| (it.fhir.resources("Patient").len() > PEOPLE / 2).then_some(()))
        .await;
    let file = it.file("backup.db");
    let (code, out, error) = it.cli(&["journal", "backup", &file]);
    assert_eq!(code, 0, "{error}");
    assert!(!load.is_finished(), "it was taken under load");
    assert!(out.contains("delivered") && out.contains("sealed with the key"), "{out}");
    let (code, _, error) = it.cli(&["journal", "backup", &file]);
    assert_eq!((code, error.contains("nothing is overwritten")), (1, true), "{error}");
    let (code, _, error) = it.cli(&["journal", "restore", &file]);
    assert_eq!((code, error.contains("another mediator works")), (1, true), "{error}");
    load.await.expect("sent");
    it.send_all().await;
    it.has_each_once("before").await;

    it.kill();
    let (code, out, error) = it.cli(&["journal", "restore", &file]);
    assert_eq!((code, out.contains("the journal that was there is")), (0, true), "{error}");
    let (_, list, _) = it.cli(&["transactions", "list"]);
    assert!(list.lines().count() < PEOPLE, "what came after the backup is not in it");
    it.send_all().await;
    it.has_each_once("after").await;
    assert_eq!(it.deaths, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_backup_and_one_of_another_key_are_not_put_back() {
    let mut it = Process::new("").await;
    it.send(false, "/cht/push", &person(1)).await;
    it.settled().await;
    let file = it.file("backup.db");
    assert_eq!(it.cli(&["journal", "backup", &file]).0, 0);
    it.kill();
    let journal = std::fs::read(it.file("journal.db")).expect("the journal");
    let bytes = std::fs::read(&file).expect("the backup");
    let refused = |it: &Process, words: &str| {
        let (code, _, error) = it.cli(&["journal", "restore", &file]);
        assert_eq!((code, error.contains(words)), (1, true), "{error}");
        assert!(
            std::fs::read(it.file("journal.db")).expect("the journal") == journal,
            "{words}: nothing was touched"
        );
    };
    std::fs::write(&file, &bytes[..bytes.len() - 3000]).expect("cut");
    refused(&it, "backup.db");
    std::fs::write(&file, "no database at all").expect("written");
    refused(&it, "backup.db");
    std::fs::write(&file, &bytes).expect("whole again");
    std::fs::write(it.file("key"), NEW_KEY).expect("another key");
    refused(&it, "sealed with the key");
    let (code, _, error) = it.cli(&["serve"]);
    assert_eq!(
        (code, error.contains("cannot start") && error.contains("sealed with the key")),
        (1, true),
        "{error}"
    );
    std::fs::write(it.file("key"), KEY).expect("the key");
    assert_eq!(it.cli(&["journal", "restore", &file]).0, 0);
    it.alive().await;
}

/// Runs on a journal that nobody works on.
fn on(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cht-fhir-mediator"));
    command
        .args(arguments)
        .env("MEDIATOR__JOURNAL__URL", format!("sqlite:{}", folder.join("journal.db").display()))
        .env("MEDIATOR__JOURNAL__KEY_FILE", folder.join("key"));
    command
}

fn text(output: Output) -> (i32, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rekey_that_is_killed_loses_nothing_and_is_run_again() {
    const MESSAGES: usize = 20_000;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal.db");
    let journal = Embedded::open(&path, u64::MAX >> 1).expect("a journal");
    for some in (0..MESSAGES).collect::<Vec<_>>().chunks(1000) {
        let messages = some.iter().map(|n| message(*n)).collect();
        journal.accept(messages).await.expect("accepted");
    }
    drop(journal);
    std::fs::write(folder.path().join("key"), format!("{NEW_KEY}\n{KEY}\n")).expect("keys");
    let mut killed = 0;
    for moment in [5, 20, 60, 120, 200] {
        let rekey =
            on(folder.path(), &["journal", "rekey"]).stderr(Stdio::null()).stdout(Stdio::null()).spawn();
        let mut rekey = rekey.expect("started");
        tokio::time::sleep(Duration::from_millis(moment)).await;
        let _ = rekey.kill();
        killed += usize::from(!rekey.wait().expect("ended").success());
        let (code, list, error) = text(on(folder.path(), &["transactions", "list"]).output().expect("run"));
        assert_eq!((code, list.lines().count()), (0, MESSAGES), "{error}");
    }
    assert!(killed >= 2, "{killed} were killed on the way");
    let (code, out, error) = text(on(folder.path(), &["journal", "rekey"]).output().expect("run"));
    assert_eq!((code, out.contains("sealed with")), (0, true), "{error}");
    std::fs::write(folder.path().join("key"), KEY).expect("the old key only");
    let (_, list, error) = text(on(folder.path(), &["transactions", "list"]).output().expect("run"));
    assert!(error.contains("sealed with the key") && list.lines().count() == MESSAGES, "{error}");
    let (code, made, told) = text(on(folder.path(), &["journal", "new-key"]).output().expect("run"));
    assert_eq!((code, made.trim().len(), told.contains("its id is")), (0, 44, true), "{told}");
    let journal = Embedded::open(&path, 1).expect("a journal");
    assert_eq!(journal.list(Filter::default()).await.expect("a list").len(), MESSAGES);
}

fn message(n: usize) -> NewTransaction {
    NewTransaction {
        id: format!("0193f000-0000-7000-8000-{n:012}"),
        route: "/cht/push".parse().expect("a route"),
        client: "cht".into(),
        home: None,
        key: format!("k{n}"),
        digest: "d".into(),
        subjects: vec![format!("s{n}")],
        received: 1,
        strict: false,
        body: person(n).to_string().into_bytes(),
        via: None,
        again: None,
        revision: None,
        from: None,
        patients: Vec::new(),
    }
}
