//! Makes `definitions/r4.json` of HL7's package: `cargo run -p fhir-validate --example compact -- FOLDER`,
//! with FOLDER the unpacked npm package `hl7.fhir.r4.examples@4.0.1` (CC0).
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Types that are checked; datatypes that they use come along.
const RESOURCES: &[&str] = &[
    "Patient",
    "RelatedPerson",
    "Practitioner",
    "PractitionerRole",
    "Organization",
    "Location",
    "ServiceRequest",
    "Task",
    "Encounter",
    "Observation",
    "QuestionnaireResponse",
    "Bundle",
    "Communication",
    "Endpoint",
    "OperationOutcome",
    "Subscription",
    "Group",
    "List",
    "Condition",
    "Basic",
    "DiagnosticReport",
    "MedicationRequest",
    "Appointment",
];

fn read(folder: &Path, name: &str) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(folder.join(format!("{name}.json"))).ok()?).ok()
}

fn main() {
    let folder = std::env::args().nth(1).expect("a folder");
    let folder = Path::new(&folder);
    let (mut types, mut sets) = (Map::new(), BTreeSet::new());
    let mut open: Vec<String> = RESOURCES.iter().map(ToString::to_string).collect();
    open.push("Extension".into());
    while let Some(name) = open.pop() {
        if types.contains_key(&name) {
            continue;
        }
        let Some(definition) = read(folder, &format!("StructureDefinition-{name}")) else { continue };
        if definition["kind"] == "primitive-type" || definition["abstract"] == true {
            continue;
        }
        let mut elements = Vec::new();
        for element in definition["snapshot"]["element"].as_array().into_iter().flatten() {
            let (small, used) = compact(element, &mut sets);
            open.extend(used);
            elements.push(small);
        }
        types.insert(name, json!({"kind": definition["kind"], "elements": elements}));
    }
    let known: BTreeMap<String, Value> = all_of(folder, "ValueSet");
    let systems: BTreeMap<String, Value> = all_of(folder, "CodeSystem");
    let sets: Map<String, Value> = sets
        .into_iter()
        .filter_map(|url| Some((url.clone(), Value::Object(codes(known.get(&url)?, &known, &systems)?))))
        .collect();
    let made = json!({"source": "hl7.fhir.r4.examples@4.0.1 (npm), CC0", "types": types, "valueSets": sets});
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("definitions/r4.json");
    std::fs::write(&file, format!("{made}\n")).expect("written");
    println!("{}: {} types", file.display(), types_of(&made));
}

fn types_of(made: &Value) -> usize {
    made["types"].as_object().map_or(0, Map::len)
}

fn all_of(folder: &Path, kind: &str) -> BTreeMap<String, Value> {
    let files = std::fs::read_dir(folder).expect("a package").flatten();
    files
        .filter(|file| file.file_name().to_string_lossy().starts_with(&format!("{kind}-")))
        .filter_map(|file| serde_json::from_slice::<Value>(&std::fs::read(file.path()).ok()?).ok())
        .filter_map(|resource| Some((resource["url"].as_str()?.to_string(), resource)))
        .collect()
}

/// What is needed of an element, in the shape that HL7 gives it, and the types that it uses.
fn compact(element: &Value, sets: &mut BTreeSet<String>) -> (Value, Vec<String>) {
    let mut small = Map::new();
    for key in ["path", "min", "max", "contentReference"] {
        if !element[key].is_null() {
            small.insert(key.into(), element[key].clone());
        }
    }
    for (key, value) in element.as_object().into_iter().flatten() {
        if key.starts_with("fixed") || key.starts_with("pattern") {
            small.insert(key.clone(), value.clone());
        }
    }
    let mut used = Vec::new();
    let mut types = Vec::new();
    for each in element["type"].as_array().into_iter().flatten() {
        let code = each["code"].as_str().unwrap_or_default();
        // Ids and the like are given by a system type; the FHIR type is beside it.
        let fhir = each["extension"][0]["valueUrl"].as_str();
        let code = if code.starts_with("http://hl7.org/fhirpath/") { fhir.unwrap_or("string") } else { code };
        used.push(code.to_string());
        let mut one = json!({"code": code});
        if !each["targetProfile"].is_null() {
            one["targetProfile"] = each["targetProfile"].clone();
        }
        types.push(one);
    }
    if !types.is_empty() {
        small.insert("type".into(), types.into());
    }
    if element["binding"]["strength"] == "required"
        && let Some(set) = element["binding"]["valueSet"].as_str()
    {
        let set = set.split('|').next().unwrap_or_default().to_string();
        small.insert("binding".into(), json!({"strength": "required", "valueSet": set}));
        sets.insert(set);
    }
    let keys: Vec<&Value> =
        element["constraint"].as_array().into_iter().flatten().map(|c| &c["key"]).collect();
    let own: Vec<Value> = keys
        .into_iter()
        .filter(|key| !matches!(key.as_str(), Some("ele-1" | "ext-1")))
        .map(|key| json!({"key": key}))
        .collect();
    if !own.is_empty() {
        small.insert("constraint".into(), own.into());
    }
    (Value::Object(small), used)
}

/// By system; `None` if a set is not enumerated here (MIME types, languages).
fn codes(
    set: &Value,
    known: &BTreeMap<String, Value>,
    systems: &BTreeMap<String, Value>,
) -> Option<Map<String, Value>> {
    let mut all = Map::new();
    for include in set["compose"]["include"].as_array()? {
        for other in include["valueSet"].as_array().into_iter().flatten() {
            all.extend(codes(known.get(other.as_str()?.split('|').next()?)?, known, systems)?);
        }
        let Some(system) = include["system"].as_str() else { continue };
        if include["filter"].is_array() {
            return None;
        }
        let mut codes = Vec::new();
        match include["concept"].as_array() {
            Some(concepts) => {
                codes.extend(concepts.iter().filter_map(|c| c["code"].as_str().map(String::from)))
            }
            None => {
                let definition = systems.get(system).filter(|s| s["content"] == "complete")?;
                nested(&definition["concept"], &mut codes);
            }
        }
        all.insert(system.into(), json!(codes));
    }
    (!all.is_empty()).then_some(all)
}

fn nested(concepts: &Value, codes: &mut Vec<String>) {
    for concept in concepts.as_array().into_iter().flatten() {
        codes.extend(concept["code"].as_str().map(String::from));
        nested(&concept["concept"], codes);
    }
}
