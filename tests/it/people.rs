//! People who are met elsewhere first become persons in CHT: once, under the place that the configuration finds, and
//! never in the place of somebody else.
use crate::world::{PATIENT, World};
use cht_fhir_mediator::standins::cht;
use serde_json::{Value, json};

const PLACES: &str = r#"{ "urn:mfl|13939" = "area", "kibera" = "village", "Organization/7" = "area" }"#;

/// A world whose CHT has an area with a village and a household in it, and one person.
async fn settled_land(further: &[(&str, &str)]) -> World {
    let own = [("PEOPLE__CREATE", "true"), ("PEOPLE__PLACES", PLACES)];
    let world = World::with(&[&own, further].concat(), cht::Options::default()).await;
    know_places(&world);
    world
}

fn know_places(world: &World) {
    for (id, kind, parent) in [
        ("area", "health_center", Value::Null),
        ("village", "clinic", json!({"_id": "area"})),
        ("home", "clinic", json!({"_id": "area"})),
        ("waiting", "clinic", json!({"_id": "area"})),
    ] {
        world
            .cht
            .add_person(json!({"_id": id, "type": kind, "name": format!("Test {id}"), "parent": parent}));
    }
    world.cht.add_person(
        json!({"_id": PATIENT, "type": "person", "name": "Achieng Otieno", "patient_id": "83288",
        "phone": "+254712000101", "parent": {"_id": "home", "parent": {"_id": "area"}}}),
    );
}

fn patient(number: &str) -> Value {
    json!({"resourceType": "Patient", "identifier": [{"system": "https://emr.example.org/patients", "value": number}],
        "name": [{"family": "Ouma", "given": ["Otieno"]}], "gender": "male", "birthDate": "1961-05",
        "telecom": [{"system": "phone", "value": "0712 000 222"}],
        "managingOrganization": {"identifier": {"system": "urn:mfl", "value": "13939"}}})
}

impl World {
    /// The people of CHT but the one whom it knew from the start, each with their place.
    fn newcomers(&self) -> Vec<Value> {
        self.cht.people().into_iter().filter(|person| person["_id"] != PATIENT).collect()
    }

    /// The FHIR server's Patients with this CHT uuid.
    fn patients_of(&self, uuid: &str) -> Vec<Value> {
        let own = json!({"system": "urn:cht:uuid", "value": uuid});
        let has = |patient: &Value| patient["identifier"].as_array().is_some_and(|all| all.contains(&own));
        self.fhir.resources("Patient").into_iter().filter(has).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patient_becomes_a_person_once_and_is_told_the_uuid() {
    let world = settled_land(&[]).await;
    let (status, answer) = world.post("/fhir/Patient", &patient("17")).await;
    assert_eq!(status, 201, "{answer}");
    world.settled().await;
    let people = world.newcomers();
    assert_eq!(people.len(), 1, "{people:?}");
    let person = &people[0];
    for (field, expected) in [
        ("name", "Otieno Ouma"),
        ("sex", "male"),
        ("phone", "+254712000222"),
        ("date_of_birth", "1961-05-01"),
        ("external_id", "17"),
        ("type", "person"),
    ] {
        assert_eq!(person[field], expected, "{field}: {person}");
    }
    assert_eq!(person["parent"], json!({"_id": "area"}));
    let uuid = person["_id"].as_str().expect("an id");
    let own = json!({"system": "urn:cht:uuid", "value": uuid});
    assert!(answer["identifier"].as_array().is_some_and(|all| all.contains(&own)), "{answer}");
    // CHT has pushed its new person back meanwhile: that is the same Patient, with the short code.
    world
        .until("the short code is there", |world| {
            world.patients_of(uuid).iter().any(|one| one.to_string().contains("urn:cht:shortcode"))
        })
        .await;
    assert_eq!(world.fhir.resources("Patient").len(), 1);
    // The same again, by another route, and changed: nobody new.
    assert_eq!(world.post("/fhir/Patient", &patient("17")).await.0, 201);
    let mut put = patient("17");
    put["id"] = json!("17");
    put["telecom"][0]["value"] = json!("0712 000 333");
    assert_eq!(world.put("/fhir/Patient/17", &put).await.0, 200);
    world.settled().await;
    assert_eq!((world.newcomers().len(), world.fhir.resources("Patient").len()), (1, 1));
    // By their own number the EMR asks for them from now on.
    let request = json!({"resourceType": "ServiceRequest", "status": "active", "intent": "order",
        "identifier": [{"system": "urn:emr:requests", "value": "SR-1"}],
        "subject": {"identifier": {"system": "https://emr.example.org/patients", "value": "17"}}});
    assert_eq!(world.post("/fhir/ServiceRequest", &request).await.0, 201);
    let reports = world.cht.reports();
    assert_eq!(reports.last().expect("a report")["fields"]["patient_uuid"], uuid);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nearest_place_that_is_named_counts_and_never_any_place() {
    let world = settled_land(&[]).await;
    let by = |number: &str, change: &dyn Fn(&mut Value)| {
        let mut patient = patient(number);
        patient.as_object_mut().expect("fields").remove("managingOrganization");
        change(&mut patient);
        patient
    };
    for (number, change, place) in [
        (
            "1",
            &(|p: &mut Value| p["address"] = json!([{"line": ["House 4"], "city": "Kibera "}]))
                as &dyn Fn(&mut Value),
            Some("village"),
        ),
        (
            "2",
            &|p: &mut Value| p["managingOrganization"] = json!({"reference": "Organization/7"}),
            Some("area"),
        ),
        (
            "3",
            &|p: &mut Value| {
                p["managingOrganization"] =
                    json!({"identifier": {"system": "urn:cht:place", "value": "home"}})
            },
            Some("home"),
        ),
        ("4", &|p: &mut Value| p["address"] = json!([{"city": "Elsewhere"}]), None),
        ("5", &|_: &mut Value| {}, None),
    ] {
        assert_eq!(world.post("/fhir/Patient", &by(number, change)).await.0, 201, "{number}");
        world.settled().await;
        let found = world.newcomers().into_iter().find(|person| person["external_id"] == number);
        assert_eq!(
            found.as_ref().map(|person| person["parent"]["_id"].as_str().expect("a place")),
            place,
            "{number}"
        );
    }
    assert_eq!(world.fhir.resources("Patient").len(), 5, "all are kept");
    let waiting = settled_land(&[("PEOPLE__HOLDING_PLACE", "waiting")]).await;
    assert_eq!(waiting.post("/fhir/Patient", &by("6", &|_| {})).await.0, 201);
    waiting.settled().await;
    assert_eq!(waiting.newcomers()[0]["parent"]["_id"], "waiting");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_known_or_nobody_to_visit_is_not_made() {
    let world = settled_land(&[("PEOPLE__HOLDING_PLACE", "waiting")]).await;
    let change = |number: &str, key: &str, value: Value| {
        let mut patient = patient(number);
        patient[key] = value;
        patient
    };
    let claimed = |system: &str, value: &str| {
        let mut patient = patient("1");
        patient["identifier"].as_array_mut().expect("a list").push(json!({"system": system, "value": value}));
        patient
    };
    for patient in [
        claimed("urn:cht:uuid", PATIENT),
        change("2", "active", json!(false)),
        change("3", "deceasedDateTime", json!("2026-11-01")),
        change("4", "link", json!([{"other": {"reference": "Patient/9"}, "type": "replaced-by"}])),
        change("5", "name", json!([{"use": "usual", "period": {"start": "2020"}}])),
    ] {
        assert_eq!(world.post("/fhir/Patient", &patient).await.0, 201, "{patient}");
    }
    // What CHT itself has pushed comes back from a server.
    let pushed = json!({"doc": world.cht.hydrated(PATIENT).expect("a person")});
    assert_eq!(world.post("/cht/push", &pushed).await.0, 200);
    world.settled().await;
    let theirs = world.patients_of(PATIENT).remove(0);
    let id = theirs["id"].as_str().expect("an id").to_string();
    assert_eq!(world.put(&format!("/fhir/Patient/{id}"), &theirs).await.0, 200);
    world.settled().await;
    assert_eq!(world.newcomers(), Vec::<Value>::new());
    let off = World::new().await;
    know_places(&off);
    assert_eq!(off.post("/fhir/Patient", &patient("17")).await.0, 201);
    off.settled().await;
    assert_eq!(off.newcomers(), Vec::<Value>::new(), "unless the configuration says so");
    assert!(off.cht.faults().calls().is_empty(), "CHT is not even asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_a_restart_and_a_second_sender_make_nobody_twice() {
    let mut world = settled_land(&[]).await;
    world.cht.faults().on("POST", "/api/v1/people").drop_after_effect_next(1);
    let (one, two) = (patient("17"), patient("18"));
    let (first, second) = tokio::join!(world.post("/fhir/Patient", &one), world.post("/fhir/Patient", &one));
    assert_eq!((first.0, second.0), (201, 201));
    world.settled().await;
    assert_eq!(world.newcomers().len(), 1);
    world.cht.faults().set_down(true);
    let sent = world.http.post(world.url("/fhir/Patient")).json(&two).send();
    let sent = tokio::spawn(sent);
    world.until("it is on the server", |world| world.fhir.resources("Patient").len() == 2).await;
    world.close().await;
    drop(sent);
    world.cht.faults().set_down(false);
    world.open().await;
    world.settled().await;
    let mut numbers: Vec<String> =
        world.newcomers().iter().filter_map(|p| p["external_id"].as_str().map(String::from)).collect();
    numbers.sort();
    assert_eq!(numbers, ["17", "18"]);
    assert_eq!(world.fhir.resources("Patient").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_cht_does_not_have_is_said_and_mended_by_a_rerun() {
    let world = settled_land(&[("PEOPLE__HOLDING_PLACE", "nowhere")]).await;
    let mut stranger = patient("17");
    stranger.as_object_mut().expect("fields").remove("managingOrganization");
    let (status, outcome) = world.post("/fhir/Patient", &stranger).await;
    assert_eq!(status, 422, "{outcome}");
    let row = world.settled().await.remove(0);
    assert!(row.error.as_ref().is_some_and(|error| error.contains("[people]")), "{:?}", row.error);
    world.cht.add_person(json!({"_id": "nowhere", "type": "clinic", "name": "Test nowhere"}));
    assert!(world.post(&format!("/transactions/{}/rerun", row.id), &Value::Null).await.0 < 300);
    world.settled().await;
    assert_eq!(world.newcomers().len(), 1);
}

fn tracing(number: &str, contained: &[Value]) -> Value {
    let mut request = json!({"resourceType": "ServiceRequest", "status": "active", "intent": "order",
        "identifier": [{"system": "https://emr.example.org/requests", "value": number}],
        "code": {"text": "Contact tracing"}, "reasonCode": [{"text": "TB"}],
        "requester": {"identifier": {"system": "urn:mfl", "value": "13939"}},
        "subject": {"identifier": {"system": "urn:cht:uuid", "value": PATIENT}}});
    let named = contained.iter().map(|one| format!("#{}", one["id"].as_str().expect("an id")));
    let named: Vec<Value> = named.map(|name| json!({"reference": name})).collect();
    if !contained.is_empty() {
        request["supportingInfo"] = json!(named);
        request["contained"] = json!(contained);
    }
    request
}

fn related(id: &str, name: &str, phone: Option<&str>) -> Value {
    let mut one = json!({"resourceType": "RelatedPerson", "id": id, "name": [{"text": name}],
        "patient": {"identifier": {"system": "urn:cht:uuid", "value": PATIENT}}});
    if let Some(phone) = phone {
        one["telecom"] = json!([{"system": "phone", "value": phone}]);
    }
    one
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_whom_cht_does_not_know_becomes_a_person_of_their_own() {
    let world = settled_land(&[]).await;
    // One has the phone of a household that CHT knows, one only the facility that asks.
    let contained = [related("a", "Otieno Ouma", Some("0712 000 101")), related("b", "Akinyi Ouma", None)];
    let request = tracing("CT-1", &contained);
    assert_eq!(world.post("/fhir/ServiceRequest", &request).await.0, 201);
    assert_eq!(world.post("/fhir/ServiceRequest", &request).await.0, 201);
    world.settled().await;
    let mut placed: Vec<(String, String)> = world
        .newcomers()
        .iter()
        .map(|p| {
            (p["name"].as_str().expect("a name").into(), p["parent"]["_id"].as_str().expect("a place").into())
        })
        .collect();
    placed.sort();
    assert_eq!(placed, [("Akinyi Ouma".into(), "area".into()), ("Otieno Ouma".into(), "home".into())]);
    let traced: Vec<Value> =
        world.cht.reports().into_iter().filter(|report| report["form"] == "CONTACT_TRACING").collect();
    assert_eq!(traced.len(), 2);
    for report in &traced {
        let about = report["fields"]["patient_id"].as_str().or(report["fields"]["patient_uuid"].as_str());
        let person =
            world.newcomers().into_iter().find(|person| person["_id"].as_str() == about).expect("themselves");
        assert_eq!(person["name"], report["fields"]["contact_name"], "{report}");
        assert_eq!(report["errors"], json!([]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_of_two_indexes_is_one_person_and_one_without_a_number_is_nobody_elses() {
    let world = settled_land(&[]).await;
    let mut numbered = related("a", "Otieno Ouma", None);
    numbered["identifier"] = json!([{"system": "https://emr.example.org/patients", "value": "21"}]);
    for number in ["CT-1", "CT-2"] {
        let request = tracing(number, &[numbered.clone(), related("b", "Akinyi Ouma", None)]);
        assert_eq!(world.post("/fhir/ServiceRequest", &request).await.0, 201);
    }
    world.settled().await;
    let count = |name: &str| world.newcomers().iter().filter(|person| person["name"] == name).count();
    assert_eq!((count("Otieno Ouma"), count("Akinyi Ouma")), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_afyastat_posts_is_taken_once_and_each_document_answered() {
    let world = settled_land(&[("PEOPLE__HOLDING_PLACE", "waiting")]).await;
    let described = crate::description::shipped("mediator-config/openapi.json");
    let mut post = described["components"]["examples"]["afyastat"]["value"].clone();
    let mut linked = post["docs"][0].clone();
    linked["_id"] = json!("0d2f6f5e-3a51-4c39-8a3c-6c8f3d0b1c18");
    linked["record_purpose"] = json!("linkage");
    linked["fields"]["name"] = json!("Akinyi Ouma");
    linked["fields"]["date_tested_positive"] = json!("2026-10-01");
    let mut nameless = post["docs"][0].clone();
    nameless["_id"] = json!("0d2f6f5e-3a51-4c39-8a3c-6c8f3d0b1c19");
    nameless["fields"] = json!({});
    post["docs"].as_array_mut().expect("a list").push(linked);
    // A post with a document that cannot be taken stays in the EMR's queue.
    let mut odd = post.clone();
    odd["docs"].as_array_mut().expect("a list").push(nameless);
    let (status, outcome) = world.post("/afyastat", &odd).await;
    assert_eq!(
        (status, &outcome["issue"][0]["expression"][0]),
        (400, &json!("docs[2].fields.name")),
        "{outcome}"
    );
    for _ in 0..2 {
        let (status, answer) = world.post("/afyastat", &post).await;
        let statuses: Vec<&str> = answer["entry"]
            .as_array()
            .expect("answers")
            .iter()
            .map(|entry| entry["response"]["status"].as_str().expect("a status"))
            .collect();
        assert_eq!((status, &statuses[..]), (200, &["201 Created", "201 Created"][..]), "{answer}");
    }
    world.settled().await;
    let reports = world.cht.reports();
    let forms: Vec<&str> = reports.iter().map(|report| report["form"].as_str().expect("a form")).collect();
    assert_eq!(forms, ["CONTACT_TRACING", "LTFU_REQUEST"]);
    assert!(reports.iter().all(|report| report["errors"] == json!([])), "{reports:?}");
    let mut names: Vec<Value> = world.newcomers().iter().map(|person| person["name"].clone()).collect();
    names.sort_by_key(Value::to_string);
    assert_eq!(names, ["Akinyi Ouma", "Otieno Ouma"]);
    assert_eq!(world.post("/afyastat", &json!({"timestamp": "x"})).await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_whom_cht_does_not_know_is_made_of_what_came_along() {
    let world = settled_land(&[]).await;
    let mut request = tracing("CT-1", &[related("b", "Akinyi Ouma", None)]);
    let mut index = patient("17");
    index["id"] = json!("index");
    request["subject"] = json!({"reference": "#index"});
    request["contained"].as_array_mut().expect("a list").push(index);
    let (status, answer) = world.post("/fhir/ServiceRequest", &request).await;
    assert_eq!(status, 201, "{answer}");
    world.settled().await;
    assert_eq!(world.newcomers().len(), 2);
    // Of somebody of whom nothing is known there is nothing to make.
    let mut nobody = tracing("CT-2", &[]);
    nobody["subject"] = json!({"identifier": {"system": "https://emr.example.org/patients", "value": "99"}});
    assert_eq!(world.post("/fhir/ServiceRequest", &nobody).await.0, 422);
}
