//! Journals of earlier schemas, as `sqlite3 journal.db .dump` writes them: each is taken up by this
//! release, in clear and sealed, and what was open in it arrives.
use crate::world::{World, fixture};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cht_fhir_mediator::house::{journal_keys, journal_path};
use cht_fhir_mediator::journal::rekey::rekey;
use cht_fhir_mediator::standins::cht;
use rusqlite::Connection;
use serde_json::json;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/journals");

/// Schema and text of each.
fn journals() -> Vec<(usize, String)> {
    let all = (1..).map_while(|schema| {
        let text = std::fs::read_to_string(format!("{FOLDER}/schema-{schema}.sql")).ok()?;
        Some((schema, text))
    });
    all.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_open_in_a_journal_of_an_earlier_release_arrives() {
    let key = STANDARD.encode([5; 32]);
    for (schema, text) in journals() {
        for settings in [&[][..], &[("JOURNAL__KEY", key.as_str())]] {
            let what =
                format!("schema {schema}, {}", if settings.is_empty() { "in clear" } else { "sealed" });
            let mut world = World::closed(settings, cht::Options::default()).await;
            world.know_patient();
            world.cht.add_person(json!({"_id": "b54a8e4f-c505-4ed9-a6f2-eb7bdad2fb9d", "type": "person",
                "name": "Akinyi Odhiambo", "patient_id": "83289"}));
            let path = journal_path(&world.settings);
            let old = Connection::open(path).expect("a file");
            old.execute_batch(&text).expect("a journal");
            drop(old);
            if !settings.is_empty() {
                rekey(path, &journal_keys(&world.settings), |_| {}).expect("sealed");
            }
            world.open().await;
            // CHT pushes what it was told back to us; those come after.
            let rows = world.settled().await;
            let states: Vec<&str> = rows.iter().take(4).map(|row| row.status.as_str()).collect();
            assert_eq!(states, ["delivered"; 4], "{what}: {}", json!(rows));
            for (kind, n) in [("Encounter", 1), ("Task", 1), ("ServiceRequest", 3)] {
                assert_eq!(world.fhir.resources(kind).len(), n, "{what}: {kind}");
            }
            let asked = world.cht.reports().iter().filter(|report| report["form"] == "LTFU_REQUEST").count();
            assert_eq!(asked, 2, "{what}");
            let (_, again) = world.post("/cht/push", &fixture("full-person-10")["body"]).await;
            assert_eq!(again["transaction"], rows[0].id, "{what}: what it had done is known");
            world.close().await;
        }
    }
}

#[test]
fn every_earlier_schema_has_a_journal_here() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal.db");
    drop(cht_fhir_mediator::journal::embedded::Embedded::open(&path, 1).expect("a journal"));
    let now: usize = Connection::open(&path)
        .and_then(|c| c.query_row("PRAGMA user_version", [], |row| row.get(0)))
        .expect("a version");
    let known: Vec<usize> = journals().into_iter().map(|(schema, _)| schema).collect();
    assert!(known.iter().copied().eq(1..known.len() + 1) && known.len() + 1 >= now, "{known:?} of {now}");
}
