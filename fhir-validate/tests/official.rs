//! HL7's own examples (npm `hl7.fhir.r4.examples@4.0.1`, CC0; those of more than 60 kB left out) raise no
//! false alarm.
use fhir_validate::Definitions;
use serde_json::Value;

/// Examples that break a rule of R4 themselves: file, line, and which rule.
const WRONG: &[(&str, usize, &str)] = &[
    ("Observation.ndjson", 20, "its performer is an Encounter, which R4 does not allow"),
    ("MedicationRequest.ndjson", 2, "it is dispensed by a Practitioner, which R4 does not allow"),
];

pub fn examples() -> Vec<(String, Value)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/examples");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("examples").map(|f| f.expect("a file").path()).collect();
    files.sort();
    let mut all = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("read");
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
            all.push((format!("{name}:{}", i + 1), serde_json::from_str(line).expect("JSON")));
        }
    }
    all
}

#[test]
fn the_official_examples_raise_no_false_alarm() {
    let definitions = Definitions::r4();
    let mut wrong = Vec::new();
    let examples = examples();
    assert!(examples.len() >= 260, "{}", examples.len());
    for (name, resource) in &examples {
        let known = WRONG.iter().any(|(file, line, _)| *name == format!("{file}:{line}"));
        let issues = definitions.validate(resource, None);
        assert!(!known || !issues.is_empty(), "{name} is said to be wrong, and is not");
        wrong.extend(issues.iter().filter(|_| !known).map(|issue| format!("{name} {} {issue}", issue.code)));
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), examples.len(), wrong.join("\n"));
}

#[test]
fn nothing_that_hl7_checks_here_is_passed_over_unknown() {
    assert_eq!(Definitions::r4().unchecked(), &[] as &[String]);
}
