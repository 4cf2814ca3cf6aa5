//! Somebody sets the clock, by hours or by days, while messages are under way.
use crate::world::{World, fixture, ltfu};
use cht_fhir_mediator::flow::ports::{Clock, Millis};
use cht_fhir_mediator::house::{House, SystemClock};
use cht_fhir_mediator::standins::cht;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant};

const HOUR: Millis = 3_600_000;

/// The system's clock, put forward or back.
pub struct Set {
    clock: SystemClock,
    off: AtomicI64,
}

impl Clock for Set {
    fn now(&self) -> Millis {
        self.clock.now() + self.off.load(Relaxed)
    }

    fn steady(&self) -> Millis {
        self.clock.steady()
    }
}

impl Set {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { clock: SystemClock::start(), off: AtomicI64::new(0) })
    }

    pub fn to(&self, hours: Millis) {
        self.off.store(hours * HOUR, Relaxed);
    }
}

async fn open_by(world: &mut World, clock: &Arc<Set>) {
    world.house = Some(House::open_by(clock.clone(), &world.settings).await.expect("an open house"));
}

fn person(n: usize) -> Value {
    let mut push = fixture("full-person-10")["body"].clone();
    push["doc"]["_id"] = json!(format!("a54a8e4f-c505-4ed9-a6f2-{n:012}"));
    (push["doc"]["patient_id"], push["doc"]["external_id"]) = (json!(format!("9000{n}")), json!(""));
    push
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_carried_on_and_callers_are_answered_whatever_the_clock_says() {
    let mut world = World::closed(&[("SERVER__ANSWER_WITHIN_MS", "700")], cht::Options::default()).await;
    let clock = Set::new();
    open_by(&mut world, &clock).await;
    // Back, forth, over the 72 hours after which a message is given up, and back behind all of it.
    for (n, hours) in [-3, 5, 200, -1000, 0].into_iter().enumerate() {
        world.fhir.faults().set_down(true);
        let sent = tokio::spawn(world.http.post(world.url("/cht/push")).json(&person(n)).send());
        world.fhir.faults().clear_calls();
        world.until("it is tried", |world| !world.fhir.faults().calls().is_empty()).await;
        clock.to(hours);
        let started = Instant::now();
        let answer = sent.await.expect("sent").expect("an answer");
        assert_eq!(answer.status(), 202, "{hours} h");
        // 0.7 s, and what a busy machine adds.
        assert!(started.elapsed() < Duration::from_secs(5), "{hours} h: {:?}", started.elapsed());
        world.fhir.faults().set_down(false);
        let started = Instant::now();
        let rows = world.settled().await;
        // The longest retry is 0.5 s, the breaker's pause 0.3 s.
        assert!(started.elapsed() < Duration::from_secs(8), "{hours} h: {:?}", started.elapsed());
        assert!(rows.iter().all(|row| row.status == "delivered"), "{hours} h: {}", json!(rows));
    }
    assert_eq!(world.fhir.resources("Patient").len(), 5);
    assert!(world.fhir.ledger().values().all(|n| *n == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn when_it_is_tried_next_is_told_by_the_time_of_day() {
    let mut world = World::closed(&[("SERVER__ANSWER_WITHIN_MS", "100")], cht::Options::default()).await;
    let clock = Set::new();
    open_by(&mut world, &clock).await;
    clock.to(-30);
    world.fhir.faults().set_down(true);
    world.post("/cht/push", &person(1)).await;
    let until = Instant::now() + Duration::from_secs(90);
    let next = loop {
        if let Some(next) = world.transactions().await.remove(0).next_attempt {
            break next;
        }
        assert!(Instant::now() < until, "never parked");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let next: jiff::Timestamp = next.parse().expect("a time");
    let ahead = next.as_millisecond() - clock.now();
    assert!(ahead.abs() < HOUR / 60, "{ahead} ms");
    world.fhir.faults().set_down(false);
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_whose_answer_was_lost_is_made_once_if_the_clock_goes_back_with_a_restart() {
    // CHT shows a new report only after a second; before that, a look for it finds nothing.
    let options = cht::Options { index_delay: Duration::from_secs(1), ..Default::default() };
    let further = [("SERVER__ANSWER_WITHIN_MS", "100"), ("CHT__INDEX_LAG_MS", "1500")];
    let mut world = World::closed(&further, options).await;
    world.know_patient();
    let clock = Set::new();
    clock.to(5);
    open_by(&mut world, &clock).await;
    world.cht.faults().on("POST", "/api/v2/records").drop_after_effect_next(1);
    world.post("/fhir/ServiceRequest", &ltfu("SR-1")).await;
    world.until("the record", |world| world.cht.reports().len() == 1).await;
    world.close().await;
    // By this clock the message comes from the future.
    clock.to(0);
    open_by(&mut world, &clock).await;
    let rows = world.settled().await;
    assert!(rows.iter().all(|row| row.status != "failed"), "{}", json!(rows));
    assert_eq!(world.cht.reports().len(), 1);
}
