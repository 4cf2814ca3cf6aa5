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
    /// By canonical URL; by file, if it has none.
    resources: BTreeMap<String, Resource>,
}

struct Resource {
    file: String,
    /// The folder brought it.
    is_own: bool,
    value: Value,
}

static BUILT_IN: LazyLock<Arc<Conformance>> = LazyLock::new(|| {
    // A test sees to it that all of them can be added.
    Arc::new(Conformance::of(shipped()).unwrap_or_else(|(conformance, _)| *conformance))
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
                    own.insert(key, Resource { file, is_own: true, value });
                }
            }
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        if own.is_empty() {
            return Ok(Self::built_in());
        }
        let mut resources = shipped();
        resources.extend(own);
        Self::of(resources).map(Arc::new).map_err(|(_, mistakes)| mistakes)
    }

    fn of(resources: BTreeMap<String, Resource>) -> Result<Self, (Box<Self>, Vec<Mistake>)> {
        let mut definitions = Definitions::r4();
        let (mut mistakes, mut warnings) = (Vec::new(), Vec::new());
        // In the order that they need each other; ValueSets may name ValueSets.
        let rank = |resource: &Resource| match resource.value["resourceType"].as_str() {
            Some("CodeSystem") => 0,
            Some("ValueSet") if names_value_sets(&resource.value) => 2,
            Some("ValueSet") => 1,
            _ => 3,
        };
        let mut all: Vec<&Resource> = resources.values().collect();
        all.sort_by_key(|resource| rank(resource));
        for resource in all {
            let known = definitions.unchecked().len();
            if let Err(why) = definitions.add(&resource.value) {
                mistakes.push(Mistake::new(&resource.file, "", At::default(), "", why));
            }
            let new = definitions.unchecked().iter().skip(known);
            if resource.is_own {
                warnings.extend(new.map(|what| format!("{}: {what}: this is not checked", resource.file)));
            }
        }
        let own = Self { definitions, warnings, resources };
        if mistakes.is_empty() { Ok(own) } else { Err((Box::new(own), mistakes)) }
    }

    /// The ConceptMap with this URL.
    pub fn concept_map(&self, url: &str) -> Option<&Value> {
        let found = &self.resources.get(url)?.value;
        (found["resourceType"] == "ConceptMap").then_some(found)
    }

    /// How many there are, and how many of them the folder brought.
    pub fn count(&self) -> (usize, usize) {
        (self.resources.len(), self.resources.values().filter(|resource| resource.is_own).count())
    }
}

fn names_value_sets(set: &Value) -> bool {
    set["compose"]["include"].as_array().into_iter().flatten().any(|include| include["valueSet"].is_array())
}

fn shipped() -> BTreeMap<String, Resource> {
    let files = SHIPPED.files().filter(|file| file.path().extension().is_some_and(|e| e == "json"));
    let resources = files.filter_map(|file| {
        let value: Value = serde_json::from_slice(file.contents()).ok()?;
        let shown = format!("fhir-profiles/{}", file.path().display());
        let key = value["url"].as_str().unwrap_or(&shown).to_string();
        Some((key, Resource { file: shown, is_own: false, value }))
    });
    resources.collect()
}

/// What we say of ourselves at `/fhir/metadata`.
pub fn capabilities() -> &'static Value {
    static CAPABILITIES: LazyLock<Value> = LazyLock::new(|| {
        let all = BUILT_IN.resources.values().map(|resource| &resource.value);
        all.into_iter()
            .find(|value| value["resourceType"] == "CapabilityStatement")
            .cloned()
            .unwrap_or_default()
    });
    &CAPABILITIES
}
