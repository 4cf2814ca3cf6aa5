//! Neighbours that fail: nothing is lost, nothing is done twice, and it is seen.
use crate::world::{World, fixture, ltfu};
use cht_fhir_mediator::domain::audit::Agent;
use cht_fhir_mediator::flow::ports::Action;
use cht_fhir_mediator::standins::cht;
use serde_json::json;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_lost_after_the_effect_doubles_nothing() {
    // What is new is not yet in CHT's index when we look for the first time.
    let options = cht::Options { index_delay: Duration::from_millis(250), ..Default::default() };
    let world = World::with(&[], options).await;
    world.know_patient();
    world.cht.faults().on("POST", "/api/v2/records").drop_after_effect_next(2);
    world.fhir.faults().on("POST", "/fhir").drop_after_effect_next(2);
    world.post("/fhir/ServiceRequest", &ltfu("SR-1")).await;
    let rows = world.settled().await;
    assert!(rows.iter().all(|row| matches!(row.status.as_str(), "delivered" | "ignored")), "{}", json!(rows));
    assert_eq!(world.cht.reports().len(), 1);
    assert_eq!(world.fhir.resources("ServiceRequest").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_is_waited_for_and_its_callers_are_told_202() {
    let world = World::with(&[("SERVER__ANSWER_WITHIN_MS", "300")], cht::Options::default()).await;
    world.fhir.faults().set_down(true);
    let push = fixture("full-person-10");
    let (status, body) = world.post("/cht/push", &push["body"]).await;
    assert_eq!((status, body["status"].as_str()), (202, Some("open")));
    world.fhir.faults().set_down(false);
    assert_eq!(world.settled().await[0].status, "delivered");
    assert_eq!(world.fhir.resources("Patient").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permanent_refusal_is_shown_in_the_destinations_words_and_not_repeated() {
    let world = World::new().await;
    world.fhir.faults().on("POST", "/fhir").fail_next(1, 422);
    let (status, body) = world.post("/cht/push", &fixture("full-person-10")["body"]).await;
    assert_eq!((status, body["status"].as_str()), (200, Some("failed")), "{body}");
    tokio::time::sleep(Duration::from_millis(700)).await;
    let rows = world.settled().await;
    assert_eq!((rows[0].status.as_str(), rows[0].attempts), ("failed", 1));
    assert!(rows[0].error.as_deref().expect("words").contains("422"), "{:?}", rows[0].error);
    // An operator reruns it once the cause is gone.
    let house = world.house.as_ref().expect("open");
    house
        .corridor
        .change(&rows[0].id, Action::Rerun, Agent::mediator())
        .await
        .expect("written")
        .expect("rerun");
    assert_eq!(world.settled().await[0].status, "delivered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_200_that_cannot_be_understood_is_no_delivery() {
    for body in [
        "<html>the gateway says hi</html>",
        r#"{"resourceType": "Bundle", "type": "transaction-resp"#,
        r#"{"resourceType": "Bundle", "type": "transaction-response", "entry": []}"#,
        r#""ok""#,
        r#"{"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "timeout"}]}"#,
    ] {
        let world = World::new().await;
        world.fhir.faults().on("POST", "/fhir").say_next(2, 200, body);
        world.post("/cht/push", &fixture("full-person-10")["body"]).await;
        assert_eq!(world.settled().await[0].status, "delivered", "{body}");
        assert_eq!(world.fhir.resources("Patient").len(), 1, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_that_is_not_answered_finds_nothing_and_creates_nothing() {
    let world = World::new().await;
    world.know_patient();
    world.cht.faults().on("GET", "/api/v1/report/uuid").say_next(2, 200, r#"{"error": "starting"}"#);
    world.fhir.faults().on("GET", "/fhir/").say_next(3, 200, "{}");
    world.post("/fhir/ServiceRequest", &ltfu("SR-1")).await;
    world.post("/fhir/ServiceRequest", &ltfu("SR-1")).await;
    let rows = world.settled().await;
    assert!(rows.iter().all(|row| matches!(row.status.as_str(), "delivered" | "ignored")), "{}", json!(rows));
    assert_eq!(world.cht.reports().len(), 1);
    assert_eq!(world.fhir.resources("ServiceRequest").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_inside_a_200_is_a_failure_in_its_words() {
    let world = World::new().await;
    let error = r#"{"resourceType": "OperationOutcome",
        "issue": [{"severity": "error", "code": "invalid", "diagnostics": "no such ward"}]}"#;
    world.fhir.faults().on("POST", "/fhir").say_next(1, 200, error);
    world.post("/cht/push", &fixture("full-person-10")["body"]).await;
    let rows = world.settled().await;
    assert_eq!(rows[0].status, "failed");
    assert!(rows[0].error.as_deref().is_some_and(|e| e.contains("no such ward")), "{:?}", rows[0].error);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_a_server_chokes_on_keep_nobody_elses_out() {
    let further = [
        ("DELIVERY__BREAKER_FAILURES", "3"),
        ("DELIVERY__BREAKER_PAUSE_MS", "200"),
        ("DELIVERY__LONGEST_RETRY_MS", "60"),
        ("SERVER__ANSWER_WITHIN_MS", "100"),
        ("FHIR__TRANSACTIONS", "false"),
    ];
    let world = World::with(&further, cht::Options::default()).await;
    let person = |n: usize| {
        let mut push = fixture("full-person-10")["body"].clone();
        push["doc"]["_id"] = json!(format!("a54a8e4f-c505-4ed9-a6f2-{n:012}"));
        push["doc"]["patient_id"] = json!(format!("9000{n}"));
        push["doc"]["external_id"] = json!("");
        push
    };
    for n in 0..8 {
        let search = format!("/fhir/Patient?identifier=urn%3Acht%3Auuid%7Ca54a8e4f-c505-4ed9-a6f2-{n:012}");
        world.fhir.faults().on("GET", &search).fail_next(100_000, 500);
        world.post("/cht/push", &person(n)).await;
    }
    // Retries come three times as often as the gate would open for one.
    let started = Instant::now();
    for n in 100..110 {
        world.post("/cht/push", &person(n)).await;
    }
    world.until("the others to arrive", |world| world.fhir.resources("Patient").len() == 10).await;
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    world.fhir.faults().clear();
    assert!(world.settled().await.iter().all(|row| row.status == "delivered"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_closes_a_gate_names_no_patient_to_others() {
    let further = [("SERVER__ANSWER_WITHIN_MS", "50"), ("DELIVERY__BREAKER_PAUSE_MS", "8000")];
    let world = World::with(&further, cht::Options::default()).await;
    let words = r#"{"resourceType": "OperationOutcome",
        "issue": [{"severity": "error", "code": "exception", "diagnostics": "cannot index Achieng Otieno"}]}"#;
    world.fhir.faults().on("POST", "/fhir").say_next(1000, 500, words);
    for n in 0..5 {
        let mut push = fixture("full-person-10")["body"].clone();
        push["doc"]["_id"] = json!(format!("a54a8e4f-c505-4ed9-a6f2-{n:012}"));
        push["doc"]["patient_id"] = json!(format!("9000{n}"));
        push["doc"]["external_id"] = json!("");
        world.post("/cht/push", &push).await;
    }
    let other = json!({"resourceType": "Patient", "identifier": [{"system": "urn:mrn", "value": "77"}]});
    world.post("/fhir/Patient", &other).await;
    // On a busy machine it may be tried itself before the gate has closed: then it has words of its own.
    let mut error = String::new();
    for _ in 0..100 {
        let held = world.transactions().await.into_iter().find(|row| row.route == "/fhir/Patient");
        error = held.and_then(|row| row.error).unwrap_or_default();
        if error.contains("left alone") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(error.contains("left alone") && !error.contains("Achieng"), "{error}");
    world.fhir.faults().clear();
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_at_shutdown_is_told_202() {
    let mut world = World::new().await;
    world.fhir.faults().set_down(true);
    let waiting = world
        .http
        .post(world.url("/cht/push"))
        .json(&fixture("full-person-10")["body"])
        .header("connection", "close");
    let waiting = tokio::spawn(waiting.send());
    tokio::time::sleep(Duration::from_millis(500)).await;
    world.close().await;
    assert_eq!(waiting.await.expect("a task").expect("an answer").status(), 202);
    world.fhir.faults().set_down(false);
    world.open().await;
    assert_eq!(world.settled().await[0].status, "delivered");
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_honoured() {
    let world = World::with(&[("DELIVERY__BREAKER_FAILURES", "99")], cht::Options::default()).await;
    world.fhir.faults().on("POST", "/fhir").fail_next_retry_after(1, 503, "1");
    let started = Instant::now();
    world.post("/cht/push", &fixture("full-person-10")["body"]).await;
    world.settled().await;
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_subject_holds_back_itself_and_nobody_else() {
    let world = World::with(
        &[
            ("SERVER__ANSWER_WITHIN_MS", "100"),
            ("DELIVERY__FIRST_RETRY_MS", "2000"),
            ("DELIVERY__LONGEST_RETRY_MS", "2000"),
        ],
        cht::Options::default(),
    )
    .await;
    let stuck = fixture("full-person-10")["body"].clone();
    let mut newer = stuck.clone();
    newer["doc"]["phone"] = "+254712000199".into();
    world.fhir.faults().on("POST", "/fhir").fail_next(1, 500);
    world.post("/cht/push", &stuck).await;
    world.post("/cht/push", &newer).await;
    let (_, other) = world.post("/cht/push", &fixture("full-person-11")["body"]).await;
    assert_eq!(other["status"], "delivered");
    let rows = world.transactions().await;
    assert_eq!((rows[0].status.as_str(), rows[1].status.as_str()), ("open", "open"));
    assert_eq!(rows[1].waits_for.as_ref(), Some(&rows[0].id));
    world.settled().await;
    let patient =
        world.fhir.resources("Patient").into_iter().find(|p| p["name"][0]["text"] == "Achieng Otieno");
    assert_eq!(patient.expect("her")["telecom"][0]["value"], "+254712000199");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_password_stops_instead_of_locking_us_out() {
    let world = World::with(
        &[("CHT__PASSWORD", "wrong"), ("SERVER__ANSWER_WITHIN_MS", "300")],
        cht::Options::default(),
    )
    .await;
    world.know_patient();
    for i in 0..15 {
        world.post("/fhir/ServiceRequest", &ltfu(&format!("SR-{i}"))).await;
    }
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(world.cht.faults().calls().len(), 1, "one refusal is enough");
    let rows = world.transactions().await;
    assert!(rows.iter().all(|row| row.status == "open"));
    assert!(rows[0].error.as_deref().expect("words").contains("cht.password"), "{:?}", rows[0].error);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_saved_with_errors_is_a_failure_with_chts_words() {
    let world = World::new().await;
    world.know_patient();
    // Somebody took the public flag from the form.
    let mut options = cht::Options::default();
    options.forms["LTFU_REQUEST"]["public_form"] = json!(false);
    let strict = World::with(&[], options).await;
    strict.know_patient();
    let (status, body) = strict.post("/fhir/ServiceRequest", &ltfu("SR-1")).await;
    assert_eq!(status, 422, "{body}");
    assert!(body.to_string().contains("sys.facility_not_found"), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_takes_up_what_was_open() {
    let mut world = World::with(&[("SERVER__ANSWER_WITHIN_MS", "100")], cht::Options::default()).await;
    world.know_patient();
    world.fhir.faults().set_down(true);
    world.cht.faults().set_down(true);
    world.post("/cht/push", &fixture("full-person-11")["body"]).await;
    world.post("/fhir/ServiceRequest", &ltfu("SR-1")).await;
    world.close().await;
    world.fhir.faults().set_down(false);
    world.cht.faults().set_down(false);
    world.open().await;
    let rows = world.settled().await;
    assert!(rows.iter().all(|row| row.status != "failed"), "{}", json!(rows));
    assert_eq!((world.cht.reports().len(), world.fhir.resources("ServiceRequest").len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_to_two_destinations_has_a_state_for_each() {
    let second = cht_fhir_mediator::standins::fhir::start(crate::world::any(), Default::default())
        .await
        .expect("a server");
    let world = World::with(
        &[
            ("DESTINATIONS__LAB__URL", &second.url()),
            ("DELIVERY__TO", "{ default = [\"fhir\", \"lab\"] }"),
            ("SERVER__ANSWER_WITHIN_MS", "200"),
        ],
        cht::Options::default(),
    )
    .await;
    second.faults().set_down(true);
    world.post("/cht/push", &fixture("full-person-10")["body"]).await;
    world.until("the first has it", |w| w.fhir.resources("Patient").len() == 1).await;
    assert_eq!(world.transactions().await[0].status, "open");
    second.faults().set_down(false);
    assert_eq!(world.settled().await[0].status, "delivered");
    assert_eq!((world.fhir.resources("Patient").len(), second.resources("Patient").len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_transactions_gets_one_after_the_other() {
    let world = World::with(&[("FHIR__TRANSACTIONS", "false")], cht::Options::default()).await;
    world.fhir.faults().on("POST", "/fhir/Encounter").drop_after_effect_next(1);
    let (_, body) = world.post("/cht/push", &fixture("full-report-20")["body"]).await;
    world.settled().await;
    assert!(body["status"] == "delivered" || body["status"] == "open", "{body}");
    let bundles =
        world.fhir.faults().calls().iter().filter(|c| c.method == "POST" && c.path == "/fhir").count();
    assert_eq!(bundles, 0);
    let (patient, request) =
        (&world.fhir.resources("Patient")[0], &world.fhir.resources("ServiceRequest")[0]);
    assert_eq!(
        request["subject"]["reference"],
        format!("Patient/{}", patient["id"].as_str().unwrap_or_default())
    );
    assert!(world.fhir.ledger().values().all(|n| *n == 1));
}

/// Reruns the one transaction of this route that failed.
async fn rerun_failed(world: &World) {
    let rows = world.settled().await;
    let failed = rows.iter().find(|row| row.status == "failed").expect("a failed one");
    let house = world.house.as_ref().expect("open");
    house
        .corridor
        .change(&failed.id, Action::Rerun, Agent::mediator())
        .await
        .expect("written")
        .expect("rerun");
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_cht_refused_is_asked_again_when_it_is_rerun_or_sent_again() {
    for sent_again in [false, true] {
        let world = World::new().await;
        world.know_patient();
        world.cht.faults().on("POST", "/api/v2/records").say_next(
            1,
            500,
            r#"{"code": 500, "error": "Server error", "details": "Form not found: LTFU_REQUEST"}"#,
        );
        assert_eq!(world.post("/fhir/ServiceRequest", &ltfu("SR-1")).await.0, 422);
        assert!(world.cht.reports().is_empty());
        match sent_again {
            true => assert_eq!(world.post("/fhir/ServiceRequest", &ltfu("SR-1")).await.0, 201),
            false => rerun_failed(&world).await,
        }
        world.settled().await;
        assert_eq!(world.cht.reports().len(), 1, "sent again: {sent_again}");
        // And no more than once.
        assert_eq!(world.post("/fhir/ServiceRequest", &ltfu("SR-1")).await.0, 201);
        world.settled().await;
        assert_eq!(world.cht.reports().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn news_that_cht_refused_are_told_when_they_are_rerun() {
    let world = World::new().await;
    let push = fixture("full-report-09");
    world.cht.add_person(push["body"]["doc"]["patient"].clone());
    world.post("/cht/push", &push["body"]).await;
    world.settled().await;
    let mut task = world.fhir.resources("Task").remove(0);
    task["status"] = json!("accepted");
    world.cht.faults().on("POST", "/api/v2/records").say_next(
        1,
        500,
        r#"{"code": 500, "error": "Server error", "details": "Form not found: REF_BACK"}"#,
    );
    let id = task["id"].as_str().expect("an id").to_string();
    assert_eq!(world.put(&format!("/fhir/Task/{id}"), &task).await.0, 422);
    rerun_failed(&world).await;
    assert_eq!(world.cht.reports().len(), 1);
    world.put(&format!("/fhir/Task/{id}"), &task).await;
    world.settled().await;
    assert_eq!(world.cht.reports().len(), 1, "told once: {}", json!(world.transactions().await));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_there_but_cannot_be_read_back_is_not_made_twice() {
    let options = cht::Options { index_delay: Duration::from_millis(250), ..Default::default() };
    let world = World::with(&[], options).await;
    world.know_patient();
    // The look-up is `/api/v1/report/uuid?...`; what follows the POST is the reading back.
    world.cht.faults().on("POST", "/api/v2/records").hang_next(1, 30);
    let reading = world.cht.faults().on("GET", "/api/v1/report/");
    let http = world.http.clone();
    let (url, body) = (world.url("/fhir/ServiceRequest"), ltfu("SR-1"));
    let sent =
        tokio::spawn(async move { http.post(url).json(&body).send().await.expect("an answer").status() });
    world.until("the record is made", |world| !world.cht.reports().is_empty()).await;
    reading.fail_next(2, 500);
    assert_eq!(sent.await.expect("sent"), 201);
    world.settled().await;
    assert_eq!(world.cht.reports().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn different_words_about_one_patient_at_once_keep_their_order() {
    let world = World::new().await;
    let push = fixture("full-person-10")["body"].clone();
    let mut sent = Vec::new();
    for n in 0..60 {
        let mut body = push.clone();
        body["doc"]["phone"] = json!(format!("+2547120{n:05}"));
        let (http, url) = (world.http.clone(), world.url("/cht/push"));
        sent.push(tokio::spawn(async move {
            http.post(url).json(&body).send().await.expect("an answer").status()
        }));
    }
    for one in sent {
        assert!(one.await.expect("sent").is_success());
    }
    world.settled().await;
    let journal = world.house.as_ref().expect("open").corridor.journal().clone();
    let rows = world.transactions().await;
    assert_eq!(rows.len(), 60);
    let newest = journal.transaction(&rows[59].id).await.expect("read").expect("there");
    let newest: serde_json::Value = serde_json::from_slice(&newest.body).expect("JSON");
    assert_eq!(world.fhir.resources("Patient")[0]["telecom"][0]["value"], newest["doc"]["phone"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_hangs_up_loses_nothing() {
    use tokio::io::AsyncWriteExt;
    let world = World::new().await;
    let push = fixture("full-person-10")["body"].clone();
    for n in 0..30 {
        let mut body = push.clone();
        body["doc"]["_id"] = json!(format!("a54a8e4f-c505-4ed9-a6f2-{n:012}"));
        (body["doc"]["patient_id"], body["doc"]["external_id"]) = (json!(format!("9{n:04}")), json!(""));
        let body = body.to_string();
        let mut stream = tokio::net::TcpStream::connect(world.settings.server.listen).await.expect("open");
        let head = format!(
            "POST /cht/push HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.expect("sent");
        stream.write_all(body.as_bytes()).await.expect("sent");
        // Some are gone before the write, some during it.
        tokio::time::sleep(Duration::from_micros(n * 300)).await;
        drop(stream);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let rows = world.settled().await;
    assert_eq!(world.fhir.resources("Patient").len(), rows.len());
    assert!(rows.len() > 10, "{}", rows.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_tried_once_however_many_wait() {
    let world = World::with(
        &[("CHT__PASSWORD", "wrong"), ("SERVER__ANSWER_WITHIN_MS", "300")],
        cht::Options::default(),
    )
    .await;
    world.know_patient();
    let mut sent = Vec::new();
    for n in 0..20 {
        let (http, url, body) =
            (world.http.clone(), world.url("/fhir/ServiceRequest"), ltfu(&format!("SR-{n}")));
        sent.push(tokio::spawn(async move {
            http.post(url).json(&body).send().await.expect("an answer").status()
        }));
    }
    for one in sent {
        assert_eq!(one.await.expect("sent"), 202);
    }
    let tried = world.cht.faults().calls().len();
    assert!(tried < 10, "CHT locks an address out after ten: {tried}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_takes_note_once_of_what_is_not_ours() {
    let world = World::with(&[("FHIR__POLL_SECONDS", "1")], cht::Options::default()).await;
    world.fhir.add(json!({"resourceType": "Task", "status": "completed", "intent": "order",
        "identifier": [{"system": "urn:cht:report", "value": "of-another-mediator"}]}));
    tokio::time::sleep(Duration::from_millis(3500)).await;
    let rows = world.settled().await;
    assert_eq!((rows.len(), rows[0].status.as_str()), (1, "ignored"), "{}", json!(rows));
}
