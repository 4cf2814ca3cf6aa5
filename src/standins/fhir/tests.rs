use super::*;
use crate::standins::callback;
use reqwest::{Method, RequestBuilder, header::HeaderMap};

struct Emr {
    fhir: Handle,
    client: reqwest::Client,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Emr {
    async fn open(options: Options) -> Self {
        let fhir = start(([127, 0, 0, 1], 0).into(), options).await.unwrap();
        Self { fhir, client: client(Duration::from_secs(5)).unwrap() }
    }

    fn call(&self, method: Method, path: &str, body: &Value) -> RequestBuilder {
        let url = if path.contains("://") { path.to_string() } else { format!("{}{path}", self.fhir.url()) };
        self.client.request(method, url).json(body)
    }

    async fn get(&self, path: &str) -> Answer {
        send(self.call(Method::GET, path, &Value::Null)).await
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        send(self.call(Method::POST, path, body)).await
    }

    async fn put(&self, path: &str, body: &Value) -> Answer {
        send(self.call(Method::PUT, path, body)).await
    }

    async fn ids(&self, path: &str) -> Vec<String> {
        let found = self.get(path).await.body;
        let entries = found["entry"].as_array().cloned().unwrap_or_default();
        entries.iter().map(|e| e["resource"]["id"].as_str().unwrap().to_string()).collect()
    }
}

async fn send(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, body: response.json().await.unwrap_or_default() }
}

fn patient(value: &str) -> Value {
    json!({"resourceType": "Patient", "identifier": [{"system": "urn:cht:uuid", "value": value}],
        "name": [{"family": "Wafula", "given": ["Nekesa"]}]})
}

fn request(subject: &str) -> Value {
    json!({"resourceType": "ServiceRequest", "status": "active", "intent": "order", "subject": {"reference": subject}})
}

#[tokio::test]
async fn a_resource_is_created_read_and_updated_in_versions() {
    let emr = Emr::open(Options::default()).await;
    let made = emr.post("/Patient", &patient("a")).await;
    assert_eq!(made.status, 201);
    assert_eq!(made.headers["location"], format!("{}/Patient/1/_history/1", emr.fhir.url()));
    assert_eq!(made.headers["etag"], "W/\"1\"");
    let mut body = emr.get("/Patient/1").await.body;
    assert_eq!(emr.put("/Patient/1", &body).await.headers["etag"], "W/\"1\"", "nothing changed");
    body["gender"] = json!("female");
    let updated = emr.put("/Patient/1", &body).await;
    assert_eq!((updated.status, &updated.body["meta"]["versionId"]), (200, &json!("2")));
    body["gender"] = json!("other");
    let stale = send(emr.call(Method::PUT, "/Patient/1", &body).header("if-match", "W/\"1\"")).await;
    assert_eq!((stale.status, &stale.body["resourceType"]), (412, &json!("OperationOutcome")));
    let fresh = send(emr.call(Method::PUT, "/Patient/1", &body).header("if-match", "W/\"2\"")).await;
    assert_eq!(fresh.status, 200);
    assert_eq!(emr.get("/Patient/9").await.status, 404);
    assert_eq!(emr.put("/Patient/9", &json!({"resourceType": "Patient", "id": "9"})).await.status, 400);
    assert_eq!(emr.put("/Patient/a9", &json!({"resourceType": "Patient", "id": "a9"})).await.status, 201);
    assert_eq!(emr.put("/Patient/a9", &json!({"resourceType": "Patient"})).await.status, 400);
    assert_eq!(send(emr.call(Method::DELETE, "/Patient/1", &Value::Null)).await.status, 204);
    assert_eq!(emr.get("/Patient/1").await.status, 410);
}

#[tokio::test]
async fn conditions_on_an_identifier() {
    let emr = Emr::open(Options::default()).await;
    let path = "/Patient?identifier=urn:cht:uuid%7Ca";
    assert_eq!(emr.put(path, &patient("a")).await.status, 201);
    let mut changed = patient("a");
    changed["gender"] = json!("female");
    assert_eq!(emr.put(path, &changed).await.status, 200);
    let again = emr
        .call(Method::POST, "/Patient", &patient("a"))
        .header("if-none-exist", "identifier=urn:cht:uuid|a");
    let again = send(again).await;
    assert_eq!((again.status, &again.body["gender"]), (200, &json!("female")));
    assert_eq!(emr.fhir.ledger()[&("Patient".into(), "urn:cht:uuid|a".into())], 1);
    emr.post("/Patient", &patient("a")).await;
    assert_eq!(emr.put(path, &patient("a")).await.status, 412);
}

#[tokio::test]
async fn what_is_no_good_is_refused_with_an_outcome() {
    let emr = Emr::open(Options::default()).await;
    let refused =
        |answer: Answer| (answer.status, answer.body["issue"][0]["code"].as_str().unwrap().to_string());
    assert_eq!(refused(emr.post("/Patient", &json!({})).await), (400, "structure".into()));
    assert_eq!(refused(emr.post("/Patient", &request("Patient/1")).await), (400, "processing".into()));
    let mut body = request("Patient/1");
    body.as_object_mut().unwrap().remove("subject");
    assert_eq!(refused(emr.post("/ServiceRequest", &body).await), (422, "required".into()));
    let class = json!({"resourceType": "Encounter", "status": "finished", "class": "outpatient"});
    assert_eq!(refused(emr.post("/Encounter", &class).await), (422, "value".into()));
    let text = emr
        .client
        .post(format!("{}/Patient", emr.fhir.url()))
        .header("content-type", "text/plain")
        .body("{}");
    assert_eq!(refused(send(text).await), (415, "not-supported".into()));
    let broken = emr
        .client
        .post(format!("{}/Patient", emr.fhir.url()))
        .header("content-type", "application/fhir+json")
        .body("{");
    assert_eq!(refused(send(broken).await), (400, "structure".into()));
    assert_eq!(refused(emr.get("/Patient?shoe-size=9").await), (400, "processing".into()));
}

#[tokio::test]
async fn searches() {
    let emr = Emr::open(Options::default()).await;
    for value in ["a", "b", "c"] {
        emr.post("/Patient", &patient(value)).await;
    }
    emr.post("/ServiceRequest", &request("Patient/1")).await;
    assert_eq!(emr.ids("/Patient?identifier=urn:cht:uuid%7Cb").await, ["2"]);
    assert_eq!(emr.ids("/Patient?identifier=b,c").await, ["2", "3"]);
    assert!(emr.ids("/Patient?identifier=urn:other%7Cb").await.is_empty());
    assert_eq!(emr.ids("/Patient?_id=3&family=waf").await, ["3"]);
    for query in [
        "subject=Patient/1",
        "patient=1",
        "status=active",
        "subject.identifier=a",
        "patient:Patient.identifier=urn:cht:uuid%7Ca",
    ] {
        assert_eq!(emr.ids(&format!("/ServiceRequest?{query}")).await, ["4"], "{query}");
    }
    assert!(emr.ids("/ServiceRequest?subject.identifier=b").await.is_empty());
    assert!(emr.get("/Patient?identifier=none").await.body["entry"].is_null(), "an empty array is no FHIR");
    let then =
        emr.fhir.get("Patient", "3").unwrap()["meta"]["lastUpdated"].as_str().unwrap().replace('+', "%2B");
    tokio::time::sleep(Duration::from_millis(5)).await;
    emr.fhir.update("Patient", "1", |patient| patient["gender"] = json!("female"));
    assert_eq!(emr.ids(&format!("/Patient?_lastUpdated=gt{then}")).await, ["1"]);
    assert_eq!(emr.ids("/Patient?_lastUpdated=ge2020-01-01&_lastUpdated=lt2020-01-02").await, [""; 0]);
    assert_eq!(emr.ids("/Patient?_sort=-_lastUpdated&_count=1").await, ["1"]);
}

#[tokio::test]
async fn pages_are_reached_by_their_links_and_do_not_shift() {
    let emr = Emr::open(Options::default()).await;
    for n in 0..5 {
        emr.post("/Patient", &patient(&n.to_string())).await;
    }
    let mut page = emr.get("/Patient?_count=2").await.body;
    emr.post("/Patient", &patient("late")).await;
    let mut ids = Vec::new();
    loop {
        assert_eq!(page["total"], 5);
        ids.extend(page["entry"].as_array().unwrap().iter().map(|e| e["resource"]["id"].clone()));
        let next = page["link"].as_array().unwrap().iter().find(|link| link["relation"] == "next").cloned();
        let Some(next) = next else { break };
        page = emr.get(next["url"].as_str().unwrap()).await.body;
    }
    assert_eq!(ids, ["1", "2", "3", "4", "5"]);
}

fn transaction(entries: Value) -> Value {
    json!({"resourceType": "Bundle", "type": "transaction", "entry": entries})
}

#[tokio::test]
async fn a_transaction_is_all_or_nothing_and_its_references_are_rewritten() {
    let emr = Emr::open(Options::default()).await;
    let one = "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0";
    let entries = |request: Value| {
        transaction(json!([
            {"fullUrl": "urn:uuid:5b2e79a3-c5d5-480c-9fee-3a5d1d2af9c2", "resource": request,
                "request": {"method": "POST", "url": "ServiceRequest", "ifNoneExist": "identifier=sr|1"}},
            {"fullUrl": one, "resource": patient("a"), "request": {"method": "PUT", "url": "Patient?identifier=urn:cht:uuid%7Ca"}},
        ]))
    };
    let mut broken = request(one);
    broken["status"] = json!("nonsense");
    assert_eq!(emr.post("", &entries(broken)).await.status, 422);
    assert!(emr.fhir.resources("Patient").is_empty());
    let mut good = request(one);
    good["identifier"] = json!([{"system": "sr", "value": "1"}]);
    let done = emr.post("", &entries(good.clone())).await;
    assert_eq!((done.status, &done.body["type"]), (200, &json!("transaction-response")));
    let locations: Vec<&Value> =
        done.body["entry"].as_array().unwrap().iter().map(|e| &e["response"]["location"]).collect();
    assert_eq!(emr.fhir.resources("ServiceRequest")[0]["subject"]["reference"], "Patient/2");
    assert_eq!(locations, ["ServiceRequest/1/_history/1", "Patient/2/_history/1"]);
    let again = emr.post("/", &entries(good)).await;
    assert_eq!(again.body["entry"][0]["response"]["status"], "200 OK");
    assert_eq!(emr.fhir.ledger().values().copied().collect::<Vec<_>>(), [1, 1]);
    let lost = json!({"resource": request("urn:uuid:nobody"), "request": {"method": "POST", "url": "ServiceRequest"}});
    assert_eq!(emr.post("", &transaction(json!([lost]))).await.status, 400);
    let twice =
        json!({"resource": patient("a"), "request": {"method": "PUT", "url": "Patient?identifier=a"}});
    assert_eq!(emr.post("", &transaction(json!([twice, twice]))).await.status, 400);
}

#[tokio::test]
async fn references_may_be_conditional_and_must_lead_somewhere_if_so_set() {
    let emr = Emr::open(Options { referential_integrity: true, ..Options::default() }).await;
    assert_eq!(emr.post("/ServiceRequest", &request("Patient/1")).await.status, 400);
    emr.post("/Patient", &patient("a")).await;
    let made = emr.post("/ServiceRequest", &request("Patient/?identifier=a")).await;
    assert_eq!((made.status, &made.body["subject"]["reference"]), (201, &json!("Patient/2")));
    assert_eq!(emr.post("/ServiceRequest", &request("Patient?identifier=b")).await.status, 404);
}

#[tokio::test]
async fn who_may_come_in() {
    let basic = Auth::Basic { username: "mediator".into(), password: "secret".into() };
    let emr = Emr::open(Options { auth: Some(basic), ..Options::default() }).await;
    assert_eq!(emr.get("/metadata").await.body["fhirVersion"], "4.0.1");
    assert_eq!(emr.get("/Patient").await.status, 401);
    let known = emr.call(Method::GET, "/Patient", &Value::Null).basic_auth("mediator", Some("secret"));
    assert_eq!(send(known).await.status, 200);
    let emr = Emr::open(Options { auth: Some(Auth::Bearer("token".into())), ..Options::default() }).await;
    assert_eq!(send(emr.call(Method::GET, "/Patient", &Value::Null).bearer_auth("token")).await.status, 200);
}

#[tokio::test]
async fn a_rest_hook_is_put_where_the_subscription_says() {
    let requester = callback::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let emr = Emr::open(Options::default()).await;
    emr.fhir.subscribe("ServiceRequest", &format!("{}/hook", requester.url()), &[("X-Key", "k")]);
    emr.post("/Patient", &patient("a")).await;
    let made = emr.post("/ServiceRequest", &request("Patient/1")).await.body;
    let id = made["id"].as_str().unwrap();
    emr.fhir.update("ServiceRequest", id, |request| request["status"] = json!("completed"));
    while requester.received().len() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let received = requester.received();
    assert_eq!(
        (received[0].path.clone(), received[0].headers["x-key"].as_str()),
        (format!("/hook/ServiceRequest/{id}"), "k")
    );
    assert_eq!(received[1].body["status"], "completed");
}

#[tokio::test]
async fn an_answer_may_be_lost_after_the_effect() {
    let emr = Emr::open(Options::default()).await;
    emr.fhir.faults().on("POST", "/fhir/Patient").drop_after_effect_next(1);
    assert!(emr.call(Method::POST, "/Patient", &patient("a")).send().await.is_err());
    assert_eq!(emr.fhir.resources("Patient").len(), 1);
    emr.fhir.faults().fail_next_retry_after(1, 429, "3");
    let busy = emr.get("/Patient").await;
    assert_eq!((busy.status, &busy.headers["retry-after"]), (429, &"3".parse().unwrap()));
}
