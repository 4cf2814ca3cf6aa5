//! The disk fails: full, not to be written at all, slow, and damaged while nobody looked. What was
//! acknowledged is there afterwards; what could not be kept was refused.
use crate::process::Process;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

const PAGE: u64 = 4096;

fn person(n: usize) -> Value {
    json!({"doc": {"_id": format!("a54a8e4f-c505-4ed9-a6f2-{n:012}"), "type": "person", "name": "Test Person",
        "patient_id": format!("9{n:04}")}})
}

impl Process {
    /// How long a file may be that it writes; none: as long as it likes. Beyond it a write fails as on a
    /// full disk; with 0 every write fails, as on a disk that went read-only.
    fn limit(&self, length: Option<u64>) {
        let pid = Pid::from_raw(self.child.id() as i32);
        let limits = prlimit(pid, Resource::Fsize, Rlimit { current: length, maximum: None });
        limits.expect("the limit of a process of ours");
    }

    fn length(&self) -> u64 {
        let of = |suffix| std::fs::metadata(self.journal(suffix)).map_or(0, |file| file.len());
        of("").max(of("-wal"))
    }

    async fn push(&self, n: usize) -> u16 {
        let sent = self.http.post(format!("http://127.0.0.1:{}/cht/push", self.port)).json(&person(n)).send();
        let answer = sent.await.expect("an answer");
        let status = answer.status().as_u16();
        assert!(status != 503 || answer.headers().contains_key("retry-after"));
        status
    }

    /// Until it says that it is ready, though nobody sends anything.
    async fn ready_again(&self) {
        let until = Instant::now() + Duration::from_secs(15);
        while self.ask("/health/ready").await.0 != 200 {
            assert!(Instant::now() < until, "never ready: {}", self.ask("/health/ready").await.1);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Everybody is there, and nobody twice.
    async fn has(&mut self, people: &BTreeSet<usize>) {
        let rows = self.settled().await;
        assert!(rows.iter().all(|row| row["status"] == "delivered"), "{rows:?}");
        let patients = self.fhir.resources("Patient");
        let there: BTreeSet<String> =
            patients.iter().map(|patient| patient["identifier"].to_string()).collect();
        assert_eq!((patients.len(), there.len()), (people.len(), people.len()));
        for n in people {
            let uuid = person(*n)["doc"]["_id"].to_string();
            assert!(there.iter().any(|identifiers| identifiers.contains(&uuid)), "lost: {n}");
        }
        assert!(self.fhir.ledger().values().all(|n| *n == 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_takes_nothing_is_said_refused_and_recovered_from_by_itself() {
    let mut it = Process::new("").await;
    let mut kept = BTreeSet::new();
    let mut next = 0..;
    for (room, killed) in [(Some(15 * PAGE), false), (None, false), (None, true)] {
        assert_eq!(it.push(next.start).await, 200);
        kept.extend(next.next());
        it.settled().await;
        it.limit(Some(room.map_or(0, |room| it.length() + room)));
        // It takes what there is room for.
        let refused = loop {
            let n = next.next().expect("a number");
            match it.push(n).await {
                503 => break n,
                status => assert!(matches!(status, 200 | 202) && kept.insert(n), "{status}"),
            }
            assert!(n < 100, "never full");
        };
        let (status, words) = it.ask("/health/ready").await;
        assert!(status == 503 && words.contains("look at the disk"), "{status} {words}");
        assert_eq!(it.metric("journal_writable").await, 0.0);
        match killed {
            true => it.kill(),
            false => it.limit(None),
        }
        it.alive().await;
        it.ready_again().await;
        assert_eq!(it.metric("journal_writable").await, 1.0);
        assert_eq!(it.push(refused).await, 200);
        kept.insert(refused);
        it.has(&kept).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_end_of_the_journal_loses_nothing_that_was_acknowledged() {
    let mut it = Process::with("", &[("SERVER__ANSWER_WITHIN_MS", "50")]).await;
    let mut kept = BTreeSet::new();
    for round in 0..3_usize {
        it.fhir.faults().set_down(true);
        for n in round * 10..round * 10 + 10 {
            assert!(matches!(it.push(n).await, 200 | 202));
            kept.insert(n);
        }
        it.kill();
        // The power failed in the middle of a next write: half a frame, a frame of rubbish, many of them.
        let wal = std::fs::read(it.journal("-wal")).expect("what was acknowledged is there");
        assert!(wal.len() > 10_000, "{}", wal.len());
        let torn: Vec<u8> = match round {
            0 => wal[wal.len() - 4120..wal.len() - 2000].to_vec(),
            1 => vec![0xA5; 4120],
            _ => vec![0; 50 * 4120],
        };
        let file = OpenOptions::new().append(true).open(it.journal("-wal"));
        file.and_then(|mut file| file.write_all(&torn)).expect("torn");
        it.fhir.faults().set_down(false);
        it.alive().await;
        it.has(&kept).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_journal_is_not_worked_on_and_a_backup_is() {
    let mut it = Process::new("").await;
    let mut kept = BTreeSet::new();
    for n in 0..20 {
        assert_eq!(it.push(n).await, 200);
        kept.insert(n);
    }
    it.settled().await;
    let _ = std::process::Command::new("kill").arg(it.child.id().to_string()).status();
    assert!(it.ended().await.success());
    // All of it in one file.
    let journal = rusqlite::Connection::open(it.journal("")).expect("the journal");
    journal.pragma_update(None, "wal_checkpoint", "TRUNCATE").expect("written back");
    drop(journal);
    let backup = std::fs::read(it.journal("")).expect("the journal");
    let pages = backup.len() as u64 / PAGE;
    for page in [0, 1, pages / 2, pages - 1] {
        std::fs::write(it.journal(""), &backup).expect("restored");
        let file = OpenOptions::new().write(true).open(it.journal("")).expect("the journal");
        file.write_all_at(&[0xA5; PAGE as usize], page * PAGE).expect("damaged");
        let said = it.log().len();
        it.begin();
        assert!(!it.ended().await.success());
        let log = it.log();
        assert!(log[said..].contains("restore the journal from a backup"), "page {page}: {}", &log[said..]);
    }
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(it.journal(suffix));
    }
    std::fs::write(it.journal(""), &backup).expect("restored");
    it.begin();
    it.alive().await;
    assert_eq!(it.push(20).await, 200);
    kept.insert(20);
    it.has(&kept).await;
}

/// 40 senders at once, five messages each: how long until all are safe, and in how many commits.
#[cfg(feature = "failpoints")]
async fn flood(failpoint: &str) -> (Duration, f64) {
    let mut it = Process::with(failpoint, &[("SERVER__ANSWER_WITHIN_MS", "1")]).await;
    let started = Instant::now();
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..40 {
        let (http, url) = (it.http.clone(), format!("http://127.0.0.1:{}/cht/push", it.port));
        senders.spawn(async move {
            for n in 0..5 {
                let answer = http.post(&url).json(&person(sender * 5 + n)).send().await.expect("an answer");
                assert!(answer.status().is_success());
            }
        });
    }
    while let Some(sent) = senders.join_next().await {
        sent.expect("sent");
    }
    let took = started.elapsed();
    it.has(&(0..200).collect()).await;
    (took, it.metric("journal_group_size_count").await)
}

#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_disk_costs_each_group_of_messages_its_slowness_and_not_each_message() {
    let (quick, _) = flood("").await;
    let (slow, commits) = flood("journal-before-commit:4ms").await;
    println!(
        "200 messages took {quick:?}; with 4 ms more a commit {slow:?}, in {commits} commits of 600 writes"
    );
    // A message is written when it comes, planned, and marked: one by one these were 600 commits, 2.4 s.
    assert!(commits < 300.0, "{commits} commits");
    // As much as all commits took, and what a busy machine adds.
    let added = Duration::from_secs_f64(commits * 0.004) + Duration::from_secs(3);
    assert!(slow < quick * 2 + added, "{quick:?} {slow:?}");
}
