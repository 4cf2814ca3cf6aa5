//! What a message means. Pure: no clock, no network, no store.
//!
//! The corridor knows this door only; behind it stands one file a kind of message.
mod afyastat;
mod conformance;
mod contacts;
mod drop_in;
mod guess;
mod inbound;
pub mod language;
mod lists;
mod meaning;
mod names;
mod preview;
pub mod proof;
mod referral_update;
mod results;
pub mod scaffold;
mod set;
mod shape;
mod store;
mod values;
mod withdrawal;

pub use afyastat::afyastat;
pub use conformance::{Conformance, capabilities};
pub use guess::guess_route;
pub(crate) use inbound::{focus_of, requester_of};
pub use lists::spread;
pub use names::check_names;
pub use set::Set;
pub use shape::{
    Profiles, TYPES, add_problems, check_fhir, check_taken, check_valid, is_url_of, plain, unknown_profiles,
};
pub use withdrawal::Withdrawal;

use crate::config;
use crate::domain::follow_up::{ClinicResult, Contact, Lapse, Meaning, State};
use crate::domain::identifier::Identifier;
use crate::domain::message::Route;
use crate::domain::record::RecordDraft;
use arc_swap::ArcSwap;
use inbound::{Around, Door};
use language::codec;
use language::compile::Compiled;
use language::eval::{self, Inputs, Output, Traced};
use language::mistake::{Mistake, nearest};
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use values::text;

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
    /// The version of each mapping, in the same order: a hash, or ours for what is done in Rust.
    pub versions: Vec<String>,
}

impl Translated {
    /// `referral@1f0c3ab2d4e5`: which version of which mapping made it.
    pub fn label(&self) -> String {
        let names = self
            .mapping
            .split('+')
            .zip(self.versions.iter().map(String::as_str).chain(std::iter::repeat("")));
        let labels: Vec<String> = names
            .map(|(name, version)| if version.is_empty() { name.into() } else { format!("{name}@{version}") })
            .collect();
        labels.join("+")
    }
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

/// Problems of what a mapping makes that are told at once.
const MOST_TOLD: usize = 10;

/// What is done in Rust, because it keeps what came instead of mapping it.
const BUILT_IN: &[&str] = &["drop-in", "store", "lapse"];

/// The mappings in force. Reloading takes the place of all of them at once.
pub struct Mappings {
    settings: config::Translate,
    set: ArcSwap<Set>,
}

impl Mappings {
    pub fn new(settings: &config::Translate) -> Result<Self, Vec<Mistake>> {
        let own = Self::load(settings)?;
        conformance::adopt(own.set().conformance.clone());
        Ok(own)
    }

    /// Not in force yet.
    fn load(settings: &config::Translate) -> Result<Self, Vec<Mistake>> {
        let conformance = Conformance::load(&settings.profiles)?;
        let set = Set::load(folder(settings).as_deref(), conformance)?;
        Ok(Self { settings: settings.clone(), set: ArcSwap::from_pointee(set) })
    }

    /// Reads the files anew: mappings and profiles. The new set takes the old one's place if it has no
    /// mistake and its cases hold; else the old one serves on. Answers what serves now.
    pub fn reload(&self) -> Result<Vec<String>, Vec<String>> {
        let new = Self::load(&self.settings).map_err(|mistakes| proof::told(&mistakes))?;
        let report = proof::prove(&new);
        if !report.mistakes.is_empty() {
            return Err(report.mistakes);
        }
        let set = new.set();
        let names = set.names().map(|name| format!("{name}@{}", set.version(name))).collect();
        conformance::adopt(set.conformance.clone());
        self.set.store(set);
        Ok(names)
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
        let mut work = Translation::of(&self.settings, &set, source);
        work.wanted = mapping;
        work.trace = trace.then(Vec::new);
        let translated = match source.route {
            Route::ChtPush(name) => work.document(mapping.or(name.as_deref())),
            _ if mapping.is_some_and(|name| set.get(name).is_some_and(|m| m.record.is_none())) => {
                work.document(mapping)
            }
            Route::ChtPatient | Route::ChtPatientIds | Route::ChtEncounter => work.document(None),
            Route::DropIn(kind) if kind == "Encounter" => work.document(None),
            Route::DropIn(kind) => work.drop_in(kind),
            Route::ServiceRequest => work.request(),
            Route::Lapse => lapse(source.body),
            Route::Fhir(kind) if kind.is_empty() => work.bundle(),
            Route::Fhir(kind) if kind == "Practitioner" => work.drop_in(kind),
            Route::Fhir(_) | Route::Poll(_) => {
                let around = Around(Vec::new());
                let url = own_url(source.body);
                let (mut mapping, meaning) = work.resource(source.body, url.as_deref(), &around)?;
                let mut parts = vec![Part { entry: None, meaning }];
                if let Some(result) = work.result(source.body, url.as_deref(), &around, &HashSet::new())? {
                    mapping = format!("{mapping}+{}", result.mapping);
                    parts.push(Part { entry: None, meaning: Meaning::Result(result) });
                }
                Ok(Translated { mapping, parts, versions: Vec::new() })
            }
        }?;
        if let Some(wanted) = mapping
            && !translated.mapping.split('+').any(|name| name == wanted)
        {
            return Err(work.unknown(wanted));
        }
        let mut translated = translated;
        let version = |name: &str| match BUILT_IN.contains(&name) {
            true => env!("CARGO_PKG_VERSION"),
            false => set.version(name),
        };
        translated.versions = translated.mapping.split('+').map(|name| version(name).to_string()).collect();
        Ok((translated, work.trace.unwrap_or_default()))
    }

    /// The source's documents of what a mapping made, by root, as far as they can be read backwards.
    pub fn back(&self, mapping: &str, made: &Value, received: i64) -> Result<Map<String, Value>, Refusal> {
        let set = self.set();
        let Some(mapping) = set.get(mapping) else {
            let message = format!("there is no mapping {mapping}; {}", nearest(mapping, set.names()));
            return Err(Refusal { path: String::new(), code: "not-found", message });
        };
        Ok(language::back::read(mapping, made, codec::Around::of(&self.settings, received)))
    }

    /// The mappings that serve a message.
    pub fn claims(&self, source: &Source) -> Result<Vec<String>, Refusal> {
        let set = self.set();
        let mut all = Vec::new();
        for documents in self.documents(source) {
            let inputs = proof::roots(&documents);
            let claims = set.claims(inputs, codec::Around::of(&self.settings, source.received))?;
            all.extend(claims.iter().map(|mapping| mapping.name.clone()));
        }
        Ok(all)
    }

    /// What a message gives to its mappings, by root; a Bundle's requests and news one by one.
    pub fn documents(&self, source: &Source) -> Vec<Map<String, Value>> {
        let set = self.set();
        let work = Translation::of(&self.settings, &set, source);
        let owned = |all: &[(&str, &Value)]| {
            all.iter().map(|(root, value)| (root.to_string(), (*value).clone())).collect::<Map<_, _>>()
        };
        let named = results::parts_named(&around_of(source.body));
        let of_resource = |(url, resource): (&str, &Value), around: &Around| {
            let is_drop_in = *source.route == Route::ServiceRequest;
            let door = if is_drop_in { Door::DropIn } else { Door::Fhir };
            let message = match referral_update::referral_of(resource) {
                _ if !is_drop_in && !is_request(resource) => {
                    work.message_of_result(&results::found(resource, Some(url), around, &named)?)
                }
                Some(referral) => {
                    work.news_of(&referral_update::referral_update(resource, referral, around).ok()?)
                }
                None if inbound::request_of(resource, around).is_some() => return None,
                None => work.message_of(&inbound::request(resource, around, door, &work.day()).ok()?, door),
            };
            let patient = inbound::patient_of(resource, around).unwrap_or(&Value::Null);
            Some(owned(&[("resource", resource), ("patient", patient), ("message", &message)]))
        };
        match source.route {
            Route::Fhir(_) | Route::Poll(_) | Route::ServiceRequest => {
                let around = around_of(source.body);
                let all = match around.0.is_empty() {
                    true => vec![("", source.body)],
                    false => around.0.clone(),
                };
                all.into_iter().filter_map(|came| of_resource(came, &around)).collect()
            }
            _ => {
                let body = source.body;
                vec![owned(&[("doc", &body["doc"]), ("body", body), ("message", &work.push())])]
            }
        }
    }

    /// A phone as the number that it is (E.164); what is none stays as it is.
    pub fn phone(&self, written: &str) -> String {
        values::phone(written, &self.settings.default_country)
    }

    /// As it is written in groups, where people live and abroad, and as it was asked for.
    pub fn phone_spellings(&self, written: &str) -> Vec<String> {
        values::phone_spellings(written, &self.settings.default_country)
    }

    /// The shapes in which people write it as one word.
    pub fn phone_shapes(&self, written: &str) -> Vec<String> {
        values::phone_shapes(written, &self.settings.default_country)
    }

    /// What `translate` prints: one FHIR resource or Bundle, or one CHT record.
    pub fn preview(&self, translated: &Translated) -> Value {
        preview::preview(translated)
    }
}

/// The JSON Schema of a mapping's file, made from the types that it is read into.
pub fn mapping_schema() -> String {
    let schema = schemars::schema_for!(language::spec::MappingFile);
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
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
    fn of(settings: &'a config::Translate, set: &'a Set, source: &'a Source<'a>) -> Self {
        Self { settings, set, source, wanted: None, trace: None }
    }

    /// The day of arrival, in UTC.
    fn day(&self) -> String {
        jiff::Timestamp::from_millisecond(self.source.received)
            .map(|at| at.to_string()[..10].to_string())
            .unwrap_or_default()
    }

    /// `message` of a CHT push.
    fn push(&self) -> Value {
        let mut message =
            json!({"route": served(self.source.route), "kind": "push", "received": self.source.received});
        if let Some(kind) = kind_of(&self.source.body["doc"], &self.settings.person_types) {
            message["document"] = kind.into();
        }
        message
    }

    /// `message` of a request.
    fn message_of(&self, request: &inbound::Request, door: Door) -> Value {
        let kind = match (request.state, door) {
            (State::Requested, Door::DropIn) => "interop-request",
            (State::Requested, Door::Fhir) => "request",
            // Nobody is to be asked: it takes a request back.
            _ => "withdrawal",
        };
        let mut message = json!({"route": served(self.source.route), "kind": kind,
            "received": self.source.received, "state": request.state.task_status(),
            "identifier": {"system": request.identifier.system, "value": request.identifier.value}});
        if let Some(name) = &request.asked_by {
            message["asked_by"] = json!(name);
        }
        if kind == "withdrawal" {
            message["reason"] = json!(Withdrawal::of(request.state, request.status()).code());
        }
        message
    }

    /// `message` of news of a referral.
    fn news_of(&self, news: &referral_update::News) -> Value {
        let mut message = json!({"route": served(self.source.route), "kind": "news",
            "received": self.source.received, "state": news.state.task_status(),
            "identifier": {"system": news.referral.system, "value": news.referral.value}});
        if !news.said.is_empty() {
            message["said"] = news.said.join("\n").into();
        }
        message["admitted"] = news.admitted.into();
        if let Some(seen) = news.seen(&self.settings.time_zone, self.source.received) {
            message["seen"] = seen.into();
        }
        message
    }

    /// `message` of a result.
    fn message_of_result(&self, found: &results::Found) -> Value {
        let mut message = found.message.clone();
        message["route"] = served(self.source.route).into();
        message["received"] = self.source.received.into();
        message
    }

    /// A CHT document, or a body with a route of its own.
    fn document(&mut self, mapping: Option<&str>) -> Result<Translated, Refusal> {
        let body = self.source.body;
        let message = self.push();
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
        output.entries.iter().try_for_each(|made| gate(&made.resource))?;
        let meaning = meaning::of_resources(mapping, output)?;
        Ok(Translated {
            mapping: mapping.name.clone(),
            parts: vec![Part { entry: None, meaning }],
            versions: Vec::new(),
        })
    }

    /// The one mapping that serves a message. Two are a mistake in the configuration.
    fn claim(&self, inputs: Inputs) -> Result<Option<&'a Compiled>, Refusal> {
        let set: &'a Set = self.set;
        let claims = set.claims(inputs, codec::Around::of(self.settings, self.source.received))?;
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
        let around = codec::Around::of(self.settings, self.source.received);
        let mut output = eval::apply(mapping, inputs, around, self.trace.is_some())
            .map_err(|failure| refusal_of(*failure))?;
        if let Some(trace) = &mut self.trace {
            trace.append(&mut output.trace);
        }
        self.judge(&output)?;
        Ok(output)
    }

    /// What the mapping makes must be valid; all that is wrong is told at once.
    fn judge(&self, output: &Output) -> Result<(), Refusal> {
        let definitions = &self.set.conformance.definitions;
        let mut wrong: Vec<(fhir_validate::Issue, &eval::Made)> = Vec::new();
        for made in &output.entries {
            let issues = definitions.validate(&made.resource, made.rule.profile.as_deref());
            wrong.extend(issues.into_iter().map(|issue| (issue, made)));
        }
        let Some((first, _)) = wrong.first() else { return Ok(()) };
        let mut told: Vec<String> = Vec::new();
        for (issue, made) in wrong.iter().take(MOST_TOLD) {
            let origin = &made.rule.origin;
            told.push(format!(
                "{}: {} ({}:{})",
                issue.expression, issue.message, origin.file, origin.at.line
            ));
        }
        if wrong.len() > MOST_TOLD {
            told.push(format!("and {} more", wrong.len() - MOST_TOLD));
        }
        Err(Refusal {
            path: first.expression.clone(),
            code: first.code,
            message: format!("what the mapping makes would not be valid FHIR: {}", told.join("; ")),
        })
    }

    /// The CHT record that news becomes.
    fn record(&mut self, inputs: Inputs) -> Result<(String, RecordDraft), Refusal> {
        let mapping = self.serving(inputs)?;
        self.record_by(mapping, inputs)
    }

    /// The mapping that makes a record of a request or news: the one that is wanted, else the one that claims it.
    fn serving(&self, inputs: Inputs) -> Result<&'a Compiled, Refusal> {
        let set: &'a Set = self.set;
        match self.wanted.and_then(|name| set.get(name)).filter(|m| m.record.is_some()) {
            Some(mapping) => Ok(mapping),
            None => self.claim(inputs)?.ok_or_else(|| {
                let message = "no mapping serves this message: it would become no CHT report".into();
                Refusal { path: String::new(), code: "not-supported", message }
            }),
        }
    }

    fn record_by(&mut self, mapping: &Compiled, inputs: Inputs) -> Result<(String, RecordDraft), Refusal> {
        let output = self.apply(mapping, inputs)?;
        let record = meaning::record(mapping, output).ok_or_else(|| {
            let message = format!("the mapping {} makes no record", mapping.name);
            Refusal { path: String::new(), code: "not-supported", message }
        })?;
        Ok((mapping.name.clone(), record))
    }

    /// A resource as a configuration of the TypeScript mediator builds it, made valid.
    fn drop_in(&self, kind: &str) -> Result<Translated, Refusal> {
        let draft = drop_in::resource(kind, self.source.body, &self.settings.time_zone)?;
        for entry in &draft.entries {
            if let Some(issue) =
                self.set.conformance.definitions.validate(&entry.resource, None).into_iter().next()
            {
                return Err(Refusal { path: issue.expression, code: issue.code, message: issue.message });
            }
            gate(&entry.resource)?;
        }
        let part = Part { entry: None, meaning: Meaning::Resources(draft) };
        Ok(Translated { mapping: "drop-in".into(), parts: vec![part], versions: Vec::new() })
    }

    /// `/service-request` of the TypeScript mediator.
    fn request(&mut self) -> Result<Translated, Refusal> {
        let mut resource = self.source.body.clone();
        resource["resourceType"] = "ServiceRequest".into();
        let (mapping, meaning) = self.follow_up(&resource, &Around(Vec::new()), Door::DropIn)?;
        Ok(Translated { mapping, parts: vec![Part { entry: None, meaning }], versions: Vec::new() })
    }

    fn follow_up(
        &mut self,
        resource: &Value,
        around: &Around,
        door: Door,
    ) -> Result<(String, Meaning), Refusal> {
        let request = inbound::request(resource, around, door, &self.day())?;
        // CHT is asked for both by one record: what the ServiceRequest says.
        if let Some(asked) = inbound::request_of(resource, around)
            && let (mapping, Meaning::FollowUpRequest(asked)) = self.follow_up(asked, around, door)?
        {
            return Ok((mapping, Meaning::FollowUpRequest(request.with(asked.record))));
        }
        let message = self.message_of(&request, door);
        let patient = inbound::patient_of(resource, around).unwrap_or(&Value::Null);
        let inputs =
            Inputs::default().with("resource", resource).with("patient", patient).with("message", &message);
        let mapping = self.serving(inputs)?;
        let contacts = self.traced(mapping, &request, resource, around, inputs)?;
        let (mapping, record) = match contacts.is_empty() {
            true => self.record_by(mapping, inputs)?,
            false => (mapping.name.clone(), RecordDraft::default()),
        };
        let mut request = request.with(record);
        request.contacts = contacts;
        request.program = values::concepts(&resource["category"])
            .into_iter()
            .chain(values::concepts(&resource["code"]))
            .next();
        request.due = self.due(resource);
        Ok((mapping, Meaning::FollowUpRequest(request)))
    }

    /// The contacts, each with a record, if the mapping makes such.
    fn traced(
        &mut self,
        mapping: &Compiled,
        request: &inbound::Request,
        resource: &Value,
        around: &Around,
        inputs: Inputs,
    ) -> Result<Vec<Contact>, Refusal> {
        if !mapping.record.as_ref().is_some_and(|record| record.each_contact) {
            return Ok(Vec::new());
        }
        let mut all = Vec::new();
        for contact in contacts::contacts(resource, &request.identifier, around) {
            let mut message = self.message_of(request, Door::Fhir);
            message["identifier"] =
                json!({"system": contact.identifier.system, "value": contact.identifier.value});
            let inputs = inputs.with("resource", &contact.request).with("message", &message);
            let output = self.apply(mapping, inputs)?;
            let Some(record) = meaning::record(mapping, output) else { continue };
            let task = contacts::task(resource, &request.identifier, &contact);
            let contacts::Contact { identifier, names, person, .. } = contact;
            all.push(Contact { identifier, names, person, task, record });
        }
        Ok(all)
    }

    /// The end of the day by which it is to be done, if that is still to come.
    fn due(&self, resource: &Value) -> Option<i64> {
        let said = [&resource["restriction"]["period"]["end"], &resource["occurrencePeriod"]["end"]];
        let zone = &self.settings.time_zone;
        let day = said.into_iter().find_map(|end| values::date(end, zone))?;
        let end = zone.to_timestamp(day.tomorrow().ok()?.at(0, 0, 0, 0)).ok()?.as_millisecond() - 1;
        (end > self.source.received).then_some(end)
    }

    fn news(
        &mut self,
        resource: &Value,
        referral: Identifier,
        around: &Around,
    ) -> Result<(String, Meaning), Refusal> {
        let update = referral_update::referral_update(resource, referral, around)?;
        let message = self.news_of(&update);
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
        let stored = || ("store".to_string(), Meaning::Resources(store::store(resource, full_url, around)));
        if !is_request(resource) {
            return Ok(stored());
        }
        if let Some(referral) = referral_update::referral_of(resource) {
            return self.news(resource, referral, around);
        }
        self.follow_up(resource, around, Door::Fhir)
    }

    /// What a CHW is told of a resource that is kept, if a mapping tells it.
    fn result(
        &mut self,
        resource: &Value,
        full_url: Option<&str>,
        around: &Around,
        named: &HashSet<&str>,
    ) -> Result<Option<ClinicResult>, Refusal> {
        // What a poll finds has not been sent to a CHW.
        if !matches!(self.source.route, Route::Fhir(_)) {
            return Ok(None);
        }
        let Some(found) = results::found(resource, full_url, around, named) else { return Ok(None) };
        let message = self.message_of_result(&found);
        let inputs = Inputs::default().with("resource", resource).with("message", &message);
        let inputs = inputs.with("patient", &Value::Null);
        let Some(mapping) = self.claim(inputs)? else { return Ok(None) };
        let (name, record) = self.record_by(mapping, inputs)?;
        Ok(Some(found.with(&name, record)))
    }

    /// Each entry a part. Who and where come first, then Tasks, which say most of an outcome.
    fn bundle(&mut self) -> Result<Translated, Refusal> {
        let entries: Vec<&Value> = self.source.body["entry"].as_array().into_iter().flatten().collect();
        let around = around_of(self.source.body);
        let mut order: Vec<usize> = (0..entries.len()).collect();
        order.sort_by_key(|i| match entries[*i]["resource"]["resourceType"].as_str().unwrap_or_default() {
            "Patient" | "Organization" | "Endpoint" | "Practitioner" | "PractitionerRole" | "Location" => 0,
            // A Task of a request comes after it; of news it says more than the request does.
            "Task" if inbound::request_of(&entries[*i]["resource"], &around).is_none() => 1,
            "ServiceRequest" => 2,
            _ => 3,
        });
        let named = results::parts_named(&around);
        let (mut parts, mut names) = (Vec::new(), Vec::new());
        for i in order {
            let (resource, url) = (&entries[i]["resource"], where_it_stands(entries[i]));
            let (name, meaning) = match shape::is_taken(resource["resourceType"].as_str().unwrap_or_default())
            {
                true => self.resource(resource, url, &around).map_err(|r| at_entry(r, i))?,
                false => ("store".into(), Meaning::Ignored("this type of resource is not taken".into())),
            };
            if !names.contains(&name) {
                names.push(name);
            }
            parts.push(Part { entry: Some(i), meaning });
            if let Some(result) = self.result(resource, url, &around, &named).map_err(|r| at_entry(r, i))? {
                if !names.contains(&result.mapping) {
                    names.push(result.mapping.clone());
                }
                parts.push(Part { entry: Some(i), meaning: Meaning::Result(result) });
            }
        }
        store::name_each_other(&mut parts, &entries);
        Ok(Translated { mapping: names.join("+"), parts, versions: Vec::new() })
    }

    fn unknown(&self, name: &str) -> Refusal {
        let known = self.set.names().chain(BUILT_IN.iter().copied());
        let message = format!("there is no mapping {name} for this; {}", nearest(name, known));
        Refusal { path: String::new(), code: "not-found", message }
    }
}

fn is_request(resource: &Value) -> bool {
    matches!(resource["resourceType"].as_str(), Some("ServiceRequest" | "Task"))
}

fn own_url(resource: &Value) -> Option<String> {
    Some(format!("{}/{}", resource["resourceType"].as_str()?, resource["id"].as_str()?))
}

/// `fullUrl`; or the address that an update goes to.
fn where_it_stands(entry: &Value) -> Option<&str> {
    let update = (entry["request"]["method"] == "PUT").then(|| entry["request"]["url"].as_str()).flatten();
    let own = entry["fullUrl"].as_str();
    if own.is_some_and(|url| url.starts_with("http")) {
        own
    } else {
        update.filter(|_| own.is_none()).or(own)
    }
}

/// A word of ours.
fn lapse(body: &Value) -> Result<Translated, Refusal> {
    let kind = serde_json::from_value(body["kind"].clone()).ok();
    let identifier = Identifier::of(&body["identifier"][0]);
    let (Some(kind), Some(identifier), Some(at)) = (kind, identifier, body["at"].as_i64()) else {
        return Err(missing("identifier"));
    };
    let part = Part { entry: None, meaning: Meaning::Lapse(Lapse { kind, identifier, at }) };
    Ok(Translated { mapping: "lapse".into(), parts: vec![part], versions: Vec::new() })
}

fn ignored(why: &str) -> Result<Translated, Refusal> {
    let part = Part { entry: None, meaning: Meaning::Ignored(why.into()) };
    Ok(Translated { mapping: String::new(), parts: vec![part], versions: Vec::new() })
}

/// The route as `when` knows it: without the name that a caller chose.
fn served(route: &Route) -> String {
    match route {
        Route::ChtPush(_) => "/cht/push".into(),
        other => other.to_string(),
    }
}

/// What a document of CHT is: `person`, `place` or `report`. In hierarchies of their own people and places
/// are both of the type `contact`, and only the deployment knows which types are people.
fn kind_of(doc: &Value, person_types: &[String]) -> Option<&'static str> {
    let is_person = |kind: &str| person_types.iter().any(|known| known == kind);
    let has = |key: &str| text(&doc[key]).is_some();
    Some(match (text(&doc["type"])?, text(&doc["contact_type"])) {
        ("data_record", _) => "report",
        ("person", _) => "person",
        ("clinic" | "health_center" | "district_hospital", _) => "place",
        ("contact", Some(kind)) if is_person(kind) => "person",
        ("contact", _) if ["patient_id", "sex", "date_of_birth"].into_iter().any(has) => "person",
        ("contact", Some(_)) => "place",
        (kind, _) if is_person(kind) => "person",
        _ => return None,
    })
}

/// Why no mapping claims a document.
fn unclaimed(doc: &Value) -> &'static str {
    match doc {
        Value::Object(fields) if fields.get("type") == Some(&json!("data_record")) => {
            match doc["errors"].as_array().is_some_and(|errors| !errors.is_empty()) {
                true => {
                    "no mapping claims it: CHT saved it with errors, so that nobody knows whom it is about"
                }
                false => {
                    "no mapping claims it: a record that another system put into CHT, or about no patient"
                }
            }
        }
        Value::Object(_) => "no mapping claims a document of this type",
        _ => "no mapping claims it: there is no document in `doc`",
    }
}

/// The entries of a Bundle; none of what is no Bundle.
fn around_of(body: &Value) -> Around<'_> {
    let entries = body["entry"].as_array().into_iter().flatten();
    Around(entries.map(|e| (e["fullUrl"].as_str().unwrap_or_default(), &e["resource"])).collect())
}

fn at_entry(refusal: Refusal, entry: usize) -> Refusal {
    let rest = refusal.path.split_once('.').map(|(_, rest)| format!(".{rest}")).unwrap_or_default();
    Refusal { path: format!("Bundle.entry[{entry}].resource{rest}"), ..refusal }
}

/// A mistake of a mapping is found here and not by a server.
fn gate(resource: &Value) -> Result<(), Refusal> {
    fhir_gate::check(resource).map_err(|message| Refusal {
        path: resource["resourceType"].as_str().unwrap_or_default().to_string(),
        code: "invalid",
        message: format!("would not be valid FHIR R4: {message}"),
    })
}
