//! The mediator with stand-ins for its neighbours, in one process: what it is for, played from end to end, and told as
//! it goes.
mod elsewhere;
mod requests;

use crate::config::{self, Settings};
use crate::flow::ports::Filter;
use crate::house::House;
use crate::standins::{callback, cht, fhir};
use clap::Args;
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

#[derive(Args)]
pub struct Options {
    /// End after the play, with an error code if a step failed.
    #[arg(long)]
    exit: bool,
    /// The mediator's port; the stand-ins take the next ones that are free.
    #[arg(long, default_value_t = 3410)]
    port: u16,
}

/// A referral as CHT pushed it (a child with danger signs), and the person it is about.
const REFERRAL: &str = include_str!("referral.json");
const PERSON: &str = include_str!("person.json");

/// The place in CHT of those whom nothing else places.
const HOLDING_PLACE: &str = "0b1d5c6e-7f27-4a0c-9a54-0f0b7b3f2a99";

struct Stage {
    cht: cht::Handle,
    fhir: fhir::Handle,
    emr: callback::Handle,
    house: House,
    http: reqwest::Client,
    _journal: Folder,
}

/// Where the sandbox keeps its journal; gone with it.
struct Folder(std::path::PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

type Played = Result<(), String>;

pub async fn run(options: Options) -> ExitCode {
    let stage = match Stage::set(options.port).await {
        Ok(stage) => stage,
        Err(error) => {
            eprintln!("the sandbox cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    stage.introduce();
    let played = stage.play().await;
    match &played {
        Ok(()) => println!("\nAll of it is complete."),
        Err(step) => eprintln!("\nThis step failed: {step}"),
    }
    if !options.exit {
        stage.stay().await;
    }
    stage.house.close().await;
    if played.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Stage {
    async fn set(port: u16) -> Result<Self, String> {
        let words = |e: std::io::Error| e.to_string();
        let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
        let listen = free(port).map_err(words)?;
        let outbound_url = Some(format!("http://{listen}/mediator/cht/push"));
        let cht_options = cht::Options { outbound_url, ..cht::Options::default() };
        let (username, password) = (cht_options.username.clone(), cht_options.password.clone());
        let cht = cht::start(any, cht_options).await.map_err(words)?;
        let fhir = fhir::start(any, fhir::Options::default()).await.map_err(words)?;
        let emr = callback::start(any).await.map_err(words)?;
        cht.add_person(json!({"_id": HOLDING_PLACE, "type": "health_center", "name": "To be placed"}));
        let folder = std::env::temp_dir().join(format!("cht-fhir-mediator-sandbox-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir_all(&folder).map_err(words)?;
        let settings = settings(listen, &cht.url(), &fhir.url(), &folder, (&username, &password))?;
        let house = House::open(&settings).await?;
        let http = crate::standins::client(Duration::from_secs(30)).map_err(words)?;
        Ok(Self { cht, fhir, emr, house, http, _journal: Folder(folder) })
    }

    fn introduce(&self) {
        println!("cht-fhir-mediator {}: sandbox\n", env!("CARGO_PKG_VERSION"));
        println!("  mediator            http://{}", self.house.address);
        println!("  CHT (stand-in)      {}", self.cht.url());
        println!("  FHIR server of a clinic's EMR (stand-in)  {}", self.fhir.url());
        println!("  EMR's callback endpoint (stand-in)        {}", self.emr.url());
    }

    async fn play(&self) -> Played {
        self.refer().await?;
        self.follow_up().await?;
        self.withdraw().await?;
        self.trace().await?;
        self.result().await?;
        self.made_elsewhere().await?;
        self.look_up().await
    }

    /// CHT -> clinic, and back.
    async fn refer(&self) -> Played {
        title("A referral: a community health worker sends a sick child to the clinic");
        let push: Value = serde_json::from_str(REFERRAL).map_err(|e| e.to_string())?;
        let doc = &push["body"]["doc"];
        self.cht.add_person(doc["patient"].clone());
        let name = doc["patient"]["name"].as_str().unwrap_or_default();
        said("CHT", &format!("pushes the report `{}` about {name}", str_of(&doc["form"])));
        if !self.cht.push(doc).await {
            return Err("the mediator did not take CHT's push".into());
        }
        let task = self.one("Task").await?;
        let words = format!("makes {}, and sends them to the FHIR server in one transaction", self.made());
        said("mediator", &words);
        let request = self.one("ServiceRequest").await?;
        said(
            "FHIR server",
            &format!("has {} ({}): {}", at(&request), str_of(&request["status"]), reasons(&request)),
        );
        said(
            "clinic",
            &format!("takes {} on, treats the child, and completes it with an outcome", at(&task)),
        );
        for (status, output) in
            [("accepted", None), ("completed", Some("treated for severe malaria, admitted"))]
        {
            let task = self.fhir.update("Task", str_of(&task["id"]), |task| {
                task["status"] = json!(status);
                if let Some(words) = output {
                    task["output"] = json!([{"type": {"text": "outcome"}, "valueString": words}]);
                }
            });
            let task = task.ok_or("the Task is gone")?;
            self.put(&format!("/fhir/Task/{}", str_of(&task["id"])), &task).await?;
        }
        let reports = self.reports("REF_BACK", 2).await?;
        for report in &reports {
            let fields = &report["fields"];
            let note = fields["note"].as_str().map(|note| format!(": {note}")).unwrap_or_default();
            said(
                "CHT",
                &format!(
                    "has a report {} on {name}: {}{note}",
                    str_of(&report["form"]),
                    str_of(&fields["status"])
                ),
            );
        }
        Ok(())
    }

    /// EMR -> community health worker, and back.
    async fn follow_up(&self) -> Played {
        title("Lost to follow-up: a clinic asks for a patient who missed her appointment");
        let person: Value = serde_json::from_str(PERSON).map_err(|e| e.to_string())?;
        let person = &person["body"]["doc"];
        self.cht.add_person(person.clone());
        self.introduce_emr().await?;
        let request = json!({"resourceType": "ServiceRequest", "status": "active", "intent": "order", "priority": "urgent",
            "identifier": [{"system": "https://emr.example.org/requests", "value": "SR-2026-000117"}],
            "category": [{"text": "HIV"}], "code": {"text": "Find patient lost to follow-up"},
            "reasonCode": [{"text": "Missed ART refill"}], "occurrenceDateTime": "2026-10-28",
            "subject": {"identifier": {"system": "urn:cht:uuid", "value": person["_id"]}},
            "requester": {"reference": "Organization/mbagathi"}});
        said("EMR", "sends a ServiceRequest SR-2026-000117: \"Missed ART refill\", patient by CHT uuid");
        let (status, answer) = self.post("/fhir/ServiceRequest", &request).await?;
        said("mediator", &format!("answers {status} {}", at(&answer)));
        let record = self.reports("LTFU_REQUEST", 1).await?.remove(0);
        let fields = &record["fields"];
        said(
            "CHT",
            &format!(
                "has a report LTFU_REQUEST on {}: {}, {} days late; her CHW gets a task",
                str_of(&person["name"]),
                str_of(&fields["reason"]),
                fields["days_late"]
            ),
        );
        said("CHW", "visits, finds her, and fills the form `ltfu_follow_up`");
        let answers = json!({"outcome": "found", "visit_date": "2026-11-20", "next_visit": "2026-12-01",
            "note": "Was with her sister; will come on Tuesday"});
        let report = self
            .cht
            .complete_follow_up(str_of(&record["_id"]), "ltfu_follow_up", answers)
            .ok_or("no task to do")?;
        said("CHT", "pushes the report");
        if !self.cht.push(&report).await {
            return Err("the mediator did not take CHT's push".into());
        }
        let stored = self.until("the request is completed", || {
            let all = self.fhir.resources("ServiceRequest").into_iter();
            all.filter(|r| r["identifier"][0]["value"] == "SR-2026-000117")
                .find(|r| r["status"] == "completed")
        });
        let stored = stored.await?;
        said(
            "FHIR server",
            &format!(
                "has {} completed, with an Encounter and the CHW's answers as Observations",
                at(&stored)
            ),
        );
        let told = self.until("the EMR is told", || self.emr.received().pop()).await?;
        said("EMR", &format!("is told at its endpoint: {} {}", told.method, told.path));
        Ok(())
    }

    /// `Patient, Encounter, 25 Observations`.
    fn made(&self) -> String {
        let kinds = ["Patient", "Practitioner", "Encounter", "Observation", "ServiceRequest", "Task"];
        let words = kinds.iter().map(|kind| (kind, self.fhir.resources(kind).len())).filter(|(_, n)| *n > 0);
        words
            .map(|(kind, n)| if n == 1 { kind.to_string() } else { format!("{n} {kind}s") })
            .collect::<Vec<_>>()
            .join(", ")
    }

    async fn introduce_emr(&self) -> Played {
        let endpoint = json!({"resourceType": "Endpoint", "identifier": [{"system": "https://emr.example.org", "value": "mbagathi-endpoint"}],
            "status": "active", "address": self.emr.url(), "payloadType": [{"text": "application/fhir+json"}],
            "connectionType": {"system": "http://terminology.hl7.org/CodeSystem/endpoint-connection-type", "code": "hl7-fhir-rest"}});
        let organization = json!({"resourceType": "Organization", "name": "Mbagathi County Hospital",
            "identifier": [{"system": "https://emr.example.org", "value": "mbagathi"}],
            "endpoint": [{"identifier": {"system": "https://emr.example.org", "value": "mbagathi-endpoint"}}]});
        self.post("/fhir/Endpoint", &endpoint).await?;
        self.post("/fhir/Organization", &organization).await?;
        said("EMR", "says who it is and where it wants to be told: an Organization with an Endpoint");
        Ok(())
    }

    async fn stay(&self) {
        let me = format!("http://{}", self.house.address);
        println!("\nThe mediator stays up. Try it:");
        println!("  curl -s {me}/health/ready");
        println!("  curl -s '{me}/transactions?limit=5'");
        println!("  curl -s '{}/ServiceRequest'", self.fhir.url());
        println!(
            "  curl -s -X POST {me}/mediator/cht/push -H 'content-type: application/json' -d '{{\"doc\":{{\"_id\":\"{}\",\"type\":\"person\",\"name\":\"Amina Test\",\"sex\":\"female\"}}}}'",
            uuid::Uuid::now_v7()
        );
        println!("Ctrl-C ends it; nothing is kept.");
        let _ = tokio::signal::ctrl_c().await;
    }

    async fn post(&self, path: &str, body: &Value) -> Result<(u16, Value), String> {
        self.send(self.http.post(format!("http://{}{path}", self.house.address)), body).await
    }

    async fn put(&self, path: &str, body: &Value) -> Result<(u16, Value), String> {
        self.send(self.http.put(format!("http://{}{path}", self.house.address)), body).await
    }

    async fn send(&self, request: reqwest::RequestBuilder, body: &Value) -> Result<(u16, Value), String> {
        let answer = request.json(body).send().await.map_err(|e| e.to_string())?;
        let status = answer.status();
        let body: Value = answer.json().await.map_err(|e| e.to_string())?;
        if status.is_success() {
            Ok((status.as_u16(), body))
        } else {
            Err(format!("the mediator answered {status}: {body}"))
        }
    }

    async fn one(&self, kind: &str) -> Result<Value, String> {
        self.until(&format!("a {kind} arrives at the FHIR server"), || self.fhir.resources(kind).pop()).await
    }

    async fn reports(&self, form: &str, n: usize) -> Result<Vec<Value>, String> {
        self.until(&format!("{n} {form} report(s) arrive in CHT"), || {
            let all: Vec<Value> = self.cht.reports().into_iter().filter(|r| r["form"] == form).collect();
            (all.len() == n).then_some(all)
        })
        .await
    }

    async fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T, String> {
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until {
            if let Some(found) = look() {
                return Ok(found);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let rows = self.house.corridor.journal().list(Filter::default()).await.unwrap_or_default();
        let errors: Vec<String> = rows.iter().filter_map(|row| row.error.clone()).collect();
        Err(format!("{what}: not within 20 s ({})", errors.join("; ")))
    }
}

/// The port that was asked for, or another that is free.
fn free(port: u16) -> std::io::Result<SocketAddr> {
    let on = |port| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).and_then(|l| l.local_addr());
    on(port).or_else(|_| on(0))
}

fn settings(
    listen: SocketAddr,
    cht: &str,
    fhir: &str,
    folder: &std::path::Path,
    login: (&str, &str),
) -> Result<Settings, String> {
    let own = [
        ("SERVER__LISTEN", listen.to_string()),
        ("JOURNAL__URL", format!("sqlite:{}", folder.join("journal.db").display())),
        ("CHT__URL", cht.to_string()),
        ("CHT__USERNAME", login.0.to_string()),
        ("CHT__PASSWORD", login.1.to_string()),
        ("FHIR__URL", fhir.to_string()),
        ("FHIR__POLL_SECONDS", "2".to_string()),
        ("CALLBACKS__ALLOW_PRIVATE", "true".to_string()),
        ("PEOPLE__CREATE", "true".to_string()),
        ("PEOPLE__HOLDING_PLACE", HOLDING_PLACE.to_string()),
    ];
    let environment = own.into_iter().map(|(key, value)| (format!("MEDIATOR__{key}"), value));
    config::load(None, environment)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

fn title(text: &str) {
    println!("\n{text}\n{}", "-".repeat(text.chars().count()));
}

fn said(who: &str, what: &str) {
    println!("  {who:<12} {what}");
}

fn str_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn at(resource: &Value) -> String {
    format!("{}/{}", str_of(&resource["resourceType"]), str_of(&resource["id"]))
}

fn reasons(request: &Value) -> String {
    let all = request["reasonCode"].as_array().into_iter().flatten();
    all.map(|reason| str_of(&reason["text"])).collect::<Vec<_>>().join("; ")
}
