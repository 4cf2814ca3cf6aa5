//! FHIR's conformance resources in force: those that are shipped, and over them those of a folder.
use super::language::mistake::{At, Mistake};
use arc_swap::ArcSwap;
use fhir_validate::Definitions;
use include_dir::{Dir, include_dir};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};

static SHIPPED: Dir = include_dir!("$CARGO_MANIFEST_DIR/fhir-profiles");

pub struct Conformance {
    pub definitions: Definitions,
    /// What of the folder's is not checked, and where.
    pub warnings: Vec<String>,
    /// Those that are read again, by canonical URL. Profiles are in the definitions, and large.
    kept: BTreeMap<String, Value>,
    count: usize,
    own: usize,
}

struct Resource {
    file: String,
    value: Value,
}

static BUILT_IN: LazyLock<Arc<Conformance>> = LazyLock::new(|| {
    // A test sees to it that all of them can be added.
    Arc::new(Conformance::of(BTreeMap::new()).unwrap_or_else(|(conformance, _)| *conformance))
});

/// What the door judges by. A reload takes its place.
static IN_FORCE: LazyLock<ArcSwap<Conformance>> = LazyLock::new(|| ArcSwap::new(BUILT_IN.clone()));

pub(super) fn in_force() -> Arc<Conformance> {
    IN_FORCE.load_full()
}

pub(super) fn adopt(conformance: Arc<Conformance>) {
    IN_FORCE.store(conformance);
}

impl Conformance {
    pub fn built_in() -> Arc<Self> {
        BUILT_IN.clone()
    }

    /// The shipped ones, and the files of `folder` over them: one of the same URL takes its place. If
    /// the folder is not there, the shipped ones alone.
    pub fn load(folder: &Path) -> Result<Arc<Self>, Vec<Mistake>> {
        if folder.as_os_str().is_empty() || !folder.is_dir() {
            return Ok(Self::built_in());
        }
        let mut own: BTreeMap<String, Resource> = BTreeMap::new();
        let mut mistakes = Vec::new();
        let fail = |file: &str, why: String| Mistake::new(file, "", At::default(), "", why);
        let files = std::fs::read_dir(folder)
            .map_err(|e| vec![fail(&folder.display().to_string(), format!("cannot be read: {e}"))])?;
        for path in files.flatten().map(|file| file.path()) {
            if path.extension().is_none_or(|e| e != "json") {
                continue;
            }
            let file = path.display().to_string();
            let bytes = match std::fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) => {
                    mistakes.push(fail(&file, format!("cannot be read: {error}")));
                    continue;
                }
            };
            let shipped = path.file_name().and_then(|name| SHIPPED.get_file(name));
            if shipped.is_some_and(|shipped| shipped.contents() == bytes) {
                continue;
            }
            match serde_json::from_slice::<Value>(&bytes) {
                Err(error) => {
                    let at = At { line: error.line() as u32, column: error.column() as u32 };
                    mistakes.push(Mistake::new(&file, &String::from_utf8_lossy(&bytes), at, "", "not JSON"));
                }
                Ok(value) if value["resourceType"].as_str().is_none() => {
                    mistakes.push(fail(&file, "expected a FHIR resource: resourceType is missing".into()));
                }
                Ok(value) => {
                    let key = value["url"].as_str().unwrap_or(&file).to_string();
                    if let Some(known) = own.get(&key) {
                        mistakes.push(fail(&file, format!("{} has the same url", known.file)));
                    }
                    own.insert(key, Resource { file, value });
                }
            }
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        if own.is_empty() {
            return Ok(Self::built_in());
        }
        Self::of(own).map(Arc::new).map_err(|(_, mistakes)| mistakes)
    }

    /// The shipped ones, with these over them.
    fn of(own: BTreeMap<String, Resource>) -> Result<Self, (Box<Self>, Vec<Mistake>)> {
        let definitions = Definitions::r4();
        let mut made =
            Self { definitions, warnings: Vec::new(), kept: BTreeMap::new(), count: 0, own: own.len() };
        let mut mistakes = Vec::new();
        // In the order that they need each other. Those that are shipped are read one at a time, and let go.
        for rank in 0..=LAST {
            for resource in shipped(rank).filter(|resource| !own.contains_key(resource.key())) {
                made.add(&resource, false, &mut mistakes);
            }
            for resource in own.values().filter(|resource| rank_of(&resource.value) == rank) {
                made.add(resource, true, &mut mistakes);
            }
        }
        if mistakes.is_empty() { Ok(made) } else { Err((Box::new(made), mistakes)) }
    }

    fn add(&mut self, resource: &Resource, is_own: bool, mistakes: &mut Vec<Mistake>) {
        self.count += 1;
        let known = self.definitions.unchecked().len();
        if let Err(why) = self.definitions.add(&resource.value) {
            mistakes.push(Mistake::new(&resource.file, "", At::default(), "", why));
        }
        let new = self.definitions.unchecked().iter().skip(known);
        if is_own {
            self.warnings.extend(new.map(|what| format!("{}: {what}: this is not checked", resource.file)));
        }
        if let Some("ConceptMap" | "CapabilityStatement") = resource.value["resourceType"].as_str() {
            self.kept.insert(resource.key().to_string(), resource.value.clone());
        }
    }

    /// The ConceptMap with this URL.
    pub fn concept_map(&self, url: &str) -> Option<&Value> {
        self.kept.get(url).filter(|found| found["resourceType"] == "ConceptMap")
    }

    /// How many there are, and how many of them the folder brought.
    pub fn count(&self) -> (usize, usize) {
        (self.count, self.own)
    }
}

impl Resource {
    /// Its canonical URL; its file, if it has none.
    fn key(&self) -> &str {
        self.value["url"].as_str().unwrap_or(&self.file)
    }
}

const LAST: u8 = 3;

/// ValueSets may name ValueSets.
fn rank_of(resource: &Value) -> u8 {
    match resource["resourceType"].as_str() {
        Some("CodeSystem") => 0,
        Some("ValueSet") if names_value_sets(resource) => 2,
        Some("ValueSet") => 1,
        _ => LAST,
    }
}

fn names_value_sets(set: &Value) -> bool {
    set["compose"]["include"].as_array().into_iter().flatten().any(|include| include["valueSet"].is_array())
}

/// Those of a rank. SUSHI begins a file's name with the type.
fn shipped(rank: u8) -> impl Iterator<Item = Resource> {
    let files = SHIPPED.files().filter(move |file| {
        let name = file.path().to_string_lossy();
        let is_early = name.starts_with("CodeSystem-") || name.starts_with("ValueSet-");
        name.ends_with(".json") && is_early == (rank < LAST)
    });
    let resources = files.filter_map(|file| {
        let value: Value = serde_json::from_slice(file.contents()).ok()?;
        Some(Resource { file: format!("fhir-profiles/{}", file.path().display()), value })
    });
    resources.filter(move |resource| rank_of(&resource.value) == rank)
}

/// What we say of ourselves at `/fhir/metadata`.
pub fn capabilities() -> &'static Value {
    static CAPABILITIES: LazyLock<Value> = LazyLock::new(|| {
        let is_it = |value: &&Value| value["resourceType"] == "CapabilityStatement";
        BUILT_IN.kept.values().find(is_it).cloned().unwrap_or_default()
    });
    &CAPABILITIES
}
