//! Other systems look people of CHT up: as they are now, with their places, and nobody is guessed.
use crate::description::{SECRET, clients};
use crate::world::{PATIENT, World, fixture};
use cht_fhir_mediator::standins::cht;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const OTHER: &str = "b65b9f50-d616-4fea-b703-fc8ceba3ca0e";

/// Two people of one household.
fn know_household(world: &World) {
    let place = |id: &str, kind: &str, name: &str, parent: Value| {
        world.cht.add_person(json!({"_id": id, "type": kind, "name": name, "parent": parent,
            "contact": {"_id": OTHER}}));
    };
    place("district", "district_hospital", "Test District", Value::Null);
    place("area", "health_center", "Test Area", json!({"_id": "district"}));
    place("home", "clinic", "Test Household", json!({"_id": "area", "parent": {"_id": "district"}}));
    let parent = json!({"_id": "home", "parent": {"_id": "area", "parent": {"_id": "district"}}});
    for (id, name, code, phone, born) in [
        (PATIENT, "Achieng Otieno", "83288", "+254712000101", "1992-03-14"),
        (OTHER, "Otieno Ouma", "83289", "0712 000101", "1961-01-01"),
    ] {
        world.cht.add_person(
            json!({"_id": id, "type": "person", "name": name, "patient_id": code, "phone": phone,
            "sex": "female", "date_of_birth": born, "parent": parent}),
        );
    }
}

async fn guarded(further: &[(&str, &str)]) -> World {
    let clients = clients();
    let own = [("CLIENTS", clients.as_str())];
    let world = World::with(&[&own, further].concat(), cht::Options::default()).await;
    know_household(&world);
    world
}

impl World {
    async fn look(&self, path: &str) -> (u16, Value) {
        self.send(self.http.get(self.url(path)).basic_auth("portal", Some(SECRET))).await
    }

    /// The ids that a search finds.
    async fn found(&self, query: &[(&str, &str)]) -> BTreeSet<String> {
        let request = self.http.get(self.url("/fhir/Patient")).query(query);
        let (status, bundle) = self.send(request.basic_auth("portal", Some(SECRET))).await;
        assert_eq!((status, bundle["type"].as_str()), (200, Some("searchset")), "{query:?}: {bundle}");
        let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
        assert_eq!(bundle["total"], entries.len(), "{bundle}");
        let id = |entry: &Value| entry["resource"]["id"].as_str().expect("an id").to_string();
        entries.iter().map(id).collect()
    }
}

fn ids<const N: usize>(all: [&str; N]) -> BTreeSet<String> {
    all.map(String::from).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_found_by_whatever_they_are_called() {
    let world = guarded(&[]).await;
    let push = world.http.post(world.url("/cht/push")).basic_auth("cht", Some(SECRET));
    let mut person = world.cht.hydrated(PATIENT).expect("a person");
    person["national_id"] = json!("12345678");
    assert_eq!(world.send(push.json(&json!({"doc": person}))).await.0, 200);
    world.settled().await;
    for (query, expected) in [
        (vec![("identifier", "urn:cht:uuid|a54a8e4f-c505-4ed9-a6f2-eb7bdad2fb9d")], ids([PATIENT])),
        (vec![("identifier", "urn:cht:shortcode|83288")], ids([PATIENT])),
        (vec![("identifier", "83289")], ids([OTHER])),
        (vec![("identifier", "urn:cht:national-id|12345678")], ids([PATIENT])),
        (vec![("identifier", "12345678")], ids([PATIENT])),
        (vec![("_id", PATIENT)], ids([PATIENT])),
        // A phone that two people share is that of both, in whatever shape it is stored or asked for.
        (vec![("phone", "+254712000101")], ids([PATIENT, OTHER])),
        (vec![("phone", "0712 000 101")], ids([PATIENT, OTHER])),
        (vec![("telecom", "phone|254712000101")], ids([PATIENT, OTHER])),
        (vec![("name", "otieno"), ("birthdate", "1992-03-14")], ids([PATIENT])),
        (vec![("name", "Otieno"), ("birthdate", "ge1950"), ("birthdate", "lt2000")], ids([PATIENT, OTHER])),
        (vec![("name", "Otieno Achi"), ("birthdate", "1992")], ids([PATIENT])),
        // Nobody.
        (vec![("identifier", "urn:cht:uuid|home")], ids([])),
        (vec![("identifier", "urn:cht:shortcode|00000")], ids([])),
        (vec![("identifier", "urn:cht:national-id|83288")], ids([])),
        (
            vec![("identifier", "https://cht-fhir-mediator.org/in-cht|a54a8e4f-c505-4ed9-a6f2-eb7bdad2fb9d")],
            ids([]),
        ),
        (vec![("phone", "+254712000999")], ids([])),
        (vec![("phone", "071200010")], ids([])),
        (vec![("name", "Achieng"), ("birthdate", "1992-03-15")], ids([])),
    ] {
        assert_eq!(world.found(&query).await, expected, "{query:?}");
    }
    let form = world.http.post(world.url("/fhir/Patient/_search")).basic_auth("portal", Some(SECRET));
    let (status, bundle) = world.send(form.form(&[("phone", "0712000101")])).await;
    assert_eq!((status, &bundle["total"]), (200, &json!(2)), "{bundle}");
    // The address has parameters as well.
    let both =
        world.http.post(world.url("/fhir/Patient/_search?gender=male")).basic_auth("portal", Some(SECRET));
    assert_eq!(world.send(both.form(&[("phone", "0712000101")])).await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_comes_with_the_places_above_and_with_nobody_else() {
    let world = guarded(&[]).await;
    let (status, patient) = world.look(&format!("/fhir/Patient/{PATIENT}")).await;
    assert_eq!((status, &patient["name"][0]["text"]), (200, &json!("Achieng Otieno")), "{patient}");
    let contained = patient["contained"].as_array().expect("places");
    let named: BTreeSet<(&str, &str)> = contained
        .iter()
        .filter_map(|place| Some((place["resourceType"].as_str()?, place["name"].as_str()?)))
        .collect();
    let expected = [
        ("Location", "Test Household"),
        ("Location", "Test Area"),
        ("Location", "Test District"),
        ("Organization", "Test Area"),
        ("Organization", "Test District"),
    ];
    assert_eq!(named, expected.into());
    let by_name = |reference: &Value| {
        let id = reference["reference"].as_str().and_then(|name| name.strip_prefix('#')).expect("contained");
        contained.iter().find(|place| place["id"] == id).expect("there").clone()
    };
    let household = patient["extension"].as_array().and_then(|all| {
        all.iter().find(|one| one["url"].as_str().is_some_and(|url| url.ends_with("/household")))
    });
    let household = by_name(&household.expect("a household")["valueReference"]);
    assert_eq!(by_name(&by_name(&household["partOf"])["partOf"])["name"], "Test District");
    assert_eq!(by_name(&patient["managingOrganization"])["name"], "Test Area");
    assert!(!patient.to_string().contains("Ouma"), "the household's contact was not asked for: {patient}");
    // CHT is asked anew.
    world.cht.add_person(
        json!({"_id": PATIENT, "type": "person", "name": "Achieng Otieno", "patient_id": "83288",
        "date_of_death": "2026-11-02", "muted": "2026-11-03T00:00:00.000Z"}),
    );
    let (_, patient) = world.look(&format!("/fhir/Patient/{PATIENT}")).await;
    assert_eq!((&patient["deceasedDateTime"], &patient["active"]), (&json!("2026-11-02"), &json!(false)));
    for nobody in ["home", "a-report", "%2e%2e%2fuser", "x%3Ftype=person", "%00%0a"] {
        assert_eq!(world.look(&format!("/fhir/Patient/{nobody}")).await.0, 404, "{nobody}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_the_persons_own_and_what_the_mappings_cover() {
    let world = guarded(&[]).await;
    for n in 1..=3 {
        let own = world.cht.hydrated(PATIENT).expect("a person");
        let mut report = fixture("full-report-20")["body"]["doc"].clone();
        report["_id"] = json!(format!("report-{n}"));
        report["reported_date"] = json!(1_795_000_000_000_i64 + n);
        report["patient"] = own;
        for key in ["patient_id", "patient_uuid"] {
            report["fields"][key] = json!(PATIENT);
        }
        world.cht.add_person(report.clone());
        report["_id"] = json!(format!("of-another-{n}"));
        for key in ["patient_id", "patient_uuid"] {
            report["fields"][key] = json!(OTHER);
        }
        world.cht.add_person(report);
    }
    // A newborn of hers is somebody else.
    let mut delivery = fixture("full-report-09")["body"]["doc"].clone();
    delivery["patient"] = world.cht.hydrated(PATIENT).expect("a person");
    for key in ["patient_id", "patient_uuid"] {
        delivery["fields"][key] = json!(PATIENT);
    }
    world.cht.add_person(delivery);
    world.cht.add_person(json!({"_id": "unmapped", "type": "data_record", "form": "LTFU_REQUEST",
        "reported_date": 1_795_000_000_009_i64, "fields": {"patient_id": "83288", "secret": "Test"}}));
    let mut seen = BTreeSet::new();
    let mut next = Some(format!("/fhir/Patient/{PATIENT}/$everything?_count=2"));
    let mut pages = 0;
    while let Some(path) = next {
        let (status, bundle) = world.look(&path).await;
        assert_eq!(status, 200, "{bundle}");
        let entries = bundle["entry"].as_array().expect("entries");
        assert_eq!(entries[0]["resource"]["id"], PATIENT);
        let is_patient = |entry: &&Value| entry["resource"]["resourceType"] == "Patient";
        assert_eq!(entries.iter().filter(is_patient).count(), 1, "{bundle}");
        let text = bundle.to_string();
        assert!(!text.contains(OTHER) && !text.contains("of-another"), "somebody else's");
        assert!(
            !text.contains("birth_weight") && !text.contains("d49f753b-a064-4cd1-9e1d-c38ad1d0e2ae"),
            "a newborn's"
        );
        let encounters = entries.iter().filter(|entry| entry["resource"]["resourceType"] == "Encounter");
        for encounter in encounters {
            let resource = &encounter["resource"];
            assert_eq!(resource["subject"]["reference"], format!("Patient/{PATIENT}"), "{resource}");
            seen.insert(resource["identifier"][0]["value"].as_str().expect("a value").to_string());
        }
        let outcome = entries.iter().filter(|entry| entry["search"]["mode"] == "outcome").count();
        assert_eq!(outcome, usize::from(pages == 0), "the newest report has no mapping");
        let links = bundle["link"].as_array().expect("links");
        let link = links.iter().find(|link| link["relation"] == "next");
        next = link.and_then(|link| Some(format!("/fhir{}", link["url"].as_str()?.split_once("/fhir")?.1)));
        pages += 1;
    }
    let delivery = "ffb413ba-2e63-4e7c-adf3-c84a737d6d4e";
    assert_eq!((pages, seen), (3, ids(["report-1", "report-2", "report-3", delivery])));
    assert_eq!(world.look("/fhir/Patient/home/$everything").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_understood_is_refused_and_says_what_would_be() {
    let world = guarded(&[]).await;
    let long = "1".repeat(2_000);
    for query in [
        "",
        "gender=female",
        "name=Achieng",
        "name=Al&birthdate=1990",
        "birthdate=1990",
        "phone=12",
        "phone=0712000101&identifier=83288",
        "identifier=83288&identifier=83289",
        "name=type:person&birthdate=1990",
        "identifier=",
        "_format=xml&_id=x",
        &format!("phone={long}"),
        &(0..200).map(|n| format!("x{n}=1&")).collect::<String>(),
    ] {
        let (status, outcome) = world.look(&format!("/fhir/Patient?{query}")).await;
        assert_eq!((status, &outcome["resourceType"]), (400, &json!("OperationOutcome")), "{query}");
    }
    let (_, outcome) = world.look("/fhir/Patient?gender=female").await;
    assert!(outcome["issue"][0]["diagnostics"].as_str().is_some_and(|text| text.contains("birthdate")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_asks_so_often_and_no_oftener() {
    let world = guarded(&[("LOOKUPS__PER_MINUTE", "3")]).await;
    for _ in 0..3 {
        assert_eq!(world.look(&format!("/fhir/Patient/{PATIENT}")).await.0, 200);
    }
    let request = world.http.get(world.url("/fhir/Patient?_id=x")).basic_auth("portal", Some(SECRET));
    let answer = request.send().await.expect("an answer");
    let wait: u64 = answer.headers()["retry-after"].to_str().expect("text").parse().expect("seconds");
    assert_eq!((answer.status().as_u16(), (1..=20).contains(&wait)), (429, true), "{wait}");
    assert_eq!(world.get("/fhir/Patient?_id=x").await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cht_that_is_down_or_slow_is_said_to_be() {
    let world = guarded(&[("SERVER__ANSWER_WITHIN_MS", "1500"), ("LOOKUPS__MAX_CONCURRENT", "1")]).await;
    world.cht.faults().set_down(true);
    let (status, outcome) = world.look(&format!("/fhir/Patient/{PATIENT}")).await;
    assert_eq!((status, &outcome["issue"][0]["code"]), (503, &json!("transient")), "{outcome}");
    world.cht.faults().set_down(false);
    assert_eq!(world.look(&format!("/fhir/Patient/{PATIENT}")).await.0, 200);
    world.cht.faults().hang_next(1, 60_000);
    let (status, outcome) = world.look(&format!("/fhir/Patient/{PATIENT}")).await;
    assert_eq!((status, &outcome["issue"][0]["code"]), (503, &json!("transient")), "{outcome}");
    assert!(outcome.to_string().contains("did not answer in time"), "{outcome}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cht_that_hangs_is_left_alone_for_a_while_and_one_bad_document_spoils_no_search() {
    let further = [
        ("SERVER__ANSWER_WITHIN_MS", "3000"),
        ("DELIVERY__BREAKER_PAUSE_MS", "60000"),
        ("DELIVERY__BREAKER_FAILURES", "3"),
    ];
    let world = guarded(&further).await;
    world.cht.add_person(
        json!({"_id": "odd", "type": "person", "name": "Otieno Odd", "date_of_birth": "some day",
        "phone": "+254712000101"}),
    );
    let request =
        world.http.get(world.url("/fhir/Patient?phone=0712000101")).basic_auth("portal", Some(SECRET));
    let (status, bundle) = world.send(request).await;
    let modes: Vec<&str> = bundle["entry"]
        .as_array()
        .expect("entries")
        .iter()
        .map(|entry| entry["search"]["mode"].as_str().expect("a mode"))
        .collect();
    assert_eq!((status, &modes[..]), (200, &["match", "match", "outcome"][..]), "{bundle}");
    world.cht.faults().hang_next(3, 60_000);
    for _ in 0..3 {
        assert_eq!(world.look(&format!("/fhir/Patient/{PATIENT}")).await.0, 503);
    }
    let before = world.cht.faults().calls().len();
    let request =
        world.http.get(world.url(&format!("/fhir/Patient/{PATIENT}"))).basic_auth("portal", Some(SECRET));
    let answer = request.send().await.expect("an answer");
    let wait: u64 = answer.headers()["retry-after"].to_str().expect("text").parse().expect("seconds");
    assert_eq!(
        (answer.status().as_u16(), world.cht.faults().calls().len()),
        (503, before),
        "it is not asked"
    );
    assert!(wait > 5, "{wait}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_look_up_is_in_the_audit_trail_with_whom_it_showed() {
    let world = guarded(&[]).await;
    assert_eq!(world.found(&[("phone", "0712000101")]).await.len(), 2);
    assert_eq!(world.look(&format!("/fhir/Patient/{PATIENT}")).await.0, 200);
    assert_eq!(world.look(&format!("/fhir/Patient/{PATIENT}/$everything")).await.0, 200);
    let trail =
        world.http.get(world.url("/fhir/AuditEvent?agent=portal&_count=10")).basic_auth("ops", Some(SECRET));
    let (_, trail) = world.send(trail).await;
    let events = trail["entry"].as_array().expect("records");
    assert_eq!(events.len(), 3, "{trail}");
    let shown = |uuid: &str| events.iter().filter(|event| event.to_string().contains(uuid)).count();
    assert_eq!((shown(PATIENT), shown(OTHER)), (3, 1), "{trail}");
    let text = trail.to_string();
    assert!(!text.contains("0712000101") && !text.contains("Achieng"), "{text}");
}
