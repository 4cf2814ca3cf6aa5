//! A request's end without an outcome: its requester takes it back or has done without, or its day has come.
use super::request::{Asker, is_same, without_entries};
use super::requester::callback_destination;
use super::{Draughtsman, Stop, note};
use crate::domain::follow_up::{FollowUp, FollowUpRequest, Happening, Kind, Lapse, State};
use crate::domain::identifier::Identifier;
use crate::domain::plan::{Act, PartNote, Step};
use crate::domain::record::RecordDraft;
use crate::translate::Withdrawal;

impl Draughtsman<'_> {
    /// Its requester says that it is no longer as it was asked.
    pub(super) async fn moved(
        &mut self,
        request: &FollowUpRequest,
        asker: Asker,
        known: Option<FollowUp>,
    ) -> Result<PartNote, Stop> {
        let status = request.state.status_of(asker.resource["resourceType"].as_str().unwrap_or_default());
        let what = Happening::to(request.state);
        let Some(known) = known else {
            // It overtook what it takes back, or nobody was ever to be asked.
            let mut follow_up = self.as_asked(request, &asker, None);
            follow_up.happen(what, self.event(None));
            self.store_request(&follow_up, &asker.uuid).await?;
            let shown = follow_up.shown();
            self.facts.follow_ups.push(follow_up);
            let text = format!("a request that is {status}; nothing for a CHW to do");
            return Ok(note("follow_up_request", Some(shown), text));
        };
        if known.state.after(what).is_none() {
            let text = format!("the request is {} here; {status} changes nothing", known.state.task_status());
            return Ok(note("follow_up_request", Some(known.shown()), text));
        }
        let given = asker.resource["status"].as_str().unwrap_or_default();
        let reason = Withdrawal::of(request.state, given);
        let is_changed = !is_same(&known.resource, &asker.resource);
        let contacts = known.contacts.clone();
        let ended = self.end(known, what, reason, &asker.uuid).await?;
        for contact in contacts {
            self.end_contact(&contact, reason).await?;
        }
        if is_changed
            && let Some(own) = self.facts.follow_ups.iter_mut().find(|f| f.identifier == ended.identifier)
        {
            own.resource = asker.resource;
        }
        Ok(note("follow_up_request", Some(ended.shown()), format!("the request is {status}")))
    }

    /// Nobody is to be traced any more.
    async fn end_contact(&mut self, contact: &Identifier, reason: Withdrawal) -> Result<(), Stop> {
        let Some(known) = self.follow_up(contact).await? else { return Ok(()) };
        let uuid = self.cht_uuid(&known.person).await?.unwrap_or_default();
        self.end(known, Happening::Withdrawn, reason, &uuid).await.map(drop)
    }

    /// The same happens to every name that a request has; its CHW is told that nothing is to be done any more.
    async fn end(
        &mut self,
        request: FollowUp,
        what: Happening,
        reason: Withdrawal,
        uuid: &str,
    ) -> Result<FollowUp, Stop> {
        let is_asked = request.state.is_open() && self.is_asked(&request).await?;
        let mut names = self.names(&request).await?;
        let mut first = None;
        for name in &mut names {
            if !name.happen(what, self.event(None)) {
                continue;
            }
            self.keep_ended(name, uuid).await?;
            self.announce(name, None).await?;
            self.facts.follow_ups.push(name.clone());
            first.get_or_insert_with(|| name.clone());
        }
        if is_asked && !request.state.after(what).is_none_or(State::is_open) {
            self.take_back(&request, reason, uuid).await?;
        }
        Ok(first.unwrap_or(request))
    }

    /// A referral stays as it is there: a clinic may still see the patient.
    pub(super) async fn keep_ended(&mut self, request: &FollowUp, uuid: &str) -> Result<(), Stop> {
        if request.kind == Kind::Referral {
            return Ok(());
        }
        self.keep_at_servers(&without_entries(request), uuid).await
    }

    /// A request, and the others that were asked by the same record.
    async fn names(&self, request: &FollowUp) -> Result<Vec<FollowUp>, Stop> {
        let mut names = vec![request.clone()];
        if request.asked_by.is_some() {
            let others = self.near.journal.follow_ups_of(&request.person).await?;
            names.extend(
                others
                    .into_iter()
                    .filter(|other| other.is_one_with(request) && other.identifier != request.identifier),
            );
        }
        Ok(names)
    }

    /// A record in CHT that the CHW's task is resolved by.
    async fn take_back(&mut self, request: &FollowUp, reason: Withdrawal, uuid: &str) -> Result<(), Stop> {
        let at = self.transaction.received;
        let mut asked = request.clone();
        // The CHW's task goes by the name that its record has.
        asked.identifier = request.asked_as.clone().unwrap_or(asked.identifier);
        let draft = self.near.mappings.withdrawal(&asked, reason, at).map_err(Stop::Refused)?;
        self.tell_of_it(draft, uuid).await
    }

    /// A record that asks nobody for anything; nothing, if no mapping makes one.
    async fn tell_of_it(&mut self, draft: Option<RecordDraft>, uuid: &str) -> Result<(), Stop> {
        let Some(draft) = draft else { return Ok(()) };
        let (reported, since) = self.dates(None, true).await?;
        self.tell_cht(draft.about(uuid, reported, since), None, None);
        Ok(())
    }

    /// A request is due, or expires.
    pub(super) async fn lapse(&mut self, lapse: Lapse) -> Result<PartNote, Stop> {
        let known = self.near.journal.follow_up(lapse.kind, &lapse.identifier).await?;
        let Some(request) = known.filter(|known| known.wakes() == Some(lapse.at)) else {
            return Ok(note("ignored", None, "the request has moved on"));
        };
        let expires = request.expires.is_some_and(|expires| expires <= lapse.at);
        let what = if expires { Happening::Expired } else { Happening::Overdue };
        let uuid = self.cht_uuid(&request.person).await?.unwrap_or_default();
        if expires && request.kind == Kind::Referral {
            self.no_answer(&request, &uuid).await?;
        }
        let ended = self.end(request, what, Withdrawal::Expired, &uuid).await?;
        self.tell_requester(&ended).await?;
        if ended.index.is_some() {
            self.finish_indexes(&[ended]).await?;
        }
        let text = if expires { "nobody did it in time" } else { "it is overdue" };
        Ok(note("lapse", None, text))
    }

    /// The CHW hears that the clinic never answered.
    async fn no_answer(&mut self, referral: &FollowUp, uuid: &str) -> Result<(), Stop> {
        let at = self.transaction.received;
        let draft = self.near.mappings.no_answer(referral, at).map_err(Stop::Refused)?;
        self.tell_of_it(draft, uuid).await
    }

    /// At the Endpoint of the Organization that asked, if it has one.
    pub(super) async fn tell_requester(&mut self, request: &FollowUp) -> Result<(), Stop> {
        if request.kind != Kind::FollowUp {
            return Ok(());
        }
        let Some(address) = self.callback_for(request).await? else { return Ok(()) };
        self.plan.steps.push(Step {
            destination: callback_destination(&address),
            act: Act::Callback {
                address,
                full_url: request.id(),
                resource: request.shown(),
                subscription: None,
            },
            after: None,
            needs: None,
            part: self.plan.parts.len(),
        });
        Ok(())
    }
}
