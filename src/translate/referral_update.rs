//! A clinic's news of a referral that a CHW made: the ServiceRequest or Task that we sent, changed.
use super::Refusal;
use super::inbound::{Around, Door, subject_of};
use super::values::{concepts, text};
use crate::domain::follow_up::{ReferralUpdate, State, Subject};
use crate::domain::identifier::{Identifier, system};
use crate::domain::record::RecordDraft;
use serde_json::Value;
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

/// News, before its record is made.
pub(super) struct News {
    pub referral: Identifier,
    pub state: State,
    /// Everything that the clinic wrote, in words.
    pub said: Vec<String>,
    subject: Subject,
    resource: Value,
}

impl News {
    pub(super) fn with(self, record: RecordDraft) -> ReferralUpdate {
        let details = (!self.said.is_empty()).then(|| digest(&self.said));
        let Self { referral, state, subject, resource, .. } = self;
        ReferralUpdate { referral, state, subject, details, resource, record }
    }
}

pub(super) fn referral_update(
    resource: &Value,
    referral: Identifier,
    around: &Around,
) -> Result<News, Refusal> {
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
    Ok(News {
        subject: subject_of(resource, element, around, Door::Fhir).unwrap_or_default(),
        referral,
        state,
        said: words(resource),
        resource: resource.clone(),
    })
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
    use serde_json::json;

    #[test]
    fn others_are_no_referrals_of_ours() {
        assert!(
            referral_of(&json!({"resourceType": "Task", "identifier": [{"system": "x", "value": "r"}]}))
                .is_none()
        );
    }
}
