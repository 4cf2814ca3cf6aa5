//! One transaction through its steps.
use super::{Corridor, Traffic, Verdict};
use crate::domain::audit::{Act as Deed, Agent, Event, Outcome};
use crate::domain::fhir::{Entry, Target};
use crate::domain::follow_up::{Event as Moment, FollowUp, Happening, Kind};
use crate::domain::identifier::{Identifier, system};
use crate::domain::message::Route;
use crate::domain::orchestration::MOST;
use crate::domain::person::LastSaid;
use crate::domain::plan::{Act, News, Progress, Status, Step, StepStatus};
use crate::domain::redact::redact;
use crate::failpoint::reach;
use crate::flow::audit::patients;
use crate::flow::confirm;
use crate::flow::deliver::{deliver, due, give_up};
use crate::flow::gate;
use crate::flow::identify::{Stop, directory_key, identify, said_key};
use crate::flow::ports::{
    Answer, Facts, Failure, FailureKind, JournalError, Mark, Millis, ServerIds, Transaction,
};
use crate::flow::{off_the_loop, orchestrations};
use crate::planted::{Bug, is_planted};
use crate::translate::{Refusal, Source};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

impl Corridor {
    /// A panic is a bug of ours: it fails its message, visibly, and stops nobody else's.
    pub(super) async fn carry_safely(&self, id: &str) -> Verdict {
        let (corridor, own) = (self.clone(), id.to_string());
        let left = self.inner.left.clone();
        let carried = tokio::spawn(left.run_until_cancelled_owned(async move { corridor.carry(&own).await }));
        match carried.await {
            Ok(verdict) => verdict.unwrap_or(Verdict::Finished(None)),
            Err(_) => self.fail_after_panic(id).await,
        }
    }

    async fn fail_after_panic(&self, id: &str) -> Verdict {
        tracing::error!(transaction = id, "a message made the mediator itself fail");
        let Ok(Some(transaction)) = self.inner.near.journal.transaction(id).await else {
            return Verdict::Finished(None);
        };
        let message = "the mediator itself failed on this message: this is a bug, please report it".into();
        let refusal = Refusal { path: String::new(), code: "exception", message };
        let body = serde_json::from_slice(&transaction.body).unwrap_or_default();
        self.refuse(transaction, &refusal, &body).await
    }

    async fn carry(&self, id: &str) -> Verdict {
        match self.inner.near.journal.transaction(id).await {
            Ok(Some(transaction)) if transaction.head.status == Status::Open => {
                match transaction.through_openhim {
                    true => orchestrations::noted(self.carry_on(transaction)).await.0,
                    false => self.carry_on(transaction).await,
                }
            }
            Ok(_) => Verdict::Finished(None),
            Err(error) => {
                tracing::error!(transaction = id, %error, "a transaction cannot be read");
                Verdict::Parked(self.inner.clock.steady() + 5_000)
            }
        }
    }

    #[tracing::instrument(name = "transaction", skip_all, fields(id = %transaction.head.id, route = transaction.route.family()))]
    async fn carry_on(&self, mut transaction: Transaction) -> Verdict {
        let body: Value = serde_json::from_slice(&transaction.body).unwrap_or_default();
        if transaction.plan.is_none() {
            match self.make_plan(&mut transaction, &body).await {
                Ok(()) => {}
                Err(Stop::Refused(refusal)) => return self.refuse(transaction, &refusal, &body).await,
                Err(Stop::Wait { destination, failure }) => {
                    return self.wait_for(transaction, &destination, &failure, &body);
                }
                Err(Stop::Busy) => return Verdict::Busy,
                Err(Stop::Journal(error)) => {
                    tracing::error!(%error, "a plan cannot be kept");
                    return Verdict::Parked(self.inner.clock.steady() + 5_000);
                }
            }
        }
        if transaction.head.not_before == 0 {
            // New, or an operator wants it now.
            transaction.progress.iter_mut().for_each(|progress| progress.not_before = 0);
        }
        self.mind_the_last_run(&mut transaction);
        self.deliver_due(transaction, &body).await
    }

    /// A record that may have been sent just before we were killed is looked for only when CHT's
    /// searches would show it.
    fn mind_the_last_run(&self, transaction: &mut Transaction) {
        let Some(plan) = &transaction.plan else { return };
        if transaction.head.seq >= self.inner.first.load(Relaxed) || is_planted(Bug::NoWaitAfterRestart) {
            return;
        }
        let shown = self.inner.started + self.inner.options.index_lag.as_millis() as Millis;
        for (step, progress) in plan.steps.iter().zip(&mut transaction.progress) {
            if matches!(step.act, Act::ChtRecord { .. }) {
                progress.not_before = progress.not_before.max(shown);
            }
        }
    }

    /// Translates and identifies; keeps the plan, with what it builds on, before anything is sent.
    async fn make_plan(&self, transaction: &mut Transaction, body: &Value) -> Result<(), Stop> {
        match self.plan_once(transaction, body).await? {
            // Somebody else said meanwhile whose an identifier is: seen with that, it may be the same person.
            Err(JournalError::Conflict(_)) => self.plan_once(transaction, body).await??,
            kept => kept?,
        }
        reach("planned");
        Ok(())
    }

    async fn plan_once(
        &self,
        transaction: &mut Transaction,
        body: &Value,
    ) -> Result<Result<(), JournalError>, Stop> {
        let source = Source { route: &transaction.route, body, received: transaction.received };
        let name = match &transaction.route {
            Route::ChtPush(name) => name.as_deref(),
            _ => None,
        };
        let translated =
            off_the_loop(|| self.inner.mappings.translate(&source, name)).map_err(Stop::Refused)?;
        reach("translated");
        transaction.mapping = Some(translated.label());
        let (plan, facts) = identify(&self.inner.near, transaction, translated).await?;
        transaction.progress = plan.steps.iter().map(|_| Default::default()).collect();
        transaction.plan = Some(Arc::new(plan));
        (transaction.error, transaction.cause) = (None, None);
        let mark = self.mark_of(transaction, Status::Open, 0, None);
        let mark = Mark { plan: transaction.plan.clone(), ..mark };
        match facts.is_empty() {
            true => {
                self.inner.near.journal.mark(mark);
                Ok(Ok(()))
            }
            false => {
                let moved = facts.follow_ups.clone();
                let kept = self.inner.near.journal.commit(mark, facts).await;
                if kept.is_ok() {
                    let own = |event: &&Moment| event.transaction == transaction.head.id;
                    moved.iter().for_each(|f| self.count(f, f.events.iter().filter(own)));
                }
                if kept.is_err() {
                    // A plan whose facts are not kept is none.
                    transaction.plan = None;
                    transaction.progress.clear();
                }
                Ok(kept)
            }
        }
    }

    async fn deliver_due(&self, mut transaction: Transaction, body: &Value) -> Verdict {
        let plan = transaction.plan.clone().unwrap_or_default();
        let mut busy = false;
        let mut tried = Vec::new();
        let mut told = Vec::new();
        loop {
            let steps = due(&transaction, self.inner.clock.steady());
            let Some(&index) = steps.iter().find(|i| !tried.contains(*i)) else { break };
            tried.push(index);
            if self.inner.stop.is_cancelled() {
                break;
            }
            let step = &plan.steps[index];
            let entry = self.inner.traffic.schedule().enter(
                &step.destination,
                transaction.head.seq,
                self.inner.clock.steady(),
            );
            match entry {
                gate::Entry::Busy => busy = true,
                gate::Entry::Closed { until, reason } => {
                    let progress = &mut transaction.progress[index];
                    progress.not_before = until;
                    progress.error = Some(format!("left alone for a while, because {reason}"));
                    progress.cause = progress.error.clone();
                }
                gate::Entry::Open => {
                    self.try_step(&mut transaction, &plan.steps, index, body).await;
                    told.extend(delivered(&step.destination, &transaction.progress[index]));
                }
            }
        }
        self.conclude(transaction, busy, told, body).await
    }

    async fn try_step(&self, transaction: &mut Transaction, steps: &[Step], index: usize, body: &Value) {
        reach("before-delivery");
        let step = &steps[index];
        let mut call = Call { traffic: &self.inner.traffic, destination: &step.destination, ended: false };
        if is_planted(Bug::MarkBeforeDelivery) {
            let mut early = transaction.clone();
            early.progress[index].status = StepStatus::Done;
            self.inner.near.journal.mark(self.mark_of(&early, status_of(&early), 0, None));
        }
        let earlier = (&steps[..index], &transaction.progress[..index]);
        let result = deliver(&self.inner.near, step, earlier).await;
        reach("after-delivery");
        let again = transaction.progress[index].attempts > 0;
        call.end(result.as_ref().err(), again);
        self.pump();
        metrics::counter!("deliveries", "destination" => kind_of(&step.destination),
            "result" => if result.is_ok() { "done" } else { "failed" })
        .increment(1);
        transaction.attempts += 1;
        let exhausted = self.is_exhausted(transaction);
        let progress = &mut transaction.progress[index];
        progress.attempts += 1;
        match result {
            Ok(ids) => {
                progress.status = StepStatus::Done;
                (progress.error, progress.cause) = (None, None);
                progress.ids = ids;
            }
            Err(failure) => {
                let fraction = self.inner.chance.fraction();
                let delay = self.inner.options.backoff.delay(progress.attempts, failure.wait(), fraction);
                progress.not_before = self.inner.clock.steady() + delay.as_millis() as Millis;
                progress.error = Some(redact(&failure.full(), body));
                progress.cause = Some(failure.message);
                if failure.kind == FailureKind::Permanent || exhausted {
                    progress.status = StepStatus::Failed;
                }
                tracing::warn!(destination = %kind_of(&step.destination), attempts = progress.attempts, kind = ?failure.kind, "a delivery failed");
            }
        }
    }

    /// `told` are the acts of this try, for the audit trail.
    async fn conclude(
        &self,
        mut transaction: Transaction,
        busy: bool,
        told: Vec<Deed>,
        body: &Value,
    ) -> Verdict {
        give_up(&mut transaction);
        let status = status_of(&transaction);
        transaction.error = errors_of(&transaction, |progress| progress.error.as_deref());
        transaction.cause = errors_of(&transaction, |progress| progress.cause.as_deref());
        take_orchestrations(&mut transaction);
        let not_before = next_attempt(&transaction, self.inner.clock.steady());
        let answer = (status != Status::Open).then(|| confirm::answer(&transaction, status, None));
        let facts = self.facts_of(&transaction).await;
        reach("delivered");
        let mark = self.mark_of(
            &transaction,
            status,
            if status == Status::Open { not_before } else { 0 },
            answer.clone(),
        );
        let mark = Mark { audit: self.audit(&transaction, body, status, told), ..mark };
        let moved = facts.follow_ups.clone();
        if facts.is_empty() {
            self.inner.near.journal.mark(mark);
        } else if let Err(error) = self.inner.near.journal.commit(mark.clone(), facts).await {
            tracing::error!(%error, "what a delivery taught cannot be kept");
            match error {
                // It can never be kept; the state must not be lost with it.
                JournalError::Conflict(_) => self.inner.near.journal.mark(mark),
                _ if is_planted(Bug::LessonLostOnFullDisk) => self.inner.near.journal.mark(mark),
                // Others build on it: a request is answered by the record that asked.
                _ => return self.learn_again(&transaction),
            }
        } else {
            // What a delivery makes happen to a request is one event.
            moved.iter().for_each(|request| self.count(request, request.events.iter().rev().take(1)));
        }
        reach("marked");
        match answer {
            Some(answer) => {
                metrics::counter!("transactions_finished", "status" => status.as_str()).increment(1);
                Verdict::Finished(Some(answer))
            }
            None if busy => Verdict::Busy,
            None if self.only_calls_back(&transaction) => Verdict::Aside(not_before),
            None => Verdict::Parked(not_before),
        }
    }

    /// All else is done, and whoever is to be told has not taken it for a while.
    fn only_calls_back(&self, transaction: &Transaction) -> bool {
        let Some(plan) = &transaction.plan else { return false };
        let mut left = plan.steps.iter().zip(&transaction.progress);
        let waits = self.inner.clock.now() - transaction.received;
        waits >= self.inner.options.holds_up.as_millis() as Millis
            && left.all(|(step, progress)| {
                progress.status != StepStatus::Open || matches!(step.act, Act::Callback { .. })
            })
    }

    /// Nothing is delivered anew: what is done tells again what it taught.
    fn learn_again(&self, transaction: &Transaction) -> Verdict {
        let until = self.inner.clock.steady() + 5_000;
        self.inner.near.journal.mark(self.mark_of(transaction, Status::Open, until, None));
        Verdict::Parked(until)
    }

    /// What deliveries taught: the ids that servers gave to patients, the uuids of CHT's records.
    async fn facts_of(&self, transaction: &Transaction) -> Facts {
        let mut facts = Facts::default();
        let Some(plan) = &transaction.plan else { return facts };
        for (step, progress) in plan.steps.iter().zip(&transaction.progress) {
            if progress.status != StepStatus::Done {
                continue;
            }
            match &step.act {
                Act::ChtRecord { follow_up, news, .. } => {
                    if let Some(report) = progress.ids.get("report") {
                        self.note_record(transaction, follow_up.as_ref(), report, &mut facts).await;
                    }
                    if let Some(news) = news {
                        self.note_news(transaction, news, &mut facts).await;
                    }
                }
                Act::ChtPerson { person, body } => {
                    if let Some(uuid) = progress.ids.get("person") {
                        let confirmed = Identifier::new(system::IN_CHT, uuid);
                        facts.links.push((confirmed, person.clone()));
                        let last = LastSaid::by_body(transaction.head.seq, body);
                        facts.directory.extend(self.last_said(uuid, last).await);
                    }
                }
                Act::ChtPersonChange { change } => {
                    let last = change.said(transaction.head.seq);
                    facts.directory.extend(self.last_said(&change.uuid, last).await);
                }
                Act::Fhir { entries } => {
                    for entry in entries.iter() {
                        facts
                            .directory
                            .extend(self.request_id(&transaction.client, entry, &progress.ids).await);
                    }
                    for entry in entries.iter().filter(|e| e.resource_type() == "Patient") {
                        facts.links.extend(self.server_id(&step.destination, entry, &progress.ids).await);
                        facts.links.extend(self.told_id(transaction, entry, &progress.ids).await);
                    }
                }
                _ => {}
            }
        }
        facts
    }

    /// What CHT has been told of a person, unless it has been told newer things.
    async fn last_said(&self, uuid: &str, last: LastSaid) -> Option<(String, Value)> {
        let key = said_key(uuid);
        let known = self.inner.near.journal.directory(&key).await.ok()?;
        let known: Option<LastSaid> = known.and_then(|known| serde_json::from_value(known).ok());
        let is_newer = known.is_none_or(|known| known.seq <= last.seq && known != last);
        is_newer.then(|| (key, json!(last)))
    }

    /// The record by which a CHW was asked: of every name that the request has.
    async fn note_record(
        &self,
        transaction: &Transaction,
        asked: Option<&Identifier>,
        report: &str,
        facts: &mut Facts,
    ) {
        let journal = &self.inner.near.journal;
        let Some(identifier) = asked else { return };
        let Ok(Some(known)) = journal.follow_up(Kind::FollowUp, identifier).await else { return };
        let mut names = journal.follow_ups_of(&known.person).await.unwrap_or_default();
        names.retain(|f| f.identifier == known.identifier || f.is_one_with(&known));
        // Whoever asked anew meanwhile has a record of their own.
        names.retain(|f| f.asked_by.as_ref().is_none_or(|by| *by == transaction.head.id));
        for mut name in names.into_iter().filter(|f| f.kind == Kind::FollowUp) {
            if name.record.as_deref() != Some(report) {
                name.record = Some(report.to_string());
                name.happen(Happening::Claimed, self.step(transaction));
                self.note_index(transaction, &name, facts).await;
                facts.follow_ups.push(name);
            }
        }
    }

    /// By programmes of the configuration only: others are free text.
    fn count<'e>(&self, request: &FollowUp, events: impl Iterator<Item = &'e Moment>) {
        let program = request.program.as_deref().and_then(|words| self.inner.near.follow_up.program(words));
        let program = program.map_or("other", |(name, _)| name).to_string();
        for event in events {
            let outcome = event.outcome.clone().unwrap_or_default();
            metrics::counter!("follow_ups", "event" => event.what.as_str(), "program" => program.clone(), "outcome" => outcome)
                .increment(1);
        }
    }

    /// With the first of its contacts, a request to trace them is claimed.
    async fn note_index(&self, transaction: &Transaction, contact: &FollowUp, facts: &mut Facts) {
        let Some(index) = &contact.index else { return };
        if facts.follow_ups.iter().any(|known| known.identifier == *index) {
            return;
        }
        let known = self.inner.near.journal.follow_up(Kind::FollowUp, index).await;
        if let Ok(Some(mut index)) = known
            && index.happen(Happening::Claimed, self.step(transaction))
        {
            facts.follow_ups.push(index);
        }
    }

    /// What happens to a request now, because of this transaction.
    fn step(&self, transaction: &Transaction) -> Moment {
        Moment {
            at: self.inner.clock.now(),
            what: Happening::Claimed,
            by: transaction.client.clone(),
            transaction: transaction.head.id.clone(),
            outcome: None,
        }
    }

    async fn note_news(&self, transaction: &Transaction, news: &News, facts: &mut Facts) {
        let newer = facts.follow_ups.iter_mut().find(|f| f.identifier == news.referral);
        if let Some(referral) = newer {
            return referral.has_been_told(news, self.step(transaction));
        }
        let known = self.inner.near.journal.follow_up(Kind::Referral, &news.referral).await;
        if let Ok(Some(mut referral)) = known
            && !referral.told.contains(&news.said)
        {
            referral.has_been_told(news, self.step(transaction));
            facts.follow_ups.push(referral);
        }
    }

    /// The id of a Patient that its sender is answered with.
    async fn told_id(
        &self,
        transaction: &Transaction,
        entry: &Entry,
        ids: &ServerIds,
    ) -> Option<(Identifier, String)> {
        if !matches!(transaction.route, Route::Fhir(_) | Route::DropIn(_)) || transaction.home.is_some() {
            return None;
        }
        let told = Identifier::new(system::told(&transaction.client), ids.get(&entry.full_url)?);
        let journal = &self.inner.near.journal;
        if journal.person(&told).await.ok()?.is_some() {
            return None;
        }
        let Target::Identifier(target) = &entry.target else { return None };
        Some((told, journal.person(target).await.ok()??))
    }

    /// By the id that the server gave it, its sender may ask how far a request is.
    async fn request_id(&self, client: &str, entry: &Entry, ids: &ServerIds) -> Option<(String, Value)> {
        let (Target::Identifier(identifier), "ServiceRequest" | "Task") =
            (&entry.target, entry.resource_type())
        else {
            return None;
        };
        let id = ids.get(&entry.full_url)?.rsplit('/').next()?;
        let key = directory_key(client, entry.resource_type(), id);
        let journal = &self.inner.near.journal;
        if journal.directory(&key).await.ok()?.is_some() {
            return None;
        }
        journal.follow_up(Kind::FollowUp, identifier).await.ok()??;
        Some((key, serde_json::json!(identifier)))
    }

    async fn server_id(
        &self,
        destination: &str,
        entry: &Entry,
        ids: &ServerIds,
    ) -> Option<(Identifier, String)> {
        let Target::Identifier(target) = &entry.target else { return None };
        let id = ids.get(&entry.full_url)?.rsplit('/').next()?;
        let person = self.inner.near.journal.person(target).await.ok()??;
        let theirs = Identifier::new(system::at_server(destination), id);
        match self.inner.near.journal.person(&theirs).await.ok()? {
            None => Some((theirs, person)),
            Some(_) => None,
        }
    }

    async fn refuse(&self, mut transaction: Transaction, refusal: &Refusal, body: &Value) -> Verdict {
        tracing::warn!(code = refusal.code, path = %refusal.path, "a message cannot be carried out");
        take_orchestrations(&mut transaction);
        transaction.error = Some(match refusal.path.as_str() {
            "" => refusal.message.clone(),
            path => format!("{path}: {}", refusal.message),
        });
        transaction.cause = Some(format!("{} {}", refusal.code, refusal.path).trim_end().to_string());
        transaction.attempts += 1;
        let answer = confirm::answer(&transaction, Status::Failed, Some(refusal));
        let mark = self.mark_of(&transaction, Status::Failed, 0, Some(answer.clone()));
        let audit = self.audit(&transaction, body, Status::Failed, Vec::new());
        self.inner.near.journal.mark(Mark { audit, ..mark });
        metrics::counter!("transactions_finished", "status" => "failed").increment(1);
        Verdict::Finished(Some(answer))
    }

    /// A neighbour that identification needs does not answer.
    fn wait_for(
        &self,
        mut transaction: Transaction,
        destination: &str,
        failure: &Failure,
        body: &Value,
    ) -> Verdict {
        take_orchestrations(&mut transaction);
        transaction.attempts += 1;
        transaction.error = Some(format!("{destination}: {}", redact(&failure.full(), body)));
        transaction.cause = Some(format!("{destination}: {}", failure.message));
        let ends = failure.kind == FailureKind::Permanent || self.is_exhausted(&transaction);
        if ends {
            let answer = confirm::answer(&transaction, Status::Failed, None);
            let mark = self.mark_of(&transaction, Status::Failed, 0, Some(answer.clone()));
            let audit = self.audit(&transaction, body, Status::Failed, Vec::new());
            self.inner.near.journal.mark(Mark { audit, ..mark });
            metrics::counter!("transactions_finished", "status" => "failed").increment(1);
            return Verdict::Finished(Some(answer));
        }
        let fraction = self.inner.chance.fraction();
        let delay = self.inner.options.backoff.delay(transaction.attempts, failure.wait(), fraction);
        let until = self.inner.clock.steady() + delay.as_millis() as Millis;
        self.inner.near.journal.mark(self.mark_of(&transaction, Status::Open, until, None));
        Verdict::Parked(until)
    }

    /// Whether it has been tried for long enough: since it came, was asked for again, or we started.
    fn is_exhausted(&self, transaction: &Transaction) -> bool {
        let since = self.inner.traffic.schedule().since(transaction.head.seq);
        let now = self.inner.clock.steady();
        since.is_some_and(|since| self.inner.options.backoff.is_exhausted(since, now))
    }

    /// How it stands; its plan is as it was.
    fn mark_of(
        &self,
        transaction: &Transaction,
        status: Status,
        not_before: Millis,
        answer: Option<Answer>,
    ) -> Mark {
        let now = self.inner.clock.now();
        Mark {
            id: transaction.head.id.clone(),
            status,
            attempts: transaction.attempts,
            // Read by people, so it is of the time of day.
            not_before: if not_before > 0 { now + not_before - self.inner.clock.steady() } else { 0 },
            error: transaction.error.clone(),
            cause: transaction.cause.clone(),
            mapping: transaction.mapping.clone(),
            plan: None,
            progress: transaction.progress.clone(),
            answer,
            orchestrations: transaction.orchestrations.clone(),
            at: now,
            audit: Vec::new(),
        }
    }

    /// What the audit trail is told: whom we told what the message says, and how it ended.
    fn audit(
        &self,
        transaction: &Transaction,
        body: &Value,
        status: Status,
        mut acts: Vec<Deed>,
    ) -> Vec<Event> {
        if status != Status::Open {
            match acts.last_mut() {
                Some(Deed::Delivered { ends, .. }) => *ends = Some(status),
                _ => acts.push(Deed::Ended { status }),
            }
        }
        if acts.is_empty() {
            return Vec::new();
        }
        let Transaction { route, client, home, .. } = transaction;
        let patients = patients(route, client, home.as_deref(), body);
        let event = |act| Event {
            transaction: Some(transaction.head.id.clone()),
            patients: patients.clone(),
            ..self.event(Agent::mediator(), act)
        };
        acts.into_iter().map(event).collect()
    }
}

/// A call to a destination, for the audit trail. Of those that fail again and again only the first and the
/// last: the records must not grow while a destination is down.
fn delivered(to: &str, progress: &Progress) -> Option<Deed> {
    let outcome = match progress.status {
        StepStatus::Done => Outcome::Done,
        StepStatus::Failed => Outcome::Failed,
        StepStatus::Open if progress.attempts == 1 => Outcome::Tried,
        StepStatus::Open => return None,
    };
    Some(Deed::Delivered { to: to.into(), outcome, attempts: progress.attempts, ends: None })
}

/// The calls of this try beside those of earlier ones; the last of them if they are many.
fn take_orchestrations(transaction: &mut Transaction) {
    transaction.orchestrations.extend(orchestrations::take());
    let many = transaction.orchestrations.len().saturating_sub(MOST);
    transaction.orchestrations.drain(..many);
}

/// Leaves the destination's room free again, even if the delivery panics.
struct Call<'a> {
    traffic: &'a Traffic,
    destination: &'a str,
    ended: bool,
}

impl Call<'_> {
    fn end(&mut self, failure: Option<&Failure>, again: bool) {
        if !std::mem::replace(&mut self.ended, true) {
            self.traffic.leave(self.destination, failure, again);
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.end(None, false);
    }
}

/// Hosts that are called back are not a metric each.
fn kind_of(destination: &str) -> String {
    destination.split(':').next().unwrap_or_default().to_string()
}

/// Delivered when every step is; failed when nothing is left to try and something failed.
fn status_of(transaction: &Transaction) -> Status {
    let ignored = transaction
        .plan
        .as_ref()
        .is_some_and(|plan| plan.steps.is_empty() && plan.parts.iter().all(|part| part.kind == "ignored"));
    let any = |status| transaction.progress.iter().any(|progress| progress.status == status);
    if ignored {
        Status::Ignored
    } else if any(StepStatus::Open) {
        Status::Open
    } else if any(StepStatus::Failed) {
        Status::Failed
    } else {
        Status::Delivered
    }
}

/// What is wrong, of each step as `of` tells it; why nothing was to be done.
fn errors_of(transaction: &Transaction, of: impl Fn(&Progress) -> Option<&str>) -> Option<String> {
    let plan = transaction.plan.as_ref()?;
    if plan.steps.is_empty() {
        let ignored: Vec<&str> = plan.parts.iter().map(|part| part.text.as_str()).collect();
        return (status_of(transaction) == Status::Ignored).then(|| ignored.join("; "));
    }
    let errors: Vec<String> = plan
        .steps
        .iter()
        .zip(&transaction.progress)
        .filter_map(|(step, progress)| of(progress).map(|error| format!("{}: {error}", step.destination)))
        .collect();
    (!errors.is_empty()).then(|| errors.join("; "))
}

fn next_attempt(transaction: &Transaction, now: Millis) -> Millis {
    let open = transaction.progress.iter().filter(|progress| progress.status == StepStatus::Open);
    open.map(|progress| progress.not_before).filter(|at| *at > now).min().unwrap_or(now + 100)
}
