//! What another system may look up: people of CHT as FHIR Patients, each with its places, and what has been reported
//! about one. CHT is asked anew each time; nothing of it is kept.
use super::identify::{Call, Neighbours};
use super::ports::{Failure, JournalError};
use crate::domain::fhir::Entry;
use crate::domain::follow_up::{Draft, Meaning};
use crate::domain::identifier::{Identifier, system};
use crate::domain::message::Route;
use crate::translate::{Refusal, Source};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tokio::time::Instant;

/// People that one look-up may find: whoever finds more has not said whom they look for.
const MOST: usize = 100;
/// Places above somebody.
const DEEPEST: usize = 12;

/// By what somebody is looked up.
pub enum By {
    Identifier(Identifier),
    Phone(String),
    Name(String),
}

/// A person of CHT, as a look-up shows them.
pub struct Found {
    pub uuid: String,
    pub patient: Value,
}

/// What has been reported about a person.
pub struct Everything {
    pub person: Found,
    /// Each once, as the newest report has it; they call the person `Patient/<uuid>`.
    pub entries: Vec<Entry>,
    /// Reports of the page of which no mapping makes FHIR.
    pub left_out: usize,
    pub has_more: bool,
}

#[derive(Debug)]
pub enum Unanswered {
    /// CHT could not be asked.
    Failed(Failure),
    Journal(JournalError),
    /// The number of people who would be shown at the most.
    TooMany(usize),
    /// What CHT has of somebody, no mapping takes.
    Untranslated(Refusal),
}

impl From<Failure> for Unanswered {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<JournalError> for Unanswered {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

type Answer<T> = Result<T, Unanswered>;

/// `now` is that of the look-up, in milliseconds since 1970; `until` is when its caller goes.
pub struct Lookups<'a> {
    pub near: &'a Neighbours,
    pub now: i64,
    pub until: Instant,
}

/// Whom a look-up found.
#[derive(Default)]
pub struct People {
    pub found: Vec<Found>,
    /// Why there is somebody of whom no Patient can be made.
    pub left_out: Option<Refusal>,
}

impl Lookups<'_> {
    /// Those who are `wanted` besides.
    pub async fn people(&self, by: &By, wanted: impl Fn(&Value) -> bool) -> Answer<People> {
        let docs = match by {
            By::Identifier(identifier) => {
                let uuids = self.named(identifier).await?;
                self.hydrated(&uuids.into_iter().collect::<Vec<_>>()).await?
            }
            By::Phone(phone) => self.with_phone(phone).await?,
            By::Name(name) => self.with_name(name).await?,
        };
        let mut people = People::default();
        for doc in &docs {
            match self.found(doc) {
                Ok(found) => people.found.extend(found.filter(|found| wanted(&found.patient))),
                Err(why) => people.left_out = Some(why),
            }
        }
        match people.found.len() {
            0..=MOST => Ok(people),
            _ => Err(Unanswered::TooMany(MOST)),
        }
    }

    pub async fn person(&self, uuid: &str) -> Answer<Option<Found>> {
        let named = By::Identifier(Identifier::new(system::CHT_UUID, uuid));
        let mut people = self.people(&named, |_| true).await?;
        match (people.found.pop(), people.left_out) {
            (None, Some(why)) => Err(Unanswered::Untranslated(why)),
            (found, _) => Ok(found),
        }
    }

    /// The reports from `skip` on, newest first, `count` of them.
    pub async fn everything(&self, uuid: &str, skip: usize, count: usize) -> Answer<Option<Everything>> {
        let Some(person) = self.person(uuid).await? else { return Ok(None) };
        let mut reports = BTreeMap::new();
        for name in names_of(&person.patient) {
            reports.extend(self.ask(self.near.cht.reports_about(&name)).await?);
        }
        let mut reports: Vec<(String, i64)> = reports.into_iter().collect();
        reports.sort_by(|(a, at), (b, bt)| bt.cmp(at).then_with(|| a.cmp(b)));
        let has_more = reports.len() > skip.saturating_add(count);
        let page: Vec<String> = reports.into_iter().skip(skip).take(count).map(|(id, _)| id).collect();
        let mut docs = self.hydrated(&page).await?;
        docs.sort_by_key(|doc| page.iter().position(|id| doc["_id"] == id.as_str()));
        let mut entries: Vec<Entry> = Vec::new();
        let mut left_out = 0;
        for doc in docs.iter().filter(|doc| doc["patient"]["_id"] == uuid) {
            let made = self.entries_of(doc).unwrap_or_default();
            left_out += usize::from(made.is_empty());
            entries.extend(made);
        }
        let entries = about(entries, uuid);
        Ok(Some(Everything { person, entries, left_out, has_more }))
    }

    /// The uuids of whoever goes by this identifier.
    async fn named(&self, identifier: &Identifier) -> Answer<BTreeSet<String>> {
        let value = &identifier.value;
        let mut uuids = BTreeSet::new();
        match identifier.system.as_str() {
            system if system::is_ours_alone(system) => {}
            system::CHT_UUID => uuids.extend(Some(value.clone())),
            system::CHT_SHORTCODE => {
                let people = self.ask(self.near.cht.people_with_shortcode(value)).await?;
                uuids.extend(people.iter().filter_map(uuid_of));
            }
            // Without a system it may be any of them.
            "" => {
                uuids.extend(Some(value.clone()));
                let people = self.ask(self.near.cht.people_with_shortcode(value)).await?;
                uuids.extend(people.iter().filter_map(uuid_of));
                for person in self.near.journal.people_with(value).await? {
                    uuids.extend(self.known_uuid(&person).await?);
                }
            }
            _ => {
                if let Some(person) = self.near.journal.person(identifier).await? {
                    uuids.extend(self.known_uuid(&person).await?);
                }
            }
        }
        Ok(uuids)
    }

    async fn known_uuid(&self, person: &str) -> Answer<Option<String>> {
        let known = self.near.journal.identifiers(person).await?;
        Ok(known.into_iter().find(|identifier| identifier.system == system::CHT_UUID).map(|i| i.value))
    }

    /// CHT finds a stored phone in the shape in which it was typed only, so each shape is asked for; the
    /// number itself decides.
    async fn with_phone(&self, phone: &str) -> Answer<Vec<Value>> {
        let mappings = &self.near.mappings;
        let number = mappings.phone(phone);
        let mut docs = match number.starts_with('+') {
            true => self.ask(self.near.cht.contacts_with_phone(&number)).await?,
            false => Vec::new(),
        };
        let mut uuids = BTreeSet::new();
        for shape in mappings.phone_shapes(phone) {
            uuids.extend(self.ask(self.near.cht.people_with_word(&shape, CANDIDATES)).await?);
        }
        for written in mappings.phone_spellings(phone) {
            for field in PHONES {
                uuids.extend(self.ask(self.near.cht.people_with(field, &written)).await?);
            }
        }
        if uuids.len() > CANDIDATES {
            return Err(Unanswered::TooMany(MOST));
        }
        let known: BTreeSet<String> = docs.iter().filter_map(uuid_of).collect();
        docs.extend(self.hydrated(&uuids.difference(&known).cloned().collect::<Vec<_>>()).await?);
        let is_theirs = |doc: &Value| {
            let phones = PHONES.iter().filter_map(|key| doc[*key].as_str());
            phones.into_iter().any(|own| mappings.phone(own) == number)
        };
        docs.retain(is_theirs);
        Ok(docs)
    }

    /// Everybody of whose names each word begins with one that is asked for.
    async fn with_name(&self, name: &str) -> Answer<Vec<Value>> {
        let wanted: Vec<String> = name.to_lowercase().split_whitespace().map(String::from).collect();
        let Some(longest) = wanted.iter().max_by_key(|word| word.chars().count()) else {
            return Ok(Vec::new());
        };
        let uuids = self.ask(self.near.cht.people_with_word(longest, CANDIDATES)).await?;
        if uuids.len() > CANDIDATES {
            return Err(Unanswered::TooMany(MOST));
        }
        let mut docs = self.hydrated(&uuids).await?;
        docs.retain(|doc| {
            let own = doc["name"].as_str().unwrap_or_default().to_lowercase();
            wanted.iter().all(|word| own.split_whitespace().any(|own| own.starts_with(word)))
        });
        Ok(docs)
    }

    async fn hydrated(&self, uuids: &[String]) -> Answer<Vec<Value>> {
        if uuids.is_empty() {
            return Ok(Vec::new());
        }
        self.ask(self.near.cht.hydrated(uuids)).await
    }

    /// A question to CHT, unless it is known not to answer.
    async fn ask<T>(&self, question: impl Future<Output = Result<T, Failure>>) -> Answer<T> {
        self.near.guard.enter("cht").await?;
        let mut call = Call::of(&*self.near.guard, "cht");
        let late = || Failure::transient("CHT did not answer in time");
        let answer = tokio::time::timeout_at(self.until, question).await.unwrap_or_else(|_| Err(late()));
        call.end(answer.as_ref().err());
        Ok(answer?)
    }

    /// A patient; whoever else is a person in CHT, such as a CHW, is none.
    fn found(&self, doc: &Value) -> Result<Option<Found>, Refusal> {
        // A report makes its patient too, and is not that person.
        let Some(uuid) = uuid_of(doc).filter(|_| doc["type"] != "data_record") else { return Ok(None) };
        let made = self.entries_of(doc)?;
        let is_own = |made: &Value| made["resourceType"] == "Patient" && names_of(made).contains(&uuid);
        let patient = made.into_iter().map(|entry| entry.resource).find(is_own);
        let Some(mut patient) = patient else { return Ok(None) };
        patient["id"] = json!(uuid);
        Ok(Some(Found { uuid, patient: with_places(patient, self.places(&doc["parent"])) }))
    }

    /// What the places above somebody are in FHIR, each with a name among the contained resources. The people whom
    /// CHT has with a place were not asked for.
    fn places(&self, parent: &Value) -> Vec<(String, Entry)> {
        let mut all = Vec::new();
        let mut place = parent;
        for level in 0..DEEPEST {
            let Some(fields) = place.as_object() else { break };
            let mut alone: Map<String, Value> = fields.clone();
            alone.remove("contact");
            let made = self.entries_of(&Value::Object(alone)).unwrap_or_default();
            all.extend(
                made.into_iter()
                    .map(|entry| (format!("{}-{level}", entry.resource_type().to_lowercase()), entry)),
            );
            place = &place["parent"];
        }
        all
    }

    /// What the mappings make of a document, as if CHT had pushed it.
    fn entries_of(&self, doc: &Value) -> Result<Vec<Entry>, Refusal> {
        let body = json!({"doc": doc});
        let source = Source { route: &Route::ChtPush(None), body: &body, received: self.now };
        let translated = self.near.mappings.translate(&source, None)?;
        let drafts = translated.parts.into_iter().filter_map(|part| match part.meaning {
            Meaning::Resources(draft) => Some(draft),
            Meaning::Outcome(outcome) => Some(outcome.draft),
            _ => None,
        });
        Ok(drafts.flat_map(|draft: Draft| draft.entries).collect())
    }
}

/// What a person's numbers stand in.
const PHONES: &[&str] = &["phone", "phone_alternate"];

/// People who are compared with one that is looked for.
const CANDIDATES: usize = 300;

fn uuid_of(doc: &Value) -> Option<String> {
    doc["_id"].as_str().map(String::from)
}

/// By what reports may name somebody.
fn names_of(patient: &Value) -> Vec<String> {
    let all = patient["identifier"].as_array().into_iter().flatten();
    let own = all.filter(|identifier| {
        matches!(identifier["system"].as_str(), Some(system::CHT_UUID | system::CHT_SHORTCODE))
    });
    own.filter_map(|identifier| identifier["value"].as_str().map(String::from)).collect()
}

/// With those of the places that it leads to, contained; what is named by an identifier is referred to as well.
fn with_places(mut patient: Value, places: Vec<(String, Entry)>) -> Value {
    let mut names = BTreeMap::new();
    for (id, entry) in &places {
        let local = format!("#{id}");
        names.insert(entry.full_url.clone(), local.clone());
        for identifier in crate::domain::fhir::identifiers(&entry.resource) {
            names.insert(by_identifier(entry.resource_type(), identifier), local.clone());
        }
    }
    refer(&mut patient, &names);
    let mut contained: Vec<Value> = Vec::new();
    let mut reached = references(&patient);
    let mut left: Vec<(String, Value)> = places
        .into_iter()
        .map(|(id, entry)| {
            let mut resource = entry.resource;
            refer(&mut resource, &names);
            (id, resource)
        })
        .collect();
    // Each leads to others; what nothing leads to is not contained (dom-3).
    while let Some(at) = left.iter().position(|(id, _)| reached.contains(&format!("#{id}"))) {
        let (id, mut resource) = left.remove(at);
        reached.extend(references(&resource));
        resource["id"] = json!(id);
        contained.push(resource);
    }
    if !contained.is_empty() {
        patient["contained"] = Value::Array(contained);
    }
    patient
}

fn by_identifier(kind: &str, identifier: &Value) -> String {
    let text = |key: &str| identifier[key].as_str().unwrap_or_default();
    format!("{kind} {}|{}", text("system"), text("value"))
}

/// Says in each reference by which of these names its target goes here.
fn refer(value: &mut Value, names: &BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            let literal = fields.get("reference").and_then(Value::as_str).map(String::from);
            let logical = fields.get("type").and_then(Value::as_str).zip(fields.get("identifier"));
            let logical = logical.map(|(kind, identifier)| by_identifier(kind, identifier));
            if let Some(name) = literal.or(logical).and_then(|name| names.get(&name)) {
                fields.insert("reference".into(), json!(name));
            }
            fields.values_mut().for_each(|value| refer(value, names));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| refer(item, names)),
        _ => {}
    }
}

fn references(value: &Value) -> BTreeSet<String> {
    let of = |own: Option<&Value>| own.and_then(Value::as_str).map(String::from);
    match value {
        Value::Object(fields) => {
            let own = of(fields.get("reference")).into_iter();
            own.chain(fields.values().flat_map(references)).collect()
        }
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => BTreeSet::new(),
    }
}

/// Each once, without the patient, who is called by the uuid. What a report says of somebody else, such as a newborn, is
/// not the person's.
fn about(entries: Vec<Entry>, uuid: &str) -> Vec<Entry> {
    let (patients, others): (Vec<Entry>, Vec<Entry>) =
        entries.into_iter().partition(|entry| entry.resource_type() == "Patient");
    let is_own = |patient: &Entry| names_of(&patient.resource).iter().any(|name| name == uuid);
    let (own, strangers): (Vec<Entry>, Vec<Entry>) = patients.into_iter().partition(is_own);
    let names: BTreeMap<String, String> =
        own.into_iter().map(|patient| (patient.full_url, format!("Patient/{uuid}"))).collect();
    let strangers: BTreeSet<String> = strangers.into_iter().map(|patient| patient.full_url).collect();
    let is_of_another = |entry: &Entry| {
        let whose = ["subject", "patient", "for"].map(|key| entry.resource[key]["reference"].as_str());
        whose.into_iter().flatten().any(|name| strangers.contains(name))
    };
    let mut seen = BTreeSet::new();
    others
        .into_iter()
        .filter(|entry| !is_of_another(entry) && seen.insert(entry.full_url.clone()))
        .map(|mut entry| {
            refer(&mut entry.resource, &names);
            entry
        })
        .collect()
}
