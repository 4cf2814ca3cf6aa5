//! kill -9 at every step of the corridor: whoever sends keeps sending until it is told 2xx, the
//! mediator is started again, and then the ledgers at both ends are compared: nothing lost, nothing
//! doubled.
use crate::process::Process;
use crate::world::{fixture, ltfu};
use cht_fhir_mediator::failpoint::PLACES;
use serde_json::{Value, json};
use std::process::Command;
use std::time::Duration;

impl Process {
    /// Both loops, once each.
    async fn play(&mut self) {
        let person = fixture("full-person-10")["body"].clone();
        self.send(false, "/cht/push", &person).await;
        let referral = fixture("full-report-20")["body"].clone();
        self.cht.add_person(referral["doc"]["patient"].clone());
        self.send(false, "/cht/push", &referral).await;
        self.send(false, "/endpoint", &json!({"resourceType": "Endpoint", "identifier": [{"system": "x", "value": "e"}], "address": self.emr.url()})).await;
        self.send(false, "/organization", &json!({"resourceType": "Organization", "identifier": [{"system": "x", "value": "o"}], "endpoint": [{"reference": "Endpoint/e"}]})).await;
        let mut task = self.until("the Task", |c| c.fhir.resources("Task").pop()).await;
        let mut request = ltfu("SR-1");
        request["requester"] = json!({"reference": "Organization/o"});
        self.send(false, "/fhir/ServiceRequest", &request).await;
        for status in ["accepted", "completed"] {
            task["status"] = json!(status);
            let path = format!("/fhir/Task/{}", task["id"].as_str().expect("an id"));
            self.send(true, &path, &task).await;
        }
        let record = self
            .until("the record", |c| c.cht.reports().into_iter().find(|r| r["form"] == "LTFU_REQUEST"))
            .await;
        let report = self.cht.complete_follow_up(
            record["_id"].as_str().expect("an id"),
            "ltfu_follow_up",
            json!({"outcome": "found"}),
        );
        self.send(false, "/cht/push", &json!({"doc": report.expect("a report")})).await;
    }

    /// Nothing lost, nothing doubled, at either end.
    async fn compare(&mut self, what: &str) {
        let rows = self.settled().await;
        let bad: Vec<_> = rows.iter().filter(|row| row["status"] == "failed").collect();
        assert!(bad.is_empty(), "{what}: {bad:?}");
        let told: Vec<String> = self
            .cht
            .reports()
            .iter()
            .filter(|r| r["form"] == "REF_BACK" || r["form"] == "LTFU_REQUEST")
            .map(|r| {
                format!(
                    "{} {}",
                    r["form"].as_str().unwrap_or_default(),
                    r["fields"]["status"].as_str().unwrap_or_default()
                )
            })
            .collect();
        let mut sorted = told.clone();
        sorted.sort();
        assert_eq!(sorted, ["LTFU_REQUEST ", "REF_BACK accepted", "REF_BACK completed"], "{what}");
        let position = |form: &str| told.iter().position(|t| t == form);
        assert!(position("REF_BACK accepted") < position("REF_BACK completed"), "{what}: out of order");
        let doubled: Vec<_> = self.fhir.ledger().into_iter().filter(|(_, n)| *n != 1).collect();
        assert!(doubled.is_empty(), "{what}: {doubled:?}");
        for (kind, n) in [
            ("Patient", 2),
            ("Task", 1),
            ("ServiceRequest", 2),
            ("Encounter", 2),
            ("Organization", 1),
            ("Endpoint", 1),
        ] {
            assert_eq!(self.fhir.resources(kind).len(), n, "{what}: {kind}");
        }
        let completed =
            self.fhir.resources("ServiceRequest").into_iter().filter(|r| r["status"] == "completed").count();
        assert_eq!(completed, 1, "{what}");
        let mut calls: Vec<String> =
            self.emr.received().into_iter().map(|r| format!("{} {}", r.method, r.path)).collect();
        calls.dedup();
        assert_eq!(calls.len(), 1, "{what}: the requester is told of one Encounter: {calls:?}");
        self.compare_trail(what, &rows);
    }

    /// Every message has its record, at the door and where it ended, and the chain is whole.
    fn compare_trail(&self, what: &str, rows: &[Value]) {
        let (code, said, error) = self.cli(&["audit", "verify"]);
        assert!(code == 0, "{what}: {said}{error}");
        let (_, trail, _) = self.cli(&["audit", "export"]);
        let trail: Vec<Value> = trail.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        for row in rows {
            let about = |event: &&Value| {
                event["entity"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .any(|e| e["what"]["identifier"]["value"] == row["id"])
            };
            let own: Vec<&Value> = trail.iter().filter(about).collect();
            let accepted = own.iter().filter(|event| {
                event["subtype"][0]["code"] == "create" && !event["entity"].to_string().contains("\"repeat\"")
            });
            assert_eq!(accepted.count(), 1, "{what}: {row}: {own:?}");
            let ended = |event: &&&Value| event["entity"].to_string().contains("\"status\"");
            assert!(own.iter().any(|event| ended(&event)), "{what}: {row}: {own:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step() {
    for place in PLACES {
        for nth in [1, 2, 4, 7] {
            let what = format!("{place}:{nth}");
            let mut it = Process::new(&what).await;
            it.play().await;
            it.compare(&what).await;
            assert!(it.deaths > 0 || nth > 4, "{what} was never reached");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_again_and_again_at_any_moment() {
    let mut it = Process::new("").await;
    for round in 0..12_u64 {
        let kills = it.child.id();
        let moment = Duration::from_millis(round * 37 % 113 + 5);
        std::thread::spawn(move || {
            std::thread::sleep(moment);
            let _ = Command::new("kill").args(["-9", &kills.to_string()]).status();
        });
        for i in 0..10 {
            let id = format!("{PATIENT_PREFIX}{:04}{i:04}", round);
            let body = json!({"doc": {"_id": id, "type": "person", "name": "Test Person", "patient_id": format!("9{round:02}{i:02}")}});
            it.send(false, "/cht/push", &body).await;
        }
        it.alive().await;
    }
    it.settled().await;
    assert_eq!(it.fhir.resources("Patient").len(), 120);
    assert!(it.fhir.ledger().values().all(|n| *n == 1));
    assert!(it.deaths >= 6, "{} deaths", it.deaths);
}

const PATIENT_PREFIX: &str = "a54a8e4f-c505-4ed9-a6f2-eb7b";
