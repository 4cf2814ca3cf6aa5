//! Code tables: in the mapping, in a file, a ConceptMap, or the choices of a CHT form.
use super::spec::{CodeSpec, Give, TableSpec, Unmapped};
use fhir_validate::Definitions;
use serde_json::{Value, json};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

#[derive(Clone, PartialEq, Debug)]
pub struct Coding {
    pub system: Option<String>,
    pub code: String,
    pub display: Option<String>,
}

#[derive(Debug)]
pub struct Table {
    pub name: String,
    /// In the order of the table: of several that could be meant, the first counts.
    rows: Vec<(String, Coding)>,
    forward: HashMap<String, usize>,
    back: HashMap<(Option<String>, String), usize>,
    pub unmapped: Unmapped,
    /// The target's codes are more than a code.
    is_coding: bool,
    /// Codes of which only another comes back.
    pub merged: Vec<String>,
}

/// The code is in no row, and that is not taken.
#[derive(Debug, PartialEq)]
pub struct NotThere;

/// What a mapping builds on besides other mappings.
pub trait Files {
    /// The text of a file named in a mapping.
    fn read(&self, name: &str) -> Result<String, String>;
    /// The ConceptMap with this canonical URL.
    fn concept_map(&self, url: &str) -> Option<&Value>;
    /// What R4 and the profiles say of elements.
    fn definitions(&self) -> &Definitions;
}

impl Table {
    /// `order` is that of the codes in the mapping.
    pub fn load(name: &str, spec: &TableSpec, order: &[String], files: &dyn Files) -> Result<Self, String> {
        let codes = match (&spec.codes, &spec.from, &spec.url) {
            (Some(codes), None, None) => in_order(codes, order.iter()),
            (None, Some(file), None) => of_file(file, &files.read(file)?, spec)?,
            (None, None, Some(url)) => {
                let map =
                    files.concept_map(url).ok_or_else(|| format!("no profile is the ConceptMap {url}"))?;
                of_concept_map(map)?
            }
            _ => return Err("expected one of codes, from and url".into()),
        };
        if codes.is_empty() {
            return Err("a table without codes".into());
        }
        Ok(Self::of(name, codes, spec))
    }

    fn of(name: &str, codes: Vec<(String, Coding)>, spec: &TableSpec) -> Self {
        let mut table = Self {
            name: name.into(),
            rows: Vec::new(),
            forward: HashMap::new(),
            back: HashMap::new(),
            unmapped: spec.unmapped.clone(),
            is_coding: false,
            merged: Vec::new(),
        };
        for (from, mut to) in codes {
            to.system = to.system.or_else(|| spec.system.clone());
            table.is_coding |= to.system.is_some() || to.display.is_some();
            let key = (to.system.clone(), to.code.clone());
            match table.back.entry(key) {
                Entry::Occupied(_) => table.merged.push(from.clone()),
                Entry::Vacant(free) => {
                    free.insert(table.rows.len());
                }
            }
            table.forward.entry(from.clone()).or_insert(table.rows.len());
            table.rows.push((from, to));
        }
        table
    }

    /// `Ok(None)`: it is to be left out.
    pub fn out(&self, code: &str, give: Option<Give>) -> Result<Option<Value>, NotThere> {
        let known = self.forward.get(code).and_then(|row| self.rows.get(*row));
        let coding = match (known, &self.unmapped) {
            (Some((_, coding)), _) => coding.clone(),
            (None, Unmapped::Refuse) => return Err(NotThere),
            (None, Unmapped::Omit) => return Ok(None),
            (None, Unmapped::Pass) => Coding { system: None, code: code.into(), display: None },
            (None, Unmapped::Default(code)) => self
                .rows
                .iter()
                .find(|(_, to)| to.code == *code)
                .map(|(_, to)| to.clone())
                .unwrap_or(Coding { system: None, code: code.clone(), display: None }),
        };
        let give = give.unwrap_or(if self.is_coding { Give::Coding } else { Give::Code });
        Ok(Some(match give {
            Give::Code => json!(coding.code),
            Give::Display => json!(coding.display.unwrap_or(coding.code)),
            Give::Coding => coding.json(),
            Give::Concept => {
                let display = coding.display.clone();
                let mut concept = json!({"coding": [coding.json()]});
                if let Some(display) = display {
                    concept["text"] = json!(display);
                }
                concept
            }
        }))
    }

    /// Everything that it can give for the codes that it has.
    pub fn given(&self, give: Option<Give>) -> impl Iterator<Item = Value> {
        self.rows.iter().filter_map(move |(code, _)| self.out(code, give).ok().flatten())
    }

    /// The source's code of what stands in the target.
    pub fn back(&self, value: &Value) -> Result<String, &'static str> {
        let coding = if value["coding"].is_array() { &value["coding"][0] } else { value };
        let (system, code) = match coding {
            Value::String(code) => (None, code.as_str()),
            other => (other["system"].as_str(), other["code"].as_str().ok_or("no code of its table")?),
        };
        let exact = self.back.get(&(system.map(String::from), code.to_string()));
        let known = exact.and_then(|row| self.rows.get(*row)).or_else(|| {
            let alike = |to: &Coding| to.code == code && (system.is_none() || to.system.is_none());
            self.rows.iter().find(|(_, to)| alike(to))
        });
        match known {
            Some((from, _)) => Ok(from.clone()),
            None if self.unmapped == Unmapped::Pass => Ok(code.to_string()),
            None => Err("a code that is not in its table"),
        }
    }

    pub fn loss(&self) -> Option<String> {
        let outside = match &self.unmapped {
            Unmapped::Default(code) => Some(format!("codes outside the table become {code}")),
            Unmapped::Omit => Some("codes outside the table are left out".into()),
            Unmapped::Refuse | Unmapped::Pass => None,
        };
        let merged = (!self.merged.is_empty()).then(|| {
            format!("these come back as another code of the same meaning: {}", self.merged.join(", "))
        });
        let all: Vec<String> = merged.into_iter().chain(outside).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    pub fn codes(&self) -> impl Iterator<Item = &str> {
        self.rows.iter().map(|(from, _)| from.as_str())
    }
}

impl Coding {
    fn json(&self) -> Value {
        let mut coding = serde_json::Map::new();
        coding.extend(self.system.as_ref().map(|system| ("system".to_string(), json!(system))));
        coding.insert("code".into(), json!(self.code));
        coding.extend(self.display.as_ref().map(|display| ("display".to_string(), json!(display))));
        Value::Object(coding)
    }
}

fn coding(spec: &CodeSpec) -> Coding {
    match spec {
        CodeSpec::Code(code) => Coding { system: None, code: code.clone(), display: None },
        CodeSpec::Coding(full) => {
            Coding { system: full.system.clone(), code: full.code.clone(), display: full.display.clone() }
        }
    }
}

fn of_file(name: &str, text: &str, spec: &TableSpec) -> Result<Vec<(String, Coding)>, String> {
    if name.ends_with(".csv") {
        return of_choices(text, spec);
    }
    if name.ends_with(".json") {
        let map: Value = serde_json::from_str(text).map_err(|e| format!("{name}:{}: not JSON", e.line()))?;
        return of_concept_map(&map).map_err(|why| format!("{name}: {why}"));
    }
    let node = super::yaml::parse(text).map_err(|(at, why)| format!("{name}:{}: {why}", at.line))?;
    let codes: BTreeMap<String, CodeSpec> = serde_json::from_value(node.value())
        .map_err(|_| format!("{name}: expected codes, each with its code or {{system, code, display}}"))?;
    Ok(in_order(&codes, node.entries().iter().map(|entry| &entry.key)))
}

/// The first code of several that become one is the one that comes back.
fn in_order<'o>(
    codes: &BTreeMap<String, CodeSpec>,
    order: impl Iterator<Item = &'o String>,
) -> Vec<(String, Coding)> {
    order.filter_map(|from| Some((from.clone(), coding(codes.get(from)?)))).collect()
}

/// <https://hl7.org/fhir/R4/conceptmap.html>; of several targets the first counts.
fn of_concept_map(map: &Value) -> Result<Vec<(String, Coding)>, String> {
    if map["resourceType"] != "ConceptMap" {
        return Err("expected a ConceptMap".into());
    }
    let mut codes = Vec::new();
    for group in map["group"].as_array().into_iter().flatten() {
        for element in group["element"].as_array().into_iter().flatten() {
            let target = &element["target"][0];
            let (Some(from), Some(code)) = (element["code"].as_str(), target["code"].as_str()) else {
                continue;
            };
            if matches!(target["equivalence"].as_str(), Some("unmatched" | "disjoint")) {
                continue;
            }
            let system = group["target"].as_str().map(String::from);
            let display = target["display"].as_str().map(String::from);
            codes.push((from.to_string(), Coding { system, code: code.into(), display }));
        }
    }
    Ok(codes)
}

/// The `choices` sheet of an XLSForm: the code stays, the label in one language is its display.
fn of_choices(text: &str, spec: &TableSpec) -> Result<Vec<(String, Coding)>, String> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let headers = reader.headers().map_err(|e| e.to_string())?.clone();
    let column = |wanted: &str| headers.iter().position(|header| header.trim() == wanted);
    let label = match &spec.language {
        Some(language) => column(&format!("label::{language}")),
        None => column("label").or_else(|| headers.iter().position(|h| h.starts_with("label"))),
    };
    let (Some(list), Some(name), Some(label)) = (column("list_name"), column("name"), label) else {
        return Err("expected the columns list_name, name and label".into());
    };
    let wanted = spec.list.as_deref();
    let mut codes = Vec::new();
    for row in reader.records() {
        let row = row.map_err(|e| e.to_string())?;
        let (Some(of), Some(code)) = (row.get(list), row.get(name)) else { continue };
        if wanted.is_some_and(|wanted| wanted != of.trim()) || code.trim().is_empty() {
            continue;
        }
        let display = row.get(label).map(str::trim).filter(|label| !label.is_empty()).map(String::from);
        let code = code.trim().to_string();
        codes.push((code.clone(), Coding { system: None, code, display }));
    }
    Ok(codes)
}
