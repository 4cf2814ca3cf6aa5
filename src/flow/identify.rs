//! The step after translation: who is meant, which requests are answered, and so what is to be done
//! where. Makes the plan and the facts that it builds on; writes and sends nothing.
use super::ports::{Callbacks, Cht, Facts, Failure, FhirServer, Guard, Journal, JournalError, Transaction};
use crate::domain::fhir::{Entry, Target, Write, full_url};
use crate::domain::follow_up::{
    Draft, FollowUpRequest, Kind, Meaning, Outcome, ReferralUpdate, State, Subject,
};
use crate::domain::identifier::{Identifier, system};
use crate::domain::plan::{Act, FollowUp, PartNote, Plan, Step};
use crate::domain::record::RecordDraft;
use crate::identity::{self, Whose};
use crate::translate::{Refusal, Translated};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

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
}

/// Plan and facts under construction.
struct Draughtsman<'a> {
    near: &'a Neighbours,
    transaction: &'a Transaction,
    mapping: &'a str,
    plan: Plan,
    facts: Facts,
}

/// Turns what a message means into what is to be done.
pub async fn identify(
    near: &Neighbours,
    transaction: &Transaction,
    translated: Translated,
) -> Result<(Plan, Facts), Stop> {
    let mapping = translated.mapping.clone();
    let mut draughtsman =
        Draughtsman { near, transaction, mapping: &mapping, plan: Plan::default(), facts: Facts::default() };
    for part in translated.parts {
        let meaning = scoped(part.meaning, &transaction.client);
        draughtsman.part(part.entry, meaning).await?;
    }
    Ok((draughtsman.plan, draughtsman.facts))
}

impl Draughtsman<'_> {
    async fn part(&mut self, entry: Option<usize>, meaning: Meaning) -> Result<(), Stop> {
        let note = match meaning {
            Meaning::Resources(draft) => self.resources(draft).await,
            Meaning::Outcome(outcome) => self.outcome(outcome).await,
            Meaning::FollowUpRequest(request) => self.follow_up_request(request).await,
            Meaning::ReferralUpdate(update) => self.referral_update(update).await,
            Meaning::Ignored(why) => Ok(note("ignored", None, why)),
        }
        .map_err(|stop| at_entry(stop, entry))?;
        self.plan.parts.push(PartNote { entry, ..note });
        Ok(())
    }

    async fn resources(&mut self, draft: Draft) -> Result<PartNote, Stop> {
        let person = match &draft.subject {
            Some(subject) if self.transaction.route.is_cht() || has_patient(&draft) => {
                Some(self.link(subject).await?)
            }
            _ => None,
        };
        if let (Some(referral), Some(person)) = (&draft.referral, &person) {
            self.begin_referral(referral, person, &draft).await?;
        }
        for entry in &draft.entries {
            self.keep_in_directory(&entry.resource);
        }
        let resource = draft.entries.last().map(|entry| entry.resource.clone());
        let kinds: Vec<&str> = draft.entries.iter().map(Entry::resource_type).collect();
        let text = format!("{} for {}", kinds.join(", "), self.destinations().join(", "));
        self.send(draft.entries).await?;
        Ok(note("resources", resource, text))
    }

    async fn begin_referral(
        &mut self,
        referral: &Identifier,
        person: &str,
        draft: &Draft,
    ) -> Result<(), Stop> {
        let known = self.near.journal.follow_up(Kind::Referral, referral).await?;
        let resource = draft.entries.iter().find(|e| e.resource_type() == "ServiceRequest");
        let follow_up = known.unwrap_or_else(|| FollowUp {
            kind: Kind::Referral,
            identifier: referral.clone(),
            person: person.to_string(),
            state: State::Requested,
            resource: resource.map(|e| e.resource.clone()).unwrap_or_default(),
            form: String::new(),
            record: None,
            callback: None,
            home: None,
            told: Vec::new(),
        });
        self.facts.follow_ups.push(follow_up);
        Ok(())
    }

    async fn outcome(&mut self, outcome: Outcome) -> Result<PartNote, Stop> {
        let subject = outcome.draft.subject.clone().unwrap_or_default();
        let person = self.link(&subject).await?;
        let answered = self.answered_by(&outcome, &person).await?;
        let mut entries = outcome.draft.entries;
        let mut homes: Vec<(String, Entry)> = Vec::new();
        let patient = entries.iter().find(|e| e.resource_type() == "Patient").map(|e| e.full_url.clone());
        for follow_up in &answered {
            let request = completed(follow_up, &outcome.outcome, &outcome.encounter, patient.as_deref());
            based_on(&mut entries, &outcome.encounter, follow_up, &request);
            match &follow_up.home {
                Some(home) => homes.push((home.clone(), request)),
                None => entries.push(request),
            }
        }
        let encounter = entries.iter().find(|e| e.full_url == outcome.encounter).cloned();
        let first = self.plan.steps.len();
        self.send_with(entries, &homes).await?;
        self.call_back(&answered, encounter, first);
        let text = match answered.len() {
            0 => "a visit; no open request asked for it".to_string(),
            n => format!("the outcome of {n} request(s)"),
        };
        let told = format!("{} {}", self.transaction.head.id, outcome.outcome);
        for mut follow_up in answered {
            follow_up.state = State::Completed;
            follow_up.told.push(told.clone());
            self.facts.follow_ups.push(follow_up);
        }
        Ok(note("outcome", None, text))
    }

    /// The requests that a report answers: the one it names, else every open one about the patient
    /// that its kind of form answers.
    async fn answered_by(&self, outcome: &Outcome, person: &str) -> Result<Vec<FollowUp>, Stop> {
        let mut named = match &outcome.answers {
            Some(name) => self.near.journal.follow_ups_named(name).await?,
            None => Vec::new(),
        };
        named.retain(|f| f.kind == Kind::FollowUp);
        if !named.is_empty() && named.iter().all(|f| f.person != person) {
            return Err(Stop::Refused(refused(
                "doc.fields",
                "conflict",
                "this report is about another patient than the request that it names",
            )));
        }
        // A report that names a request answers that one or none: another form's task, say.
        if outcome.answers.is_some() {
            named.retain(|f| f.person == person);
            return Ok(named);
        }
        let mine = format!("{} ", self.transaction.head.id);
        let mut open = self.near.journal.follow_ups_of(person).await?;
        open.retain(|f| {
            // A rerun answers again what it answered before.
            f.kind == Kind::FollowUp
                && outcome.forms.contains(&f.form)
                && (f.state.is_open() || f.told.iter().any(|told| told.starts_with(&mine)))
        });
        Ok(open)
    }

    fn call_back(&mut self, answered: &[FollowUp], encounter: Option<Entry>, after: usize) {
        let Some(encounter) = encounter else { return };
        let mut addresses: Vec<&String> = answered.iter().filter_map(|f| f.callback.as_ref()).collect();
        addresses.sort();
        addresses.dedup();
        for address in addresses {
            self.plan.steps.push(Step {
                destination: callback_destination(address),
                act: Act::Callback {
                    address: address.clone(),
                    full_url: encounter.full_url.clone(),
                    resource: encounter.resource.clone(),
                },
                after: (after < self.plan.steps.len()).then_some(after),
                part: self.plan.parts.len(),
            });
        }
    }

    async fn follow_up_request(&mut self, request: FollowUpRequest) -> Result<PartNote, Stop> {
        let identifier = self.own(request.identifier);
        let known = self.near.journal.follow_up(Kind::FollowUp, &identifier).await?;
        let (person, uuid) = self.known_to_cht(&request.subject).await?;
        if known.as_ref().is_some_and(|f| f.person != person) {
            return Err(Stop::Refused(refused(
                &request.subject.path,
                "conflict",
                "this request was about another patient before",
            )));
        }
        let callback = self.callback_of(request.requester.as_deref()).await?;
        let resource = with_identifier(request.resource, &identifier);
        let asked_already = known.as_ref().is_some_and(|f| f.state.is_open());
        let follow_up = FollowUp {
            kind: Kind::FollowUp,
            identifier: identifier.clone(),
            person,
            state: request.state,
            resource: resource.clone(),
            form: request.record.form.clone(),
            record: known.as_ref().and_then(|f| f.record.clone()),
            callback: callback.clone().or_else(|| known.as_ref().and_then(|f| f.callback.clone())),
            home: self.transaction.home.clone(),
            told: known.map(|f| f.told).unwrap_or_default(),
        };
        self.facts.follow_ups.push(follow_up);
        self.store_request(&resource, &identifier, &uuid).await?;
        let text = if request.state != State::Requested {
            format!("a request that is {}; nothing for a CHW to do", request.state.request_status())
        } else if asked_already {
            "CHT has this request already".to_string()
        } else {
            self.ask_cht(request.record, &uuid, Some(identifier));
            "a request to a CHW".to_string()
        };
        Ok(note("follow_up_request", Some(resource), text))
    }

    /// The request as the FHIR servers keep it, beside the patient it is about.
    async fn store_request(
        &mut self,
        resource: &Value,
        identifier: &Identifier,
        uuid: &str,
    ) -> Result<(), Stop> {
        let (patient, subject) = bare_patient(uuid);
        let kind = resource["resourceType"].as_str().unwrap_or_default();
        let mut stored = resource.clone();
        if let Some(fields) = stored.as_object_mut() {
            fields.remove("id");
            fields.remove("meta");
        }
        stored[subject_element(resource)] = json!({"reference": subject});
        make_references_logical(&mut stored, &self.transaction.client);
        let request = Entry {
            full_url: full_url(kind, identifier),
            target: Target::Identifier(identifier.clone()),
            write: Write::Merge { keep: Vec::new() },
            resource: stored,
        };
        self.send(vec![patient, request]).await
    }

    fn ask_cht(&mut self, record: RecordDraft, patient: &str, follow_up: Option<Identifier>) {
        // Ours and exact: by it an earlier attempt is recognised.
        let reported_date = self.transaction.received + 100 * self.plan.steps.len() as i64;
        let record = record.about(patient, reported_date, self.transaction.reruns);
        self.plan.steps.push(Step {
            destination: "cht".into(),
            act: Act::ChtRecord { record, follow_up },
            after: None,
            part: self.plan.parts.len(),
        });
    }

    async fn referral_update(&mut self, update: ReferralUpdate) -> Result<PartNote, Stop> {
        let path = format!("{}.identifier", update.resource["resourceType"].as_str().unwrap_or("Resource"));
        let Some(mut referral) = self.near.journal.follow_up(Kind::Referral, &update.referral).await? else {
            return Err(Stop::Refused(refused(
                &path,
                "not-found",
                "no referral with this identifier came from CHT",
            )));
        };
        // An earlier part of the same message may have changed it already.
        if let Some(newer) = self.facts.follow_ups.iter().rev().find(|f| f.identifier == update.referral) {
            referral = newer.clone();
        }
        let news =
            format!("{} {}", update.state.task_status(), update.details.as_deref().unwrap_or_default());
        let resource = update.resource.clone();
        if let Some(why) = old_news(&referral, &update, &news) {
            return Ok(note("ignored", Some(resource), why));
        }
        let uuid = self.cht_uuid(&referral.person).await?.ok_or_else(|| {
            Stop::Refused(refused(
                &path,
                "not-found",
                "the referral's patient has no CHT uuid in the crosswalk",
            ))
        })?;
        referral.state = update.state;
        referral.told.push(news);
        let text = format!("news of a referral: {}", update.state.task_status());
        self.facts.follow_ups.push(referral);
        self.ask_cht(update.record, &uuid, None);
        Ok(note("referral_update", Some(resource), text))
    }

    /// The person whose identifiers these are; new identifiers become theirs.
    async fn link(&mut self, subject: &Subject) -> Result<String, Stop> {
        let mut owners = Vec::new();
        for identifier in identity::telling(&subject.identifiers) {
            owners.push((identifier.clone(), self.owner(identifier).await?));
        }
        let Some((first, _)) = owners.first().cloned() else {
            return Err(Stop::Refused(refused(&subject.path, "required", "the patient has no identifier")));
        };
        let identifiers: Vec<Identifier> = owners.iter().map(|(identifier, _)| identifier.clone()).collect();
        let person = match identity::whose(owners) {
            Whose::Person(person) => person,
            Whose::Nobody => identity::new_person(&first),
            Whose::TwoPeople(system) => return Err(Stop::Refused(two_people(&subject.path, &system))),
        };
        let known = self.near.journal.identifiers(&person).await?;
        if identity::is_another(&known, &identifiers) {
            return Err(Stop::Refused(two_people(&subject.path, system::CHT_UUID)));
        }
        let mut claimed = identifiers;
        if self.transaction.route.is_cht() {
            claimed.extend(confirmed(&claimed));
        }
        self.learn(claimed.into_iter().filter(|i| !known.contains(i)), &person);
        Ok(person)
    }

    fn learn(&mut self, identifiers: impl Iterator<Item = Identifier>, person: &str) {
        for identifier in identifiers {
            let link = (identifier, person.to_string());
            if !self.facts.links.contains(&link) {
                self.facts.links.push(link);
            }
        }
    }

    /// Whose an identifier is: as an earlier part of this message says, or as the crosswalk does.
    async fn owner(&self, identifier: &Identifier) -> Result<Option<String>, Stop> {
        if let Some((_, person)) = self.facts.links.iter().find(|(known, _)| known == identifier) {
            return Ok(Some(person.clone()));
        }
        Ok(self.near.journal.person(identifier).await?)
    }

    /// The person meant and their CHT uuid: by the crosswalk, else by asking CHT. Nobody is guessed.
    async fn known_to_cht(&mut self, subject: &Subject) -> Result<(String, String), Stop> {
        let mut subject = subject.clone();
        if let (Some(home), Some(reference)) = (&self.transaction.home, &subject.reference) {
            let theirs = self.patient_at(home, reference).await?;
            subject.identifiers.extend(theirs);
        }
        for identifier in subject.identifiers.clone() {
            let found = self.in_cht(&identifier).await.map_err(|stop| at_path(stop, &subject.path))?;
            subject.identifiers.extend(found);
        }
        subject.identifiers.dedup();
        let mut owners = Vec::new();
        for identifier in identity::telling(&subject.identifiers) {
            owners.push((identifier.clone(), self.owner(identifier).await?));
        }
        if let Whose::TwoPeople(system) = identity::whose(owners) {
            return Err(Stop::Refused(two_people(&subject.path, &system)));
        }
        let person = match self.link(&subject).await {
            Err(Stop::Refused(refusal)) if refusal.code == "required" => {
                return Err(unknown_patient(&subject));
            }
            linked => linked?,
        };
        let uuid = match self.cht_uuid(&person).await? {
            Some(uuid) => uuid,
            None => return Err(unknown_patient(&subject)),
        };
        Ok((person, uuid))
    }

    /// What CHT knows by this identifier, unless the crosswalk has it from CHT already.
    /// A CHT uuid that CHT does not know is nobody's, so it is a refusal and not a new person.
    async fn in_cht(&self, identifier: &Identifier) -> Result<Vec<Identifier>, Stop> {
        if !matches!(identifier.system.as_str(), system::CHT_UUID | system::CHT_SHORTCODE) {
            return Ok(Vec::new());
        }
        if let Some(person) = self.near.journal.person(identifier).await?
            && self.near.journal.identifiers(&person).await?.iter().any(|i| i.system == system::IN_CHT)
        {
            return Ok(Vec::new());
        }
        match identifier.system.as_str() {
            system::CHT_UUID => match self.ask("cht", self.near.cht.person(&identifier.value)).await? {
                Some(person) => Ok(cht_identifiers(&person)),
                None => Err(Stop::Refused(refused("", "not-found", "CHT knows no person with this uuid"))),
            },
            system::CHT_SHORTCODE => {
                let people = self.ask("cht", self.near.cht.people_with_shortcode(&identifier.value)).await?;
                match people.as_slice() {
                    [] => Err(Stop::Refused(refused(
                        "",
                        "not-found",
                        "CHT knows no person with this short code",
                    ))),
                    [person] => Ok(cht_identifiers(person)),
                    _ => Err(Stop::Refused(refused(
                        "",
                        "multiple-matches",
                        "CHT has several people with this short code",
                    ))),
                }
            }
            _ => Ok(Vec::new()),
        }
    }

    /// A question to a neighbour, unless it is known not to answer.
    async fn ask<T>(
        &self,
        destination: &str,
        question: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Stop> {
        let wait = |failure| Stop::Wait { destination: destination.to_string(), failure };
        if let Some(failure) = self.near.guard.closed(destination) {
            return Err(wait(failure));
        }
        let answer = question.await;
        self.near.guard.report(destination, answer.as_ref().err());
        answer.map_err(wait)
    }

    async fn patient_at(&self, home: &str, reference: &str) -> Result<Vec<Identifier>, Stop> {
        let Some(server) = self.near.servers.get(home) else { return Ok(Vec::new()) };
        let found = self.ask(home, server.read(reference)).await?;
        Ok(found.map(|patient| identifiers_of(&patient)).unwrap_or_default())
    }

    async fn cht_uuid(&self, person: &str) -> Result<Option<String>, Stop> {
        let new = self.facts.links.iter().filter(|(_, p)| p == person).map(|(i, _)| i.clone());
        let known = self.near.journal.identifiers(person).await?;
        Ok(new.chain(known).find(|i| i.system == system::CHT_UUID).map(|i| i.value))
    }

    /// The callback address of the organization that asks, checked. No requester, or one without an
    /// endpoint, is told nothing: the FHIR server has the outcome.
    async fn callback_of(&self, requester: Option<&str>) -> Result<Option<String>, Stop> {
        let must = matches!(self.transaction.route, crate::domain::message::Route::ServiceRequest);
        let path = "ServiceRequest.requester";
        let Some(requester) = requester else {
            return if must {
                Err(Stop::Refused(refused(path, "required", "name the Organization that wants the outcome")))
            } else {
                Ok(None)
            };
        };
        let address = self.endpoint_address(requester).await?;
        match address {
            Some(address) => match self.near.callbacks.check(&address) {
                Ok(()) => Ok(Some(address)),
                Err(why) => Err(Stop::Refused(refused("Endpoint.address", "forbidden", &why))),
            },
            None if must => Err(Stop::Refused(refused(
                path,
                "not-found",
                "no Organization with this identifier and an Endpoint is known; POST /organization and /endpoint first",
            ))),
            None => Ok(None),
        }
    }

    async fn endpoint_address(&self, requester: &str) -> Result<Option<String>, Stop> {
        let Some(organization) = self.find("Organization", requester).await? else { return Ok(None) };
        let endpoints = organization["endpoint"].as_array().cloned().unwrap_or_default();
        for endpoint in endpoints {
            let name = endpoint["reference"].as_str().or(endpoint["identifier"]["value"].as_str());
            let Some(name) = name else { continue };
            if let Some(endpoint) = self.find("Endpoint", name).await?
                && let Some(address) = endpoint["address"].as_str()
            {
                return Ok(Some(address.trim_end_matches('/').to_string()));
            }
        }
        Ok(None)
    }

    /// An Organization or Endpoint by `Type/x`, where x is an id or an identifier's value.
    async fn find(&self, kind: &str, name: &str) -> Result<Option<Value>, Stop> {
        let name = name.rsplit(['/', '=', '|']).next().unwrap_or(name);
        let key = directory_key(&self.transaction.client, kind, name);
        if let Some((_, resource)) = self.facts.directory.iter().find(|(known, _)| *known == key) {
            return Ok(Some(resource.clone()));
        }
        for key in [key, directory_key("", kind, name)] {
            if let Some(resource) = self.near.journal.directory(&key).await? {
                return Ok(Some(resource));
            }
        }
        let Some((destination, server)) = self.first_server() else { return Ok(None) };
        let found = self.ask(&destination, server.search(kind, &[("identifier", name)])).await?;
        Ok(if found.len() == 1 { found.into_iter().next() } else { None })
    }

    fn first_server(&self) -> Option<(String, Arc<dyn FhirServer>)> {
        let destinations = self.destinations();
        let first = destinations.first()?;
        Some((first.clone(), self.near.servers.get(first)?.clone()))
    }

    fn keep_in_directory(&mut self, resource: &Value) {
        let kind = resource["resourceType"].as_str().unwrap_or_default();
        if !matches!(kind, "Organization" | "Endpoint") {
            return;
        }
        let values = identifiers_of(resource).into_iter().map(|i| i.value);
        for name in values.chain(resource["id"].as_str().map(String::from)) {
            for client in [self.transaction.client.as_str(), ""] {
                self.facts.directory.push((directory_key(client, kind, &name), resource.clone()));
            }
        }
    }

    /// Identifiers without a system are the client's own.
    fn own(&self, identifier: Identifier) -> Identifier {
        if identifier.system == system::REQUEST {
            return Identifier::new(
                format!("{}:{}", system::REQUEST, self.transaction.client),
                identifier.value,
            );
        }
        identifier
    }

    /// The destinations of what this mapping makes, except the one that it came from.
    fn destinations(&self) -> Vec<String> {
        let of = |mapping| self.near.to.get(mapping).or_else(|| self.near.to.get("default"));
        let names: std::collections::BTreeSet<&String> =
            self.mapping.split('+').filter_map(of).flatten().collect();
        let from = match &self.transaction.route {
            crate::domain::message::Route::Poll(destination) => Some(destination),
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
            for entry in entries.iter_mut().filter(|entry| entry.resource_type() == "Patient") {
                self.aim_at_known(entry, &destination).await?;
            }
            let after = self.plan.steps.iter().rposition(|step| step.destination == destination);
            let part = self.plan.parts.len();
            self.plan.steps.push(Step { destination, act: Act::Fhir { entries }, after, part });
        }
        Ok(())
    }

    /// A person whom the server has already is that resource there, whatever identifier this message
    /// knows them by.
    async fn aim_at_known(&self, entry: &mut Entry, destination: &str) -> Result<(), Stop> {
        let Target::Identifier(identifier) = &entry.target else { return Ok(()) };
        let Some(person) = self.owner(identifier).await? else { return Ok(()) };
        let there = system::at_server(destination);
        let known = self.near.journal.identifiers(&person).await?;
        if let Some(id) = known.into_iter().find(|i| i.system == there) {
            entry.target = Target::Id(format!("Patient/{}", id.value));
        }
        Ok(())
    }
}

/// Identifiers without a system, and a system's own ids, are the client's: two clients' `Patient/1`
/// are two people.
fn scoped(meaning: Meaning, client: &str) -> Meaning {
    let Ok(mut value) = serde_json::to_value(&meaning) else { return meaning };
    let own = format!("{}:{client}", system::REQUEST);
    if !replace_system(&mut value, &own) {
        return meaning;
    }
    serde_json::from_value(value).unwrap_or(meaning)
}

fn replace_system(value: &mut Value, own: &str) -> bool {
    match value {
        Value::Array(items) => {
            items.iter_mut().map(|item| replace_system(item, own)).filter(|changed| *changed).count() > 0
        }
        Value::Object(fields) => {
            let mut any = false;
            for (key, field) in fields {
                if key == "system" && field == system::REQUEST {
                    *field = json!(own);
                    any = true;
                } else {
                    any = replace_system(field, own) || any;
                }
            }
            any
        }
        _ => false,
    }
}

fn note(kind: &str, resource: Option<Value>, text: impl Into<String>) -> PartNote {
    PartNote { entry: None, kind: kind.to_string(), resource, text: text.into() }
}

fn refused(path: &str, code: &'static str, message: &str) -> Refusal {
    Refusal { path: path.to_string(), code, message: message.to_string() }
}

fn two_people(path: &str, system: &str) -> Refusal {
    refused(
        path,
        "conflict",
        &format!("an identifier of {system} belongs to somebody else: these are two people"),
    )
}

fn unknown_patient(subject: &Subject) -> Stop {
    Stop::Refused(refused(
        &subject.path,
        "not-found",
        "no patient that CHT knows has one of these identifiers; give the CHT uuid or short code",
    ))
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

/// Why there is nothing to tell CHT, if there is not.
fn old_news(referral: &FollowUp, update: &ReferralUpdate, news: &str) -> Option<String> {
    let rank = |state: State| match state {
        State::Requested => 0,
        State::Accepted => 1,
        State::InProgress => 2,
        State::Completed | State::Rejected | State::Cancelled => 3,
    };
    if update.state == State::Requested {
        return Some("the referral is as CHT made it".into());
    }
    let bare = format!("{} ", update.state.task_status());
    let said = referral
        .told
        .iter()
        .any(|told| *told == news || (update.details.is_none() && told.starts_with(&bare)));
    if said {
        return Some("CHT has been told already".into());
    }
    (rank(update.state) < rank(referral.state)).then(|| "older than what CHT has been told".into())
}

/// The request with its outcome.
fn completed(follow_up: &FollowUp, outcome: &str, encounter: &str, patient: Option<&str>) -> Entry {
    let kind = follow_up.resource["resourceType"].as_str().unwrap_or_default();
    let mut resource = follow_up.resource.clone();
    resource["status"] = json!("completed");
    if kind == "Task" {
        let output = json!({"type": {"text": "outcome"}, "valueString": outcome});
        let visit = json!({"type": {"text": "visit"}, "valueReference": {"reference": encounter}});
        let mut outputs = resource["output"].as_array().cloned().unwrap_or_default();
        outputs.extend([output, visit]);
        resource["output"] = json!(outputs);
    }
    let target = match (&follow_up.home, resource["id"].as_str()) {
        (Some(_), Some(id)) => Target::Id(format!("{kind}/{id}")),
        _ => {
            make_storable(&mut resource, follow_up, patient);
            Target::Identifier(follow_up.identifier.clone())
        }
    };
    Entry {
        full_url: full_url(kind, &follow_up.identifier),
        target,
        write: Write::Merge { keep: Vec::new() },
        resource,
    }
}

/// As it was stored: without the caller's ids, about the patient as the server has them.
fn make_storable(resource: &mut Value, follow_up: &FollowUp, patient: Option<&str>) {
    let client = follow_up.identifier.system.rsplit(':').next().unwrap_or_default().to_string();
    let element = subject_element(resource);
    if let Some(fields) = resource.as_object_mut() {
        fields.remove("id");
        fields.remove("meta");
        fields.remove(element);
    }
    if let Some(patient) = patient {
        resource[element] = json!({"reference": patient});
    }
    make_references_logical(resource, &client);
}

fn subject_element(resource: &Value) -> &'static str {
    if resource["resourceType"] == "Task" { "for" } else { "subject" }
}

fn based_on(entries: &mut [Entry], encounter: &str, follow_up: &FollowUp, request: &Entry) {
    if follow_up.resource["resourceType"] != "ServiceRequest" {
        return;
    }
    let reference = match (&follow_up.home, &request.target) {
        // Literal only where it is the server's own; elsewhere the request goes by its identifier.
        (Some(_), _) => json!({"type": "ServiceRequest",
            "identifier": {"system": follow_up.identifier.system, "value": follow_up.identifier.value}}),
        _ => json!({"reference": request.full_url}),
    };
    for entry in entries.iter_mut().filter(|entry| entry.full_url == encounter) {
        let mut all = entry.resource["basedOn"].as_array().cloned().unwrap_or_default();
        all.push(reference.clone());
        entry.resource["basedOn"] = json!(all);
    }
}

/// The resource with our identifier for it among its own.
fn with_identifier(mut resource: Value, identifier: &Identifier) -> Value {
    let mut all = resource["identifier"].as_array().cloned().unwrap_or_default();
    let value = json!(identifier.value);
    for bare in
        all.iter_mut().filter(|i| i["value"] == value && i["system"].as_str().is_none_or(str::is_empty))
    {
        bare["system"] = json!(identifier.system);
    }
    if !all.iter().any(|i| i["system"] == identifier.system && i["value"] == value) {
        all.push(json!({"system": identifier.system, "value": value}));
    }
    resource["identifier"] = json!(all);
    resource
}

/// Literal references to resources on the caller's side mean nothing on another server.
fn make_references_logical(value: &mut Value, client: &str) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| make_references_logical(item, client)),
        Value::Object(fields) => {
            let literal = fields.get("reference").and_then(Value::as_str).map(str::to_string);
            if let Some(literal) = literal
                && !literal.starts_with("urn:uuid:")
                && !literal.starts_with('#')
                && !literal.contains("://")
            {
                fields.remove("reference");
                let kind = literal.split(['/', '?']).next().unwrap_or_default();
                if kind.chars().all(|c| c.is_ascii_alphabetic()) && !kind.is_empty() {
                    fields.entry("type").or_insert(json!(kind));
                }
                let identifier = json!({"system": format!("{}:{client}", system::REQUEST), "value": literal});
                fields.entry("identifier").or_insert(identifier);
            }
            fields.values_mut().for_each(|field| make_references_logical(field, client));
        }
        _ => {}
    }
}

fn bare_patient(uuid: &str) -> (Entry, String) {
    let identifier = Identifier::new(system::CHT_UUID, uuid);
    let url = full_url("Patient", &identifier);
    let resource = json!({"resourceType": "Patient",
        "identifier": [{"system": identifier.system, "value": identifier.value}]});
    let entry = Entry {
        full_url: url.clone(),
        target: Target::Identifier(identifier),
        write: Write::CreateIfMissing,
        resource,
    };
    (entry, url)
}

pub fn callback_destination(address: &str) -> String {
    let host = url::Url::parse(address).ok().and_then(|url| url.host_str().map(String::from));
    format!("callback:{}", host.unwrap_or_default())
}

fn directory_key(client: &str, kind: &str, name: &str) -> String {
    format!("{client} {kind}/{name}")
}

fn identifiers_of(resource: &Value) -> Vec<Identifier> {
    let all = resource["identifier"].as_array().into_iter().flatten();
    all.filter_map(|i| {
        let value = i["value"].as_str().filter(|v| !v.is_empty())?;
        Some(Identifier::new(i["system"].as_str().unwrap_or_default(), value))
    })
    .collect()
}

/// A CHT person's own identifiers.
fn cht_identifiers(person: &Value) -> Vec<Identifier> {
    [("_id", system::CHT_UUID), ("_id", system::IN_CHT), ("patient_id", system::CHT_SHORTCODE)]
        .into_iter()
        .filter_map(|(key, system)| {
            let value = person[key].as_str().filter(|v| !v.is_empty())?;
            Some(Identifier::new(system, value))
        })
        .collect()
}

/// The note that CHT itself has told us of a uuid.
fn confirmed(identifiers: &[Identifier]) -> Option<Identifier> {
    let uuid = identifiers.iter().find(|i| i.system == system::CHT_UUID)?;
    Some(Identifier::new(system::IN_CHT, uuid.value.clone()))
}
