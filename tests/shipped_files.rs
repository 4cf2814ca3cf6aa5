//! The files for CHT and FHIR servers that are shipped beside the mediator say what it does.
// Clippy allows it in test functions only, and helpers of tests are none.
#![allow(clippy::unwrap_used)]

use cht_fhir_mediator::config;
use cht_fhir_mediator::translate::language::yaml;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn every_field_of_a_form_can_be_filled_and_every_form_is_public() {
    let forms = read(&shipped("mediator-config/cht/app_settings/forms.json"));
    for (code, form) in forms.as_object().unwrap() {
        assert_eq!(code, &code.to_uppercase());
        assert_eq!(
            (&form["public_form"], &form["meta"]["code"]),
            (&Value::Bool(true), &Value::from(code.as_str()))
        );
        for (key, field) in form["fields"].as_object().unwrap() {
            assert!(key == &key.to_lowercase() && !key.contains('.'), "{code}.{key}");
            let kind = field["type"].as_str().unwrap();
            assert!(
                ["string", "integer", "boolean", "date", "phone_number"].contains(&kind),
                "{code}.{key}: {kind}"
            );
        }
    }
}

#[test]
fn pushes_carry_whole_documents_and_leave_the_mediators_own_records_out() {
    let forms = read(&shipped("mediator-config/cht/app_settings/forms.json"));
    for file in ["outbound.json", "outbound-openhim.json"] {
        let outbound = read(&shipped("mediator-config/cht").join(file));
        for (name, push) in outbound.as_object().unwrap() {
            assert_eq!(push["mapping"], serde_json::json!({"doc": {"expr": "doc"}}), "{name}");
            assert!(push["destination"]["path"].as_str().unwrap().ends_with("/cht/push"), "{name}");
        }
        let reports = outbound["fhir_mediator_reports"]["relevant_to"].as_str().unwrap();
        // A CHW fills it.
        assert!(!reports.contains("'REFERRAL'"));
        for code in forms.as_object().unwrap().keys().filter(|code| *code != "REFERRAL") {
            assert!(reports.contains(&format!("'{code}'")), "{code}");
        }
    }
}

#[test]
fn the_settings_to_upload_push_straight_and_give_the_mediator_what_it_needs() {
    let settings = read(&shipped("mediator-config/cht/app_settings/base_settings.json"));
    assert_eq!(settings["outbound"], read(&shipped("mediator-config/cht/outbound.json")));
    assert_eq!(settings["transitions"]["mark_for_outbound"], true, "without it CHT pushes nothing");
    let told = std::fs::read_to_string(shipped("mediator-config/cht/README.md")).unwrap();
    let told: BTreeSet<&str> =
        told.lines().filter_map(|line| line.strip_prefix("| `can_")?.split('`').next()).collect();
    let given = settings["permissions"].as_object().unwrap().iter();
    let given = given.filter(|(_, roles)| texts(roles).contains(&"fhir_mediator"));
    let given: BTreeSet<&str> = given.map(|(name, _)| name.trim_start_matches("can_")).collect();
    assert_eq!(told, given);
}

/// The keys of a language's translations.
fn translated(language: &str) -> BTreeSet<String> {
    let file = shipped(&format!("mediator-config/cht/translations/messages-{language}.properties"));
    let text = std::fs::read_to_string(file).unwrap();
    let said = |line: &str| {
        let (key, value) = line.split_once(" = ").unwrap();
        assert!(!value.trim().is_empty(), "{language}: {line}");
        key.to_string()
    };
    text.lines().map(said).collect()
}

#[test]
fn every_language_says_everything_to_a_chw() {
    let known = translated("en");
    for language in ["fr", "sw"] {
        assert_eq!(translated(language), known, "{language}");
    }
    let forms = read(&shipped("mediator-config/cht/app_settings/forms.json"));
    for (code, form) in forms.as_object().unwrap() {
        assert!(known.contains(form["meta"]["translation_key"].as_str().unwrap()), "{code}");
        for (key, field) in form["fields"].as_object().unwrap() {
            let labels = &field["labels"]["short"];
            assert!(["en", "fr", "sw"].iter().all(|language| labels[language].is_string()), "{code}.{key}");
        }
    }
}

/// CHT drops what a form does not have, and says nothing.
#[test]
fn every_field_that_the_mediator_writes_is_in_its_form() {
    let forms = read(&shipped("mediator-config/cht/app_settings/forms.json"));
    let mut seen = BTreeSet::new();
    for file in
        std::fs::read_dir(shipped("mediator-config/mappings")).unwrap().map(|file| file.unwrap().path())
    {
        if file.extension().is_none_or(|e| e != "yaml") {
            continue;
        }
        let record = yaml::parse(&std::fs::read_to_string(&file).unwrap()).unwrap().value()["record"].clone();
        let Some(code) = record["form"].as_str() else { continue };
        seen.insert(code.to_string());
        let fields = forms[code]["fields"].as_object().unwrap_or_else(|| panic!("no form {code}"));
        let written = record["fields"].as_object().into_iter().flatten().map(|(key, _)| key.as_str());
        let patient = record["patient_field"].as_str();
        for key in written.filter(|key| *key != "literal").chain(patient) {
            assert!(fields.contains_key(key), "{code}.{key}");
        }
    }
    assert!(seen.contains("LTFU_REQUEST") && seen.contains("CONTACT_TRACING_CANCEL"), "{seen:?}");
}

#[test]
fn every_identifier_system_has_a_naming_system() {
    let source = std::fs::read_to_string(shipped("src/domain/identifier.rs")).unwrap();
    let constant = |line: &str| Some(line.trim().strip_prefix("pub const ")?.split('"').nth(1)?.to_string());
    let mut known: Vec<String> = source.lines().filter_map(constant).collect();
    let files = std::fs::read_dir(shipped("fhir-profiles")).unwrap().map(|file| file.unwrap().path());
    let naming = files.filter(|file| file.to_string_lossy().contains("NamingSystem-"));
    let mut named: Vec<String> =
        naming.map(|file| read(&file)["uniqueId"][0]["value"].as_str().unwrap().to_string()).collect();
    known.sort();
    named.sort();
    assert_eq!(known, named);
}

#[test]
fn the_schema_of_mappings_is_that_of_the_types() {
    let file = std::fs::read_to_string(shipped("mediator-config/mappings/mapping.schema.json")).unwrap();
    let made = cht_fhir_mediator::translate::mapping_schema();
    assert!(
        file == made,
        "run: cht-fhir-mediator mapping-schema > mediator-config/mappings/mapping.schema.json"
    );
}

#[test]
fn an_editor_takes_every_shipped_mapping_and_finds_mistakes() {
    let schema = read(&shipped("mediator-config/mappings/mapping.schema.json"));
    let schema = jsonschema::validator_for(&schema).unwrap();
    let value = |text: &str| yaml::parse(text).unwrap().value();
    let mut seen = 0;
    for file in
        std::fs::read_dir(shipped("mediator-config/mappings")).unwrap().map(|file| file.unwrap().path())
    {
        if file.extension().is_some_and(|e| e == "yaml") {
            seen += 1;
            let text = std::fs::read_to_string(&file).unwrap();
            let errors: Vec<String> =
                schema.iter_errors(&value(&text)).map(|e| format!("{}: {e}", e.instance_path)).collect();
            assert!(errors.is_empty(), "{}: {}", file.display(), errors.join("; "));
        }
    }
    assert!(seen > 10);
    for wrong in [
        "mapping: x\nwehn: {doc.form: x}\n",
        "mapping: x\nentries: [{entry: a, write: somehow}]\n",
        "mapping: x\nentries: [{entry: a, resource: {name: {path: doc.name, tabel: x}}}]\n",
        "mapping: x\nentries: [{entry: a, resource: {name: [{path: doc.name, as: nmae}]}}]\n",
        "mapping: x\nwhen: {doc.form: {presnt: true}}\n",
        "mapping: x\ntables: {t: {codes: {a: b}, unmapped: ignore}}\n",
    ] {
        assert!(!schema.is_valid(&value(wrong)), "{wrong}");
    }
}

#[test]
fn every_profile_can_be_enforced() {
    let files = std::fs::read_dir(shipped("fhir-profiles")).unwrap().map(|file| file.unwrap().path());
    let all: Vec<Value> =
        files.filter(|file| file.extension().is_some_and(|e| e == "json")).map(|file| read(&file)).collect();
    let mut definitions = fhir_validate::Definitions::r4();
    definitions.add_all(&all).unwrap();
    assert_eq!(definitions.unchecked(), &[] as &[String], "constraints that nobody has written in Rust");
}

/// The environment of a deployed mediator, with what the deployer gives.
fn load(file: Option<&Path>, environment: Vec<(String, String)>) -> config::Settings {
    config::load(file, environment.into_iter()).map_err(|e| format!("{e:#?}")).unwrap()
}

/// A folder of secrets: of clients' hashes, and of others' passwords.
fn secrets(names: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let hash = cht_fhir_mediator::http::auth::hash_secret("any").unwrap();
    for name in names {
        let secret = if name.starts_with("client_") { &hash } else { "any" };
        std::fs::write(folder.path().join(name), secret).unwrap();
    }
    folder
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().filter_map(Value::as_str).collect()
}

#[test]
fn compose_starts_a_mediator_whose_settings_can_be_loaded() {
    let compose = std::fs::read_to_string(shipped("deploy/compose.yaml")).unwrap();
    let compose = yaml::parse(&compose).unwrap().value();
    for (name, service) in compose["services"].as_object().unwrap() {
        let (_, tag) = service["image"].as_str().unwrap().rsplit_once(':').unwrap();
        assert!(tag.chars().any(|c| c.is_ascii_digit()), "{name} is not pinned");
        // Ours is in its image; HAPI's image has nothing to ask with.
        let is_asked =
            service["healthcheck"]["test"].is_array() || matches!(name.as_str(), "mediator" | "hapi");
        assert!(is_asked, "{name} has no health check");
        for network in texts(&service["networks"]) {
            assert!(compose["networks"].as_object().unwrap().contains_key(network), "{name}: {network}");
        }
    }
    let mediator = &compose["services"]["mediator"];
    let names = texts(&mediator["secrets"]);
    let files = compose["secrets"].as_object().unwrap();
    assert_eq!(names.iter().copied().collect::<BTreeSet<_>>(), files.keys().map(String::as_str).collect());
    let folder = secrets(&names);
    let toml = std::fs::read_to_string(shipped("deploy/mediator.toml")).unwrap();
    for name in &names {
        assert!(toml.contains(&format!("\"/run/secrets/{name}\"")), "{name} is read by nobody");
    }
    let file = folder.path().join("mediator.toml");
    std::fs::write(&file, toml.replace("/run/secrets", &folder.path().display().to_string())).unwrap();
    let environment = mediator["environment"].as_object().unwrap().iter();
    let environment = environment.filter(|(key, _)| key.starts_with("MEDIATOR__")).map(|(key, value)| {
        match value.as_str().unwrap() {
            asked if asked.starts_with("${") => (key.clone(), "https://cht.example.org".to_string()),
            given => (key.clone(), given.to_string()),
        }
    });
    let settings = load(Some(&file), environment.collect());
    assert_eq!(mediator["read_only"], Value::Bool(true));
    let mounts = texts(&mediator["volumes"]);
    let journal = settings.journal.url.trim_start_matches("sqlite:").rsplit_once('/').unwrap().0;
    assert!(mounts.contains(&format!("journal:{journal}").as_str()), "the journal is in its volume");
    let dockerfile = std::fs::read_to_string(shipped("Dockerfile")).unwrap();
    assert!(dockerfile.contains(&format!("VOLUME {journal}\n")));
    let config = mediator["environment"]["MEDIATOR_CONFIG"].as_str().unwrap();
    assert!(mounts.contains(&format!("./mediator.toml:{config}:ro").as_str()));
    let pem = settings.openhim.ca_file.unwrap();
    assert!(mounts.contains(&format!("./openhim.pem:{}:ro", pem.display()).as_str()));
    assert_eq!(settings.openhim.reachable_at, format!("http://mediator:{}", settings.server.listen.port()));
    let grace: u64 = mediator["stop_grace_period"].as_str().unwrap().trim_end_matches('s').parse().unwrap();
    assert!(grace * 1000 > settings.server.shutdown_within_ms);
}

#[test]
fn the_unit_starts_a_mediator_whose_settings_can_be_loaded() {
    let unit = std::fs::read_to_string(shipped("deploy/cht-fhir-mediator.service")).unwrap();
    let lines: Vec<(&str, &str)> =
        unit.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('=')).collect();
    let all = |key: &str| {
        lines.iter().filter(|(known, _)| *known == key).map(|(_, value)| *value).collect::<Vec<_>>()
    };
    let credentials: Vec<&str> =
        all("LoadCredential").iter().map(|value| value.split_once(':').unwrap().0).collect();
    let folder = secrets(&credentials);
    let set = all("Environment").into_iter().map(|pair| pair.split_once('=').unwrap());
    let set: Vec<(String, String)> = set
        .map(|(key, value)| (key.to_string(), value.replace("%d", &folder.path().display().to_string())))
        .collect();
    for name in &credentials {
        let file = folder.path().join(name).display().to_string();
        assert!(set.iter().any(|(_, value)| *value == file), "{name} is read by nobody");
    }
    // The file in /etc says who we are for CHT.
    let file = [("MEDIATOR__CHT__USERNAME".to_string(), "mediator".to_string())];
    let settings =
        load(None, set.into_iter().filter(|(key, _)| key.starts_with("MEDIATOR__")).chain(file).collect());
    let state = format!("sqlite:/var/lib/{}/", all("StateDirectory")[0]);
    assert!(settings.journal.url.starts_with(&state), "{}", settings.journal.url);
    let stop: u64 = all("TimeoutStopSec")[0].parse().unwrap();
    assert!(stop * 1000 > settings.server.shutdown_within_ms);
    for hardened in ["NoNewPrivileges", "ProtectSystem", "ProtectHome", "PrivateTmp", "DynamicUser"] {
        assert!(matches!(all(hardened)[..], ["yes" | "strict"]), "{hardened}");
    }
}
