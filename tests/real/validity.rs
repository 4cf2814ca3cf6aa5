//! HL7's own validator judges every resource that is made of every recorded push.
use crate::world::ltfu;
use cht_fhir_mediator::config;
use cht_fhir_mediator::domain::message::Route;
use cht_fhir_mediator::translate::{Mappings, Source, guess_route};
use serde_json::{Value, json};

#[test]
fn everything_that_is_made_is_valid_r4() {
    if !crate::have_java("HL7's validator") {
        return;
    }
    let (profiles, resources) =
        (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let mappings =
        Mappings::new(&config::load(None, std::iter::empty()).map_err(|_| ()).expect("defaults").translate)
            .expect("mappings");
    let mut made = 0;
    for (name, route, body) in messages() {
        let source = Source { route: &route, body: &body, received: 1_795_467_014_033 };
        let translated =
            mappings.translate(&source, None).unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
        for resource in resources_of(&mappings.preview(&translated)) {
            made += 1;
            let file = resources.path().join(format!("{name}-{made}.json"));
            std::fs::write(file, resource.to_string()).expect("written");
        }
    }
    assert!(made > 500, "{made} resources");
    let output = crate::part("fhir-check/check.sh")
        .arg(profiles.path())
        .arg(resources.path())
        .output()
        .expect("a verdict");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!(
        "{made} resources; {}",
        String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default()
    );
    assert!(output.status.success(), "{}", said.chars().take(6000).collect::<String>());
    // The judge is awake: what is wrong is found.
    let wrong = json!({"resourceType": "Patient", "gender": "femal"});
    std::fs::write(resources.path().join("wrong.json"), wrong.to_string()).expect("written");
    let verdict = crate::part("fhir-check/check.sh")
        .arg(profiles.path())
        .arg(resources.path())
        .output()
        .expect("a verdict");
    assert!(!verdict.status.success() && String::from_utf8_lossy(&verdict.stdout).contains("wrong.json"));
}

fn messages() -> Vec<(String, Route, Value)> {
    let folder = format!("{}/tests/fixtures/pushes", env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(folder).expect("fixtures").map(|f| f.expect("a file").path());
    let pushes = files.map(|path| {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        (name, serde_json::from_slice(&std::fs::read(path).expect("read")).expect("JSON"))
    });
    let inbound = [
        (
            "patient",
            json!({"resourceType": "Patient", "identifier": [{"value": "1"}], "name": [{"family": "Otieno"}], "birthDate": "1992-03"}),
        ),
        (
            "encounter",
            json!({"resourceType": "Encounter", "id": "e1", "status": "finished", "class": {"code": "AMB"}, "subject": {"reference": "Patient/1"}}),
        ),
        ("request", ltfu("SR-1")),
    ];
    let inbound = inbound.into_iter().map(|(name, body)| (name.to_string(), body));
    pushes
        .chain(inbound)
        .map(|(name, file): (String, Value)| {
            let (route, body) = guess_route(&file).expect("a route");
            (name, route, body)
        })
        .collect()
}

/// A Bundle's resources one by one; records for CHT are no FHIR.
fn resources_of(preview: &Value) -> Vec<Value> {
    match preview["resourceType"].as_str() {
        // Whole as well: references between entries are judged in it.
        Some("Bundle") => preview["entry"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|e| e["resource"].clone())
            .chain([preview.clone()])
            .collect(),
        Some(_) => vec![preview.clone()],
        None => Vec::new(),
    }
}
