//! What a thief of the file finds, and what becomes of a file that other hands have changed.
use super::*;
use crate::domain::identifier::Identifier;
use crate::domain::plan::{PartNote, Plan, Progress, Status};
use crate::flow::audit::{Audit, Search};
use crate::flow::ports::{Accepted, Answer, Facts, Filter, Journal, Mark, NewTransaction};
use crate::journal::embedded::Embedded;
use crate::journal::rekey::rekey;
use serde_json::json;
use std::path::{Path, PathBuf};

/// What the messages say of people, and what must be in no file.
const PERSONAL: &[&str] =
    &["Achieng", "Otieno", "+254712000101", "1992-03-14", "ID-778812", "a54a8e4f-c505", "person-of-"];

fn keys(of: &[u8]) -> Keys {
    let secrets: Vec<SecretBox<[u8; 32]>> =
        of.iter().map(|byte| SecretBox::new(Box::new([*byte; 32]))).collect();
    Keys::new(&secrets)
}

fn open(folder: &Path, keys: &Keys) -> Embedded {
    Embedded::open_with(&folder.join("journal.db"), 10_000, keys).expect("a journal")
}

fn id(n: usize) -> String {
    format!("0193f000-0000-7000-8000-{n:012}")
}

/// Messages with all that can stand in a row, delivered.
async fn fill(journal: &Embedded, numbers: std::ops::Range<usize>) {
    for n in numbers {
        let said = json!({"doc": {"name": "Achieng Otieno", "phone": "+254712000101", "date_of_birth": "1992-03-14", "n": n}});
        let message = NewTransaction {
            id: id(n),
            route: "/cht/push".parse().expect("a route"),
            client: "cht".into(),
            home: None,
            key: format!("/fhir/Patient emr urn:national-id|ID-778812{n}"),
            digest: format!("digest {n}"),
            subjects: vec!["a54a8e4f-c505".into(), format!("ID-778812{n}")],
            received: 1_795_467_014_033,
            strict: false,
            body: said.to_string().into_bytes(),
            via: None,
            again: None,
            revision: None,
            from: None,
            patients: vec![Identifier::new("urn:national-id", format!("ID-778812{n}"))],
        };
        journal.accept(vec![message]).await.expect("accepted");
        let part = PartNote {
            entry: None,
            kind: "resources".into(),
            resource: Some(said.clone()),
            create_only: false,
            full_url: None,
            text: "Achieng Otieno".into(),
        };
        let mark = Mark {
            id: id(n),
            status: Status::Delivered,
            attempts: 1,
            not_before: 0,
            error: Some("no such patient: Achieng Otieno".into()),
            cause: Some("fhir: answered 404".into()),
            mapping: Some("patient".into()),
            plan: Some(Arc::new(Plan { parts: vec![part], steps: Vec::new() })),
            progress: vec![Progress { error: Some("born 1992-03-14".into()), ..Progress::default() }],
            answer: Some(Answer { status: 200, body: said.clone(), location: None }),
            orchestrations: Vec::new(),
            at: 5,
            audit: Vec::new(),
        };
        let facts = Facts {
            links: vec![(
                Identifier::new("urn:national-id", format!("ID-778812{n}")),
                format!("person-of-{n}"),
            )],
            directory: vec![(format!("Patient/ID-778812{n}"), said)],
            ..Facts::default()
        };
        journal.commit(mark, facts).await.expect("written");
    }
}

/// All that reads of the first messages.
async fn told(journal: &Embedded, n: usize) -> String {
    let mut text = String::new();
    for n in 0..n {
        let t = journal.transaction(&id(n)).await.expect("read").expect("there");
        let body = String::from_utf8(t.body).expect("text");
        text += &json!([t.head.seq, t.head.subjects, body, t.error, t.plan.as_deref(), t.progress, t.answer])
            .to_string();
        let identifier = Identifier::new("urn:national-id", format!("ID-778812{n}"));
        let person = journal.person(&identifier).await.expect("read").expect("known");
        text += &json!([journal.identifiers(&person).await.expect("read"), person]).to_string();
        text += &json!(journal.directory(&format!("Patient/ID-778812{n}")).await.expect("read")).to_string();
    }
    let trail = journal.records(Search { limit: 1000, ..Search::default() }).await.expect("records");
    let of_first = trail.iter().take(n).map(|link| link.text.as_str());
    text + &of_first.collect::<Vec<_>>().join("\n")
}

/// The words that are in the files beside the journal, WAL and all.
fn found(folder: &Path) -> Vec<&'static str> {
    let files: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("a folder").map(|e| e.expect("a file").path()).collect();
    let bytes: Vec<u8> = files.iter().flat_map(|file| std::fs::read(file).expect("bytes")).collect();
    PERSONAL
        .iter()
        .copied()
        .filter(|word| bytes.windows(word.len()).any(|part| part == word.as_bytes()))
        .collect()
}

#[tokio::test]
async fn no_file_of_a_sealed_journal_has_a_word_of_a_patient() {
    for (keys, expected) in [(keys(&[]), PERSONAL), (keys(&[1]), &[])] {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = open(folder.path(), &keys);
        fill(&journal, 0..60).await;
        assert!(told(&journal, 3).await.contains("1992-03-14"));
        assert!(folder.path().join("journal.db-wal").exists());
        assert_eq!(found(folder.path()), expected, "in use");
        drop(journal);
        assert_eq!(found(folder.path()), expected, "closed");
    }
}

#[tokio::test]
async fn without_the_key_what_names_nobody_is_still_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = open(folder.path(), &keys(&[1]));
    fill(&first, 0..2).await;
    let id_of_key = first.sealed_with().expect("a key").to_string();
    drop(first);
    for (keys, given) in [(keys(&[]), "not given"), (keys(&[2]), "journal.key is ")] {
        let journal = open(folder.path(), &keys);
        let why = journal.objection().expect("an objection");
        assert!(why.contains(&id_of_key) && why.contains(given), "{why}");
        let rows = journal.list(Filter::default()).await.expect("a list");
        let row = &rows[1];
        assert_eq!((row.id.as_str(), row.status.as_str(), row.attempts), (id(1).as_str(), "delivered", 1));
        assert_eq!((row.mapping.as_deref(), row.client.as_str()), (Some("patient"), "cht"));
        assert!(row.error.as_deref() == Some("fhir: answered 404") && row.received.starts_with("2026"));
        let shown = journal.transaction(&id(1)).await.expect("read").expect("there");
        assert!(shown.body.is_empty() && shown.plan.is_none() && shown.head.subjects.is_empty());
        let refused = journal.accept(vec![new(9)]).await.map(|_| ()).expect_err("sealed");
        assert!(refused.to_string().contains(&id_of_key), "{refused}");
    }
}

fn new(n: usize) -> NewTransaction {
    NewTransaction {
        id: id(n),
        route: "/cht/push".parse().expect("a route"),
        client: "cht".into(),
        home: None,
        key: id(n),
        digest: "d".into(),
        subjects: Vec::new(),
        received: 1,
        strict: false,
        body: br#"{"doc":{}}"#.to_vec(),
        via: None,
        again: None,
        revision: None,
        from: None,
        patients: Vec::new(),
    }
}

#[tokio::test]
async fn what_other_hands_have_changed_is_refused_in_words() {
    for (change, names) in [
        ("UPDATE bodies SET body = (SELECT body FROM bodies WHERE seq = 2) WHERE seq = 1", "body of"),
        (
            "UPDATE transactions SET error = (SELECT answer FROM transactions WHERE id = '{id}') WHERE id = '{id}'",
            "error of",
        ),
        ("UPDATE plans SET plan = substr(plan, 1, length(plan) - 3) WHERE seq = 1", "plan of"),
        ("UPDATE plans SET plan = substr(plan, 1, 9) WHERE seq = 1", "plan of"),
        ("UPDATE bodies SET body = CAST('{\"doc\":{}}' AS BLOB) WHERE seq = 1", "body of"),
        ("UPDATE transactions SET answer = '{\"status\":200,\"body\":{}}' WHERE id = '{id}'", "answer of"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = open(folder.path(), &keys(&[1]));
        fill(&journal, 0..2).await;
        drop(journal);
        let change = change.replace("{id}", &id(0));
        let hands = Connection::open(folder.path().join("journal.db")).expect("the file");
        assert_eq!(hands.execute(&change, []).expect("changed"), 1, "{change}");
        drop(hands);
        let journal = open(folder.path(), &keys(&[1]));
        let why = journal.transaction(&id(0)).await.map(|_| ()).expect_err("refused").to_string();
        assert!(why.contains(names) && why.contains(&id(0)) && why.contains("other hands"), "{why}");
        assert!(journal.transaction(&id(1)).await.expect("read").is_some(), "the others read as before");
    }
}

#[tokio::test]
async fn names_that_changed_places_are_nobodys() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path(), &keys(&[1]));
    fill(&journal, 0..1).await;
    drop(journal);
    let hands = Connection::open(folder.path().join("journal.db")).expect("the file");
    hands.execute("UPDATE identifiers SET person = zeroblob(40)", []).expect("changed");
    hands.execute("UPDATE directory SET resource = 'null'", []).expect("changed");
    let journal = open(folder.path(), &keys(&[1]));
    let person = journal.person(&Identifier::new("urn:national-id", "ID-7788120")).await;
    assert!(person.expect_err("refused").to_string().contains("a name does not open"));
    let entry = journal.directory("Patient/ID-7788120").await.expect_err("refused").to_string();
    assert!(entry.contains("resource does not open") && !entry.contains("778812"), "{entry}");
}

#[tokio::test]
async fn rekeyed_it_says_the_same_and_the_old_file_is_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal.db");
    let journal = open(folder.path(), &keys(&[]));
    fill(&journal, 0..50).await;
    let before = told(&journal, 50).await;
    assert!(
        rekey(&path, &keys(&[1]), |_| {}).is_err_and(|why| why.contains("open")),
        "a reader is in the way"
    );
    drop(journal);
    let clear = open(folder.path(), &keys(&[1]));
    assert!(clear.objection().is_some_and(|why| why.contains("journal rekey")));
    drop(clear);
    // What a run that was killed leaves.
    std::fs::write(folder.path().join("journal.db.rekey"), "half").expect("a file");
    for (given, older) in [(&[1][..], &[][..]), (&[2, 1], &[1])] {
        let mut said = Vec::new();
        let done = rekey(&path, &keys(given), |how_far| said.push(how_far)).expect("sealed anew");
        let newest = keys(&given[..1]);
        assert!(done.contains(&newest.newest().expect("a key").id), "{done}");
        assert!(said.contains(&"transactions: 50 of 50".to_string()), "{said:?}");
        assert_eq!(found(folder.path()), [""; 0]);
        assert!(open(folder.path(), &keys(older)).objection().is_some(), "the old key opens nothing");
        let journal = open(folder.path(), &newest);
        assert!(journal.objection().is_none());
        assert_eq!(told(&journal, 50).await, before);
        assert_eq!(journal.counts().await.expect("counts")["delivered"], 50);
        // Repeats are still recognised, and people by their names.
        let again = NewTransaction {
            key: "/fhir/Patient emr urn:national-id|ID-7788127".into(),
            digest: "digest 7".into(),
            ..new(99)
        };
        let accepted = journal.accept(vec![again]).await.expect("accepted").remove(0);
        assert!(matches!(accepted, Accepted::Repeat(head) if head.id == id(7)));
    }
    assert!(rekey(&path, &keys(&[2, 1]), |_| {}).is_ok_and(|done| done.contains("already")));
    assert!(rekey(&path, &keys(&[3]), |_| {}).is_err_and(|why| why.contains("sealed with the key")));
    assert!(rekey(&path, &keys(&[]), |_| {}).is_err_and(|why| why.contains("new-key")));
}

#[test]
fn a_short_value_and_an_empty_one_come_back() {
    let c = Connection::open_in_memory().expect("a database");
    Seal::With(keys(&[1]).newest().expect("a key").clone()).install(&c).expect("functions");
    for value in ["", "a", "fifteen letters", "sixteen letters!", "ü"] {
        let sealed: Vec<u8> =
            c.query_row("SELECT seal('c', 'r', ?1)", [value], |row| row.get(0)).expect("sealed");
        assert!(value.is_empty() || !sealed.windows(value.len()).any(|part| part == value.as_bytes()));
        let opened: String =
            c.query_row("SELECT unseal('c', 'r', ?1)", [sealed], |row| row.get(0)).expect("opened");
        assert_eq!(opened, value);
    }
    let nothing: Option<Vec<u8>> =
        c.query_row("SELECT unname(name(NULL))", [], |row| row.get(0)).expect("NULL");
    assert_eq!(nothing, None);
}

/// What is sealed today opens tomorrow: neither the key's derivation nor the format may change unseen. The
/// values are those of another implementation (pyca/cryptography's HKDF and AESSIV).
#[test]
fn a_sealed_value_is_what_it_always_was() {
    let c = Connection::open_in_memory().expect("a database");
    let key = keys(&[7]).newest().expect("a key").clone();
    assert_eq!(key.id, "7fda929d");
    Seal::With(key).install(&c).expect("functions");
    let hex = |sql: &str| c.query_row(sql, [], |row| row.get::<_, String>(0)).expect("sealed");
    assert_eq!(hex("SELECT hex(name('83288'))"), "01483D859551B6EDE93F28A0607977E28BC7E0606638");
    assert_eq!(
        hex("SELECT hex(seal('body', 'id', 'a body'))"),
        "01BB8E2ABA8B0787DA000C4FFE46A166ED3A8938735F59"
    );
}
