//! The audit trail, as the corridor and the door need it; and whom a message is about, as the trail names
//! them.
use super::ports::{JournalError, Millis, Transaction};
use crate::domain::audit::chain::{Hash, Link};
use crate::domain::audit::{Act, Agent, Event, Outcome};
use crate::domain::fhir::identifiers;
use crate::domain::identifier::{Identifier, system};
use crate::domain::message::Route;
use async_trait::async_trait;
use serde_json::Value;

/// Which records are wanted; what is not said restricts nothing.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Search {
    /// Only those with a greater number.
    pub after: u64,
    /// Only those with a smaller number.
    pub before: Option<u64>,
    /// From this time on.
    pub from: Option<Millis>,
    /// Before this time.
    pub until: Option<Millis>,
    pub agent: Option<String>,
    /// About one of these: a transaction, or a person's identifier as value or as `system|value`.
    pub about: Vec<String>,
    pub action: Option<String>,
    pub outcome: Option<String>,
    pub newest_first: bool,
    pub limit: usize,
}

/// The trail stands in the journal, so that what happened and its record are on disk together or not at all.
#[async_trait]
pub trait Audit: Send + Sync + 'static {
    /// Answers when the record is safe on disk.
    async fn record(&self, event: Event) -> Result<(), JournalError>;
    /// With the next write, and nobody waits for it.
    fn note(&self, event: Event);
    async fn records(&self, search: Search) -> Result<Vec<Link>, JournalError>;
    /// Number and hash of the newest record.
    async fn head(&self) -> Result<Option<(u64, Hash)>, JournalError>;
    /// Cuts off the oldest records, all older than `before`, some thousands at a time, and records that they were.
    /// Answers how many.
    async fn cut(&self, before: Millis, now: Millis) -> Result<u64, JournalError>;
}

/// OpenHIM is told the calls that were made for a transaction, with what they say.
pub fn told_openhim(transaction: &Transaction, at: Millis) -> Option<Event> {
    let act = Act::Delivered { to: "openhim".into(), outcome: Outcome::Done, attempts: 1, ends: None };
    (!transaction.orchestrations.is_empty()).then(|| Event {
        at,
        by: Agent::mediator(),
        act,
        transaction: Some(transaction.head.id.clone()),
        patients: transaction.patients(),
    })
}

/// The people that a message is about: by CHT uuid, else as its sender names them. A system's own ids are
/// told apart as the crosswalk does.
pub fn patients(route: &Route, client: &str, home: Option<&str>, body: &Value) -> Vec<Identifier> {
    let named = match route {
        Route::ChtPush(_) | Route::ChtPatient | Route::ChtPatientIds | Route::ChtEncounter => {
            of_cht(body).into_iter().collect()
        }
        _ => of_fhir(client, home, body),
    };
    let mut all: Vec<Identifier> = named.into_iter().filter_map(Identifier::for_trail).collect();
    all.sort();
    all.dedup();
    all
}

fn of_cht(body: &Value) -> Option<Identifier> {
    let doc = if body["doc"].is_object() { &body["doc"] } else { body };
    let fields = &doc["fields"];
    let is_person = doc["type"] == "person"
        || ["sex", "date_of_birth", "patient_id", "external_id"].iter().any(|key| doc[*key].is_string());
    let own = if fields.is_object() || !is_person { &Value::Null } else { &doc["_id"] };
    let uuid = [
        own,
        &doc["patient_uuid"],
        &fields["patient_uuid"],
        &doc["patient"]["_id"],
        &fields["inputs"]["contact"]["_id"],
    ];
    let shortcode = [&fields["patient_id"], &doc["patient_id"]];
    let first = |names: &[&Value], system: &str| {
        let name = names.iter().find_map(|name| name.as_str().filter(|name| !name.is_empty()))?;
        Some(Identifier::new(system, name))
    };
    first(&uuid, system::CHT_UUID).or_else(|| first(&shortcode, system::CHT_SHORTCODE))
}

fn of_fhir(client: &str, home: Option<&str>, body: &Value) -> Vec<Identifier> {
    let entries = body["entry"].as_array().into_iter().flatten().map(|entry| &entry["resource"]);
    let resources = std::iter::once(body).chain(entries);
    let all = resources
        .flat_map(|one| std::iter::once(one).chain(one["contained"].as_array().into_iter().flatten()));
    all.flat_map(|resource| match resource["resourceType"].as_str() {
        Some("Patient") => of_patient(client, home, resource).into_iter().collect::<Vec<_>>(),
        _ => ["subject", "for", "patient", "beneficiary"]
            .iter()
            .filter_map(|element| of_reference(client, home, &resource[*element]))
            .collect(),
    })
    .collect()
}

/// By its CHT uuid, its first identifier, or its id.
fn of_patient(client: &str, home: Option<&str>, patient: &Value) -> Option<Identifier> {
    let all: Vec<Identifier> = identifiers(patient).iter().filter_map(Identifier::of).collect();
    let in_cht = |i: &&Identifier| i.system == system::CHT_UUID || i.system == system::PEER_CHT;
    match all.iter().find(in_cht).or(all.first()) {
        Some(identifier) => Some(owned(client, identifier.clone())),
        None => Some(by_id(client, home, "Patient", patient["id"].as_str()?)),
    }
}

fn of_reference(client: &str, home: Option<&str>, element: &Value) -> Option<Identifier> {
    if let Some(identifier) = Identifier::of(&element["identifier"]) {
        return Some(owned(client, identifier));
    }
    let reference = element["reference"].as_str()?;
    if let Some((_, query)) = reference.split_once("Patient?") {
        let (_, token) =
            url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "identifier")?;
        return Identifier::of_token(&token).map(|identifier| owned(client, identifier));
    }
    let (kind, id) = reference.rsplit_once('/')?;
    kind.ends_with("Patient").then(|| by_id(client, home, kind, id))
}

fn by_id(client: &str, home: Option<&str>, kind: &str, id: &str) -> Identifier {
    match home {
        Some(destination) => Identifier::new(system::at_server(destination), id),
        None => Identifier::new(system::own(client), format!("{kind}/{id}")),
    }
}

/// One without a system is its client's.
fn owned(client: &str, identifier: Identifier) -> Identifier {
    match identifier.system.as_str() {
        "" => Identifier::new(system::own(client), identifier.value),
        _ => identifier,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn named(route: &str, home: Option<&str>, body: Value) -> Vec<String> {
        let route = route.parse().expect("a route");
        patients(&route, "emr", home, &body).into_iter().map(|i| i.token().replace('\\', "")).collect()
    }

    #[test]
    fn a_report_is_about_its_patient_and_a_person_about_themselves() {
        for (doc, expected) in [
            (json!({"_id": "p", "type": "person", "name": "A B"}), vec!["urn:cht:uuid|p"]),
            (json!({"_id": "p", "type": "contact", "sex": "female"}), vec!["urn:cht:uuid|p"]),
            (json!({"_id": "clinic", "type": "contact", "name": "A"}), vec![]),
            (
                json!({"_id": "r", "patient": {"_id": "p"}, "fields": {"patient_id": "83288"}}),
                vec!["urn:cht:uuid|p"],
            ),
            (json!({"_id": "r", "fields": {"patient_id": "83288"}}), vec!["urn:cht:shortcode|83288"]),
        ] {
            assert_eq!(named("/cht/push", None, json!({"doc": doc})), expected);
        }
        assert_eq!(
            named("/cht/encounter", None, json!({"id": "e", "patient_uuid": "p"})),
            ["urn:cht:uuid|p"]
        );
    }

    #[test]
    fn fhir_names_them_by_identifier_else_by_whose_id_it_is() {
        let own = "urn:cht-fhir-mediator:request:emr";
        for (body, expected) in [
            (
                json!({"resourceType": "Patient", "id": "1", "identifier": [{"system": "s", "value": "m"}, {"system": "cht", "value": "p"}]}),
                vec!["urn:cht:uuid|p".to_string()],
            ),
            (json!({"resourceType": "Patient", "id": "1"}), vec![format!("{own}|Patient/1")]),
            (
                json!({"resourceType": "Task", "for": {"reference": "Patient/1"}}),
                vec![format!("{own}|Patient/1")],
            ),
            (
                json!({"resourceType": "Task", "for": {"reference": "Patient?identifier=s|m"}}),
                vec!["s|m".into()],
            ),
            (
                json!({"resourceType": "Task", "for": {"identifier": {"value": "m"}}}),
                vec![format!("{own}|m")],
            ),
            (
                json!({"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "Patient", "identifier": [{"system": "s", "value": "m"}]}},
                {"resource": {"resourceType": "Observation", "subject": {"reference": "urn:uuid:x"}}},
                {"resource": {"resourceType": "Observation", "subject": {"identifier": {"system": "s", "value": "m"}}}}]}),
                vec!["s|m".into()],
            ),
            (json!({"resourceType": "Organization", "id": "o"}), vec![]),
        ] {
            assert_eq!(named("/fhir", None, body), expected);
        }
        let task = json!({"resourceType": "Task", "for": {"reference": "Patient/1"}});
        assert_eq!(named("/fhir/Task", Some("fhir"), task), ["urn:cht-fhir-mediator:at:fhir:Patient|1"]);
    }

    #[test]
    fn what_may_be_a_name_is_left_out() {
        for subject in [
            json!({"display": "Achieng Otieno"}),
            json!({"reference": "Patient/Achieng Otieno"}),
            json!({"identifier": {"system": "s", "value": "Achieng Otieno"}}),
        ] {
            let body = json!({"resourceType": "Task", "for": subject});
            assert!(named("/fhir/Task", None, body).is_empty());
        }
    }
}
