//! Values that are of the right type and still cannot work. Pairs of key and message.
use super::{Cht, FhirServer, Settings};
use argon2::password_hash::phc::PasswordHash;
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeSet;

type Errors = Vec<(String, String)>;

pub(super) fn check(settings: &Settings) -> Errors {
    let mut errors = Errors::new();
    server(settings, &mut errors);
    journal(settings, &mut errors);
    cht(&settings.cht, &mut errors);
    fhir_server("fhir", &settings.fhir, &mut errors);
    for (name, destination) in &settings.destinations {
        fhir_server(&format!("destinations.{name}"), destination, &mut errors);
        if matches!(name.as_str(), "fhir" | "cht") || name.contains(':') {
            errors.push((format!("destinations.{name}"), "this name is taken; choose another".into()));
        }
    }
    clients(settings, &mut errors);
    routing(settings, &mut errors);
    openhim(settings, &mut errors);
    errors
}

fn openhim(settings: &Settings, errors: &mut Errors) {
    let openhim = &settings.openhim;
    if !openhim.enabled {
        return;
    }
    url("openhim.api_url", &openhim.api_url, errors);
    url("openhim.reachable_at", &openhim.reachable_at, errors);
    if openhim.username.is_empty() {
        errors.push(("openhim.username".into(), "expected the e-mail address of a user of OpenHIM".into()));
    }
    if openhim.password.is_none() {
        errors.push(("openhim.password".into(), missing_secret("password")));
    }
    for (key, value) in [("timeout_ms", openhim.timeout_ms), ("heartbeat_seconds", openhim.heartbeat_seconds)]
    {
        if value == 0 {
            errors.push((format!("openhim.{key}"), "expected a number above 0".into()));
        }
    }
}

/// What works, but not as anybody should want it.
pub fn warnings(settings: &Settings) -> Vec<String> {
    let mut all = Vec::new();
    let mut plain = |key: &str, url: &str, secret: bool| {
        let local = url::Url::parse(url).ok().and_then(|u| u.host_str().map(is_local)).unwrap_or(false);
        if secret && url.starts_with("http://") && !local {
            all.push(format!("{key}: credentials go over plain http; use https"));
        }
    };
    plain("cht.url", &settings.cht.url, settings.cht.password.is_some());
    let servers = std::iter::once(("fhir".to_string(), &settings.fhir))
        .chain(settings.destinations.iter().map(|(name, s)| (format!("destinations.{name}"), s)));
    for (key, server) in servers {
        let secret = server.password.is_some() || server.bearer_token.is_some() || server.oauth2.is_some();
        plain(&format!("{key}.url"), &server.url, secret);
    }
    if settings.openhim.enabled {
        plain("openhim.api_url", &settings.openhim.api_url, true);
        if !settings.clients.is_empty() && !settings.clients.iter().any(|client| client.openhim) {
            all.push("openhim.enabled: none of the clients is OpenHIM's core (`openhim = true`), so nobody is answered in its words".into());
        }
    }
    if settings.server.trust_network && settings.clients.is_empty() {
        all.push("server.trust_network: whoever reaches this address may do everything".into());
    }
    all
}

fn is_local(host: &str) -> bool {
    host == "localhost"
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn server(settings: &Settings, errors: &mut Errors) {
    let server = &settings.server;
    let mut say = |key: &str, message: &str| errors.push((format!("server.{key}"), message.into()));
    if !server.listen.ip().is_loopback() && settings.clients.is_empty() && !server.trust_network {
        say(
            "listen",
            "others can reach this address, but no clients are configured; add [[clients]], or set \
             server.trust_network = true if the network itself keeps everybody else out",
        );
    }
    match (&server.tls_cert, &server.tls_key) {
        (Some(_), None) => say("tls_key", "tls_cert is given; give its key too"),
        (None, Some(_)) => say("tls_cert", "tls_key is given; give its certificate too"),
        _ => {}
    }
    for (key, zero) in [
        ("answer_within_ms", server.answer_within_ms == 0),
        ("max_body_bytes", server.max_body_bytes == 0),
        ("max_list_bytes", server.max_list_bytes == 0),
        ("read_timeout_ms", server.read_timeout_ms == 0),
        ("max_connections", server.max_connections == 0),
        ("shutdown_within_ms", server.shutdown_within_ms == 0),
    ] {
        if zero {
            say(key, "expected a number above 0");
        }
    }
    if !is_base_path(&server.base_path) {
        say("base_path", "expected a path such as /mediator that is no route of ours, or nothing");
    }
    for route in &server.flag_invalid {
        if !route.starts_with("/fhir") && route != "/service-request" {
            let expected = "expected routes that take FHIR, such as /fhir or /fhir/Observation";
            errors.push(("server.flag_invalid".into(), expected.into()));
        }
    }
    for (route, code) in &server.success_codes {
        if !(200..300).contains(code) {
            errors.push((format!("server.success_codes.{route}"), "expected a code from 200 to 299".into()));
        } else if route.parse::<crate::domain::message::Route>().is_err() {
            errors.push((format!("server.success_codes.{route}"), "there is no such route".into()));
        }
    }
}

/// Plain segments, and not the beginning of a route.
fn is_base_path(path: &str) -> bool {
    const OWN: &[&str] = &[
        "afyastat",
        "cht",
        "encounter",
        "endpoint",
        "fhir",
        "health",
        "mappings",
        "metrics",
        "openapi.json",
        "organization",
        "patient",
        "service-request",
        "transactions",
    ];
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-_.".contains(&b);
    let first = path.trim_matches('/').split('/').next().unwrap_or_default();
    path.is_empty()
        || (path.starts_with('/') && path.bytes().all(plain) && !path.contains("//") && !OWN.contains(&first))
}

fn journal(settings: &Settings, errors: &mut Errors) {
    let url = &settings.journal.url;
    match url.strip_prefix("sqlite:") {
        Some(path) if !path.is_empty() => {}
        _ if url.starts_with("postgres") => {
            errors.push((
                "journal.url".into(),
                "postgres comes in a later release; expected sqlite:PATH".into(),
            ));
        }
        _ => errors.push((
            "journal.url".into(),
            "expected sqlite:PATH, such as sqlite:/var/lib/mediator/journal.db".into(),
        )),
    }
    if settings.journal.max_open == 0 {
        errors.push(("journal.max_open".into(), "expected a number above 0".into()));
    }
}

fn cht(cht: &Cht, errors: &mut Errors) {
    url("cht.url", &cht.url, errors);
    basic("cht", &cht.username, cht.password.as_ref(), errors);
    if cht.max_concurrent == 0 {
        errors.push(("cht.max_concurrent".into(), "expected a number above 0".into()));
    }
}

fn fhir_server(key: &str, server: &FhirServer, errors: &mut Errors) {
    url(&format!("{key}.url"), &server.url, errors);
    basic(key, &server.username, server.password.as_ref(), errors);
    let ways = [!server.username.is_empty(), server.bearer_token.is_some(), server.oauth2.is_some()];
    if ways.iter().filter(|way| **way).count() > 1 {
        errors.push((
            key.to_string(),
            "more than one way of authentication; keep one of username, bearer_token and oauth2".into(),
        ));
    }
    if let Some(oauth2) = &server.oauth2 {
        url(&format!("{key}.oauth2.token_url"), &oauth2.token_url, errors);
        if oauth2.client_secret.is_none() {
            errors.push((format!("{key}.oauth2.client_secret"), missing_secret("client_secret")));
        }
    }
    if server.success_status.is_empty() {
        errors.push((format!("{key}.success_status"), "expected at least one status".into()));
    }
    if server.max_concurrent == 0 {
        errors.push((format!("{key}.max_concurrent"), "expected a number above 0".into()));
    }
}

fn basic(key: &str, username: &str, password: Option<&SecretString>, errors: &mut Errors) {
    match (username.is_empty(), password) {
        (false, None) => errors.push((format!("{key}.password"), missing_secret("password"))),
        (true, Some(_)) => {
            errors.push((format!("{key}.username"), "a password is given; give the username too".into()))
        }
        _ => {}
    }
}

fn missing_secret(name: &str) -> String {
    format!("the secret is missing; give {name}, {name}_file, or the environment variable")
}

fn url(key: &str, text: &str, errors: &mut Errors) {
    let fine =
        url::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if !fine {
        errors.push((key.to_string(), "expected an address such as https://host/path".into()));
    } else if url::Url::parse(text).is_ok_and(|url| !url.username().is_empty() || url.password().is_some()) {
        errors.push((
            key.to_string(),
            "credentials do not belong in the address; use username and password".into(),
        ));
    }
}

fn clients(settings: &Settings, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (i, client) in settings.clients.iter().enumerate() {
        let mut say = |key: &str, message: &str| errors.push((format!("clients.{i}.{key}"), message.into()));
        if client.id.is_empty() || client.id.contains([':', '.', '/']) {
            say("id", "expected a name without `:`, `.` and `/`");
        }
        if !seen.insert(&client.id) {
            say("id", "another client has this id");
        }
        let hash = client.secret.expose_secret();
        if !hash.starts_with("$argon2") || PasswordHash::new(hash).is_err() {
            say("secret", "expected an argon2 hash, as `cht-fhir-mediator hash-secret` prints it");
        }
        if client.roles.is_empty() {
            say("roles", "expected one or more of push, fhir, admin, lookup");
        }
        if client.destination.as_ref().is_some_and(|name| !is_destination(settings, name)) {
            say("destination", "no destination of this name is configured");
        }
    }
}

fn is_destination(settings: &Settings, name: &str) -> bool {
    name == "fhir" || settings.destinations.contains_key(name)
}

fn routing(settings: &Settings, errors: &mut Errors) {
    for (mapping, names) in &settings.delivery.to {
        for name in names.iter().filter(|name| !is_destination(settings, name)) {
            errors.push((
                format!("delivery.to.{mapping}"),
                format!("no destination named {name} is configured"),
            ));
        }
    }
    if settings.delivery.give_up_after_hours == 0 {
        errors.push(("delivery.give_up_after_hours".into(), "expected a number above 0".into()));
    }
    if settings.delivery.first_retry_ms > settings.delivery.longest_retry_ms {
        errors.push(("delivery.first_retry_ms".into(), "expected no more than longest_retry_ms".into()));
    }
    if settings.lookups.max_concurrent == 0 {
        errors.push(("lookups.max_concurrent".into(), "expected a number above 0".into()));
    }
    if let Err(error) = tracing_subscriber::EnvFilter::try_new(&settings.log.filter) {
        errors.push(("log.filter".into(), format!("{error}; expected a tracing filter, such as info")));
    }
    if settings.delivery.breaker_failures == 0 {
        errors.push(("delivery.breaker_failures".into(), "expected a number above 0".into()));
    }
    let country = settings.translate.default_country.parse::<phonenumber::country::Id>();
    if country.is_err() {
        errors.push((
            "translate.default_country".into(),
            "expected the two letters of a country, such as KE".into(),
        ));
    }
    for rule in settings.callbacks.allow.iter().filter(|rule| rule.trim().is_empty() || rule.contains('/')) {
        errors.push((
            "callbacks.allow".into(),
            format!("`{rule}` is no host; expected emr.example.org or *.example.org"),
        ));
    }
}
