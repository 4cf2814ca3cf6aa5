//! What a message means. Pure: no clock, no network, no store.
//!
//! The corridor knows this door only; behind it stands one file a kind of message.
mod drop_in;
mod guess;
mod inbound;
pub mod language;
mod meaning;
mod preview;
mod referral_update;
mod set;
mod shape;
mod store;
mod values;

pub use guess::guess_route;
pub use set::Set;
pub use shape::{TYPES, check_fhir, is_url_of};

use crate::config;
use crate::domain::follow_up::{Draft, Meaning};
use crate::domain::identifier::Identifier;
use crate::domain::message::Route;
use arc_swap::ArcSwap;
use inbound::{Around, Door};
use language::codec;
use language::compile::Compiled;
use language::eval::{self, Inputs, Output, Traced};
use language::mistake::Mistake;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;

/// A journaled message, to be translated.
pub struct Source<'a> {
    pub route: &'a Route,
    pub body: &'a Value,
    /// Milliseconds since 1970 at which it was received.
    pub received: i64,
}

/// What one entry of a message means. A message that is no Bundle has one part.
pub struct Part {
    /// Index in `Bundle.entry` of the entry that the caller is answered for.
    pub entry: Option<usize>,
    pub meaning: Meaning,
}

pub struct Translated {
    /// The mapping that claimed the message; for a Bundle, those of its parts, joined by `+`.
    pub mapping: String,
    pub parts: Vec<Part>,
}

/// Why a message cannot be translated, in words for whoever sent or mapped it.
/// `message` names elements and codes, never a patient's data.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct Refusal {
    /// FHIRPath or document path of the element: `ServiceRequest.subject`, `doc.fields.patient_id`.
    pub path: String,
    /// IssueType code (<https://hl7.org/fhir/R4/valueset-issue-type.html>).
    pub code: &'static str,
    /// What was expected; of a mapping's rule, with its file and line.
    pub message: String,
}

fn refusal_of(failure: eval::Failure) -> Refusal {
    let at = failure.origin.at;
    let message = format!("{} ({}:{}:{})", failure.message, failure.origin.file, at.line, at.column);
    Refusal { path: failure.path, code: failure.code, message }
}

fn required(path: &str, message: &str) -> Refusal {
    Refusal { path: path.into(), code: "required", message: message.into() }
}

/// A document lacks what the mapping needs.
fn missing(path: &str) -> Refusal {
    required(path, "missing or empty")
}

/// What is done in Rust, because it keeps what came instead of mapping it.
const BUILT_IN: &[&str] = &["drop-in", "store"];

/// The mappings in force. Reloading takes the place of all of them at once.
pub struct Mappings {
    settings: config::Translate,
    set: ArcSwap<Set>,
}

impl Mappings {
    pub fn new(settings: &config::Translate) -> Result<Self, Vec<Mistake>> {
        let set = Set::load(folder(settings).as_deref())?;
        Ok(Self { settings: settings.clone(), set: ArcSwap::from_pointee(set) })
    }

    pub fn set(&self) -> Arc<Set> {
        self.set.load_full()
    }

    /// Mappings that a message can be translated by, by name.
    pub fn all_names(&self) -> Vec<String> {
        let set = self.set();
        set.names().chain(BUILT_IN.iter().copied()).map(String::from).collect()
    }

    /// By the mapping of this name, else by the one that claims the message. Every resource that is
    /// made passes the typed gate.
    pub fn translate(&self, source: &Source, mapping: Option<&str>) -> Result<Translated, Refusal> {
        self.explain(source, mapping, false).map(|(translated, _)| translated)
    }

    /// The same, with where each element came from if `trace` asks for it.
    pub fn explain(
        &self,
        source: &Source,
        mapping: Option<&str>,
        trace: bool,
    ) -> Result<(Translated, Vec<Traced>), Refusal> {
        if !source.body.is_object() {
            let message = "expected a JSON object".to_string();
            return Err(Refusal { path: String::new(), code: "structure", message });
        }
        let set = self.set();
        let mut work = Translation {
            settings: &self.settings,
            set: &set,
            source,
            wanted: mapping,
            trace: trace.then(Vec::new),
        };
        let translated = match source.route {
            Route::ChtPush(name) => work.document(mapping.or(name.as_deref())),
            _ if mapping.is_some_and(|name| set.get(name).is_some_and(|m| m.record.is_none())) => {
                work.document(mapping)
            }
            Route::ChtPatient | Route::ChtPatientIds | Route::ChtEncounter => work.document(None),
            Route::DropIn(kind) if kind == "Encounter" => work.document(None),
            Route::DropIn(kind) => one("drop-in", drop_in::resource(kind, source.body)?),
            Route::ServiceRequest => work.request(),
            Route::Fhir(kind) if kind.is_empty() => work.bundle(),
            Route::Fhir(kind) if kind == "Practitioner" => {
                one("drop-in", drop_in::resource(kind, source.body)?)
            }
            Route::Fhir(_) | Route::Poll(_) => {
                let around = Around(Vec::new());
                work.resource(source.body, None, &around).map(|(mapping, meaning)| Translated {
                    mapping,
                    parts: vec![Part { entry: None, meaning }],
                })
            }
        }?;
        if let Some(wanted) = mapping
            && !translated.mapping.split('+').any(|name| name == wanted)
        {
            return Err(work.unknown(wanted));
        }
        gate(&translated)?;
        Ok((translated, work.trace.unwrap_or_default()))
    }

    /// What `translate` prints: one FHIR resource or Bundle, or one CHT record.
    pub fn preview(&self, translated: &Translated) -> Value {
        preview::preview(translated)
    }
}

/// The folder of the settings, if it is there: a fresh installation has none.
fn folder(settings: &config::Translate) -> Option<PathBuf> {
    Some(settings.mappings.clone()).filter(|folder| !folder.as_os_str().is_empty() && folder.is_dir())
}

/// One message on its way.
struct Translation<'a> {
    settings: &'a config::Translate,
    set: &'a Set,
    source: &'a Source<'a>,
    wanted: Option<&'a str>,
    trace: Option<Vec<Traced>>,
}

impl<'a> Translation<'a> {
    /// A CHT document, or a body with a route of its own.
    fn document(&mut self, mapping: Option<&str>) -> Result<Translated, Refusal> {
        let (body, received) = (self.source.body, self.source.received);
        let message = json!({"route": served(self.source.route), "kind": "push", "received": received});
        let inputs = Inputs::default().with("doc", &body["doc"]).with("body", body).with("message", &message);
        let set: &'a Set = self.set;
        let mapping = match mapping {
            Some(name) => set.get(name).ok_or_else(|| self.unknown(name))?,
            None => match self.claim(inputs)? {
                Some(mapping) => mapping,
                None => return ignored(unclaimed(&body["doc"])),
            },
        };
        if !body["doc"].is_object() && matches!(self.source.route, Route::ChtPush(_)) {
            return Err(missing("doc"));
        }
        let output = self.apply(mapping, inputs)?;
        let meaning = meaning::of_resources(mapping, output)?;
        Ok(Translated { mapping: mapping.name.clone(), parts: vec![Part { entry: None, meaning }] })
    }

    /// The one mapping that serves a message. Two are a mistake in the configuration.
    fn claim(&self, inputs: Inputs) -> Result<Option<&'a Compiled>, Refusal> {
        let set: &'a Set = self.set;
        let claims = set.claims(inputs, &self.settings.default_country, self.source.received)?;
        match claims.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(one)),
            several => {
                let names: Vec<&str> = several.iter().map(|mapping| mapping.name.as_str()).collect();
                let message = format!(
                    "several mappings serve this message: {}; their `when` must tell them apart",
                    names.join(", ")
                );
                Err(Refusal { path: String::new(), code: "conflict", message })
            }
        }
    }

    fn apply<'m>(&mut self, mapping: &'m Compiled, inputs: Inputs) -> Result<Output<'m>, Refusal> {
        let around =
            codec::Around { default_country: &self.settings.default_country, received: self.source.received };
        let mut output = eval::apply(mapping, inputs, around, self.trace.is_some())
            .map_err(|failure| refusal_of(*failure))?;
        if let Some(trace) = &mut self.trace {
            trace.append(&mut output.trace);
        }
        Ok(output)
    }

    /// The CHT record that a request or news becomes.
    fn record(&mut self, inputs: Inputs) -> Result<(String, crate::domain::record::RecordDraft), Refusal> {
        let set: &'a Set = self.set;
        let refused = |message: String| Refusal { path: String::new(), code: "not-supported", message };
        let mapping = match self.wanted.and_then(|name| set.get(name)).filter(|m| m.record.is_some()) {
            Some(mapping) => mapping,
            None => self.claim(inputs)?.ok_or_else(|| {
                refused("no mapping serves this message: it would become no CHT report".into())
            })?,
        };
        let output = self.apply(mapping, inputs)?;
        let record = meaning::record(mapping, output)
            .ok_or_else(|| refused(format!("the mapping {} makes no record", mapping.name)))?;
        Ok((mapping.name.clone(), record))
    }

    /// `/service-request` of the TypeScript mediator.
    fn request(&mut self) -> Result<Translated, Refusal> {
        let mut resource = self.source.body.clone();
        resource["resourceType"] = "ServiceRequest".into();
        let (mapping, meaning) = self.follow_up(&resource, &Around(Vec::new()), Door::DropIn)?;
        Ok(Translated { mapping, parts: vec![Part { entry: None, meaning }] })
    }

    fn follow_up(
        &mut self,
        resource: &Value,
        around: &Around,
        door: Door,
    ) -> Result<(String, Meaning), Refusal> {
        let request = inbound::request(resource, around, door)?;
        let kind = if door == Door::DropIn { "interop-request" } else { "request" };
        let message = json!({"route": served(self.source.route), "kind": kind,
            "received": self.source.received, "state": request.state.task_status(),
            "identifier": {"system": request.identifier.system, "value": request.identifier.value}});
        let patient = inbound::patient_of(resource, around).unwrap_or(&Value::Null);
        let inputs =
            Inputs::default().with("resource", resource).with("patient", patient).with("message", &message);
        let (mapping, record) = self.record(inputs)?;
        Ok((mapping, Meaning::FollowUpRequest(request.with(record))))
    }

    fn news(
        &mut self,
        resource: &Value,
        referral: Identifier,
        around: &Around,
    ) -> Result<(String, Meaning), Refusal> {
        let update = referral_update::referral_update(resource, referral, around)?;
        let mut message = json!({"route": served(self.source.route), "kind": "news",
            "received": self.source.received, "state": update.state.task_status(),
            "identifier": {"system": update.referral.system, "value": update.referral.value}});
        if !update.said.is_empty() {
            message["said"] = update.said.join("\n").into();
        }
        let inputs = Inputs::default().with("resource", resource).with("message", &message);
        let (mapping, record) = self.record(inputs)?;
        Ok((mapping, Meaning::ReferralUpdate(update.with(record))))
    }

    /// News of a referral, a request, or something to keep.
    fn resource(
        &mut self,
        resource: &Value,
        full_url: Option<&str>,
        around: &Around,
    ) -> Result<(String, Meaning), Refusal> {
        let kind = resource["resourceType"].as_str().unwrap_or_default();
        let stored = || ("store".to_string(), Meaning::Resources(store::store(resource, full_url, around)));
        if !matches!(kind, "ServiceRequest" | "Task") {
            return Ok(stored());
        }
        if let Some(referral) = referral_update::referral_of(resource) {
            return self.news(resource, referral, around);
        }
        if kind == "Task" && is_beside_its_request(resource, around) {
            return Ok(stored());
        }
        self.follow_up(resource, around, Door::Fhir)
    }

    /// Each entry a part. Who and where come first, then Tasks, which say most of an outcome.
    fn bundle(&mut self) -> Result<Translated, Refusal> {
        let entries: Vec<&Value> = self.source.body["entry"].as_array().into_iter().flatten().collect();
        let around = Around(
            entries.iter().map(|e| (e["fullUrl"].as_str().unwrap_or_default(), &e["resource"])).collect(),
        );
        let mut order: Vec<usize> = (0..entries.len()).collect();
        order.sort_by_key(|i| match entries[*i]["resource"]["resourceType"].as_str().unwrap_or_default() {
            "Patient" | "Organization" | "Endpoint" | "Practitioner" | "PractitionerRole" | "Location" => 0,
            "Task" => 1,
            "ServiceRequest" => 2,
            _ => 3,
        });
        let (mut parts, mut names) = (Vec::new(), Vec::new());
        for i in order {
            let (resource, url) = (&entries[i]["resource"], entries[i]["fullUrl"].as_str());
            let (name, meaning) = match shape::is_taken(resource["resourceType"].as_str().unwrap_or_default())
            {
                true => self.resource(resource, url, &around).map_err(|r| at_entry(r, i))?,
                false => ("store".into(), Meaning::Ignored("this type of resource is not taken".into())),
            };
            if !names.contains(&name) {
                names.push(name);
            }
            parts.push(Part { entry: Some(i), meaning });
        }
        join_stored(&mut parts);
        Ok(Translated { mapping: names.join("+"), parts })
    }

    fn unknown(&self, name: &str) -> Refusal {
        let known = self.set.names().chain(BUILT_IN.iter().copied());
        let message =
            format!("there is no mapping {name} for this; {}", language::mistake::nearest(name, known));
        Refusal { path: String::new(), code: "not-found", message }
    }
}

fn one(mapping: &str, draft: Draft) -> Result<Translated, Refusal> {
    let part = Part { entry: None, meaning: Meaning::Resources(draft) };
    Ok(Translated { mapping: mapping.into(), parts: vec![part] })
}

fn ignored(why: &str) -> Result<Translated, Refusal> {
    let part = Part { entry: None, meaning: Meaning::Ignored(why.into()) };
    Ok(Translated { mapping: String::new(), parts: vec![part] })
}

/// The route as `when` knows it: without the name that a caller chose.
fn served(route: &Route) -> String {
    match route {
        Route::ChtPush(_) => "/cht/push".into(),
        other => other.to_string(),
    }
}

/// Why no mapping claims a document.
fn unclaimed(doc: &Value) -> &'static str {
    match doc {
        Value::Object(fields) if fields.get("type") == Some(&json!("data_record")) => {
            "no mapping claims it: a record that another system put into CHT, or a form without a mapping"
        }
        Value::Object(_) => "no mapping claims a document of this type",
        _ => "no mapping claims it: there is no document in `doc`",
    }
}

/// A Task whose focus is a ServiceRequest of the same Bundle is one request with it.
fn is_beside_its_request(task: &Value, around: &Around) -> bool {
    let Some(focus) = task["focus"]["reference"].as_str() else { return false };
    around.0.iter().any(|(url, resource)| {
        let id = resource["id"].as_str().map(|id| format!("ServiceRequest/{id}"));
        resource["resourceType"] == "ServiceRequest" && (*url == focus || id.as_deref() == Some(focus))
    })
}

/// What a Bundle only keeps goes to a server as one, because its entries refer to each other. The
/// first such part carries all of it.
fn join_stored(parts: &mut [Part]) {
    let mut entries = Vec::new();
    let mut first = None;
    for (i, part) in parts.iter_mut().enumerate() {
        if let Meaning::Resources(draft) = &mut part.meaning {
            first.get_or_insert(i);
            entries.append(&mut draft.entries.clone());
            if first != Some(i) {
                draft.entries.clear();
            }
        }
    }
    if let Some(Part { meaning: Meaning::Resources(draft), .. }) = first.and_then(|i| parts.get_mut(i)) {
        draft.entries = entries;
    }
}

fn at_entry(refusal: Refusal, entry: usize) -> Refusal {
    let rest = refusal.path.split_once('.').map(|(_, rest)| format!(".{rest}")).unwrap_or_default();
    Refusal { path: format!("Bundle.entry[{entry}].resource{rest}"), ..refusal }
}

/// A mistake of a mapping is found here and not by a server.
fn gate(translated: &Translated) -> Result<(), Refusal> {
    for part in &translated.parts {
        let draft = match &part.meaning {
            Meaning::Resources(draft) => draft,
            Meaning::Outcome(outcome) => &outcome.draft,
            _ => continue,
        };
        for entry in &draft.entries {
            if let Err(message) = fhir_gate::check(&entry.resource) {
                let path = entry.resource_type().to_string();
                return Err(Refusal {
                    path,
                    code: "invalid",
                    message: format!("would not be valid FHIR R4: {message}"),
                });
            }
        }
    }
    Ok(())
}
