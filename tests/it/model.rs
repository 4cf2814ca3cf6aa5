//! Whatever happens to requests, in whatever order, whenever the mediator is restarted: no illegal step, no outcome
//! lost, nothing twice, and both sides agree in the end.
use crate::clock::Set;
use crate::world::{PATIENT, World, ltfu};
use cht_fhir_mediator::domain::follow_up::{FollowUp, Happening, Kind, State, replay};
use cht_fhir_mediator::domain::identifier::Identifier;
use cht_fhir_mediator::house::House;
use cht_fhir_mediator::standins::cht;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

const REQUESTS: usize = 2;

#[derive(Clone, Debug)]
enum Move {
    /// Of a request: in so many words; the same again is a repeat.
    Ask(usize, usize),
    Withdraw(usize, usize),
    /// The CHW does the newest task of a request.
    Visit(usize, &'static str),
    /// She edits her newest report of it.
    Correct(usize, &'static str),
    /// CHT pushes it again.
    PushAgain(usize),
    /// So many days go by.
    Wait(i64),
    Restart,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let outcome = prop::sample::select(vec!["found", "moved", "refused", "try_again"]);
    let one = prop_oneof![
        4 => (0..REQUESTS, 0..3_usize).prop_map(|(n, words)| Move::Ask(n, words)),
        2 => (0..REQUESTS, 0..3_usize).prop_map(|(n, words)| Move::Withdraw(n, words)),
        4 => (0..REQUESTS, outcome.clone()).prop_map(|(n, outcome)| Move::Visit(n, outcome)),
        2 => (0..REQUESTS, outcome).prop_map(|(n, outcome)| Move::Correct(n, outcome)),
        1 => (0..REQUESTS).prop_map(Move::PushAgain),
        1 => prop::sample::select(vec![8_i64, 31]).prop_map(Move::Wait),
        1 => Just(Move::Restart),
    ];
    prop::collection::vec(one, 1..10)
}

fn request(n: usize, words: usize, status: &str) -> Value {
    let mut request = ltfu(&format!("SR-{n}"));
    request["occurrenceDateTime"] = json!(format!("2026-10-1{words}"));
    request["status"] = json!(status);
    request
}

struct Play {
    world: World,
    clock: Arc<Set>,
    days: i64,
    /// The newest report of each request.
    reports: BTreeMap<usize, Value>,
    pushed: usize,
}

impl Play {
    async fn begin() -> Self {
        let further = [
            ("FOLLOW_UP__CHECK_SECONDS", "1"),
            ("FOLLOW_UP__DUE_DAYS", "7"),
            ("FOLLOW_UP__EXPIRES_DAYS", "30"),
        ];
        let world = World::closed(&further, cht::Options::default()).await;
        world.know_patient();
        let (clock, reports) = (Set::new(), BTreeMap::new());
        let mut play = Self { world, clock, days: 0, reports, pushed: 0 };
        play.open().await;
        play
    }

    async fn open(&mut self) {
        let house = House::open_by(self.clock.clone(), &self.world.settings).await.expect("an open house");
        self.world.house = Some(house);
    }

    fn records(&self, form: &str, n: usize) -> Vec<Value> {
        let name = json!(format!("SR-{n}"));
        let mut all = self.world.cht.reports();
        all.retain(|report| report["form"] == form && report["fields"]["external_id"] == name);
        all.sort_by_key(|report| report["reported_date"].as_i64());
        all
    }

    async fn make(&mut self, one: &Move) {
        match one {
            Move::Ask(n, words) => {
                self.world.post("/fhir/ServiceRequest", &request(*n, *words, "active")).await;
            }
            Move::Withdraw(n, words) => {
                self.world.post("/fhir/ServiceRequest", &request(*n, *words, "revoked")).await;
            }
            Move::Visit(n, outcome) => {
                self.world.settled().await;
                let Some(record) = self.records("LTFU_REQUEST", *n).pop() else { return };
                let id = record["_id"].as_str().expect("an id");
                let report =
                    self.world.cht.complete_follow_up(id, "ltfu_follow_up", json!({"outcome": outcome}));
                let report = report.expect("a report");
                self.pushed += 1;
                self.world.cht.push(&report).await;
                self.reports.insert(*n, report);
            }
            Move::Correct(n, outcome) => {
                let Some(report) = self.reports.get_mut(n) else { return };
                let version = report["_rev"].as_str().and_then(|rev| rev.split('-').next()?.parse().ok());
                report["_rev"] = json!(format!("{}-x", version.unwrap_or(1) + 1));
                report["fields"]["outcome"] = json!(outcome);
                self.world.cht.push(report).await;
            }
            Move::PushAgain(n) => {
                if let Some(report) = self.reports.get(n) {
                    self.world.cht.push(report).await;
                }
            }
            Move::Wait(days) => {
                self.world.settled().await;
                self.days += days;
                self.clock.to(self.days * 24);
                self.until_nothing_is_due().await;
            }
            Move::Restart => {
                self.world.close().await;
                self.open().await;
            }
        }
    }

    async fn until_nothing_is_due(&self) {
        let house = self.world.house.as_ref().expect("an open house");
        for _ in 0..300 {
            let now = house.corridor.now();
            if house.corridor.journal().lapsed(now, 10).await.expect("read").is_empty() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        self.world.settled().await;
    }

    async fn known(&self, n: usize) -> Option<FollowUp> {
        let house = self.world.house.as_ref().expect("an open house");
        let name = Identifier::new("urn:emr:requests", format!("SR-{n}"));
        house.corridor.journal().follow_up(Kind::FollowUp, &name).await.expect("read")
    }

    /// What must hold in the end.
    async fn check(&self) {
        let rows = self.world.settled().await;
        assert!(rows.iter().all(|row| row.status != "failed"), "{}", json!(rows));
        let at_server = self.world.fhir.resources("ServiceRequest");
        for n in 0..REQUESTS {
            let Some(known) = self.known(n).await else { continue };
            assert_eq!(replay(&known.events), Some(known.state), "SR-{n}");
            let there: Vec<&Value> =
                at_server.iter().filter(|r| r["identifier"][0]["value"] == format!("SR-{n}")).collect();
            assert_eq!(there.len(), 1, "SR-{n}");
            assert_eq!(there[0]["status"], known.state.request_status(), "SR-{n}: {:?}", story(&known));
            let (asked, taken_back) = told(&known);
            assert_eq!(self.records("LTFU_REQUEST", n).len(), asked, "SR-{n}: {:?}", story(&known));
            assert_eq!(self.records("LTFU_CANCEL", n).len(), taken_back, "SR-{n}: {:?}", story(&known));
        }
        assert_eq!(self.world.fhir.resources("Encounter").len(), self.pushed, "every visit is kept, once");
        for patient in self.world.fhir.resources("Patient") {
            assert!(patient["identifier"].to_string().contains(PATIENT));
        }
    }
}

fn story(request: &FollowUp) -> Vec<Happening> {
    request.events.iter().map(|event| event.what).collect()
}

/// How often a CHW was asked, and how often her task was taken away.
fn told(request: &FollowUp) -> (usize, usize) {
    let (mut asked, mut taken_back, mut state, mut has_task) = (0, 0, State::Requested, false);
    for event in &request.events {
        state = if event.what == Happening::Asked {
            State::Requested
        } else {
            state.after(event.what).expect("a legal step")
        };
        match event.what {
            Happening::Asked => has_task = false,
            Happening::Claimed => {
                asked += 1;
                has_task = true;
            }
            Happening::Completed => has_task = false,
            // The report is taken back, and the task with it is not: CHT has it as done.
            Happening::Begun => has_task = true,
            Happening::Withdrawn | Happening::Expired => {
                taken_back += usize::from(std::mem::take(&mut has_task))
            }
            _ => {}
        }
    }
    let _ = state;
    (asked, taken_back)
}

/// `MEDIATOR_MODEL_CASES` and `MEDIATOR_MODEL_SEED` set how many, and which.
#[test]
fn both_sides_agree_whatever_happens_to_requests() {
    let number = |name: &str, otherwise: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
    };
    let (cases, seed) = (number("MEDIATOR_MODEL_CASES", 40), number("MEDIATOR_MODEL_SEED", 4711));
    println!("{cases} cases, seed {seed}");
    let config =
        Config { cases: cases as u32, failure_persistence: None, max_shrink_iters: 40, ..Config::default() };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let played = runner.run(&moves(), |moves| {
        runtime.block_on(async {
            let mut play = Play::begin().await;
            for one in &moves {
                play.make(one).await;
            }
            play.check().await;
            play.world.close().await;
        });
        Ok(())
    });
    if let Err(error) = played {
        panic!("{error}");
    }
}
