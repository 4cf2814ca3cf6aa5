use super::*;
use crate::standins::callback;
use reqwest::{Method, RequestBuilder};

const PATIENT: &str = "bf3d89b0-2c75-48a0-b5ad-f94c9fd3e203";
const HOUSEHOLD: &str = "fb2883cb-9591-46db-a51e-d85f0f5c2643";

struct Desk {
    cht: Handle,
    client: reqwest::Client,
}

impl Desk {
    async fn open(options: Options) -> Self {
        let cht = start(([127, 0, 0, 1], 0).into(), options).await.unwrap();
        cht.add_person(json!({"_id": HOUSEHOLD, "type": "clinic", "name": "Njoroge household",
            "contact": {"_id": PATIENT}, "parent": {"_id": "elsewhere"}}));
        cht.add_person(json!({"_id": PATIENT, "name": "Kamau wa Njoroge", "patient_id": "56479",
            "phone": "+254712000101", "parent": {"_id": HOUSEHOLD}}));
        Self { cht, client: client(Duration::from_secs(30)).unwrap() }
    }

    fn call(&self, method: Method, path: &str) -> RequestBuilder {
        let options = &self.cht.cht.options;
        self.client
            .request(method, format!("{}{path}", self.cht.url()))
            .header("accept", "application/json")
            .basic_auth(&options.username, Some(&options.password))
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        read(self.call(Method::GET, path)).await
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        read(self.call(Method::POST, path).json(&body)).await
    }

    async fn record(&self, body: Value) -> Value {
        let (status, answer) = self.post("/api/v2/records", body).await;
        assert_eq!((status, &answer["success"]), (200, &json!(true)));
        self.cht.get(text(&answer, "id")).unwrap()
    }
}

async fn read(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

fn ltfu(external_id: &str) -> Value {
    json!({"_meta": {"form": "LTFU_REQUEST"}, "patient_uuid": PATIENT, "external_id": external_id})
}

#[tokio::test]
async fn a_login_is_refused_as_cht_refuses_it() {
    let desk = Desk::open(Options { lockout: Duration::from_millis(500), ..Options::default() }).await;
    let url = format!("{}/api/deploy-info", desk.cht.url());
    let wrong = || desk.client.get(&url).header("accept", "application/json").basic_auth("x", Some("y"));
    assert_eq!(read(wrong()).await, (401, json!({"code": 401, "error": "unauthorized"})));
    let none = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let moved = none.get(&url).send().await.unwrap();
    assert_eq!(
        (moved.status().as_u16(), &moved.headers()["location"]),
        (302, &"/medic/login".parse().unwrap())
    );
    assert_eq!(desk.get("/api/deploy-info").await.1["version"], "5.2.0");
    for _ in 1..FAILED_LOGINS {
        read(wrong()).await;
    }
    let locked_out = (429, json!({"code": 429, "error": "Too Many Requests"}));
    assert_eq!(desk.get("/api/deploy-info").await, locked_out, "the right password is locked out, too");
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(desk.get("/api/deploy-info").await.0, 200);
}

#[tokio::test]
async fn mistakes_of_a_client_are_500() {
    let desk = Desk::open(Options::default()).await;
    let answer = desk.post("/api/v2/records", json!({"_meta": {"form": "NO_SUCH_FORM"}})).await;
    let expected = json!({"code": 500, "error": "Server error", "details": "Form not found: NO_SUCH_FORM"});
    assert_eq!(answer, (500, expected));
    let plain = desk.call(Method::POST, "/api/v2/records").header("content-type", "text/plain").body("hello");
    assert_eq!(read(plain).await, (500, json!({"code": 500, "error": "Server error"})));
    let nowhere = json!({"error": "not_found", "reason": "Database does not exist."});
    assert_eq!(desk.get("/api/v1/nothing").await, (404, nowhere));
}

#[tokio::test]
async fn a_record_is_saved_as_often_as_it_is_sent() {
    let desk = Desk::open(Options::default()).await;
    let mut body = ltfu("SR-2026-000117");
    body["_meta"]["reported_date"] = json!(1_795_300_000_000_i64);
    let first = desk.record(body.clone()).await;
    let second = desk.record(body).await;
    assert_ne!(first["_id"], second["_id"]);
    assert_eq!(first["reported_date"], 1_795_300_000_000_i64);
    assert_eq!(first["errors"], json!([]));
    assert_eq!(first["sms_message"], json!({"form": "LTFU_REQUEST", "reported_date": 1_795_300_000_000_i64}));
    assert_eq!(desk.cht.ledger()[&("LTFU_REQUEST".into(), "SR-2026-000117".into())].len(), 2);
    let (_, found) = desk.get("/api/v1/report/uuid?freetext=external_id%3Asr-2026-000117").await;
    // As CouchDB has it: in the order of their ids, which is no order of time.
    let mut both = [text(&first, "_id"), text(&second, "_id")];
    both.sort_unstable();
    assert_eq!(found, json!({"data": both, "cursor": null}));
    let id = text(&first, "_id");
    assert_eq!(desk.get(&format!("/api/v1/report/{id}")).await, (200, first.clone()));
    let (_, whole) = desk.get(&format!("/api/v1/report/{id}?with_lineage=true")).await;
    assert_eq!(whole["patient"]["parent"]["name"], "Njoroge household");
    let (_, rows) =
        desk.get(&format!("/medic/_design/medic-client/_view/reports_by_subject?key=%22{PATIENT}%22")).await;
    assert_eq!(rows["rows"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        desk.get(&format!("/api/v1/report/{PATIENT}")).await,
        (404, json!({"code": 404, "error": "Report not found"}))
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_record_is_only_seen_in_the_report() {
    let mut options = Options::default();
    options.forms["REF_BACK"]["public_form"] = json!(false);
    let desk = Desk::open(options).await;
    let unknown = desk
        .record(json!({"_meta": {"form": "LTFU_REQUEST"}, "patient_uuid": "nobody", "external_id": "1"}))
        .await;
    let expected = json!([{"code": "registration_not_found", "message": "No patient with id nobody."}]);
    assert_eq!(unknown["errors"], expected);
    let number = json!({"_meta": {"form": "CONTACT_TRACING"}, "patient_id": 56479, "external_id": "1", "disease": "TB"});
    assert_eq!(desk.record(number).await["errors"][1]["code"], "registration_not_found");
    let stranger = desk
        .record(json!({"_meta": {"form": "REF_BACK", "from": "+254700000999"}, "patient_id": "56479", "external_id": "1"}))
        .await;
    let expected = json!([{"message": "You have not been registered to use this app.", "code": "sys.facility_not_found"}]);
    assert_eq!(stranger["errors"], expected);
    let known = desk
        .record(json!({"_meta": {"form": "REF_BACK", "from": "+254712000101"}, "patient_id": "56479", "external_id": "1"}))
        .await;
    assert_eq!((&known["errors"], &known["contact"]["_id"]), (&json!([]), &json!(PATIENT)));
}

#[tokio::test]
async fn the_index_is_late_if_so_set() {
    let desk = Desk::open(Options { index_delay: Duration::from_millis(300), ..Options::default() }).await;
    desk.record(ltfu("SR-1")).await;
    let found = || async {
        desk.get("/api/v1/report/uuid?freetext=external_id:SR-1").await.1["data"].as_array().map(Vec::len)
    };
    assert_eq!(found().await, Some(0));
    tokio::time::sleep(Duration::from_millis(350)).await;
    assert_eq!(found().await, Some(1));
}

#[tokio::test]
async fn a_person_is_made_once() {
    let desk = Desk::open(Options::default()).await;
    let body = json!({"_id": "b6f1e6a0-5a55-4f0e-8d53-5f6a1f9c0047", "name": "Nekesa Wafula", "type": "person",
        "external_id": "MRN-47", "place": HOUSEHOLD});
    let (status, made) = desk.post("/api/v1/people", body.clone()).await;
    assert_eq!((status, &made["ok"], &made["id"]), (200, &json!(true), &body["_id"]));
    assert_eq!(
        desk.post("/api/v1/people", body.clone()).await,
        (409, json!({"code": 409, "error": "Document update conflict."}))
    );
    let (_, person) = desk.get("/api/v1/person/b6f1e6a0-5a55-4f0e-8d53-5f6a1f9c0047").await;
    assert_eq!(person["parent"], json!({"_id": HOUSEHOLD, "parent": {"_id": "elsewhere"}}));
    let charset =
        desk.call(Method::POST, "/api/v1/people").header("content-type", "application/json; charset=utf-8");
    assert_eq!(charset.body(body.to_string()).send().await.unwrap().status(), 400);
    let error = |(status, body): (u16, Value)| (status, text(&body, "error").to_string());
    let post = |body: Value| desk.post("/api/v1/people", body);
    assert_eq!(
        error(post(json!({"type": "person"})).await),
        (400, "Person is missing a \"name\" property.".into())
    );
    assert_eq!(error(post(json!({"name": {}})).await), (400, "Property \"name\" must be a string.".into()));
    assert_eq!(
        error(post(json!({"name": "X", "type": "clinic"})).await),
        (400, "Wrong type, this is not a person.".into())
    );
    assert_eq!(
        error(post(json!({"name": "X", "place": "nowhere"})).await),
        (404, "Failed to find place.".into())
    );
}

#[tokio::test]
async fn people_are_found_by_phone_by_code_and_by_word() {
    let desk = Desk::open(Options::default()).await;
    let (status, hit) = desk.get("/api/v1/contacts-by-phone?phone=0712000101").await;
    assert_eq!((status, &hit["docs"][0]["_id"]), (200, &json!(PATIENT)));
    desk.cht.add_person(json!({"_id": "local", "name": "Wanjiku", "phone": "0722334455"}));
    let miss = json!({"error": "not_found", "reason": "no matches found"});
    assert_eq!(desk.get("/api/v1/contacts-by-phone?phone=0722334455").await, (404, miss));
    assert_eq!(desk.get("/api/v1/contacts-by-phone?phone=not%20a%20phone").await.0, 400);
    for freetext in ["patient_id:56479", "kama"] {
        let (_, found) = desk.get(&format!("/api/v1/contact/uuid?type=person&freetext={freetext}")).await;
        assert_eq!(found["data"], json!([PATIENT]), "{freetext}");
    }
    let (_, mixed) = desk.post("/api/v1/hydrate", json!({"doc_ids": [PATIENT, "nope"]})).await;
    assert_eq!(mixed[0]["doc"]["parent"]["contact"]["name"], "Kamau wa Njoroge");
    assert_eq!(mixed[1], json!({"id": "nope", "error": "not_found"}));
    let bad = json!({"error": "bad_request", "reason": "`doc_ids` parameter must be a json array."});
    assert_eq!(desk.post("/api/v1/hydrate", json!({"doc_ids": "x"})).await, (400, bad));
}

#[tokio::test]
async fn a_report_is_pushed_before_it_is_saved_and_before_the_caller_is_answered() {
    let mediator = callback::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let options = Options { outbound_url: Some(mediator.url()), push_twice: true, ..Options::default() };
    let desk = Desk::open(options).await;
    mediator.faults().fail_next(1, 500);
    mediator.faults().hang_next(1, 300);
    let before = Instant::now();
    let saved = desk.record(ltfu("SR-2026-000140")).await;
    assert!(before.elapsed() >= Duration::from_millis(300));
    let pushed = mediator.received();
    assert_eq!(pushed.len(), 1);
    assert_eq!(pushed[0].body["doc"]["_id"], saved["_id"]);
    assert_eq!(pushed[0].body["doc"]["patient"]["parent"]["contact"]["_id"], PATIENT);
    assert_eq!(desk.cht.failed_pushes().len(), 1);
    assert_eq!(desk.cht.push_again().await, 0);
    assert_eq!(mediator.received().len(), 2);
}

#[tokio::test]
async fn a_completed_follow_up_names_the_task_it_came_from() {
    let mediator = callback::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let desk = Desk::open(Options { outbound_url: Some(mediator.url()), ..Options::default() }).await;
    let request = desk.record(ltfu("SR-1")).await;
    let id = text(&request, "_id");
    let report = desk
        .cht
        .complete_follow_up(id, "trace_follow_up", json!({"trace_details": {"patient_found": "yes"}}))
        .unwrap();
    assert_eq!(
        (&report["fields"]["inputs"]["source"], &report["fields"]["inputs"]["source_id"]),
        (&json!("task"), &json!(id))
    );
    assert_eq!(report["patient"]["_id"], PATIENT);
    assert!(desk.cht.push(&report).await);
    assert_eq!(mediator.received()[1].body["doc"], report);
    assert!(desk.cht.complete_follow_up("none", "trace_follow_up", json!({})).is_none());
}

/// The table of answers in CHT's outbound contract.
#[tokio::test]
async fn cht_judges_answers_to_a_push() {
    use axum::http::{StatusCode, header::CONTENT_TYPE};
    use axum::{Router, response::IntoResponse, routing::post};
    let answers = |status: u16, kind: &'static str, body: &'static str| {
        post(move || async move {
            (StatusCode::from_u16(status).unwrap(), [(CONTENT_TYPE, kind)], body).into_response()
        })
    };
    let cases = [
        (200, "application/json", "{}", true),
        (202, "application/json", "{}", true),
        (202, "text/plain", "", true),
        (204, "text/plain", "", true),
        (200, "text/plain", "ok", true),
        (200, "application/json+openhim", "{}", true),
        (200, "application/json", "", false),
        (200, "application/json", "{", false),
        (304, "text/plain", "", true),
        (409, "application/json", "{}", false),
        (400, "application/json", "{}", false),
        (503, "application/json", "{}", false),
    ];
    for (status, kind, body, pushed) in cases {
        let router = Router::new().route("/", answers(status, kind, body));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Server::start(listener, router, Faults::default()).await.unwrap();
        let options =
            Options { outbound_url: Some(format!("http://{}/", server.address)), ..Options::default() };
        let cht = start(([127, 0, 0, 1], 0).into(), options).await.unwrap();
        assert_eq!(cht.push(&json!({"_id": "x"})).await, pushed, "{status} {kind} {body}");
    }
}

#[tokio::test]
async fn a_new_person_is_pushed_twice() {
    let mediator = callback::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let desk = Desk::open(Options { outbound_url: Some(mediator.url()), ..Options::default() }).await;
    desk.post("/api/v1/people", json!({"name": "Imani", "place": HOUSEHOLD})).await;
    while mediator.received().len() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let pushed: Vec<Value> = mediator.received().into_iter().map(|r| r.body["doc"].clone()).collect();
    assert_eq!(pushed[0]["patient_id"], pushed[1]["patient_id"]);
    assert!(text(&pushed[0], "_rev").starts_with("1-") && text(&pushed[1], "_rev").starts_with("2-"));
}
