//! What KenyaEMR's Afyastat module posts for CHT, `{docs, timestamp}`: people whom CHWs are to test (contacts of a client)
//! or to link to care, each as a report of the form `case_information`. Each becomes a FHIR request, so that it goes
//! the way of all others (openmrs.md, KenyaEMR).
use super::values::{humanised, is_document_id, text};
use super::{Refusal, required};
use crate::domain::identifier::system;
use serde_json::{Map, Value, json};

/// OpenMRS's uuid of a patient: unique without saying which server's.
const PATIENT: &str = "urn:kenyaemr:patient";

/// The requests that a post asks for, in its order; or every problem of its documents.
pub fn afyastat(body: &Value) -> Result<Vec<Value>, Vec<Refusal>> {
    let docs =
        body["docs"].as_array().ok_or_else(|| vec![required("docs", "expected a list of documents")])?;
    let (mut requests, mut problems) = (Vec::new(), Vec::new());
    for (i, doc) in docs.iter().enumerate() {
        match request(doc, &format!("docs[{i}]")) {
            Ok(request) => requests.push(request),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(requests) } else { Err(problems) }
}

fn request(doc: &Value, at: &str) -> Result<Value, Refusal> {
    let fields = &doc["fields"];
    let own = text(&doc["_id"]).or(text(&fields["case_id"]));
    let own = own.ok_or_else(|| required(&format!("{at}._id"), "missing or empty"))?;
    let person = person(fields, own);
    if person["name"].is_null() {
        return Err(required(&format!("{at}.fields.name"), "missing or empty"));
    }
    let purpose = text(&doc["record_purpose"]).unwrap_or_default();
    let index = text(&fields["relation_uuid"]).filter(|uuid| is_document_id(uuid));
    let mut request = json!({"resourceType": "ServiceRequest", "status": "active", "intent": "order",
        "identifier": [{"value": format!("{own}/{purpose}")}], "category": [{"text": "HIV"}], "contained": [person]});
    match (purpose, index) {
        ("testing", Some(index)) => {
            request["code"] = json!({"text": "Contact tracing"});
            request["reasonCode"] = json!([{"text": "HIV testing of a contact"}]);
            request["subject"] = json!({"identifier": {"system": system::CHT_UUID, "value": index}});
            request["supportingInfo"] = json!([{"reference": "#person"}]);
            let related = related(&request["contained"][0], fields, index);
            request["contained"] = json!([related]);
        }
        ("testing", None) => {
            request["code"] = json!({"text": "HIV testing"});
            request["subject"] = json!({"reference": "#person"});
        }
        ("linkage", _) => {
            request["code"] = json!({"text": "Linkage to care"});
            request["reasonCode"] = json!([{"text": "Tested positive, not yet in care"}]);
            if let Some(day) = text(&fields["date_tested_positive"]) {
                request["note"] = json!([{"text": format!("Tested positive on {day}")}]);
            }
            request["subject"] = json!({"reference": "#person"});
        }
        ("", _) => return Err(required(&format!("{at}.record_purpose"), "missing or empty")),
        // Verifications and the follow-up of peers: the CHW reads which.
        (other, _) => {
            request["code"] = json!({"text": humanised(other)});
            request["reasonCode"] = json!([{"text": humanised(other)}]);
            request["subject"] = json!({"reference": "#person"});
        }
    }
    Ok(request)
}

/// The person as the EMR has them.
fn person(fields: &Value, own: &str) -> Value {
    let said = |key: &str| text(&fields[key]).map(|said| json!(said));
    let mut names = vec![json!({"system": PATIENT, "value": own})];
    if let Some(uuid) = text(&fields["cht_ref_uuid"]).filter(|uuid| is_document_id(uuid)) {
        names.push(json!({"system": system::CHT_UUID, "value": uuid}));
    }
    let mut person = Map::from_iter([
        ("resourceType".to_string(), json!("Patient")),
        ("id".to_string(), json!("person")),
        ("identifier".to_string(), json!(names)),
    ]);
    let given: Vec<Value> =
        ["patient_firstName", "patient_middleName"].iter().filter_map(|key| said(key)).collect();
    let whole = said("name").or_else(|| said("patient_name"));
    if whole.is_some() || !given.is_empty() {
        person.insert(
            "name".into(),
            json!([cleaned(json!({"text": whole, "family": said("patient_familyName"), "given": given}))]),
        );
    }
    let address = cleaned(json!({"line": [said("patient_landmark"), said("patient_residence")],
        "city": said("patient_village").or_else(|| said("patient_ward")), "district": said("patient_subcounty"),
        "state": said("patient_county"), "country": said("patient_nationality")}));
    if address.as_object().is_some_and(|address| !address.is_empty()) {
        person.insert("address".into(), json!([address]));
    }
    if let Some(phone) = said("patient_telephone") {
        person.insert("telecom".into(), json!([{"system": "phone", "value": phone}]));
    }
    if let Some(sex) = text(&fields["patient_sex"]).filter(|sex| matches!(*sex, "male" | "female")) {
        person.insert("gender".into(), json!(sex));
    }
    if let Some(born) = said("patient_birthDate") {
        person.insert("birthDate".into(), born);
    }
    Value::Object(person)
}

/// The same as a contact of the client under whom they were listed.
fn related(person: &Value, fields: &Value, index: &str) -> Value {
    let mut related = person.clone();
    related["resourceType"] = json!("RelatedPerson");
    related["patient"] = json!({"identifier": {"system": system::CHT_UUID, "value": index}});
    if let Some(relation) = text(&fields["relation_type"]) {
        related["relationship"] = json!([{"text": relation}]);
    }
    related
}

/// Without what is not said.
fn cleaned(value: Value) -> Value {
    super::values::pruned(&value).unwrap_or_else(|| json!({}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(purpose: &str, fields: Value) -> Result<Value, Refusal> {
        let doc = json!({"_id": "0d2f6f5e-0000-4000-8000-000000000017", "type": "data_record", "form": "case_information",
            "record_purpose": purpose, "fields": fields});
        afyastat(&json!({"docs": [doc], "timestamp": "x"}))
            .map(|mut all| all.remove(0))
            .map_err(|mut all| all.remove(0))
    }

    #[test]
    fn who_is_listed_under_a_client_is_their_contact_and_who_is_to_be_linked_is_the_patient() {
        let index = "a54a8e4f-c505-4ed9-a6f2-eb7bdad2fb9d";
        let fields = json!({"name": "Otieno Ouma", "patient_familyName": "Ouma", "patient_firstName": "Otieno", "patient_sex": "male",
            "patient_birthDate": "1961-05-01", "patient_telephone": "0712000222", "relation_uuid": index, "relation_type": "Spouse",
            "patient_village": "", "patient_ward": "Kibera"});
        let tested = of("testing", fields.clone()).expect("a request");
        assert_eq!(tested["subject"]["identifier"]["value"], index);
        let contact = &tested["contained"][0];
        assert_eq!(
            (&contact["resourceType"], &contact["relationship"][0]["text"]),
            (&json!("RelatedPerson"), &json!("Spouse"))
        );
        assert_eq!(contact["address"], json!([{"city": "Kibera"}]));
        let linked = of("linkage", fields).expect("a request");
        assert_eq!(
            (&linked["subject"]["reference"], &linked["code"]["text"]),
            (&json!("#person"), &json!("Linkage to care"))
        );
        assert_eq!(of("testing", json!({})).expect_err("no name").path, "docs[0].fields.name");
        assert_eq!(of("", json!({"name": "x"})).expect_err("no purpose").code, "required");
        let other = of("prep_verification", json!({"name": "x"})).expect("a request");
        assert_eq!(other["code"]["text"], "Prep verification");
    }
}
