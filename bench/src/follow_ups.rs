//! `-- follow-ups`: whole loops a second, searches in a store of a thousand, ten thousand and a hundred thousand
//! requests, and the memory that a list of ten thousand takes.
use crate::load::percentile;
use crate::neighbours::Neighbours;
use crate::process::Process;
use crate::{id, short};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

type Query = Box<dyn Fn(usize) -> String>;

const STORES: [usize; 3] = [1_000, 10_000, 100_000];
const SEARCHES: usize = 400;
const LIST: usize = 10_000;
const LOOPS: Duration = Duration::from_secs(5);
/// Facilities that have asked, and those that are asked.
const FACILITIES: usize = 100;

pub async fn measure(neighbours: &Neighbours) {
    loops(neighbours).await;
    list(neighbours).await;
    searches(neighbours).await;
}

/// Request `number`, about a person of its own. Every 20,000th is of a facility that sends hardly any.
fn request(number: usize) -> Value {
    let facility = if number % 20_000 == 1 { 9_999 } else { number % FACILITIES };
    json!({"resourceType": "ServiceRequest", "status": "active", "intent": "order",
        "identifier": [{"system": "urn:emr:requests", "value": format!("SR-{number}")}],
        "category": [{"text": "HIV"}], "code": {"text": "Find patient lost to follow-up"},
        "reasonCode": [{"text": "Missed ART refill"}], "occurrenceDateTime": "2026-10-28",
        "authoredOn": format!("2026-{:02}-{:02}T08:00:00Z", 1 + number % 10, 1 + number % 28),
        "requester": {"identifier": {"system": "urn:mfl", "value": format!("{facility}")}, "display": "Test Clinic"},
        "performer": [{"identifier": {"system": "urn:mfl", "value": format!("{facility}")}}],
        "subject": {"identifier": {"system": "urn:cht:uuid", "value": person(number)}}})
}

fn person(number: usize) -> String {
    format!("a54a8e4f-c505-4ed9-a6f2-{number:012}")
}

/// The CHW's report about that request.
fn outcome(number: usize) -> Value {
    json!({"doc": {"_id": id(), "type": "data_record", "form": "ltfu_follow_up", "content_type": "xml", "reported_date": 1_795_000_000_000_i64,
        "patient": {"_id": person(number), "type": "person", "patient_id": short(), "name": "Test Person"},
        "fields": {"patient_id": person(number), "request_id": format!("SR-{number}"), "outcome": "found"}}})
}

async fn post(it: &Process, path: &str, body: &Value) {
    let request = it.http.post(format!("{}{path}", it.base)).header("content-type", "application/json");
    let answer = request.body(body.to_string()).send().await.expect("an answer");
    assert!(answer.status().is_success(), "{path}: {}", answer.status());
    let _ = answer.bytes().await;
}

/// From the EMR's request until its outcome is where it belongs, by 32 at once.
async fn loops(neighbours: &Neighbours) {
    let it = Arc::new(Process::mediator(neighbours).await);
    let (next, before, started) = (Arc::new(AtomicUsize::new(1)), it.cpu_seconds(), Instant::now());
    let workers: Vec<_> = (0..32)
        .map(|_| {
            let (it, next) = (it.clone(), next.clone());
            tokio::spawn(async move {
                let mut took = Vec::new();
                while started.elapsed() < LOOPS {
                    let (number, at) = (next.fetch_add(1, Relaxed), Instant::now());
                    post(&it, "/fhir/ServiceRequest", &request(number)).await;
                    post(&it, "/cht/push", &outcome(number)).await;
                    took.push(at.elapsed().as_secs_f64() * 1000.0);
                }
                took
            })
        })
        .collect();
    let mut took = Vec::new();
    for worker in workers {
        took.extend(worker.await.expect("a worker"));
    }
    let elapsed = started.elapsed().as_secs_f64();
    took.sort_by(f64::total_cmp);
    assert_eq!(completed(&it).await, took.len(), "each loop is closed");
    println!(
        "follow-ups, the whole loop, 32 at once: {:.0}/s, p50 {:.0} ms, p99 {:.0} ms, {:.0} us CPU each, {:.0} MB",
        took.len() as f64 / elapsed,
        percentile(&took, 0.5),
        percentile(&took, 0.99),
        (it.cpu_seconds() - before) * 1e6 / took.len() as f64,
        it.rss_mb()
    );
}

async fn completed(it: &Process) -> usize {
    let answer = it.http.get(format!("{}/metrics", it.base)).send().await.expect("metrics");
    let text = answer.text().await.expect("text");
    let line = text.lines().find(|line| line.starts_with("follow_ups") && line.contains("completed"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_default()
}

/// Answers when nothing is open any more.
async fn settled(it: &Process) -> f64 {
    let mut most = it.rss_mb();
    loop {
        let answer = it.http.get(format!("{}/metrics", it.base)).send().await.expect("metrics");
        let text = answer.text().await.expect("text");
        most = most.max(it.rss_mb());
        let open = text.lines().find(|line| line.starts_with("transactions_open "));
        if open.is_some_and(|line| line.ends_with(" 0")) {
            return most;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn send_list(it: &Process, numbers: std::ops::Range<usize>) {
    let body: String = numbers.map(|number| format!("{}\n", request(number))).collect();
    let post = it.http.post(format!("{}/fhir", it.base)).header("content-type", "application/fhir+ndjson");
    let answer = post.header("prefer", "respond-async").body(body).send().await.expect("an answer");
    assert_eq!(answer.status(), 202);
}

async fn list(neighbours: &Neighbours) {
    let it = Process::mediator(neighbours).await;
    let (before, started) = (it.rss_mb(), Instant::now());
    send_list(&it, 1..LIST + 1).await;
    let taken = started.elapsed().as_secs_f64();
    let most = settled(&it).await;
    println!(
        "a list of {LIST}: safe after {taken:.1} s, carried out after {:.1} s; {most:.0} MB at most, {before:.0} before",
        started.elapsed().as_secs_f64()
    );
}

async fn searches(neighbours: &Neighbours) {
    let it = Process::mediator(neighbours).await;
    println!("{:<46}{:>10}{:>9}{:>9}", "search", "requests", "p50 ms", "p99 ms");
    let mut known = 0;
    for store in STORES {
        while known < store {
            let more = (store - known).min(LIST);
            send_list(&it, known + 1..known + more + 1).await;
            settled(&it).await;
            known += more;
        }
        let any = move |n: usize| 1 + n * 7_919 % store;
        let queries: [(&str, Query); 7] = [
            (
                "open of a facility (KenyaEMR's pull)",
                Box::new(move |n| format!("status=active,on-hold&performer:identifier={}", n % FACILITIES)),
            ),
            (
                "open of a facility that has hardly any",
                Box::new(|_| "status=active,on-hold&performer:identifier=9999".into()),
            ),
            (
                "asked by a facility, with the patients",
                Box::new(move |n| {
                    format!("requester:identifier={}&_include=ServiceRequest:subject", n % FACILITIES)
                }),
            ),
            (
                "of a patient",
                Box::new(move |n| format!("patient.identifier=urn:cht:uuid|{}", person(any(n)))),
            ),
            ("by identifier", Box::new(move |n| format!("identifier=urn:emr:requests|SR-{}", any(n)))),
            ("what is new, 50 of all", Box::new(|_| "_lastUpdated=ge2026-01-01&_count=50".into())),
            ("written on a day", Box::new(|n| format!("authored=2026-{:02}-{:02}", 1 + n % 10, 1 + n % 28))),
        ];
        for (name, query) in queries {
            let mut took = Vec::new();
            for n in 0..SEARCHES {
                let url = format!("{}/fhir/ServiceRequest?{}", it.base, query(n));
                let started = Instant::now();
                let answer = it.http.get(url).send().await.expect("an answer");
                assert_eq!(answer.status(), 200);
                let found = answer.bytes().await.expect("a body");
                took.push(started.elapsed().as_secs_f64() * 1000.0);
                assert!(found.windows(7).any(|part| part == b"\"entry\""), "{name}: nobody is found");
            }
            took.sort_by(f64::total_cmp);
            println!("{name:<46}{store:>10}{:>9.1}{:>9.1}", percentile(&took, 0.5), percentile(&took, 0.99));
        }
    }
}
