//! TLS on our own port, and towards others.
use crate::world::World;
use cht_fhir_mediator::standins::cht;
use serde_json::json;
use std::time::{Duration, Instant};

/// A world whose port speaks TLS as `name`, and the folder with its certificate.
pub async fn behind_tls(name: &str, further: &[(&str, &str)]) -> (World, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let made = rcgen::generate_simple_self_signed(vec![name.into()]).expect("a certificate");
    let (cert, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    std::fs::write(&cert, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    let (cert, key) = (cert.display().to_string(), key.display().to_string());
    let own = [("SERVER__TLS_CERT", cert.as_str()), ("SERVER__TLS_KEY", key.as_str())];
    (World::with(&[&own, further].concat(), cht::Options::default()).await, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_speaks_tls_with_the_certificate_that_is_given() {
    let (world, folder) = behind_tls("localhost", &[]).await;
    let port = world.settings.server.listen.port();
    let pem = std::fs::read(folder.path().join("tls.crt")).expect("a file");
    let trusted = reqwest::Certificate::from_pem(&pem).expect("a certificate");
    let careful = |roots: Vec<reqwest::Certificate>| {
        let builder =
            reqwest::Client::builder().no_proxy().resolve("localhost", ([127, 0, 0, 1], port).into());
        roots
            .into_iter()
            .fold(builder, |builder, root| builder.add_root_certificate(root))
            .build()
            .expect("a client")
    };
    let url = format!("https://localhost:{port}/health/live");
    let answer = careful(vec![trusted]).get(&url).send().await.expect("an answer");
    assert_eq!(answer.json::<serde_json::Value>().await.expect("JSON")["status"], json!("ok"));
    assert!(careful(Vec::new()).get(&url).send().await.is_err(), "nobody else trusts it");
    let plain = world.http.get(format!("http://localhost:{port}/health/live")).send().await;
    assert!(plain.is_err(), "no plain answer on a TLS port");
}

/// As a container's health check asks: by address, whatever name the certificate has.
#[tokio::test(flavor = "multi_thread")]
async fn health_is_told_over_tls_too() {
    let (world, _folder) = behind_tls("mediator.example.org", &[]).await;
    let server = &world.settings.server;
    let file = |file: &Option<std::path::PathBuf>| file.clone().expect("a file");
    let asked = |certificate| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cht-fhir-mediator"));
        command
            .arg("health")
            .env("MEDIATOR__SERVER__LISTEN", server.listen.to_string())
            .env("MEDIATOR__SERVER__TLS_CERT", certificate)
            .env("MEDIATOR__SERVER__TLS_KEY", file(&server.tls_key))
            .env("HTTPS_PROXY", "http://127.0.0.1:9");
        tokio::task::spawn_blocking(move || command.output().expect("run"))
    };
    let output = asked(file(&server.tls_cert)).await.expect("run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (_, other) = behind_tls("mediator.example.org", &[]).await;
    let output = asked(other.path().join("tls.crt")).await.expect("run");
    assert!(!output.status.success(), "another's certificate");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_certificate_nobody_vouches_for_is_not_talked_to() {
    let (served, folder) = behind_tls("localhost", &[]).await;
    let url = format!("https://localhost:{}/fhir", served.settings.server.listen.port());
    let quick = ("SERVER__ANSWER_WITHIN_MS", "300");
    let wary = World::with(&[("FHIR__URL", &url), quick], cht::Options::default()).await;
    let body = json!({"doc": {"_id": "a54a8e4f-c505-4ed9-a6f2-eb7bdad2fb9d", "type": "person", "name": "Test Person"}});
    assert_eq!(wary.post("/cht/push", &body).await.0, 202);
    // Its caller is told 202 before the mark with the error is read in lists.
    let until = Instant::now() + Duration::from_secs(90);
    let error = loop {
        if let Some(error) = wary.transactions().await[0].error.clone() {
            break error;
        }
        assert!(Instant::now() < until, "never tried");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(error.contains("certificate") || error.contains("UnknownIssuer"), "{error}");
    assert!(served.transactions().await.is_empty());
    let pinned = folder.path().join("tls.crt").display().to_string();
    let trusting =
        World::with(&[("FHIR__URL", &url), ("FHIR__CA_FILE", &pinned), quick], cht::Options::default()).await;
    trusting.post("/cht/push", &body).await;
    let rows = trusting.settled().await;
    assert_eq!(rows[0].status, "delivered", "{:?}", rows[0].error);
    assert_eq!(served.transactions().await.len(), 1, "it was reached");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_taken_without_a_restart_and_a_broken_one_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let (cert, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    let renew = || {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("a certificate");
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
        std::fs::write(&cert, made.cert.pem()).expect("written");
        reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).expect("a certificate")
    };
    let first = renew();
    let settings =
        [("SERVER__TLS_CERT", cert.display().to_string()), ("SERVER__TLS_KEY", key.display().to_string())];
    let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let world = World::with(&settings, cht::Options::default()).await;
    let url = format!("https://localhost:{}/health/live", world.settings.server.listen.port());
    // A new connection each time, which trusts nothing else.
    let is_shown = async |trusted: &reqwest::Certificate| {
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([trusted.clone()]).build();
        client.expect("a client").get(&url).send().await.is_ok()
    };
    assert!(is_shown(&first).await);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    std::fs::write(&cert, "half a certif").expect("written");
    assert!(is_shown(&first).await, "the old one serves on");
    let second = renew();
    // It is looked at once a second; the rest is for a busy machine.
    let until = Instant::now() + Duration::from_secs(90);
    while !is_shown(&second).await {
        assert!(Instant::now() < until, "never taken");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(!is_shown(&first).await);
}
