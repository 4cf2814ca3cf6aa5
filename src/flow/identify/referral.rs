//! Referrals: begun by CHT, and news of them.
use super::{Draughtsman, Stop, note, refused};
use crate::domain::follow_up::{Draft, Kind, ReferralUpdate, State};
use crate::domain::identifier::Identifier;
use crate::domain::message::Route;
use crate::domain::plan::{Act, FollowUp, News, PartNote};

impl Draughtsman<'_> {
    pub(super) async fn begin_referral(
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
            client: self.transaction.client.clone(),
            home: None,
            told: Vec::new(),
            asked_by: None,
            asked_at: 0,
        });
        self.facts.follow_ups.push(follow_up);
        Ok(())
    }

    pub(super) async fn referral_update(&mut self, update: ReferralUpdate) -> Result<PartNote, Stop> {
        let path = format!("{}.identifier", update.resource["resourceType"].as_str().unwrap_or("Resource"));
        let known = self.near.journal.follow_up(Kind::Referral, &update.referral).await?;
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
                referral.has_been_told(news);
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
        self.tell_cht(record, None, Some(news));
        Ok(note("referral_update", Some(resource), text))
    }
}

/// Why there is nothing to tell CHT, if there is not.
pub(super) fn old_news(referral: &FollowUp, update: &ReferralUpdate, news: &str) -> Option<String> {
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
