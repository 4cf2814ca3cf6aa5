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
    let (profiles, resources) = (conformance(), tempfile::tempdir().expect("a folder"));
    let profiles = profiles.path();
    let mappings =
        Mappings::new(&config::load(None, std::iter::empty()).map_err(|_| ()).expect("defaults").translate)
            .expect("mappings");
    let mut made = 0;
    for (name, route, body) in messages() {
        let source = Source { route: &route, body: &body, received: 1_795_467_014_033 };
        let translated =
            mappings.translate(&source, None).unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
        for mut resource in resources_of(&mappings.preview(&translated)) {
            if !matches!(route, Route::Fhir(_) | Route::DropIn(_)) {
                claim(&mut resource);
            }
            made += 1;
            let file = resources.path().join(format!("{name}-{made}.json"));
            std::fs::write(file, resource.to_string()).expect("written");
        }
    }
    assert!(made > 500, "{made} resources");
    let output = crate::part("fhir-check/check.sh")
        .arg(profiles)
        .arg(resources.path())
        .arg("--warnings")
        .output()
        .expect("a verdict");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!(
        "{made} resources; {}",
        String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default()
    );
    let errors: Vec<&str> = said.lines().filter(|line| !line.contains(": warning: ")).take(40).collect();
    assert!(output.status.success(), "{}", errors.join("\n"));
    let unexplained: Vec<&str> =
        said.lines().filter(|line| line.contains(": warning: ") && !is_explained(line)).collect();
    assert!(unexplained.is_empty(), "{}", unexplained.join("\n"));
    // The judge is awake: what is wrong is found.
    let wrong = json!({"resourceType": "Patient", "gender": "femal"});
    std::fs::write(resources.path().join("wrong.json"), wrong.to_string()).expect("written");
    let verdict =
        crate::part("fhir-check/check.sh").arg(profiles).arg(resources.path()).output().expect("a verdict");
    assert!(!verdict.status.success() && String::from_utf8_lossy(&verdict.stdout).contains("wrong.json"));
}

/// The trail has records of every kind; a page of them is judged too.
#[test]
fn the_audit_trail_is_valid_r4() {
    if !crate::have_java("HL7's validator") {
        return;
    }
    let trail = format!("{}/tests/fixtures/audit/trail.ndjson", env!("CARGO_MANIFEST_DIR"));
    let trail = std::fs::read_to_string(trail).expect("a trail");
    // IHE's profiles are not at hand; `it` holds the trail to their shapes.
    let event = |line| {
        let mut event: Value = serde_json::from_str(line).expect("JSON");
        event.as_object_mut().map(|fields| fields.remove("meta"));
        event
    };
    let events: Vec<Value> = trail.lines().map(event).collect();
    let url = |event: &Value| {
        format!("https://mediator.example.org/fhir/AuditEvent/{}", event["id"].as_str().unwrap_or("?"))
    };
    let entry =
        |event: &Value| json!({"fullUrl": url(event), "resource": event, "search": {"mode": "match"}});
    let page = json!({"resourceType": "Bundle", "type": "searchset", "entry": events.iter().map(entry).collect::<Vec<_>>(),
        "link": [{"relation": "self", "url": "https://mediator.example.org/fhir/AuditEvent"}]});
    let resources = tempfile::tempdir().expect("a folder");
    for (i, event) in events.iter().chain([&page]).enumerate() {
        std::fs::write(resources.path().join(format!("{i}.json")), event.to_string()).expect("written");
    }
    let verdict = crate::part("fhir-check/check.sh")
        .arg(conformance().path())
        .arg(resources.path())
        .arg("--warnings")
        .output()
        .expect("a verdict");
    let said = String::from_utf8_lossy(&verdict.stdout);
    let unexplained: Vec<&str> =
        said.lines().filter(|line| line.contains(": warning: ") && !is_explained(line)).collect();
    assert!(verdict.status.success() && unexplained.is_empty(), "{said}");
    assert!(said.contains(&format!("{} files", events.len() + 1)), "{said}");
}

/// What a look-up answers: a person with the places above, and what was reported about them.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_looked_up_is_valid_r4() {
    if !crate::have_java("HL7's validator") {
        return;
    }
    let world = crate::world::World::new().await;
    let place = |id: &str, kind: &str, parent: Value| {
        world.cht.add_person(json!({"_id": id, "type": kind, "name": "Test Place", "parent": parent}));
    };
    place("district", "district_hospital", Value::Null);
    place("area", "health_center", json!({"_id": "district"}));
    place("home", "clinic", json!({"_id": "area", "parent": {"_id": "district"}}));
    world.cht.add_person(
        json!({"_id": crate::world::PATIENT, "type": "person", "name": "Achieng Otieno", "sex": "female",
        "patient_id": "83288", "phone": "0712000101", "date_of_birth": "1992-03-14",
        "parent": {"_id": "home", "parent": {"_id": "area", "parent": {"_id": "district"}}}}),
    );
    for fixture in ["full-report-09", "full-report-20"] {
        let mut report = crate::world::fixture(fixture)["body"]["doc"].clone();
        report["fields"]["patient_id"] = json!(crate::world::PATIENT);
        report["fields"]["patient_uuid"] = json!(crate::world::PATIENT);
        world.cht.add_person(report);
    }
    let resources = tempfile::tempdir().expect("a folder");
    for (name, path) in [
        ("read", format!("/fhir/Patient/{}", crate::world::PATIENT)),
        ("searched", "/fhir/Patient?phone=0712000101".to_string()),
        ("everything", format!("/fhir/Patient/{}/$everything", crate::world::PATIENT)),
    ] {
        let (status, found) = world.get(&path).await;
        assert_eq!(status, 200, "{path}");
        std::fs::write(resources.path().join(format!("{name}.json")), found.to_string()).expect("written");
    }
    let folder = conformance();
    let verdict = tokio::task::spawn_blocking(move || {
        crate::part("fhir-check/check.sh")
            .arg(folder.path())
            .arg(resources.path())
            .output()
            .expect("a verdict")
    });
    let verdict = verdict.await.expect("a verdict");
    let said = String::from_utf8_lossy(&verdict.stdout);
    let errors: Vec<&str> = said.lines().filter(|line| !line.contains(": warning: ")).take(30).collect();
    assert!(verdict.status.success() && said.contains("3 files"), "{}", errors.join("\n"));
}

/// What the judge warns of, and why it may.
fn is_explained(warning: &str) -> bool {
    const EXPLAINED: &[&str] = &[
        // Narrative is for people who read FHIR; servers make it themselves.
        "dom-6",
        // Codes of LOINC, SNOMED CT, CIEL and of forms are not at hand here.
        "CodeSystem is unknown and can't be validated",
        // `/cht/encounter` carries codes of OpenMRS concepts, which OpenMRS itself writes without a system.
        "Coding has no system",
        "A code with no system",
        // CHT configurations of the TypeScript mediator say it in words only.
        "from the value set 'Participant type'",
        // The types of a deployment's own hierarchy have no standard code.
        "None of the codings provided are in the value set 'V3 Value SetServiceDeliveryLocationRoleType'",
        // A fragment of codes is no list to be sure of.
        "None of the codings provided are in the value set 'Types of places in CHT'",
        // What IHE's patterns of AuditEvents add to R4's codes.
        "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType",
        "iso-21089-lifecycle#disclose",
        // The CHW stands in the Encounter that each Observation belongs to.
        "all observations should have a performer",
    ];
    EXPLAINED.iter().any(|known| warning.contains(known))
}

/// The definitions of fhir-profiles, without its examples.
pub fn conformance() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let all = std::fs::read_dir(format!("{}/fhir-profiles", env!("CARGO_MANIFEST_DIR"))).expect("profiles");
    for file in all.flatten().filter(|file| file.path().extension().is_some_and(|e| e == "json")) {
        std::fs::copy(file.path(), folder.path().join(file.file_name())).expect("copied");
    }
    folder
}

/// Says which profiles a resource fulfils, so that the judge holds it to them.
fn claim(resource: &mut Value) {
    let profile = match resource["resourceType"].as_str().unwrap_or_default() {
        "Patient" => "cht-patient",
        "Practitioner" => "cht-practitioner",
        "PractitionerRole" => "cht-practitioner-role",
        "Organization" => "cht-organization",
        "Location" => "cht-location",
        "Encounter" => "visit",
        "Observation" => "answer",
        "ServiceRequest" => "referral",
        "Task" => "request-task",
        _ => return,
    };
    resource["meta"]["profile"] =
        json!([format!("https://cht-fhir-mediator.org/fhir/StructureDefinition/{profile}")]);
}

#[test]
fn the_examples_of_the_profiles_are_valid() {
    if !crate::have_java("HL7's validator") {
        return;
    }
    let examples = format!("{}/fhir-profiles/examples", env!("CARGO_MANIFEST_DIR"));
    let verdict = crate::part("fhir-check/check.sh")
        .arg(conformance().path())
        .arg(examples)
        .output()
        .expect("a verdict");
    assert!(verdict.status.success(), "{}", String::from_utf8_lossy(&verdict.stdout));
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
