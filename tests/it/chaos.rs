//! Under fire: neighbours fail by chance, senders repeat themselves, the mediator is restarted. Nothing is
//! lost, nothing is done twice, and what is about one patient keeps its order.
//!
//! `MEDIATOR_CHAOS_MESSAGES=20000` makes it longer, `MEDIATOR_CHAOS_SEED` replays one.
use crate::world::{World, any};
use cht_fhir_mediator::standins::cht;
use cht_fhir_mediator::standins::faults::Chances;
use cht_fhir_mediator::standins::openhim;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, Semaphore};

const CHANCES: Chances =
    Chances { status_500: 5, drop_before: 3, drop_after_effect: 3, late: 2, by: Duration::from_secs(12) };

fn uuid(n: usize) -> String {
    format!("d54a8e4f-c505-4ed9-a6f2-{n:012}")
}

fn short(n: usize) -> String {
    format!("{:05}", 10_000 + n)
}

fn person(n: usize, version: usize) -> Value {
    json!({"doc": {"_id": uuid(n), "_rev": format!("{}-x", version + 1), "type": "person", "name": "Test Person", "patient_id": short(n),
        "phone": format!("+2547{n:04}{version:04}"), "date_of_birth": "1990-01-01", "sex": "female"}})
}

fn referral(n: usize) -> Value {
    json!({"doc": {"_id": format!("e54a8e4f-c505-4ed9-a6f2-{n:012}"), "type": "data_record", "form": "referral",
        "content_type": "xml", "reported_date": 1_793_181_600_000_i64,
        "contact": {"_id": "f54a8e4f-c505-4ed9-a6f2-eb7bdad2fb9d", "type": "person", "role": "chw", "name": "Test Worker"},
        "patient": {"_id": uuid(n), "type": "person", "name": "Test Person", "patient_id": short(n)},
        "fields": {"patient_id": uuid(n), "inputs": {"contact": {"_id": uuid(n)}},
            "referral": {"reason": "fever", "urgency": "urgent", "note": "hot since yesterday"}}}})
}

fn request(n: usize) -> Value {
    json!({"resourceType": "ServiceRequest", "status": "active", "intent": "order",
        "identifier": [{"system": "urn:emr:requests", "value": format!("SR-{n}")}], "code": {"text": "Find her"},
        "subject": {"identifier": {"system": "urn:cht:uuid", "value": uuid(n)}}})
}

/// Sends until it is told 2xx, as CHT and a careful EMR do; sometimes twice at once.
struct Sender {
    world: Arc<Mutex<World>>,
    http: reqwest::Client,
    direct: String,
    through: String,
    room: Semaphore,
    /// CHT's records by the request that they ask for.
    asked: Mutex<BTreeMap<String, String>>,
}

impl Sender {
    async fn once(&self, path: &str, body: &Value, through_openhim: bool) -> bool {
        let base = if through_openhim { &self.through } else { &self.direct };
        let request = self.http.post(format!("{base}/mediator{path}")).basic_auth("openhim", Some("secret"));
        request.json(body).send().await.is_ok_and(|answer| answer.status().is_success())
    }

    async fn send(&self, path: &str, body: &Value, twice: bool, through_openhim: bool) {
        let _room = self.room.acquire().await.expect("room");
        for _ in 0..600 {
            let sent = match twice {
                true => {
                    let both = tokio::join!(
                        self.once(path, body, through_openhim),
                        self.once(path, body, through_openhim)
                    );
                    both.0 && both.1
                }
                false => self.once(path, body, through_openhim).await,
            };
            if sent {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{path} was never accepted");
    }
}

fn number_of(name: &str, otherwise: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_doubled_or_turned_round_under_fire() {
    let messages = number_of("MEDIATOR_CHAOS_MESSAGES", 2000);
    let seed = number_of("MEDIATOR_CHAOS_SEED", 4711) as u64;
    println!("{messages} messages, seed {seed}");
    let him = openhim::start(any()).await.expect("an OpenHIM");
    let secret = cht_fhir_mediator::http::auth::hash_secret("secret").expect("a hash");
    let clients =
        json!([{"id": "openhim", "secret": secret, "roles": ["push", "fhir", "admin"], "openhim": true}]);
    let api = him.api_url();
    let further = [
        ("CLIENTS", clients.to_string()),
        ("OPENHIM__ENABLED", "true".into()),
        ("OPENHIM__API_URL", api),
        ("OPENHIM__USERNAME", openhim::USERNAME.into()),
        ("OPENHIM__PASSWORD", openhim::PASSWORD.into()),
        ("OPENHIM__HEARTBEAT_SECONDS", "1".into()),
        ("OPENHIM__INSTALL_CHANNELS", "true".into()),
        ("SERVER__ANSWER_WITHIN_MS", "2000".into()),
        ("DELIVERY__BREAKER_FAILURES", "20".into()),
        ("FHIR__MAX_CONCURRENT", "64".into()),
        ("CHT__MAX_CONCURRENT", "64".into()),
    ];
    let further: Vec<(&str, &str)> = further.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let options = cht::Options {
        outbound_auth: Some(("openhim".into(), "secret".into())),
        index_delay: Duration::from_millis(200),
        ..Default::default()
    };
    let mut world = World::closed(&further, options).await;
    world.settings.openhim.reachable_at = world.url("");
    world.open().await;
    let until = Instant::now() + Duration::from_secs(90);
    while him.channels().is_empty() {
        assert!(Instant::now() < until, "never registered");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    him.change_channels(|channel| {
        channel["routes"][0]["username"] = json!("openhim");
        channel["routes"][0]["password"] = json!("secret");
    });
    // Five messages a person: two versions, a referral, a request, and what came of it.
    let people = messages / 5;
    for n in 0..people {
        world.cht.add_person(person(n, 0)["doc"].clone());
    }
    world.fhir.faults().by_chance(CHANCES, seed);
    world.cht.faults().by_chance(CHANCES, seed + 1);
    let (direct, through) = (world.url(""), him.url());
    let sender = Arc::new(Sender {
        http: world.http.clone(),
        world: Arc::new(Mutex::new(world)),
        direct,
        through,
        room: Semaphore::new(60),
        asked: Mutex::default(),
    });
    let mut random = StdRng::seed_from_u64(seed + 2);
    let mut sent = Vec::new();
    for n in 0..people {
        let (twice, through) = (random.random_bool(0.2), random.random_bool(0.3));
        let sender = sender.clone();
        sent.push(tokio::spawn(async move {
            sender.send("/cht/push", &person(n, 0), twice, through).await;
            sender.send("/cht/push", &referral(n), twice, through).await;
            // CHT has it before it pushes it.
            sender.world.lock().await.cht.add_person(person(n, 1)["doc"].clone());
            sender.send("/cht/push", &person(n, 1), false, through).await;
            sender.send("/fhir/ServiceRequest", &request(n), twice, through).await;
            let wanted = format!("SR-{n}");
            let until = Instant::now() + Duration::from_secs(600);
            while !sender.asked.lock().await.contains_key(&wanted) {
                if Instant::now() > until {
                    let world = sender.world.lock().await;
                    let rows = world.transactions().await.into_iter().filter(|row| row.status == "open");
                    panic!("{wanted} never reached CHT: {}", json!(rows.take(6).collect::<Vec<_>>()));
                }
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            let asked = sender.asked.lock().await[&wanted].clone();
            let outcome = json!({"outcome": "found"});
            let record = sender.world.lock().await.cht.complete_follow_up(&asked, "ltfu_follow_up", outcome);
            sender.send("/cht/push", &json!({"doc": record.expect("a report")}), twice, through).await;
        }));
    }
    let watcher = {
        let sender = sender.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(700)).await;
                let reports = sender.world.lock().await.cht.reports();
                let named = reports.iter().filter_map(|report| {
                    Some((report["fields"]["external_id"].as_str()?.into(), report["_id"].as_str()?.into()))
                });
                sender.asked.lock().await.extend(named);
            }
        })
    };
    // Restarts and reruns in the middle of it.
    let him = Arc::new(him);
    let (restarts, over) = (3, Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let disturber = {
        let (sender, him, over) = (sender.clone(), him.clone(), over.clone());
        tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(seed + 3);
            for turn in 0.. {
                tokio::time::sleep(Duration::from_millis(1500)).await;
                if over.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
                if turn % 3 == 1 && turn / 3 < restarts {
                    let mut world = sender.world.lock().await;
                    world.close().await;
                    world.open().await;
                }
                him.auto_retry().await;
                let all = him.transactions();
                for _ in 0..3.min(all.len()) {
                    let id = all[random.random_range(0..all.len())]["_id"]
                        .as_str()
                        .unwrap_or_default()
                        .to_string();
                    him.rerun(&id).await;
                }
            }
        })
    };
    for one in sent {
        one.await.expect("sent");
    }
    over.store(true, std::sync::atomic::Ordering::Relaxed);
    disturber.await.expect("done");
    watcher.abort();
    {
        let world = sender.world.lock().await;
        world.fhir.faults().clear();
        world.cht.faults().clear();
        let until = Instant::now() + Duration::from_secs(120);
        loop {
            let open = world.transactions().await.into_iter().filter(|row| row.status == "open").count();
            if open == 0 && world.cht.push_again().await == 0 {
                break;
            }
            assert!(Instant::now() < until, "{open} still open");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        compare(&world, people).await;
    }
    assert_eq!(him.crashes(), Vec::<String>::new());
}

async fn compare(world: &World, people: usize) {
    let rows = world.transactions().await;
    let failed: Vec<_> = rows.iter().filter(|row| row.status == "failed").collect();
    assert!(failed.is_empty(), "{}", json!(failed));
    let doubled: Vec<_> = world.fhir.ledger().into_iter().filter(|(_, n)| *n > 1).collect();
    assert!(doubled.is_empty(), "{doubled:?}");
    let by_identifier = |kind: &str| -> BTreeMap<String, Value> {
        let all = world.fhir.resources(kind).into_iter();
        all.flat_map(|r| {
            let identifiers = r["identifier"].as_array().cloned().unwrap_or_default();
            identifiers.into_iter().filter_map(move |i| Some((i["value"].as_str()?.to_string(), r.clone())))
        })
        .collect()
    };
    let (patients, requests, tasks, visits) = (
        by_identifier("Patient"),
        by_identifier("ServiceRequest"),
        by_identifier("Task"),
        by_identifier("Encounter"),
    );
    let mut asked: BTreeMap<String, usize> = BTreeMap::new();
    for report in world.cht.reports() {
        if let Some(name) = report["fields"]["external_id"].as_str() {
            *asked.entry(name.into()).or_default() += 1;
        }
    }
    for n in 0..people {
        let patient = patients.get(&uuid(n)).unwrap_or_else(|| panic!("lost: person {n}"));
        assert_eq!(patient["telecom"][0]["value"], person(n, 1)["doc"]["phone"], "the last version counts");
        let referred = format!("e54a8e4f-c505-4ed9-a6f2-{n:012}");
        for (kind, all) in [("ServiceRequest", &requests), ("Task", &tasks), ("Encounter", &visits)] {
            assert!(all.contains_key(&referred), "lost: {kind} of referral {n}");
        }
        let name = format!("SR-{n}");
        assert_eq!(asked.get(&name), Some(&1), "one task for the CHW: {name}");
        assert_eq!(requests[&name]["status"], "completed", "{name}");
    }
    assert_eq!(patients.values().map(|p| &p["id"]).collect::<std::collections::HashSet<_>>().len(), people);
    println!("{} transactions: 0 lost, 0 doubled", rows.len());
}
