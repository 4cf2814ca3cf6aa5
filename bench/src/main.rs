//! `cargo run --release -p bench`: requests a second, latency, CPU a message and memory of the mediator at 1, 32
//! and 256 connections, beside a floor in the same run: hyper, JSON read, and the same durable write.
//!
//! The mediator and the floor run as processes of their own, so that CPU and memory are theirs alone. The
//! neighbours are stubs that answer at once. `-- patient 32` measures only what has this in its name, with so
//! many connections; `-- soak 60 500` is an hour at 500 messages a second; `-- grown` a journal of a million; `-- follow-ups` whole loops, searches
//! and a long list.
mod floor;
mod follow_ups;
mod load;
mod neighbours;
mod process;
mod soak;

use load::{Load, Measured};
use process::Process;
use serde_json::{Value, json};
use std::time::Duration;

const CONNECTIONS: [usize; 3] = [1, 32, 256];
const SECONDS: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "floor") {
        return floor::serve().await;
    }
    let number = |at: usize| arguments.get(at).and_then(|number| number.parse().ok());
    let _ = rustls::crypto::ring::default_provider().install_default();
    match arguments.first().map(String::as_str) {
        Some("soak") => {
            let (minutes, rate) = (number(1).unwrap_or(60), number(2).unwrap_or(500));
            return soak::soak(&neighbours::start().await, &patient(), minutes as u64, rate as u32).await;
        }
        Some("follow-ups") => return follow_ups::measure(&neighbours::start().await).await,
        Some("grown") => return grown(&neighbours::start().await).await,
        _ => {}
    }
    let wanted = arguments.first().map(String::as_str).unwrap_or_default();
    let connections = match number(1) {
        Some(number) => vec![number],
        None => CONNECTIONS.to_vec(),
    };
    let neighbours = neighbours::start().await;
    println!("{}", machine());
    println!(
        "{:<34}{:>6}{:>10}{:>9}{:>9}{:>10}{:>8}{:>8}",
        "", "conns", "req/s", "p50 ms", "p99 ms", "CPU us", "RSS MB", "ratio"
    );
    let mut floors = Vec::new();
    for &connections in &connections {
        let floor = Process::floor().await;
        let measured = floor.measure(&person(), connections, SECONDS).await;
        show("floor: JSON + durable write", connections, &measured, None);
        floors.push(measured.cpu_us);
    }
    for (name, load) in [
        ("accepted only (behind another)", accepted_only()),
        ("/patient", patient()),
        ("whole person (/cht/push)", person()),
        ("whole referral (/cht/push)", referral()),
        ("/service-request", service_request()),
    ]
    .into_iter()
    .filter(|(name, _)| name.contains(wanted))
    {
        for (&connections, floor) in connections.iter().zip(&floors) {
            let mediator = Process::mediator(&neighbours).await;
            load.prepare(&mediator, &neighbours).await;
            let measured = mediator.measure(&load, connections, SECONDS).await;
            show(name, connections, &measured, Some(*floor));
        }
    }
    if "FHIR server answers 500".contains(wanted) {
        refusing(&neighbours).await;
    }
    if "open messages".contains(wanted) {
        recovery(&neighbours).await;
    }
}

/// What a message costs in a journal that has a million, beside what it costs in one that has a thousand.
async fn grown(neighbours: &neighbours::Neighbours) {
    const MANY: usize = 1_000_000;
    let mediator = Process::mediator(neighbours).await;
    let load = accepted_only();
    load.prepare(&mediator, neighbours).await;
    mediator.send(&load, 32, 1000).await;
    let few = mediator.measure(&load, 32, SECONDS).await;
    show("accepted, 1,000 journaled", 32, &few, None);
    mediator.send(&load, 256, MANY).await;
    let many = mediator.measure(&load, 32, SECONDS).await;
    show("accepted, 1,000,000 journaled", 32, &many, Some(few.cpu_us));
    neighbours.hang(false);
}

/// The FHIR server answers 500: how much is still accepted.
async fn refusing(neighbours: &neighbours::Neighbours) {
    let healthy = Process::mediator(neighbours).await.measure(&person(), 32, SECONDS).await;
    let mediator = Process::mediator(neighbours).await;
    neighbours.refuse(true);
    let refused = mediator.measure(&person(), 32, SECONDS).await;
    neighbours.refuse(false);
    show("FHIR server answers 500", 32, &refused, None);
    println!("{:<34}{:>6.0} % of the healthy rate", "", 100.0 * refused.rate / healthy.rate);
}

/// How long a start takes that finds many open messages.
async fn recovery(neighbours: &neighbours::Neighbours) {
    const OPEN: usize = 100_000;
    let mut mediator = Process::mediator(neighbours).await;
    neighbours.hang(true);
    let load = accepted_only();
    load.prepare(&mediator, neighbours).await;
    mediator.send(&load, 256, OPEN).await;
    mediator.kill().await;
    let took = mediator.start_again().await;
    println!("{OPEN} open messages are taken up in {:.2} s", took.as_secs_f64());
    neighbours.hang(false);
}

fn show(name: &str, connections: usize, measured: &Measured, floor: Option<f64>) {
    let ratio = floor.map_or_else(String::new, |floor| format!("{:.1}x", measured.cpu_us / floor));
    println!(
        "{name:<34}{connections:>6}{:>10.0}{:>9.1}{:>9.1}{:>10.0}{:>8.0}{ratio:>8}",
        measured.rate, measured.p50, measured.p99, measured.cpu_us, measured.rss_mb
    );
}

fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} cores,{}", model.trim_start_matches([' ', '\t', ':']))
}

fn id() -> String {
    uuid::Uuid::new_v4().to_string()
}

fn short() -> String {
    format!("{:08}", uuid::Uuid::new_v4().as_u128() % 100_000_000)
}

fn person() -> Load {
    Load::new("/cht/push", || {
        json!({"doc": {"_id": id(), "_rev": "1-a", "type": "person", "name": "Test Person", "patient_id": short(),
            "phone": "+254712000101", "date_of_birth": "1990-01-01", "sex": "female",
            "parent": {"_id": "h", "type": "clinic", "name": "Household", "parent": {"_id": "a", "type": "health_center", "name": "Area"}}}})
    })
}

fn patient() -> Load {
    Load::new("/patient", || {
        json!({"resourceType": "Patient", "identifier": [{"system": "cht", "value": id()}],
            "name": [{"family": "Person", "given": ["Test"]}], "gender": "female", "birthDate": "1990-01-01"})
    })
}

/// A referral that CHT really sent, of other people each time.
fn referral() -> Load {
    let recorded = include_str!("../../tests/fixtures/pushes/full-report-20.json");
    let recorded: Value = serde_json::from_str(recorded).unwrap_or_default();
    Load::new("/cht/push", move || {
        let mut push = recorded["body"].clone();
        let patient = id();
        push["doc"]["_id"] = json!(id());
        push["doc"]["patient"]["_id"] = json!(patient);
        push["doc"]["patient"]["patient_id"] = json!(short());
        push["doc"]["fields"]["patient_id"] = json!(patient);
        push["doc"]["fields"]["inputs"]["contact"]["_id"] = json!(patient);
        push
    })
}

fn service_request() -> Load {
    Load::new("/service-request", || {
        json!({"intent": "order", "status": "active", "subject": {"reference": format!("Patient/{}", id())},
            "requester": {"reference": "Organization/clinic"}})
    })
    .with_requester()
}

/// All about one patient, behind a message that hangs: accepted, and nothing else is done with them.
fn accepted_only() -> Load {
    Load::new("/cht/push", || {
        json!({"doc": {"_id": id(), "type": "data_record", "form": "visit", "content_type": "xml",
            "fields": {"patient_id": "10000", "note": "the same patient each time"}}})
    })
    .behind_one_that_hangs()
}
