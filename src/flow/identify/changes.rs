//! What is said later of people who were met elsewhere first: their person in CHT follows. Whoever CHT itself
//! registered is CHT's to change.
use super::people::{fields_of, uuid_of};
use super::requester::directory_key;
use super::{Draughtsman, Stop};
use crate::domain::follow_up::Draft;
use crate::domain::identifier::{Identifier, system};
use crate::domain::person::{Change, LastSaid, Pushes, Said};
use crate::domain::plan::{Act, Step};
use serde_json::{Value, json};

/// Where it is kept what was last said of a person.
pub fn said_key(uuid: &str) -> String {
    directory_key("cht", "person", uuid)
}

/// Where it is kept what CHT has pushed of a person: apart, since CHT pushes while it is told.
fn pushed_key(uuid: &str) -> String {
    directory_key("cht", "pushed", uuid)
}

/// Where it is kept who waits for somebody to take their place.
fn successor_key(successor: &Identifier) -> String {
    directory_key("cht", "successor", &successor.token())
}

impl Draughtsman<'_> {
    /// The uuid in CHT of somebody who was met elsewhere first.
    pub(super) async fn made_elsewhere(&self, person: &str) -> Result<Option<String>, Stop> {
        let uuid = uuid_of(person);
        let known = self.identifiers(person).await?;
        let is_there = known.contains(&Identifier::new(system::IN_CHT, &uuid));
        Ok(is_there.then_some(uuid))
    }

    /// CHT pushes somebody who was met elsewhere first: by that it is known when it comes back.
    pub(super) async fn hear_of(&mut self, draft: &Draft, person: &str) -> Result<(), Stop> {
        let uuid = uuid_of(person);
        let own = Identifier::new(system::CHT_UUID, &uuid);
        let is_theirs = draft.subject.as_ref().is_some_and(|subject| subject.identifiers.contains(&own));
        let patient = draft.entries.iter().find(|entry| entry.resource_type() == "Patient");
        let Some(patient) = patient.filter(|_| is_theirs) else { return Ok(()) };
        let (mut pushes, at) = (self.pushes(&uuid).await?, self.transaction.received);
        pushes.hear(fields_of(self.near, &patient.resource, &uuid, at).unwrap_or_default(), at);
        self.facts.directory.push((pushed_key(&uuid), json!(pushes)));
        Ok(())
    }

    /// Plans what a Patient says otherwise than the last time. In words: what that is.
    pub(super) async fn follow(&mut self, patient: &Value, uuid: &str, part: usize) -> Result<String, Stop> {
        let known = self.last_said(uuid).await?;
        if known.seq > self.transaction.head.seq {
            return Ok("CHT has been told newer things of them".into());
        }
        let mut last = known.clone();
        let mut now = fields_of(self.near, patient, uuid, self.transaction.received).unwrap_or_default();
        self.pushes(uuid).await?.agree(&mut last.said, &mut now, self.transaction.received);
        self.say_state(patient, &last.said, &mut now);
        let mut text = String::new();
        if let Some(successor) = replaced_by(patient) {
            match self.in_cht_as(successor).await? {
                Some(other) => self.say_replaced(&other, &last.said, &mut now),
                None => {
                    if let Some(own) = Identifier::of(&successor["identifier"]) {
                        self.facts.directory.push((successor_key(&own), json!(uuid)));
                    }
                    text = "; they stay in CHT until it knows who takes their place".into();
                }
            }
        }
        let change = Change { uuid: uuid.into(), before: last.said.clone(), now };
        let changed = self.plan_change(change, part);
        if changed.is_empty() && last != known {
            self.facts.directory.push((said_key(uuid), json!(last)));
        }
        Ok(match changed.is_empty() {
            true => format!("CHT's person is so already{text}"),
            false => format!("CHT's person changes: {}{text}", changed.join(", ")),
        })
    }

    /// Those whose place somebody takes, as they themselves or the others have said, are no more to be visited.
    pub(super) async fn take_the_place_of(
        &mut self,
        patient: &Value,
        uuid: &str,
        part: usize,
    ) -> Result<(), Stop> {
        let mut replaced = Vec::new();
        for link in links(patient, "replaces") {
            replaced.extend(self.in_cht_as(&link["other"]).await?);
        }
        for own in patient["identifier"].as_array().into_iter().flatten().filter_map(Identifier::of) {
            let waiting = self.near.journal.directory(&successor_key(&own)).await?;
            replaced.extend(waiting.and_then(|waiting| waiting.as_str().map(String::from)));
        }
        replaced.sort();
        replaced.dedup();
        for other in replaced.iter().filter(|other| *other != uuid) {
            let last = self.last_said(other).await?;
            let mut now = Said::new();
            self.say_replaced(uuid, &last.said, &mut now);
            self.plan_change(Change { uuid: other.clone(), before: last.said, now }, part);
        }
        Ok(())
    }

    /// Whether they live, and are somebody to visit at all: as CHT writes it. Only who says so takes it back.
    fn say_state(&self, patient: &Value, before: &Said, now: &mut Said) {
        let since = |field: &str, otherwise: Value| before.get(field).cloned().unwrap_or(otherwise);
        match &patient["deceasedBoolean"] {
            Value::Bool(true) => {
                let when = since("date_of_death", json!(self.transaction.received));
                now.insert("date_of_death".into(), when);
            }
            Value::Bool(false) => drop(now.insert("date_of_death".into(), Value::Null)),
            _ => {}
        }
        match &patient["active"] {
            Value::Bool(false) => drop(now.insert("muted".into(), since("muted", json!(self.at())))),
            Value::Bool(true) => drop(now.insert("muted".into(), Value::Null)),
            _ => {}
        }
    }

    fn say_replaced(&self, other: &str, before: &Said, now: &mut Said) {
        let muted = before.get("muted").cloned().unwrap_or_else(|| json!(self.at()));
        now.insert("muted".into(), muted);
        now.insert("replaced_by".into(), json!(other));
    }

    /// When the message came.
    fn at(&self) -> String {
        jiff::Timestamp::from_millisecond(self.transaction.received)
            .map(|at| at.to_string())
            .unwrap_or_default()
    }

    async fn last_said(&self, uuid: &str) -> Result<LastSaid, Stop> {
        let known = self.near.journal.directory(&said_key(uuid)).await?;
        Ok(known.and_then(|known| serde_json::from_value(known).ok()).unwrap_or_default())
    }

    async fn pushes(&self, uuid: &str) -> Result<Pushes, Stop> {
        let known = self.near.journal.directory(&pushed_key(uuid)).await?;
        Ok(known.and_then(|known| serde_json::from_value(known).ok()).unwrap_or_default())
    }

    /// The uuid of somebody else who was met elsewhere first, by a reference or identifier of their Patient.
    async fn in_cht_as(&self, other: &Value) -> Result<Option<String>, Stop> {
        let mut names: Vec<Identifier> = Identifier::of(&other["identifier"]).into_iter().collect();
        if let Some(id) = other["reference"].as_str().and_then(|reference| reference.strip_prefix("Patient/"))
        {
            names.push(match &self.transaction.home {
                Some(home) => Identifier::new(system::at_server(home), id),
                None => Identifier::new(system::told(&self.transaction.client), format!("Patient/{id}")),
            });
        }
        for name in names {
            if let Some(person) = self.owner(&name).await? {
                let uuid = self.made_elsewhere(&person).await?;
                return Ok(uuid.or_else(|| self.is_being_made(&person)));
            }
        }
        Ok(None)
    }

    fn is_being_made(&self, person: &str) -> Option<String> {
        Some(uuid_of(person)).filter(|uuid| self.made.contains_key(uuid))
    }

    /// The fields that change.
    fn plan_change(&mut self, change: Change, part: usize) -> Vec<String> {
        let fields: Vec<String> = change.fields().into_iter().map(String::from).collect();
        if !fields.is_empty() {
            let after = self.made.get(&change.uuid).copied();
            let act = Act::ChtPersonChange { change };
            self.plan.steps.push(Step { destination: "cht".into(), act, after, needs: None, part });
        }
        fields
    }
}

fn links<'p>(patient: &'p Value, kind: &str) -> impl Iterator<Item = &'p Value> {
    patient["link"].as_array().into_iter().flatten().filter(move |link| link["type"] == kind)
}

/// Whose Patient takes the place of this one.
pub(super) fn replaced_by(patient: &Value) -> Option<&Value> {
    links(patient, "replaced-by").next().map(|link| &link["other"])
}
