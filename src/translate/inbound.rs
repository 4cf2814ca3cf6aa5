//! An EMR's request that a CHW follow a patient up: ServiceRequest or Task.
use super::values::{is_document_id, text};
use super::{Refusal, required};
use crate::domain::fhir::{identifiers, take_create_only, take_if_match, take_listed};
use crate::domain::follow_up::{FollowUpRequest, State, Subject};
use crate::domain::identifier::{Identifier, system};
use crate::domain::record::RecordDraft;
use serde_json::Value;

/// The other resources that came with one: `fullUrl` and resource.
pub(super) struct Around<'a>(pub Vec<(&'a str, &'a Value)>);

/// How the request came.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Door {
    Fhir,
    /// `/service-request` of the TypeScript mediator: a plain form, and `Patient/<identifier>` is an
    /// identifier.
    DropIn,
}

/// A request, before its record is made.
pub(super) struct Request {
    pub identifier: Identifier,
    pub state: State,
    if_match: Option<String>,
    listed: bool,
    subject: Subject,
    requester: Option<String>,
    focus: Option<Identifier>,
    /// Who asks, in words.
    pub asked_by: Option<String>,
    resource: Value,
}

impl Request {
    pub(super) fn with(self, record: RecordDraft) -> FollowUpRequest {
        let Self { identifier, state, if_match, listed, subject, requester, focus, resource, .. } = self;
        let (program, due) = (None, None);
        FollowUpRequest {
            identifier,
            state,
            if_match,
            listed,
            subject,
            requester,
            focus,
            resource,
            program,
            due,
            record,
            contacts: Vec::new(),
        }
    }

    /// As it came.
    pub(super) fn status(&self) -> &str {
        self.resource["status"].as_str().unwrap_or_default()
    }
}

/// `day` is that of its arrival: a request that has neither identifier nor id is the same as another
/// of the same words on that day.
pub(super) fn request(resource: &Value, around: &Around, door: Door, day: &str) -> Result<Request, Refusal> {
    let kind = resource["resourceType"].as_str().unwrap_or_default();
    let element = subject_element(resource);
    let path = format!("{kind}.{element}");
    let request = request_of(resource, around);
    let about = |resource: &Value| subject_of(resource, subject_element(resource), around, door);
    let subject = about(resource)
        .or_else(|| about(request?))
        .filter(|subject| !subject.identifiers.is_empty() || subject.reference.is_some())
        .ok_or_else(|| {
            required(
                &path,
                "the request names no patient; news of a referral carries the referral's identifier (urn:cht:report)",
            )
        })?;
    let status = resource["status"].as_str().unwrap_or_default();
    let state = if kind == "Task" { State::of_task(status) } else { State::of_request(status) };
    let state = state.ok_or_else(|| Refusal {
        path: format!("{kind}.status"),
        code: "code-invalid",
        message: "expected a status that says where the request is".into(),
    })?;
    let (asker, requester) = (&resource["requester"], requester_of(resource));
    let asked_by = text(&asker["display"]).or_else(|| {
        let who = referred(resource, text(&asker["reference"])?, around)?;
        text(&who["name"]).or(text(&who["name"][0]["text"]))
    });
    let asked_by = asked_by.map(String::from);
    let identifier = named(resource).unwrap_or_else(|| derived(&format!("{day} {resource}")));
    let focus = match request {
        Some(request) => named(request).or_else(|| Some(derived(&format!("{day} {request}")))),
        None => focus_of(resource),
    };
    let mut resource = resource.clone();
    take_create_only(&mut resource);
    let if_match = take_if_match(&mut resource);
    let listed = take_listed(&mut resource);
    Ok(Request { identifier, state, if_match, listed, subject, requester, focus, asked_by, resource })
}

/// `Organization/x`, or an identifier's value.
pub(crate) fn requester_of(resource: &Value) -> Option<String> {
    let asker = &resource["requester"];
    text(&asker["reference"]).or(text(&asker["identifier"]["value"])).map(String::from)
}

/// The ServiceRequest of the same Bundle that a Task is about.
pub(super) fn request_of<'a>(task: &Value, around: &'a Around) -> Option<&'a Value> {
    let focus = text(&task["focus"]["reference"]).filter(|_| task["resourceType"] == "Task")?;
    let is_meant = |(url, resource): &&(&str, &Value)| {
        let id = text(&resource["id"]).map(|id| format!("ServiceRequest/{id}"));
        resource["resourceType"] == "ServiceRequest" && (*url == focus || id.as_deref() == Some(focus))
    };
    around.0.iter().find(is_meant).map(|(_, request)| *request)
}

/// The ServiceRequest that a Task which came alone is about, as the Task names it.
pub(crate) fn focus_of(task: &Value) -> Option<Identifier> {
    let focus = Some(&task["focus"]).filter(|_| task["resourceType"] == "Task")?;
    if let Some(value) = text(&focus["identifier"]["value"]) {
        return Some(Identifier::new(text(&focus["identifier"]["system"]).unwrap_or(system::REQUEST), value));
    }
    let reference = text(&focus["reference"]).filter(|name| name.starts_with("ServiceRequest/"))?;
    Some(Identifier::new(system::REQUEST, reference))
}

/// What a reference means, if it came along: contained, or beside it in a Bundle.
pub(super) fn referred<'a>(resource: &'a Value, reference: &str, around: &'a Around) -> Option<&'a Value> {
    if let Some(id) = reference.strip_prefix('#') {
        let mut contained = resource["contained"].as_array().into_iter().flatten();
        return contained.find(|r| r["id"] == id);
    }
    let is_meant = |(url, other): &&(&str, &Value)| {
        let address = text(&other["resourceType"]).zip(text(&other["id"]));
        *url == reference || address.is_some_and(|(kind, id)| format!("{kind}/{id}") == reference)
    };
    around.0.iter().find(is_meant).map(|(_, other)| *other)
}

fn subject_element(resource: &Value) -> &'static str {
    if resource["resourceType"] == "Task" { "for" } else { "subject" }
}

/// The first identifier; without any the id, and without that the content.
pub(super) fn identifier_of(resource: &Value) -> Identifier {
    named(resource).unwrap_or_else(|| derived(&resource.to_string()))
}

fn derived(content: &str) -> Identifier {
    let own = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, content.as_bytes());
    Identifier::new(system::REQUEST, own.to_string())
}

fn named(resource: &Value) -> Option<Identifier> {
    let kind = resource["resourceType"].as_str().unwrap_or_default();
    let all = identifiers(resource).iter();
    let first = all.filter_map(|i| Some((text(&i["system"]), text(&i["value"])?))).next();
    match (first, text(&resource["id"])) {
        (Some((given, value)), _) => Some(Identifier::new(given.unwrap_or(system::REQUEST), value)),
        (None, Some(id)) => Some(Identifier::new(system::REQUEST, format!("{kind}/{id}"))),
        (None, None) => None,
    }
}

/// The Patient resource itself, if it came along.
pub(super) fn patient_of<'a>(resource: &'a Value, around: &'a Around) -> Option<&'a Value> {
    let element = subject_element(resource);
    let patient = referred(resource, text(&resource[element]["reference"])?, around)?;
    (patient["resourceType"] == "Patient").then_some(patient)
}

/// The patient as the element names it, with every identifier that can be had.
pub(super) fn subject_of(resource: &Value, element: &str, around: &Around, door: Door) -> Option<Subject> {
    let named = &resource[element];
    if !named.is_object() {
        return None;
    }
    let kind = resource["resourceType"].as_str().unwrap_or_default();
    let mut subject = Subject { path: format!("{kind}.{element}"), ..Subject::default() };
    subject.identifiers.extend(one_identifier(&named["identifier"], door));
    if let Some(reference) = text(&named["reference"]) {
        match patient_of(resource, around) {
            Some(patient) => subject.identifiers.extend(patient_identifiers(patient, door)),
            None => read_reference(reference, door, &mut subject),
        }
    }
    subject.identifiers.sort();
    subject.identifiers.dedup();
    Some(subject)
}

/// `Patient?identifier=system|value`, `Patient/?identifier=value`, `Patient/id`.
fn read_reference(reference: &str, door: Door, subject: &mut Subject) {
    if let Some((_, query)) = reference.split_once("identifier=") {
        let query = format!("i={query}");
        let token = url::form_urlencoded::parse(query.as_bytes()).next();
        let token = token.map(|(_, token)| token.into_owned()).unwrap_or_default();
        let Some(Identifier { system, value }) = Identifier::of_token(&token) else { return };
        // Only the mediator itself calls anybody so.
        if !system::is_ours_alone(&system) {
            subject.identifiers.push(cht_aware(&system, &value, None, door));
        }
        return;
    }
    let Some((kind, id)) = reference.rsplit_once('/') else { return };
    if kind.rsplit('/').next() != Some("Patient") {
        return;
    }
    subject.reference = Some(format!("Patient/{id}"));
    // A server's own id is a number like a short code is: only the drop-in route means an identifier.
    if is_document_id(id) || door == Door::DropIn {
        subject.identifiers.push(cht_aware("", id, None, door));
    }
}

pub(super) fn patient_identifiers(patient: &Value, door: Door) -> Vec<Identifier> {
    let all = patient["identifier"].as_array().into_iter().flatten();
    all.filter_map(|identifier| one_identifier(identifier, door)).collect()
}

fn one_identifier(identifier: &Value, door: Door) -> Option<Identifier> {
    let kind = text(&identifier["type"]["text"]);
    Some(cht_aware(text(&identifier["system"]).unwrap_or_default(), text(&identifier["value"])?, kind, door))
}

/// What others call CHT's identifiers becomes ours: the peer's system, its type names, bare ids of CHT's
/// documents, and on the drop-in route bare short codes. Elsewhere bare digits may be anybody's number.
pub(super) fn cht_aware(given: &str, value: &str, kind: Option<&str>, door: Door) -> Identifier {
    let said = given == system::PEER_CHT
        || matches!(kind, Some("CHT Document ID" | "CHT Patient ID" | "CHT Record ID"));
    let is_code = (4..=13).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_digit());
    if (said || given.is_empty()) && is_document_id(value) {
        Identifier::new(system::CHT_UUID, value)
    } else if is_code && (said || (given.is_empty() && door == Door::DropIn)) {
        Identifier::new(system::CHT_SHORTCODE, value)
    } else {
        Identifier::new(given, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const UUID: &str = "a54a8e4f-c505-4ed9-a6f2-eb7bdad2fb9d";

    fn of(resource: Value, door: Door) -> Result<Request, Refusal> {
        request(&resource, &Around(Vec::new()), door, "2026-11-26")
    }

    #[test]
    fn every_way_to_name_a_patient() {
        for (subject, expected) in [
            (json!({"reference": format!("Patient/{UUID}")}), Identifier::new(system::CHT_UUID, UUID)),
            (
                json!({"reference": format!("Patient?identifier=cht|{UUID}")}),
                Identifier::new(system::CHT_UUID, UUID),
            ),
            (
                json!({"reference": format!("Patient/?identifier={UUID}")}),
                Identifier::new(system::CHT_UUID, UUID),
            ),
            (
                json!({"identifier": {"system": "cht", "value": "83288"}}),
                Identifier::new(system::CHT_SHORTCODE, "83288"),
            ),
            (
                json!({"identifier": {"type": {"text": "CHT Patient ID"}, "value": "83288"}}),
                Identifier::new(system::CHT_SHORTCODE, "83288"),
            ),
            (json!({"identifier": {"value": "83288"}}), Identifier::new("", "83288")),
            (json!({"reference": "Patient?identifier=83288"}), Identifier::new("", "83288")),
            (
                json!({"identifier": {"system": system::CHT_UUID, "value": "x"}}),
                Identifier::new(system::CHT_UUID, "x"),
            ),
            (
                json!({"identifier": {"system": "urn:nupi", "value": "83288"}}),
                Identifier::new("urn:nupi", "83288"),
            ),
        ] {
            let request = of(
                json!({"resourceType": "ServiceRequest", "status": "active", "subject": subject}),
                Door::Fhir,
            );
            assert_eq!(request.expect("a request").subject.identifiers, [expected]);
        }
    }

    #[test]
    fn a_number_is_a_short_code_on_the_drop_in_route_only() {
        let body = json!({"resourceType": "ServiceRequest", "status": "active", "subject": {"reference": "Patient/83288"}});
        assert!(of(body.clone(), Door::Fhir).expect("a request").subject.identifiers.is_empty());
        let request = of(body, Door::DropIn).expect("a request");
        assert_eq!(request.subject.identifiers, [Identifier::new(system::CHT_SHORTCODE, "83288")]);
    }

    #[test]
    fn nobody_is_no_patient() {
        let refused =
            of(json!({"resourceType": "Task", "status": "requested"}), Door::Fhir).err().expect("refused");
        assert_eq!((refused.path.as_str(), refused.code), ("Task.for", "required"));
    }
}
