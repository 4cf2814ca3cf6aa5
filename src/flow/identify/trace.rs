//! Contact tracing: a request of its own for each contact, about the contact where CHT knows them, else about the
//! index case. The index case's request ends when all of them have.
use super::request::Asker;
use super::{Draughtsman, Stop, note};
use crate::domain::follow_up::{Contact, FollowUp, FollowUpRequest, Happening, State, Subject};
use crate::domain::plan::{Act, PartNote};
use serde_json::Value;

impl Draughtsman<'_> {
    pub(super) async fn trace(
        &mut self,
        request: FollowUpRequest,
        asker: Asker,
        known: Option<FollowUp>,
    ) -> Result<PartNote, Stop> {
        let mut index = self.as_asked(&request, &asker, known);
        // Its contacts have days of their own.
        (index.due, index.expires) = (None, None);
        for contact in &request.contacts {
            if !index.contacts.contains(&contact.identifier) {
                index.contacts.push(contact.identifier.clone());
            }
        }
        self.store_request(&index, &asker.uuid).await?;
        let mut asked = 0;
        for contact in request.contacts.clone() {
            asked += usize::from(self.trace_one(&request, contact, &index, &asker).await?);
        }
        let shown = index.shown();
        self.claim_index(&index, &asker.uuid).await?;
        self.facts.follow_ups.push(index);
        let text = match asked {
            0 => "CHT has the requests for these contacts already".to_string(),
            n => format!("a request to a CHW for each of {n} contact(s)"),
        };
        Ok(note("follow_up_request", Some(shown), text))
    }

    /// Answers whether a CHW is asked now.
    async fn trace_one(
        &mut self,
        request: &FollowUpRequest,
        contact: Contact,
        index: &FollowUp,
        asker: &Asker,
    ) -> Result<bool, Stop> {
        let identifier = self.own(contact.identifier.clone());
        let known = self.follow_up(&identifier).await?;
        let open = known.as_ref().filter(|known| known.state.is_open());
        let is_asked = match open {
            Some(open) => self.is_asked(open).await?,
            // Who was found is not traced again for the same words.
            None => known.is_some(),
        };
        if is_asked {
            return Ok(false);
        }
        let (person, uuid) = self.traced_as(&contact, &request.resource, asker).await?;
        let own = Asker {
            identifier,
            person,
            uuid: uuid.clone(),
            callback: asker.callback.clone(),
            resource: contact.task,
        };
        let (reported, since) = self.dates(known.as_ref(), known.is_none()).await?;
        let each = FollowUpRequest { record: contact.record.clone(), ..request.clone() };
        let mut follow_up = self.as_asked(&each, &own, known);
        follow_up.index = Some(index.identifier.clone());
        follow_up.home = None;
        follow_up.asked_at = since.unwrap_or(reported);
        follow_up.asked_by = Some(self.transaction.head.id.clone());
        self.store_request(&follow_up, &uuid).await?;
        self.ask_cht(contact.record, &follow_up, &uuid, (reported, since));
        self.claim(&follow_up, &uuid).await?;
        self.facts.follow_ups.push(follow_up);
        Ok(true)
    }

    /// The contact's own person in CHT, who may be made now; else the index case's.
    async fn traced_as(
        &mut self,
        contact: &Contact,
        request: &Value,
        asker: &Asker,
    ) -> Result<(String, String), Stop> {
        let mut subject = Subject {
            identifiers: contact.names.iter().map(|name| self.own(name.clone())).collect(),
            reference: None,
            path: "RelatedPerson.identifier".into(),
        };
        match subject.identifiers.is_empty() {
            // Nobody else is called so.
            true => subject.identifiers.push(self.own(contact.identifier.clone())),
            false => match self.known_to_cht(&subject).await {
                Err(Stop::Refused(refusal)) if refusal.code == "not-found" => {}
                found => return found,
            },
        }
        let made = self.made_for(&contact.person, &subject, request).await?;
        Ok(made.unwrap_or_else(|| (asker.person.clone(), asker.uuid.clone())))
    }

    /// Claimed with the first of its contacts.
    async fn claim_index(&mut self, index: &FollowUp, uuid: &str) -> Result<(), Stop> {
        let first = self.plan.steps.iter().position(|step| match &step.act {
            Act::ChtRecord { follow_up: Some(asked), .. } => index.contacts.contains(asked),
            _ => false,
        });
        match first {
            Some(step) => self.claimed_after(step, index, uuid).await.map(drop),
            None => Ok(()),
        }
    }

    /// The requests whose contacts all have an end now.
    pub(super) async fn finish_indexes(&mut self, contacts: &[FollowUp]) -> Result<(), Stop> {
        let mut names: Vec<_> = contacts.iter().filter_map(|contact| contact.index.clone()).collect();
        names.sort();
        names.dedup();
        for name in names {
            let Some(mut index) = self.follow_up(&name).await?.filter(|index| index.state.is_open()) else {
                continue;
            };
            let mut states = Vec::new();
            for contact in &index.contacts {
                let known = self.follow_up(contact).await?;
                states.push(known.map_or(State::Requested, |known| known.state));
            }
            if states.iter().any(|state| state.is_open()) {
                continue;
            }
            let what = match states.contains(&State::Completed) {
                true => Happening::Completed,
                false => Happening::Expired,
            };
            if index.happen(what, self.event(Some("done".into()))) {
                let uuid = self.cht_uuid(&index.person).await?.unwrap_or_default();
                self.keep_ended(&index, &uuid).await?;
                self.announce(&index, None).await?;
                self.tell_requester(&index).await?;
                self.facts.follow_ups.push(index);
            }
        }
        Ok(())
    }
}
