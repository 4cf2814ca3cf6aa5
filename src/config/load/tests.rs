use super::*;
use std::io::Write;

/// The errors of a file and an environment, one a line, without the file's folder.
fn errors(text: &str, environment: &[(&str, &str)]) -> String {
    let mut file = tempfile::Builder::new().prefix("m").suffix(".toml").tempfile().expect("a file");
    file.write_all(text.as_bytes()).expect("written");
    let environment = environment.iter().map(|(k, v)| (k.to_string(), v.to_string()));
    match load(Some(file.path()), environment) {
        Ok(_) => String::new(),
        Err(errors) => {
            let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
            all.join("\n").replace(&file.path().display().to_string(), "m.toml")
        }
    }
}

fn settings(text: &str, environment: &[(&str, &str)]) -> Settings {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("written");
    let environment = environment.iter().map(|(k, v)| (k.to_string(), v.to_string()));
    load(Some(file.path()), environment).map_err(|e| e[0].to_string()).expect("settings")
}

#[test]
fn the_defaults_are_complete_and_every_key_is_explained() {
    let settings = load(None, std::iter::empty()).map_err(|e| format!("{e:?}")).expect("defaults");
    assert_eq!(settings.server.listen.port(), 3410);
    let lines: Vec<&str> = DEFAULTS.lines().collect();
    for (i, line) in lines.iter().enumerate().filter(|(_, line)| line.contains('=') && !line.starts_with('#'))
    {
        assert!(lines[i - 1].starts_with('#'), "no reason is given for {line}");
    }
}

#[test]
fn further_destinations_have_the_defaults_of_the_first() {
    let settings = settings("[destinations.lab]\nurl = \"https://lab.example/fhir\"", &[]);
    let (lab, fhir) = (&settings.destinations["lab"], &settings.fhir);
    assert_eq!((lab.timeout_ms, lab.max_concurrent), (fhir.timeout_ms, fhir.max_concurrent));
    assert_eq!((lab.transactions, &lab.success_status), (fhir.transactions, &fhir.success_status));
    assert_eq!(lab.poll_overlap_seconds, fhir.poll_overlap_seconds);
}

#[test]
fn the_environment_overrides_the_file_overrides_the_defaults() {
    let text = "[server]\nanswer_within_ms = 5\n[cht]\nurl = \"http://file\"";
    let settings = settings(
        text,
        &[
            ("MEDIATOR__CHT__URL", "http://env"),
            ("MEDIATOR__FHIR__USERNAME", "123"),
            ("MEDIATOR__FHIR__PASSWORD", "true"),
            ("MEDIATOR__CALLBACKS__ALLOW", "[\"a.example\"]"),
            ("MEDIATOR__DESTINATIONS__LAB__URL", "http://lab"),
            ("MEDIATOR__DESTINATIONS__LAB__TRANSACTIONS", "false"),
            ("MEDIATOR__SERVER__TRUST_NETWORK", "true"),
            ("PATH", "/bin"),
        ],
    );
    assert_eq!(settings.cht.url, "http://env");
    assert_eq!(settings.server.answer_within_ms, 5);
    assert_eq!(settings.fhir.username, "123");
    assert_eq!(settings.callbacks.allow, ["a.example"]);
    assert!(!settings.destinations["lab"].transactions);
    assert!(settings.server.trust_network);
}

#[test]
fn secrets_come_from_files_too() {
    let mut secret = tempfile::NamedTempFile::new().expect("a file");
    secret.write_all(b"pass word\n").expect("written");
    let path = secret.path().display().to_string();
    let one = settings(&format!("[cht]\nusername = \"u\"\npassword_file = \"{path}\""), &[]);
    use secrecy::ExposeSecret;
    assert_eq!(one.cht.password.expect("a password").expose_secret(), "pass word");
    let other = settings("[cht]\nusername = \"u\"", &[("MEDIATOR__CHT__PASSWORD_FILE", &path)]);
    assert!(other.cht.password.is_some());
}

const HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$9vXs7lDjnZKDWHTuZoG0HTPAqTGTXbHHG5UYKOOrmdY";

#[test]
fn what_is_wrong_is_said_with_its_line_its_key_and_what_was_expected() {
    let client = |rest: &str| format!("[[clients]]\nid = \"a\"\nsecret = \"{HASH}\"\n{rest}");
    for (text, expected) in [
        (
            "[server]\nlissten = \"127.0.0.1:1\"",
            "m.toml:2: server.lissten: no such setting; did you mean listen?",
        ),
        ("\n[sever]\nx = 1", "m.toml:2: sever: no such setting; did you mean server?"),
        (
            "[server]\n\nanswer_within_ms = \"soon\"",
            "m.toml:3: server.answer_within_ms: found a text, expected a whole number",
        ),
        (
            "[server]\nlisten = \"nowhere\"",
            "m.toml:2: server.listen: expected an address and port, such as 127.0.0.1:3410",
        ),
        (
            "[server]\nlisten = \"0.0.0.0:80\"",
            "m.toml:2: server.listen: others can reach this address, but no clients are \
            configured; add [[clients]], or set server.trust_network = true if the network itself keeps everybody else out",
        ),
        ("[server]\ntls_cert = \"x\"", "m.toml:1: server.tls_key: tls_cert is given; give its key too"),
        ("[server]\nmax_body_bytes = 0", "m.toml:2: server.max_body_bytes: expected a number above 0"),
        (
            "[server]\nmax_body_bytes = -1",
            "m.toml:2: server.max_body_bytes: found another kind of value, expected a whole number",
        ),
        (
            "[server]\nbase_path = \"x\"",
            "m.toml:2: server.base_path: expected a path such as /mediator that is no route of ours, or nothing",
        ),
        (
            "[server.success_codes]\n\"/patient\" = 404",
            "m.toml:2: server.success_codes./patient: expected a code from 200 to 299",
        ),
        (
            "[server.success_codes]\n\"/nope\" = 200",
            "m.toml:2: server.success_codes./nope: there is no such route",
        ),
        (
            "[journal]\nurl = \"postgres://x\"",
            "m.toml:2: journal.url: postgres comes in a later release; expected sqlite:PATH",
        ),
        (
            "[journal]\nurl = \"x\"",
            "m.toml:2: journal.url: expected sqlite:PATH, such as sqlite:/var/lib/mediator/journal.db",
        ),
        ("[cht]\nurl = \"cht\"", "m.toml:2: cht.url: expected an address such as https://host/path"),
        (
            "[cht]\nurl = \"http://u:p@h\"",
            "m.toml:2: cht.url: credentials do not belong in the address; use username and password",
        ),
        (
            "[cht]\nusername = \"u\"",
            "m.toml:1: cht.password: the secret is missing; give password, password_file, or the environment variable",
        ),
        ("[cht]\npassword = \"p\"", "m.toml:1: cht.username: a password is given; give the username too"),
        (
            "[cht]\nusername = \"u\"\npassword_file = \"/no/such\"",
            "m.toml:3: cht.password_file: /no/such cannot be read: No such file or directory (os error 2)",
        ),
        (
            "[fhir]\nusername = \"u\"\npassword = \"p\"\nbearer_token = \"t\"",
            "m.toml:1: fhir: more than one way of authentication; keep one of username, bearer_token and oauth2",
        ),
        (
            "[fhir.oauth2]\ntoken_url = \"https://a\"\nclient_id = \"c\"",
            "m.toml:1: fhir.oauth2.client_secret: the secret is missing; give client_secret, client_secret_file, or the environment variable",
        ),
        ("[destinations.lab]\ntimeout_ms = 1", "m.toml:1: destinations.lab.url: this setting is missing"),
        (
            "[delivery.to]\nperson = [\"lab\"]",
            "m.toml:2: delivery.to.person: no destination named lab is configured",
        ),
        (
            "[translate]\ndefault_country = \"Kenya\"",
            "m.toml:2: translate.default_country: expected the two letters of a country, such as KE",
        ),
        (
            "[translate]\ntime_zone = \"Nairobi\"",
            "m.toml:2: translate.time_zone: `Nairobi` is no time zone; expected one such as Africa/Nairobi",
        ),
        (
            "[callbacks]\nallow = [\"http://x/\"]",
            "m.toml:2: callbacks.allow: `http://x/` is no host; expected emr.example.org or *.example.org",
        ),
        (
            &client("roles = []"),
            "m.toml:4: clients.0.roles: expected one or more of push, fhir, admin, lookup",
        ),
        (
            &client("roles = [\"pull\"]"),
            "m.toml:4: clients.0.roles.0: found `pull`, expected one of `push`, `fhir`, `admin`, `lookup`",
        ),
        (
            &client("roles = [\"fhir\"]\ndestination = \"lab\""),
            "m.toml:5: clients.0.destination: no destination of this name is configured",
        ),
        (
            "[[clients]]\nid = \"a\"\nsecret = \"plain\"\nroles = [\"push\"]",
            "m.toml:3: clients.0.secret: expected an argon2 hash, as `cht-fhir-mediator hash-secret` prints it",
        ),
        (
            "[server]\nbase_path = \"/fhir\"",
            "m.toml:2: server.base_path: expected a path such as /mediator that is no route of ours, or nothing",
        ),
        ("[fhir]\nsuccess_status = []", "m.toml:2: fhir.success_status: expected at least one status"),
        (
            "[delivery]\nfirst_retry_ms = 400000",
            "m.toml:2: delivery.first_retry_ms: expected no more than longest_retry_ms",
        ),
        (
            "[delivery]\ngive_up_after_hours = 0",
            "m.toml:2: delivery.give_up_after_hours: expected a number above 0",
        ),
        ("x = = 1", "m.toml:1: not TOML:"),
    ] {
        let found = errors(text, &[]);
        assert!(
            found
                .lines()
                .any(|line| line == expected || expected.ends_with("TOML:") && line.starts_with(expected)),
            "{text}\nexpected {expected}\nfound    {found}"
        );
    }
}

#[test]
fn all_of_it_is_said_at_once_and_variables_are_named() {
    let found = errors(
        "[server]\na = 1\nb = 2\n[cht]\nurl = 3",
        &[("MEDIATOR__SERVER__LISTEN", "x"), ("MEDIATOR__NOPE__A", "1")],
    );
    for part in [
        "m.toml:2: server.a:",
        "m.toml:3: server.b:",
        "m.toml:5: cht.url:",
        "MEDIATOR__SERVER__LISTEN: server.listen:",
        "MEDIATOR__NOPE__A: nope:",
    ] {
        assert!(found.contains(part), "{part}\n{found}");
    }
}

#[test]
fn no_secret_is_repeated() {
    let found = errors(
        "[cht]\nusername = \"u\"\npassword = 1234567\n[[clients]]\nid = \"a\"\nsecret = \"hunter2\"\nroles = [\"admin\"]",
        &[("MEDIATOR__FHIR__BEARER_TOKN", "s3cret")],
    );
    assert!(!found.contains("hunter2") && !found.contains("1234567") && !found.contains("s3cret"), "{found}");
}
