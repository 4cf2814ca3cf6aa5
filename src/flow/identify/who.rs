//! Who is meant: by the crosswalk, else by asking. Nobody is guessed.
use super::reshape::identifiers_of;
use super::{Draughtsman, Stop, at_path, refused};
use crate::domain::follow_up::{Draft, Subject};
use crate::domain::identifier::{Identifier, search_value, system};
use crate::identity;
use crate::identity::Whose;
use crate::translate::Refusal;
use serde_json::Value;
use std::collections::HashMap;

/// What [`Draughtsman::learned_so_far`] says.
type Learned = (HashMap<Identifier, String>, HashMap<String, Vec<Identifier>>, usize);

impl Draughtsman<'_> {
    /// The person whose identifiers these are; new identifiers become theirs.
    pub(super) async fn link(&mut self, subject: &Subject) -> Result<String, Stop> {
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
        let known = self.identifiers(&person).await?;
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

    pub(super) fn learn(&mut self, identifiers: impl Iterator<Item = Identifier>, person: &str) {
        for identifier in identifiers {
            if !self.owners.contains_key(&identifier) {
                self.owners.insert(identifier.clone(), person.to_string());
                self.learned.entry(person.to_string()).or_default().push(identifier.clone());
                self.facts.links.push((identifier, person.to_string()));
            }
        }
    }

    /// What a person is called: in this message so far, and in the crosswalk.
    pub(super) async fn identifiers(&self, person: &str) -> Result<Vec<Identifier>, Stop> {
        let mut all = self.learned.get(person).cloned().unwrap_or_default();
        all.extend(self.near.journal.identifiers(person).await?);
        Ok(all)
    }

    /// A patient from elsewhere whom CHT names by an identifier without its system (`external_id`): whoever
    /// has it in the crosswalk, else on a server. Exactly one, or nobody.
    pub(super) async fn find_elsewhere(&mut self, draft: &mut Draft) -> Result<(), Stop> {
        let Some(subject) = &draft.subject else { return Ok(()) };
        let external = subject.identifiers.iter().find(|i| i.system == system::CHT_EXTERNAL_ID);
        let Some(external) = external.cloned() else { return Ok(()) };
        let stop = |code, message: &str| Err(Stop::Refused(refused("doc.external_id", code, message)));
        let known = self.near.journal.people_with(&external.value).await?;
        match known.as_slice() {
            [] => {}
            [person] => {
                self.learn(std::iter::once(external), &person.clone());
                return Ok(());
            }
            _ => return stop("multiple-matches", "several patients have this identifier"),
        }
        let mut found = Vec::new();
        for destination in self.destinations() {
            let Some(server) = self.near.servers.get(&destination).cloned() else { continue };
            let value = search_value(&external.value);
            let query = [("identifier", value.as_str())];
            let matches = self.ask(&destination, server.search("Patient", &query)).await?;
            found.extend(matches.into_iter().map(|patient| (destination.clone(), patient)));
        }
        let mut here: Vec<&str> = found.iter().map(|(destination, _)| destination.as_str()).collect();
        here.dedup();
        if found.is_empty() {
            return stop("not-found", "no patient with this identifier has come from elsewhere");
        }
        if found.len() > here.len() {
            return stop("multiple-matches", "a server has several patients with this identifier");
        }
        let mut all = vec![external];
        for (destination, patient) in found {
            all.extend(identifiers_of(&patient));
            let id = patient["id"].as_str().map(|id| Identifier::new(system::at_server(&destination), id));
            all.extend(id);
        }
        if let Some(subject) = &mut draft.subject {
            subject.identifiers.extend(all);
            subject.identifiers.dedup();
        }
        Ok(())
    }

    /// Whose an identifier is: as an earlier part of this message says, or as the crosswalk does.
    pub(super) async fn owner(&self, identifier: &Identifier) -> Result<Option<String>, Stop> {
        if let Some(person) = self.owners.get(identifier) {
            return Ok(Some(person.clone()));
        }
        Ok(self.near.journal.person(identifier).await?)
    }

    /// The person meant and their CHT uuid: by the crosswalk, else by asking CHT. Nobody is guessed, and if it is
    /// nobody, nothing was learned: a number that CHT does not know yet may turn out to be anybody's.
    pub(super) async fn known_to_cht(&mut self, subject: &Subject) -> Result<(String, String), Stop> {
        let before = self.learned_so_far();
        let found = self.meant_in_cht(subject).await;
        if found.is_err() {
            self.unlearn(before);
        }
        found
    }

    /// Who is who by now, and how many links that makes.
    pub(super) fn learned_so_far(&self) -> Learned {
        (self.owners.clone(), self.learned.clone(), self.facts.links.len())
    }

    pub(super) fn unlearn(&mut self, (owners, learned, links): Learned) {
        (self.owners, self.learned) = (owners, learned);
        self.facts.links.truncate(links);
    }

    async fn meant_in_cht(&mut self, subject: &Subject) -> Result<(String, String), Stop> {
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
    pub(super) async fn in_cht(&self, identifier: &Identifier) -> Result<Vec<Identifier>, Stop> {
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

    pub(super) async fn patient_at(&self, home: &str, reference: &str) -> Result<Vec<Identifier>, Stop> {
        let Some(server) = self.near.servers.get(home) else { return Ok(Vec::new()) };
        let found = self.ask(home, server.read(reference)).await?;
        Ok(found.map(|patient| identifiers_of(&patient)).unwrap_or_default())
    }

    pub(super) async fn cht_uuid(&self, person: &str) -> Result<Option<String>, Stop> {
        let known = self.identifiers(person).await?;
        Ok(known.into_iter().find(|i| i.system == system::CHT_UUID).map(|i| i.value))
    }
}

pub(super) fn unknown_patient(subject: &Subject) -> Stop {
    Stop::Refused(refused(
        &subject.path,
        "not-found",
        "no patient that CHT knows has one of these identifiers; give the CHT uuid or short code",
    ))
}

pub(super) fn two_people(path: &str, system: &str) -> Refusal {
    refused(
        path,
        "conflict",
        &format!("an identifier of {system} belongs to somebody else: these are two people"),
    )
}

/// A CHT person's own identifiers.
pub(super) fn cht_identifiers(person: &Value) -> Vec<Identifier> {
    [("_id", system::CHT_UUID), ("_id", system::IN_CHT), ("patient_id", system::CHT_SHORTCODE)]
        .into_iter()
        .filter_map(|(key, system)| {
            let value = person[key].as_str().filter(|v| !v.is_empty())?;
            Some(Identifier::new(system, value))
        })
        .collect()
}

/// The note that CHT itself has told us of a uuid.
pub(super) fn confirmed(identifiers: &[Identifier]) -> Option<Identifier> {
    let uuid = identifiers.iter().find(|i| i.system == system::CHT_UUID)?;
    Some(Identifier::new(system::IN_CHT, uuid.value.clone()))
}
