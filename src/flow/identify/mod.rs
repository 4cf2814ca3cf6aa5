//! The step after translation: who is meant, which requests are answered, and so what is to be done
//! where. Makes the plan and the facts that it builds on; writes and sends nothing.
mod anchor;
mod announce;
mod changes;
mod end;
mod outcome;
mod people;
mod referral;
mod request;
mod requester;
mod reshape;
mod result;
mod trace;
mod who;

use super::ports::{
    Callbacks, Cht, Clock, Facts, Failure, FhirServer, Guard, Journal, JournalError, Transaction,
};
use crate::config;
use crate::domain::fhir::{Entry, Target, Write};
use crate::domain::follow_up::{Draft, Event, Happening, Meaning, View};
use crate::domain::identifier::{Identifier, system};
use crate::domain::message::Route;
use crate::domain::plan::{Act, PartNote, Plan, Step};
use crate::translate::{Mappings, Refusal, Translated};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub use changes::said_key;
use people::Arrival;
pub use requester::directory_key;
use reshape::scoped;
use who::two_people;

/// Why no plan could be made.
#[derive(Debug)]
pub enum Stop {
    /// The message cannot be carried out as it is.
    Refused(Refusal),
    /// A neighbour could not be asked.
    Wait {
        destination: String,
        failure: Failure,
    },
    /// A neighbour is asked as much as it bears; whose turn it is then begins anew.
    Busy,
    Journal(JournalError),
}

impl From<JournalError> for Stop {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Conflict(system) => Self::Refused(two_people("", &system)),
            other => Self::Journal(other),
        }
    }
}

/// What identification may ask.
pub struct Neighbours {
    pub journal: Arc<dyn Journal>,
    pub cht: Arc<dyn Cht>,
    pub servers: BTreeMap<String, Arc<dyn FhirServer>>,
    pub callbacks: Arc<dyn Callbacks>,
    pub guard: Arc<dyn Guard>,
    /// Destinations by mapping; `default` for those not named.
    pub to: BTreeMap<String, Vec<String>>,
    pub mappings: Arc<Mappings>,
    pub clock: Arc<dyn Clock>,
    pub follow_up: config::FollowUp,
    pub people: config::People,
    /// Facilities whose referrals a client may see.
    pub facilities: BTreeMap<String, Vec<String>>,
}

impl Neighbours {
    /// What a client may see. OpenHIM's core is known by its id before the one that it speaks for.
    pub fn view(&self, client: &str) -> View {
        let of = |id: &str| self.facilities.get(id).cloned();
        let facilities = of(client).or_else(|| of(client.split('/').next()?)).unwrap_or_default();
        View { client: client.to_string(), facilities }
    }
}

/// Plan and facts under construction.
struct Draughtsman<'a> {
    near: &'a Neighbours,
    transaction: &'a Transaction,
    mapping: &'a str,
    plan: Plan,
    facts: Facts,
    /// The links among the facts, by identifier and by person.
    owners: HashMap<Identifier, String>,
    learned: HashMap<String, Vec<Identifier>>,
    /// The step that what is planned now needs to have been done.
    needs: Option<usize>,
    /// The steps that make people in CHT, by uuid.
    made: HashMap<String, usize>,
}

/// Turns what a message means into what is to be done.
pub async fn identify(
    near: &Neighbours,
    transaction: &Transaction,
    translated: Translated,
) -> Result<(Plan, Facts), Stop> {
    let mapping = made_for_servers(&translated);
    let mut draughtsman = Draughtsman {
        near,
        transaction,
        mapping: &mapping,
        plan: Plan::default(),
        facts: Facts::default(),
        owners: HashMap::new(),
        learned: HashMap::new(),
        needs: None,
        made: HashMap::new(),
    };
    let mut parts: Vec<(Option<usize>, Meaning)> = translated
        .parts
        .into_iter()
        .map(|part| (part.entry, scoped(part.meaning, &transaction.client)))
        .collect();
    draughtsman.stored(&mut parts).await?;
    for (entry, meaning) in parts {
        draughtsman.part(entry, meaning).await?;
    }
    Ok((draughtsman.plan, draughtsman.facts))
}

/// The mappings of what goes to FHIR servers: what is told to a CHW beside it leads nowhere else.
fn made_for_servers(translated: &Translated) -> String {
    let told = |name: &&str| {
        translated.parts.iter().any(|part| matches!(&part.meaning, Meaning::Result(r) if r.mapping == *name))
    };
    let names: Vec<&str> = translated.mapping.split('+').filter(|name| !told(name)).collect();
    names.join("+")
}

impl Draughtsman<'_> {
    /// What is only kept goes to a server as one, because its entries refer to each other, and before
    /// anything else of the message.
    async fn stored(&mut self, parts: &mut Vec<(Option<usize>, Meaning)>) -> Result<(), Stop> {
        let mut entries = Vec::new();
        let mut others = Vec::new();
        let mut newcomers = Vec::new();
        let mut known = Vec::new();
        let mut at_home = Vec::new();
        for (entry, meaning) in parts.drain(..) {
            match meaning {
                Meaning::Resources(draft) => {
                    let (mut own, person) =
                        self.resources(draft).await.map_err(|stop| at_entry(stop, entry))?;
                    let kinds: Vec<&str> = own.iter().map(Entry::resource_type).collect();
                    let mut text = format!("{} for {}", kinds.join(", "), self.destinations().join(", "));
                    let patient = own.iter_mut().find(|entry| entry.resource_type() == "Patient");
                    if let (Some(patient), Some(person)) = (patient, person.filter(|_| self.makes_people())) {
                        let patient = &mut patient.resource;
                        match self.arrival(patient, &person).await? {
                            Arrival::New(newcomer) => {
                                text = format!("{text}; a new person in CHT, placed by {}", newcomer.by);
                                let patient = patient.clone();
                                at_home.extend(self.told_at_home(&own, &newcomer.uuid));
                                newcomers.push((newcomer, person, patient, self.plan.parts.len()));
                            }
                            Arrival::Known(uuid) => {
                                known.push((uuid, patient.clone(), self.plan.parts.len()))
                            }
                            Arrival::Nobody(why) => text = format!("{text}; no new person in CHT: {why}"),
                        }
                    }
                    let last = own.last();
                    let mut note = note("resources", last.map(|entry| entry.resource.clone()), text);
                    note.full_url = last.map(|entry| entry.full_url.clone());
                    note.create_only = last.is_some_and(|entry| entry.write == Write::CreateIfMissing);
                    self.plan.parts.push(PartNote { entry, ..note });
                    entries.extend(own);
                }
                other => others.push((entry, other)),
            }
        }
        *parts = others;
        let first = self.plan.steps.len();
        self.send_with(entries, &at_home).await?;
        let written: Vec<usize> = (first..self.plan.steps.len()).collect();
        for (newcomer, person, patient, part) in newcomers {
            let uuid = newcomer.uuid.clone();
            self.make(newcomer, &person, &written, part);
            self.take_the_place_of(&patient, &uuid, part).await?;
        }
        for (uuid, patient, part) in known {
            let changes = self.follow(&patient, &uuid, part).await?;
            self.take_the_place_of(&patient, &uuid, part).await?;
            let text = &mut self.plan.parts[part].text;
            *text = format!("{text}; {changes}");
        }
        Ok(())
    }

    async fn part(&mut self, entry: Option<usize>, meaning: Meaning) -> Result<(), Stop> {
        let note = match meaning {
            Meaning::Outcome(outcome) => self.outcome(outcome).await,
            Meaning::FollowUpRequest(request) => self.follow_up_request(request).await,
            Meaning::ReferralUpdate(update) => self.referral_update(update).await,
            Meaning::Result(result) => self.result(result).await,
            Meaning::Lapse(lapse) => self.lapse(lapse).await,
            Meaning::Ignored(why) => Ok(note("ignored", None, why)),
            Meaning::Resources(_) => return Ok(()),
        }
        .map_err(|stop| at_entry(stop, entry))?;
        self.plan.parts.push(PartNote { entry, ..note });
        Ok(())
    }

    /// Says whose they are, and what others of this client may refer to later.
    async fn resources(&mut self, mut draft: Draft) -> Result<(Vec<Entry>, Option<String>), Stop> {
        if self.transaction.route == Route::ChtPatientIds {
            self.find_elsewhere(&mut draft).await?;
        }
        let person = match &draft.subject {
            Some(subject) if self.transaction.route.is_cht() || has_patient(&draft) => {
                Some(self.link(subject).await?)
            }
            _ => None,
        };
        if let (Some(referral), Some(person)) = (&draft.referral, &person) {
            self.begin_referral(referral, person, &draft).await?;
        }
        if let Some(person) =
            person.as_ref().filter(|_| self.near.people.create && self.transaction.route.is_cht())
        {
            self.hear_of(&draft, person).await?;
        }
        for entry in &draft.entries {
            self.keep_in_directory(&entry.resource);
        }
        Ok((draft.entries, person))
    }

    /// What happens to a request now.
    fn event(&self, outcome: Option<String>) -> Event {
        Event {
            at: self.near.clock.now(),
            what: Happening::Asked,
            by: self.transaction.client.clone(),
            transaction: self.transaction.head.id.clone(),
            outcome,
        }
    }

    /// A question to a neighbour, unless it is known not to answer.
    async fn ask<T>(
        &self,
        destination: &str,
        question: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Stop> {
        let wait = |failure| Stop::Wait { destination: destination.to_string(), failure };
        if !self.near.guard.try_enter(destination, self.transaction.head.seq).map_err(wait)? {
            return Err(Stop::Busy);
        }
        let mut call = Call::of(&*self.near.guard, destination);
        let answer = question.await;
        call.end(answer.as_ref().err());
        answer.map_err(wait)
    }

    /// The destinations of what this mapping makes, except the one that it came from.
    fn destinations(&self) -> Vec<String> {
        let of = |mapping| self.near.to.get(mapping).or_else(|| self.near.to.get("default"));
        let names: std::collections::BTreeSet<&String> =
            self.mapping.split('+').filter_map(of).flatten().collect();
        let from = match &self.transaction.route {
            Route::Poll(destination) => Some(destination),
            _ => self.transaction.home.as_ref(),
        };
        names.into_iter().filter(|name| Some(*name) != from).cloned().collect()
    }

    async fn send(&mut self, entries: Vec<Entry>) -> Result<(), Stop> {
        self.send_with(entries, &[]).await
    }

    /// One step a destination. A destination gets what belongs to it alone besides the rest.
    async fn send_with(&mut self, entries: Vec<Entry>, at_home: &[(String, Entry)]) -> Result<(), Stop> {
        let mut destinations = self.destinations();
        destinations.extend(at_home.iter().map(|(home, _)| home.clone()));
        destinations.sort();
        destinations.dedup();
        for destination in destinations {
            let own = at_home.iter().filter(|(home, _)| *home == destination).map(|(_, entry)| entry.clone());
            let mut entries: Vec<Entry> = entries.iter().cloned().chain(own).collect();
            if entries.is_empty() {
                continue;
            }
            for entry in &mut entries {
                if entry.resource_type() == "Patient" {
                    self.aim_at_known(entry, &destination).await?;
                }
                if matches!(self.transaction.route, Route::Fhir(_)) {
                    self.anchor(&mut entry.resource, &destination).await?;
                }
            }
            let after = self.plan.steps.iter().rposition(|step| step.destination == destination);
            let part = self.plan.parts.len();
            let act = Act::Fhir { entries };
            self.plan.steps.push(Step { destination, act, after, needs: self.needs, part });
        }
        Ok(())
    }

    /// A person whom the server has already is that resource there, whatever identifier this message
    /// knows them by.
    async fn aim_at_known(&self, entry: &mut Entry, destination: &str) -> Result<(), Stop> {
        let Target::Identifier(identifier) = &entry.target else { return Ok(()) };
        let Some(person) = self.owner(identifier).await? else { return Ok(()) };
        if let Some(id) = self.id_at(&person, destination).await? {
            entry.target = Target::Id(format!("Patient/{id}"));
        }
        Ok(())
    }

    /// The id that a server gave to a person.
    async fn id_at(&self, person: &str, destination: &str) -> Result<Option<String>, Stop> {
        let there = system::at_server(destination);
        let known = self.identifiers(person).await?;
        Ok(known.into_iter().find(|i| i.system == there).map(|i| i.value))
    }
}

/// Leaves the destination's room free again, however the question ends.
pub(super) struct Call<'a> {
    guard: &'a dyn Guard,
    destination: &'a str,
    ended: bool,
}

impl<'a> Call<'a> {
    /// Of somebody who has entered.
    pub(super) fn of(guard: &'a dyn Guard, destination: &'a str) -> Self {
        Self { guard, destination, ended: false }
    }

    pub(super) fn end(&mut self, failure: Option<&Failure>) {
        if !std::mem::replace(&mut self.ended, true) {
            self.guard.leave(self.destination, failure);
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.end(None);
    }
}

fn note(kind: &str, resource: Option<Value>, text: impl Into<String>) -> PartNote {
    PartNote {
        entry: None,
        kind: kind.to_string(),
        resource,
        create_only: false,
        full_url: None,
        text: text.into(),
    }
}

fn refused(path: &str, code: &'static str, message: &str) -> Refusal {
    Refusal { path: path.to_string(), code, message: message.to_string() }
}

fn at_path(stop: Stop, path: &str) -> Stop {
    match stop {
        Stop::Refused(refusal) if refusal.path.is_empty() => {
            Stop::Refused(Refusal { path: path.to_string(), ..refusal })
        }
        stop => stop,
    }
}

/// Names the Bundle's entry in a refusal.
fn at_entry(stop: Stop, entry: Option<usize>) -> Stop {
    match (stop, entry) {
        (Stop::Refused(mut refusal), Some(entry)) if !refusal.path.starts_with("Bundle") => {
            let rest = refusal.path.split_once('.').map(|(_, rest)| format!(".{rest}")).unwrap_or_default();
            refusal.path = format!("Bundle.entry[{entry}].resource{rest}");
            Stop::Refused(refusal)
        }
        (stop, _) => stop,
    }
}

fn has_patient(draft: &Draft) -> bool {
    draft.entries.iter().any(|entry| entry.resource_type() == "Patient")
}
