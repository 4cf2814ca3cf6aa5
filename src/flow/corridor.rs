//! The corridor itself: takes messages in, and carries each one through its steps, in order, until
//! it ends in a named state.
use super::confirm;
use super::deliver::{deliver, due};
use super::envelope::envelope;
use super::gate::{Entry, Gate, Limits};
use super::identify::{Neighbours, Stop, identify};
use super::ports::{
    Accepted, Action, Answer, Clock, Command, Facts, Failure, FailureKind, Guard, Head, Journal,
    JournalError, Mark, Millis, NewTransaction, ServerIds, Transaction,
};
use super::retry::Backoff;
use super::schedule::Schedule;
use crate::domain::follow_up::Kind;
use crate::domain::identifier::{Identifier, system};
use crate::domain::message::Route;
use crate::domain::plan::{Act, Status, StepStatus};
use crate::domain::redact::redact;
use crate::failpoint::reach;
use crate::translate::{Mappings, Refusal, Source};
use serde_json::Value;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A message whose sender is known and whose body is JSON.
pub struct Message {
    pub route: Route,
    pub client: String,
    pub home: Option<String>,
    pub idempotency_key: Option<String>,
    pub bytes: Vec<u8>,
    pub body: Value,
}

/// How a transaction stands for whoever waits for it.
#[derive(Clone)]
pub enum Settled {
    Finished(Answer),
    /// Tried without success, or held up; next at this time.
    Parked(Millis),
}

pub struct Options {
    pub backoff: Backoff,
    /// How long CHT's searches may lag behind (`cht.index_lag_ms`).
    pub index_lag: Duration,
    pub max_running: usize,
}

#[derive(Clone)]
pub struct Corridor {
    inner: Arc<Inner>,
}

struct Inner {
    near: Neighbours,
    mappings: Mappings,
    clock: Arc<dyn Clock>,
    started: Millis,
    options: Options,
    traffic: Arc<Traffic>,
    settle: Mutex<Settle>,
    parked: Notify,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// The schedule, shared with whoever asks a neighbour something outside a delivery.
pub struct Traffic {
    schedule: Mutex<Schedule>,
    clock: Arc<dyn Clock>,
}

impl Traffic {
    /// `callbacks` are the limits of each host that is called back.
    pub fn new(gates: HashMap<String, Gate>, callbacks: Limits, clock: Arc<dyn Clock>) -> Self {
        Self { schedule: Mutex::new(Schedule::with_gates(gates, callbacks)), clock }
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guard for Traffic {
    fn closed(&self, destination: &str) -> Option<Failure> {
        let now = self.clock.now();
        let (until, reason) = self.schedule().closed(destination, now)?;
        let wait = Duration::from_millis((until - now).max(0) as u64);
        let message = format!("{destination} is left alone for {} s: {reason}", wait.as_secs());
        Some(Failure { kind: FailureKind::Transient(Some(wait)), message })
    }

    fn report(&self, destination: &str, failure: Option<&Failure>) {
        let now = self.clock.now();
        self.schedule().report(destination, failure, now);
    }
}

/// Who waits for what, and the newest answers, which the journal may not have written yet.
#[derive(Default)]
struct Settle {
    waiters: HashMap<String, Vec<oneshot::Sender<Settled>>>,
    recent: HashMap<String, Answer>,
    order: VecDeque<String>,
}

const RECENT: usize = 4096;

impl Settle {
    fn finish(&mut self, id: &str, answer: Answer) {
        self.tell(id, &Settled::Finished(answer.clone()));
        if self.recent.insert(id.to_string(), answer).is_none() {
            self.order.push_back(id.to_string());
        }
        if self.order.len() > RECENT
            && let Some(oldest) = self.order.pop_front()
        {
            self.recent.remove(&oldest);
        }
    }

    fn tell(&mut self, id: &str, settled: &Settled) {
        for waiter in self.waiters.remove(id).into_iter().flatten() {
            let _ = waiter.send(settled.clone());
        }
    }
}

/// Where somebody who waits for a transaction finds it.
enum Place {
    Known(Answer),
    Waits(oneshot::Receiver<Settled>),
    /// Finished some time ago: the journal has the answer.
    Gone,
}

enum Verdict {
    Finished(Option<Answer>),
    Parked(Millis),
    Busy,
}

impl Corridor {
    pub fn new(
        near: Neighbours,
        mappings: Mappings,
        traffic: Arc<Traffic>,
        clock: Arc<dyn Clock>,
        options: Options,
    ) -> Self {
        let inner = Inner {
            near,
            mappings,
            started: clock.now(),
            clock,
            options,
            traffic,
            settle: Mutex::default(),
            parked: Notify::new(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Takes up whatever was open when the mediator last stopped, and begins to work.
    pub async fn start(&self) -> Result<usize, JournalError> {
        let open = self.inner.near.journal.open().await?;
        let mut schedule = self.inner.traffic.schedule();
        open.iter().for_each(|head| schedule.add(head));
        drop(schedule);
        tokio::spawn(Self::wake_parked(self.clone()));
        tokio::spawn(Self::take_commands(self.clone()));
        self.pump();
        Ok(open.len())
    }

    /// Journals a message and sets it going. Answers when it is safe on disk.
    pub async fn accept(&self, messages: Vec<Message>) -> Result<Vec<Accepted>, JournalError> {
        reach("received");
        let now = self.inner.clock.now();
        let day = jiff::Timestamp::from_millisecond(now).map(|t| t.to_string()[..10].to_string());
        let day = day.unwrap_or_default();
        let new = messages.into_iter().map(|message| new_transaction(message, now, &day)).collect();
        let accepted = self.inner.near.journal.accept(new).await?;
        reach("journaled");
        let mut schedule = self.inner.traffic.schedule();
        for one in &accepted {
            metrics::counter!("transactions_accepted", "repeat" => matches!(one, Accepted::Repeat(_)).to_string())
                .increment(1);
            if let Accepted::New(head) = one {
                schedule.add(head);
            }
        }
        drop(schedule);
        self.pump();
        Ok(accepted)
    }

    /// Waits until the transaction is finished, or it is clear that it will not be by `deadline`.
    pub async fn wait(&self, head: &Head, deadline: Millis) -> Option<Answer> {
        loop {
            let told = match self.subscribe(head) {
                Place::Known(answer) => return Some(answer),
                Place::Waits(told) => told,
                Place::Gone => {
                    let found = self.inner.near.journal.transaction(&head.id).await.ok()??;
                    return found.answer;
                }
            };
            let left = Duration::from_millis((deadline - self.inner.clock.now()).max(0) as u64);
            match tokio::time::timeout(left, told).await {
                Ok(Ok(Settled::Finished(answer))) => return Some(answer),
                Ok(Ok(Settled::Parked(until))) if until < deadline => {}
                _ => return None,
            }
        }
    }

    fn subscribe(&self, head: &Head) -> Place {
        let mut settle = self.settle();
        if let Some(answer) = settle.recent.get(&head.id) {
            return Place::Known(answer.clone());
        }
        if !self.inner.traffic.schedule().contains(head.seq) {
            return Place::Gone;
        }
        let (tell, told) = oneshot::channel();
        settle.waiters.entry(head.id.clone()).or_default().push(tell);
        Place::Waits(told)
    }

    /// Whether the transaction has to wait for another about the same patient or request.
    pub fn is_behind(&self, head: &Head) -> bool {
        self.inner.traffic.schedule().is_behind(head.seq)
    }

    pub fn journal(&self) -> &Arc<dyn Journal> {
        &self.inner.near.journal
    }

    pub fn now(&self) -> Millis {
        self.inner.clock.now()
    }

    /// Transactions not finished, and which destinations are left alone.
    pub fn state(&self) -> (usize, Vec<(String, bool)>) {
        let now = self.inner.clock.now();
        let schedule = self.inner.traffic.schedule();
        let mut gates: Vec<_> =
            schedule.gates().map(|(name, gate)| (name.clone(), gate.is_closed(now))).collect();
        gates.sort();
        (schedule.len(), gates)
    }

    /// Reruns or cancels a transaction.
    pub async fn change(&self, id: &str, action: Action) -> Result<Result<Head, String>, JournalError> {
        let changed = self.inner.near.journal.change(id, action, self.inner.clock.now()).await?;
        if let Ok(head) = &changed {
            self.settle().recent.remove(id);
            let mut schedule = self.inner.traffic.schedule();
            match action {
                Action::Rerun => {
                    schedule.reopen_gates();
                    schedule.add(head);
                }
                Action::Cancel => {}
            }
            schedule.hurry(head.seq);
            drop(schedule);
            self.pump();
        }
        Ok(changed)
    }

    /// Stops taking up work and waits for what is under way; what does not end in time is taken up
    /// at the next start.
    pub async fn shut_down(&self, within: Duration) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        if tokio::time::timeout(within, self.inner.tasks.wait()).await.is_err() {
            tracing::warn!("deliveries under way were left; they are repeated at the next start");
        }
    }

    pub fn stopping(&self) -> CancellationToken {
        self.inner.stop.clone()
    }

    fn settle(&self) -> MutexGuard<'_, Settle> {
        self.inner.settle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts as many as may run; whoever wakes the parked looks again when the next is due.
    fn pump(&self) {
        self.start_ready();
        self.inner.parked.notify_one();
    }

    fn start_ready(&self) {
        let now = self.inner.clock.now();
        loop {
            let mut schedule = self.inner.traffic.schedule();
            if self.inner.stop.is_cancelled() || schedule.running() >= self.inner.options.max_running {
                return;
            }
            let Some((seq, id)) = schedule.next(now) else { return };
            drop(schedule);
            let corridor = self.clone();
            self.inner.tasks.spawn(async move { corridor.run(seq, id).await });
        }
    }

    async fn run(&self, seq: i64, id: String) {
        let verdict = self.carry_safely(&id).await;
        // Told before it leaves the schedule: whoever asks in between still finds it there.
        match &verdict {
            Verdict::Finished(Some(answer)) => self.settle().finish(&id, answer.clone()),
            Verdict::Finished(None) => self.settle().tell(&id, &Settled::Parked(Millis::MAX)),
            Verdict::Parked(until) => self.settle().tell(&id, &Settled::Parked(*until)),
            Verdict::Busy => {}
        }
        let mut schedule = self.inner.traffic.schedule();
        schedule.stopped();
        match verdict {
            Verdict::Finished(_) => schedule.remove(seq),
            Verdict::Parked(until) => schedule.park(seq, until),
            Verdict::Busy => schedule.set_busy(seq),
        }
        drop(schedule);
        self.pump();
    }

    /// A panic is a bug of ours: it fails its message, visibly, and stops nobody else's.
    async fn carry_safely(&self, id: &str) -> Verdict {
        let (corridor, own) = (self.clone(), id.to_string());
        match tokio::spawn(async move { corridor.carry(&own).await }).await {
            Ok(verdict) => verdict,
            Err(_) => self.fail_after_panic(id).await,
        }
    }

    async fn fail_after_panic(&self, id: &str) -> Verdict {
        tracing::error!(transaction = id, "a message made the mediator itself fail");
        let Ok(Some(transaction)) = self.inner.near.journal.transaction(id).await else {
            return Verdict::Finished(None);
        };
        let message = "the mediator itself failed on this message: this is a bug, please report it".into();
        self.refuse(transaction, &Refusal { path: String::new(), code: "exception", message }).await
    }

    async fn carry(&self, id: &str) -> Verdict {
        match self.inner.near.journal.transaction(id).await {
            Ok(Some(transaction)) if transaction.head.status == Status::Open => {
                self.carry_on(transaction).await
            }
            Ok(_) => Verdict::Finished(None),
            Err(error) => {
                tracing::error!(transaction = id, %error, "a transaction cannot be read");
                Verdict::Parked(self.inner.clock.now() + 5_000)
            }
        }
    }

    #[tracing::instrument(name = "transaction", skip_all, fields(id = %transaction.head.id, route = %transaction.route))]
    async fn carry_on(&self, mut transaction: Transaction) -> Verdict {
        let body: Value = serde_json::from_slice(&transaction.body).unwrap_or_default();
        if transaction.plan.is_none() {
            match self.make_plan(&mut transaction, &body).await {
                Ok(()) => {}
                Err(Stop::Refused(refusal)) => return self.refuse(transaction, &refusal).await,
                Err(Stop::Wait { destination, failure }) => {
                    return self.wait_for(transaction, &destination, &failure, &body);
                }
                Err(Stop::Journal(error)) => {
                    tracing::error!(%error, "a plan cannot be kept");
                    return Verdict::Parked(self.inner.clock.now() + 5_000);
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
        if transaction.received >= self.inner.started {
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
        let source = Source { route: &transaction.route, body, received: transaction.received };
        let name = match &transaction.route {
            Route::ChtPush(name) => name.as_deref(),
            _ => None,
        };
        let translated = self.inner.mappings.translate(&source, name).map_err(Stop::Refused)?;
        reach("translated");
        transaction.mapping = Some(translated.mapping.clone());
        let (plan, facts) = identify(&self.inner.near, transaction, translated).await?;
        transaction.progress = plan.steps.iter().map(|_| Default::default()).collect();
        transaction.plan = Some(plan);
        transaction.error = None;
        let mark = self.mark_of(transaction, Status::Open, 0, None);
        if facts.is_empty() {
            self.inner.near.journal.mark(mark);
        } else {
            self.inner.near.journal.commit(mark, facts).await?;
        }
        reach("planned");
        Ok(())
    }

    async fn deliver_due(&self, mut transaction: Transaction, body: &Value) -> Verdict {
        let mut busy = false;
        let mut tried = Vec::new();
        loop {
            let steps = due(&transaction, self.inner.clock.now());
            let Some(&index) = steps.iter().find(|i| !tried.contains(*i)) else { break };
            tried.push(index);
            if self.inner.stop.is_cancelled() {
                break;
            }
            let Some(step) = transaction.plan.as_ref().and_then(|plan| plan.steps.get(index)).cloned() else {
                break;
            };
            let entry = self.inner.traffic.schedule().enter(
                &step.destination,
                transaction.head.seq,
                self.inner.clock.now(),
            );
            match entry {
                Entry::Busy => busy = true,
                Entry::Closed { until, reason } => {
                    let progress = &mut transaction.progress[index];
                    progress.not_before = until;
                    progress.error = Some(redact(&reason, body));
                }
                Entry::Open => self.try_step(&mut transaction, index, &step, body).await,
            }
        }
        self.conclude(transaction, busy).await
    }

    async fn try_step(
        &self,
        transaction: &mut Transaction,
        index: usize,
        step: &crate::domain::plan::Step,
        body: &Value,
    ) {
        reach("before-delivery");
        let result = deliver(&self.inner.near, step, &transaction.progress[..index]).await;
        reach("after-delivery");
        let now = self.inner.clock.now();
        self.inner.traffic.schedule().leave(&step.destination, result.as_ref().err(), now);
        self.pump();
        metrics::counter!("deliveries", "destination" => kind_of(&step.destination),
            "result" => if result.is_ok() { "done" } else { "failed" })
        .increment(1);
        transaction.attempts += 1;
        let exhausted = self.inner.options.backoff.is_exhausted(transaction.received, now);
        let progress = &mut transaction.progress[index];
        progress.attempts += 1;
        match result {
            Ok(ids) => {
                progress.status = StepStatus::Done;
                progress.error = None;
                progress.ids = ids;
            }
            Err(failure) => {
                let asked = match failure.kind {
                    FailureKind::Transient(asked) => asked,
                    FailureKind::Unauthorised => Some(Duration::from_secs(600)),
                    FailureKind::Permanent => None,
                };
                let delay = self.inner.options.backoff.delay(progress.attempts, asked, &mut rand::rng());
                progress.not_before = now + delay.as_millis() as Millis;
                progress.error = Some(redact(&failure.message, body));
                if failure.kind == FailureKind::Permanent || exhausted {
                    progress.status = StepStatus::Failed;
                }
                tracing::warn!(destination = %kind_of(&step.destination), attempts = progress.attempts, kind = ?failure.kind, "a delivery failed");
            }
        }
    }

    async fn conclude(&self, mut transaction: Transaction, busy: bool) -> Verdict {
        let status = status_of(&transaction);
        transaction.error = errors_of(&transaction);
        let not_before = next_attempt(&transaction, self.inner.clock.now());
        let answer = (status != Status::Open).then(|| confirm::answer(&transaction, status, None));
        let facts = self.facts_of(&transaction).await;
        reach("delivered");
        let mark = self.mark_of(
            &transaction,
            status,
            if status == Status::Open { not_before } else { 0 },
            answer.clone(),
        );
        if facts.is_empty() {
            self.inner.near.journal.mark(mark);
        } else if let Err(error) = self.inner.near.journal.commit(mark.clone(), facts).await {
            // What was learnt is learnt again on demand; the state must not be lost with it.
            tracing::error!(%error, "what a delivery taught cannot be kept");
            self.inner.near.journal.mark(mark);
        }
        reach("marked");
        match answer {
            Some(answer) => {
                metrics::counter!("transactions_finished", "status" => status.as_str()).increment(1);
                Verdict::Finished(Some(answer))
            }
            None if busy => Verdict::Busy,
            None => Verdict::Parked(not_before),
        }
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
                Act::ChtRecord { follow_up: Some(identifier), .. } => {
                    let known = self.inner.near.journal.follow_up(Kind::FollowUp, identifier).await;
                    if let Ok(Some(mut follow_up)) = known
                        && let Some(report) = progress.ids.get("report")
                        && follow_up.record.as_ref() != Some(report)
                    {
                        follow_up.record = Some(report.clone());
                        facts.follow_ups.push(follow_up);
                    }
                }
                Act::Fhir { entries } => {
                    for entry in entries.iter().filter(|e| e.resource_type() == "Patient") {
                        facts.links.extend(self.server_id(&step.destination, entry, &progress.ids).await);
                    }
                }
                _ => {}
            }
        }
        facts
    }

    async fn server_id(
        &self,
        destination: &str,
        entry: &crate::domain::fhir::Entry,
        ids: &ServerIds,
    ) -> Option<(Identifier, String)> {
        let crate::domain::fhir::Target::Identifier(target) = &entry.target else { return None };
        let id = ids.get(&entry.full_url)?.rsplit('/').next()?;
        let person = self.inner.near.journal.person(target).await.ok()??;
        let theirs = Identifier::new(system::at_server(destination), id);
        match self.inner.near.journal.person(&theirs).await.ok()? {
            None => Some((theirs, person)),
            Some(_) => None,
        }
    }

    async fn refuse(&self, mut transaction: Transaction, refusal: &Refusal) -> Verdict {
        tracing::warn!(code = refusal.code, path = %refusal.path, "a message cannot be carried out");
        transaction.error = Some(match refusal.path.as_str() {
            "" => refusal.message.clone(),
            path => format!("{path}: {}", refusal.message),
        });
        transaction.attempts += 1;
        let answer = confirm::answer(&transaction, Status::Failed, Some(refusal));
        let mark = self.mark_of(&transaction, Status::Failed, 0, Some(answer.clone()));
        self.inner.near.journal.mark(mark);
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
        let now = self.inner.clock.now();
        transaction.attempts += 1;
        let words = format!("{destination}: {}", redact(&failure.message, body));
        transaction.error = Some(words.clone());
        let asked = match failure.kind {
            FailureKind::Transient(asked) => asked,
            FailureKind::Unauthorised => Some(Duration::from_secs(600)),
            FailureKind::Permanent => None,
        };
        let ends = failure.kind == FailureKind::Permanent
            || self.inner.options.backoff.is_exhausted(transaction.received, now);
        if ends {
            let answer = confirm::answer(&transaction, Status::Failed, None);
            self.inner.near.journal.mark(self.mark_of(&transaction, Status::Failed, 0, Some(answer.clone())));
            return Verdict::Finished(Some(answer));
        }
        let delay = self.inner.options.backoff.delay(transaction.attempts, asked, &mut rand::rng());
        let until = now + delay.as_millis() as Millis;
        self.inner.near.journal.mark(self.mark_of(&transaction, Status::Open, until, None));
        Verdict::Parked(until)
    }

    fn mark_of(
        &self,
        transaction: &Transaction,
        status: Status,
        not_before: Millis,
        answer: Option<Answer>,
    ) -> Mark {
        Mark {
            id: transaction.head.id.clone(),
            status,
            attempts: transaction.attempts,
            not_before,
            error: transaction.error.clone(),
            mapping: transaction.mapping.clone(),
            plan: transaction.plan.clone(),
            progress: transaction.progress.clone(),
            answer,
            at: self.inner.clock.now(),
        }
    }

    async fn wake_parked(self) {
        loop {
            let next = self.inner.traffic.schedule().wake(self.inner.clock.now());
            self.start_ready();
            let wait = next.map_or(Duration::from_secs(3600), |at| {
                Duration::from_millis((at - self.inner.clock.now()).clamp(1, 3_600_000) as u64)
            });
            tokio::select! {
                () = self.inner.stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
                () = self.inner.parked.notified() => {}
            }
        }
    }

    /// What operators ask for through the command line, which shares nothing with us but the journal.
    async fn take_commands(self) {
        let mut tick = tokio::time::interval(Duration::from_millis(500));
        loop {
            tokio::select! {
                () = self.inner.stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            for command in self.inner.near.journal.commands().await.unwrap_or_default() {
                self.obey(command).await;
            }
        }
    }

    async fn obey(&self, command: Command) {
        let outcome = match self.change(&command.transaction, command.action).await {
            Ok(Ok(_)) => "done".to_string(),
            Ok(Err(why)) => why,
            Err(error) => error.to_string(),
        };
        if let Err(error) = self.inner.near.journal.command_done(command.number, &outcome).await {
            tracing::error!(%error, "a command's outcome cannot be kept");
        }
    }
}

fn new_transaction(message: Message, now: Millis, day: &str) -> NewTransaction {
    let envelope = envelope(&message.route, &message.client, &message.body, day);
    let (key, strict) = match &message.idempotency_key {
        Some(key) => (format!("key {} {} {key}", message.client, message.route), true),
        None => (envelope.key, false),
    };
    NewTransaction {
        id: uuid::Uuid::now_v7().to_string(),
        route: message.route,
        client: message.client,
        home: message.home,
        key,
        digest: envelope.digest,
        subjects: envelope.subjects,
        received: now,
        strict,
        body: message.bytes,
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

fn errors_of(transaction: &Transaction) -> Option<String> {
    let plan = transaction.plan.as_ref()?;
    if plan.steps.is_empty() {
        let ignored: Vec<&str> = plan.parts.iter().map(|part| part.text.as_str()).collect();
        return (status_of(transaction) == Status::Ignored).then(|| ignored.join("; "));
    }
    let errors: Vec<String> = plan
        .steps
        .iter()
        .zip(&transaction.progress)
        .filter_map(|(step, progress)| {
            progress.error.as_ref().map(|error| format!("{}: {error}", step.destination))
        })
        .collect();
    (!errors.is_empty()).then(|| errors.join("; "))
}

fn next_attempt(transaction: &Transaction, now: Millis) -> Millis {
    let open = transaction.progress.iter().filter(|progress| progress.status == StepStatus::Open);
    open.map(|progress| progress.not_before).filter(|at| *at > now).min().unwrap_or(now + 100)
}
