//! mediator-config/cht on a CHW's phone: CHT's own compiler and rules engine, and its forms in Chromium. What the
//! mediator wrote raises the tasks, and what the CHW fills completes the requests.
use crate::world::{PATIENT, World, ltfu};
use cht_fhir_mediator::standins::cht;
use serde_json::{Value, json};
use std::io::Write;
use std::process::Stdio;

const CHW: &str = "0080eec9-92ce-4818-896a-56e74f4e84da";
const NEIGHBOUR: &str = "5b0f1f0e-3f0c-4a8e-9a55-0d8f7a9b3c21";
const SUPERVISOR: &str = "7c1d2e3f-4a5b-4c6d-8e7f-901a2b3c4d5e";

fn is_there() -> bool {
    let what = "mediator-config/cht";
    crate::have_node(what)
        && crate::have("python3", what, "Python 3.10")
        && crate::have("xsltproc", what, "xsltproc")
        && crate::have("chromium", what, "Chromium")
}

/// A world whose CHT has the shipped forms, two areas with a CHW each, and the patient in the first.
async fn world() -> World {
    let world = World::with(&[], cht::Options::default()).await;
    for contact in contacts() {
        world.cht.add_person(contact);
    }
    world
}

fn contacts() -> Vec<Value> {
    let district = json!({"_id": "district"});
    let area = |id: &str| json!({"_id": id, "parent": district});
    let house = json!({"_id": "house", "parent": area("area-a")});
    vec![
        json!({"_id": "district", "type": "district_hospital", "name": "Kibera"}),
        json!({"_id": "area-a", "type": "health_center", "name": "Area A", "parent": district, "contact": {"_id": CHW}}),
        json!({"_id": "area-b", "type": "health_center", "name": "Area B", "parent": district, "contact": {"_id": NEIGHBOUR}}),
        json!({"_id": CHW, "type": "person", "name": "Beatrice Atieno", "role": "chw", "parent": area("area-a")}),
        json!({"_id": NEIGHBOUR, "type": "person", "name": "Moses Kiprop", "role": "chw", "parent": area("area-b")}),
        json!({"_id": SUPERVISOR, "type": "person", "name": "Grace Wanjiru", "role": "chw_supervisor", "parent": district}),
        json!({"_id": "house", "type": "clinic", "name": "Otieno", "parent": area("area-a")}),
        json!({"_id": PATIENT, "type": "person", "name": "Achieng Otieno", "patient_id": "83288", "sex": "female",
            "date_of_birth": "1992-03-14", "phone": "+254712000101", "parent": house}),
    ]
}

fn names_place(contact: &Value, place: &str) -> bool {
    contact["_id"] == place || (contact["parent"].is_object() && names_place(&contact["parent"], place))
}

/// What CHT puts on the phone of whoever works in a place: the people below it, and the reports about them.
fn on_the_phone(world: &World, user: &str) -> Vec<Value> {
    let all = contacts();
    let own = all.iter().find(|contact| contact["_id"] == user).expect("a user");
    let place = own["parent"]["_id"].as_str().expect("a place").to_string();
    let below: Vec<Value> = all.into_iter().filter(|contact| names_place(contact, &place)).collect();
    let is_below = |id: &Value| below.iter().any(|contact| contact["_id"] == *id);
    let patient = |report: &Value| {
        let known = world.cht.hydrated(report["_id"].as_str().unwrap_or_default());
        known.map_or(Value::Null, |report| report["patient"]["_id"].clone())
    };
    let reports: Vec<Value> = world.cht.reports().into_iter().filter(|r| is_below(&patient(r))).collect();
    below.into_iter().chain(reports).collect()
}

/// The subject of a phone on which nobody is the patient's: any who is there.
fn subject(docs: &[Value], user: &str) -> String {
    let is_there = docs.iter().any(|doc| doc["_id"] == PATIENT);
    if is_there { PATIENT.to_string() } else { user.to_string() }
}

async fn phone(world: &World, user: &str, fill: Value) -> Value {
    let docs = on_the_phone(world, user);
    let mut story = json!({"user": user, "subject": subject(&docs, user), "docs": docs});
    if !fill.is_null() {
        story["fill"] = fill;
    }
    tokio::task::spawn_blocking(move || played(&story)).await.expect("an answer")
}

fn played(story: &Value) -> Value {
    let mut child = crate::part("cht-config/phone.sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a phone");
    child.stdin.take().expect("a pipe").write_all(story.to_string().as_bytes()).expect("written");
    let output = child.wait_with_output().expect("ended");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn tasks(seen: &Value) -> Vec<Value> {
    seen["tasks"].as_array().cloned().unwrap_or_default()
}

/// The one task on the patient's CHW's phone; nobody else has it.
async fn one_task(world: &World) -> (Value, Value) {
    let seen = phone(world, CHW, Value::Null).await;
    let [task] = &tasks(&seen)[..] else { panic!("{}", seen["tasks"]) };
    assert_eq!((&task["for"], &task["owner"]), (&json!(PATIENT), &json!(PATIENT)));
    for other in [NEIGHBOUR, SUPERVISOR] {
        assert_eq!(tasks(&phone(world, other, Value::Null).await), Vec::<Value>::new(), "{other}");
    }
    (task.clone(), seen)
}

/// The CHW fills a form, the phone syncs, and CHT pushes the report. Answers what the phone shows then.
async fn filled(world: &World, fill: Value) -> Value {
    let seen = phone(world, CHW, fill).await;
    assert_eq!(seen["errors"], json!([]), "{seen}");
    let mut report = seen["filled"].clone();
    // The web client says who filled it; the harness does not.
    report["contact"] = json!({"_id": CHW, "parent": {"_id": "area-a", "parent": {"_id": "district"}}});
    let report = world.cht.add_person(report);
    let report = world.cht.hydrated(report["_id"].as_str().expect("an id")).expect("a report");
    assert!(world.cht.push(&report).await);
    world.settled().await;
    seen["left"].clone()
}

async fn does(world: &World, task: &Value, answers: Value) -> Value {
    filled(world, json!({"task": task["id"], "answers": [answers]})).await
}

fn request(world: &World) -> Value {
    world.fhir.resources("ServiceRequest").pop().expect("a request")
}

/// What the form's question was answered, sorted.
fn answered(world: &World, form: &str, question: &str) -> Vec<Value> {
    let (system, all) = (format!("urn:cht:form:{form}"), world.fhir.resources("Observation"));
    let is_it =
        |o: &Value| o["code"]["coding"][0]["system"] == system && o["code"]["coding"][0]["code"] == question;
    let mut answers: Vec<Value> = all.into_iter().filter(is_it).map(|o| o["valueString"].clone()).collect();
    answers.sort_by_key(Value::to_string);
    answers
}

/// What every follow-up tells by the mediator's own codes, sorted: the outcomes, or the dates of the next visit.
fn told(world: &World, code: &str) -> Vec<String> {
    let system = "https://cht-fhir-mediator.org/fhir/CodeSystem/follow-up-question";
    let all = world
        .fhir
        .resources("Observation")
        .into_iter()
        .filter(|o| o["code"]["coding"][0]["system"] == system && o["code"]["coding"][0]["code"] == code);
    let value = |o: Value| {
        let coded = &o["valueCodeableConcept"]["coding"][0]["code"];
        if coded.is_null() {
            o["valueDateTime"].as_str().map(String::from)
        } else {
            coded.as_str().map(String::from)
        }
    };
    let mut values: Vec<String> = all.filter_map(value).collect();
    values.sort();
    values
}

fn day(from_now: i64) -> String {
    let day = jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::now()).date();
    day.checked_add(jiff::Span::new().days(from_now)).expect("a day").to_string()
}

async fn asked(world: &World, request: &Value) {
    let (status, body) = world.post("/fhir/ServiceRequest", request).await;
    assert_eq!(status, 201, "{body}");
    world.settled().await;
}

fn contact_tracing(identifier: &str) -> Value {
    let mut request = ltfu(identifier);
    request["code"] = json!({"text": "Contact tracing"});
    request["reasonCode"] = json!([{"text": "Tuberculosis"}]);
    request["contained"] = json!([{"resourceType": "RelatedPerson", "id": "c", "patient": request["subject"],
        "name": [{"text": "Otieno Ouma"}], "telecom": [{"system": "phone", "value": "+254712000222"}]}]);
    request["performer"] = json!([{"reference": "#c"}]);
    request
}

#[test]
fn it_compiles_and_the_forms_are_what_their_xlsx_say() {
    if !is_there() {
        return;
    }
    let output = crate::part("cht-config/phone.sh").arg("--check").output().expect("a verdict");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    println!("{}", String::from_utf8_lossy(&output.stdout).trim());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patient_lost_to_follow_up_is_looked_for_twice_and_found() {
    if !is_there() {
        return;
    }
    let world = world().await;
    asked(&world, &ltfu("SR-1")).await;
    let (task, seen) = one_task(&world).await;
    assert_eq!((&task["form"], &task["priority"]), (&json!("ltfu_follow_up"), &json!("high")));
    assert_eq!(seen["cards"][0]["label"], "contact.fhir_mediator.ltfu");
    let (tomorrow, in_a_week) = (day(1), day(7));
    let left = does(&world, &task, json!([null, "visit", "try_again", tomorrow, "Nobody was at home"])).await;
    let again = tasks(&left).pop().expect("the task is still there");
    assert_eq!((&again["id"], again["due"].as_str()), (&task["id"], Some(tomorrow.as_str())));
    assert_eq!(request(&world)["status"], "on-hold");
    assert_eq!(told(&world, "outcome"), ["not_found"]);
    let left = does(&world, &task, json!([null, "visit", "found", in_a_week, "Was travelling"])).await;
    assert_eq!((tasks(&left), &left["states"]["Completed"]), (Vec::new(), &json!(1)));
    assert_eq!(left["cards"], json!([]));
    assert_eq!(left["targets"][1]["value"]["percent"], 100);
    let request = request(&world);
    assert_eq!(request["status"], "completed");
    assert_eq!(told(&world, "outcome"), ["found", "not_found"]);
    assert_eq!(told(&world, "next-visit"), [tomorrow, in_a_week]);
    assert!(answered(&world, "ltfu_follow_up", "where_to").is_empty(), "nobody was asked");
    assert!(answered(&world, "ltfu_follow_up", "asked.n_reason").is_empty(), "a note asks nothing");
    assert_eq!(answered(&world, "ltfu_follow_up", "attempts"), ["1", "2"]);
    let based_on = format!("ServiceRequest/{}", request["id"].as_str().unwrap_or_default());
    let visits = world.fhir.resources("Encounter");
    assert_eq!(visits.len(), 2);
    assert!(visits.iter().all(|visit| visit["basedOn"][0]["reference"] == based_on.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_outcome_of_the_form_is_one_that_the_mediator_knows() {
    if !is_there() {
        return;
    }
    let each = [
        (json!([null, "visit", "moved", "Nakuru"]), "moved"),
        (json!([null, "phone", "died"]), "died"),
        (json!([null, "visit", "transferred", "Mbagathi"]), "transferred"),
        (json!([null, "visit", "refused"]), "refused"),
        (json!([null, "visit", "not_found"]), "not_found"),
    ];
    for (answers, expected) in each {
        let world = world().await;
        asked(&world, &ltfu("SR-1")).await;
        let task = one_task_of(&phone(&world, CHW, Value::Null).await);
        let left = does(&world, &task, answers).await;
        assert_eq!(tasks(&left), Vec::<Value>::new(), "{expected}");
        assert_eq!(told(&world, "outcome"), [expected]);
        assert_eq!(request(&world)["status"], "completed", "{expected}");
    }
}

fn one_task_of(seen: &Value) -> Value {
    let [task] = &tasks(seen)[..] else { panic!("{}", seen["tasks"]) };
    task.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_clinic_withdraws_is_no_task_any_more() {
    if !is_there() {
        return;
    }
    for (asks, cancel) in [(ltfu("SR-1"), "LTFU_CANCEL"), (contact_tracing("CT-1"), "CONTACT_TRACING_CANCEL")]
    {
        let world = world().await;
        asked(&world, &asks).await;
        one_task(&world).await;
        let mut withdrawn = asks.clone();
        withdrawn["status"] = json!("revoked");
        asked(&world, &withdrawn).await;
        assert!(world.cht.reports().iter().any(|report| report["form"] == cancel), "{cancel}");
        let left = phone(&world, CHW, Value::Null).await;
        assert_eq!(tasks(&left), Vec::<Value>::new(), "{cancel}");
        assert_eq!(left["cards"], json!([]));
        // What is withdrawn counts neither as done nor as to be done.
        assert_eq!(left["targets"][1]["value"]["total"], 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_is_traced() {
    if !is_there() {
        return;
    }
    let world = world().await;
    asked(&world, &contact_tracing("CT-1")).await;
    let (task, seen) = one_task(&world).await;
    assert_eq!(task["form"], "contact_tracing_follow_up");
    let card = seen["cards"][0]["fields"].as_array().expect("fields");
    assert!(card.iter().any(|field| field["value"] == "Otieno Ouma"), "{card:?}");
    does(&world, &task, json!([null, "phone", "1", "try_again", day(1)])).await;
    assert_eq!(request(&world)["status"], "on-hold");
    assert_eq!(told(&world, "outcome"), ["not_found"]);
    let answers = json!([
        null,
        "visit",
        "3",
        "reached",
        "yes",
        "cough,fever",
        day(-3),
        "yes",
        day(-1),
        "positive",
        "Starts treatment"
    ]);
    let left = does(&world, &task, answers).await;
    assert_eq!(tasks(&left), Vec::<Value>::new());
    assert_eq!(request(&world)["status"], "completed");
    assert_eq!(told(&world, "outcome"), ["found", "not_found"]);
    for (question, said) in [
        ("symptoms", "yes"),
        ("symptom_list", "cough fever"),
        ("tested", "yes"),
        ("test_result", "positive"),
        ("attempts", "3"),
    ] {
        let all = answered(&world, "contact_tracing_follow_up", question);
        assert_eq!(all.last(), Some(&json!(said)), "{question}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_that_nobody_can_reach_is_the_end_of_the_search() {
    if !is_there() {
        return;
    }
    let world = world().await;
    asked(&world, &contact_tracing("CT-1")).await;
    let (task, _) = one_task(&world).await;
    let left = does(&world, &task, json!([null, "phone", "5", "not_reachable"])).await;
    assert_eq!(tasks(&left), Vec::<Value>::new());
    assert_eq!(request(&world)["status"], "completed");
    assert_eq!(told(&world, "outcome"), ["not_found"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_needs_a_visit_raises_one_and_any_other_is_shown() {
    if !is_there() {
        return;
    }
    let world = world().await;
    for (id, needs_visit) in [("result-1", true), ("result-2", false)] {
        world.cht.add_person(json!({"_id": id, "type": "data_record", "form": "CLINIC_RESULT", "errors": [], "tasks": [],
            "reported_date": jiff::Timestamp::now().as_millisecond(), "fields": {"patient_id": PATIENT, "external_id": id,
            "kind": "result", "what": "Viral load", "value": "850 copies/mL", "date": day(-2), "needs_visit": needs_visit}}));
    }
    let (task, seen) = one_task(&world).await;
    assert_eq!(
        (&task["form"], task["id"].as_str().map(|id| id.starts_with("result-1"))),
        (&json!("clinic_result_follow_up"), Some(true))
    );
    let labels: Vec<&str> =
        seen["cards"].as_array().into_iter().flatten().filter_map(|card| card["label"].as_str()).collect();
    assert_eq!(
        labels,
        ["clinic_result_visit", "clinic_result", "clinic_result"]
            .map(|l| format!("contact.fhir_mediator.{l}"))
    );
    let left = does(&world, &task, json!([null, "yes", "Comes on Monday"])).await;
    assert_eq!(tasks(&left), Vec::<Value>::new());
    assert_eq!(answered(&world, "clinic_result_follow_up", "told"), ["yes"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_referral_form_makes_a_referral() {
    if !is_there() {
        return;
    }
    let world = world().await;
    let answers = json!([["fever,cough", "emergency", "Mbagathi County Hospital", "13080", "Very weak"]]);
    filled(&world, json!({"form": "referral", "answers": answers})).await;
    let request = request(&world);
    assert_eq!((request["status"].as_str(), request["priority"].as_str()), (Some("active"), Some("stat")));
    let reasons: Vec<&str> =
        request["reasonCode"].as_array().into_iter().flatten().filter_map(|r| r["text"].as_str()).collect();
    assert_eq!(reasons, ["Fever", "Cough"]);
    assert_eq!(request["performer"][0]["identifier"]["value"], "13080");
    assert_eq!(world.fhir.resources("Task").len(), 1);
}

/// Of 26 November 2026.
const NOON: i64 = 1_795_694_400_000;

/// A record or report as CHT has it, of so many minutes after noon.
fn record(id: &str, form: &str, reported: i64, fields: Value) -> Value {
    let mut all = json!({"patient_uuid": PATIENT});
    all.as_object_mut().expect("an object").extend(fields.as_object().cloned().expect("an object"));
    json!({"_id": id, "type": "data_record", "form": form, "errors": [], "tasks": [], "fields": all,
        "reported_date": NOON + reported * 60_000})
}

/// The tasks that some records leave, as `id due`.
async fn left_by(records: Vec<Value>) -> Vec<String> {
    let docs: Vec<Value> =
        contacts().into_iter().filter(|c| names_place(c, "area-a")).chain(records).collect();
    let story = json!({"user": CHW, "subject": PATIENT, "docs": docs, "now": NOON});
    let seen = tokio::task::spawn_blocking(move || played(&story)).await.expect("an answer");
    let id = |task: &Value| {
        task["id"].as_str().and_then(|id| id.split('~').next()).unwrap_or_default().to_string()
    };
    let told = |task: &Value| format!("{} {}", id(task), task["due"].as_str().unwrap_or_default());
    let mut all: Vec<String> = tasks(&seen).iter().map(told).collect();
    all.sort();
    all
}

/// An answer from the person's page, for no task in particular.
fn unasked(reported: i64) -> Value {
    record(
        "x",
        "ltfu_follow_up",
        reported,
        json!({"outcome": "found", "inputs": {"source": "contact", "source_id": ""}}),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_come_twice_or_in_another_order_or_without_a_date() {
    if !is_there() {
        return;
    }
    let asks = |id: &str, fields: Value| record(id, "LTFU_REQUEST", -60, fields);
    let sr = |id: &str| asks(id, json!({"external_id": "SR-1", "due_date": "2026-12-20"}));
    let cancel = |reported, external_id: &str| {
        record("c", "LTFU_CANCEL", reported, json!({"external_id": external_id}))
    };
    let to_b = json!({"outcome": "found", "inputs": {"source": "task", "source_id": "b"}});
    let interop = record("i", "INTEROP_FOLLOW_UP", -60, json!({}));
    let mut faulty = sr("a");
    faulty["errors"] = json!([{"code": "sys.incorrect_type", "message": "x"}]);
    let cases: [(Vec<Value>, Vec<String>); 16] = [
        (vec![sr("a"), sr("b")], vec!["a 2026-12-20".into()]),
        (vec![sr("a"), sr("b"), record("x", "ltfu_follow_up", -5, to_b)], vec![]),
        (vec![sr("a"), cancel(-90, "SR-1")], vec![]),
        (vec![sr("a"), cancel(-5, "SR-2")], vec!["a 2026-12-20".into()]),
        (vec![sr("a"), unasked(-5)], vec![]),
        (vec![sr("a"), unasked(-90)], vec!["a 2026-12-20".into()]),
        (vec![faulty], vec!["a 2026-12-20".into()]),
        (
            vec![asks("a", json!({"external_id": "1", "due_date": 1_797_724_800_000_i64}))],
            vec!["a 2026-12-20".into()],
        ),
        (vec![asks("a", json!({"external_id": "1"}))], vec!["a 2026-12-03".into()]),
        (vec![asks("a", json!({"external_id": "1", "urgent": true}))], vec!["a 2026-11-28".into()]),
        (
            vec![record("t", "CONTACT_TRACING", 0, json!({"external_id": "1", "risk": "high"}))],
            vec!["t 2026-11-27".into()],
        ),
        (vec![asks("a", json!({"external_id": "1", "due_date": "2024-02-01"}))], vec!["a 2026-11-26".into()]),
        (vec![asks("a", json!({"external_id": "1", "due_date": "2046-02-01"}))], vec!["a 2027-11-26".into()]),
        (vec![interop.clone()], vec!["i 2026-12-03".into()]),
        (vec![interop.clone(), cancel(-5, "SR-2")], vec![]),
        (vec![interop, sr("a"), cancel(-5, "SR-1")], vec!["i 2026-12-03".into()]),
    ];
    for (n, (records, expected)) in cases.into_iter().enumerate() {
        assert_eq!(left_by(records).await, expected, "case {n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_by_the_existing_mediators_route_is_answered_with_the_same_form() {
    if !is_there() {
        return;
    }
    let world = world().await;
    let endpoint = json!({"resourceType": "Endpoint", "identifier": [{"system": "cht", "value": "e-1"}], "address": world.emr.url(),
        "connectionType": {"system": "http://terminology.hl7.org/CodeSystem/endpoint-connection-type", "code": "hl7-fhir-rest"},
        "payloadType": [{"text": "x"}], "status": "active"});
    let clinic = json!({"resourceType": "Organization", "identifier": [{"system": "cht", "value": "clinic-1"}], "name": ["Clinic"],
        "endpoint": [{"reference": "Endpoint/e-1"}]});
    assert_eq!(world.post("/endpoint", &endpoint).await.0, 200);
    assert_eq!(world.post("/organization", &clinic).await.0, 200);
    let request_of_theirs = json!({"intent": "order", "status": "active", "subject": {"reference": format!("Patient/{PATIENT}")},
        "requester": {"reference": "Organization/clinic-1"}});
    let (status, body) = world.post("/service-request", &request_of_theirs).await;
    assert_eq!(status, 201, "{body}");
    world.settled().await;
    let (task, _) = one_task(&world).await;
    assert_eq!(task["form"], "ltfu_follow_up");
    let left = does(&world, &task, json!([null, "visit", "found"])).await;
    assert_eq!(tasks(&left), Vec::<Value>::new());
    assert_eq!(request(&world)["status"], "completed");
}
