//! The corridor itself: takes messages in, and carries each one through its steps, in order, until
//! it ends in a named state.
mod settle;
mod traffic;
mod work;

use settle::Settle;
pub use traffic::Traffic;

use crate::domain::audit::{Act, Agent, Event, Kind};
use crate::domain::follow_up::View;
use crate::domain::message::Route;
use crate::domain::plan::Status;
use crate::failpoint::reach;
use crate::flow::audit::patients;
use crate::flow::envelope::{digest, envelope};
use crate::flow::identify::Neighbours;
use crate::flow::lookups::Lookups;
use crate::flow::ports::{
    Accepted, Action, Answer, Chance, Clock, Command, Guard, Head, Journal, JournalError, Millis,
    NewTransaction,
};
use crate::flow::retry::Backoff;
use crate::planted::{Bug, is_planted};
use crate::translate::Mappings;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A message whose sender is known and whose body is JSON.
pub struct Message {
    pub route: Route,
    pub client: String,
    pub home: Option<String>,
    pub idempotency_key: Option<String>,
    /// OpenHIM's id of the transaction that brought it.
    pub via: Option<String>,
    /// OpenHIM's id of the transaction that it is a rerun of.
    pub again: Option<String>,
    /// The IP address that it came from.
    pub from: Option<String>,
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
    /// How long a callback that is not taken may hold up what else is about its patient.
    pub holds_up: Duration,
}

#[derive(Clone)]
pub struct Corridor {
    inner: Arc<Inner>,
}

struct Inner {
    near: Neighbours,
    mappings: Arc<Mappings>,
    clock: Arc<dyn Clock>,
    chance: Arc<dyn Chance>,
    /// In steady time.
    started: Millis,
    /// The number of the first message of this run: those before it were journaled by an earlier one.
    first: AtomicI64,
    options: Options,
    traffic: Arc<Traffic>,
    settle: Mutex<Settle>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// What is still under way is left as it is.
    left: CancellationToken,
}

enum Verdict {
    Finished(Option<Answer>),
    Parked(Millis),
    /// The same, and it holds up nobody.
    Aside(Millis),
    Busy,
}

impl Inner {
    /// Puts what is safe into the schedule. Called by the journal, in order; somebody else starts it.
    fn set_going(&self, accepted: &[Accepted]) {
        let now = self.clock.steady();
        let mut schedule = self.traffic.schedule();
        for one in accepted {
            metrics::counter!("transactions_accepted", "repeat" => matches!(one, Accepted::Repeat(_)).to_string())
                .increment(1);
            match one {
                Accepted::New(head) => {
                    self.first.fetch_min(head.seq, Relaxed);
                    schedule.add(head, now);
                }
                Accepted::Repeat(_) | Accepted::KeyReused(_) => {}
            }
        }
        drop(schedule);
        self.traffic.stirred.notify_one();
    }
}

impl Corridor {
    pub fn new(
        near: Neighbours,
        mappings: Arc<Mappings>,
        traffic: Arc<Traffic>,
        clock: Arc<dyn Clock>,
        chance: Arc<dyn Chance>,
        options: Options,
    ) -> Self {
        let inner = Inner {
            near,
            mappings,
            started: clock.steady(),
            first: AtomicI64::new(i64::MAX),
            clock,
            chance,
            options,
            traffic,
            settle: Mutex::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            left: CancellationToken::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Takes up whatever was open when the mediator last stopped, and begins to work.
    pub async fn start(&self) -> Result<usize, JournalError> {
        let open = self.inner.near.journal.take_up().await?;
        let mut schedule = self.inner.traffic.schedule();
        open.iter().for_each(|head| schedule.add(head, self.inner.started));
        drop(schedule);
        let inner = Arc::downgrade(&self.inner);
        self.inner.near.journal.on_accepted(Arc::new(move |accepted| {
            if let Some(inner) = inner.upgrade() {
                inner.set_going(accepted);
            }
        }));
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
        let new = |message| new_transaction(message, self.inner.chance.id().to_string(), now, &day);
        let new: Vec<NewTransaction> = messages.into_iter().map(new).collect();
        if is_planted(Bug::AcknowledgeBeforeWrite) {
            let (early, journal) = (new.iter().map(as_if_written).collect(), self.journal().clone());
            tokio::spawn(async move { journal.accept(new).await });
            return Ok(early);
        }
        let accepted = self.inner.near.journal.accept(new).await?;
        reach("journaled");
        self.pump();
        Ok(accepted)
    }

    /// Waits until the transaction is finished, or it is clear that it will not be by `deadline`, in
    /// [`Corridor::steady`] time.
    pub async fn wait(&self, head: &Head, deadline: Millis) -> Option<Answer> {
        loop {
            let Some(told) = self.subscribe(head, deadline) else {
                // Finished already: the journal has the answer.
                let found = self.inner.near.journal.transaction(&head.id).await.ok()??;
                return found.answer;
            };
            let left = Duration::from_millis((deadline - self.steady()).max(0) as u64);
            tokio::select! {
                biased;
                told = told => match told {
                    Ok(Settled::Finished(answer)) => return Some(answer),
                    Ok(Settled::Parked(until)) if until < deadline => {}
                    _ => return None,
                },
                () = tokio::time::sleep(left) => return None,
                // The message is safe, and the next start takes it up.
                () = self.inner.stop.cancelled() => return None,
            }
        }
    }

    fn subscribe(&self, head: &Head, deadline: Millis) -> Option<oneshot::Receiver<Settled>> {
        let mut settle = self.settle();
        if !self.inner.traffic.schedule().contains(head.seq) {
            return None;
        }
        let (tell, told) = oneshot::channel();
        // It may have been tried before its sender came to wait for it.
        let parked = self.inner.traffic.schedule().parked_until(head.seq);
        if let Some(until) = parked.filter(|until| *until >= deadline) {
            let _ = tell.send(Settled::Parked(until));
            return Some(told);
        }
        settle.waiters.entry(head.id.clone()).or_default().push(tell);
        Some(told)
    }

    /// Whether the transaction has to wait for another about the same patient or request.
    pub fn is_behind(&self, head: &Head) -> bool {
        self.inner.traffic.schedule().is_behind(head.seq)
    }

    pub fn journal(&self) -> &Arc<dyn Journal> {
        &self.inner.near.journal
    }

    /// What keeps calls to the destinations within their limits.
    pub fn guard(&self) -> &Arc<dyn Guard> {
        &self.inner.near.guard
    }

    /// What may be looked up now, within this time.
    pub fn lookups(&self, within: Duration) -> Lookups<'_> {
        let until = tokio::time::Instant::now() + within;
        Lookups { near: &self.inner.near, now: self.now(), until }
    }

    /// What a client may see.
    pub fn view(&self, client: &str) -> View {
        self.inner.near.view(client)
    }

    /// Says why an address may not be called.
    pub fn check_address(&self, address: &str) -> Result<(), String> {
        self.inner.near.callbacks.check(address)
    }

    pub fn now(&self) -> Millis {
        self.inner.clock.now()
    }

    pub fn steady(&self) -> Millis {
        self.inner.clock.steady()
    }

    /// Transactions not finished, and which destinations are left alone; hosts that are called back are
    /// nobody else's business, so they are one.
    pub fn state(&self) -> (usize, Vec<(String, bool)>) {
        let now = self.steady();
        let schedule = self.inner.traffic.schedule();
        let mut gates = BTreeMap::new();
        for (name, gate) in schedule.gates() {
            let name = name.split(':').next().unwrap_or_default().to_string();
            *gates.entry(name).or_insert(false) |= gate.is_closed(now);
        }
        (schedule.len(), gates.into_iter().collect())
    }

    /// Reruns or cancels a transaction.
    pub async fn change(
        &self,
        id: &str,
        action: Action,
        by: Agent,
    ) -> Result<Result<Head, String>, JournalError> {
        // One that cannot be read can be cancelled all the same.
        let found = self.inner.near.journal.transaction(id).await.ok().flatten();
        let act = Act::Changed { action: action.as_str().into() };
        let audit = Event {
            transaction: Some(id.into()),
            patients: found.map(|transaction| transaction.patients()).unwrap_or_default(),
            ..self.event(by, act)
        };
        let changed = self.inner.near.journal.change(id, action, audit).await?;
        if let Ok(head) = &changed {
            let mut schedule = self.inner.traffic.schedule();
            match action {
                Action::Rerun | Action::RerunAsPlanned => {
                    schedule.reopen_gates();
                    schedule.add(head, self.steady());
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
        self.inner.left.cancel();
    }

    /// An act of now, for the audit trail.
    pub fn event(&self, by: Agent, act: Act) -> Event {
        Event { at: self.now(), by, act, transaction: None, patients: Vec::new() }
    }

    /// Reads the mappings anew; they take the place of the old ones if all their cases hold. Answers
    /// what is in force now, or every mistake.
    pub async fn reload_mappings(&self, by: Agent) -> Result<Vec<String>, Vec<String>> {
        let corridor = self.clone();
        let done = tokio::task::spawn_blocking(move || corridor.inner.mappings.reload()).await;
        let result = done.unwrap_or_else(|_| Err(vec!["reading the mappings failed: this is a bug".into()]));
        match &result {
            Ok(names) => {
                self.journal().note(self.event(by, Act::Reloaded { mappings: names.clone() }));
                tracing::info!(mappings = names.len(), "mappings reloaded");
            }
            Err(mistakes) => {
                tracing::error!(mistakes = mistakes.len(), "mappings not reloaded; the old ones serve on")
            }
        }
        result
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
        self.inner.traffic.stirred.notify_one();
    }

    fn start_ready(&self) {
        let now = self.steady();
        loop {
            let mut schedule = self.inner.traffic.schedule();
            if self.inner.stop.is_cancelled() || schedule.running() >= self.inner.options.max_running {
                return;
            }
            let next = schedule.next(now);
            let held_up = schedule.held_up();
            drop(schedule);
            for (id, until) in held_up {
                self.settle().tell(&id, &Settled::Parked(until));
            }
            let Some((seq, id)) = next else { return };
            let corridor = self.clone();
            self.inner.tasks.spawn(async move { corridor.run(seq, id).await });
        }
    }

    async fn run(&self, seq: i64, id: String) {
        let verdict = self.carry_safely(&id).await;
        // Told before it leaves the schedule: whoever asks in between still finds it there.
        match &verdict {
            Verdict::Finished(Some(answer)) => self.settle().tell(&id, &Settled::Finished(answer.clone())),
            Verdict::Finished(None) => self.settle().tell(&id, &Settled::Parked(Millis::MAX)),
            Verdict::Parked(_) | Verdict::Aside(_) | Verdict::Busy => {}
        }
        let mut schedule = self.inner.traffic.schedule();
        schedule.stopped(seq);
        match verdict {
            Verdict::Finished(_) => schedule.remove(seq),
            Verdict::Parked(until) => schedule.park(seq, until),
            Verdict::Aside(until) => schedule.park_aside(seq, until),
            Verdict::Busy => schedule.set_busy(seq),
        }
        drop(schedule);
        if let Verdict::Parked(until) | Verdict::Aside(until) = verdict {
            // Whoever asks from now on finds it parked.
            self.settle().tell(&id, &Settled::Parked(until));
        }
        self.pump();
    }

    async fn wake_parked(self) {
        loop {
            let next = self.inner.traffic.schedule().wake(self.steady());
            self.start_ready();
            let wait = next.map_or(Duration::from_secs(3600), |at| {
                Duration::from_millis((at - self.steady()).clamp(1, 3_600_000) as u64)
            });
            tokio::select! {
                biased;
                () = self.inner.stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
                () = self.inner.traffic.stirred.notified() => {}
            }
        }
    }

    /// What operators ask for through the command line, which shares nothing with us but the journal.
    async fn take_commands(self) {
        let mut tick = tokio::time::interval(Duration::from_millis(500));
        loop {
            tokio::select! {
                biased;
                () = self.inner.stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            for command in self.inner.near.journal.commands().await.unwrap_or_default() {
                self.obey(command).await;
            }
        }
    }

    async fn obey(&self, command: Command) {
        let by = Agent::new(Kind::User, &command.by, None);
        let outcome = match self.change(&command.transaction, command.action, by.clone()).await {
            Ok(Ok(_)) => "done".to_string(),
            Ok(Err(why)) => {
                let request = format!("transactions {}", command.action.as_str());
                let act = Act::Refused { request, status: 409, code: "conflict".into() };
                let refused = Event { transaction: Some(command.transaction), ..self.event(by, act) };
                self.journal().note(refused);
                why
            }
            Err(error) => error.to_string(),
        };
        if let Err(error) = self.inner.near.journal.command_done(command.number, &outcome).await {
            tracing::error!(%error, "a command's outcome cannot be kept");
        }
    }
}

/// What [`Bug::AcknowledgeBeforeWrite`] answers.
fn as_if_written(new: &NewTransaction) -> Accepted {
    let (id, subjects) = (new.id.clone(), new.subjects.clone());
    Accepted::New(Head { seq: Millis::MAX, id, subjects, status: Status::Open, not_before: 0 })
}

fn new_transaction(message: Message, id: String, now: Millis, day: &str) -> NewTransaction {
    let envelope = envelope(&message.route, &message.client, &message.body, day);
    let (key, digest, strict) = match &message.idempotency_key {
        Some(key) => (format!("key {} {} {key}", message.client, message.route), digest(&message.body), true),
        None => (envelope.key, envelope.digest, false),
    };
    let home = message.home.as_deref();
    let patients = patients(&message.route, &message.client, home, &message.body);
    NewTransaction {
        id,
        route: message.route,
        client: message.client,
        home: message.home,
        key,
        digest,
        subjects: envelope.subjects,
        received: now,
        strict,
        body: message.bytes,
        via: message.via,
        again: message.again,
        revision: envelope.revision,
        from: message.from,
        patients,
    }
}
