//! What else happens to requests: taken back, and made of contacts.
use super::{PERSON, Played, Stage, said, str_of, title};
use serde_json::{Value, json};

impl Stage {
    /// The patient comes back by herself.
    pub(super) async fn withdraw(&self) -> Played {
        title("Taken back: the patient comes to the clinic before the community health worker has found her");
        let mut request = request("SR-2026-000118", json!({"text": "Find patient lost to follow-up"}))?;
        request["reasonCode"] = json!([{"text": "Missed TB refill"}]);
        said("EMR", "sends a ServiceRequest SR-2026-000118: \"Missed TB refill\"");
        self.post("/fhir/ServiceRequest", &request).await?;
        self.reports("LTFU_REQUEST", 2).await?;
        said("CHT", "has a second report LTFU_REQUEST; the CHW gets a task");
        request["status"] = json!("revoked");
        said("EMR", "sends it again with the status revoked");
        self.post("/fhir/ServiceRequest", &request).await?;
        let cancel = self.reports("LTFU_CANCEL", 1).await?.remove(0);
        let reason = str_of(&cancel["fields"]["reason"]);
        said("CHT", &format!("has a report LTFU_CANCEL: \"{reason}\"; the CHW's task is gone"));
        let found = self.get("/fhir/ServiceRequest?identifier=SR-2026-000118").await?;
        let shown = &found["entry"][0]["resource"];
        let (status, version) = (str_of(&shown["status"]), str_of(&shown["meta"]["versionId"]));
        said("EMR", &format!("asks how far it is: {status}, version {version}"));
        Ok(())
    }

    /// An index case, and two whom she has been in contact with.
    pub(super) async fn trace(&self) -> Played {
        title("Contact tracing: a clinic asks to trace two contacts of a patient with tuberculosis");
        let mut request = request("CT-2026-000017", json!({"text": "Contact tracing"}))?;
        request["reasonCode"] = json!([{"text": "TB"}]);
        request["contained"] = json!([
            {"resourceType": "RelatedPerson", "id": "sister", "patient": request["subject"],
                "name": [{"text": "Akoth Ouma"}], "relationship": [{"text": "Sister"}]},
            {"resourceType": "RelatedPerson", "id": "neighbour", "patient": request["subject"],
                "name": [{"text": "Otieno Ouma"}], "telecom": [{"system": "phone", "value": "+254712000222"}]}]);
        request["supportingInfo"] = json!([{"reference": "#sister"}, {"reference": "#neighbour"}]);
        said("EMR", "sends a ServiceRequest CT-2026-000017 with two contained RelatedPersons");
        self.post("/fhir/ServiceRequest", &request).await?;
        let records = self.reports("CONTACT_TRACING", 2).await?;
        for record in &records {
            let fields = &record["fields"];
            let (name, who) = (str_of(&fields["external_id"]), str_of(&fields["contact_name"]));
            said("CHT", &format!("has a report CONTACT_TRACING {name}: trace {who}; a task of its own"));
        }
        for (record, outcome) in records.iter().zip(["found", "refused"]) {
            let who = str_of(&record["fields"]["contact_name"]);
            let answers = json!({"outcome": outcome, "visit_date": "2026-11-21"});
            let report =
                self.cht.complete_follow_up(str_of(&record["_id"]), "contact_tracing_follow_up", answers);
            said("CHW", &format!("traces {who}: {outcome}"));
            if !self.cht.push(&report.ok_or("no task to do")?).await {
                return Err("the mediator did not take CHT's push".into());
            }
        }
        self.until("the request is completed", || {
            let mut all = self.fhir.resources("ServiceRequest").into_iter();
            all.find(|r| r["identifier"][0]["value"] == "CT-2026-000017" && r["status"] == "completed")
        })
        .await?;
        said("FHIR server", "has a Task completed for each, and the request completed with the last of them");
        Ok(())
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, String> {
        let url = format!("http://{}{path}", self.house.address);
        let answer = self.http.get(url).send().await.map_err(|e| e.to_string())?;
        answer.json().await.map_err(|e| e.to_string())
    }
}

/// About the patient of the play before.
fn request(name: &str, code: Value) -> Result<Value, String> {
    let person: Value = serde_json::from_str(PERSON).map_err(|e| e.to_string())?;
    Ok(json!({"resourceType": "ServiceRequest", "status": "active", "intent": "order",
        "identifier": [{"system": "https://emr.example.org/requests", "value": name}], "code": code,
        "subject": {"identifier": {"system": "urn:cht:uuid", "value": person["body"]["doc"]["_id"]}}}))
}
