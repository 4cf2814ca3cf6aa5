//! StructureDefinitions, compiled to trees of elements.
use crate::invariant::{Check, check_of};
use crate::primitive::Primitive;
use crate::slice::is_understood;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// HL7's definitions, made by `examples/compact.rs`.
const R4: &str = include_str!("../definitions/r4.json");

/// Codes by system; of a plain `code` the system does not count.
#[derive(Debug, Default)]
pub(crate) struct Codes {
    systems: HashMap<String, HashSet<String>>,
}

impl Codes {
    pub(crate) fn has(&self, system: Option<&str>, code: &str) -> bool {
        match system {
            Some(system) => self.systems.get(system).is_some_and(|codes| codes.contains(code)),
            None => self.systems.values().any(|codes| codes.contains(code)),
        }
    }

    pub(crate) fn all(&self) -> Vec<&str> {
        let mut all: Vec<&str> = self.systems.values().flatten().map(String::as_str).collect();
        all.sort_unstable();
        all
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Primitive(Primitive),
    /// Name of a complex datatype.
    Complex(String),
    /// Any resource.
    Resource,
}

#[derive(Debug, Clone)]
pub(crate) struct Type {
    pub code: String,
    pub kind: Kind,
    /// Types, or URLs of profiles, that a Reference may point to; empty: any.
    pub targets: Vec<String>,
    /// Profiles of the type, such as an extension's.
    pub profiles: Vec<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Element {
    /// Without `[x]`.
    pub name: String,
    pub is_choice: bool,
    pub min: u32,
    pub max: Option<u32>,
    pub is_list: bool,
    pub types: Vec<Type>,
    pub children: Vec<Element>,
    /// Path of the element whose children are its own.
    pub content: Option<String>,
    pub binding: Option<Arc<Codes>>,
    pub fixed: Option<Value>,
    pub pattern: Option<Value>,
    pub checks: Vec<(String, Check)>,
    pub slicing: Option<Slicing>,
}

#[derive(Debug, Default)]
pub(crate) struct Slicing {
    /// Kind (`value`, `pattern`, `type`, `exists`, `profile`) and path.
    pub discriminators: Vec<(String, String)>,
    pub is_closed: bool,
    pub slices: Vec<(String, Element)>,
}

/// What may stand at a place, for tools.
#[derive(Clone, PartialEq, Debug)]
pub struct Child {
    /// As it is written: `valueString` for a choice.
    pub name: String,
    pub types: Vec<String>,
    pub min: u32,
    /// `None`: any number.
    pub max: Option<u32>,
    pub is_list: bool,
    /// The codes that may stand there; empty: any.
    pub codes: Vec<String>,
    /// The types that a Reference may point to; empty: any.
    pub targets: Vec<String>,
}

/// Everything that resources are checked against. Share it: making it costs some milliseconds.
pub struct Definitions {
    pub(crate) types: HashMap<String, Element>,
    /// By canonical URL: the type, and its element.
    pub(crate) profiles: BTreeMap<String, (String, Element)>,
    sets: HashMap<String, Arc<Codes>>,
    systems: HashMap<String, HashSet<String>>,
    unknown: Vec<String>,
}

impl Definitions {
    /// HL7's own, of the types that this crate knows.
    pub fn r4() -> Self {
        let base: Value = serde_json::from_str(R4).unwrap_or_default();
        let mut own = Self {
            types: HashMap::new(),
            profiles: BTreeMap::new(),
            sets: HashMap::new(),
            systems: HashMap::new(),
            unknown: Vec::new(),
        };
        for (url, set) in base["valueSets"].as_object().into_iter().flatten() {
            let mut codes = Codes::default();
            for (system, all) in set.as_object().into_iter().flatten() {
                codes.systems.insert(system.clone(), texts(all));
            }
            own.sets.insert(url.clone(), Arc::new(codes));
        }
        for (name, definition) in base["types"].as_object().into_iter().flatten() {
            if let Ok(element) = own.tree(&definition["elements"]) {
                own.types.insert(name.clone(), element);
            }
        }
        own
    }

    /// Adds a profile (with a snapshot), a ValueSet or a CodeSystem; other resources are passed over.
    /// CodeSystems first, then ValueSets, then profiles: [`Definitions::add_all`] sees to it.
    pub fn add(&mut self, resource: &Value) -> Result<(), String> {
        let url = resource["url"].as_str().unwrap_or_default().to_string();
        match resource["resourceType"].as_str() {
            Some("CodeSystem") => {
                let mut codes = HashSet::new();
                nested(&resource["concept"], &mut codes);
                if resource["content"] == "complete" {
                    self.systems.insert(url, codes);
                }
            }
            Some("ValueSet") => {
                if let Some(codes) = self.codes_of(resource) {
                    self.sets.insert(url, Arc::new(codes));
                }
            }
            Some("StructureDefinition") => {
                let kind = resource["type"].as_str().unwrap_or_default().to_string();
                if !resource["snapshot"]["element"].is_array() {
                    return Err(format!(
                        "{url}: a StructureDefinition without a snapshot; make one, such as with `sushi --snapshot`"
                    ));
                }
                if !self.types.contains_key(&kind) {
                    let best = self
                        .types
                        .keys()
                        .map(|known| (strsim::jaro_winkler(&kind, known), known))
                        .max_by(|a, b| a.0.total_cmp(&b.0));
                    let hint = match best {
                        Some((score, known)) if score > 0.85 => format!("; did you mean {known}?"),
                        _ => String::new(),
                    };
                    return Err(format!("{url}: the type {kind} is not known here{hint}"));
                }
                let element =
                    self.tree(&resource["snapshot"]["element"]).map_err(|why| format!("{url}: {why}"))?;
                self.profiles.insert(url, (kind, element));
            }
            _ => {}
        }
        Ok(())
    }

    /// Adds many, in the order that they need each other.
    pub fn add_all<'v>(&mut self, resources: impl IntoIterator<Item = &'v Value>) -> Result<(), Vec<String>> {
        let mut all: Vec<&Value> = resources.into_iter().collect();
        all.sort_by_key(|resource| match resource["resourceType"].as_str() {
            Some("CodeSystem") => 0,
            Some("ValueSet") => 1,
            _ => 2,
        });
        let wrong: Vec<String> = all.into_iter().filter_map(|resource| self.add(resource).err()).collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    /// The type of resource that a profile is of, if the profile is known.
    pub fn type_of(&self, profile: &str) -> Option<&str> {
        self.profiles.get(profile).map(|(kind, _)| kind.as_str())
    }

    /// Canonical URLs of the profiles that were added.
    pub fn profiles(&self) -> impl Iterator<Item = &str> {
        self.profiles.keys().map(String::as_str)
    }

    /// What is not checked, because nobody has taught it to this crate: keys of constraints, and
    /// slices that are told apart in other ways.
    pub fn unchecked(&self) -> &[String] {
        &self.unknown
    }

    pub fn is_known(&self, resource_type: &str) -> bool {
        self.types
            .get(resource_type)
            .is_some_and(|element| element.children.iter().any(|child| child.name == "contained"))
            || resource_type == "Bundle"
    }

    /// What may stand below a path such as `Patient.name`; `None` if it is no object there.
    pub fn children(&self, path: &str) -> Option<Vec<Child>> {
        let mut steps = path.split('.');
        let mut element = self.types.get(steps.next()?)?;
        for step in steps {
            let (child, kind) = find(self.children_of(element, None)?, step)?;
            element = match self.children_of(child, kind) {
                Some(_) if !child.children.is_empty() || child.content.is_some() => child,
                _ => self.types.get(&kind?.code)?,
            };
        }
        let mut all = Vec::new();
        for child in self.children_of(element, None)? {
            let codes =
                child.binding.as_ref().map(|codes| codes.all().into_iter().map(String::from).collect());
            let of = |name: String, types: &[Type]| Child {
                name,
                types: types.iter().map(|t| t.code.clone()).collect(),
                targets: types.iter().flat_map(|t| self.targets_of(t)).map(String::from).collect(),
                min: child.min,
                max: child.max,
                is_list: child.is_list,
                codes: codes.clone().unwrap_or_default(),
            };
            match child.is_choice {
                true => all.extend(
                    child
                        .types
                        .iter()
                        .map(|t| of(choice_name(&child.name, &t.code), std::slice::from_ref(t))),
                ),
                false => all.push(of(child.name.clone(), &child.types)),
            }
        }
        Some(all)
    }

    /// The types that a Reference may point to; empty: any, or none that is known.
    pub(crate) fn targets_of<'d>(&'d self, kind: &'d Type) -> Vec<&'d str> {
        let of = |target: &'d String| match target.contains('/') {
            true => self.type_of(target),
            false => Some(target.as_str()).filter(|target| *target != "Resource"),
        };
        kind.targets.iter().map(of).collect::<Option<_>>().unwrap_or_default()
    }

    /// The elements below one: its own, those that it refers to, or those of its type.
    pub(crate) fn children_of<'d>(
        &'d self,
        element: &'d Element,
        kind: Option<&'d Type>,
    ) -> Option<&'d [Element]> {
        if !element.children.is_empty() {
            return Some(&element.children);
        }
        if let Some(path) = &element.content {
            let mut steps = path.split('.');
            let mut here = self.types.get(steps.next()?)?;
            for step in steps {
                here = here.children.iter().find(|child| child.name == step)?;
            }
            return Some(&here.children);
        }
        match &kind.or(element.types.first())?.kind {
            Kind::Complex(name) => self.types.get(name).map(|element| element.children.as_slice()),
            _ => None,
        }
    }

    fn codes_of(&self, set: &Value) -> Option<Codes> {
        let mut codes = Codes::default();
        for include in set["compose"]["include"].as_array()? {
            for other in include["valueSet"].as_array().into_iter().flatten() {
                let known = self.sets.get(other.as_str()?.split('|').next()?)?;
                for (system, all) in &known.systems {
                    codes.systems.entry(system.clone()).or_default().extend(all.iter().cloned());
                }
            }
            let Some(system) = include["system"].as_str() else { continue };
            if include["filter"].is_array() {
                return None;
            }
            let all = match include["concept"].as_array() {
                Some(concepts) => {
                    concepts.iter().filter_map(|c| c["code"].as_str().map(String::from)).collect()
                }
                None => self.systems.get(system)?.clone(),
            };
            codes.systems.entry(system.into()).or_default().extend(all);
        }
        (!codes.systems.is_empty()).then_some(codes)
    }

    fn tree(&mut self, elements: &Value) -> Result<Element, String> {
        let mut all = elements.as_array().into_iter().flatten();
        let mut root = self.element(all.next().ok_or("no elements")?);
        for element in all {
            // `Patient.identifier:uuid.system` in snapshots; only the path in HL7's base.
            let id = element["id"].as_str().or(element["path"].as_str()).unwrap_or_default();
            let made = self.element(element);
            place(&mut root, &id.split('.').skip(1).collect::<Vec<_>>(), made);
        }
        // R4's definitions call the id of a resource a string.
        let is_resource = root.children.iter().any(|child| child.name == "implicitRules");
        if let Some(id) = root.children.iter_mut().find(|child| is_resource && child.name == "id") {
            id.types = vec![kind_of(&serde_json::json!({"code": "id"}))];
        }
        Ok(root)
    }

    fn element(&mut self, definition: &Value) -> Element {
        let path = definition["path"].as_str().unwrap_or_default();
        let last = path.rsplit('.').next().unwrap_or_default();
        let max = |value: &Value| value.as_str().and_then(|max| max.parse().ok());
        let base = if definition["base"]["max"].is_string() {
            &definition["base"]["max"]
        } else {
            &definition["max"]
        };
        let starting = |prefix: &str| {
            let mut fields = definition.as_object().into_iter().flatten();
            fields.find(|(key, _)| key.starts_with(prefix)).map(|(_, value)| value.clone())
        };
        let binding = (definition["binding"]["strength"] == "required")
            .then(|| definition["binding"]["valueSet"].as_str()?.split('|').next())
            .flatten()
            .and_then(|url| self.sets.get(url).cloned());
        let slicing = definition["slicing"].is_object().then(|| Slicing {
            discriminators: definition["slicing"]["discriminator"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|d| Some((d["type"].as_str()?.to_string(), d["path"].as_str()?.to_string())))
                .collect(),
            is_closed: definition["slicing"]["rules"] == "closed",
            slices: Vec::new(),
        });
        for (kind, by) in slicing.iter().flat_map(|slicing: &Slicing| &slicing.discriminators) {
            let what = format!("slices of {path} by {kind} of {by}");
            if !is_understood(kind, by) && !self.unknown.contains(&what) {
                self.unknown.push(what);
            }
        }
        let mut checks = Vec::new();
        for key in definition["constraint"].as_array().into_iter().flatten().filter_map(|c| c["key"].as_str())
        {
            match check_of(key) {
                Some(check) => checks.push((key.to_string(), check)),
                None if matches!(key, "ele-1" | "ext-1" | "dom-6") => {}
                None if self.unknown.iter().any(|known| known == key) => {}
                None => self.unknown.push(key.into()),
            }
        }
        Element {
            name: last.trim_end_matches("[x]").into(),
            is_choice: last.ends_with("[x]"),
            min: definition["min"].as_u64().unwrap_or(0) as u32,
            max: max(&definition["max"]),
            is_list: max(base) != Some(1) && max(base) != Some(0),
            types: definition["type"].as_array().into_iter().flatten().map(kind_of).collect(),
            children: Vec::new(),
            content: definition["contentReference"].as_str().map(|r| r.trim_start_matches('#').to_string()),
            binding,
            fixed: starting("fixed"),
            pattern: starting("pattern"),
            checks,
            slicing,
        }
    }
}

fn kind_of(definition: &Value) -> Type {
    let code = definition["code"].as_str().unwrap_or_default();
    let fhir = definition["extension"][0]["valueUrl"].as_str();
    let code = if code.starts_with("http://hl7.org/fhirpath/") { fhir.unwrap_or("string") } else { code };
    let last = |key: &str| -> Vec<String> {
        let all = definition[key].as_array().into_iter().flatten().filter_map(Value::as_str);
        all.map(String::from).collect()
    };
    // A type's name, or the URL of a profile, which may not be known yet.
    let targets = last("targetProfile")
        .iter()
        .map(|url| url.strip_prefix("http://hl7.org/fhir/StructureDefinition/").unwrap_or(url))
        .map(|url| url.split('|').next().unwrap_or(url).to_string())
        .collect();
    let kind = match Primitive::of(code) {
        Some(primitive) => Kind::Primitive(primitive),
        None if matches!(code, "Resource" | "DomainResource") => Kind::Resource,
        None => Kind::Complex(code.into()),
    };
    Type { code: code.into(), kind, targets, profiles: last("profile") }
}

/// Puts an element where its id says; what is below a slice goes into the slice.
fn place(root: &mut Element, steps: &[&str], made: Element) {
    let Some((first, rest)) = steps.split_first() else { return };
    let (name, slice) = first.split_once(':').map_or((*first, None), |(name, slice)| (name, Some(slice)));
    let name = name.trim_end_matches("[x]");
    let Some(index) = root.children.iter().position(|child| child.name == name) else {
        if rest.is_empty() {
            root.children.push(made);
        }
        return;
    };
    let child = &mut root.children[index];
    let Some(slice) = slice else { return place(child, rest, made) };
    let slicing = child.slicing.get_or_insert_default();
    match slicing.slices.iter_mut().find(|(own, _)| own == slice) {
        Some((_, known)) => place(known, rest, made),
        None if rest.is_empty() => slicing.slices.push((slice.to_string(), made)),
        None => {}
    }
}

/// The child of this name, and its type where the name says it.
pub(crate) fn find<'d>(children: &'d [Element], name: &str) -> Option<(&'d Element, Option<&'d Type>)> {
    children.iter().find_map(|child| match child.is_choice {
        false => (child.name == name).then_some((child, child.types.first())),
        true => {
            let suffix = name.strip_prefix(child.name.as_str())?;
            let kind = child.types.iter().find(|t| capitalised(&t.code) == suffix)?;
            Some((child, Some(kind)))
        }
    })
}

pub(crate) fn choice_name(name: &str, code: &str) -> String {
    format!("{name}{}", capitalised(code))
}

fn capitalised(code: &str) -> String {
    let mut letters = code.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn texts(value: &Value) -> HashSet<String> {
    value.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(String::from)).collect()
}

fn nested(concepts: &Value, codes: &mut HashSet<String>) {
    for concept in concepts.as_array().into_iter().flatten() {
        codes.extend(concept["code"].as_str().map(String::from));
        nested(&concept["concept"], codes);
    }
}
