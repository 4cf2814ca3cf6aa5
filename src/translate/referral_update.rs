//! A clinic's news of a referral that a CHW made: the ServiceRequest or Task that we sent, changed.
use super::Refusal;
use super::inbound::{Around, Door, concepts, subject_of};
use super::values::{date, day, text};
use crate::config;
use crate::domain::follow_up::{ReferralUpdate, State};
use crate::domain::identifier::{Identifier, system};
use crate::domain::record::RecordDraft;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// The referral that a resource is news of: it carries its identifier, or is focused on or based on it.
pub(super) fn referral_of(resource: &Value) -> Option<Identifier> {
    let own = resource["identifier"].as_array().into_iter().flatten();
    let based_on =
        resource["basedOn"].as_array().into_iter().flatten().map(|reference| &reference["identifier"]);
    own.chain([&resource["focus"]["identifier"]]).chain(based_on).find_map(|identifier| {
        let value = text(&identifier["value"])?;
        (identifier["system"] == system::CHT_REPORT).then(|| Identifier::new(system::CHT_REPORT, value))
    })
}

pub(super) fn referral_update(
    resource: &Value,
    referral: Identifier,
    around: &Around,
    settings: &config::Translate,
    received: i64,
) -> Result<ReferralUpdate, Refusal> {
    let kind = resource["resourceType"].as_str().unwrap_or_default();
    let status = resource["status"].as_str().unwrap_or_default();
    let (state, element) = match kind {
        "Task" => (State::of_task(status), "for"),
        _ => (State::of_request(status), "subject"),
    };
    let state = state.ok_or_else(|| Refusal {
        path: format!("{kind}.status"),
        code: "code-invalid",
        message: "expected a status that says where the referral is".into(),
    })?;
    let said = words(resource);
    let record = RecordDraft {
        form: settings.referral_form.clone(),
        patient_field: "patient_id".into(),
        lookup_field: "external_id".into(),
        fields: fields(resource, &referral, state, &said, received),
    };
    Ok(ReferralUpdate {
        subject: subject_of(resource, element, around, Door::Fhir).unwrap_or_default(),
        referral,
        state,
        details: (!said.is_empty()).then(|| digest(&said)),
        resource: resource.clone(),
        record,
    })
}

fn fields(
    resource: &Value,
    referral: &Identifier,
    state: State,
    said: &[String],
    received: i64,
) -> Map<String, Value> {
    let admitted = said.iter().any(|words| words.to_lowercase().contains("admit"));
    // The codes of the form's list: 0 not seen, 1 treated, 2 admitted.
    let outcome = match state {
        State::Completed if admitted => Some(2),
        State::Completed => Some(1),
        State::Rejected | State::Cancelled => Some(0),
        _ => None,
    };
    [
        ("external_id", Some(json!(referral.value))),
        ("status", Some(json!(state.task_status()))),
        ("outcome", outcome.map(Value::from)),
        ("seen_on", (state == State::Completed).then(|| json!(seen_on(resource, received)))),
        ("note", (!said.is_empty()).then(|| json!(said.join("\n")))),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key.to_string(), value?)))
    .collect()
}

fn seen_on(resource: &Value, received: i64) -> String {
    let places = [
        "/executionPeriod/end",
        "/executionPeriod/start",
        "/occurrenceDateTime",
        "/lastModified",
        "/meta/lastUpdated",
    ];
    let outputs = resource["output"].as_array().into_iter().flatten();
    let in_output =
        outputs.filter_map(|o| date(&o["valueDateTime"]).or_else(|| date(&o["valueDate"]))).next();
    let seen = in_output.or_else(|| places.iter().find_map(|path| date(resource.pointer(path)?)));
    seen.or_else(|| day(received)).map(|seen| seen.to_string()).unwrap_or_default()
}

/// Everything that the clinic wrote, in words.
fn words(resource: &Value) -> Vec<String> {
    let mut all = concepts(&resource["businessStatus"]);
    all.extend(concepts(&resource["statusReason"]));
    for output in resource["output"].as_array().into_iter().flatten() {
        let name = concepts(&output["type"]).into_iter().next();
        let value = ["valueString", "valueCode", "valueMarkdown"]
            .iter()
            .find_map(|key| text(&output[*key]).map(String::from));
        let value = value.or_else(|| concepts(&output["valueCodeableConcept"]).into_iter().next());
        let value = value.or_else(|| {
            ["valueBoolean", "valueInteger", "valueDecimal"]
                .iter()
                .find_map(|key| (!output[*key].is_null()).then(|| output[*key].to_string()))
        });
        all.extend(value.map(|value| name.map_or(value.clone(), |name| format!("{name}: {value}"))));
    }
    let notes = resource["note"].as_array().into_iter().flatten();
    all.extend(notes.filter_map(|note| text(&note["text"]).map(String::from)));
    all
}

fn digest(said: &[String]) -> String {
    let hash = Sha256::digest(said.join("\n").as_bytes());
    hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(resource: Value) -> ReferralUpdate {
        let settings = config::Translate {
            default_country: "KE".into(),
            follow_up_form: "LTFU_REQUEST".into(),
            referral_form: "REF_BACK".into(),
        };
        let referral = referral_of(&resource).expect("a referral");
        referral_update(&resource, referral, &Around(Vec::new()), &settings, 0).expect("an update")
    }

    #[test]
    fn a_completed_task_with_its_output() {
        let update = update(json!({"resourceType": "Task", "status": "completed",
            "identifier": [{"system": system::CHT_REPORT, "value": "r"}], "executionPeriod": {"end": "2026-11-20T10:00:00Z"},
            "output": [{"type": {"text": "outcome"}, "valueString": "admitted to the ward"}]}));
        assert_eq!(
            Value::Object(update.record.fields),
            json!({"external_id": "r", "status": "completed", "outcome": 2, "seen_on": "2026-11-20",
                "note": "outcome: admitted to the ward"})
        );
        assert!(update.details.is_some());
    }

    #[test]
    fn an_accepted_one_says_no_more() {
        let update = update(json!({"resourceType": "Task", "status": "accepted",
            "focus": {"identifier": {"system": system::CHT_REPORT, "value": "r"}}}));
        assert_eq!(Value::Object(update.record.fields), json!({"external_id": "r", "status": "accepted"}));
        assert!(update.details.is_none());
    }

    #[test]
    fn others_are_no_referrals_of_ours() {
        assert!(
            referral_of(&json!({"resourceType": "Task", "identifier": [{"system": "x", "value": "r"}]}))
                .is_none()
        );
    }
}
