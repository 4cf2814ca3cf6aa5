//! The files for CHT and FHIR servers that are shipped beside the mediator say what it does.
// Clippy allows it in test functions only, and helpers of tests are none.
#![allow(clippy::unwrap_used)]

use cht_fhir_mediator::translate::language::yaml;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn every_field_of_a_form_can_be_filled_and_every_form_is_public() {
    let forms = read(&shipped("mediator-config/cht/forms.json"));
    for (code, form) in forms.as_object().unwrap() {
        assert_eq!(code, &code.to_uppercase());
        assert_eq!(
            (&form["public_form"], &form["meta"]["code"]),
            (&Value::Bool(true), &Value::from(code.as_str()))
        );
        for key in form["fields"].as_object().unwrap().keys() {
            assert!(key == &key.to_lowercase() && !key.contains('.'), "{code}.{key}");
        }
    }
}

#[test]
fn pushes_carry_whole_documents_and_leave_the_mediators_own_records_out() {
    let forms = read(&shipped("mediator-config/cht/forms.json"));
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
