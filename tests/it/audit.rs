//! The audit trail: every kind of act leaves its record, and the record is there before anything is shown.
use crate::world::{PATIENT, World, any, fixture, ltfu};
use cht_fhir_mediator::domain::audit::chain::{Hash, Link, Walk};
use cht_fhir_mediator::domain::audit::{Act, Agent, Event, Record, audit_event, chain_of};
use cht_fhir_mediator::flow::ports::Journal;
use cht_fhir_mediator::http::auth::hash_secret;
use cht_fhir_mediator::standins::{cht, openhim};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

async fn guarded(further: &[(&str, &str)]) -> World {
    let hash = hash_secret("secret").expect("a hash");
    let client = |id: &str, role: &str| json!({"id": id, "secret": hash, "roles": [role]});
    let clients = json!([client("cht", "push"), client("emr", "fhir"), client("ops", "admin")]).to_string();
    let all: Vec<(&str, &str)> = [("CLIENTS", clients.as_str())].iter().chain(further).copied().collect();
    World::with(&all, cht::Options::default()).await
}

impl World {
    async fn ask(&self, who: &str, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let mut request = self.http.request(method.parse().expect("a method"), self.url(path));
        if !who.is_empty() {
            request = request.basic_auth(who, Some("secret"));
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        self.send(request).await
    }

    fn journal(&self) -> Arc<dyn Journal> {
        self.house.as_ref().expect("an open house").corridor.journal().clone()
    }

    /// The whole trail, as lines of AuditEvents.
    async fn lines(&self, query: &str) -> Vec<Value> {
        let request = self.http.get(self.url(&format!("/fhir/AuditEvent?_format=ndjson{query}")));
        let answer = request.basic_auth("ops", Some("secret")).send().await.expect("an answer");
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["content-type"]),
            (200, &"application/fhir+ndjson".parse().expect("a value"))
        );
        let text = answer.text().await.expect("a body");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// In short: `who did what [to whom] = outcome`, without starts and what the tests themselves read.
    async fn told(&self) -> Vec<String> {
        // What nobody waits for is written with the next write, or soon.
        tokio::time::sleep(Duration::from_millis(300)).await;
        self.lines("").await.iter().map(told).filter(|line| !line.contains("AuditEvent")).collect()
    }
}

fn told(event: &Value) -> String {
    let who = |agent: &Value| {
        let name = agent["who"]["identifier"]["value"].as_str().or(agent["who"]["display"].as_str());
        name.unwrap_or("?").split(" on ").next().unwrap_or_default().to_string()
    };
    let agents: Vec<String> = event["agent"].as_array().expect("agents").iter().map(who).collect();
    let entity = |kind: &str| {
        event["entity"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|e| e["type"]["code"] == kind)
            .cloned()
            .unwrap_or_default()
    };
    let (patient, object) = (entity("1"), entity("2"));
    let details = object["detail"].as_array().into_iter().flatten();
    let details: Vec<&str> = details.filter_map(|detail| detail["valueString"].as_str()).collect();
    let patient = patient["what"]["identifier"]["value"].as_str().unwrap_or("nobody").to_string();
    let object = object["name"].as_str().or(object["description"].as_str()).unwrap_or_default().to_string();
    let what = format!("{object}{}", details.join(" "));
    format!(
        "{} {} {what} about {patient} = {}",
        agents.join(">"),
        event["subtype"][0]["code"].as_str().unwrap_or_default(),
        event["outcome"].as_str().unwrap_or_default()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_act_leaves_its_record() {
    let folder = tempfile::tempdir().expect("a folder");
    let mappings = folder.path().display().to_string();
    let mut world = guarded(&[("TRANSLATE__MAPPINGS", &mappings)]).await;
    world.know_patient();
    let push = fixture("full-person-10")["body"].clone();
    let person = push["doc"]["_id"].as_str().expect("an id").to_string();
    world.ask("cht", "POST", "/cht/push", Some(&push)).await;
    world.ask("cht", "POST", "/cht/push", Some(&push)).await;
    let endpoint = json!({"resourceType": "Endpoint", "identifier": [{"system": "x", "value": "e"}], "address": world.emr.url(),
        "status": "active", "connectionType": {"code": "hl7-fhir-rest"}, "payloadType": [{"text": "any"}]});
    world.ask("emr", "POST", "/fhir/Endpoint", Some(&endpoint)).await;
    let (status, made) = world.ask("emr", "POST", "/fhir/ServiceRequest", Some(&ltfu("SR-1"))).await;
    assert_eq!(status, 201, "{made}");
    world.settled().await;
    assert_eq!(world.ask("emr", "GET", "/fhir/ServiceRequest/SR-1", None).await.0, 200);
    world.fhir.faults().on("POST", "/fhir").fail_next(1, 422);
    let mut edited = push.clone();
    edited["doc"]["phone"] = json!("+254712000199");
    world.ask("cht", "POST", "/cht/push", Some(&edited)).await;
    let failed = world.settled().await.into_iter().find(|row| row.status == "failed").expect("one failed").id;
    world.ask("ops", "GET", "/transactions?status=failed&limit=3&name=Achieng", None).await;
    world.ask("ops", "GET", &format!("/transactions/{failed}"), None).await;
    assert_eq!(
        world.ask("ops", "POST", &format!("/transactions/{failed}/rerun"), Some(&json!({}))).await.0,
        200
    );
    world.settled().await;
    let (_, refused) =
        world.ask("ops", "POST", &format!("/transactions/{failed}/cancel"), Some(&json!({}))).await;
    assert!(refused["error"].is_string(), "{refused}");
    assert_eq!(world.ask("ops", "POST", "/mappings/reload", Some(&json!({}))).await.0, 200);
    world.ask("", "GET", "/transactions", None).await;
    let wrong = world.http.get(world.url("/transactions")).basic_auth("cht", Some("wrong"));
    world.send(wrong).await;
    world.ask("emr", "GET", "/transactions", None).await;
    world.ask("emr", "POST", "/fhir/Patient", Some(&json!({"resourceType": "Patient", "name": "A"}))).await;
    world.ask("emr", "GET", "/fhir/ServiceRequest/Achieng", None).await;
    world.ask("ops", "GET", "/nothing/Achieng", None).await;
    let told = world.told().await;
    let of = |start: &str| told.iter().filter(|line| line.starts_with(start)).cloned().collect::<Vec<_>>();
    let me = "cht-fhir-mediator";
    assert!(of(me)[0].contains("110120") && of(me)[0].contains(&world.fhir.url()), "{told:#?}");
    for line in [
        format!("cht>{me} create /cht/push about {person} = 0"),
        format!("cht>{me} create /cht/push true about {person} = 0"),
        format!("{me}>fhir disclose 1 delivered about {person} = 0"),
        format!("emr>{me} create /fhir/Endpoint about nobody = 0"),
        format!("emr>{me} create /fhir/ServiceRequest about {PATIENT} = 0"),
        format!("{me}>cht disclose 1 about {PATIENT} = 0"),
        format!("{me}>emr read  about {PATIENT} = 0").replace(&format!("{me}>emr"), &format!("emr>{me}")),
        format!("{me}>fhir disclose 1 failed about {person} = 8"),
        format!("ops>{me} search-type /transactions?status=failed&limit=3 about nobody = 0"),
        format!("ops>{me} read transaction about {person} = 0"),
        format!("ops>{me} operation rerun about {person} = 0"),
        format!("ops>{me} create POST /transactions/{{id}}/cancel about nobody = 4"),
        format!("unauthenticated>{me} 110122 GET /transactions about nobody = 4"),
        format!("unauthenticated, claims to be cht>{me} 110122 GET /transactions about nobody = 4"),
        format!("emr>{me} 110132 GET /transactions about nobody = 4"),
        format!("emr>{me} create POST /fhir/Patient about nobody = 4"),
        format!("emr>{me} read GET /fhir/{{Type}}/{{id}} about nobody = 4"),
        format!("unauthenticated>{me} read GET (no route) about nobody = 4"),
    ] {
        // CHT's own echo of the record may have come in between, and the order of two destinations is free.
        let similar = line.replace(" disclose 1 about", " disclose 1 delivered about");
        assert!(told.contains(&line) || told.contains(&similar), "{line}\nin {told:#?}");
    }
    assert!(
        of("ops").iter().any(|line| line.contains("110131 mappings") && line.contains("referral@")),
        "{told:#?}"
    );
    assert!(!told.iter().any(|line| line.contains("Achieng")), "{told:#?}");
    world.close().await;
    world.open().await;
    let told = world.told().await;
    let stops = told.iter().filter(|line| line.contains("110121")).count();
    assert_eq!((stops, told.last().map(|line| line.contains("110120"))), (1, Some(true)), "{told:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_is_down_adds_two_records_however_often_it_is_tried() {
    let world = guarded(&[("DELIVERY__BREAKER_FAILURES", "1000"), ("SERVER__ANSWER_WITHIN_MS", "50")]).await;
    world.fhir.faults().on("POST", "/fhir").fail_next(6, 500);
    let push = fixture("full-person-10")["body"].clone();
    world.ask("cht", "POST", "/cht/push", Some(&push)).await;
    world.settled().await;
    let told = world.told().await;
    let calls: Vec<&String> = told.iter().filter(|line| line.contains(" disclose ")).collect();
    assert_eq!(calls.len(), 2, "{told:#?}");
    assert!(calls[0].contains("disclose 1 about") && calls[0].ends_with("= 4"), "{calls:?}");
    assert!(calls[1].contains("disclose 7 delivered") && calls[1].ends_with("= 0"), "{calls:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_and_what_comes_by_polling_and_what_is_ignored_are_told_too() {
    let world = World::with(&[("FHIR__POLL_SECONDS", "1")], cht::Options::default()).await;
    world.know_patient();
    let referral = fixture("full-report-20")["body"].clone();
    world.cht.add_person(referral["doc"]["patient"].clone());
    world.post("/endpoint", &json!({"resourceType": "Endpoint", "identifier": [{"system": "x", "value": "e"}], "address": world.emr.url()})).await;
    world.post("/organization", &json!({"resourceType": "Organization", "identifier": [{"system": "x", "value": "o"}], "endpoint": [{"reference": "Endpoint/e"}]})).await;
    let mut request = ltfu("SR-1");
    request["requester"] = json!({"reference": "Organization/o"});
    world.post("/fhir/ServiceRequest", &request).await;
    world.settled().await;
    let record = world.cht.reports().into_iter().find(|r| r["form"] == "LTFU_REQUEST").expect("a record");
    let report = world.cht.complete_follow_up(
        record["_id"].as_str().expect("an id"),
        "ltfu_follow_up",
        json!({"outcome": "found"}),
    );
    world.post("/cht/push", &json!({"doc": report.expect("a report")})).await;
    world.settled().await;
    world.post("/cht/push", &referral).await;
    world.settled().await;
    let task = world.fhir.resources("Task").pop().expect("a Task");
    let mut changed = task.clone();
    changed["status"] = json!("accepted");
    let path = format!("/Task/{}", task["id"].as_str().expect("an id"));
    world.http.put(format!("{}{path}", world.fhir.url())).json(&changed).send().await.expect("changed");
    world.until("the news", |world| world.cht.reports().iter().any(|r| r["form"] == "REF_BACK")).await;
    world.settled().await;
    let told = world.told().await;
    let me = "cht-fhir-mediator";
    for part in [
        format!("{me}>callback:"),
        format!("poll:fhir>{me} create poll/fhir"),
        format!("{me} operation ignored"),
    ] {
        assert!(told.iter().any(|line| line.contains(&part)), "{part} in {told:#?}");
    }
    // The same is found by each poll again, and nothing is said of it.
    let before = told.len();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(world.told().await.len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_searched_page_by_page_by_those_who_may() {
    let world = guarded(&[]).await;
    world.know_patient();
    for who in ["", "cht", "emr"] {
        let expected = if who.is_empty() { 401 } else { 403 };
        assert_eq!(world.ask(who, "GET", "/fhir/AuditEvent", None).await.0, expected);
        assert_eq!(world.ask(who, "GET", "/fhir/AuditEvent/1", None).await.0, expected);
    }
    let push = fixture("full-person-10")["body"].clone();
    world.ask("cht", "POST", "/cht/push", Some(&push)).await;
    world.settled().await;
    let mut seen = Vec::new();
    let mut next = world.url("/fhir/AuditEvent?_count=2&agent=cht&date=ge2026");
    for (query, _) in [("agent=cht", 1), ("outcome=4", 6)] {
        let (status, bundle) = world.ask("ops", "GET", &format!("/fhir/AuditEvent?{query}"), None).await;
        assert_eq!((status, bundle["type"].as_str()), (200, Some("searchset")));
    }
    loop {
        let (status, bundle) = world.send(world.http.get(&next).basic_auth("ops", Some("secret"))).await;
        assert_eq!((status, bundle["resourceType"].as_str()), (200, Some("Bundle")), "{bundle}");
        for entry in bundle["entry"].as_array().into_iter().flatten() {
            let id = entry["resource"]["id"].as_str().expect("an id");
            assert!(
                entry["fullUrl"].as_str().is_some_and(|url| url.ends_with(&format!("/fhir/AuditEvent/{id}")))
            );
            seen.push(id.parse::<u64>().expect("a number"));
        }
        let links = bundle["link"].as_array().expect("links");
        match links.iter().find(|link| link["relation"] == "next") {
            Some(link) => next = link["url"].as_str().expect("a url").to_string(),
            None => break,
        }
    }
    assert!(
        seen.len() == 3 && seen.windows(2).all(|two| two[0] > two[1]),
        "newest first, each once: {seen:?}"
    );
    let (status, one) = world.ask("ops", "GET", &format!("/fhir/AuditEvent/{}", seen[0]), None).await;
    assert_eq!((status, one["id"].as_str()), (200, Some(seen[0].to_string().as_str())));
    for id in ["999999", "0", "01", "x", "9223372036854775807", "18446744073709551615"] {
        assert_eq!(world.ask("ops", "GET", &format!("/fhir/AuditEvent/{id}"), None).await.0, 404, "{id}");
    }
    for query in ["name=x", "action=Z", "date=soon", "_count=x", "entity=a,b", "_sort=date"] {
        let (status, outcome) = world.ask("ops", "GET", &format!("/fhir/AuditEvent?{query}"), None).await;
        assert_eq!((status, outcome["resourceType"].as_str()), (400, Some("OperationOutcome")), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_found_by_every_name_that_the_crosswalk_knows() {
    let world = guarded(&[]).await;
    let push = fixture("full-person-10")["body"].clone();
    let (uuid, shortcode) =
        (push["doc"]["_id"].as_str().expect("an id"), push["doc"]["patient_id"].as_str().expect("a code"));
    world.ask("cht", "POST", "/cht/push", Some(&push)).await;
    world.settled().await;
    let by_shortcode = json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "valueString": "y",
        "identifier": [{"system": "s", "value": "o1"}], "subject": {"identifier": {"system": "urn:cht:shortcode", "value": shortcode}}});
    assert_eq!(world.ask("emr", "POST", "/fhir/Observation", Some(&by_shortcode)).await.0, 201);
    world.settled().await;
    for name in [format!("urn:cht:uuid|{uuid}"), format!("urn:cht:shortcode|{shortcode}")] {
        let name: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
        let found = world.lines(&format!("&entity={name}")).await;
        let agents: Vec<String> = found.iter().map(told).collect();
        for who in ["cht>", "emr>", "cht-fhir-mediator>fhir"] {
            assert!(agents.iter().any(|line| line.starts_with(who)), "{who} in {agents:#?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lines_are_whole_in_order_and_verify_by_themselves() {
    let world = guarded(&[]).await;
    let journal = world.journal();
    for i in 0..1200 {
        journal.note(Event {
            at: i,
            by: Agent::mediator(),
            act: Act::Stopped,
            transaction: None,
            patients: Vec::new(),
        });
    }
    let lines = world.lines("").await;
    assert_eq!(lines.len(), 1202, "with the start, and this very search");
    let mut walk = Walk::default();
    for line in &lines {
        let (text, previous, hash) = chain_of(line).expect("its place in the chain");
        let seq = line["id"].as_str().and_then(|id| id.parse().ok()).expect("a number");
        walk.step(seq, text, hash, Some(previous)).map_err(|broken| broken.why).expect("whole");
    }
    let head: Option<(u64, Hash)> = journal.head().await.expect("a head");
    assert_eq!(head, Some((walk.seq, walk.head)));
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_recorded_is_not_shown() {
    let world = guarded(&[]).await;
    world.know_patient();
    world.ask("emr", "POST", "/fhir/ServiceRequest", Some(&ltfu("SR-1"))).await;
    let id = world.settled().await.remove(0).id;
    let path = world.settings.journal.url.trim_start_matches("sqlite:");
    std::fs::remove_file(path).expect("removed");
    for (who, path) in [
        ("emr", "/fhir/ServiceRequest/SR-1".to_string()),
        ("ops", "/transactions".into()),
        ("ops", format!("/transactions/{id}")),
        ("ops", "/fhir/AuditEvent".into()),
        ("ops", "/fhir/AuditEvent?_format=ndjson".into()),
        ("ops", "/fhir/AuditEvent/1".into()),
    ] {
        let (status, body) = world.ask(who, "GET", &path, None).await;
        assert!(status == 503 && body.to_string().contains("audit trail"), "{path}: {status} {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_refusals_leaves_few_records_and_their_number() {
    let mut world = guarded(&[]).await;
    for _ in 0..20 {
        let all = (0..20).map(|_| world.ask("", "GET", "/transactions", None));
        for one in all.collect::<Vec<_>>() {
            assert_eq!(one.await.0, 401);
        }
    }
    world.close().await;
    world.open().await;
    let told = world.told().await;
    let recorded = told.iter().filter(|line| line.contains("110122")).count() as u64;
    let counted = told
        .iter()
        .filter(|line| line.contains("110132"))
        .filter_map(|line| line.split(' ').nth(2)?.parse::<u64>().ok());
    // A minute may have ended in between.
    assert!((30..=60).contains(&recorded), "{recorded}");
    assert_eq!(recorded + counted.sum::<u64>(), 400, "{told:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_openhims_console_changes_is_told_once() {
    let him = openhim::start(any()).await.expect("an OpenHIM");
    let url = him.api_url();
    let mut world = World::closed(
        &[
            ("OPENHIM__ENABLED", "true"),
            ("OPENHIM__API_URL", url.as_str()),
            ("OPENHIM__USERNAME", openhim::USERNAME),
            ("OPENHIM__PASSWORD", openhim::PASSWORD),
            ("OPENHIM__HEARTBEAT_SECONDS", "1"),
        ],
        cht::Options::default(),
    )
    .await;
    world.settings.openhim.reachable_at = world.url("");
    world.open().await;
    him.configure(json!({"answer_within_ms": 1234}));
    let until = Instant::now() + Duration::from_secs(90);
    let changes = async || {
        world.told().await.into_iter().filter(|line| line.contains("110131 settings")).collect::<Vec<_>>()
    };
    while changes().await.is_empty() {
        assert!(Instant::now() < until, "never told");
    }
    him.configure(json!({"answer_within_ms": 1234}));
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let changes = changes().await;
    assert!(
        changes.len() == 1
            && changes[0].starts_with("OpenHIM's console>")
            && changes[0].contains("settings1234"),
        "{changes:?}"
    );
}

/// Trails outlive releases: what one has written, each later one verifies and shows as it was.
#[test]
fn a_trail_of_an_earlier_release_holds() {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/audit/trail.ndjson"));
    let (mut walk, mut kinds) = (Walk::default(), BTreeSet::new());
    for line in text.expect("a trail").lines() {
        let shown: Value = serde_json::from_str(line).expect("JSON");
        let (text, previous, hash) = chain_of(&shown).expect("its place in the chain");
        let record: Record = serde_json::from_str(text).expect("a record");
        walk.step(record.seq, text, hash, Some(previous)).map_err(|broken| broken.why).expect("whole");
        assert_eq!(serde_json::to_string(&record).expect("JSON"), text, "written as it was");
        kinds.insert(kind(&record.event.act));
        assert_eq!(audit_event(&Link { text: text.into(), record, previous, hash }), shown);
    }
    assert_eq!(kinds.len(), 14, "every kind of act: {kinds:?}");
}

/// A further kind does not compile here until the number above and the trail know it.
fn kind(act: &Act) -> &'static str {
    match act {
        Act::Accepted { .. } => "accepted",
        Act::Refused { .. } => "refused",
        Act::Counted { .. } => "counted",
        Act::Read { .. } => "read",
        Act::Searched { .. } => "searched",
        Act::Changed { .. } => "changed",
        Act::Reloaded { .. } => "reloaded",
        Act::Configured { .. } => "configured",
        Act::Delivered { .. } => "delivered",
        Act::Ended { .. } => "ended",
        Act::Started { .. } => "started",
        Act::Stopped => "stopped",
        Act::Removed { .. } => "removed",
        Act::Cut { .. } => "cut",
    }
}

/// <https://profiles.ihe.net/ITI/BALP/artifacts.html>, by the profile that each claims.
#[test]
fn the_trail_has_the_shapes_of_ihes_basic_audit_log_patterns() {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/audit/trail.ndjson"));
    let mut claimed = BTreeSet::new();
    for line in text.expect("a trail").lines() {
        let event: Value = serde_json::from_str(line).expect("JSON");
        let Some(profile) = event["meta"]["profile"][0].as_str() else { continue };
        let name =
            profile.strip_prefix("https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.");
        let name = name.unwrap_or_else(|| panic!("{profile}"));
        claimed.insert(name.to_string());
        // Type, subtype, action; the role of who asks, and of who answers; the role of what it is about.
        let (kind, subtype, action, client, server, role) = match name.trim_start_matches("Patient") {
            "Create" => ("rest", "create", "C", "110153", "110152", "20"),
            "Read" => (
                "rest",
                "read",
                "R",
                "110152",
                "110153",
                if event["entity"].to_string().contains("transaction") { "20" } else { "4" },
            ),
            "Query" => ("rest", "search-type", "E", "110153", "110152", "24"),
            "PrivacyDisclosure.Source" => ("110106", "disclose", "R", "110153", "110152", "20"),
            other => panic!("{other}"),
        };
        let said = (&event["type"]["code"], &event["subtype"][0]["code"], &event["action"]);
        assert_eq!(said, (&json!(kind), &json!(subtype), &json!(action)), "{event}");
        let agents = event["agent"].as_array().expect("agents");
        let codes: Vec<&str> =
            agents.iter().filter_map(|a| a["type"]["coding"][0]["code"].as_str()).collect();
        assert_eq!(codes, [client, server], "{event}");
        assert!(agents.iter().all(|a| a["who"].is_object()
            && a["network"]["address"].is_string()
            && a["requestor"].is_boolean()));
        let ours = if name.starts_with("Privacy") { &agents[0] } else { &agents[1] };
        assert_eq!(ours["who"], event["source"]["observer"], "the mediator observes");
        let of = |code: &str| {
            event["entity"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|e| e["type"]["code"] == code)
                .collect::<Vec<_>>()
        };
        let (people, objects) = (of("1"), of("2"));
        let one = name.starts_with("Patient") || name.starts_with("Privacy");
        assert!(if one { people.len() == 1 } else { people.len() != 1 }, "{event}");
        assert!(people.iter().all(|e| e["role"]["code"] == "1"
            && e["what"]["type"] == "Patient"
            && e["what"]["identifier"]["system"].is_string()));
        assert!(objects.len() == 1 && objects[0]["role"]["code"] == role, "{event}");
        assert_eq!(
            (objects[0]["query"].is_string(), objects[0]["what"].is_object()),
            (role == "24", role != "24"),
            "{event}"
        );
        assert!(name.starts_with("Privacy") || event["outcome"] == "0", "{event}");
    }
    assert_eq!(claimed.len(), 7, "{claimed:?}");
}
