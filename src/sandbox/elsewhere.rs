//! What begins elsewhere: a result, a patient, a question.
use super::{PERSON, Played, Stage, said, str_of, title};
use serde_json::{Value, json};

impl Stage {
    /// A laboratory has found something.
    pub(super) async fn result(&self) -> Played {
        title("A result: a laboratory reports a viral load, and the community health worker hears of it");
        let uuid = known()?;
        let report = json!({"resourceType": "DiagnosticReport", "status": "final",
            "identifier": [{"system": "https://lab.example.org/reports", "value": "R-2026-000001"}],
            "code": {"text": "HIV viral load"}, "conclusion": "Suppressed: 20 copies/mL",
            "effectiveDateTime": "2026-11-20", "performer": [{"display": "Test Laboratory"}],
            "subject": {"identifier": {"system": "urn:cht:uuid", "value": uuid}}});
        said("laboratory", "sends a DiagnosticReport R-2026-000001: \"Suppressed: 20 copies/mL\"");
        self.post("/fhir/DiagnosticReport", &report).await?;
        let fields = &self.reports("CLINIC_RESULT", 1).await?[0]["fields"];
        let (what, value, by) =
            (str_of(&fields["what"]), str_of(&fields["value"]), str_of(&fields["facility"]));
        said("CHT", &format!("has a report CLINIC_RESULT: {what}, {value} ({by}); no visit is needed"));
        said("FHIR server", "keeps the DiagnosticReport");
        Ok(())
    }

    /// A clinic registers somebody whom no CHW knows.
    pub(super) async fn made_elsewhere(&self) -> Played {
        title("Made elsewhere: a clinic registers a patient whom no community health worker knows yet");
        let patient = json!({"resourceType": "Patient", "gender": "male", "birthDate": "1961-05",
            "identifier": [{"system": "https://emr.example.org/patients", "value": "17"}],
            "name": [{"given": ["Odhiambo"], "family": "Owino"}]});
        said("EMR", "sends a Patient with its own number 17: Odhiambo Owino");
        let (_, answer) = self.post("/fhir/Patient", &patient).await?;
        let person = self
            .until("the person in CHT", || {
                self.cht.people().into_iter().find(|person| person["external_id"] == "17")
            })
            .await?;
        let uuid = str_of(&person["_id"]);
        said(
            "CHT",
            &format!("has a new person {}, where those wait whom nobody has placed", str_of(&person["name"])),
        );
        if !answer["identifier"].to_string().contains(uuid) {
            return Err("the EMR was not told the CHT uuid".into());
        }
        said("EMR", "is answered with the CHT uuid beside its own number: either names him from now on");
        Ok(())
    }

    /// Another system wants to know who somebody is.
    pub(super) async fn look_up(&self) -> Played {
        title("A look-up: another system asks CHT who has a phone, and what has been reported about her");
        let found = self.get("/fhir/Patient?phone=0712000101").await?;
        let patient = &found["entry"][0]["resource"];
        let name = str_of(&patient["name"][0]["text"]);
        said("portal", &format!("looks up 0712000101: {} found, {name}", found["total"]));
        let everything = self.get(&format!("/fhir/Patient/{}/$everything", known()?)).await?;
        let entries = everything["entry"].as_array().map_or(0, Vec::len);
        said(
            "portal",
            &format!("asks for everything about her: {entries} resources, each look-up in the audit trail"),
        );
        if entries < 2 || name.is_empty() {
            return Err("nobody was found".into());
        }
        Ok(())
    }
}

/// The patient of the plays before.
fn known() -> Result<String, String> {
    let person: Value = serde_json::from_str(PERSON).map_err(|e| e.to_string())?;
    Ok(str_of(&person["body"]["doc"]["_id"]).to_string())
}
