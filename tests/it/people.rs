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

impl World {
    fn newcomer(&self, number: &str) -> Value {
        let found = self.newcomers().into_iter().find(|person| person["external_id"] == number);
        found.unwrap_or_else(|| panic!("nobody with the number {number}"))
    }

    /// A CHW changes somebody, and CHT pushes that.
    async fn chw_writes(&self, number: &str, field: &str, value: Value) {
        let mut person = self.newcomer(number);
        person[field] = value;
        let saved = self.cht.add_person(person);
        let pushed = self.cht.hydrated(saved["_id"].as_str().expect("an id")).expect("a person");
        assert!(self.post("/cht/push", &json!({"doc": pushed})).await.0 < 300);
        self.settled().await;
    }

    async fn send_patient(&self, number: &str, patient: &Value) -> Value {
        let mut put = patient.clone();
        put["id"] = json!(number);
        let (status, answer) = self.put(&format!("/fhir/Patient/{number}"), &put).await;
        assert!(status == 200 || status == 201, "{status} {answer}");
        self.settled().await;
        answer
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_later_of_them_is_changed_in_cht_and_what_a_chw_wrote_stays() {
    let world = settled_land(&[]).await;
    let mut otieno = patient("17");
    world.send_patient("17", &otieno).await;
    world.chw_writes("17", "phone", json!("+254712000999")).await;
    let before = world.newcomer("17");
    otieno["name"] = json!([{"family": "Ouma", "given": ["Otieno", "Wafula"]}]);
    otieno["telecom"][0]["value"] = json!("0712 000 333");
    let answer = world.send_patient("17", &otieno).await;
    assert!(answer.to_string().contains(before["_id"].as_str().expect("an id")), "{answer}");
    let after = world.newcomer("17");
    assert_eq!((&after["name"], &after["phone"]), (&json!("Otieno Wafula Ouma"), &json!("+254712000999")));
    for kept in ["_id", "parent", "reported_date", "patient_id", "type", "sex"] {
        assert_eq!(after[kept], before[kept], "{kept}");
    }
    // The same again is nothing to write, and what is left out is not taken back.
    otieno.as_object_mut().expect("fields").remove("gender");
    let puts = |world: &World| world.cht.faults().calls().iter().filter(|call| call.method == "PUT").count();
    let written = puts(&world);
    world.send_patient("17", &otieno).await;
    assert_eq!((world.newcomer("17"), puts(&world)), (after, written));
    // A stranger of CHT's own is not theirs to change.
    let mut achieng = patient("99");
    let own = json!({"system": "urn:cht:uuid", "value": PATIENT});
    achieng["identifier"].as_array_mut().expect("a list").push(own);
    world.send_patient("99", &achieng).await;
    world.send_patient("99", &patient("99")).await;
    assert_eq!(world.cht.get(PATIENT).expect("a person")["name"], "Achieng Otieno");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_made_once_whatever_happens_to_its_answer() {
    let mut world = settled_land(&[]).await;
    let mut otieno = patient("17");
    world.send_patient("17", &otieno).await;
    let id = world.newcomer("17")["_id"].as_str().expect("an id").to_string();
    world.cht.faults().on("PUT", &format!("/medic/{id}")).drop_after_effect_next(1);
    otieno["name"][0]["family"] = json!("Okoth");
    world.send_patient("17", &otieno).await;
    let once = world.newcomer("17");
    assert_eq!(once["name"], "Otieno Okoth");
    // Somebody else writes at the same moment.
    world.cht.faults().on("PUT", &format!("/medic/{id}")).fail_next(1, 409);
    otieno["name"][0]["family"] = json!("Odhiambo");
    world.send_patient("17", &otieno).await;
    assert_eq!(world.newcomer("17")["name"], "Otieno Odhiambo");
    // CHT is away, and we are stopped.
    world.cht.faults().set_down(true);
    otieno["name"][0]["family"] = json!("Onyango");
    otieno["id"] = json!("17");
    let sent = tokio::spawn(world.http.put(world.url("/fhir/Patient/17")).json(&otieno).send());
    world
        .until("it is accepted", |world| world.fhir.resources("Patient")[0].to_string().contains("Onyango"))
        .await;
    world.close().await;
    drop(sent);
    world.cht.faults().set_down(false);
    world.open().await;
    world.settled().await;
    assert_eq!(world.newcomer("17")["name"], "Otieno Onyango");
    assert_eq!(world.newcomers().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_dies_or_is_put_aside_elsewhere_is_so_in_cht_until_it_is_taken_back() {
    let world = settled_land(&[]).await;
    let said = |change: &dyn Fn(&mut Value)| {
        let mut patient = patient("17");
        change(&mut patient);
        patient
    };
    world.send_patient("17", &said(&|_| {})).await;
    world.send_patient("17", &said(&|p| p["deceasedDateTime"] = json!("2026-11-02"))).await;
    assert_eq!(world.newcomer("17")["date_of_death"], "2026-11-02");
    world.send_patient("17", &said(&|p| p["deceasedBoolean"] = json!(false))).await;
    assert_eq!(world.newcomer("17")["date_of_death"], Value::Null);
    let dead = said(&|p| p["deceasedBoolean"] = json!(true));
    world.send_patient("17", &dead).await;
    let since = world.newcomer("17")["date_of_death"].clone();
    assert!(since.is_number(), "{since}");
    world.send_patient("17", &dead).await;
    assert_eq!(world.newcomer("17")["date_of_death"], since, "once");
    world.send_patient("17", &said(&|p| p["active"] = json!(false))).await;
    assert!(world.newcomer("17")["muted"].is_string());
    world.send_patient("17", &said(&|p| p["active"] = json!(true))).await;
    assert_eq!(world.newcomer("17")["muted"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_turn_out_to_be_one_are_one_to_visit_whoever_says_so_first() {
    let link = |patient: &mut Value, kind: &str, other: &str| {
        patient["link"] = json!([{"type": kind, "other":
            {"identifier": {"system": "https://emr.example.org/patients", "value": other}}}]);
    };
    for way in ["the old one, last", "the old one, first", "the new one", "both new"] {
        let world = settled_land(&[]).await;
        let (mut old, mut new) = (patient("17"), patient("18"));
        world.send_patient("17", &old).await;
        match way {
            "the old one, last" => {
                world.send_patient("18", &new).await;
                link(&mut old, "replaced-by", "18");
                world.send_patient("17", &old).await;
            }
            "the old one, first" => {
                link(&mut old, "replaced-by", "18");
                world.send_patient("17", &old).await;
                assert_eq!(world.newcomer("17")["muted"], Value::Null, "nobody has taken their place yet");
                world.send_patient("18", &new).await;
            }
            "the new one" => {
                link(&mut new, "replaces", "17");
                world.send_patient("18", &new).await;
            }
            _ => {
                world.send_patient("18", &new).await;
                link(&mut new, "replaces", "17");
                world.send_patient("18", &new).await;
            }
        }
        let (old, new) = (world.newcomer("17"), world.newcomer("18"));
        assert!(old["muted"].is_string(), "{way}: {old}");
        assert_eq!((&old["replaced_by"], &new["muted"]), (&new["_id"], &Value::Null), "{way}");
        assert_eq!(world.newcomers().len(), 2, "{way}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_back_from_a_server_changes_nothing_in_cht() {
    let world = settled_land(&[]).await;
    let otieno = patient("17");
    world.send_patient("17", &otieno).await;
    world.chw_writes("17", "phone", json!("+254712000999")).await;
    world.chw_writes("17", "notes", json!("asks for a visit in the morning")).await;
    let before = world.newcomer("17");
    let theirs = world.patients_of(before["_id"].as_str().expect("an id")).remove(0);
    let id = theirs["id"].as_str().expect("an id").to_string();
    for _ in 0..2 {
        assert_eq!(world.put(&format!("/fhir/Patient/{id}"), &theirs).await.0, 200);
        world.settled().await;
    }
    assert_eq!(world.newcomer("17"), before);
}
