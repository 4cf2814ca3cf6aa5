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
    subjects: Vec<String>,
    state: State,
    /// Asked for again while it ran.
    again: bool,
    /// Destinations in whose queue it stands.
    queued: Vec<String>,
    /// The destination that held it up last: asked first, before anything is read from the journal.
    needs: Option<String>,
}

/// Hosts that are remembered.
const MAX_GATES: usize = 1000;

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
}

impl Schedule {
    pub fn with_gates(gates: HashMap<String, Gate>, callbacks: Limits) -> Self {
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
        }
    }

    /// A configured destination's gate, or that of a host that is called back.
    fn gate(&mut self, destination: &str) -> Option<&mut Gate> {
        if destination.starts_with("callback:") && !self.gates.contains_key(destination) {
            // Hosts come and go; those that nobody is calling are forgotten.
            if self.gates.len() > MAX_GATES {
                self.gates.retain(|name, gate| !name.starts_with("callback:") || !gate.is_idle());
            }
            self.gates.insert(destination.to_string(), Gate::new(self.callbacks));
        }
        self.gates.get_mut(destination)
    }

    /// Puts a transaction in its lanes. Known ones are left as they are.
    pub fn add(&mut self, head: &Head) {
        if self.places.contains_key(&head.seq) {
            return;
        }
        for subject in &head.subjects {
            self.lanes.entry(subject.clone()).or_default().insert(head.seq);
        }
        let place = Place {
            id: head.id.clone(),
            subjects: head.subjects.clone(),
            state: State::Behind,
            again: false,
            queued: Vec::new(),
            needs: None,
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
                Some((_, Entry::Closed { until, .. })) => self.park(seq, until),
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

    /// A started one has stopped running: call before saying how it stands.
    pub fn stopped(&mut self, seq: i64) {
        self.running -= 1;
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
        let Some(gate) = self.gate(destination) else { return Entry::Open };
        let entry = gate.enter(now);
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
            room -= 1;
            self.hurry(seq);
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

    pub fn running(&self) -> usize {
        self.running
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
        schedule.add(&head(1, &["a"]));
        schedule.add(&head(2, &["a", "b"]));
        schedule.add(&head(3, &["b"]));
        schedule.add(&head(4, &["c"]));
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
        schedule.add(&head(6, &["a"]));
        assert_eq!(running(&mut schedule), [6]);
        schedule.add(&head(5, &["a"]));
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
        schedule.add(&head(6, &["a", "b"]));
        schedule.add(&head(5, &["b"]));
        assert_eq!(running(&mut schedule), [5]);
        end(&mut schedule, 5);
        assert_eq!(running(&mut schedule), [6]);
    }

    #[test]
    fn after_an_outage_as_many_are_woken_as_there_is_room_for() {
        let limits = Limits { max_concurrent: 3, breaker_failures: 1, ..LIMITS };
        let mut schedule =
            Schedule::with_gates(HashMap::from([("fhir".to_string(), Gate::new(limits))]), limits);
        (1..=6).for_each(|seq| schedule.add(&head(seq, &[])));
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
    fn a_parked_one_holds_back_its_own_subject_only() {
        let mut schedule = schedule();
        schedule.add(&head(1, &["a"]));
        schedule.add(&head(2, &["a"]));
        assert_eq!(running(&mut schedule), [1]);
        schedule.stopped(1);
        schedule.park(1, 100);
        schedule.add(&head(3, &["b"]));
        assert_eq!(running(&mut schedule), [3]);
        assert_eq!(schedule.wake(99), Some(100));
        assert!(running(&mut schedule).is_empty());
        assert_eq!(schedule.wake(100), None);
        assert_eq!(running(&mut schedule), [1]);
    }

    #[test]
    fn a_busy_destination_wakes_one_for_each_call_that_ends() {
        let mut schedule = schedule();
        (1..=3).for_each(|seq| schedule.add(&head(seq, &[])));
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
        (1..=2).for_each(|seq| schedule.add(&head(seq, &[])));
        running(&mut schedule);
        schedule.enter("fhir", 1, 0);
        assert_eq!(schedule.enter("fhir", 2, 0), Entry::Busy);
        schedule.leave("fhir", None, false, 0);
        schedule.stopped(2);
        schedule.set_busy(2);
        assert_eq!(running(&mut schedule), [2]);
    }
}
