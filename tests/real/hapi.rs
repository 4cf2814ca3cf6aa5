//! Both journeys and every recorded push, with a real HAPI FHIR R4 server.
use crate::world::{PATIENT, World, fixture, free_port, ltfu};
use cht_fhir_mediator::standins::cht;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

struct Hapi {
    child: Child,
    url: String,
    http: reqwest::Client,
}

impl Hapi {
    async fn start() -> Self {
        let port = free_port();
        let child = crate::part("hapi/up.sh")
            .arg(port.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let http = cht_fhir_mediator::standins::client(Duration::from_secs(30)).expect("a client");
        let hapi = Self { child: child.expect("a HAPI"), url: format!("http://127.0.0.1:{port}/fhir"), http };
        let until = Instant::now() + Duration::from_secs(600);
        while hapi.http.get(format!("{}/metadata", hapi.url)).send().await.is_err() {
            assert!(Instant::now() < until, "HAPI does not come up");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        hapi
    }

    async fn get(&self, path: &str) -> Value {
        let request = self.http.get(format!("{}/{path}", self.url)).header("cache-control", "no-cache");
        request.send().await.expect("an answer").json().await.expect("JSON")
    }

    /// Every resource of a type.
    async fn all(&self, kind: &str) -> Vec<Value> {
        let mut found = Vec::new();
        let mut next = Some(format!("{}/{kind}?_count=200", self.url));
        while let Some(url) = next {
            let page: Value = self
                .http
                .get(url)
                .header("cache-control", "no-cache")
                .send()
                .await
                .expect("an answer")
                .json()
                .await
                .expect("JSON");
            found.extend(page["entry"].as_array().into_iter().flatten().map(|e| e["resource"].clone()));
            let links = page["link"].as_array().cloned().unwrap_or_default();
            next = links
                .iter()
                .find(|l| l["relation"] == "next")
                .and_then(|l| l["url"].as_str().map(String::from));
        }
        // Pages of an unsorted search may overlap.
        found.sort_by_key(|r| r["id"].as_str().map(String::from));
        found.dedup_by_key(|r| r["id"].as_str().map(String::from));
        found
    }

    async fn by_identifier(&self, kind: &str, token: &str) -> Value {
        let page =
            self.get(&format!("{kind}?identifier={}", token.replace('|', "%7C").replace('#', "%23"))).await;
        let entries = page["entry"].as_array().cloned().unwrap_or_default();
        assert_eq!(entries.len(), 1, "{kind} {token}");
        entries[0]["resource"].clone()
    }

    async fn put(&self, resource: &Value) {
        let path = format!(
            "{}/{}/{}",
            self.url,
            resource["resourceType"].as_str().expect("a type"),
            resource["id"].as_str().expect("an id")
        );
        let answer = self
            .http
            .put(path)
            .header("content-type", "application/fhir+json")
            .body(resource.to_string())
            .send()
            .await
            .expect("an answer");
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap_or_default());
    }

    /// Resources that share an identifier with another of their type.
    async fn doubled(&self) -> Vec<String> {
        let mut seen = BTreeMap::<String, usize>::new();
        for kind in [
            "Patient",
            "Practitioner",
            "Encounter",
            "Observation",
            "ServiceRequest",
            "Task",
            "Location",
            "Organization",
            "Endpoint",
            "DiagnosticReport",
        ] {
            for resource in self.all(kind).await {
                for identifier in resource["identifier"].as_array().into_iter().flatten() {
                    *seen
                        .entry(format!("{kind} {}|{}", identifier["system"], identifier["value"]))
                        .or_default() += 1;
                }
            }
        }
        seen.into_iter().filter(|(_, n)| *n > 1).map(|(key, _)| key).collect()
    }
}

impl Drop for Hapi {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn world(hapi: &Hapi, further: &[(&str, &str)]) -> World {
    let mut all = vec![("FHIR__URL", hapi.url.as_str()), ("SERVER__ANSWER_WITHIN_MS", "30000")];
    all.extend_from_slice(further);
    World::with(&all, cht::Options::default()).await
}

async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let until = Instant::now() + Duration::from_secs(300);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < until, "never: {what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn states(world: &World) -> Vec<String> {
    let reports = world.cht.reports().into_iter().filter(|r| r["form"] == "REF_BACK");
    reports.filter_map(|r| r["fields"]["status"].as_str().map(String::from)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_house_with_a_real_hapi() {
    if !crate::have_java("real HAPI FHIR") {
        return;
    }
    let hapi = Hapi::start().await;
    referral_with_news_by_polling(&hapi).await;
    lost_to_follow_up_with_a_restart_on_the_way(&hapi).await;
    news_by_a_real_subscription(&hapi).await;
    asked_and_withdrawn_by_a_real_subscription(&hapi).await;
    a_list_of_300_with_seven_bad_ones(&hapi).await;
    twelve_contacts_of_whom_three_are_known(&hapi).await;
    a_patient_made_elsewhere_is_changed_replaced_and_dies(&hapi).await;
    results_with_a_restart_on_the_way(&hapi).await;
    many_at_once_by_one_worker(&hapi).await;
    every_recorded_push(&hapi).await;
    killed_in_the_middle(&hapi).await;
    assert_eq!(hapi.doubled().await, Vec::<String>::new());
}

async fn referral_with_news_by_polling(hapi: &Hapi) {
    let world = world(hapi, &[("FHIR__POLL_SECONDS", "1")]).await;
    let push = fixture("full-report-20")["body"].clone();
    world.cht.add_person(push["doc"]["patient"].clone());
    let (status, body) = world.post("/cht/push", &push).await;
    assert_eq!((status, body["status"].as_str()), (200, Some("delivered")), "{body}");
    let token = format!("urn:cht:report|{}", push["doc"]["_id"].as_str().expect("an id"));
    let mut task = hapi.by_identifier("Task", &token).await;
    let request = hapi.by_identifier("ServiceRequest", &token).await;
    assert_eq!(
        task["focus"]["reference"],
        format!("ServiceRequest/{}", request["id"].as_str().unwrap_or_default())
    );
    for status in ["accepted", "completed"] {
        task["status"] = json!(status);
        hapi.put(&task).await;
        until("the news", || async { states(&world).iter().any(|s| s == status).then_some(()) }).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(states(&world), ["accepted", "completed"], "once each, in order");
    // The report is edited: what the clinic did stays.
    let mut edited = push.clone();
    edited["doc"]["fields"]["g_malaria"]["malaria_temp"] = json!("38.7");
    assert_eq!(world.post("/cht/push", &edited).await.1["status"], "delivered");
    assert_eq!(hapi.by_identifier("Task", &token).await["status"], "completed");
}

async fn lost_to_follow_up_with_a_restart_on_the_way(hapi: &Hapi) {
    let mut world = world(hapi, &[]).await;
    world.know_patient();
    let (status, body) = world.post("/fhir/ServiceRequest", &ltfu("SR-REAL-1")).await;
    assert_eq!(status, 201, "{body}");
    assert_eq!(hapi.by_identifier("ServiceRequest", "urn:emr:requests|SR-REAL-1").await["status"], "on-hold");
    world.close().await;
    let record = world.cht.reports()[0]["_id"].as_str().expect("an id").to_string();
    let report = world.cht.complete_follow_up(
        &record,
        "ltfu_follow_up",
        json!({"outcome": "found", "next_visit": "2026-12-01"}),
    );
    let report = report.expect("a report");
    assert!(!world.cht.push(&report).await, "nobody is there to take it");
    world.open().await;
    assert_eq!(world.cht.push_again().await, 0);
    world.settled().await;
    let request = hapi.by_identifier("ServiceRequest", "urn:emr:requests|SR-REAL-1").await;
    assert_eq!(request["status"], "completed");
    let encounter = hapi
        .by_identifier("Encounter", &format!("urn:cht:report|{}", report["_id"].as_str().expect("an id")))
        .await;
    assert_eq!(
        encounter["basedOn"][0]["reference"],
        format!("ServiceRequest/{}", request["id"].as_str().unwrap_or_default())
    );
    let patient = hapi.by_identifier("Patient", &format!("urn:cht:uuid|{PATIENT}")).await;
    assert_eq!(
        encounter["subject"]["reference"],
        format!("Patient/{}", patient["id"].as_str().unwrap_or_default())
    );
    let outcome = hapi
        .by_identifier(
            "Observation",
            &format!("urn:cht:report|{}#outcome", report["_id"].as_str().expect("an id")),
        )
        .await;
    assert_eq!(outcome["valueString"], "found");
}

/// HAPI tells us by PUT `<endpoint>/Task/<id>`; the client that it is has HAPI's ids.
async fn news_by_a_real_subscription(hapi: &Hapi) {
    let hash = cht_fhir_mediator::http::auth::hash_secret("hook-secret").expect("a hash");
    let clients = json!([
        {"id": "hapi", "secret": hash, "roles": ["fhir"], "destination": "fhir"},
        {"id": "cht", "secret": hash, "roles": ["push"]}]);
    let world = world(hapi, &[("CLIENTS", &clients.to_string())]).await;
    let subscription = json!({"resourceType": "Subscription", "status": "requested", "reason": "news",
        "criteria": "Task?status=accepted,completed,rejected",
        "channel": {"type": "rest-hook", "endpoint": world.url("/fhir"), "payload": "application/fhir+json",
            "header": ["Authorization: Basic aGFwaTpob29rLXNlY3JldA=="]}});
    let posted =
        hapi.http.post(format!("{}/Subscription", hapi.url)).header("content-type", "application/fhir+json");
    let made: Value =
        posted.body(subscription.to_string()).send().await.expect("an answer").json().await.expect("JSON");
    let id = made["id"].as_str().expect("an id").to_string();
    let path = format!("Subscription/{id}");
    until("an active Subscription", || async { (hapi.get(&path).await["status"] == "active").then_some(()) })
        .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let push = fixture("full-report-05")["body"].clone();
    world.cht.add_person(push["doc"]["patient"].clone());
    let request = world.http.post(world.url("/cht/push")).basic_auth("cht", Some("hook-secret")).json(&push);
    let (status, body) = world.send(request).await;
    assert_eq!((status, body["status"].as_str()), (200, Some("delivered")), "{body}");
    let token = format!("urn:cht:report|{}", push["doc"]["_id"].as_str().expect("an id"));
    let mut task = hapi.by_identifier("Task", &token).await;
    task["status"] = json!("rejected");
    task["statusReason"] = json!({"text": "patient did not come"});
    hapi.put(&task).await;
    until("the news", || async { (!states(&world).is_empty()).then_some(()) }).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(states(&world), ["rejected"]);
    assert_eq!(world.cht.reports()[0]["fields"]["note"], "patient did not come");
    let gone = hapi.http.delete(format!("{}/Subscription/{id}", hapi.url)).send().await.expect("an answer");
    assert!(gone.status().is_success());
}

/// The EMR's server is HAPI, and tells us of all that happens to its requests, also of what we write there.
async fn asked_and_withdrawn_by_a_real_subscription(hapi: &Hapi) {
    let hash = cht_fhir_mediator::http::auth::hash_secret("hook-secret").expect("a hash");
    let clients = json!([
        {"id": "hapi", "secret": hash, "roles": ["fhir"], "destination": "fhir"},
        {"id": "cht", "secret": hash, "roles": ["push"]}]);
    let options =
        cht::Options { outbound_auth: Some(("cht".into(), "hook-secret".into())), ..Default::default() };
    let further = [("FHIR__URL", hapi.url.as_str()), ("CLIENTS", &clients.to_string())];
    let mut world = World::with(&further, options).await;
    let uuid = "d64a8e4f-c505-4ed9-a6f2-eb7bdad2fb9d";
    world
        .cht
        .add_person(json!({"_id": uuid, "type": "person", "name": "Nafula Wekesa", "patient_id": "64001"}));
    let create = async |resource: Value| -> Value {
        let url = format!("{}/{}", hapi.url, resource["resourceType"].as_str().expect("a type"));
        let post =
            hapi.http.post(url).header("content-type", "application/fhir+json").body(resource.to_string());
        post.send().await.expect("an answer").json().await.expect("JSON")
    };
    let hook = create(json!({"resourceType": "Subscription", "status": "requested", "reason": "requests",
        "criteria": "ServiceRequest?intent=order", "channel": {"type": "rest-hook", "endpoint": world.url("/fhir"),
        "payload": "application/fhir+json", "header": ["Authorization: Basic aGFwaTpob29rLXNlY3JldA=="]}}))
    .await;
    let hook = format!("Subscription/{}", hook["id"].as_str().expect("an id"));
    until("an active Subscription", || async { (hapi.get(&hook).await["status"] == "active").then_some(()) })
        .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let patient = create(json!({"resourceType": "Patient", "name": [{"text": "Nafula Wekesa"}],
        "identifier": [{"system": "urn:cht:uuid", "value": uuid}]}))
    .await;
    let ask = |name: &str| {
        let mut request = ltfu(name);
        request["subject"] =
            json!({"reference": format!("Patient/{}", patient["id"].as_str().expect("an id"))});
        request
    };
    let count = |world: &World, form: &str| world.cht.reports().iter().filter(|r| r["form"] == form).count();
    for (n, name) in ["SR-HOOK-1", "SR-HOOK-2"].into_iter().enumerate() {
        let made = create(ask(name)).await;
        let path = format!("ServiceRequest/{}", made["id"].as_str().expect("an id"));
        until("the request is claimed", || async {
            (hapi.get(&path).await["status"] == "on-hold").then_some(())
        })
        .await;
        world.settled().await;
        assert_eq!(count(&world, "LTFU_REQUEST"), n + 1);
        world.close().await;
        world.open().await;
        let mut now = hapi.get(&path).await;
        if n == 0 {
            now["status"] = json!("revoked");
            hapi.put(&now).await;
            until("the task is gone", || async { (count(&world, "LTFU_CANCEL") == 1).then_some(()) }).await;
        } else {
            let record = world.cht.reports().into_iter().rfind(|r| r["form"] == "LTFU_REQUEST");
            let record = record.expect("a record")["_id"].as_str().expect("an id").to_string();
            let report = world.cht.complete_follow_up(&record, "ltfu_follow_up", json!({"outcome": "moved"}));
            assert!(world.cht.push(&report.expect("a report")).await);
            until("the outcome", || async { (hapi.get(&path).await["status"] == "completed").then_some(()) })
                .await;
        }
        // What we wrote is told to us again, and ends there.
        tokio::time::sleep(Duration::from_secs(3)).await;
        world.settled().await;
        let end = hapi.get(&path).await;
        assert_eq!(end["status"], if n == 0 { "revoked" } else { "completed" });
        let version: u32 = end["meta"]["versionId"].as_str().and_then(|v| v.parse().ok()).expect("a version");
        assert!(version <= 4, "{version} versions of {name}");
        assert_eq!((count(&world, "LTFU_REQUEST"), count(&world, "LTFU_CANCEL")), (n + 1, 1));
    }
    let gone = hapi.http.delete(format!("{}/{hook}", hapi.url)).send().await.expect("an answer");
    assert!(gone.status().is_success());
}

async fn a_list_of_300_with_seven_bad_ones(hapi: &Hapi) {
    let mut world = world(hapi, &[]).await;
    let uuid = |n: usize| format!("e64a8e4f-c505-4ed9-a6f2-{n:012}");
    for n in 0..300 {
        world.cht.add_person(json!({"_id": uuid(n), "type": "person", "name": "Test Person",
            "patient_id": format!("{}", 65_000 + n)}));
    }
    let line = |n: usize| {
        let mut request = ltfu(&format!("SR-LIST-{n}"));
        // Seven whom nobody knows.
        request["subject"] = json!({"identifier": {"system": "urn:cht:uuid", "value": uuid(if n % 43 == 7 { 900 + n } else { n })}});
        format!("{request}\n")
    };
    let list: String = (0..300).map(line).collect();
    let started = Instant::now();
    let post = world.http.post(world.url("/fhir")).header("content-type", "application/fhir+ndjson");
    let answer = post.header("prefer", "respond-async").body(list).send().await.expect("an answer");
    assert_eq!(answer.status(), 202);
    let place = answer.headers()["content-location"].to_str().expect("text").to_string();
    world.close().await;
    world.open().await;
    let ended = until("the list", || async {
        let (status, body) = world.get(&place).await;
        (status == 200).then_some(body)
    })
    .await;
    let entries = ended["entry"].as_array().expect("entries");
    let made = entries.iter().filter(|entry| entry["response"]["status"] == "201 Created").count();
    println!("a list of 300 with a real HAPI: {:?}, {made} made", started.elapsed());
    assert_eq!((entries.len(), made), (300, 293));
    assert_eq!(world.cht.reports().iter().filter(|r| r["form"] == "LTFU_REQUEST").count(), 293);
}

async fn twelve_contacts_of_whom_three_are_known(hapi: &Hapi) {
    let mut world = world(hapi, &[]).await;
    world.know_patient();
    let uuid = |n: usize| format!("f64a8e4f-c505-4ed9-a6f2-{n:012}");
    let contact = |n: usize| {
        let mut contact = json!({"resourceType": "RelatedPerson", "id": format!("c{n}"),
            "patient": ltfu("x")["subject"], "name": [{"text": format!("Test Contact {n}")}]});
        if n < 3 {
            world
                .cht
                .add_person(json!({"_id": uuid(n), "type": "person", "name": format!("Test Contact {n}"),
                "patient_id": format!("{}", 66_000 + n)}));
            contact["identifier"] = json!([{"system": "urn:cht:uuid", "value": uuid(n)}]);
        }
        contact
    };
    let mut request = ltfu("CT-REAL-1");
    request["code"] = json!({"text": "Contact tracing"});
    request["contained"] = (0..12).map(contact).collect();
    request["supportingInfo"] = (0..12).map(|n| json!({"reference": format!("#c{n}")})).collect();
    let (status, body) = world.post("/fhir/ServiceRequest", &request).await;
    assert_eq!(status, 201, "{body}");
    world.settled().await;
    world.close().await;
    world.open().await;
    let records: Vec<Value> =
        world.cht.reports().into_iter().filter(|r| r["form"] == "CONTACT_TRACING").collect();
    assert_eq!(records.len(), 12);
    for record in &records {
        let id = record["_id"].as_str().expect("an id");
        let report =
            world.cht.complete_follow_up(id, "contact_tracing_follow_up", json!({"outcome": "found"}));
        assert!(world.cht.push(&report.expect("a report")).await);
    }
    let rows = world.settled().await;
    assert!(rows.iter().all(|row| row.status != "failed"), "{}", json!(rows));
    assert_eq!(
        hapi.by_identifier("ServiceRequest", "urn:emr:requests|CT-REAL-1").await["status"],
        "completed"
    );
    for record in &records {
        let name = record["fields"]["external_id"].as_str().expect("a name");
        assert_eq!(
            hapi.by_identifier("Task", &format!("urn:emr:requests|{name}")).await["status"],
            "completed"
        );
    }
}

/// One person in CHT and one Patient here, who has CHT's ids, whatever is sent again.
async fn a_patient_made_elsewhere_is_changed_replaced_and_dies(hapi: &Hapi) {
    let further = [("PEOPLE__CREATE", "true"), ("PEOPLE__HOLDING_PLACE", "waiting")];
    let mut world = world(hapi, &further).await;
    world.cht.add_person(json!({"_id": "waiting", "type": "clinic", "name": "Test Place"}));
    let token = "https://emr.example.org/patients|REAL-17";
    let mut patient = json!({"resourceType": "Patient", "id": "REAL-17", "gender": "male", "birthDate": "1961-05",
        "identifier": [{"system": "https://emr.example.org/patients", "value": "REAL-17"}],
        "name": [{"given": ["Otieno"], "family": "Ouma"}]});
    world.cht.faults().set_down(true);
    let sent = world.http.put(world.url("/fhir/Patient/REAL-17")).json(&patient).send();
    let sent = tokio::spawn(sent);
    until("it is kept here", || async {
        let page = hapi.get(&format!("Patient?identifier={}", token.replace('|', "%7C"))).await;
        page["entry"].as_array().map(|entries| assert_eq!(entries.len(), 1))
    })
    .await;
    world.close().await;
    drop(sent);
    world.cht.faults().set_down(false);
    world.open().await;
    world.settled().await;
    let made = || world.cht.people().into_iter().filter(|person| person["external_id"] == "REAL-17");
    assert_eq!(made().count(), 1);
    let uuid = made().next().and_then(|person| person["_id"].as_str().map(String::from)).expect("a uuid");
    // CHT has pushed its new person meanwhile.
    until("the short code is here", || async {
        let found = hapi.by_identifier("Patient", &format!("urn:cht:uuid|{uuid}")).await;
        found.to_string().contains("urn:cht:shortcode").then_some(())
    })
    .await;
    patient["telecom"] = json!([{"system": "phone", "value": "+254712000222"}]);
    assert_eq!(world.put("/fhir/Patient/REAL-17", &patient).await.0, 200);
    patient["deceasedDateTime"] = json!("2026-11-20");
    assert_eq!(world.put("/fhir/Patient/REAL-17", &patient).await.0, 200);
    let mut replaced = patient.clone();
    (replaced["id"], replaced["identifier"][0]["value"]) = (json!("REAL-18"), json!("REAL-18"));
    replaced["link"] = json!([{"other": {"identifier": patient["identifier"][0]}, "type": "replaced-by"}]);
    assert_eq!(world.put("/fhir/Patient/REAL-18", &replaced).await.0, 200);
    world.settled().await;
    let here = hapi.by_identifier("Patient", token).await;
    assert_eq!(
        (&here["deceasedDateTime"], &here["telecom"][0]["value"]),
        (&json!("2026-11-20"), &json!("+254712000222"))
    );
    assert_eq!(world.cht.people().len(), 1, "who is replaced is nobody new");
    let person = world.cht.get(&uuid).expect("the person");
    assert_eq!(
        (&person["phone"], &person["date_of_death"], &person["parent"]["_id"]),
        (&json!("+254712000222"), &json!("2026-11-20"), &json!("waiting"))
    );
    // What is kept here comes back as it is: that is CHT's own word.
    assert_eq!(
        world.put(&format!("/fhir/Patient/{}", here["id"].as_str().expect("an id")), &here).await.0,
        200
    );
    // Somebody registered twice turns out to be one.
    let mut twin = json!({"resourceType": "Patient", "id": "REAL-19", "gender": "male",
        "identifier": [{"system": "https://emr.example.org/patients", "value": "REAL-19"}],
        "name": [{"given": ["Otieno"], "family": "Ouma"}]});
    assert!(world.put("/fhir/Patient/REAL-19", &twin).await.0 < 202);
    world.settled().await;
    world.close().await;
    world.open().await;
    twin["link"] = json!([{"other": {"identifier": patient["identifier"][0]}, "type": "replaced-by"}]);
    assert_eq!(world.put("/fhir/Patient/REAL-19", &twin).await.0, 200);
    world.settled().await;
    assert_eq!(world.cht.get(&uuid), Some(person));
    let twin =
        world.cht.people().into_iter().find(|person| person["external_id"] == "REAL-19").expect("the twin");
    assert_eq!((twin["replaced_by"].as_str(), twin["muted"].is_string()), (Some(uuid.as_str()), true));
}

/// A report with its result is told once, and kept here as it refers.
async fn results_with_a_restart_on_the_way(hapi: &Hapi) {
    let mut world = world(hapi, &[]).await;
    world.know_patient();
    let who = json!({"identifier": {"system": "urn:cht:uuid", "value": PATIENT}});
    let part = "urn:uuid:5fdc72f4-a11d-4a9d-9260-a9f745779e1d";
    let result = json!({"resourceType": "Observation", "status": "final", "subject": who,
        "identifier": [{"system": "https://lab.example.org/results", "value": "REAL-L-1"}],
        "code": {"text": "Viral load"}, "valueQuantity": {"value": 850, "unit": "copies/mL"}});
    let report = json!({"resourceType": "DiagnosticReport", "status": "final", "subject": who,
        "identifier": [{"system": "https://lab.example.org/reports", "value": "REAL-R-1"}],
        "code": {"text": "HIV viral load"}, "result": [{"reference": part}]});
    let entry = |url: &str, resource: &Value| {
        json!({"fullUrl": url, "resource": resource,
        "request": {"method": "POST", "url": resource["resourceType"]}})
    };
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        entry(part, &result), entry("urn:uuid:6fdc72f4-a11d-4a9d-9260-a9f745779e1d", &report)]});
    world.cht.faults().on("POST", "/api/v2/records").drop_after_effect_next(1);
    let sent = tokio::spawn(world.http.post(world.url("/fhir")).json(&bundle).send());
    until("CHT has it", || async { (!world.cht.reports().is_empty()).then_some(()) }).await;
    world.close().await;
    drop(sent);
    world.open().await;
    let rows = world.settled().await;
    assert!(rows.iter().all(|row| row.status != "failed"), "{}", json!(rows));
    assert_eq!(world.post("/fhir", &bundle).await.0, 200);
    world.settled().await;
    let told: Vec<Value> = world.cht.reports().into_iter().filter(|r| r["form"] == "CLINIC_RESULT").collect();
    assert_eq!((told.len(), &told[0]["fields"]["value"]), (1, &json!("Viral load: 850 copies/mL")));
    let kept = hapi.by_identifier("DiagnosticReport", "https://lab.example.org/reports|REAL-R-1").await;
    let result = hapi.by_identifier("Observation", "https://lab.example.org/results|REAL-L-1").await;
    let id = result["id"].as_str().expect("an id");
    assert_eq!(kept["result"][0]["reference"], format!("Observation/{id}"));
}

/// The same referral five times, and others of the same worker, all at the same time.
async fn many_at_once_by_one_worker(hapi: &Hapi) {
    let world = world(hapi, &[]).await;
    let pushes: Vec<Value> = (0..12)
        .map(|i| {
            let mut push = fixture("full-report-26")["body"].clone();
            if i >= 5 {
                push["doc"]["_id"] = json!(format!("1ae8b873-c8ae-4990-bbea-fb432c39e3{i:02}"));
                push["doc"]["patient"]["_id"] = json!(format!("cb5ab7e3-9e1c-497d-a967-3f411c0954{i:02}"));
                push["doc"]["patient"]["patient_id"] = json!(format!("003{i:02}"));
                push["doc"]["fields"]["inputs"]["contact"]["_id"] = push["doc"]["patient"]["_id"].clone();
            }
            push
        })
        .collect();
    let sent: Vec<_> = pushes
        .into_iter()
        .map(|push| tokio::spawn(world.http.post(world.url("/cht/push")).json(&push).send()))
        .collect();
    for one in sent {
        assert!(one.await.expect("a task").expect("an answer").status().is_success());
    }
    let rows = world.settled().await;
    assert_eq!(
        (rows.len(), rows.iter().filter(|row| row.status == "delivered").count()),
        (8, 8),
        "{}",
        json!(rows)
    );
    let worker =
        fixture("full-report-26")["body"]["doc"]["contact"]["_id"].as_str().expect("an id").to_string();
    hapi.by_identifier("Practitioner", &format!("urn:cht:uuid|{worker}")).await;
}

async fn every_recorded_push(hapi: &Hapi) {
    let world = world(hapi, &[]).await;
    let folder = format!("{}/tests/fixtures/pushes", env!("CARGO_MANIFEST_DIR"));
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("fixtures")
        .map(|f| f.expect("a file").path().file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    names.sort();
    // Patients from elsewhere, whose short codes CHT tells.
    for value in ["MRN-100025", "MRN-100026", "NP/2026/39"] {
        let patient =
            json!({"resourceType": "Patient", "identifier": [{"system": "urn:emr:mrn", "value": value}]});
        assert_eq!(world.post("/fhir/Patient", &patient).await.0, 201);
    }
    for name in &names {
        let push = fixture(name);
        let path = push["path"].as_str().expect("a path");
        let path = if path == "/fhir/Practitioner" { path } else { path.trim_start_matches("/mediator") };
        let (status, body) = world.post(path, &push["body"]).await;
        assert!((200..300).contains(&status), "{name}: {status} {body}");
    }
    let rows = world.settled().await;
    let bad: Vec<_> =
        rows.iter().filter(|row| !matches!(row.status.as_str(), "delivered" | "ignored")).collect();
    assert!(bad.is_empty(), "{}", json!(bad));
}

/// The program itself, killed with -9 again and again while both loops run.
async fn killed_in_the_middle(hapi: &Hapi) {
    let port = free_port();
    let options = cht::Options {
        outbound_url: Some(format!("http://127.0.0.1:{port}/cht/push")),
        index_delay: Duration::from_millis(200),
        ..Default::default()
    };
    let cht = cht::start(crate::world::any(), options.clone()).await.expect("a CHT");
    let folder = tempfile::tempdir().expect("a folder");
    let start = || {
        std::process::Command::new(env!("CARGO_BIN_EXE_cht-fhir-mediator"))
            .arg("serve")
            .env("MEDIATOR__SERVER__LISTEN", format!("127.0.0.1:{port}"))
            .env("MEDIATOR__JOURNAL__URL", format!("sqlite:{}", folder.path().join("journal.db").display()))
            .env("MEDIATOR__CHT__URL", cht.url())
            .env("MEDIATOR__CHT__USERNAME", &options.username)
            .env("MEDIATOR__CHT__PASSWORD", &options.password)
            .env("MEDIATOR__FHIR__URL", &hapi.url)
            .env("MEDIATOR__FHIR__POLL_SECONDS", "1")
            .env("MEDIATOR__CHT__INDEX_LAG_MS", "300")
            .env("MEDIATOR__DELIVERY__FIRST_RETRY_MS", "50")
            .stderr(Stdio::null())
            .spawn()
            .expect("a mediator")
    };
    let running = std::sync::Arc::new(std::sync::Mutex::new(start()));
    let (stop, stopped) = (std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)), running.clone());
    let told = stop.clone();
    let kills = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    // Kills at uneven moments, and starts again.
    let counted = kills.clone();
    let killer = async {
        for moment in [700_u64, 310, 1230, 90, 870, 450, 1610, 230].iter().cycle() {
            tokio::time::sleep(Duration::from_millis(*moment)).await;
            if told.load(std::sync::atomic::Ordering::Relaxed) {
                return;
            }
            let mut child = stopped.lock().expect("a child");
            child.kill().expect("killed");
            child.wait().expect("gone");
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            *child = start();
        }
    };
    let http =
        reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().expect("a client");
    let send = async |path: &str, body: &Value| {
        for _ in 0..300 {
            let sent = http.post(format!("http://127.0.0.1:{port}{path}")).json(body).send().await;
            match sent {
                Ok(answer) if answer.status().is_success() => return,
                Ok(answer) => {
                    panic!("{path}: {} {}", answer.status(), answer.text().await.unwrap_or_default())
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        panic!("{path} was never accepted");
    };
    let people: Vec<String> = (0..6).map(|n| format!("b54a8e4f-c505-4ed9-a6f2-eb7b0000000{n}")).collect();
    let play = async {
        for (n, uuid) in people.iter().enumerate() {
            cht.add_person(json!({"_id": uuid, "type": "person", "name": "Test Person", "patient_id": format!("7770{n}")}));
            let mut referral = fixture("full-report-20")["body"].clone();
            referral["doc"]["_id"] = json!(format!("c54a8e4f-c505-4ed9-a6f2-eb7b0000000{n}"));
            referral["doc"]["patient"] = json!({"_id": uuid, "type": "person", "name": "Test Person", "patient_id": format!("7770{n}")});
            referral["doc"]["fields"]["patient_id"] = json!(uuid);
            referral["doc"]["fields"]["inputs"]["contact"]["_id"] = json!(uuid);
            send("/cht/push", &referral).await;
            let mut request = ltfu(&format!("SR-KILLED-{n}"));
            request["subject"]["identifier"]["value"] = json!(uuid);
            send("/fhir/ServiceRequest", &request).await;
        }
        let found = |n: usize| {
            let wanted = format!("SR-KILLED-{n}");
            cht.reports().into_iter().find(|report| report["fields"]["external_id"] == wanted.as_str())
        };
        for n in 0..people.len() {
            let record = until("the record", || async { found(n) }).await;
            let id = record["_id"].as_str().expect("an id");
            let report = cht.complete_follow_up(id, "ltfu_follow_up", json!({"outcome": "found"}));
            send("/cht/push", &json!({"doc": report.expect("a report")})).await;
        }
        for n in 0..people.len() {
            let token = format!("urn:emr:requests|SR-KILLED-{n}");
            until("the outcome", || async {
                let page =
                    hapi.get(&format!("ServiceRequest?identifier={}", token.replace('|', "%7C"))).await;
                (page["entry"][0]["resource"]["status"] == "completed").then_some(())
            })
            .await;
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    tokio::join!(killer, play);
    let _ = running.lock().expect("a child").kill();
    assert!(kills.load(std::sync::atomic::Ordering::Relaxed) >= 3);
    for (n, uuid) in people.iter().enumerate() {
        hapi.by_identifier("Patient", &format!("urn:cht:uuid|{uuid}")).await;
        hapi.by_identifier("ServiceRequest", &format!("urn:emr:requests|SR-KILLED-{n}")).await;
        let referral = format!("urn:cht:report|c54a8e4f-c505-4ed9-a6f2-eb7b0000000{n}");
        for kind in ["ServiceRequest", "Task", "Encounter"] {
            hapi.by_identifier(kind, &referral).await;
        }
        let wanted = format!("SR-KILLED-{n}");
        let asked = cht.reports().iter().filter(|r| r["fields"]["external_id"] == wanted.as_str()).count();
        assert_eq!(asked, 1, "one task for the CHW");
    }
}
