//! What every journal must hold to: one suite for all of them. A further implementation adds its
//! `open` to `journals` and passes.
use super::embedded::Embedded;
use super::seal::Keys;
use crate::domain::audit::chain::Link;
use crate::domain::audit::{Act, Agent, Event, Kind as AgentKind, Outcome};
use crate::domain::follow_up::{FollowUp, Kind};
use crate::domain::identifier::Identifier;
use crate::domain::plan::{Plan, Progress, Status, StepStatus};
use crate::flow::audit::Search;
use crate::flow::ports::{
    Accepted, Action, Answer, Facts, Filter, Journal, JournalError, Mark, NewTransaction,
};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

fn open(folder: &Path, max_open: u64) -> Arc<dyn Journal> {
    let key = secrecy::SecretBox::new(Box::new([7; 32]));
    let keys = Keys::new(module_path!().ends_with("sealed").then_some(&key));
    Arc::new(Embedded::open_with(&folder.join("journal.db"), max_open, &keys).expect("a journal"))
}

fn new(id: &str, key: &str, digest: &str) -> NewTransaction {
    NewTransaction {
        id: id.into(),
        route: "/cht/push".parse().expect("a route"),
        client: "cht".into(),
        home: None,
        key: key.into(),
        digest: digest.into(),
        subjects: vec!["b".into(), "a".into()],
        received: 1_795_467_014_033,
        strict: false,
        body: br#"{"doc":{}}"#.to_vec(),
        via: None,
        again: None,
        revision: None,
        from: Some("10.0.0.7".into()),
        patients: vec![Identifier::new("urn:cht:uuid", format!("p-{key}"))],
    }
}

fn mark(id: &str, status: Status) -> Mark {
    Mark {
        id: id.into(),
        status,
        attempts: 1,
        not_before: 0,
        error: None,
        cause: None,
        mapping: Some("patient".into()),
        plan: Some(Arc::new(Plan::default())),
        progress: vec![Progress { status: StepStatus::Done, ..Progress::default() }],
        answer: Some(Answer { status: 200, body: json!({"a": 1}), location: None }),
        orchestrations: Vec::new(),
        at: 5,
        audit: Vec::new(),
    }
}

fn event(transaction: &str) -> Event {
    let act = Act::Changed { action: "rerun".into() };
    let by = Agent::new(AgentKind::User, "alice", None);
    Event { at: 9, by, act, transaction: Some(transaction.into()), patients: Vec::new() }
}

async fn accept(journal: &Arc<dyn Journal>, message: NewTransaction) -> Accepted {
    journal.accept(vec![message]).await.expect("accepted").remove(0)
}

#[tokio::test]
async fn what_is_accepted_is_there_after_a_restart_in_its_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path(), 100);
    for i in 0..5 {
        accept(&journal, new(&format!("t{i}"), &format!("k{i}"), "d")).await;
    }
    drop(journal);
    let journal = open(folder.path(), 100);
    let open: Vec<String> = journal.open().await.expect("a list").into_iter().map(|head| head.id).collect();
    assert_eq!(open, ["t0", "t1", "t2", "t3", "t4"]);
    let transaction = journal.transaction("t0").await.expect("read").expect("there");
    assert_eq!(transaction.body, br#"{"doc":{}}"#);
    assert_eq!(transaction.head.subjects, ["a", "b"]);
}

#[tokio::test]
async fn a_repeat_is_of_the_newest_with_its_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path(), 100);
    let is_new = |accepted: &Accepted| matches!(accepted, Accepted::New(_));
    assert!(is_new(&accept(&journal, new("1", "k", "A")).await));
    assert_eq!(accept(&journal, new("2", "k", "A")).await.head().id, "1");
    assert!(is_new(&accept(&journal, new("3", "k", "B")).await));
    assert!(is_new(&accept(&journal, new("4", "k", "A")).await), "A, B, A sends A again");
    journal.mark(mark("4", Status::Delivered));
    let repeat = accept(&journal, new("5", "k", "A")).await;
    assert!(matches!(&repeat, Accepted::Repeat(head) if head.id == "4" && head.status == Status::Delivered));
    journal.mark(mark("4", Status::Failed));
    assert!(is_new(&accept(&journal, new("6", "k", "A")).await), "a failed one is tried again");
    let strict = NewTransaction { strict: true, ..new("7", "k", "C") };
    assert!(matches!(accept(&journal, strict).await, Accepted::KeyReused(_)));
}

#[tokio::test]
async fn what_is_safe_is_told_in_order_even_if_nobody_waits_for_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path(), 1000);
    let told: Arc<std::sync::Mutex<Vec<i64>>> = Arc::default();
    let seen = told.clone();
    journal.on_accepted(Arc::new(move |accepted| {
        let numbers = accepted.iter().map(|one| one.head().seq);
        seen.lock().expect("a lock").extend(numbers);
    }));
    let mut tasks = Vec::new();
    for i in 0..200 {
        let journal = journal.clone();
        let task =
            tokio::spawn(async move { accept(&journal, new(&format!("t{i}"), &format!("k{i}"), "d")).await });
        match i % 2 {
            0 => tasks.push(task),
            _ => {
                tokio::task::yield_now().await;
                task.abort();
            }
        }
    }
    for task in tasks {
        let seq = task.await.expect("a task").head().seq;
        assert!(told.lock().expect("a lock").contains(&seq), "told before its sender is answered");
    }
    // What was handed over before its sender was gone may still be on its way.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let open: Vec<i64> = journal.open().await.expect("a list").into_iter().map(|head| head.seq).collect();
    assert!(open.len() >= 100);
    assert_eq!(*told.lock().expect("a lock"), open);
}

#[tokio::test]
async fn an_older_version_that_comes_late_takes_nothing_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path(), 100);
    let version = |id: &str, digest: &str, revision| NewTransaction {
        revision: Some(revision),
        ..new(id, "k", digest)
    };
    accept(&journal, version("1", "A", 2)).await;
    accept(&journal, version("2", "B", 3)).await;
    // Sent again: answered as it was.
    assert!(matches!(accept(&journal, version("3", "A", 2)).await, Accepted::Repeat(head) if head.id == "1"));
    // Come for the first time: kept, and shown as overtaken.
    let late = accept(&journal, version("4", "C", 1)).await;
    assert!(matches!(&late, Accepted::Repeat(head) if head.id == "4" && head.status == Status::Ignored));
    let kept = journal.transaction("4").await.expect("read").expect("there");
    assert!(kept.error.is_some_and(|why| why.contains("newer")) && kept.answer.is_some());
    assert_eq!(journal.open().await.expect("a list").len(), 2);
    // The late one is no yardstick: between it and the newest there may be others.
    let between = accept(&journal, version("6", "D", 2)).await;
    assert!(matches!(&between, Accepted::Repeat(head) if head.status == Status::Ignored));
    assert!(matches!(accept(&journal, version("7", "B", 3)).await, Accepted::Repeat(head) if head.id == "2"));
    assert_eq!(journal.open().await.expect("a list").len(), 2);
    // A newer one that says what an older one said is news all the same.
    assert!(matches!(accept(&journal, version("5", "A", 4)).await, Accepted::New(_)));
}

#[tokio::test]
async fn what_openhim_sends_again_is_what_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path(), 100);
    let via = |id: &str, digest: &str, via: &str, again: Option<&str>| NewTransaction {
        via: Some(via.into()),
        again: again.map(String::from),
        ..new(id, "k", digest)
    };
    accept(&journal, via("1", "A", "him-1", None)).await;
    accept(&journal, via("2", "B", "him-2", None)).await;
    for (id, status) in [("1", Status::Delivered), ("2", Status::Delivered)] {
        journal.commit(mark(id, status), Facts::default()).await.expect("written");
    }
    let rerun = accept(&journal, via("3", "A", "him-3", Some("him-1"))).await;
    assert!(matches!(rerun, Accepted::Repeat(head) if head.id == "1"), "and B stays the newest");
    // A batch is several of ours under one of OpenHIM's.
    let entry = |id: &str, key: &str, digest: &str, via: &str, again: Option<&str>| NewTransaction {
        via: Some(via.into()),
        again: again.map(String::from),
        ..new(id, key, digest)
    };
    for (i, (key, digest, via)) in
        [("b1", "one", "him-6"), ("b2", "one", "him-6"), ("b1", "two", "him-7"), ("b2", "two", "him-7")]
            .iter()
            .enumerate()
    {
        let id = format!("b{i}");
        accept(&journal, entry(&id, key, digest, via, None)).await;
        journal.commit(mark(&id, Status::Delivered), Facts::default()).await.expect("written");
    }
    for key in ["b1", "b2"] {
        let rerun =
            accept(&journal, entry(&format!("again {key}"), key, "one", "him-8", Some("him-6"))).await;
        assert!(matches!(rerun, Accepted::Repeat(_)), "{key}");
    }
    // A rerun of the rerun, and CHT's own A again.
    assert!(matches!(accept(&journal, via("4", "A", "him-4", Some("him-3"))).await, Accepted::Repeat(_)));
    assert!(matches!(accept(&journal, via("5", "A", "him-5", None)).await, Accepted::New(_)));
}

#[tokio::test]
async fn a_poll_that_finds_what_failed_again_is_a_repeat() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path(), 100);
    let poll = |id: &str, digest: &str| NewTransaction {
        route: "poll/fhir".parse().expect("a route"),
        ..new(id, "k", digest)
    };
    accept(&journal, poll("1", "A")).await;
    journal.mark(mark("1", Status::Failed));
    assert!(matches!(accept(&journal, poll("2", "A")).await, Accepted::Repeat(head) if head.id == "1"));
    assert!(matches!(accept(&journal, poll("3", "B")).await, Accepted::New(_)));
}

#[tokio::test]
async fn what_a_newer_one_has_overtaken_is_not_rerun() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path(), 100);
    for (id, digest, status) in [("1", "A", Status::Failed), ("2", "B", Status::Delivered)] {
        accept(&journal, new(id, "k", digest)).await;
        journal.commit(mark(id, status), Facts::default()).await.expect("written");
    }
    let refused = journal.change("1", Action::Rerun, event("1")).await.expect("written");
    assert!(refused.err().is_some_and(|why| why.contains("newer")));
    let cancelled = journal.change("1", Action::Cancel, event("1")).await.expect("written");
    assert_eq!(cancelled.map(|head| head.status), Ok(Status::Cancelled));
}

#[tokio::test]
async fn openhim_is_told_once_of_what_ended_after_its_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path(), 100);
    let via = |id: &str, via: &str, received: i64| NewTransaction {
        via: Some(via.into()),
        received,
        ..new(id, "k", "A")
    };
    accept(&journal, via("1", "him-1", 10)).await;
    // A repeat that came by another of its transactions.
    assert_eq!(accept(&journal, via("2", "him-2", 20)).await.head().id, "1");
    let untold = async |before| journal.untold(before, 10).await.expect("read");
    assert!(untold(i64::MAX).await.is_empty(), "it is open");
    journal.commit(mark("1", Status::Delivered), Facts::default()).await.expect("written");
    assert!(untold(5).await.is_empty(), "somebody still waits for the answer");
    assert_eq!(untold(15).await, [("him-1".to_string(), "1".to_string())], "its caller has gone");
    journal.tell_later("him-2");
    journal.told("him-1");
    journal.set_watermark("any", "write").await.expect("written");
    assert_eq!(untold(5).await, [("him-2".to_string(), "1".to_string())]);
    journal.told("him-2");
    journal.set_watermark("any", "write").await.expect("written");
    assert!(untold(i64::MAX).await.is_empty());
    assert_eq!(journal.client_via("him-1").await.expect("read").as_deref(), Some("cht"));
    assert!(journal.transaction("1").await.expect("read").expect("there").through_openhim);
}

#[tokio::test]
async fn a_list_tells_who_waits_for_whom() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path(), 100);
    for (id, subject) in [("1", "a"), ("2", "x"), ("3", "a")] {
        let message = NewTransaction { subjects: vec![subject.into()], ..new(id, id, "d") };
        accept(&journal, message).await;
    }
    let rows = journal.list(Filter::default()).await.expect("a list");
    let waits: Vec<Option<&str>> = rows.iter().map(|row| row.waits_for.as_deref()).collect();
    assert_eq!(waits, [None, None, Some("1")]);
}

#[tokio::test]
async fn many_at_once_are_each_accepted_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path(), 10_000);
    let tasks: Vec<_> = (0..400)
        .map(|i| {
            let journal = journal.clone();
            tokio::spawn(
                async move { accept(&journal, new(&format!("t{i}"), &format!("k{}", i / 2), "d")).await },
            )
        })
        .collect();
    let mut fresh = 0;
    for task in tasks {
        fresh += usize::from(matches!(task.await.expect("a task"), Accepted::New(_)));
    }
    assert_eq!((fresh, journal.open().await.expect("a list").len()), (200, 200));
}

#[tokio::test]
async fn a_mark_is_read_by_the_next_write_and_soon_by_everybody() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path(), 100);
    accept(&journal, new("1", "k", "A")).await;
    journal.mark(mark("1", Status::Delivered));
    assert!(
        matches!(accept(&journal, new("2", "k", "A")).await, Accepted::Repeat(h) if h.status == Status::Delivered)
    );
    let read = journal.transaction("1").await.expect("read").expect("there");
    assert_eq!(read.answer.expect("an answer").body, json!({"a": 1}));
    assert_eq!(read.progress[0].status, StepStatus::Done);
    assert_eq!(journal.counts().await.expect("counts")["delivered"], 1);
}

#[tokio::test]
async fn marks_handed_over_before_closing_are_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path(), 100);
    accept(&journal, new("1", "k", "A")).await;
    journal.mark(mark("1", Status::Delivered));
    drop(journal);
    let journal = open(folder.path(), 100);
    assert!(journal.open().await.expect("a list").is_empty());
}

#[tokio::test]
async fn an_identifier_is_one_persons() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path(), 100);
    accept(&journal, new("1", "k", "A")).await;
    let link = |value: &str, person: &str| (Identifier::new("s", value), person.to_string());
    let facts = |links| Facts { links, ..Facts::default() };
    let first = journal.commit(mark("1", Status::Open), facts(vec![link("1", "p"), link("2", "p")])).await;
    assert!(first.is_ok());
    let second =
        journal.commit(mark("1", Status::Delivered), facts(vec![link("3", "q"), link("2", "q")])).await;
    assert!(matches!(second, Err(JournalError::Conflict(system)) if system == "s"));
    assert_eq!(journal.person(&Identifier::new("s", "2")).await.expect("read").as_deref(), Some("p"));
    assert_eq!(journal.person(&Identifier::new("s", "3")).await.expect("read"), None, "all or nothing");
    assert_eq!(journal.transaction("1").await.expect("read").expect("there").head.status, Status::Open);
    assert_eq!(journal.identifiers("p").await.expect("read").len(), 2);
    // Known people are subjects too, so that two names of one person keep their order.
    let by_value = NewTransaction { subjects: vec!["2".into()], ..new("9", "k9", "A") };
    assert_eq!(accept(&journal, by_value).await.head().subjects, ["2", "p"]);
}

#[tokio::test]
async fn requests_are_found_by_person_by_name_and_by_record() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path(), 100);
    accept(&journal, new("1", "k", "A")).await;
    let identifier = Identifier::new("s", "SR-1");
    let follow_up = FollowUp {
        resource: json!({"resourceType": "ServiceRequest"}),
        form: "LTFU_REQUEST".into(),
        record: Some("uuid".into()),
        ..FollowUp::new(Kind::FollowUp, identifier.clone(), "p", "emr")
    };
    let facts = Facts {
        follow_ups: vec![follow_up],
        directory: vec![("x".into(), json!({"a": 1}))],
        ..Facts::default()
    };
    journal.commit(mark("1", Status::Open), facts).await.expect("written");
    assert!(journal.follow_up(Kind::FollowUp, &identifier).await.expect("read").is_some());
    assert!(journal.follow_up(Kind::Referral, &identifier).await.expect("read").is_none());
    assert_eq!(journal.follow_ups_of("p").await.expect("read").len(), 1);
    for name in ["SR-1", "uuid"] {
        assert_eq!(journal.follow_ups_named(name).await.expect("read").len(), 1);
    }
    assert_eq!(journal.directory("x").await.expect("read"), Some(json!({"a": 1})));
}

#[tokio::test]
async fn a_full_journal_accepts_nothing_until_there_is_room() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path(), 2);
    accept(&journal, new("1", "1", "d")).await;
    accept(&journal, new("2", "2", "d")).await;
    assert!(matches!(journal.accept(vec![new("3", "3", "d")]).await, Err(JournalError::Full(2))));
    journal.mark(mark("1", Status::Delivered));
    accept(&journal, new("3", "3", "d")).await;
}

#[tokio::test]
async fn rerun_and_cancel_change_what_they_may_and_say_why_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path(), 100);
    for (id, status) in
        [("f", Status::Failed), ("d", Status::Delivered), ("o", Status::Open), ("i", Status::Ignored)]
    {
        accept(&journal, new(id, id, "d")).await;
        journal.commit(mark(id, status), Facts::default()).await.expect("written");
    }
    let change = |id: &'static str, action| {
        let journal = journal.clone();
        async move { journal.change(id, action, event(id)).await.expect("written").map(|head| head.status) }
    };
    assert_eq!(change("f", Action::Rerun).await, Ok(Status::Open));
    let again = journal.transaction("f").await.expect("read").expect("there");
    assert_eq!((again.reruns, again.plan.is_none()), (1, true), "planned anew");
    assert_eq!(change("i", Action::Rerun).await, Ok(Status::Open));
    assert!(change("d", Action::Rerun).await.is_err());
    assert!(change("d", Action::RerunAsPlanned).await.is_err());
    assert!(change("d", Action::Cancel).await.is_err());
    assert_eq!(change("o", Action::Cancel).await, Ok(Status::Cancelled));
    journal.commit(mark("o", Status::Delivered), Facts::default()).await.expect("written");
    let cancelled = journal.transaction("o").await.expect("read").expect("there");
    assert_eq!(cancelled.head.status, Status::Cancelled, "a late worker does not undo it");
    assert!(change("nobody", Action::Rerun).await.is_err());
}

#[tokio::test]
async fn rerun_as_planned_keeps_the_plan_and_what_is_done_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path(), 100);
    accept(&journal, new("p", "p", "d")).await;
    accept(&journal, new("n", "n", "e")).await;
    let step = |status| Progress {
        status,
        attempts: 3,
        not_before: 9,
        error: Some("no".into()),
        ..Progress::default()
    };
    let planned = Mark {
        plan: Some(Arc::new(Plan::default())),
        progress: vec![step(StepStatus::Done), step(StepStatus::Failed)],
        ..mark("p", Status::Failed)
    };
    journal.commit(planned, Facts::default()).await.expect("written");
    journal
        .commit(Mark { plan: None, ..mark("n", Status::Failed) }, Facts::default())
        .await
        .expect("written");
    let changed = journal.change("p", Action::RerunAsPlanned, event("p")).await.expect("written");
    assert_eq!(changed.map(|head| head.status), Ok(Status::Open));
    let again = journal.transaction("p").await.expect("read").expect("there");
    assert!(again.plan.is_some());
    let steps: Vec<_> = again.progress.iter().map(|step| (step.status, step.error.is_some())).collect();
    assert_eq!(steps, [(StepStatus::Done, true), (StepStatus::Open, false)]);
    let refused = journal.change("n", Action::RerunAsPlanned, event("n")).await.expect("written");
    assert!(refused.err().is_some_and(|why| why.contains("before anything was planned")));
}

#[tokio::test]
async fn commands_reach_whoever_runs_on_the_same_journal() {
    let folder = tempfile::tempdir().expect("a folder");
    let (serve, shell) = (open(folder.path(), 100), open(folder.path(), 100));
    accept(&serve, new("1", "k", "A")).await;
    assert_eq!(shell.list(Filter::default()).await.expect("a list").len(), 1);
    let number = shell.request(Action::Cancel, "1", "alice").await.expect("left");
    let commands = serve.commands().await.expect("read");
    assert_eq!((commands.len(), commands[0].action), (1, Action::Cancel));
    assert_eq!(commands[0].by, "alice");
    assert_eq!(shell.command_outcome(number).await.expect("read"), None);
    serve.command_done(number, "done").await.expect("written");
    assert_eq!(shell.command_outcome(number).await.expect("read").as_deref(), Some("done"));
    assert!(serve.commands().await.expect("read").is_empty());
}

#[tokio::test]
async fn only_what_is_finished_and_old_goes() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path(), 100);
    for (id, status) in [("f", Status::Failed), ("d", Status::Delivered), ("o", Status::Open)] {
        accept(&journal, new(id, id, "d")).await;
        journal.commit(mark(id, status), Facts::default()).await.expect("written");
    }
    assert_eq!(journal.retain(5, 99).await.expect("done"), 0);
    assert_eq!(journal.retain(6, 99).await.expect("done"), 1);
    let last = trail(&journal, Search::default()).await.pop().expect("a record");
    assert_eq!(last.record.event.act, Act::Removed { transactions: 1, before: 6, only_bodies: false });
    let before = last.record.seq;
    assert_eq!(journal.retain(6, 99).await.expect("done"), 0);
    let head = journal.head().await.expect("a head").map(|(seq, _)| seq);
    assert_eq!(head, Some(before), "nothing is said of nothing");
    let left: Vec<String> =
        journal.list(Filter::default()).await.expect("a list").into_iter().map(|r| r.id).collect();
    assert_eq!(left, ["f", "o"]);
}

#[tokio::test]
async fn a_watermark_is_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path(), 100);
    assert_eq!(journal.watermark("fhir Task").await.expect("read"), None);
    journal.set_watermark("fhir Task", "2026").await.expect("written");
    assert_eq!(journal.watermark("fhir Task").await.expect("read").as_deref(), Some("2026"));
}

/// Who waits for nothing is not made to wait: marks share the next message's fsync.
#[tokio::test]
async fn marks_do_not_force_a_write_of_their_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path(), 100);
    accept(&journal, new("1", "k", "A")).await;
    journal.mark(mark("1", Status::Delivered));
    let open = async || journal.open().await.expect("a list").len();
    assert_eq!(open().await, 1, "not written yet");
    let read = journal.transaction("1").await.expect("read").expect("there");
    assert_eq!(read.head.status, Status::Delivered, "and yet whoever reads it knows");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(open().await, 0);
}

async fn trail(journal: &Arc<dyn Journal>, search: Search) -> Vec<Link> {
    journal.records(Search { limit: 1000, ..search }).await.expect("records")
}

#[tokio::test]
async fn what_is_accepted_is_in_the_trail_and_what_is_not_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path(), 100);
    let poll =
        |id: &str| NewTransaction { route: "poll/fhir".parse().expect("a route"), ..new(id, "p", "A") };
    accept(&journal, NewTransaction { via: Some("him-1".into()), ..new("1", "k", "A") }).await;
    accept(&journal, new("2", "k", "A")).await;
    accept(&journal, NewTransaction { strict: true, ..new("3", "k", "B") }).await;
    accept(&journal, poll("4")).await;
    accept(&journal, poll("5")).await;
    let found = trail(&journal, Search::default()).await;
    let told: Vec<(Option<&str>, bool)> = found
        .iter()
        .map(|link| match &link.record.event {
            Event { act: Act::Accepted { repeat, .. }, transaction, .. } => (transaction.as_deref(), *repeat),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, [(Some("1"), false), (Some("1"), true), (Some("4"), false)]);
    let first = &found[0].record;
    assert_eq!(
        (first.seq, first.event.at, first.event.by.from.as_deref()),
        (1, 1_795_467_014_033, Some("10.0.0.7"))
    );
    assert!(
        first.event.is_about("urn:cht:uuid|p-k")
            && first.event.is_about("him-1")
            && !found[2].record.event.is_about("1")
    );
}

#[tokio::test]
async fn a_change_of_state_and_its_record_are_one_write() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path(), 100);
    accept(&journal, new("1", "k", "A")).await;
    let told = Event {
        act: Act::Delivered {
            to: "fhir".into(),
            outcome: Outcome::Done,
            attempts: 1,
            ends: Some(Status::Delivered),
        },
        by: Agent::mediator(),
        ..event("1")
    };
    let with = |mark: Mark| Mark { audit: vec![told.clone()], ..mark };
    journal.mark(with(mark("1", Status::Open)));
    journal.commit(with(mark("1", Status::Failed)), Facts::default()).await.expect("written");
    let conflict = Facts {
        links: vec![(Identifier::new("s", "1"), "p".into()), (Identifier::new("s", "1"), "q".into())],
        ..Facts::default()
    };
    journal
        .commit(mark("1", Status::Failed), Facts { links: conflict.links[..1].to_vec(), ..Facts::default() })
        .await
        .expect("written");
    let refused = journal.commit(
        with(mark("1", Status::Failed)),
        Facts { links: conflict.links[1..].to_vec(), ..Facts::default() },
    );
    assert!(matches!(refused.await, Err(JournalError::Conflict(_))));
    journal.change("1", Action::Rerun, event("1")).await.expect("written").expect("reruns");
    assert!(journal.change("nobody", Action::Rerun, event("nobody")).await.expect("written").is_err());
    let found = trail(&journal, Search { after: 1, ..Search::default() }).await;
    let acts: Vec<&Event> = found.iter().map(|link| &link.record.event).collect();
    assert_eq!(acts, [&told, &told, &event("1")], "and nothing of what was refused");
}

#[tokio::test]
async fn the_trail_is_found_by_who_what_when_and_how_it_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path(), 100);
    for (at, name, act) in [
        (10, "alice", Act::Changed { action: "rerun".into() }),
        (20, "bob", Act::Read { what: "transaction".into() }),
        (
            30,
            "alice",
            Act::Refused { request: "GET /transactions".into(), status: 403, code: "forbidden".into() },
        ),
    ] {
        let by = Agent::new(AgentKind::User, name, None);
        let patients = vec![Identifier::new("s|t", format!("p|{at}"))];
        journal.record(Event { at, by, act, patients, ..event(&format!("t{at}")) }).await.expect("written");
    }
    let search = Search::default;
    for (search, expected) in [
        (search(), vec![1, 2, 3]),
        (Search { newest_first: true, ..search() }, vec![3, 2, 1]),
        (Search { after: 1, before: Some(3), ..search() }, vec![2]),
        (Search { from: Some(20), until: Some(30), ..search() }, vec![2]),
        (Search { agent: Some("alice".into()), ..search() }, vec![1, 3]),
        (Search { agent: Some("ali".into()), ..search() }, vec![]),
        (Search { about: vec!["t20".into(), "t30".into()], ..search() }, vec![2, 3]),
        (Search { about: vec![Identifier::new("s|t", "p|30").token()], ..search() }, vec![3]),
        (Search { about: vec![Identifier::new("s", "p|30").token()], ..search() }, vec![]),
        (Search { action: Some("R".into()), ..search() }, vec![2, 3]),
        (Search { outcome: Some("4".into()), ..search() }, vec![3]),
    ] {
        let found: Vec<u64> =
            trail(&journal, search.clone()).await.iter().map(|link| link.record.seq).collect();
        assert_eq!(found, expected, "{search:?}");
    }
    assert_eq!(journal.records(Search { limit: 2, ..search() }).await.expect("records").len(), 2);
}

#[tokio::test]
async fn whoever_writes_to_the_trail_writes_one_chain() {
    let folder = tempfile::tempdir().expect("a folder");
    let (serve, shell) = (open(folder.path(), 100), open(folder.path(), 100));
    for i in 0..20 {
        let journal = if i % 2 == 0 { &serve } else { &shell };
        journal.record(event(&format!("t{i}"))).await.expect("written");
    }
    let found = trail(&serve, Search::default()).await;
    assert_eq!(found.len(), 20);
    assert!(
        found
            .windows(2)
            .all(|two| two[1].previous == two[0].hash && two[1].record.seq == two[0].record.seq + 1)
    );
    assert_eq!(serve.head().await.expect("read"), Some((20, found[19].hash)));
}

#[tokio::test]
async fn the_trail_is_cut_from_its_old_end_only_and_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path(), 100);
    assert_eq!(journal.cut(100, 100).await.expect("cut"), 0);
    // The fourth is old, but it came after one that is not: a clock jumped back.
    for at in [10, 20, 30, 5] {
        journal.record(Event { at, ..event("t") }).await.expect("written");
    }
    let last = trail(&journal, Search::default()).await[1].hash;
    assert_eq!(journal.cut(30, 99).await.expect("cut"), 2);
    assert_eq!(journal.cut(30, 99).await.expect("cut"), 0);
    let left = trail(&journal, Search::default()).await;
    let acts: Vec<(u64, i64)> = left.iter().map(|link| (link.record.seq, link.record.event.at)).collect();
    assert_eq!(acts, [(3, 30), (4, 5), (5, 99)]);
    assert_eq!(left[0].previous, last, "the oldest that is left still says what was before it");
    assert_eq!(left[2].record.event.act, Act::Cut { through: 2, hash: last.to_string() });
}

#[tokio::test]
async fn what_was_said_goes_before_the_fact_that_it_came() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path(), 100);
    for (id, status) in
        [("f", Status::Failed), ("d", Status::Delivered), ("i", Status::Ignored), ("o", Status::Open)]
    {
        accept(&journal, new(id, id, "d")).await;
        journal.commit(mark(id, status), Facts::default()).await.expect("written");
    }
    let gone = [journal.forget(5, 99).await, journal.forget(6, 99).await, journal.forget(6, 99).await];
    assert_eq!(gone.map(|n| n.expect("done")), [0, 2, 0]);
    for (id, is_gone) in [("f", false), ("d", true), ("i", true), ("o", false)] {
        let left = journal.transaction(id).await.expect("read").expect("there");
        assert_eq!(
            (left.body.is_empty(), left.plan.is_none(), left.head.subjects.is_empty()),
            (is_gone, is_gone, is_gone)
        );
        assert_eq!((left.mapping.as_deref(), left.attempts), (Some("patient"), 1), "{id}");
    }
    let repeat = accept(&journal, new("again", "d", "d")).await;
    assert_eq!(repeat.head().id, "d", "it is known all the same");
    let answer = journal.transaction("d").await.expect("read").expect("there").answer.expect("an answer");
    assert_eq!((answer.status, answer.body), (200, json!({"transaction": "d", "status": "delivered"})));
    for action in [Action::Rerun, Action::RerunAsPlanned] {
        let refused = journal.change("i", action, event("i")).await.expect("written");
        assert!(refused.is_err_and(|why| why.contains("keep_bodies_days")));
    }
    assert_eq!(journal.retain(6, 99).await.expect("done"), 2);
}
