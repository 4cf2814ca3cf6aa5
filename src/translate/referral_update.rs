//! A clinic's news of a referral that a CHW made: the ServiceRequest or Task that we sent, changed.
use super::Refusal;
use super::inbound::{Around, Door, subject_of};
use super::values::{self, concepts, text};
use crate::domain::fhir::{take_if_match, take_listed};
use crate::domain::follow_up::{ReferralUpdate, State, Subject};
use crate::domain::identifier::{Identifier, system};
use crate::domain::record::RecordDraft;
use jiff::tz::TimeZone;
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
    pub admitted: bool,
    subject: Subject,
    resource: Value,
}

impl News {
    pub(super) fn with(self, record: RecordDraft) -> ReferralUpdate {
        let details = (!self.said.is_empty()).then(|| digest(&self.said));
        let Self { referral, state, subject, mut resource, .. } = self;
        let if_match = take_if_match(&mut resource);
        take_listed(&mut resource);
        ReferralUpdate { referral, state, if_match, subject, details, resource, record }
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
        admitted: is_admitted(resource),
        resource: resource.clone(),
    })
}

/// Everything that the clinic wrote, in words.
fn words(resource: &Value) -> Vec<String> {
    let mut all = concepts(&resource["businessStatus"]);
    all.extend(concepts(&resource["statusReason"]));
    for output in resource["output"].as_array().into_iter().flatten() {
        let name = concepts(&output["type"]).into_iter().next();
        let value = value_of(output).and_then(in_words);
        all.extend(value.map(|value| name.map_or(value.clone(), |name| format!("{name}: {value}"))));
    }
    let notes = resource["note"].as_array().into_iter().flatten();
    all.extend(notes.filter_map(|note| text(&note["text"]).map(String::from)));
    let who = |name: &str, reference: &Value| text(&reference["display"]).map(|who| format!("{name}: {who}"));
    all.extend(who("Owner", &resource["owner"]));
    let performers = resource["performer"].as_array().into_iter().flatten();
    all.extend(performers.filter_map(|performer| who("Performer", performer)));
    all
}

/// Its `value[x]`, whichever type that is.
pub(super) fn value_of(output: &Value) -> Option<&Value> {
    let fields = output.as_object()?;
    fields.iter().find(|(key, value)| key.starts_with("value") && !value.is_null()).map(|(_, value)| value)
}

/// Any value of FHIR for people to read.
pub(super) fn in_words(value: &Value) -> Option<String> {
    let joined = |parts: Vec<Option<String>>, with: &str| {
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(with))
    };
    match value {
        Value::String(_) => text(value).map(String::from),
        Value::Bool(yes) => Some(if *yes { "yes" } else { "no" }.into()),
        Value::Number(number) => Some(number.to_string()),
        Value::Array(items) => joined(items.iter().map(in_words).collect(), ", "),
        // Annotation, CodeableConcept, HumanName and Address say it themselves; then Coding and Reference.
        Value::Object(fields) => {
            let own = ["text", "display", "reference"].iter().find_map(|key| text(&value[*key]));
            let own = own.map(String::from).or_else(|| concepts(value).into_iter().next());
            let pair = |first: &str, last: &str, with| {
                joined(vec![in_words(&value[first]), in_words(&value[last])], with)
            };
            own.or_else(|| pair("start", "end", " to "))
                .or_else(|| pair("low", "high", " to "))
                .or_else(|| pair("numerator", "denominator", " / "))
                .or_else(|| {
                    let unit = text(&value["unit"]).or(text(&value["code"])).map(String::from);
                    joined(vec![in_words(&value["comparator"]), in_words(&value["value"]), unit], " ")
                })
                .or_else(|| joined(fields.values().map(in_words).collect(), ", "))
        }
        Value::Null => None,
    }
}

/// Whether the clinic says that it took the patient in: by a code of admission, or by words that say that and
/// nothing else. "Not admitted" and "to be admitted" don't.
fn is_admitted(resource: &Value) -> bool {
    let outputs = resource["output"].as_array().into_iter().flatten();
    let by_output = |output: &Value| {
        let asked = concepts(&output["type"]).iter().any(|name| says_admitted(name));
        match value_of(output) {
            Some(Value::Bool(yes)) => asked && *yes,
            Some(value) => {
                is_admission(value)
                    || in_words(value).is_some_and(|said| says_admitted(&said) || (asked && is_yes(&said)))
            }
            None => false,
        }
    };
    let notes = resource["note"].as_array().into_iter().flatten();
    let mut said = concepts(&resource["businessStatus"]).into_iter();
    is_admission(&resource["businessStatus"])
        || said.any(|said| says_admitted(&said))
        || outputs.into_iter().any(by_output)
        || notes.filter_map(|note| text(&note["text"])).any(says_admitted)
}

fn is_yes(said: &str) -> bool {
    matches!(said.to_lowercase().as_str(), "yes" | "true")
}

/// SNOMED CT's hospital admission and its kin, and HL7's inpatient encounters.
const ADMISSION: &[&str] = &["32485007", "305056002", "183452005", "IMP", "ACUTE", "NONAC", "admitted"];

fn is_admission(concept: &Value) -> bool {
    let codings = concept["coding"].as_array().into_iter().flatten().chain([concept]);
    codings.filter_map(|coding| text(&coding["code"])).any(|code| ADMISSION.contains(&code))
}

/// Words that begin a sentence of somebody who was taken in, and none in it that takes it back.
fn says_admitted(said: &str) -> bool {
    const DOUBTS: &[&str] = &[
        "not",
        "no",
        "never",
        "without",
        "declined",
        "refused",
        "denied",
        "if",
        "unless",
        "discharged",
        "cannot",
        "nor",
        "neither",
        "rather",
        "instead",
        "advised",
        "planned",
        "tomorrow",
        "until",
    ];
    let said = said.to_lowercase();
    let words: Vec<&str> =
        said.split(|c: char| !c.is_alphanumeric() && c != '\'').filter(|w| !w.is_empty()).collect();
    let about: Vec<&str> = words
        .iter()
        .copied()
        .filter(|w| !matches!(*w, "patient" | "was" | "is" | "the" | "been" | "has"))
        .collect();
    let begins = about
        .first()
        .is_some_and(|word| matches!(*word, "admitted" | "hospitalised" | "hospitalized" | "inpatient"));
    begins && !words.iter().any(|word| DOUBTS.contains(word) || word.ends_with("n't"))
}

impl News {
    /// The day on which the clinic saw the patient, as far as it says one that is not still to come: an
    /// output of that name, or when it was carried out. A next appointment is none.
    pub(super) fn seen(&self, zone: &TimeZone, received: i64) -> Option<String> {
        let outputs = self.resource["output"].as_array().into_iter().flatten();
        let seen = outputs.filter(|output| concepts(&output["type"]).iter().any(|name| is_of_seeing(name)));
        let by_output = seen.filter_map(|output| {
            let value = value_of(output)?;
            Some(if value["start"].is_null() { value } else { &value["start"] })
        });
        let (carried_out, occurred) = (&self.resource["executionPeriod"], &self.resource["occurrencePeriod"]);
        let others = [
            &carried_out["end"],
            &carried_out["start"],
            &self.resource["occurrenceDateTime"],
            &occurred["end"],
            &occurred["start"],
        ];
        let today = values::day(received, zone)?;
        let past = |value: &Value| values::date(value, zone).filter(|date| *date <= today);
        by_output.chain(others).find_map(past).map(|date| date.to_string())
    }
}

/// `Seen on`, `Date of visit`: and not the next one.
fn is_of_seeing(name: &str) -> bool {
    let name = name.to_lowercase();
    let words: Vec<&str> = name.split(|c: char| !c.is_alphanumeric()).collect();
    let has = |all: &[&str]| words.iter().any(|word| all.contains(word));
    has(&["seen", "visit", "visited", "encounter", "attended", "admission", "admitted", "treated", "arrived"])
        && !has(&[
            "next",
            "follow",
            "return",
            "appointment",
            "due",
            "planned",
            "review",
            "missed",
            "last",
            "previous",
        ])
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

    #[test]
    fn admitted_is_what_says_so_without_a_doubt() {
        for (said, expected) in [
            ("Admitted", true),
            ("admitted to the ward", true),
            ("Patient was admitted with severe malaria", true),
            ("Not admitted", false),
            ("Patient was not admitted", false),
            ("Admitted? no", false),
            ("To be admitted tomorrow", false),
            ("wasn't admitted", false),
            ("The mother admitted that she forgot the tablets", false),
            ("Treated and sent home", false),
        ] {
            let task = json!({"output": [{"type": {"text": "outcome"}, "valueString": said}]});
            assert_eq!(is_admitted(&task), expected, "{said}");
        }
        for (output, expected) in [
            (json!({"type": {"text": "Admitted"}, "valueBoolean": true}), true),
            (json!({"type": {"text": "Admitted"}, "valueBoolean": false}), false),
            (json!({"type": {"text": "Admitted"}, "valueString": "no"}), false),
            (
                json!({"type": {"text": "x"}, "valueCoding": {"system": "http://snomed.info/sct", "code": "32485007"}}),
                true,
            ),
            (json!({"type": {"text": "x"}, "valueCodeableConcept": {"coding": [{"code": "IMP"}]}}), true),
        ] {
            assert_eq!(is_admitted(&json!({"output": [output]})), expected, "{output}");
        }
    }

    #[test]
    fn every_value_is_said() {
        for (key, value, expected) in [
            ("valueDate", json!("2026-12-01"), "x: 2026-12-01"),
            ("valueDateTime", json!("2026-12-01T08:00:00Z"), "x: 2026-12-01T08:00:00Z"),
            ("valueQuantity", json!({"value": 38.50, "unit": "Cel"}), "x: 38.5 Cel"),
            ("valueCoding", json!({"system": "s", "code": "c", "display": "Malaria"}), "x: Malaria"),
            ("valueCodeableConcept", json!({"coding": [{"code": "c"}]}), "x: c"),
            ("valueReference", json!({"reference": "Encounter/7"}), "x: Encounter/7"),
            (
                "valuePeriod",
                json!({"start": "2026-11-01", "end": "2026-11-03"}),
                "x: 2026-11-01 to 2026-11-03",
            ),
            ("valueBoolean", json!(true), "x: yes"),
            ("valueRange", json!({"low": {"value": 1}, "high": {"value": 2}}), "x: 1 to 2"),
        ] {
            let mut output = json!({"type": {"text": "x"}});
            output[key] = value;
            assert_eq!(words(&json!({"output": [output]})), [expected]);
        }
    }
}
