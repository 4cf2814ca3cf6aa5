//! What a message means. Pure: no clock, no network, no store.
//!
//! The corridor knows this door only; behind it stands one file a kind of message.
mod drop_in;
mod guess;
mod inbound;
mod outcome;
mod person;
mod place;
mod preview;
mod referral;
mod referral_update;
mod shape;
mod store;
mod values;
mod visit;

pub use guess::guess_route;
pub use shape::{TYPES, check_fhir, is_url_of};

use crate::config;
use crate::domain::follow_up::{Draft, Meaning};
use crate::domain::message::Route;
use inbound::{Around, Door};
use serde_json::Value;

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
    pub message: String,
}

fn required(path: &str, message: &str) -> Refusal {
    Refusal { path: path.into(), code: "required", message: message.into() }
}

/// A document lacks what the mapping needs.
fn missing(path: &str) -> Refusal {
    required(path, "missing or empty")
}

/// Mappings from CHT documents, in the order in which they claim one.
const DOCUMENT_MAPPINGS: &[&str] = &["outcome", "referral", "visit", "practitioner", "patient", "place"];

/// Mappings of bodies that have a route of their own.
const ROUTE_MAPPINGS: &[&str] = &[
    "cht-patient",
    "cht-patient-ids",
    "cht-encounter",
    "drop-in",
    "follow-up-request",
    "referral-update",
    "store",
];

pub struct Mappings {
    settings: config::Translate,
}

impl Mappings {
    pub fn new(settings: &config::Translate) -> Self {
        Self { settings: settings.clone() }
    }

    /// Mappings that a whole document can be pushed to by name.
    pub fn names(&self) -> Vec<String> {
        DOCUMENT_MAPPINGS.iter().map(|name| name.to_string()).collect()
    }

    pub fn all_names(&self) -> Vec<&'static str> {
        DOCUMENT_MAPPINGS.iter().chain(ROUTE_MAPPINGS).copied().collect()
    }

    /// By the mapping of this name, else by the one that claims the message. Every resource that is
    /// made passes the typed gate.
    pub fn translate(&self, source: &Source, mapping: Option<&str>) -> Result<Translated, Refusal> {
        if !source.body.is_object() {
            let message = "expected a JSON object".to_string();
            return Err(Refusal { path: String::new(), code: "structure", message });
        }
        let translated = match source.route {
            Route::ChtPush(name) => self.document(source, mapping.or(name.as_deref())),
            _ if mapping.is_some_and(|name| DOCUMENT_MAPPINGS.contains(&name)) => {
                self.document(source, mapping)
            }
            Route::ChtPatient => one("cht-patient", drop_in::cht_patient(source.body, &self.settings)?),
            Route::ChtPatientIds => one("cht-patient-ids", drop_in::patient_ids(source.body)?),
            Route::ChtEncounter => {
                one("cht-encounter", drop_in::cht_encounter(source.body, source.received)?)
            }
            Route::DropIn(kind) => one("drop-in", drop_in::resource(kind, source.body, source.received)?),
            Route::ServiceRequest => self.request(source, Door::DropIn),
            Route::Fhir(kind) if kind.is_empty() => self.bundle(source),
            Route::Fhir(kind) if kind == "Practitioner" => {
                one("drop-in", drop_in::resource(kind, source.body, source.received)?)
            }
            Route::Fhir(_) | Route::Poll(_) => {
                let around = Around(Vec::new());
                self.resource(source.body, None, &around, source.received).map(|(mapping, meaning)| {
                    Translated { mapping: mapping.into(), parts: vec![Part { entry: None, meaning }] }
                })
            }
        }?;
        if let Some(wanted) = mapping
            && !translated.mapping.split('+').any(|name| name == wanted)
            && !DOCUMENT_MAPPINGS.contains(&wanted)
        {
            return Err(self.unknown(wanted));
        }
        gate(&translated)?;
        Ok(translated)
    }

    /// What `translate` prints: one FHIR resource or Bundle, or one CHT record.
    pub fn preview(&self, translated: &Translated) -> Value {
        preview::preview(translated)
    }

    fn document(&self, source: &Source, mapping: Option<&str>) -> Result<Translated, Refusal> {
        let doc = &source.body["doc"];
        let name = match mapping {
            Some(name) => DOCUMENT_MAPPINGS
                .iter()
                .find(|known| **known == name)
                .copied()
                .ok_or_else(|| self.unknown(name))?,
            None => match claim(doc) {
                Ok(name) => name,
                Err(why) => return ignored(why),
            },
        };
        if !doc.is_object() {
            return Err(missing("doc"));
        }
        let (settings, received) = (&self.settings, source.received);
        let meaning = match name {
            "outcome" => Meaning::Outcome(outcome::outcome(doc, settings, received)?),
            "referral" => Meaning::Resources(referral::referral(doc, settings, received)?),
            "visit" => Meaning::Resources(visit::visit(doc, settings, received)?.draft),
            "practitioner" => Meaning::Resources(person::practitioner(doc, settings)?),
            "place" => Meaning::Resources(place::location(doc)?),
            _ => Meaning::Resources(person::patient(doc, settings)?),
        };
        Ok(Translated { mapping: name.into(), parts: vec![Part { entry: None, meaning }] })
    }

    fn request(&self, source: &Source, door: Door) -> Result<Translated, Refusal> {
        let mut resource = source.body.clone();
        resource["resourceType"] = "ServiceRequest".into();
        let request = inbound::follow_up_request(
            &resource,
            &Around(Vec::new()),
            door,
            &self.settings,
            source.received,
        )?;
        let part = Part { entry: None, meaning: Meaning::FollowUpRequest(request) };
        Ok(Translated { mapping: "follow-up-request".into(), parts: vec![part] })
    }

    /// News of a referral, a request, or something to keep.
    fn resource(
        &self,
        resource: &Value,
        full_url: Option<&str>,
        around: &Around,
        received: i64,
    ) -> Result<(&'static str, Meaning), Refusal> {
        let kind = resource["resourceType"].as_str().unwrap_or_default();
        if !matches!(kind, "ServiceRequest" | "Task") {
            return Ok(("store", Meaning::Resources(store::store(resource, full_url, around))));
        }
        if let Some(referral) = referral_update::referral_of(resource) {
            let update =
                referral_update::referral_update(resource, referral, around, &self.settings, received)?;
            return Ok(("referral-update", Meaning::ReferralUpdate(update)));
        }
        if kind == "Task" && is_beside_its_request(resource, around) {
            return Ok(("store", Meaning::Resources(store::store(resource, full_url, around))));
        }
        let request = inbound::follow_up_request(resource, around, Door::Fhir, &self.settings, received)?;
        Ok(("follow-up-request", Meaning::FollowUpRequest(request)))
    }

    /// Each entry a part. Who and where come first, then Tasks, which say most of an outcome.
    fn bundle(&self, source: &Source) -> Result<Translated, Refusal> {
        let entries: Vec<&Value> = source.body["entry"].as_array().into_iter().flatten().collect();
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
                true => self.resource(resource, url, &around, source.received).map_err(|r| at_entry(r, i))?,
                false => ("store", Meaning::Ignored("this type of resource is not taken".into())),
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
        let known = self.all_names();
        let best =
            known.iter().map(|k| (strsim::jaro_winkler(name, k), k)).max_by(|a, b| a.0.total_cmp(&b.0));
        let hint = best
            .filter(|(score, _)| *score > 0.8)
            .map(|(_, k)| format!("did you mean {k}? "))
            .unwrap_or_default();
        let message = format!("there is no mapping {name} for this; {hint}There are: {}", known.join(", "));
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

/// The mapping that claims a document, or why none does.
fn claim(doc: &Value) -> Result<&'static str, &'static str> {
    if !doc.is_object() {
        return Err("no mapping claims it: there is no document in `doc`");
    }
    if visit::is_app_report(doc) {
        return Ok(match (outcome::is_outcome(doc), referral::is_referral(doc)) {
            (true, _) => "outcome",
            (_, true) => "referral",
            _ => "visit",
        });
    }
    if doc["type"] == "data_record" {
        return Err("no mapping claims it: a record that another system put into CHT");
    }
    if person::is_person(doc) {
        return Ok(if person::is_carer(doc) { "practitioner" } else { "patient" });
    }
    if place::is_place(doc) {
        return Ok("place");
    }
    Err("no mapping claims a document of this type")
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
