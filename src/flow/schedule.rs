//! Order and turn: messages about one subject one after the other, those of others side by side,
//! and each destination no more than it can bear. Pure bookkeeping; `dispatch` acts on it.
use super::gate::{Entry, Gate, Limits};
use super::ports::{Failure, Head, Millis};
use crate::planted::{Bug, is_planted};
use std::collections::{BTreeSet, HashMap, VecDeque};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Behind an earlier one about the same subject.
    Behind,
    Ready,
    Running,
    /// Until this time.
    Parked(Millis),
    /// Until a call to some destination ends.
    Busy,
}

struct Place {
    id: String,
    /// When it came, was asked for again, or was taken up.
    since: Millis,
    subjects: Vec<String>,
    state: State,
    /// Asked for again while it ran.
    again: bool,
    /// Destinations in whose queue it stands.
    queued: Vec<String>,
    /// The destination that held it up last: asked first, before anything is read from the journal.
    needs: Option<String>,
    /// The destination that has room for it now.
    invited: Option<String>,
}

/// Hosts that are remembered.
const MAX_GATES: usize = 1000;
/// The gate that all hosts that are called back share, and calls to them at once. Addresses come in data: many
/// that never answer must take no turn of others.
const CALLED_BACK: &str = "callback:";
const MOST_CALLED_BACK: usize = 512;

pub struct Schedule {
    /// Of each host that is called back.
    callbacks: Limits,
    places: HashMap<i64, Place>,
    lanes: HashMap<String, BTreeSet<i64>>,
    /// Who runs in a lane: one at most, even if an older one is added meanwhile.
    running_in: HashMap<String, i64>,
    ready: VecDeque<i64>,
    parked: BTreeSet<(Millis, i64)>,
    gates: HashMap<String, Gate>,
    waiting: HashMap<String, VecDeque<i64>>,
    running: usize,
    /// When somebody last looked at the clock.
    now: Millis,
    /// Parked without having been started, and their waiters not yet told.
    held_up: Vec<(String, Millis)>,
}

impl Schedule {
    pub fn with_gates(mut gates: HashMap<String, Gate>, callbacks: Limits) -> Self {
        let all = Limits { max_concurrent: MOST_CALLED_BACK, ..callbacks };
        gates.insert(CALLED_BACK.into(), Gate::new(all));
        Self {
            callbacks,
            gates,
            places: HashMap::new(),
            lanes: HashMap::new(),
            running_in: HashMap::new(),
            ready: VecDeque::new(),
            parked: BTreeSet::new(),
            waiting: HashMap::new(),
            running: 0,
            now: 0,
            held_up: Vec::new(),
        }
    }

    /// A configured destination's gate, or that of a host that is called back.
    fn gate(&mut self, destination: &str) -> Option<&mut Gate> {
        if is_called_back(destination) && !self.gates.contains_key(destination) {
            // Hosts come and go; those that nobody is calling are forgotten.
            if self.gates.len() > MAX_GATES {
                self.gates
                    .retain(|name, gate| !is_called_back(name) || name == CALLED_BACK || !gate.is_idle());
            }
            self.gates.insert(destination.to_string(), Gate::new(self.callbacks));
        }
        self.gates.get_mut(destination)
    }

    /// Puts a transaction in its lanes. Known ones stay where they are.
    pub fn add(&mut self, head: &Head, since: Millis) {
        if let Some(place) = self.places.get_mut(&head.seq) {
            place.since = since;
            return;
        }
        for subject in &head.subjects {
            self.lanes.entry(subject.clone()).or_default().insert(head.seq);
        }
        let place = Place {
            id: head.id.clone(),
            since,
            subjects: head.subjects.clone(),
            state: State::Behind,
            again: false,
            queued: Vec::new(),
            needs: None,
            invited: None,
        };
        self.places.insert(head.seq, place);
        if head.not_before > 0 {
            self.park(head.seq, head.not_before);
        } else {
            self.advance(head.seq);
        }
    }

    /// The next one to run, if one is ready. One whose destination is known to be closed or busy is
    /// not even started.
    pub fn next(&mut self, now: Millis) -> Option<(i64, String)> {
        self.now = now;
        while let Some(seq) = self.ready.pop_front() {
            let is_free = self.is_free(seq);
            let Some(place) = self.places.get_mut(&seq) else { continue };
            if place.state != State::Ready {
                continue;
            }
            // An older one may have come in the meantime.
            if !is_free {
                place.state = State::Behind;
                continue;
            }
            place.state = State::Running;
            let gate = place.needs.as_ref().and_then(|d| Some((d.clone(), self.gates.get(d)?)));
            match gate.map(|(destination, gate)| (destination, gate.look(now))) {
                Some((_, Entry::Closed { until, .. })) => {
                    self.held_up.push((place.id.clone(), until));
                    self.park(seq, until);
                }
                Some((destination, Entry::Busy)) => {
                    self.queue(&destination, seq);
                    self.set_busy(seq);
                }
                _ => {
                    let Some(place) = self.places.get(&seq) else { continue };
                    for subject in &place.subjects {
                        self.running_in.insert(subject.clone(), seq);
                    }
                    self.running += 1;
                    return Some((seq, place.id.clone()));
                }
            }
        }
        None
    }

    /// Those that were parked instead of being started, since the last time that somebody asked.
    pub fn held_up(&mut self) -> Vec<(String, Millis)> {
        std::mem::take(&mut self.held_up)
    }

    /// Until when it is left alone, if it is.
    pub fn parked_until(&self, seq: i64) -> Option<Millis> {
        match self.places.get(&seq)?.state {
            State::Parked(until) => Some(until),
            _ => None,
        }
    }

    /// A started one has stopped running: call before saying how it stands.
    pub fn stopped(&mut self, seq: i64) {
        self.running -= 1;
        self.pass_on(seq);
        let subjects = self.places.get(&seq).map(|place| place.subjects.clone()).unwrap_or_default();
        for subject in &subjects {
            self.running_in.remove(subject);
        }
        let waiting = subjects.iter().filter_map(|subject| self.lanes.get(subject)?.first().copied());
        waiting.collect::<BTreeSet<_>>().into_iter().for_each(|seq| self.advance(seq));
    }

    fn queue(&mut self, destination: &str, seq: i64) {
        let Some(place) = self.places.get_mut(&seq) else { return };
        place.needs = Some(destination.to_string());
        if !place.queued.iter().any(|d| d == destination) {
            place.queued.push(destination.to_string());
            self.waiting.entry(destination.to_string()).or_default().push_back(seq);
        }
    }

    /// It is done with, for good or ill: those behind it move up.
    pub fn remove(&mut self, seq: i64) {
        self.pass_on(seq);
        let Some(place) = self.places.remove(&seq) else { return };
        if let State::Parked(until) = place.state {
            self.parked.remove(&(until, seq));
        }
        self.leave_lanes(seq, &place.subjects);
    }

    fn leave_lanes(&mut self, seq: i64, subjects: &[String]) {
        let mut behind = BTreeSet::new();
        for subject in subjects {
            if let Some(lane) = self.lanes.get_mut(subject) {
                lane.remove(&seq);
                behind.extend(lane.first().copied());
                if lane.is_empty() {
                    self.lanes.remove(subject);
                }
            }
        }
        behind.into_iter().for_each(|seq| self.advance(seq));
    }

    pub fn park(&mut self, seq: i64, until: Millis) {
        let Some(place) = self.places.get_mut(&seq) else { return };
        if std::mem::take(&mut place.again) {
            place.state = State::Behind;
            return self.advance(seq);
        }
        place.state = State::Parked(until);
        self.parked.insert((until, seq));
        if is_planted(Bug::OrderDroppedOnRetry) {
            let subjects = std::mem::take(&mut place.subjects);
            self.leave_lanes(seq, &subjects);
        }
    }

    /// Parks one that has nothing left to do but to call somebody back: nobody waits behind it.
    pub fn park_aside(&mut self, seq: i64, until: Millis) {
        if let Some(place) = self.places.get_mut(&seq) {
            let subjects = std::mem::take(&mut place.subjects);
            self.leave_lanes(seq, &subjects);
        }
        self.park(seq, until);
    }

    /// Leaves a running one until the destination that it waits for has room.
    pub fn set_busy(&mut self, seq: i64) {
        let Some(place) = self.places.get_mut(&seq) else { return };
        place.state = State::Busy;
        // A call may have ended while it was still running.
        if place.queued.is_empty() || std::mem::take(&mut place.again) {
            place.state = State::Behind;
            self.advance(seq);
        }
    }

    /// Makes one run again at once, wherever it waits.
    pub fn hurry(&mut self, seq: i64) {
        let Some(place) = self.places.get_mut(&seq) else { return };
        match place.state {
            State::Running => place.again = true,
            State::Parked(until) => {
                self.parked.remove(&(until, seq));
                place.state = State::Behind;
                self.advance(seq);
            }
            State::Busy => {
                place.state = State::Behind;
                self.advance(seq);
            }
            State::Behind | State::Ready => {}
        }
    }

    /// Wakes those whose time has come; answers when the next one's comes.
    pub fn wake(&mut self, now: Millis) -> Option<Millis> {
        while let Some(&(until, seq)) = self.parked.first() {
            if until > now {
                return Some(until);
            }
            self.parked.pop_first();
            if let Some(place) = self.places.get_mut(&seq) {
                place.state = State::Behind;
            }
            self.advance(seq);
        }
        None
    }

    /// Asks for a call to a destination. `Busy` means: `seq` is woken when there is room.
    pub fn enter(&mut self, destination: &str, seq: i64, now: Millis) -> Entry {
        if let Some(place) = self.places.get_mut(&seq) {
            place.invited.take_if(|invited| invited == destination);
        }
        let shared = is_called_back(destination).then_some(CALLED_BACK);
        if let Some(shared) = shared
            && self.gates.get(shared).is_some_and(|gate| gate.look(now) == Entry::Busy)
        {
            self.queue(shared, seq);
            return Entry::Busy;
        }
        let Some(gate) = self.gate(destination) else { return Entry::Open };
        let entry = gate.enter(now);
        if entry == Entry::Open
            && let Some(gate) = shared.and_then(|shared| self.gates.get_mut(shared))
        {
            gate.enter(now);
        }
        match entry {
            Entry::Busy => self.queue(destination, seq),
            Entry::Closed { .. } => {
                if let Some(place) = self.places.get_mut(&seq) {
                    place.needs = Some(destination.to_string());
                }
            }
            Entry::Open => {}
        }
        entry
    }

    /// `again` if the message had failed there before.
    pub fn leave(&mut self, destination: &str, failure: Option<&Failure>, again: bool, now: Millis) {
        let Some(gate) = self.gate(destination) else { return };
        gate.leave(failure, again, now);
        self.wake_waiting(destination, now);
        if is_called_back(destination)
            && let Some(all) = self.gates.get_mut(CALLED_BACK)
        {
            all.leave(None, false, now);
            self.wake_waiting(CALLED_BACK, now);
        }
    }

    /// It was woken for a destination, and did not go there after all: the room is another's.
    fn pass_on(&mut self, seq: i64) {
        let invited = self.places.get_mut(&seq).and_then(|place| place.invited.take());
        if let Some(destination) = invited {
            self.wake_waiting(&destination, self.now);
        }
    }

    /// As many as there is room for. When the gate has closed, all of them find that out and park.
    fn wake_waiting(&mut self, destination: &str, now: Millis) {
        let Some(gate) = self.gates.get(destination) else { return };
        let mut room = gate.room(now).unwrap_or(usize::MAX);
        while room > 0 {
            let Some(seq) = self.waiting.get_mut(destination).and_then(VecDeque::pop_front) else { return };
            // Who has ended, or was cancelled, needs no room.
            let Some(place) = self.places.get_mut(&seq) else { continue };
            place.queued.retain(|d| d != destination);
            place.invited = Some(destination.to_string());
            self.hurry(seq);
            // Who has to wait for another first does not come now.
            room -= usize::from(!self.is_behind(seq));
        }
    }

    /// Asks for a call that is no delivery. Whoever is told `Busy` asks again when one has ended.
    pub fn pass(&mut self, destination: &str, now: Millis) -> Entry {
        self.gate(destination).map_or(Entry::Open, |gate| gate.enter(now))
    }

    pub fn reopen_gates(&mut self) {
        self.gates.values_mut().for_each(Gate::reopen);
    }

    pub fn gates(&self) -> impl Iterator<Item = (&String, &Gate)> {
        self.gates.iter()
    }

    /// Behind another about the same subject.
    pub fn is_behind(&self, seq: i64) -> bool {
        self.places.get(&seq).is_some_and(|place| place.state == State::Behind)
    }

    pub fn contains(&self, seq: i64) -> bool {
        self.places.contains_key(&seq)
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Those that take others' turn: who calls back waits for a host of which nobody knows anything.
    pub fn running(&self) -> usize {
        self.running - self.gates.get(CALLED_BACK).map_or(0, Gate::in_use)
    }

    /// When a transaction came, was asked for again, or was taken up.
    pub fn since(&self, seq: i64) -> Option<Millis> {
        self.places.get(&seq).map(|place| place.since)
    }

    /// First in all its lanes, and nobody else runs there.
    fn is_free(&self, seq: i64) -> bool {
        let Some(place) = self.places.get(&seq) else { return false };
        place.subjects.iter().all(|subject| {
            self.lanes.get(subject).and_then(BTreeSet::first) == Some(&seq)
                && self.running_in.get(subject).is_none_or(|running| *running == seq)
        })
    }

    fn advance(&mut self, seq: i64) {
        if self.is_free(seq)
            && let Some(place) = self.places.get_mut(&seq)
            && place.state == State::Behind
        {
            place.state = State::Ready;
            self.ready.push_back(seq);
        }
    }
}

fn is_called_back(destination: &str) -> bool {
    destination.starts_with("callback:")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::Status;
    use crate::flow::ports::Failure;
    use std::time::Duration;

    const LIMITS: Limits =
        Limits { max_concurrent: 1, breaker_failures: 9, breaker_pause: Duration::from_secs(1) };

    fn schedule() -> Schedule {
        Schedule::with_gates(HashMap::from([("fhir".to_string(), Gate::new(LIMITS))]), LIMITS)
    }

    fn head(seq: i64, subjects: &[&str]) -> Head {
        Head {
            seq,
            id: seq.to_string(),
            subjects: subjects.iter().map(|s| s.to_string()).collect(),
            status: Status::Open,
            not_before: 0,
        }
    }

    fn running(schedule: &mut Schedule) -> Vec<i64> {
        std::iter::from_fn(|| schedule.next(0).map(|(seq, _)| seq)).collect()
    }

    #[test]
    fn one_subject_in_order_others_side_by_side() {
        let mut schedule = schedule();
        schedule.add(&head(1, &["a"]), 0);
        schedule.add(&head(2, &["a", "b"]), 0);
        schedule.add(&head(3, &["b"]), 0);
        schedule.add(&head(4, &["c"]), 0);
        assert_eq!(running(&mut schedule), [1, 4]);
        end(&mut schedule, 1);
        assert_eq!(running(&mut schedule), [2]);
        end(&mut schedule, 4);
        assert!(running(&mut schedule).is_empty());
        end(&mut schedule, 2);
        assert_eq!(running(&mut schedule), [3]);
    }

    fn end(schedule: &mut Schedule, seq: i64) {
        schedule.stopped(seq);
        schedule.remove(seq);
    }

    #[test]
    fn an_older_one_that_comes_late_waits_for_the_newer_that_runs() {
        let mut schedule = schedule();
        schedule.add(&head(6, &["a"]), 0);
        assert_eq!(running(&mut schedule), [6]);
        schedule.add(&head(5, &["a"]), 0);
        assert!(running(&mut schedule).is_empty());
        schedule.stopped(6);
        schedule.park(6, 100);
        assert_eq!(running(&mut schedule), [5], "it is older, and nobody runs");
        assert_eq!(schedule.wake(100), None);
        assert!(running(&mut schedule).is_empty());
        end(&mut schedule, 5);
        assert_eq!(running(&mut schedule), [6]);
    }

    #[test]
    fn an_older_one_goes_before_a_newer_that_has_not_begun() {
        let mut schedule = schedule();
        schedule.add(&head(6, &["a", "b"]), 0);
        schedule.add(&head(5, &["b"]), 0);
        assert_eq!(running(&mut schedule), [5]);
        end(&mut schedule, 5);
        assert_eq!(running(&mut schedule), [6]);
    }

    #[test]
    fn after_an_outage_as_many_are_woken_as_there_is_room_for() {
        let limits = Limits { max_concurrent: 3, breaker_failures: 1, ..LIMITS };
        let mut schedule =
            Schedule::with_gates(HashMap::from([("fhir".to_string(), Gate::new(limits))]), limits);
        (1..=6).for_each(|seq| schedule.add(&head(seq, &[]), 0));
        running(&mut schedule);
        assert_eq!(schedule.enter("fhir", 1, 0), Entry::Open);
        schedule.leave("fhir", Some(&Failure::transient("down")), false, 0);
        let later = 1000;
        assert_eq!(schedule.enter("fhir", 1, later), Entry::Open, "the probe");
        for seq in 2..=6 {
            assert_eq!(schedule.enter("fhir", seq, later), Entry::Busy);
            schedule.stopped(seq);
            schedule.set_busy(seq);
        }
        schedule.remove(2);
        schedule.leave("fhir", None, false, later);
        let woken: Vec<i64> = std::iter::from_fn(|| schedule.next(later).map(|(seq, _)| seq)).collect();
        assert_eq!(woken, [3, 4, 5], "the cancelled one takes nobody's turn");
    }

    #[test]
    fn one_that_is_parked_instead_of_started_is_told() {
        let mut schedule = schedule();
        schedule.add(&head(1, &[]), 0);
        running(&mut schedule);
        (0..9).for_each(|_| schedule.leave("fhir", Some(&Failure::transient("down")), false, 0));
        assert!(matches!(schedule.enter("fhir", 1, 0), Entry::Closed { .. }));
        schedule.stopped(1);
        schedule.park(1, 10);
        assert_eq!(schedule.parked_until(1), Some(10));
        schedule.wake(10);
        assert!(running(&mut schedule).is_empty() && schedule.parked_until(1).is_some());
        assert_eq!(schedule.held_up().len(), 1);
        assert!(schedule.held_up().is_empty());
    }

    #[test]
    fn a_parked_one_holds_back_its_own_subject_only() {
        let mut schedule = schedule();
        schedule.add(&head(1, &["a"]), 0);
        schedule.add(&head(2, &["a"]), 0);
        assert_eq!(running(&mut schedule), [1]);
        schedule.stopped(1);
        schedule.park(1, 100);
        schedule.add(&head(3, &["b"]), 0);
        assert_eq!(running(&mut schedule), [3]);
        assert_eq!(schedule.wake(99), Some(100));
        assert!(running(&mut schedule).is_empty());
        assert_eq!(schedule.wake(100), None);
        assert_eq!(running(&mut schedule), [1]);
    }

    #[test]
    fn a_busy_destination_wakes_one_for_each_call_that_ends() {
        let mut schedule = schedule();
        (1..=3).for_each(|seq| schedule.add(&head(seq, &[]), 0));
        assert_eq!(running(&mut schedule), [1, 2, 3]);
        assert_eq!(schedule.enter("fhir", 1, 0), Entry::Open);
        assert_eq!(schedule.enter("fhir", 2, 0), Entry::Busy);
        assert_eq!(schedule.enter("fhir", 3, 0), Entry::Busy);
        schedule.stopped(2);
        schedule.set_busy(2);
        schedule.leave("fhir", None, false, 0);
        schedule.stopped(3);
        schedule.set_busy(3);
        assert_eq!(running(&mut schedule), [2]);
        assert_eq!(schedule.enter("fhir", 2, 0), Entry::Open);
        schedule.leave("fhir", Some(&Failure::transient("down")), false, 0);
        assert_eq!(running(&mut schedule), [3]);
    }

    #[test]
    fn room_that_came_while_it_still_ran_is_not_missed() {
        let mut schedule = schedule();
        (1..=2).for_each(|seq| schedule.add(&head(seq, &[]), 0));
        running(&mut schedule);
        schedule.enter("fhir", 1, 0);
        assert_eq!(schedule.enter("fhir", 2, 0), Entry::Busy);
        schedule.leave("fhir", None, false, 0);
        schedule.stopped(2);
        schedule.set_busy(2);
        assert_eq!(running(&mut schedule), [2]);
    }

    #[test]
    fn hosts_that_are_called_back_take_nobody_elses_turn_and_have_a_limit_of_their_own() {
        let mut schedule = schedule();
        let many = MOST_CALLED_BACK as i64;
        (1..=many + 1).for_each(|seq| schedule.add(&head(seq, &[]), 0));
        running(&mut schedule);
        for seq in 1..=many {
            assert_eq!(schedule.enter(&format!("callback:{seq}.example"), seq, 0), Entry::Open);
        }
        assert_eq!(schedule.running(), 1, "the one that does not call back");
        assert_eq!(schedule.enter("callback:another.example", many + 1, 0), Entry::Busy);
        schedule.stopped(many + 1);
        schedule.set_busy(many + 1);
        schedule.leave("callback:1.example", Some(&Failure::transient("timeout")), false, 0);
        assert_eq!(running(&mut schedule), [many + 1]);
        assert_eq!(schedule.enter("callback:another.example", many + 1, 0), Entry::Open);
    }

    #[test]
    fn room_that_one_no_longer_needs_is_given_to_the_next() {
        let mut schedule = schedule();
        (1..=3).for_each(|seq| schedule.add(&head(seq, &[]), 0));
        running(&mut schedule);
        assert_eq!(schedule.enter("fhir", 1, 0), Entry::Open);
        for seq in [2, 3] {
            assert_eq!(schedule.enter("fhir", seq, 0), Entry::Busy);
            schedule.stopped(seq);
            schedule.set_busy(seq);
        }
        schedule.leave("fhir", None, false, 0);
        assert_eq!(running(&mut schedule), [2]);
        // What it wanted to ask is known by now.
        end(&mut schedule, 2);
        assert_eq!(running(&mut schedule), [3]);
    }
}
