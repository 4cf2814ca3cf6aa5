//! Answers that are none: halves, floods, silence, certificates that have ended. What was sent has taken
//! effect each time; it ends within the time and the memory that there is for it, is seen, and is done once.
use crate::rude::{Manner, Rude, Then};
use crate::world::{World, any, fixture};
use cht_fhir_mediator::config::Callbacks as CallbackSettings;
use cht_fhir_mediator::flow::ports::{Callbacks, FailureKind};
use cht_fhir_mediator::standins::{callback, cht, fhir};
use cht_fhir_mediator::systems::callbacks::HttpCallbacks;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// `fhir.timeout_ms` here, and what a busy machine may add to it.
const TIMEOUT: Duration = Duration::from_millis(800);
const SLACK: Duration = Duration::from_secs(30);

fn address(url: &str) -> SocketAddr {
    let host = url.trim_start_matches("http://").split('/').next();
    host.expect("a host").parse().expect("an address")
}

fn again(what: impl Into<String>) -> Then {
    Then::Again(what.into(), Duration::ZERO)
}

/// What is said, and what the operator reads of it.
fn manners() -> Vec<(&'static str, Manner, &'static str)> {
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"resourceType\": \"Bundle\", \"type\"";
    let chunks = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\n{\"re\r\n";
    let endless = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let early = Then::Again("HTTP/1.1 103 Early Hints\r\n\r\n".repeat(20), Duration::from_millis(1));
    let slowly = Then::Again("x".into(), Duration::from_millis(100));
    vec![
        ("half a body", Manner { says: half, then: Then::Close }, "broke the connection off"),
        ("half a body, and silence", Manner { says: half, then: Then::Hang }, "did not answer in time"),
        ("chunks without end", Manner { says: chunks, then: Then::Close }, "broke the connection off"),
        ("chunks, and silence", Manner { says: chunks, then: Then::Hang }, "did not answer in time"),
        ("a body that trickles", Manner { says: half, then: slowly.clone() }, "did not answer in time"),
        ("an endless body", Manner { says: endless, then: again(chunk) }, "fhir "),
        (
            "a head that trickles",
            Manner { says: "HTTP/1.1 200 OK\r\nx: ", then: slowly },
            "did not answer in time",
        ),
        ("endless headers", Manner { says: "HTTP/1.1 200 OK\r\n", then: again("x-a: b\r\n") }, "fhir "),
        (
            "an endless header",
            Manner { says: "HTTP/1.1 200 OK\r\nx: ", then: again("x".repeat(65_536)) },
            "fhir ",
        ),
        ("interim answers without end", Manner { says: "", then: early }, "did not answer in time"),
        (
            "no HTTP",
            Manner { says: "SSH-2.0-OpenSSH_9.2\r\n", then: Then::Close },
            "broke the connection off",
        ),
        ("silence", Manner { says: "", then: Then::Hang }, "did not answer in time"),
        ("nothing", Manner { says: "", then: Then::Close }, "broke the connection off"),
    ]
}

/// One message while the server is rude, and after.
async fn meet(world: &World, rude: &Rude, (what, to, manner, words): Case, n: usize) {
    rude.be(to, manner);
    let mut push = fixture("full-person-10")["body"].clone();
    push["doc"]["_id"] = json!(format!("a54a8e4f-c505-4ed9-a6f2-{n:012}"));
    (push["doc"]["patient_id"], push["doc"]["external_id"]) = (json!(format!("9000{n}")), json!(""));
    world.post("/cht/push", &push).await;
    let started = Instant::now();
    let row = loop {
        let row = world.transactions().await.remove(n);
        if row.attempts > 0 {
            break row;
        }
        assert!(started.elapsed() < TIMEOUT + SLACK, "{what}: it does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let error = row.error.unwrap_or_default();
    assert!(error.contains(words), "{what}: {error}");
    rude.mend();
    // An answer that is too large may be so each time: that is for an operator to see.
    let expected = if error.contains("more than") { ("failed", "failed") } else { ("open", "delivered") };
    assert_eq!((row.status.as_str(), world.settled().await[n].status.as_str()), expected, "{what}: {error}");
}

type Case = (&'static str, &'static str, Manner, &'static str);

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_none_ends_in_time_is_shown_and_is_asked_for_again() {
    let truth = fhir::start(any(), fhir::Options::default()).await.expect("a FHIR server");
    let rude = Rude::start(address(&truth.url())).await;
    let further = [
        ("FHIR__URL", format!("http://{}/fhir", rude.address)),
        ("FHIR__TIMEOUT_MS", TIMEOUT.as_millis().to_string()),
        ("SERVER__ANSWER_WITHIN_MS", "100".into()),
        ("DELIVERY__BREAKER_FAILURES", "1000".into()),
    ];
    let further: Vec<(&str, &str)> = further.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let world = World::with(&further, cht::Options::default()).await;
    let to = |to: &'static str| move |(what, manner, words)| (what, to, manner, words);
    let readings = manners().into_iter().filter(|(what, ..)| what.contains("half")).map(to("GET /fhir"));
    let cases: Vec<Case> = manners().into_iter().map(to("POST /fhir")).chain(readings).collect();
    let many = cases.len();
    for (n, case) in cases.into_iter().enumerate() {
        meet(&world, &rude, case, n).await;
    }
    assert!(truth.ledger().values().all(|n| *n == 1), "{:?}", truth.ledger());
    assert_eq!(truth.resources("Patient").len(), many);
}

fn callbacks() -> HttpCallbacks {
    let settings = CallbackSettings {
        allow: Vec::new(),
        allow_private: true,
        timeout_ms: TIMEOUT.as_millis() as u64,
        max_concurrent: 8,
        holds_up_ms: 30_000,
    };
    HttpCallbacks::new(&settings).expect("callbacks")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_an_answer_and_not_followed() {
    let trap = callback::start(any()).await.expect("an endpoint");
    let rude = Rude::silent().await;
    let url = format!("http://{}", rude.address);
    let world = World::with(&[("FHIR__URL", &url)], cht::Options::default()).await;
    for (n, status) in [301, 302, 303, 307, 308].into_iter().enumerate() {
        let says =
            format!("HTTP/1.1 {status} x\r\nlocation: {}/latest\r\ncontent-length: 0\r\n\r\n", trap.url());
        rude.be("", Manner { says: says.leak(), then: Then::Close });
        let put = callbacks().put(&url, "Encounter", "1", &json!({"resourceType": "Encounter"})).await;
        let failure = put.expect_err("no success");
        assert_eq!(failure.kind, FailureKind::Permanent);
        assert!(failure.message.contains(&status.to_string()), "{}", failure.message);
        let patient =
            json!({"resourceType": "Patient", "identifier": [{"system": "s", "value": status.to_string()}]});
        world.post("/fhir/Patient", &patient).await;
        let row = world.settled().await.remove(n);
        assert_eq!(row.status, "failed");
        assert!(row.error.is_some_and(|error| error.contains(&status.to_string())));
    }
    assert_eq!(trap.faults().calls(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_requesters_endpoint_the_status_counts_and_no_flood_of_words() {
    let flood = again(format!("10000\r\n{}\r\n", "x".repeat(0x10000)));
    for (status, says) in [
        (200, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
        (500, "HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\n"),
    ] {
        let rude = Rude::always(says, flood.clone()).await;
        let url = format!("http://{}", rude.address);
        let put = callbacks().put(&url, "Encounter", "1", &json!({"resourceType": "Encounter"})).await;
        assert_eq!(put.is_ok(), status == 200, "{put:?}");
    }
}

/// A FHIR server behind TLS, whose certificate can be another from now on.
struct Guarded {
    address: SocketAddr,
    acceptor: watch::Sender<TlsAcceptor>,
}

impl Guarded {
    async fn start(acceptor: TlsAcceptor, truth: SocketAddr) -> Self {
        let listener = TcpListener::bind(any()).await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let (acceptor, mut own) = watch::channel(acceptor);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let accepting = own.borrow_and_update().accept(stream);
                let mut another = own.clone();
                tokio::spawn(async move {
                    let mut inside = TcpStream::connect(truth).await.ok()?;
                    let mut stream = accepting.await.ok()?;
                    // No connection outlives its certificate.
                    tokio::select! {
                        pumped = tokio::io::copy_bidirectional(&mut stream, &mut inside) => pumped.ok(),
                        _ = another.changed() => None,
                    }
                });
            }
        });
        Self { address, acceptor }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_has_ended_is_named_and_a_new_one_is_taken_without_a_restart() {
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = params.self_signed(&key).expect("an authority");
    let issuer = Issuer::new(params, key);
    let acceptor = |last_year: i32| {
        let mut params = CertificateParams::new(vec!["localhost".into()]).expect("parameters");
        params.not_after = date_time_ymd(last_year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let made = params.signed_by(&key, &issuer).expect("a certificate");
        let key = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![made.der().clone()], key).expect("a configuration");
        TlsAcceptor::from(Arc::new(config))
    };
    let truth = fhir::start(any(), fhir::Options::default()).await.expect("a FHIR server");
    let guarded = Guarded::start(acceptor(2090), address(&truth.url())).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, authority.pem()).expect("written");
    let (url, file) =
        (format!("https://localhost:{}/fhir", guarded.address.port()), file.display().to_string());
    let further =
        [("FHIR__URL", url.as_str()), ("FHIR__CA_FILE", &file), ("SERVER__ANSWER_WITHIN_MS", "1500")];
    let world = World::with(&further, cht::Options::default()).await;
    world.post("/cht/push", &fixture("full-person-10")["body"]).await;
    assert_eq!(world.settled().await[0].status, "delivered");
    guarded.acceptor.send_replace(acceptor(2020));
    assert_eq!(world.post("/cht/push", &fixture("full-person-11")["body"]).await.0, 202);
    let until = Instant::now() + SLACK;
    loop {
        let waits = world.transactions().await.remove(1);
        let error = waits.error.unwrap_or_default();
        if waits.status == "open" && error.contains("certificate") && error.contains("expired") {
            break;
        }
        assert!(Instant::now() < until && waits.status == "open", "{}: {error}", waits.status);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    guarded.acceptor.send_replace(acceptor(2090));
    assert_eq!(world.settled().await[1].status, "delivered");
}
