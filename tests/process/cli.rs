//! What an operator and an implementer type.
use crate::process::Process;
use crate::world::{fixture, ltfu};
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_cht-fhir-mediator"))
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("run");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

#[test]
fn the_version_names_its_commit() {
    let (code, out, _) = run(&["--version"], &[]);
    let (version, commit) = out.trim().rsplit_once(" (").expect("version and commit");
    assert_eq!((code, version), (0, concat!("cht-fhir-mediator ", env!("CARGO_PKG_VERSION"))));
    assert!(commit.len() > "()".len(), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_found_explained_and_rerun_while_serve_runs() {
    let mut it = Process::new("").await;
    it.fhir.faults().on("POST", "/fhir").fail_next(1, 422);
    it.send(false, "/cht/push", &fixture("full-person-10")["body"]).await;
    it.settled().await;
    let (code, out, _) = it.cli(&["transactions", "list", "--json", "--status", "failed"]);
    assert_eq!(code, 0);
    let row: Value = serde_json::from_str(out.trim()).expect("one object a line");
    for key in ["id", "route", "received", "status", "attempts", "error"] {
        assert!(!row[key].is_null(), "{key}: {row}");
    }
    assert_eq!((row["route"].as_str(), row["status"].as_str()), (Some("/cht/push"), Some("failed")));
    let id = row["id"].as_str().expect("an id");
    let (_, shown, _) = it.cli(&["transactions", "show", id]);
    assert!(shown.contains("422") && shown.contains("rerun"), "{shown}");
    let (code, out, error) = it.cli(&["transactions", "rerun", id]);
    assert_eq!((code, out.starts_with("the mediator has taken it up")), (0, true), "{out} {error}");
    it.settled().await;
    assert_eq!(it.fhir.resources("Patient").len(), 1);
    let (code, _, error) = it.cli(&["transactions", "rerun", id]);
    assert_eq!((code, error.contains("delivered already")), (1, true), "{error}");
    let (code, _, error) = it.cli(&["transactions", "cancel", "nope"]);
    assert_eq!((code, error.trim()), (1, "there is no transaction nope"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_trail_is_verified_and_exported_while_serve_runs() {
    let mut it = Process::new("").await;
    it.fhir.faults().on("POST", "/fhir").fail_next(1, 422);
    it.send(false, "/cht/push", &fixture("full-person-10")["body"]).await;
    let id = it.settled().await[0]["id"].as_str().expect("an id").to_string();
    it.cli(&["transactions", "list"]);
    it.cli(&["transactions", "show", &id, "--body"]);
    it.cli(&["transactions", "rerun", &id]);
    it.settled().await;
    it.cli(&["transactions", "cancel", &id]);
    let (code, said, error) = it.cli(&["audit", "verify"]);
    assert!(code == 0 && said.starts_with("the audit trail is whole: "), "{said}{error}");
    let head = said.trim().rsplit(' ').next().expect("a head").to_string();
    let (code, trail, _) = it.cli(&["audit", "export"]);
    assert_eq!(code, 0);
    let me = String::from_utf8_lossy(&Command::new("id").arg("-un").output().expect("run").stdout)
        .trim()
        .to_string();
    let user = json!({"identifier": {"system": "urn:cht-fhir-mediator:os-user", "value": me}}).to_string();
    let by_me = |words: &str| trail.lines().any(|line| line.contains(&user) && line.contains(words));
    for words in
        ["transactions list", "transaction with its body", "\"rerun\"", "transactions cancel", "audit export"]
    {
        assert!(by_me(words), "{words}: {trail}");
    }
    // The log tells the head at the start, so that an earlier one can be asked for.
    let log = it.log();
    let told = log.split("head=").nth(1).and_then(|rest| rest.get(..64)).expect("a head in the log");
    for head in [head.as_str(), told] {
        let (code, said, error) = it.cli(&["audit", "verify", "--head", head]);
        assert_eq!((code, error.as_str()), (0, ""), "{said}");
    }
    let other = "0".repeat(63) + "1";
    let (code, _, error) = it.cli(&["audit", "verify", "--head", &other]);
    assert!(code == 1 && error.contains("the head that was noted is not in the trail"), "{error}");
    let (code, _, error) = it.cli(&["audit", "verify", "--head", "abc"]);
    assert!(code == 1 && error.contains("64 hexadecimal digits"), "{error}");

    let file = it.folder.path().join("trail.ndjson");
    let path = file.display().to_string();
    let verify = |it: &Process, text: &str| {
        std::fs::write(&file, text).expect("written");
        it.cli(&["audit", "verify", "--file", &path])
    };
    let (code, said, error) = verify(&it, &trail);
    assert!(code == 0 && said.contains("records"), "{error}");
    let (code, _, error) = verify(&it, &trail.replacen("urn:cht:uuid", "urn:cht:uuie", 1));
    assert!(code == 1 && error.contains("broken at record"), "{error}");
    let shown = trail.replacen("\"outcome\":\"8\"", "\"outcome\":\"0\"", 1);
    let (code, _, error) = verify(&it, &shown);
    assert!(code == 1 && error.contains("it says something else than its record"), "{error}");
    let lines: Vec<&str> = trail.lines().collect();
    let (code, _, error) = verify(&it, &[&lines[..2], &lines[3..]].concat().join("\n"));
    assert!(
        code == 1 && error.contains("record 4") && error.contains("records 3 to 3 before it are missing"),
        "{error}"
    );
    let (code, said, _) = verify(&it, &lines[2..].join("\n"));
    assert!(code == 0 && said.contains("from number 3 on"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_one_ends_and_lets_those_behind_it_go() {
    let mut it = Process::new("").await;
    it.fhir.faults().set_down(true);
    let first = fixture("full-person-10")["body"].clone();
    let mut second = first.clone();
    second["doc"]["phone"] = json!("+254712000199");
    let (a, _) = tokio::join!(
        it.http.post(format!("http://127.0.0.1:{}/cht/push", it.port)).json(&first).send(),
        tokio::time::sleep(std::time::Duration::from_millis(1)),
    );
    let id = a.expect("an answer").json::<Value>().await.expect("JSON")["transaction"]
        .as_str()
        .expect("an id")
        .to_string();
    it.send(false, "/cht/push", &second).await;
    assert_eq!(it.cli(&["transactions", "cancel", &id]).0, 0);
    it.fhir.faults().set_down(false);
    let rows = it.settled().await;
    let states: Vec<&str> = rows.iter().filter_map(|row| row["status"].as_str()).collect();
    assert_eq!(states, ["cancelled", "delivered"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_it_in_time_with_nothing_lost() {
    let mut it = Process::new("").await;
    it.fhir.faults().on("POST", "/fhir").hang_next(1, 1500);
    let push = fixture("full-person-10")["body"].clone();
    let sent = it.http.post(format!("http://127.0.0.1:{}/cht/push", it.port)).json(&push).send();
    let (answer, status) = tokio::join!(sent, async {
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        let _ = Command::new("kill").arg(it.child.id().to_string()).status();
        tokio::task::block_in_place(|| it.child.wait())
    });
    assert!(answer.expect("answered").status().is_success());
    assert!(status.expect("ended").success());
    it.settled().await;
    assert_eq!(it.fhir.resources("Patient").len(), 1);
    it.send(false, "/fhir/ServiceRequest", &ltfu("SR-1")).await;
}

#[test]
fn translate_prints_json_and_sends_nothing() {
    let (code, out, error) = run(&["translate", "tests/fixtures/pushes/full-report-20.json"], &[]);
    assert_eq!(code, 0, "{error}");
    let bundle: Value = serde_json::from_str(&out).expect("JSON on stdout");
    assert_eq!(bundle["resourceType"], "Bundle");
    let (code, out, _) =
        run(&["translate", "--mapping", "patient", "tests/fixtures/pushes/full-person-10.json"], &[]);
    let patient: Value = serde_json::from_str(&out).expect("JSON on stdout");
    assert_eq!((code, patient["resourceType"].as_str()), (0, Some("Patient")));
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(ltfu("SR-1").to_string().as_bytes()).expect("written");
    let path = file.path().display().to_string();
    let (code, out, _) = run(&["translate", &path], &[]);
    let record: Value = serde_json::from_str(&out).expect("JSON on stdout");
    assert_eq!(
        (code, record["_meta"]["form"].as_str(), record["external_id"].as_str()),
        (0, Some("LTFU_REQUEST"), Some("SR-1"))
    );
    let (code, _, error) =
        run(&["translate", "--mapping", "patent", "tests/fixtures/pushes/full-person-10.json"], &[]);
    assert_eq!((code, error.contains("did you mean patient?")), (1, true), "{error}");
    let (code, _, error) = run(&["translate", "Cargo.toml"], &[]);
    assert_eq!((code, error.contains("Cargo.toml")), (1, true), "{error}");
}

#[test]
fn a_wrong_configuration_stops_the_start_and_says_where() {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().expect("a file");
    file.write_all(b"[server]\nlissten = \"x\"\n").expect("written");
    let path = file.path().display().to_string();
    for command in ["serve", "check"] {
        let (code, _, error) = run(&[command, "--config", &path], &[]);
        assert_ne!(code, 0);
        assert!(
            error.contains(&format!("{path}:2: server.lissten: no such setting; did you mean listen?")),
            "{error}"
        );
    }
    let (code, _, error) = run(&["serve"], &[("MEDIATOR__SERVER__LISTEN", "0.0.0.0:0")]);
    assert_eq!((code, error.contains("server.trust_network")), (2, true), "{error}");
    assert_eq!(run(&["check"], &[]).0, 0);
}

#[test]
fn hash_secret_makes_what_the_configuration_takes() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_cht-fhir-mediator"))
        .arg("hash-secret")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("run");
    child.stdin.take().expect("a pipe").write_all(b"s3cret\n").expect("written");
    let output = child.wait_with_output().expect("ended");
    let hash = String::from_utf8_lossy(&output.stdout).trim().to_string();
    let clients = json!([{"id": "a", "secret": hash, "roles": ["push"]}]).to_string();
    assert_eq!(run(&["check"], &[("MEDIATOR__CLIENTS", &clients)]).0, 0, "{hash}");
}

#[test]
fn a_scaffold_holds_as_it_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let mappings = folder.path().display().to_string();
    let environment = [("MEDIATOR__TRANSLATE__MAPPINGS", mappings.as_str())];
    let form = "tests/fixtures/forms/household_survey.xml";
    let (code, out, error) = run(&["scaffold", form], &environment);
    assert_eq!(code, 0, "{out} {error}");
    let settings = "mediator-config/cht/app_settings/forms.json";
    assert_eq!(run(&["scaffold", settings, "--form", "LTFU_REQUEST"], &environment).0, 0);
    let report = "tests/fixtures/pushes/full-report-37.json";
    assert_eq!(run(&["scaffold", report, "--name", "home-visit"], &environment).0, 0);
    let (code, out, error) = run(&["check"], &environment);
    assert_eq!(code, 0, "{error}");
    assert!(out.contains("household-survey (yours"), "{out}");
    let text = std::fs::read_to_string(folder.path().join("household-survey.yaml")).expect("written");
    for expected in [
        "How many bed nets are there?",
        "TODO",
        "each: doc.fields.child",
        "as: number",
        "display: \"Long lasting\"",
        "leaves: doc.fields",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(!text.contains("nets.note"), "a note asks nothing");
    let (code, _, error) = run(&["scaffold", form], &environment);
    assert!(code == 1 && error.contains("is there already"), "{error}");
    let (code, _, error) = run(&["scaffold", settings, "--form", "LTFU_REQUST"], &environment);
    assert!(code == 1 && error.contains("did you mean LTFU_REQUEST?"), "{error}");
}

/// A folder of mappings and one of profiles, empty.
struct Folders {
    root: tempfile::TempDir,
}

impl Folders {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a folder");
        for folder in ["mappings", "profiles"] {
            std::fs::create_dir(root.path().join(folder)).expect("made");
        }
        Self { root }
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.root.path().join(file);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    }

    fn path(&self, folder: &str) -> String {
        self.root.path().join(folder).display().to_string()
    }

    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let (mappings, profiles) = (self.path("mappings"), self.path("profiles"));
        run(
            arguments,
            &[("MEDIATOR__TRANSLATE__MAPPINGS", &mappings), ("MEDIATOR__TRANSLATE__PROFILES", &profiles)],
        )
    }
}

const PLAIN: &str = "
entries:
- entry: a
  resource:
    resourceType: Observation
    identifier: [{system: urn:cht:report, value: {path: doc._id}}]
    status: final
    code: {text: An example}
    valueString: {path: doc.fields.x}
";

#[test]
fn profiles_of_ones_own_are_used_and_what_is_wrong_with_them_is_said() {
    let folders = Folders::new();
    let profile = |elements: Value| {
        let mut all = vec![json!({"id": "Observation", "path": "Observation"})];
        all.extend(elements.as_array().into_iter().flatten().cloned());
        json!({"resourceType": "StructureDefinition", "url": "https://example.org/p", "type": "Observation", "snapshot": {"element": all}})
    };
    let asked = json!([{"id": "Observation.valueString", "path": "Observation.valueString", "min": 0, "max": "0", "type": [{"code": "string"}]},
        {"id": "Observation.performer", "path": "Observation.performer", "min": 0, "max": "*", "type": [{"code": "Reference"}],
            "constraint": [{"key": "our-1", "expression": "true"}],
            "slicing": {"discriminator": [{"type": "profile", "path": "$this"}], "rules": "open"}}]);
    folders.write("profiles/own.json", &profile(asked).to_string());
    let mapping = format!(
        "mapping: own\nwhen: {{doc.form: own}}{}",
        PLAIN.replace("- entry: a", "- entry: a\n  profile: https://example.org/p")
    );
    folders.write("mappings/own.yaml", &mapping);
    folders
        .write("push.json", &json!({"doc": {"_id": "r-1", "form": "own", "fields": {"x": "y"}}}).to_string());
    let push = folders.path("push.json");
    let (code, _, error) = folders.run(&["translate", &push]);
    assert_eq!(code, 1, "{error}");
    // Every element of it that the profile does not have is told, not only the first.
    for element in ["Observation.status", "Observation.code", "Observation.valueString"] {
        assert!(error.contains(element), "{element}: {error}");
    }
    let (code, _, error) = folders.run(&["check", "--quiet"]);
    assert!(code == 1 && error.contains("own.yaml:9:5: status: Observation.status"), "{error}");
    assert!(
        error.contains("own.json: slices of Observation.performer by profile of $this: this is not checked"),
        "{error}"
    );
    assert!(error.contains("own.json: our-1: this is not checked"), "{error}");
    folders.write("profiles/broken.json", "{\n  \"resourceType\": \"ValueSet\",\n  x}");
    let (code, _, error) = folders.run(&["check", "--quiet"]);
    assert!(code == 1 && error.contains("broken.json:3:3: not JSON"), "{error}");
    folders.write("profiles/broken.json", &json!({"resourceType": "StructureDefinition", "url": "https://example.org/q", "type": "Obsevation", "snapshot": {"element": [{"path": "Obsevation"}]}}).to_string());
    let (code, _, error) = folders.run(&["check", "--quiet"]);
    assert!(code == 1 && error.contains("broken.json: https://example.org/q: the type Obsevation is not known here; did you mean Observation?"), "{error}");
}

#[test]
fn a_constant_that_fhir_forbids_is_found_though_no_case_has_it() {
    let folders = Folders::new();
    let resource = |status: &str, table: &str| {
        let text = PLAIN.replace("status: final", &format!("status: {status}"));
        format!(
            "mapping: own\nwhen: {{doc.form: own}}\ntables:\n  states: {{codes: {{a: final, b: {table}}}}}{text}"
        )
    };
    for (status, table, wrong) in [
        ("finished", "amended", Some("expected one of amended, cancelled")),
        ("{path: doc.state, default: done}", "amended", Some("expected one of amended")),
        ("{path: doc.state, table: states}", "amend", Some("did you mean amended?")),
        ("{path: doc.state, table: states, default: final}", "amended", None),
        ("{if: {doc.state: a}, then: final, else: don}", "amended", Some("expected one of amended")),
    ] {
        folders.write("mappings/own.yaml", &resource(status, table));
        let (code, _, error) = folders.run(&["check", "--quiet"]);
        assert_eq!(code, i32::from(wrong.is_some()), "{status}, {table}: {error}");
        if let Some(wrong) = wrong {
            assert!(error.contains("own.yaml:10:") && error.contains(wrong), "{status}: {error}");
        }
    }
}

#[test]
fn every_file_s_mistakes_are_told_at_once() {
    let folders = Folders::new();
    folders.write("mappings/one.yaml", "mapping: one\nwehn: {}\n");
    folders.write("mappings/two.yaml", &format!("mapping: two{}", PLAIN.replace("doc.fields", "dox.fields")));
    // What builds on a file that cannot be read is not to blame.
    folders.write("mappings/three.yaml", "mapping: three\nsubject: a\nentries:\n- include: one\n");
    let (code, _, error) = folders.run(&["check", "--quiet"]);
    assert_eq!(code, 1);
    assert!(error.contains("one.yaml:2:1: wehn: no such key; did you mean when?"), "{error}");
    assert!(error.contains("did you mean doc?"), "{error}");
    assert!(!error.contains("three.yaml"), "{error}");
}

#[test]
fn a_case_in_yaml_keeps_its_words_and_its_direction() {
    let folders = Folders::new();
    folders.write("mappings/m.yaml", &format!("mapping: m{PLAIN}"));
    folders.write(
        "mappings/m.cases/back.yaml",
        "# Why it is here.\ndirection: back\ninput: {resourceType: Observation, identifier: [{system: urn:cht:report, value: r-1}], valueString: y}\noutput: {}\n# The end.\nnote: one\n",
    );
    assert_eq!(folders.run(&["check", "--quiet"]).0, 1);
    let case = folders.path("mappings/m.cases/back.yaml");
    let (code, out, error) = folders.run(&["translate", &case]);
    assert_eq!((code, error.as_str()), (0, ""));
    let made: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(made, json!({"doc": {"_id": "r-1", "fields": {"x": "y"}}}));
    assert_eq!(folders.run(&["translate", "--accept", &case]).0, 0);
    let text = std::fs::read_to_string(&case).expect("read");
    assert!(text.contains("# Why it is here.") && text.contains("# The end.\nnote: one"), "{text}");
    let (code, _, error) = folders.run(&["check", "--quiet"]);
    assert_eq!(code, 0, "{error}");
}

#[test]
fn what_is_served_by_two_or_by_none_is_told_by_check() {
    let folders = Folders::new();
    folders.write("mappings/referral-update.yaml", "mapping: referral-update\ndisabled: true\n");
    folders.write("mappings/twice.yaml", &format!("mapping: twice\nwhen: {{doc.type: person}}{PLAIN}"));
    let (code, _, error) = folders.run(&["check", "--quiet"]);
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("it is served by several mappings: patient, twice"), "{error}");
    assert!(error.contains("no mapping serves what comes by /fhir/Task (news)"), "{error}");
    // One that goes before another takes its place, and that is only told.
    folders.write(
        "mappings/twice.yaml",
        &format!("mapping: twice\nwhen: {{doc.type: person}}\nbefore: [patient, practitioner]{PLAIN}"),
    );
    let (code, _, error) = folders.run(&["check", "--quiet"]);
    assert_eq!(code, 0, "{error}");
    assert!(
        error.contains("warning: mediator-config/mappings/patient.cases/")
            && error.contains("it is served by twice and not by patient"),
        "{error}"
    );
}

/// What brings the mappings anew while it serves, and what does not.
#[tokio::test(flavor = "multi_thread")]
async fn sighup_takes_over_what_has_no_mistake() {
    let mut it = Process::new("").await;
    let folder = it.folder.path().join("mappings");
    std::fs::create_dir_all(&folder).expect("made");
    let hup = |it: &Process| {
        let pid = it.child.id().to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().expect("kill").success());
    };
    let push = json!({"doc": {"_id": "r-7", "type": "data_record", "form": "hup", "fields": {"x": "y"}}});
    let mapping = format!("mapping: hup\nwhen: {{doc.form: hup}}\nsubject: a{PLAIN}");
    std::fs::write(folder.join("hup.yaml"), mapping.replace("doc.fields", "dox.fields")).expect("written");
    hup(&it);
    it.until("the mistake in the log", |it| it.log().contains("did you mean doc?").then_some(())).await;
    let refused = |it: &Process| it.cli(&["audit", "export"]).1.contains("reload mappings").then_some(());
    it.until("the refusal in the audit trail", refused).await;
    std::fs::write(folder.join("hup.yaml"), mapping).expect("written");
    hup(&it);
    it.until("the new set", |it| it.log().contains("mappings reloaded").then_some(())).await;
    it.send(false, "/cht/push", &push).await;
    it.settled().await;
    assert_eq!(it.fhir.resources("Observation").len(), 1);
}
