//! Neighbours that send without end: what is kept of it has a limit.
use crate::process::Process;
use crate::rude::{Rude, Then};
use serde_json::json;
use std::time::{Duration, Instant};

/// Calls at once, and how much of one answer is kept at most (a growing buffer may be twice that for a moment).
const CALLS: u64 = 4;
const ANSWER_KB: u64 = 32 << 10;

/// By how much the most memory that it used grew, in kB, while it called a server that answers so.
async fn growth(says: &'static str, again: String, pause: Duration) -> u64 {
    let rude = Rude::always(says, Then::Again(again, pause)).await;
    let url = format!("http://{}/fhir", rude.address);
    let further = [
        ("FHIR__URL", url.as_str()),
        ("FHIR__TIMEOUT_MS", "3000"),
        ("FHIR__MAX_CONCURRENT", "4"),
        ("SERVER__ANSWER_WITHIN_MS", "10"),
        ("DELIVERY__BREAKER_FAILURES", "1000"),
    ];
    let mut it = Process::with("", &further).await;
    let (_, before) = it.memory();
    for n in 0..20 {
        let body = json!({"doc": {"_id": format!("a54a8e4f-c505-4ed9-a6f2-{n:012}"), "type": "person",
            "name": "Test Person", "patient_id": format!("9{n:04}")}});
        it.send(false, "/cht/push", &body).await;
    }
    let until = Instant::now() + Duration::from_secs(90);
    while rude.met() < 3 * CALLS as usize {
        assert!(Instant::now() < until, "{} calls", rude.met());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(it.ask("/health/ready").await.0, 200, "and all else goes on");
    it.memory().1 - before
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_end_take_a_bounded_memory() {
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let at_once = Duration::ZERO;
    let body = growth("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", chunk, at_once).await;
    let headers = growth("HTTP/1.1 200 OK\r\n", "x-a: b\r\n".repeat(1000), at_once).await;
    // A debug build would do nothing but read them if they came faster.
    let interim = growth("", "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(20), Duration::from_millis(1)).await;
    println!(
        "the most memory grew by {body} kB for bodies, {headers} kB for headers, {interim} kB for interim answers"
    );
    assert!(body < 3 * CALLS * ANSWER_KB, "{body} kB");
    assert!(headers < 40_000 && interim < 40_000, "{headers} kB, {interim} kB");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_ten_thousand_takes_no_more_than_100_mb() {
    let it = Process::with("", &[("SERVER__ANSWER_WITHIN_MS", "10")]).await;
    // Whom nobody knows: CHT is asked for each, and each ends by itself.
    it.cht.faults().set_down(true);
    let line = |n: usize| {
        let request = json!({"resourceType": "ServiceRequest", "status": "active", "intent": "order",
            "identifier": [{"system": "https://emr.example.org/requests", "value": format!("LTFU-2026-W48-{n:06}")}],
            "category": [{"text": "HIV"}], "code": {"text": "Find patient lost to follow-up"},
            "reasonCode": [{"text": "Missed ART refill"}], "occurrenceDateTime": "2026-10-28",
            "requester": {"identifier": {"system": "urn:mfl", "value": "13939"}, "display": "Test Clinic"},
            "note": [{"text": "x".repeat(300)}],
            "subject": {"identifier": {"system": "urn:cht:uuid", "value": format!("a54a8e4f-c505-4ed9-a6f2-{n:012}")}}});
        format!("{request}\n")
    };
    let body: String = (0..10_000).map(line).collect();
    let size = body.len() >> 20;
    let (_, before) = it.memory();
    let post = it
        .http
        .post(format!("http://127.0.0.1:{}/fhir", it.port))
        .header("content-type", "application/fhir+ndjson")
        .body(body);
    let answer = post.timeout(Duration::from_secs(90)).send().await.expect("an answer");
    assert_eq!(answer.status(), 202);
    let place = answer.headers()["content-location"].to_str().expect("text").to_string();
    assert_eq!(it.ask(&place).await.0, 202, "CHT is down: they wait");
    let (_, most) = it.memory();
    // A release build has 24 MB of its program in memory.
    let most = (most - it.program()) / 1024 + 24;
    println!("a list of 10,000 ({size} MB): {most} MB at most, {} before", before / 1024);
    assert!(most < 100, "{most} MB");
}
