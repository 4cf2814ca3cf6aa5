//! Every mapping that is in force: the built-in ones, and over them those of a folder.
use super::conformance::Conformance;
use super::language::codec::Around;
use super::language::compile::{All, Compiled, compile, read};
use super::language::eval::{Inputs, holds};
use super::language::mistake::Mistake;
use super::language::table::Files;
use super::language::tree::Origin;
use super::{Refusal, refusal_of};
use fhir_validate::Definitions;
use include_dir::{Dir, include_dir};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

static BUILT_IN: Dir = include_dir!("$CARGO_MANIFEST_DIR/mediator-config/mappings");

pub struct Set {
    mappings: BTreeMap<String, Compiled>,
    /// First twelve digits of the SHA-256 of all that makes a mapping what it is.
    versions: BTreeMap<String, String>,
    /// Names of those that a folder brought.
    pub own: Vec<String>,
    folder: Option<PathBuf>,
    /// Text by file as shown, for errors.
    texts: BTreeMap<String, String>,
    /// By which what is made is judged.
    pub conformance: Arc<Conformance>,
}

/// A file of a set: what it is called in errors, and its text.
struct Source {
    shown: String,
    text: String,
}

impl Set {
    /// The built-in mappings, and the files of `folder` over them: one of the same name takes its place.
    pub fn load(folder: Option<&Path>, conformance: Arc<Conformance>) -> Result<Self, Vec<Mistake>> {
        let (sources, own) = sources(folder)?;
        let mut mistakes = Vec::new();
        let mut all = All::new();
        for (name, source) in &sources {
            match read(&source.shown, name, &source.text) {
                Ok(parsed) => {
                    all.insert(name.clone(), parsed);
                }
                Err(found) => mistakes.extend(found),
            }
        }
        let files = Beside { folder: folder.map(Path::to_path_buf), conformance: conformance.clone() };
        let mut mappings = BTreeMap::new();
        for (name, parsed) in all.iter().filter(|(_, parsed)| !parsed.spec.disabled) {
            // What builds on a file that cannot be read is not to blame for it.
            if reached(name, &all).iter().any(|other| sources.contains_key(other) && !all.contains_key(other))
            {
                continue;
            }
            match compile(parsed, &all, &files) {
                Ok(compiled) => {
                    mappings.insert(name.clone(), compiled);
                }
                // A mistake in what several include is told once.
                Err(found) => found.into_iter().for_each(|mistake| {
                    if !mistakes.contains(&mistake) {
                        mistakes.push(mistake);
                    }
                }),
            }
        }
        if !mistakes.is_empty() {
            mistakes.sort_by(|a, b| (&a.file, a.at).cmp(&(&b.file, b.at)));
            return Err(mistakes);
        }
        let versions = mappings.keys().map(|name| (name.clone(), version(name, &all, &files))).collect();
        let texts = sources.into_values().map(|source| (source.shown, source.text)).collect();
        Ok(Self { mappings, versions, own, folder: folder.map(Path::to_path_buf), texts, conformance })
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.mappings.keys().map(String::as_str)
    }

    pub fn all(&self) -> impl Iterator<Item = &Compiled> {
        self.mappings.values()
    }

    pub fn get(&self, name: &str) -> Option<&Compiled> {
        self.mappings.get(name)
    }

    /// Every case: mapping, file, text. A mapping's cases are where it is.
    pub fn case_files(&self) -> Vec<(String, String, String)> {
        let mut found = Vec::new();
        for name in self.mappings.keys() {
            let cases = format!("{name}.cases");
            match self.folder.as_ref().filter(|_| self.own.contains(name)) {
                Some(folder) => {
                    let files = std::fs::read_dir(folder.join(cases)).into_iter().flatten().flatten();
                    let files = files.map(|file| file.path()).filter(|path| is_case(path));
                    found.extend(files.map(|path| {
                        let text = text_of(&path).unwrap_or_default();
                        (name.clone(), path.display().to_string(), text)
                    }));
                }
                None => found.extend(built_in_cases(name)),
            }
        }
        found.sort();
        found
    }

    /// The cases of every mapping that is built in, in force or not: what the routes bring.
    pub fn specimens() -> Vec<(String, String, String)> {
        let files = BUILT_IN.files().filter_map(|file| file.path().file_stem());
        files.flat_map(|stem| built_in_cases(&stem.to_string_lossy())).collect()
    }

    /// What is wrong at a rule.
    pub fn mistake(&self, origin: &Origin, key: &str, message: &str) -> Mistake {
        let text = self.texts.get(&*origin.file).map(String::as_str).unwrap_or_default();
        Mistake::new(&origin.file, text, origin.at, key, message)
    }

    pub fn version(&self, name: &str) -> &str {
        self.versions.get(name).map(String::as_str).unwrap_or_default()
    }

    /// Every mapping that serves a message; fallbacks only where there is no other.
    pub fn claims(&self, inputs: Inputs, around: Around) -> Result<Vec<&Compiled>, Refusal> {
        let mut found: Vec<&Compiled> = Vec::new();
        for fallback in [false, true] {
            for mapping in self.mappings.values().filter(|mapping| mapping.fallback == fallback) {
                let Some(when) = &mapping.when else { continue };
                if holds(when, inputs, around).map_err(|failure| refusal_of(*failure))? {
                    found.push(mapping);
                }
            }
            let all = found.clone();
            found.retain(|mapping| {
                let gives_way = |other: &&Compiled| {
                    mapping.after.contains(&other.name) || other.before.contains(&mapping.name)
                };
                !all.iter().any(gives_way)
            });
            if !found.is_empty() {
                break;
            }
        }
        Ok(found)
    }
}

fn built_in_cases(name: &str) -> Vec<(String, String, String)> {
    let folder = BUILT_IN.get_dir(format!("{name}.cases"));
    let files = folder.into_iter().flat_map(Dir::files).filter(|file| is_case(file.path()));
    let case = |file: &include_dir::File| {
        let shown = format!("mediator-config/mappings/{}", file.path().display());
        (name.to_string(), shown, file.contents_utf8().unwrap_or_default().to_string())
    };
    files.map(case).collect()
}

/// The files by mapping name, and the names of those that the folder brought.
type Sources = (BTreeMap<String, Source>, Vec<String>);

fn is_case(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "json" || e == "yaml")
}

fn sources(folder: Option<&Path>) -> Result<Sources, Vec<Mistake>> {
    let mut sources: BTreeMap<String, Source> = BUILT_IN
        .files()
        .filter(|file| file.path().extension().is_some_and(|e| e == "yaml"))
        .filter_map(|file| {
            let name = file.path().file_stem()?.to_string_lossy().into_owned();
            let shown = format!("mediator-config/mappings/{name}.yaml");
            Some((name, Source { shown, text: file.contents_utf8()?.to_string() }))
        })
        .collect();
    let Some(folder) = folder else { return Ok((sources, Vec::new())) };
    let fail = |file: &Path, why: String| {
        vec![Mistake::new(&file.display().to_string(), "", Default::default(), "", why)]
    };
    let mut own = Vec::new();
    let entries = std::fs::read_dir(folder).map_err(|e| fail(folder, format!("cannot be read: {e}")))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.extension().is_none_or(|e| e != "yaml" && e != "yml") {
            continue;
        }
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let text = text_of(&path).map_err(|e| fail(&path, format!("cannot be read: {e}")))?;
        own.push(name.clone());
        sources.insert(name, Source { shown: path.display().to_string(), text });
    }
    own.sort();
    Ok((sources, own))
}

/// What a mapping's file may have.
const LARGEST: u64 = 16 << 20;

/// A file's text. A pipe or a device would be read for ever.
fn text_of(path: &Path) -> std::io::Result<String> {
    let about = std::fs::metadata(path)?;
    match about.is_file() && about.len() <= LARGEST {
        true => std::fs::read_to_string(path),
        false => Err(std::io::Error::other(format!("expected a file of at most {} MB", LARGEST >> 20))),
    }
}

/// Files that a mapping names, beside it in the folder or built in.
struct Beside {
    folder: Option<PathBuf>,
    conformance: Arc<Conformance>,
}

impl Files for Beside {
    fn read(&self, name: &str) -> Result<String, String> {
        let path = Path::new(name);
        let inside = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if !inside {
            return Err(format!("{name}: expected a file below the folder of the mappings"));
        }
        if let Some(text) = self.folder.as_ref().and_then(|folder| text_of(&folder.join(path)).ok()) {
            return Ok(text);
        }
        let built_in = BUILT_IN.get_file(path).and_then(|file| file.contents_utf8());
        built_in.map(String::from).ok_or_else(|| format!("{name}: there is no such file beside the mappings"))
    }

    fn concept_map(&self, url: &str) -> Option<&Value> {
        self.conformance.concept_map(url)
    }

    fn definitions(&self) -> &Definitions {
        &self.conformance.definitions
    }
}

/// What `include`, `fragment` and tables bring belongs to a mapping's version.
fn version(name: &str, all: &All, files: &dyn Files) -> String {
    let mut hash = Sha256::new();
    for parsed in reached(name, all).iter().filter_map(|name| all.get(name)) {
        hash.update(parsed.text.as_bytes());
        for table in parsed.spec.tables.values() {
            let text = table.from.as_ref().and_then(|file| files.read(file).ok());
            hash.update(text.unwrap_or_default().as_bytes());
            let map = table.url.as_ref().and_then(|url| files.concept_map(url));
            hash.update(map.map(|map| map.to_string()).unwrap_or_default().as_bytes());
        }
    }
    hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// A mapping and all that it is made of.
fn reached(name: &str, all: &All) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    let mut open = vec![name.to_string()];
    while let Some(name) = open.pop() {
        if seen.contains(&name) {
            continue;
        }
        if let Some(parsed) = all.get(&name) {
            named(&parsed.node, &mut open);
        }
        seen.push(name);
    }
    seen
}

/// Mappings that a file names by `include` and `fragment`.
fn named(node: &super::language::yaml::Node, found: &mut Vec<String>) {
    for entry in node.entries() {
        match (entry.key.as_str(), entry.node.text()) {
            ("include", Some(name)) => found.push(name.into()),
            ("fragment", Some(name)) => found.push(name.split('.').next().unwrap_or_default().into()),
            _ => named(&entry.node, found),
        }
    }
    node.items().iter().for_each(|item| named(item, found));
}
