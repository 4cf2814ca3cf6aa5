//! Mappings of a folder, while the mediator runs.
use crate::world::{World, fixture};
use cht_fhir_mediator::standins::cht;
use serde_json::{Value, json};
use std::path::Path;

const SURVEY: &str = "mapping: survey
when: {doc.form: net_survey}
tables:
  nets:
    codes: {none: \"0\", one: \"1\"}
entries:
- entry: answer
  resource:
    resourceType: Observation
    identifier: [{system: urn:cht:report, value: {path: doc._id, required: true}}]
    status: final
    code: {text: Bed nets}
    valueString: {path: doc.fields.nets, table: nets, required: true}
";

fn survey(nets: Value) -> Value {
    json!({"doc": {"_id": "net-1", "type": "data_record", "content_type": "xml", "form": "net_survey",
        "fields": {"patient_uuid": "a54a8e4f-c505-4ed9-a6f2-eb7bdad2fb9d", "nets": nets}}})
}

async fn world(folder: &Path) -> World {
    let folder = folder.display().to_string();
    World::with(&[("TRANSLATE__MAPPINGS", &folder)], cht::Options::default()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_for_a_table_is_sent_after_the_table_is_mended() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("survey.yaml");
    std::fs::write(&file, SURVEY).expect("written");
    let world = world(folder.path()).await;
    let (status, answer) = world.post("/cht/push", &survey(json!("three"))).await;
    assert_eq!((status, answer["status"].as_str()), (200, Some("failed")), "{answer}");
    let row = world.settled().await.remove(0);
    let error = row.error.unwrap_or_default();
    assert!(
        error.contains("doc.fields.nets: its code is not in the table nets")
            && error.contains("survey.yaml:13:"),
        "{error}"
    );
    assert!(!error.contains("three"), "{error}");

    std::fs::write(&file, SURVEY.replace("one: \"1\"", "one: \"1\", three: \"3\"")).expect("written");
    let (status, answer) = world.post("/mappings/reload", &json!({})).await;
    assert_eq!(status, 200, "{answer}");
    let (status, _) = world.post(&format!("/transactions/{}/rerun", row.id), &json!({})).await;
    assert_eq!(status, 200);
    world.settled().await;
    let made = world.fhir.resources("Observation");
    assert_eq!((made.len(), &made[0]["valueString"]), (1, &json!("3")));
    let (_, shown) = world.get(&format!("/transactions/{}", row.id)).await;
    let version = shown["mapping"].as_str().unwrap_or_default();
    assert!(version.starts_with("survey@") && answer["mappings"].to_string().contains(version), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mappings_with_mistakes_or_broken_cases_do_not_take_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("survey.yaml");
    std::fs::write(&file, SURVEY).expect("written");
    let world = world(folder.path()).await;
    std::fs::write(&file, SURVEY.replace("table: nets", "tabel: nets")).expect("written");
    let (status, answer) = world.post("/mappings/reload", &json!({})).await;
    let mistakes = answer["mistakes"].to_string();
    assert!(
        status == 422 && mistakes.contains("survey.yaml:13:") && mistakes.contains("did you mean table"),
        "{answer}"
    );

    std::fs::write(&file, SURVEY).expect("written");
    let cases = folder.path().join("survey.cases");
    std::fs::create_dir(&cases).expect("a folder");
    let case = json!({"route": "/cht/push", "input": survey(json!("one")), "output": {"valueString": "2"}});
    std::fs::write(cases.join("one.json"), case.to_string()).expect("written");
    let (status, answer) = world.post("/mappings/reload", &json!({})).await;
    assert!(status == 422 && answer.to_string().contains("valueString: expected"), "{answer}");

    let (_, answer) = world.post("/cht/push", &survey(json!("none"))).await;
    assert_eq!(answer["status"], "delivered", "the old ones serve on");
    world.post("/cht/push", &fixture("full-person-10")["body"]).await;
    assert_eq!(world.fhir.resources("Patient").len(), 1, "the built-in ones serve beside");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_mappings_for_one_message_stop_it_visibly() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("survey.yaml"), SURVEY).expect("written");
    let other = SURVEY.replace("mapping: survey", "mapping: other");
    std::fs::write(folder.path().join("other.yaml"), other).expect("written");
    let world = world(folder.path()).await;
    let (_, answer) = world.post("/cht/push", &survey(json!("one"))).await;
    assert_eq!(answer["status"], "failed");
    let error = world.settled().await.remove(0).error.unwrap_or_default();
    assert!(error.contains("several mappings serve this message: other, survey"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_never_ends_fails_its_message_and_holds_up_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let endless = SURVEY.replace(
        "{path: doc.fields.nets, table: nets, required: true}",
        "{expr: \"(() => { for (;;) {} })()\"}",
    );
    std::fs::write(folder.path().join("survey.yaml"), endless).expect("written");
    let world = world(folder.path()).await;
    let (stuck, quick) = (survey(json!("one")), fixture("full-person-11")["body"].clone());
    let (stuck, quick) = tokio::join!(world.post("/cht/push", &stuck), world.post("/cht/push", &quick));
    assert_eq!((stuck.1["status"].as_str(), quick.1["status"].as_str()), (Some("failed"), Some("delivered")));
    let error = world.settled().await.into_iter().find_map(|row| row.error).unwrap_or_default();
    assert!(error.contains("it took longer than 100 ms") && error.contains("survey.yaml:13:"), "{error}");
}
