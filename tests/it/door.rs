//! Who may come in, with what, and how others are sent away.
use crate::world::{World, ltfu};
use cht_fhir_mediator::http::auth::hash_secret;
use cht_fhir_mediator::standins::cht;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn guarded() -> World {
    let hash = |secret| hash_secret(secret).expect("a hash");
    let clients = json!([
        {"id": "cht", "secret": hash("push-secret"), "roles": ["push"]},
        {"id": "emr", "secret": hash("fhir-secret"), "roles": ["fhir"]},
        {"id": "ops", "secret": hash("admin-secret"), "roles": ["admin"]},
    ]);
    World::with(&[("CLIENTS", &clients.to_string())], cht::Options::default()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_route_takes_its_roles_only() {
    let world = guarded().await;
    let who =
        [("", ""), ("cht", "push-secret"), ("emr", "fhir-secret"), ("ops", "admin-secret"), ("emr", "wrong")];
    for (method, path, may) in [
        ("POST", "/cht/push", [401, 200, 403, 403, 401]),
        ("POST", "/mediator/cht/push", [401, 200, 403, 403, 401]),
        // CHT is answered 2xx whatever becomes of it; an EMR is told.
        ("POST", "/patient", [401, 200, 422, 403, 401]),
        ("POST", "/fhir/Practitioner", [401, 200, 400, 403, 401]),
        ("POST", "/fhir/Patient", [401, 403, 400, 403, 401]),
        ("POST", "/fhir", [401, 403, 400, 403, 401]),
        ("PUT", "/fhir/Patient/1", [401, 403, 400, 403, 401]),
        ("GET", "/transactions", [401, 403, 403, 200, 401]),
        ("POST", "/transactions/x/rerun", [401, 403, 403, 409, 401]),
        ("GET", "/transactions/x", [401, 404, 404, 404, 401]),
    ] {
        for ((id, secret), expected) in who.iter().zip(may) {
            let mut request = world.http.request(method.parse().expect("a method"), world.url(path));
            if !id.is_empty() {
                request = request.basic_auth(id, Some(secret));
            }
            if method != "GET" {
                request = request.json(&json!({"doc": {}}));
            }
            let (status, body) = world.send(request).await;
            assert_eq!(status, expected, "{method} {path} as {id}: {body}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_bodies_get_an_outcome_that_names_the_element() {
    let world = World::new().await;
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    for (path, body, expected, words) in [
        ("/fhir/Patient", "{".to_string(), 400, "not JSON"),
        ("/fhir/Patient", "[]".into(), 400, "not a JSON object"),
        ("/fhir/Patient", format!("{{\"a\":{deep}}}"), 400, "nested"),
        ("/fhir/Patient", r#"{"resourceType":"Patient","resourceType":"Patient"}"#.into(), 400, "twice"),
        ("/fhir/Patient", r#"{"resourceType":"Patient","name":"A"}"#.into(), 400, "Patient.name"),
        ("/fhir/Patient", r#"{"resourceType":"Task"}"#.into(), 400, "Task.resourceType"),
        ("/fhir/Patient", r#"{"resourceType":"Patient","birthDate":"1990-13-01"}"#.into(), 400, "Patient.birthDate"),
        ("/fhir/Medication", r#"{"resourceType":"Medication"}"#.into(), 404, "Medication is not taken"),
        ("/fhir", r#"{"resourceType":"Bundle","type":"transaction","entry":[{"resource":{"resourceType":"Patient","gender":1},"request":{"method":"POST","url":"Patient"}}]}"#.into(),
            400, "Bundle.entry[0].resource.gender"),
        ("/fhir", r#"{"resourceType":"Bundle","type":"batch","entry":{"resource":{"resourceType":"Patient"}}}"#.into(), 400, "Bundle.entry"),
        ("/fhir", r#"{"resourceType":"Bundle","type":"transaction","entry":[{"resource":{"resourceType":"Patient"},"request":{"method":"PUT","url":"Observation/1"}}]}"#.into(),
            400, "Bundle.entry[0].request.url"),
        ("/fhir/Patient", format!("{{\"a\":{}{}}}", "[".repeat(64), "]".repeat(64)), 400, "nested deeper than 64"),
        ("/fhir/%ff", "{}".into(), 400, "path"),
        ("/nothing", "{}".into(), 404, "nothing at this path"),
    ] {
        let request = world.http.post(world.url(path)).header("content-type", "application/fhir+json").body(body.clone());
        let (status, answer) = world.send(request).await;
        assert_eq!(status, expected, "{body} {answer}");
        assert_eq!(answer["resourceType"], "OperationOutcome", "{answer}");
        assert!(answer.to_string().contains(words), "{words}: {answer}");
    }
    let zap = json!({"resourceType": "Patient", "identifier": "zap"});
    assert_eq!(world.put("/fhir/Patient?identifier=a%7Cb", &zap).await.0, 400);
    let invalid = world
        .http
        .post(world.url("/cht/push"))
        .header("content-type", "application/json")
        .body(b"{\"doc\":\"\xff\"}".to_vec());
    assert_eq!(world.send(invalid).await.0, 400);
    let zipped = world.http.post(world.url("/cht/push")).header("content-encoding", "gzip").body("x");
    assert_eq!(world.send(zipped).await.0, 415);
    let xml =
        world.http.post(world.url("/fhir")).header("content-type", "application/fhir+xml").body("<Bundle/>");
    assert_eq!(world.send(xml).await.0, 415);
    assert!(world.transactions().await.is_empty(), "nothing of it was journaled");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_or_too_slow_is_sent_away() {
    let world = World::with(
        &[("SERVER__MAX_BODY_BYTES", "1000"), ("SERVER__READ_TIMEOUT_MS", "500")],
        cht::Options::default(),
    )
    .await;
    let large = world.http.post(world.url("/cht/push")).json(&json!({"doc": {"x": "y".repeat(2000)}}));
    assert_eq!(world.send(large).await.0, 413);
    for head in ["POST /cht/push HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{", "POST /cht/push HT"] {
        let mut stream =
            tokio::net::TcpStream::connect(world.settings.server.listen).await.expect("connected");
        stream.write_all(head.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        let ended =
            tokio::time::timeout(std::time::Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "a slow sender holds its connection: {head}");
    }
    let mut stream = tokio::net::TcpStream::connect(world.settings.server.listen).await.expect("connected");
    let _ = stream
        .write_all(format!("GET / HTTP/1.1\r\nHost: x\r\nX-A: {}\r\n\r\n", "a".repeat(200_000)).as_bytes())
        .await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(
        String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 431"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_answered_entry_by_entry() {
    let world = World::new().await;
    world.know_patient();
    let post = |resource: Value| json!({"resource": resource.clone(), "request": {"method": "POST", "url": resource["resourceType"]}});
    let mut nobody = ltfu("SR-2");
    nobody["subject"] = json!({"identifier": {"system": "urn:mrn", "value": "nobody"}});
    let bundle = json!({"resourceType": "Bundle", "type": "batch", "entry": [
        post(ltfu("SR-1")), post(nobody), post(json!({"resourceType": "Patient", "name": "A"})), {"request": {"method": "DELETE", "url": "Patient/1"}}]});
    let (status, body) = world.post("/fhir", &bundle).await;
    assert_eq!((status, body["type"].as_str()), (200, Some("batch-response")));
    let codes: Vec<&str> = body["entry"]
        .as_array()
        .expect("entries")
        .iter()
        .map(|e| &e["response"]["status"].as_str().unwrap_or_default()[..3])
        .collect();
    assert_eq!(codes, ["201", "422", "400", "400"], "{body}");
    assert_eq!(
        body["entry"][2]["response"]["outcome"]["issue"][0]["expression"][0],
        "Bundle.entry[2].resource.name"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_is_one_act_and_one_body() {
    let world = World::new().await;
    world.know_patient();
    let send = |body: Value| {
        world.send(
            world.http.post(world.url("/fhir/ServiceRequest")).header("idempotency-key", "k1").json(&body),
        )
    };
    let mut anonymous = ltfu("x");
    anonymous.as_object_mut().expect("an object").remove("identifier");
    let first = send(anonymous.clone()).await;
    assert_eq!(first.0, 201);
    assert_eq!(send(anonymous).await, first);
    assert_eq!(send(ltfu("other")).await.0, 422);
    assert_eq!(world.cht.reports().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_is_one_act_for_each_entry_of_a_batch() {
    let world = World::new().await;
    let send = |name: &str| {
        let entry = |value: &str| {
            json!({"resource": {"resourceType": "Organization", "identifier": [{"system": "s", "value": value}],
                "name": name}, "request": {"method": "POST", "url": "Organization"}})
        };
        let body = json!({"resourceType": "Bundle", "type": "batch", "entry": [entry("1"), entry("2")]});
        world.send(world.http.post(world.url("/fhir")).header("idempotency-key", "k1").json(&body))
    };
    let first = send("One").await;
    assert_eq!(send("One").await, first);
    let (_, other) = send("Two").await;
    for i in [0, 1] {
        assert_eq!(first.1["entry"][i]["response"]["status"], "201 Created");
        assert_eq!(other["entry"][i]["response"]["status"], "422 Unprocessable Entity", "{other}");
    }
    world.settled().await;
    assert!(world.fhir.resources("Organization").iter().all(|o| o["name"] == "One"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_journal_is_503_and_nothing_is_accepted() {
    let world = World::with(
        &[("JOURNAL__MAX_OPEN", "2"), ("SERVER__ANSWER_WITHIN_MS", "50")],
        cht::Options::default(),
    )
    .await;
    world.fhir.faults().set_down(true);
    let mut codes = Vec::new();
    for i in 0..4 {
        let body = json!({"doc": {"_id": format!("a54a8e4f-c505-4ed9-a6f2-eb7bdad2fb{i:02}"), "type": "person", "name": "Test Person"}});
        let answer = world.http.post(world.url("/cht/push")).json(&body).send().await.expect("an answer");
        if answer.status() == 503 {
            assert!(answer.headers().contains_key("retry-after"));
        }
        codes.push(answer.status().as_u16());
    }
    assert_eq!(codes, [202, 202, 503, 503]);
    assert_eq!(world.transactions().await.len(), 2);
}

/// As deep as is taken, and what is kept of it can still be read.
#[tokio::test(flavor = "multi_thread")]
async fn a_deep_body_arrives_after_a_restart() {
    let mut world = World::with(&[("SERVER__ANSWER_WITHIN_MS", "50")], cht::Options::default()).await;
    let extension = (0..30)
        .fold(json!({"url": "x", "valueString": "y"}), |inner, _| json!({"url": "x", "extension": [inner]}));
    let patient = json!({"resourceType": "Patient", "identifier": [{"system": "s", "value": "deep"}], "extension": [extension]});
    world.fhir.faults().set_down(true);
    assert_eq!(world.post("/fhir/Patient", &patient).await.0, 202);
    world.close().await;
    world.fhir.faults().set_down(false);
    world.open().await;
    let rows = world.settled().await;
    assert_eq!(rows[0].status, "delivered", "{:?}", rows[0].error);
    let (status, shown) = world.get(&format!("/transactions/{}", rows[0].id)).await;
    assert_eq!((status, shown["status"].as_str()), (200, Some("delivered")));
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_accepted_into_a_journal_that_was_removed() {
    let world = World::new().await;
    let push = &crate::world::fixture("full-person-10")["body"];
    assert_eq!(world.get("/health/ready").await.0, 200);
    let path = world.settings.journal.url.trim_start_matches("sqlite:");
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{path}{suffix}"));
    }
    assert_eq!(world.post("/cht/push", push).await.0, 503);
    let (status, body) = world.get("/health/ready").await;
    assert_eq!(status, 503);
    assert!(body["error"].as_str().is_some_and(|e| e.contains("removed")), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_mediator_on_the_same_journal_does_not_start() {
    let world = World::new().await;
    let mut settings = world.settings.clone();
    settings.server.listen.set_port(crate::world::free_port());
    let second = cht_fhir_mediator::house::House::open(&settings).await;
    assert!(second.err().is_some_and(|e| e.contains("another mediator")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emr_reads_its_own_requests_only() {
    let hash = |secret| hash_secret(secret).expect("a hash");
    let clients = json!([
        {"id": "one", "secret": hash("1"), "roles": ["fhir"]},
        {"id": "two", "secret": hash("2"), "roles": ["fhir"]},
    ]);
    let world = World::with(&[("CLIENTS", &clients.to_string())], cht::Options::default()).await;
    world.know_patient();
    let url = world.url("/fhir/ServiceRequest");
    let post = world.http.post(&url).basic_auth("one", Some("1")).json(&ltfu("SR-1"));
    let (status, made) = world.send(post).await;
    assert_eq!(status, 201);
    for id in ["SR-1", made["id"].as_str().expect("an id")] {
        let read = |who, secret| world.http.get(format!("{url}/{id}")).basic_auth(who, Some(secret));
        assert_eq!(world.send(read("one", "1")).await.0, 200, "{id}");
        assert_eq!(world.send(read("two", "2")).await.0, 404, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_metrics_name_no_patient() {
    let world = World::new().await;
    world.know_patient();
    world.post("/cht/push", &crate::world::fixture("full-person-10")["body"]).await;
    world.post("/fhir/ServiceRequest", &ltfu("SR-1")).await;
    assert_eq!(world.get("/").await.1["status"], "success");
    assert_eq!(world.get("/health/live").await.0, 200);
    let (status, ready) = world.get("/health/ready").await;
    assert_eq!((status, ready["status"].as_str()), (200, Some("ready")));
    let metrics =
        world.http.get(world.url("/metrics")).send().await.expect("metrics").text().await.expect("text");
    assert!(metrics.contains("transactions_accepted"), "{metrics}");
    for secret in ["Achieng", "Otieno", "254712000101", "1992-03-14", "83288", crate::world::PATIENT] {
        assert!(!metrics.contains(secret) && !ready.to_string().contains(secret), "{secret}");
    }
    let capability = world.get("/fhir/metadata").await.1;
    assert_eq!(capability["fhirVersion"], "4.0.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_valid_is_refused_with_its_place_or_flagged_where_that_is_wanted() {
    let body = "{\n \"resourceType\": \"Observation\",\n \"status\": \"final\",\n \"code\": {\"text\": \"x\"},\n \"valueQuantity\": {\"value\": 1.10, \"unitt\": \"kg\"}\n}";
    let world = World::new().await;
    let send = |world: &World| {
        let request =
            world.http.post(world.url("/fhir/Observation")).header("content-type", "application/fhir+json");
        request.body(body.to_string())
    };
    let (status, outcome) = world.send(send(&world)).await;
    let issue = &outcome["issue"][0];
    assert_eq!((status, &issue["expression"][0]), (400, &json!("Observation.valueQuantity.unitt")));
    let words = issue["diagnostics"].as_str().unwrap_or_default();
    assert!(words.contains("did you mean unit?") && words.contains("line 5, column 35"), "{words}");

    let world =
        World::with(&[("SERVER__FLAG_INVALID", "[\"/fhir/Observation\"]")], cht::Options::default()).await;
    let right = body.replace("unitt", "code");
    let request =
        world.http.post(world.url("/fhir/Observation")).header("content-type", "application/fhir+json");
    let (status, answer) = world.send(request.body(right)).await;
    assert_eq!(status, 201, "{answer}");
    world.settled().await;
    let stored = world.fhir.resources("Observation").remove(0);
    assert_eq!(stored["valueQuantity"]["value"].to_string(), "1.10", "digits are kept");
    let (status, _) =
        world.post("/fhir/Patient", &json!({"resourceType": "Patient", "gender": "femal"})).await;
    assert_eq!(status, 400, "other routes refuse");
}
