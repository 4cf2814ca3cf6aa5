//! Referrals: begun by CHT, and news of them.
use super::outcome::forget_entries;
use super::request::is_version;
use super::{Draughtsman, Stop, note, refused};
use crate::domain::follow_up::{Draft, FollowUp, Happening, Kind, ReferralUpdate, State};
use crate::domain::identifier::{Identifier, system};
use crate::domain::message::Route;
use crate::domain::plan::{Act, News, PartNote};
use serde_json::{Value, json};

impl Draughtsman<'_> {
    pub(super) async fn begin_referral(
        &mut self,
        referral: &Identifier,
        person: &str,
        draft: &Draft,
    ) -> Result<(), Stop> {
        let known = self.near.journal.follow_up(Kind::Referral, referral).await?;
        let resource = draft.entries.iter().find(|e| e.resource_type() == "ServiceRequest");
        let uuid = self.cht_uuid(person).await?;
        let resource = resource.map(|e| shown_to_clinics(&e.resource, uuid.as_deref())).unwrap_or_default();
        let is_new = known.is_none();
        let client = &self.transaction.client;
        let mut follow_up =
            known.unwrap_or_else(|| FollowUp::new(Kind::Referral, referral.clone(), person, client));
        let moves = match is_new {
            true => {
                follow_up.events.push(self.event(None));
                follow_up.program = resource["code"]["text"].as_str().map(String::from);
                self.set_deadlines(&mut follow_up, None);
                true
            }
            false => follow_up.resource != resource && follow_up.happen(Happening::Changed, self.event(None)),
        };
        follow_up.resource = resource;
        if moves {
            self.announce(&follow_up, None).await?;
        }
        self.facts.follow_ups.push(follow_up);
        Ok(())
    }

    pub(super) async fn referral_update(&mut self, update: ReferralUpdate) -> Result<PartNote, Stop> {
        let path = format!("{}.identifier", update.resource["resourceType"].as_str().unwrap_or("Resource"));
        let known = self.near.journal.follow_up(Kind::Referral, &update.referral).await?;
        is_version(known.as_ref(), update.if_match.as_deref(), &update.resource)?;
        if known.is_none() && matches!(self.transaction.route, Route::Poll(_)) {
            // Nobody asked us, and nothing can be mended: another mediator's, or from before a restore.
            let text = "a referral that did not pass through here";
            return Ok(note("ignored", Some(update.resource), text));
        }
        let Some(mut referral) = known else {
            return Err(Stop::Refused(refused(
                &path,
                "not-found",
                "no referral with this identifier came from CHT",
            )));
        };
        // An earlier part of the same message may tell of it already.
        for step in &self.plan.steps {
            if let Act::ChtRecord { news: Some(news), .. } = &step.act
                && news.referral == update.referral
            {
                referral.has_been_told(news, self.event(None));
            }
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
        let text = format!("news of a referral: {}", update.state.task_status());
        let (reported, since) = self.dates(None, true).await?;
        let record = update.record.about(&uuid, reported, since);
        // It counts as told when the record is there, and not before: else a rerun would tell nothing.
        let news = News { referral: update.referral, state: update.state, said: news };
        self.tell_cht(record, None, Some(news.clone()));
        let step = self.plan.steps.len() - 1;
        referral.has_been_told(&news, self.event(None));
        self.needs = Some(step);
        self.announce(&referral, None).await?;
        self.needs = None;
        Ok(note("referral_update", Some(resource), text))
    }
}

/// As a clinic finds it with us: what it refers to goes by names that mean something there.
fn shown_to_clinics(request: &Value, uuid: Option<&str>) -> Value {
    let mut shown = request.clone();
    forget_entries(&mut shown);
    let mut subject = json!({});
    if let Some(uuid) = uuid {
        subject = json!({"reference": format!("Patient/{uuid}"),
            "identifier": {"system": system::CHT_UUID, "value": uuid}});
    }
    if request["subject"]["identifier"]["value"].is_string() {
        subject["identifier"] = request["subject"]["identifier"].clone();
    }
    shown["subject"] = subject;
    shown
}

/// Why there is nothing to tell CHT, if there is not.
pub(super) fn old_news(referral: &FollowUp, update: &ReferralUpdate, news: &str) -> Option<String> {
    let rank = |state: State| match state {
        State::Requested => 0,
        State::Accepted => 1,
        State::InProgress => 2,
        State::Completed | State::Rejected | State::Cancelled | State::Expired => 3,
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
