//! schemathesis reads our description and sends what it thinks of, valid and not.
use crate::world::World;
use cht_fhir_mediator::http::auth::hash_secret;
use cht_fhir_mediator::standins::cht;
use serde_json::{Value, json};
use std::process::Output;

/// What is found today is found tomorrow; the script takes another to look elsewhere.
const SEED: &str = "20261126";

async fn tried(world: &World, description: Option<&std::path::Path>, options: &[&str]) -> Output {
    let mut command = crate::part("schemathesis/run.sh");
    command.args([world.url("").as_str(), "all:a-secret", "--seed", SEED]).args(options);
    if let Some(file) = description {
        command.env("DESCRIPTION", file);
    }
    tokio::task::spawn_blocking(move || command.output().expect("a verdict")).await.expect("a verdict")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_gets_an_answer_that_is_not_described() {
    if !crate::have("python3", "schemathesis", "Python 3.11 with venv") {
        return;
    }
    let client = json!([{"id": "all", "secret": hash_secret("a-secret").expect("a hash"), "roles": ["push", "fhir", "admin", "lookup"]}]);
    let settings = [
        ("CLIENTS", client.to_string()),
        ("SERVER__ANSWER_WITHIN_MS", "300".into()),
        ("LOOKUPS__PER_MINUTE", "100000".into()),
    ];
    let settings = settings.each_ref().map(|(key, value)| (*key, value.as_str()));
    let world = World::with(&settings, cht::Options::default()).await;
    world.know_patient();
    let output = tried(&world, None, &["--max-examples", "10"]).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let figure = |name: &str| {
        let line = said.lines().find_map(|line| line.trim().strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {said}")).trim().to_string()
    };
    let all = world.get("/openapi.json").await.1["paths"].as_object().expect("paths").len();
    let tested: usize = figure("Tested:").parse().expect("a number");
    assert!(tested >= all && figure("Selected:") == format!("{tested}/{tested}"), "{said}");
    let cases = said.lines().find(|line| line.contains(" generated, ")).unwrap_or_default().trim();
    println!("{tested} operations, {cases}, seed {}", figure("Seed:"));
    // It is awake: an answer that is not described is found.
    let mut description: Value = world.get("/openapi.json").await.1;
    let answers = description["paths"]["/transactions"]["get"]["responses"].as_object_mut().expect("answers");
    answers.remove("400").expect("described");
    let file = tempfile::Builder::new().suffix(".json").tempfile().expect("a file");
    std::fs::write(file.path(), description.to_string()).expect("written");
    let options = ["--include-path", "/transactions", "--phases", "coverage"];
    let output = tried(&world, Some(file.path()), &options).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && said.contains("Undocumented status code"), "{said}");
}
