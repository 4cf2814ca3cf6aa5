//! Ways to get round the door, by hand: a client library would not send most of it.
use crate::api::guarded;
use crate::description::SECRET;
use crate::raw::{Answers, say};
use crate::tls::behind_tls;
use crate::world::{World, fixture, ltfu};
use base64::Engine;
use cht_fhir_mediator::http::auth::hash_secret;
use cht_fhir_mediator::standins::cht;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn basic(id: &str, secret: &str) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(format!("{id}:{secret}"));
    format!("Authorization: Basic {text}\r\n")
}

/// A request with `{}`, from nobody unless the head says so.
async fn ask(world: &World, line: &str, head: &str) -> Answers {
    let request =
        format!("{line} HTTP/1.1\r\nHost: x\r\n{head}Content-Length: 2\r\nConnection: close\r\n\r\n{{}}");
    say(world, &[request.as_bytes()]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_a_path_opens_what_the_path_does_not() {
    let world = guarded(&[]).await;
    for (method, route) in [("GET", "transactions"), ("POST", "cht/push"), ("POST", "mappings/reload")] {
        let (first, rest) = route.split_at(1);
        let encoded = format!("%{:02x}{rest}", first.as_bytes()[0]);
        for path in [
            format!("//{route}"),
            format!("/{route}/"),
            format!("/./{route}"),
            format!("/fhir/../{route}"),
            format!("/fhir/%2e%2e/{route}"),
            format!("/fhir/..;/{route}"),
            format!("/{encoded}"),
            format!("/{}", route.replace('/', "%2f")),
            format!("/{route}%2f"),
            format!("/{route};x=1"),
            format!("/{route}%00"),
            format!("/{route}%20"),
            format!("/{route}.json"),
            format!("/{}", route.to_uppercase()),
            format!("/mediator//{route}"),
            format!("/mediator/mediator/{route}"),
            format!("/mediator/../{route}"),
            format!("/mediator/{}", route.to_uppercase()),
            format!("/health/live/../../{route}"),
            format!("\\{route}"),
            format!("http://x/{route}"),
            format!("/{route}?role=admin"),
            format!("/{route}#"),
        ] {
            // Of those who have a secret, one without the role.
            for who in [String::new(), basic("emr", SECRET), basic("emr", "wrong")] {
                let answer = ask(&world, &format!("{method} {path}"), &who).await;
                assert!(
                    matches!(answer.status(), 400 | 401 | 403 | 404 | 405),
                    "{method} {path}: {}",
                    answer.text()
                );
            }
        }
    }
    assert!(world.transactions().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_header_makes_another_method_of_a_request() {
    let world = guarded(&[("SERVER__ANSWER_WITHIN_MS", "50")]).await;
    world.fhir.faults().set_down(true);
    let push = world.http.post(world.url("/cht/push")).basic_auth("cht", Some(SECRET));
    let (status, taken) = world.send(push.json(&fixture("full-person-10")["body"])).await;
    assert_eq!(status, 202);
    let cancel = format!("/transactions/{}/cancel", taken["transaction"].as_str().expect("an id"));
    let ops = basic("ops", SECRET);
    for head in
        ["X-HTTP-Method-Override: POST", "X-HTTP-Method: POST", "X-Method-Override: POST", "_method: POST"]
    {
        for line in [format!("GET {cancel}"), format!("PUT {cancel}?_method=POST"), format!("HEAD {cancel}")]
        {
            let answer = ask(&world, &line, &format!("{ops}{head}\r\n")).await;
            assert_eq!(answer.status(), 405, "{line} {head}: {}", answer.text());
        }
    }
    // A method that nobody serves is no way past the roles either, and none gives the request back.
    for method in ["HEAD", "OPTIONS", "TRACE", "CONNECT", "PATCH", "DELETE", "get", "PROPFIND"] {
        let answer = ask(&world, &format!("{method} /transactions"), &basic("cht", SECRET)).await;
        assert!(matches!(answer.status(), 400 | 403 | 405), "{method}: {}", answer.text());
        assert!(!answer.text().contains("Authorization"), "{method}: {}", answer.text());
    }
    assert_eq!(world.transactions().await[0].status, "open");
}

/// Each is refused, or read as one request, after which the connection is closed: nothing is left over
/// that somebody's next request could begin with.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_length_is_told_in_two_ways_smuggles_nothing() {
    let world = guarded(&[("SERVER__READ_TIMEOUT_MS", "1000")]).await;
    let who = basic("cht", SECRET);
    let hidden =
        format!("POST /cht/push HTTP/1.1\r\nHost: x\r\n{who}Content-Length: 14\r\n\r\n{{\"doc\":\"left\"}}");
    let chunked = format!("0\r\n\r\n{hidden}");
    let long = hidden.len();
    for (head, body) in [
        (format!("Content-Length: {long}\r\nTransfer-Encoding: chunked\r\n"), chunked.as_str()),
        (format!("Transfer-Encoding: chunked\r\nContent-Length: {long}\r\n"), &chunked),
        (format!("Content-Length: 2\r\nContent-Length: {long}\r\n"), &hidden),
        (format!("Content-Length: {long}\r\nContent-Length: 2\r\n"), &hidden),
        (format!("Content-Length: 0, {long}\r\n"), &hidden),
        ("Content-Length: +2\r\n".into(), &hidden),
        ("Content-Length: -1\r\n".into(), &hidden),
        ("Content-Length: 0x2\r\n".into(), &hidden),
        ("Content-Length: 18446744073709551617\r\n".into(), &hidden),
        ("Transfer-Encoding: xchunked\r\n".into(), &chunked),
        ("Transfer-Encoding: chunked, identity\r\n".into(), &chunked),
        ("Transfer-Encoding: identity\r\n".into(), &chunked),
        ("Transfer-Encoding : chunked\r\n".into(), &chunked),
        ("Transfer-Encoding:\r\n chunked\r\n".into(), &chunked),
        ("Transfer-Encoding: chunked\r\n".into(), "0x5\r\n{\"a\"\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n".into(), "FFFFFFFFFFFFFFFF2\r\n{}\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n".into(), "-2\r\n{}\r\n0\r\n\r\n"),
        ("Content-Length : 2\r\n".into(), &hidden),
        ("X-A: b\r\n c\r\nContent-Length: 0\r\n".into(), ""),
        ("X-A: \0\r\nContent-Length: 0\r\n".into(), ""),
        ("X(A): b\r\nContent-Length: 0\r\n".into(), ""),
        ("X-A: b\rX-B: c\r\nContent-Length: 0\r\n".into(), ""),
        (": b\r\nContent-Length: 0\r\n".into(), ""),
    ] {
        let request = format!("POST /cht/push HTTP/1.1\r\nHost: x\r\n{who}{head}\r\n{body}");
        let answer = say(&world, &[request.as_bytes()]).await;
        assert!(answer.is_closed, "still open: {head}");
        assert!(matches!(answer.statuses()[..], [400 | 408 | 413 | 501] | []), "{head}: {}", answer.text());
    }
    assert!(world.transactions().await.is_empty(), "what was hidden is no message");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_twice_who_it_is_is_nobody() {
    let world = guarded(&[]).await;
    let (ops, emr, wrong) = (basic("ops", SECRET), basic("emr", SECRET), basic("ops", "wrong"));
    let both = format!("{}, {}", ops.trim_end(), emr.trim_start_matches("Authorization: "));
    for head in [
        format!("{ops}{emr}"),
        format!("{wrong}{ops}"),
        format!("{ops}{wrong}"),
        format!("{ops}{ops}"),
        both,
        ops.replace("Authorization", "X-Authorization"),
        ops.replace("Authorization", "Proxy-Authorization"),
        ops.replace("Authorization:", "Cookie: Authorization="),
        ops.replace("Basic ", "Basic\t"),
        ops.replace("Basic ", ""),
    ] {
        let answer = ask(&world, "GET /transactions", &head).await;
        assert!(matches!(answer.status(), 400 | 401), "{head}: {}", answer.text());
    }
    for forwarded in [
        "X-Forwarded-User: ops",
        "X-Remote-User: ops",
        "Forwarded: for=127.0.0.1",
        "X-Forwarded-For: 127.0.0.1",
    ] {
        let answer = ask(&world, "GET /transactions", &format!("{forwarded}\r\n")).await;
        assert_eq!(answer.status(), 401, "{forwarded}");
        assert!(answer.header("www-authenticate").starts_with("Basic"));
    }
    let url = world.url("/transactions?authorization=Basic%20b3BzOmEtc2VjcmV0LW9mLWNsaWVudHM=&access_token=ops.a-secret-of-clients");
    assert_eq!(world.send(world.http.get(url)).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_bodies_are_refused_before_they_are_read() {
    let world = guarded(&[]).await;
    // Where it declares a gigabyte, nobody waits for it.
    for coding in ["gzip", "x-gzip", "deflate", "br", "zstd", "identity, gzip", "gzip, identity", "GZIP"] {
        let head = format!(
            "POST /cht/push HTTP/1.1\r\nHost: x\r\n{}Content-Encoding: {coding}\r\nContent-Length: 1073741824\r\n\r\n\x1f\u{8b}",
            basic("cht", SECRET)
        );
        let answer = say(&world, &[head.as_bytes()]).await;
        assert_eq!(answer.status(), 415, "{coding}: {}", answer.text());
        assert!(answer.is_closed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_too_large_or_not_wanted_are_not_read() {
    let world = guarded(&[("SERVER__MAX_BODY_BYTES", "1000")]).await;
    let (cht, emr) = (basic("cht", SECRET), basic("emr", SECRET));
    let told = "Content-Length: 4000000000\r\nExpect: 100-continue\r\n";
    for (who, status) in [("", 401), (cht.as_str(), 413), (emr.as_str(), 403)] {
        let head = format!("POST /cht/push HTTP/1.1\r\nHost: x\r\n{who}{told}\r\n");
        let answer = say(&world, &[head.as_bytes()]).await;
        assert_eq!(answer.statuses(), [status], "nobody is told to continue: {}", answer.text());
        assert!(answer.is_closed);
    }
    let head = format!("POST /cht/push HTTP/1.1\r\nHost: x\r\n{cht}Transfer-Encoding: chunked\r\n\r\n");
    let chunk = format!("320\r\n{}\r\n", " ".repeat(800));
    let answer = say(&world, &[head.as_bytes(), chunk.as_bytes(), chunk.as_bytes()]).await;
    assert_eq!(answer.statuses(), [413], "{}", answer.text());
    assert!(answer.is_closed, "what comes after it is not read");
    let many: String = (0..200).map(|i| format!("X-{i}: x\r\n")).collect();
    assert_eq!(ask(&world, "POST /cht/push", &many).await.status(), 431);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_a_byte_now_and_then_is_sent_away_in_time() {
    let world = guarded(&[("SERVER__READ_TIMEOUT_MS", "500")]).await;
    let head =
        format!("POST /cht/push HTTP/1.1\r\nHost: x\r\n{}Content-Length: 1000\r\n\r\n", basic("cht", SECRET));
    let mut parts = vec![head.as_bytes()];
    parts.extend([&b" "[..]; 30]);
    let started = Instant::now();
    let answer = say(&world, &parts).await;
    assert_eq!((answer.status(), answer.is_closed), (408, true), "{}", answer.text());
    // It would have gone on for 3 seconds: the answer came while it did.
    assert!(answer.header("content-type") == "application/json", "{}", answer.text());
    let drip: Vec<&[u8]> = head.as_bytes().chunks(1).take(40).collect();
    assert!(say(&world, &drip).await.is_closed, "a head");
    assert!(started.elapsed() < Duration::from_secs(20), "two slow senders: {:?}", started.elapsed());
    // Others are served meanwhile, and nothing of it was taken.
    assert_eq!(world.get("/health/live").await.0, 200);
    assert!(world.transactions().await.is_empty());
}

/// Without care, an unknown id is refused without a hash, many times as fast as a wrong secret (20 ms and
/// more). Medians of turns by turns; a factor of three is left for a busy machine.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_id_takes_as_long_as_a_wrong_secret() {
    let secret = hash_secret(SECRET).expect("a hash");
    let clients = json!([{"id": "ops", "secret": secret, "roles": ["admin"]}]).to_string();
    let world = World::with(&[("CLIENTS", &clients)], cht::Options::default()).await;
    let mut times = [Vec::new(), Vec::new()];
    for turn in 0..7 {
        for (i, id) in ["ops", "nobody-of-this-name"].into_iter().enumerate() {
            let started = Instant::now();
            let request =
                world.http.get(world.url("/transactions")).basic_auth(id, Some(format!("wrong-{turn}")));
            assert_eq!(world.send(request).await.0, 401);
            times[i].push(started.elapsed());
        }
    }
    let [known, unknown] = times.map(|mut all| {
        all.sort();
        all[all.len() / 2].as_secs_f64()
    });
    assert!((1.0 / 3.0..3.0).contains(&(known / unknown)), "known {known} s, unknown {unknown} s");
    // And neither learns it from the words.
    let say = |id: &'static str| {
        world.send(world.http.get(world.url("/transactions")).basic_auth(id, Some("wrong")))
    };
    assert_eq!(say("ops").await, say("nobody").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tls_port_speaks_nothing_older_and_nothing_plain() {
    let (world, _folder) = behind_tls("localhost", &[("SERVER__READ_TIMEOUT_MS", "500")]).await;
    let answer = ask(&world, "GET /health/live", "").await;
    assert!(answer.is_closed && answer.statuses().is_empty(), "{}", answer.text());
    for version in [[3, 0], [3, 1], [3, 2]] {
        let mut hello = vec![version[0], version[1]];
        hello.extend([7; 32]); // random
        hello.push(0); // no session
        hello.extend([0, 4, 0xc0, 0x13, 0, 0x2f]); // ECDHE-RSA and RSA with AES-128 and SHA-1
        hello.extend([1, 0]); // no compression
        let mut handshake = vec![1, 0, 0, hello.len() as u8];
        handshake.extend(hello);
        let mut record = vec![0x16, 3, 1, 0, handshake.len() as u8];
        record.extend(handshake);
        let mut stream = TcpStream::connect(world.settings.server.listen).await.expect("connected");
        stream.write_all(&record).await.expect("sent");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let is_fatal_alert = answer.first() == Some(&0x15) && answer.get(5) == Some(&2);
        assert!(is_fatal_alert || answer.is_empty(), "{version:?}: {answer:x?}");
    }
    // Who connects and says nothing does not hold the connection.
    assert!(say(&world, &[]).await.is_closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_openhims_core_speaks_for_others() {
    let secret = hash_secret(SECRET).expect("a hash");
    let clients = json!([{"id": "openhim", "secret": secret, "roles": ["fhir"], "openhim": true},
        {"id": "emr", "secret": secret, "roles": ["fhir"]}])
    .to_string();
    // Nobody is there: registration goes on in the background.
    let settings = [
        ("CLIENTS", clients.as_str()),
        ("OPENHIM__ENABLED", "true"),
        ("OPENHIM__API_URL", "http://127.0.0.1:9"),
        ("OPENHIM__PASSWORD", "any"),
    ];
    let world = World::with(&settings, cht::Options::default()).await;
    world.know_patient();
    let url = world.url("/fhir/ServiceRequest");
    let through = |request: reqwest::RequestBuilder, id: &str, client: &[u8]| {
        let client = reqwest::header::HeaderValue::from_bytes(client).expect("a header");
        let request = request.basic_auth(id, Some(SECRET)).header("x-openhim-clientid", client);
        request
            .header("x-openhim-transactionid", "0123456789abcdef01234567")
            .header("parentid", "0123456789abcdef01234566")
    };
    let own = through(world.http.post(&url).json(&ltfu("SR-1")), "openhim", b"clinic");
    let (status, wrapped) = world.send(own).await;
    assert_eq!((status, &wrapped["response"]["status"]), (200, &json!(201)), "{wrapped}");
    let read = |id, client| world.send(through(world.http.get(format!("{url}/SR-1")), id, client));
    assert_eq!(read("openhim", &b"clinic"[..]).await.1["response"]["status"], 200);
    assert_eq!(read("openhim", b"other").await.1["response"]["status"], 404);
    assert_eq!(read("emr", b"clinic").await.0, 404, "an EMR that says it is OpenHIM's clinic");
    let (status, body) =
        world.send(through(world.http.post(&url).json(&ltfu("SR-2")), "emr", b"clinic")).await;
    assert_eq!((status, &body["resourceType"]), (201, &json!("ServiceRequest")), "not in OpenHIM's words");
    let of = |name: &'static str| {
        let read = world.http.get(format!("{url}/SR-2")).basic_auth(name, Some(SECRET));
        world.send(read)
    };
    assert_eq!(of("emr").await.0, 200, "it is the EMR's own");
    // What core cannot write in ASCII is another client all the same.
    for (client, request) in [(&b"clinic-\xe9"[..], "SR-3"), (b"clinic-\xe8", "SR-4")] {
        let sent = world.send(through(world.http.post(&url).json(&ltfu(request)), "openhim", client)).await;
        assert_eq!(sent.1["response"]["status"], 201, "{}", sent.1);
    }
    let read = world.http.get(format!("{url}/SR-3"));
    let (_, read): (u16, Value) = world.send(through(read, "openhim", b"clinic-\xe8")).await;
    assert_eq!(read["response"]["status"], 404);
}
