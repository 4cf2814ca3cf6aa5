//! `mediator-config/openapi.json` is true: every route is in it and nothing else, with the roles that it
//! takes, and with every answer that it gives.
use crate::description::{CLIENTS, Operation, SECRET, clients, operations, shipped};
use crate::raw::say;
use crate::world::{World, fixture, ltfu};
use cht_fhir_mediator::standins::cht;
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use syn::visit::Visit;

/// A mediator with a client for each role.
pub async fn guarded(further: &[(&str, &str)]) -> World {
    let clients = clients();
    let own = [("CLIENTS", clients.as_str())];
    let world = World::with(&[&own, further].concat(), cht::Options::default()).await;
    world.know_patient();
    world
}

/// From a client that may send it.
fn request(operation: &Operation, world: &World, id: Option<&str>) -> RequestBuilder {
    let request = world.http.request(operation.method.clone(), world.url(&operation.target(id)));
    match operation.client() {
        Some(client) => request.basic_auth(client, Some(SECRET)),
        None => request,
    }
}

/// The literal paths of `Door::router`, with their methods.
#[derive(Default)]
struct Routes(BTreeSet<(String, String)>);

impl<'ast> Visit<'ast> for Routes {
    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        let path = call.args.first().and_then(|first| match first {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(path), .. }) => Some(path.value()),
            _ => None,
        });
        if let (true, Some(path), Some(handlers)) = (call.method == "route", path, call.args.get(1)) {
            for method in methods_of(handlers) {
                // A base with a slash at its end is the same route.
                let path = if path.len() > 1 { path.trim_end_matches('/') } else { &path };
                self.0.insert((method, path.to_string()));
            }
        }
        syn::visit::visit_expr_method_call(self, call);
    }
}

/// `post(a).put(b)`.
fn methods_of(handlers: &syn::Expr) -> Vec<String> {
    match handlers {
        syn::Expr::Call(call) => match call.func.as_ref() {
            syn::Expr::Path(function) => {
                vec![function.path.segments.last().expect("a name").ident.to_string().to_uppercase()]
            }
            _ => Vec::new(),
        },
        syn::Expr::MethodCall(call) => {
            let mut methods = methods_of(&call.receiver);
            methods.push(call.method.to_string().to_uppercase());
            methods
        }
        _ => Vec::new(),
    }
}

#[test]
fn every_route_is_described_and_nothing_else_is() {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/mod.rs");
    let source = std::fs::read_to_string(source).expect("the router");
    let mut routes = Routes::default();
    routes.visit_file(&syn::parse_file(&source).expect("Rust"));
    let described: BTreeSet<(String, String)> =
        operations().into_iter().map(|operation| (operation.method.to_string(), operation.path)).collect();
    assert!(routes.0.len() > 25, "{:?}", routes.0);
    assert_eq!(routes.0, described);
}

#[test]
fn examples_are_what_deployed_configurations_and_our_profiles_have() {
    let all = shipped("mediator-config/openapi.json");
    let examples = all["components"]["examples"].as_object().expect("examples");
    for (name, example) in examples {
        let expected = match name.as_str() {
            "transaction" | "batch" | "endpoint" | "subscription" | "afyastat" => continue,
            name if name.starts_with(char::is_uppercase) => {
                shipped(&format!("fhir-profiles/examples/{name}.json"))
            }
            name => fixture(name)["body"].clone(),
        };
        assert_eq!(example["value"], expected, "{name}");
    }
    let kinds = &all["components"]["parameters"]["Type"]["schema"]["enum"];
    let kinds: BTreeSet<&str> = kinds.as_array().expect("types").iter().filter_map(Value::as_str).collect();
    assert_eq!(kinds, cht_fhir_mediator::translate::TYPES.iter().copied().collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_is_served_with_the_version_that_runs() {
    let world = guarded(&[]).await;
    for base in ["", "/mediator"] {
        let (status, served) = world.get(&format!("{base}/openapi.json")).await;
        assert_eq!(status, 200);
        let mut expected = shipped("mediator-config/openapi.json");
        expected["info"]["version"] = json!(env!("CARGO_PKG_VERSION"));
        assert!(served == expected, "another description is served");
    }
}

/// Whatever is not described as open to everybody takes a client with a role that is described, and no other.
#[tokio::test(flavor = "multi_thread")]
async fn each_operation_takes_the_roles_that_are_described_and_nobody_else() {
    let world = guarded(&[]).await;
    for operation in operations() {
        let (name, roles) = (operation.name(), operation.roles());
        let body = operation.examples().into_iter().next();
        let send = |who: Option<(&str, &str)>| {
            let mut request =
                world.http.request(operation.method.clone(), world.url(&operation.target(None)));
            if let Some((id, secret)) = who {
                request = request.basic_auth(id, Some(secret));
            }
            if let Some(body) = &body {
                request = request.json(body);
            }
            world.send(request)
        };
        let closed = !roles.is_empty();
        for who in [None, Some(("ops", "wrong"))] {
            let (status, answer) = send(who).await;
            assert_eq!(status == 401, closed, "{name} as {who:?}: {status} {answer}");
        }
        for (id, role) in CLIENTS {
            let (status, answer) = send(Some((id, SECRET))).await;
            // CHT puts its CHWs by /fhir/Practitioner too: the roles of one type are in the words.
            let may = !closed || roles.contains(role);
            assert_eq!(status == 403, !may, "{name} as {role}: {status} {answer}");
            assert_ne!(status, 401, "{name} as {role}: {answer}");
        }
    }
}

/// What each operation was seen to answer.
#[derive(Default)]
struct Seen(BTreeMap<String, BTreeSet<u16>>);

impl Seen {
    async fn send(&mut self, operation: &Operation, request: RequestBuilder) -> Value {
        let answer = request.send().await.expect("an answer");
        let status = answer.status().as_u16();
        let kind = answer.headers()["content-type"].to_str().expect("text").to_string();
        let body = answer.bytes().await.expect("a body");
        self.note(operation, status, &kind, &body)
    }

    /// An answer, which must have a shape that is described.
    fn note(&mut self, operation: &Operation, status: u16, kind: &str, body: &[u8]) -> Value {
        let name = operation.name();
        let kind = kind.split(';').next().unwrap_or_default();
        let described = &operation.described["responses"][status.to_string()]["content"][kind];
        let text = String::from_utf8_lossy(body);
        assert!(described.is_object(), "{name}: {status} {kind} is not described: {text}");
        let json: Value = serde_json::from_slice(body).unwrap_or_else(|_| json!(text));
        let schema = jsonschema::validator_for(&described["schema"]).expect("a schema");
        let wrong: Vec<String> = schema.iter_errors(&json).map(|e| e.to_string()).collect();
        assert!(wrong.is_empty(), "{name}: {status} {wrong:?}: {text}");
        self.0.entry(name).or_default().insert(status);
        json
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_that_is_described_is_given_and_no_other() {
    let mut seen = Seen::default();
    answered_well(&mut seen).await;
    refused(&mut seen).await;
    left_open(&mut seen).await;
    without_a_journal(&mut seen).await;
    looked_up(&mut seen).await;
    let described: BTreeMap<_, _> = operations().iter().map(|o| (o.name(), o.answers())).collect();
    let differ = described.iter().filter(|(name, answers)| seen.0.get(*name) != Some(answers));
    let differ: Vec<_> = differ.map(|(name, answers)| (name, answers, seen.0.get(name))).collect();
    assert!(differ.is_empty(), "described, and seen: {differ:#?}");
}

fn operation(method: &str, path: &str) -> Operation {
    let found = operations().into_iter().find(|o| o.method == method && o.path == path);
    found.unwrap_or_else(|| panic!("{method} {path} is not described"))
}

async fn answered_well(seen: &mut Seen) {
    let folder = tempfile::tempdir().expect("a folder");
    let mappings = folder.path().display().to_string();
    let world = guarded(&[("TRANSLATE__MAPPINGS", &mappings)]).await;
    for operation in operations() {
        if !operation.takes_body() && !operation.path.contains("{id}") {
            seen.send(&operation, request(&operation, &world, None)).await;
        }
        for body in operation.examples() {
            seen.send(&operation, request(&operation, &world, None).json(&body)).await;
        }
    }
    let read = operation("GET", "/fhir/{Type}/{id}");
    for create in ["/fhir/{Type}", "/fhir/Patient"].map(|path| operation("POST", path)) {
        let there = request(&create, &world, None);
        let there = there.header("if-none-exist", "identifier=urn:cht:shortcode|83288");
        seen.send(&create, there.json(&create.examples()[0])).await;
    }
    let (search, record) = (operation("GET", "/fhir/AuditEvent"), operation("GET", "/fhir/AuditEvent/{id}"));
    let lines = request(&search, &world, None).query(&[("_format", "ndjson")]);
    assert!(seen.send(&search, lines).await.as_str().is_some_and(|lines| lines.contains("AuditEvent")));
    assert_eq!(seen.send(&record, request(&record, &world, Some("1"))).await["id"], "1");
    let as_emr = |request: RequestBuilder| request.basic_auth("emr", Some(SECRET));
    let url = world.url("/fhir/ServiceRequest");
    assert_eq!(world.send(as_emr(world.http.post(&url).json(&ltfu("SR-1")))).await.0, 201);
    seen.send(&read, as_emr(world.http.get(format!("{url}/SR-1")))).await;
    followed(seen, &world).await;
    // One that fails, and one that stays open.
    let push = world.url("/cht/push");
    let push = |body: Value| world.http.post(&push).basic_auth("cht", Some(SECRET)).json(&body);
    world.fhir.faults().on("POST", "/fhir").fail_next(1, 422);
    let (_, failed) = world.send(push(fixture("full-person-10")["body"].clone())).await;
    assert_eq!(failed["status"], "failed", "{failed}");
    let failed = failed["transaction"].as_str();
    for (method, path) in [("GET", "/transactions/{id}"), ("POST", "/transactions/{id}/rerun")] {
        let operation = operation(method, path);
        seen.send(&operation, request(&operation, &world, failed)).await;
    }
    world.settled().await;
    for path in ["/transactions/{id}/rerun", "/transactions/{id}/cancel"] {
        let operation = operation("POST", path);
        seen.send(&operation, request(&operation, &world, failed)).await;
    }
    world.fhir.faults().set_down(true);
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_millis(300)).build();
    let person = fixture("full-person-01")["body"].clone();
    let sent = client.expect("a client").post(world.url("/cht/push")).basic_auth("cht", Some(SECRET));
    assert!(sent.json(&person).send().await.is_err(), "not answered while it is open");
    let open = world.transactions().await.into_iter().find(|row| row.status == "open").expect("an open one");
    let cancel = operation("POST", "/transactions/{id}/cancel");
    seen.send(&cancel, request(&cancel, &world, Some(&open.id))).await;
    std::fs::write(folder.path().join("wrong.yaml"), "mapping: wrong\nwehn: x\n").expect("written");
    let reload = operation("POST", "/mappings/reload");
    seen.send(&reload, request(&reload, &world, None)).await;
}

/// Requests are searched and changed by version, subscribed to, and sent as lists.
async fn followed(seen: &mut Seen, world: &World) {
    let as_emr = |request: RequestBuilder| request.basic_auth("emr", Some(SECRET));
    let put = operation("PUT", "/fhir/{Type}/{id}");
    let mut stale = ltfu("SR-1");
    stale["id"] = json!("SR-1");
    stale["status"] = json!("revoked");
    let request = world.http.put(world.url("/fhir/ServiceRequest/SR-1")).header("if-match", "W/\"v9\"");
    seen.send(&put, as_emr(request.json(&stale))).await;
    let search = operation("GET", "/fhir/{Type}");
    seen.send(&search, as_emr(world.http.get(world.url("/fhir/ServiceRequest?status=on-hold")))).await;
    seen.send(&search, as_emr(world.http.get(world.url("/fhir/Location")))).await;
    seen.send(&search, as_emr(world.http.get(world.url("/fhir/Task?code=x")))).await;
    let (subscribe, list) = (operation("POST", "/fhir/Subscription"), operation("GET", "/lists/{id}"));
    let mut body = subscribe.examples().remove(0);
    let made =
        seen.send(&subscribe, as_emr(world.http.post(world.url("/fhir/Subscription")).json(&body))).await;
    let place = world.url(&format!("/fhir/Subscription/{}", made["id"].as_str().expect("an id")));
    let one = |method: &str| operation(method, "/fhir/Subscription/{id}");
    seen.send(&one("GET"), as_emr(world.http.get(&place))).await;
    seen.send(&one("PUT"), as_emr(world.http.put(&place).json(&body))).await;
    body["channel"]["type"] = json!("sms");
    seen.send(&subscribe, as_emr(world.http.post(world.url("/fhir/Subscription")).json(&body))).await;
    seen.send(&one("PUT"), as_emr(world.http.put(&place).json(&body))).await;
    seen.send(&one("DELETE"), as_emr(world.http.delete(&place))).await;
    world.cht.faults().set_down(true);
    let lines = format!("{}\n", ltfu("SR-2"));
    let upload = world.http.post(world.url("/fhir")).header("content-type", "application/fhir+ndjson");
    let later = as_emr(upload.header("prefer", "respond-async").body(lines));
    let answer = later.send().await.expect("an answer");
    let place = answer.headers()["content-location"].to_str().expect("text").to_string();
    seen.send(&list, as_emr(world.http.get(world.url(&place)))).await;
    world.cht.faults().set_down(false);
    world.settled().await;
    seen.send(&list, as_emr(world.http.get(world.url(&place)))).await;
}

async fn refused(seen: &mut Seen) {
    let mut world = guarded(&[("SERVER__MAX_BODY_BYTES", "50000"), ("SERVER__READ_TIMEOUT_MS", "500")]).await;
    // No connection is kept, or one is closed as idle just when it is used again.
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build();
    world.http = client.expect("a client");
    for operation in operations().iter().filter(|operation| !operation.roles().is_empty()) {
        let url = world.url(&operation.target(None));
        let bare = || world.http.request(operation.method.clone(), &url);
        seen.send(operation, bare()).await;
        for (id, _) in CLIENTS.iter().filter(|(_, role)| !operation.roles().contains(*role)) {
            seen.send(operation, bare().basic_auth(id, Some(SECRET))).await;
        }
        if operation.takes_body() {
            refused_bodies(seen, &world, operation).await;
        } else if operation.path.contains("{id}") {
            seen.send(operation, request(operation, &world, None)).await;
            seen.send(operation, request(operation, &world, Some("%ff"))).await;
        }
        if operation.path.contains("{Type}") && operation.takes_body() {
            // One that is not taken, and one that is only read.
            for other in ["/Medication", "/AuditEvent"] {
                let url = url.replace("/Patient", other);
                let request = world.http.request(operation.method.clone(), url);
                let request = request.basic_auth("emr", Some(SECRET));
                seen.send(operation, request.json(&operation.examples()[0])).await;
            }
        }
    }
    for (method, path, query) in [
        ("GET", "/fhir/AuditEvent", "action=read"),
        ("GET", "/fhir/MeasureReport", "period=someday"),
        ("GET", "/transactions", "limit=0"),
        ("GET", "/transactions", "status=lost"),
        ("POST", "/transactions/{id}/rerun", "as_planned=2"),
    ] {
        let operation = operation(method, path);
        let url = world.url(&operation.target(None));
        let url = format!("{}?{query}", url.split('?').next().unwrap_or_default());
        let request = world.http.request(operation.method.clone(), url).basic_auth("ops", Some(SECRET));
        let refused = seen.send(&operation, request).await;
        assert!(refused["error"].is_string() || refused["issue"].is_array(), "{refused}");
    }
}

async fn refused_bodies(seen: &mut Seen, world: &World, operation: &Operation) {
    let request = || request(operation, world, None);
    let example = operation.examples().pop().expect("an example");
    seen.send(operation, request().header("content-type", "application/json").body("{")).await;
    seen.send(operation, request().header("content-type", "text/plain").body("{}")).await;
    seen.send(operation, request().json(&json!({"x": "y".repeat(50_000)}))).await;
    seen.send(operation, request().header("idempotency-key", "two words").json(&example)).await;
    let mut other = example.clone();
    other["language"] = json!("en");
    for body in [example, other] {
        let key = format!("key of {}", operation.name()).replace(' ', "-");
        seen.send(operation, request().header("idempotency-key", key).json(&body)).await;
    }
    let slow = request().body("").build().expect("a request");
    let authorization = slow.headers()["authorization"].to_str().expect("text");
    let target = &slow.url()[url::Position::BeforePath..];
    let head = format!(
        "{} {target} HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\nContent-Length: 9\r\n\r\n{{",
        operation.method
    );
    let answer = say(world, &[head.as_bytes()]).await;
    seen.note(operation, answer.status(), answer.header("content-type"), answer.body().as_bytes());
}

/// Everything that is accepted is safe, and takes longer than its caller waits.
async fn left_open(seen: &mut Seen) {
    let world = guarded(&[("SERVER__ANSWER_WITHIN_MS", "1")]).await;
    world.fhir.faults().set_down(true);
    world.cht.faults().set_down(true);
    for operation in operations() {
        for body in operation.examples() {
            seen.send(&operation, request(&operation, &world, None).json(&body)).await;
        }
    }
}

/// Every answer of the look-ups that others do not give.
async fn looked_up(seen: &mut Seen) {
    const LOOKUPS: [(&str, &str); 4] = [
        ("GET", "/fhir/Patient"),
        ("POST", "/fhir/Patient/_search"),
        ("GET", "/fhir/Patient/{id}"),
        ("GET", "/fhir/Patient/{id}/$everything"),
    ];
    let form = |world: &World, path: &str, body: String| {
        let request = world.http.post(world.url(path)).basic_auth("portal", Some(SECRET));
        request.header("content-type", "application/x-www-form-urlencoded").body(body)
    };
    let whoever = "identifier=a54a8e4f-c505-4ed9-a6f2-eb7bdad2fb9d".to_string();
    let world = guarded(&[("SERVER__READ_TIMEOUT_MS", "500"), ("SERVER__MAX_BODY_BYTES", "5000")]).await;
    for round in ["well", "unmappable", "down"] {
        match round {
            "unmappable" => drop(world.cht.add_person(json!({"_id": "a54a8e4f-c505-4ed9-a6f2-eb7bdad2fb9d",
                "type": "person", "name": "Achieng Otieno", "patient_id": "83288", "date_of_birth": "some day"}))),
            "down" => world.cht.faults().set_down(true),
            _ => {}
        }
        for (method, path) in LOOKUPS {
            let operation = operation(method, path);
            match method {
                "POST" => seen.send(&operation, form(&world, path, whoever.clone())).await,
                _ => seen.send(&operation, request(&operation, &world, None)).await,
            };
        }
    }
    let (search, everything) = (operation("POST", LOOKUPS[1].1), operation("GET", LOOKUPS[3].1));
    world.cht.faults().set_down(false);
    for nobody in [operation("GET", LOOKUPS[2].1), operation("GET", LOOKUPS[3].1)] {
        seen.send(&nobody, request(&nobody, &world, Some("nobody"))).await;
    }
    seen.send(&search, form(&world, LOOKUPS[1].1, "gender=female".into())).await;
    seen.send(&search, form(&world, LOOKUPS[1].1, "x".repeat(5_001))).await;
    let odd = world.http.get(world.url("/fhir/Patient?gender=female")).basic_auth("portal", Some(SECRET));
    seen.send(&operation("GET", LOOKUPS[0].1), odd).await;
    let odd =
        world.url(&format!("{}?start=2026", everything.target(None).split('?').next().unwrap_or_default()));
    seen.send(&everything, world.http.get(odd).basic_auth("portal", Some(SECRET))).await;
    let slow = form(&world, LOOKUPS[1].1, String::new()).build().expect("a request");
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: 9\r\n\r\n_",
        LOOKUPS[1].1,
        slow.headers()["authorization"].to_str().expect("text")
    );
    let answer = say(&world, &[head.as_bytes()]).await;
    seen.note(&search, answer.status(), answer.header("content-type"), answer.body().as_bytes());
    let world = guarded(&[("LOOKUPS__PER_MINUTE", "1")]).await;
    for (method, path) in LOOKUPS.into_iter().chain(LOOKUPS) {
        let operation = operation(method, path);
        match method {
            "POST" => seen.send(&operation, form(&world, path, whoever.clone())).await,
            _ => seen.send(&operation, request(&operation, &world, None)).await,
        };
    }
}

async fn without_a_journal(seen: &mut Seen) {
    let world = guarded(&[]).await;
    let path = world.settings.journal.url.trim_start_matches("sqlite:");
    let journal = rusqlite::Connection::open(path).expect("the journal");
    for table in ["transactions", "follow_ups", "subscriptions", "lists"] {
        journal.execute(&format!("ALTER TABLE {table} RENAME TO {table}_gone"), []).expect("renamed");
    }
    for operation in operations() {
        let body = operation.examples().into_iter().next();
        let request = request(&operation, &world, None);
        seen.send(&operation, body.iter().fold(request, |request, body| request.json(body))).await;
    }
    journal.execute("ALTER TABLE audit RENAME TO cut_off", []).expect("renamed");
    for path in ["/fhir/AuditEvent", "/fhir/AuditEvent/{id}"] {
        let operation = operation("GET", path);
        seen.send(&operation, request(&operation, &world, None)).await;
    }
    std::fs::remove_file(path).expect("removed");
    let (push, ready) = (operation("POST", "/cht/push"), operation("GET", "/health/ready"));
    seen.send(&push, request(&push, &world, None).json(&push.examples()[0])).await;
    seen.send(&ready, request(&ready, &world, None)).await;
}
