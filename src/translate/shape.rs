//! What a FHIR body must look like before it is journaled: enough that nothing later is surprised.
//! Profiles are checked elsewhere.
use super::Refusal;
use serde_json::Value;

/// Most problems that are told at once.
const MOST: usize = 50;

/// Types that are taken, besides Bundle.
pub const TYPES: &[&str] = &[
    "Patient",
    "ServiceRequest",
    "Task",
    "Organization",
    "Endpoint",
    "Encounter",
    "Observation",
    "Practitioner",
    "PractitionerRole",
    "Location",
];

pub(super) fn is_taken(kind: &str) -> bool {
    TYPES.contains(&kind)
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Text,
    Flag,
    Object,
    /// A list of objects.
    Objects,
    /// A year, month, day or instant.
    Date,
    /// A Reference.
    Reference,
    /// A list of References.
    References,
}

use Kind::*;

/// Elements that every resource may have.
const COMMON: &[(&str, Kind)] = &[
    ("id", Text),
    ("meta", Object),
    ("text", Object),
    ("contained", Objects),
    ("extension", Objects),
    ("identifier", Objects),
];

fn elements(kind: &str) -> &'static [(&'static str, Kind)] {
    match kind {
        "Patient" => &[
            ("active", Flag),
            ("name", Objects),
            ("telecom", Objects),
            ("gender", Text),
            ("birthDate", Date),
            ("deceasedBoolean", Flag),
            ("deceasedDateTime", Date),
            ("address", Objects),
            ("maritalStatus", Object),
            ("multipleBirthBoolean", Flag),
            ("contact", Objects),
            ("communication", Objects),
            ("generalPractitioner", References),
            ("managingOrganization", Reference),
            ("link", Objects),
        ],
        "ServiceRequest" => &[
            ("status", Text),
            ("intent", Text),
            ("priority", Text),
            ("category", Objects),
            ("code", Object),
            ("subject", Reference),
            ("encounter", Reference),
            ("occurrenceDateTime", Date),
            ("occurrencePeriod", Object),
            ("authoredOn", Date),
            ("requester", Reference),
            ("performer", References),
            ("reasonCode", Objects),
            ("reasonReference", References),
            ("note", Objects),
            ("basedOn", References),
            ("patientInstruction", Text),
        ],
        "Task" => &[
            ("status", Text),
            ("intent", Text),
            ("priority", Text),
            ("code", Object),
            ("description", Text),
            ("focus", Reference),
            ("for", Reference),
            ("encounter", Reference),
            ("executionPeriod", Object),
            ("authoredOn", Date),
            ("lastModified", Date),
            ("requester", Reference),
            ("owner", Reference),
            ("reasonCode", Object),
            ("statusReason", Object),
            ("businessStatus", Object),
            ("note", Objects),
            ("restriction", Object),
            ("input", Objects),
            ("output", Objects),
            ("basedOn", References),
            ("partOf", References),
        ],
        "Encounter" => &[
            ("status", Text),
            ("class", Object),
            ("type", Objects),
            ("subject", Reference),
            ("period", Object),
            ("participant", Objects),
            ("basedOn", References),
            ("reasonCode", Objects),
            ("location", Objects),
            ("serviceProvider", Reference),
            ("partOf", Reference),
        ],
        "Observation" => &[
            ("status", Text),
            ("category", Objects),
            ("code", Object),
            ("subject", Reference),
            ("encounter", Reference),
            ("effectiveDateTime", Date),
            ("effectivePeriod", Object),
            ("issued", Date),
            ("valueQuantity", Object),
            ("valueCodeableConcept", Object),
            ("valueString", Text),
            ("valueBoolean", Flag),
            ("valueDateTime", Date),
            ("performer", References),
            ("note", Objects),
            ("component", Objects),
        ],
        "Organization" => &[
            ("active", Flag),
            ("name", Text),
            ("type", Objects),
            ("telecom", Objects),
            ("address", Objects),
            ("partOf", Reference),
            ("endpoint", References),
        ],
        "Endpoint" => &[
            ("status", Text),
            ("connectionType", Object),
            ("name", Text),
            ("payloadType", Objects),
            ("address", Text),
            ("managingOrganization", Reference),
        ],
        "Location" => &[
            ("status", Text),
            ("name", Text),
            ("type", Objects),
            ("partOf", Reference),
            ("managingOrganization", Reference),
        ],
        "PractitionerRole" => {
            &[("active", Flag), ("practitioner", Reference), ("organization", Reference), ("code", Objects)]
        }
        _ => &[],
    }
}

fn required(kind: &str) -> &'static [&'static str] {
    match kind {
        "ServiceRequest" => &["status", "intent", "subject"],
        "Task" => &["status", "intent"],
        "Encounter" => &["status", "class"],
        "Observation" => &["status", "code"],
        "Endpoint" => &["status", "connectionType", "payloadType", "address"],
        "Bundle" => &["type"],
        _ => &[],
    }
}

/// Required bindings (<https://hl7.org/fhir/R4/terminologies.html#required>).
fn codes(kind: &str, element: &str) -> Option<&'static [&'static str]> {
    Some(match (kind, element) {
        ("ServiceRequest", "status") => {
            &["draft", "active", "on-hold", "revoked", "completed", "entered-in-error", "unknown"]
        }
        ("ServiceRequest", "intent") => &[
            "proposal",
            "plan",
            "directive",
            "order",
            "original-order",
            "reflex-order",
            "filler-order",
            "instance-order",
            "option",
        ],
        ("ServiceRequest" | "Task", "priority") => &["routine", "urgent", "asap", "stat"],
        ("Task", "status") => &[
            "draft",
            "requested",
            "received",
            "accepted",
            "rejected",
            "ready",
            "cancelled",
            "in-progress",
            "on-hold",
            "failed",
            "completed",
            "entered-in-error",
        ],
        ("Task", "intent") => &[
            "unknown",
            "proposal",
            "plan",
            "order",
            "original-order",
            "reflex-order",
            "filler-order",
            "instance-order",
            "option",
        ],
        ("Encounter", "status") => &[
            "planned",
            "arrived",
            "triaged",
            "in-progress",
            "onleave",
            "finished",
            "cancelled",
            "entered-in-error",
            "unknown",
        ],
        ("Observation", "status") => &[
            "registered",
            "preliminary",
            "final",
            "amended",
            "corrected",
            "cancelled",
            "entered-in-error",
            "unknown",
        ],
        ("Patient", "gender") => &["male", "female", "other", "unknown"],
        ("Endpoint", "status") => &["active", "suspended", "error", "off", "entered-in-error", "test"],
        ("Location", "status") => &["active", "suspended", "inactive"],
        ("Bundle", "type") => &["transaction", "batch", "message", "collection"],
        _ => return None,
    })
}

/// Every problem of a FHIR body that is to be taken as `kind`, each with the element it is about.
pub fn check_fhir(kind: Option<&str>, body: &Value) -> Vec<Refusal> {
    let mut found = Vec::new();
    match body["resourceType"].as_str() {
        None => found.push(problem("resourceType", "structure", "expected the name of a resource type")),
        Some(own) if kind.is_some_and(|kind| kind != own) => {
            let message = format!("expected {}, as the address says", kind.unwrap_or_default());
            found.push(problem(&format!("{}.resourceType", plain(own)), "invalid", &message));
        }
        Some("Bundle") => bundle(body, &mut found),
        Some(own) => resource(own, body, own, &mut found),
    }
    found.truncate(MOST);
    found
}

fn problem(path: &str, code: &'static str, message: &str) -> Refusal {
    Refusal { path: path.into(), code, message: message.into() }
}

/// A type's name as it came, if it could be one.
fn plain(kind: &str) -> &str {
    if kind.len() <= 40 && kind.bytes().all(|b| b.is_ascii_alphabetic()) { kind } else { "Resource" }
}

fn bundle(body: &Value, found: &mut Vec<Refusal>) {
    fields("Bundle", body, "Bundle", found);
    let kind = body["type"].as_str().unwrap_or_default();
    let entries = match &body["entry"] {
        Value::Array(entries) => entries.as_slice(),
        Value::Null => &[],
        _ => return found.push(problem("Bundle.entry", "structure", "expected a list of entries")),
    };
    for (i, entry) in entries.iter().enumerate() {
        let at = format!("Bundle.entry[{i}]");
        if !entry.is_object() {
            found.push(problem(&at, "structure", "expected an object"));
            continue;
        }
        // A batch's entries are answered one by one.
        if kind != "batch" {
            if kind == "transaction" {
                request(entry, &at, found);
                address(entry, &at, found);
            }
            member(entry, kind, &at, found);
        }
        if found.len() >= MOST {
            return;
        }
    }
}

fn member(entry: &Value, kind: &str, at: &str, found: &mut Vec<Refusal>) {
    let path = format!("{at}.resource");
    match entry["resource"]["resourceType"].as_str() {
        None => found.push(problem(&path, "required", "expected a resource with its resourceType")),
        Some(own) if is_taken(own) => resource(own, &entry["resource"], &path, found),
        Some(own) if kind == "transaction" => {
            let message = format!("{} is not taken; these are: {}", plain(own), TYPES.join(", "));
            found.push(problem(&path, "not-supported", &message));
        }
        Some(_) => {}
    }
}

fn request(entry: &Value, at: &str, found: &mut Vec<Refusal>) {
    match entry["request"]["method"].as_str() {
        Some("POST" | "PUT") => {}
        Some(_) => found.push(problem(
            &format!("{at}.request.method"),
            "not-supported",
            "only POST and PUT are taken",
        )),
        None => found.push(problem(
            &format!("{at}.request.method"),
            "required",
            "a transaction's entry says POST or PUT",
        )),
    }
    if entry["request"]["url"].as_str().is_none() {
        found.push(problem(
            &format!("{at}.request.url"),
            "required",
            "a transaction's entry says where it goes",
        ));
    }
}

/// Whether an entry's address is one of this type: `Patient`, `Patient/1`, `Patient?identifier=...`,
/// or a whole URL of such.
pub fn is_url_of(url: &str, kind: &str) -> bool {
    url.split('?').next().unwrap_or_default().split('/').any(|part| part == kind)
}

fn address(entry: &Value, at: &str, found: &mut Vec<Refusal>) {
    let (Some(kind), Some(url)) =
        (entry["resource"]["resourceType"].as_str(), entry["request"]["url"].as_str())
    else {
        return;
    };
    if is_taken(kind) && !is_url_of(url, kind) {
        found.push(problem(&format!("{at}.request.url"), "value", &format!("a {kind} goes to {kind}")));
    }
}

fn resource(kind: &str, body: &Value, path: &str, found: &mut Vec<Refusal>) {
    if !is_taken(kind) {
        let message = format!("{} is not taken; these are: {}", plain(kind), TYPES.join(", "));
        return found.push(problem(&format!("{}.resourceType", plain(kind)), "not-supported", &message));
    }
    // CHT builds Practitioners in its own way, and they are made valid.
    if kind != "Practitioner" {
        empties(body, path, found);
    }
    fields(kind, body, path, found);
    for (i, inner) in body["contained"].as_array().into_iter().flatten().enumerate() {
        if let Some(own) = inner["resourceType"].as_str().filter(|own| is_taken(own)) {
            types(own, inner, &format!("{path}.contained[{i}]"), found);
        }
    }
}

fn fields(kind: &str, body: &Value, path: &str, found: &mut Vec<Refusal>) {
    for element in required(kind).iter().filter(|element| body[**element].is_null()) {
        found.push(problem(&format!("{path}.{element}"), "required", "this element is required"));
    }
    types(kind, body, path, found);
}

fn types(kind: &str, body: &Value, path: &str, found: &mut Vec<Refusal>) {
    let common = if kind == "Practitioner" || kind == "Bundle" { &[] } else { COMMON };
    for (element, wanted) in common.iter().chain(elements(kind)) {
        let value = &body[*element];
        if !value.is_null()
            && let Some((code, message)) = unlike(value, *wanted)
        {
            found.push(problem(&format!("{path}.{element}"), code, message));
        }
    }
    for (element, value) in body.as_object().into_iter().flatten() {
        if let (Some(codes), Some(code)) = (codes(kind, element), value.as_str())
            && !codes.contains(&code)
        {
            found.push(problem(
                &format!("{path}.{element}"),
                "code-invalid",
                &format!("expected one of {}", codes.join(", ")),
            ));
        }
    }
    let id = body["id"].as_str();
    if id.is_some_and(|id| {
        id.is_empty() || id.len() > 64 || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b))
    }) {
        found.push(problem(&format!("{path}.id"), "value", "an id has 1 to 64 letters, digits, - and ."));
    }
    identifiers(&body["identifier"], path, found);
}

fn identifiers(value: &Value, path: &str, found: &mut Vec<Refusal>) {
    for (i, identifier) in value.as_array().into_iter().flatten().enumerate() {
        for key in ["system", "value"] {
            if !(identifier[key].is_null() || identifier[key].is_string()) {
                found.push(problem(&format!("{path}.identifier[{i}].{key}"), "structure", "expected a text"));
            }
        }
    }
}

/// Why a value is not of the kind that is wanted.
fn unlike(value: &Value, wanted: Kind) -> Option<(&'static str, &'static str)> {
    let is_reference = |v: &Value| {
        v.is_object()
            && (v["reference"].is_null() || v["reference"].is_string())
            && (v["identifier"].is_null() || v["identifier"].is_object())
    };
    let objects = |check: &dyn Fn(&Value) -> bool| value.as_array().is_some_and(|all| all.iter().all(check));
    let (right, expected) = match wanted {
        Text => (value.is_string(), "expected a text"),
        Flag => (value.is_boolean(), "expected true or false"),
        Object => (value.is_object(), "expected an object"),
        Objects => (objects(&Value::is_object), "expected a list of objects"),
        Reference => (
            is_reference(value),
            "expected a Reference: {\"reference\": \"Type/id\"} or {\"identifier\": {...}}",
        ),
        References => (objects(&is_reference), "expected a list of References"),
        Date if !value.is_string() => (false, "expected a date as text"),
        Date => {
            let right = value.as_str().is_some_and(is_date);
            return (!right)
                .then_some(("value", "expected a date of the calendar, or an instant with its time zone"));
        }
    };
    (!right).then_some(("structure", expected))
}

/// <https://hl7.org/fhir/R4/datatypes.html#dateTime>
fn is_date(text: &str) -> bool {
    let digits = |part: &str, length| part.len() == length && part.bytes().all(|b| b.is_ascii_digit());
    match text.len() {
        4 => digits(text, 4),
        7 => text
            .split_once('-')
            .is_some_and(|(y, m)| digits(y, 4) && digits(m, 2) && ("01"..="12").contains(&m)),
        10 => text.parse::<jiff::civil::Date>().is_ok(),
        _ => text.contains('T') && text.parse::<jiff::Timestamp>().is_ok(),
    }
}

/// FHIR has no nulls but among primitive values, and nothing empty.
fn empties(value: &Value, path: &str, found: &mut Vec<Refusal>) {
    if found.len() >= MOST {
        return;
    }
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                let at = format!("{path}.{key}");
                match field {
                    Value::Null => {
                        found.push(problem(&at, "structure", "null is no value; leave the element out"))
                    }
                    Value::Array(items) if items.is_empty() => {
                        found.push(problem(&at, "structure", "an empty list; leave the element out"))
                    }
                    Value::Object(inner) if inner.is_empty() => {
                        found.push(problem(&at, "structure", "an empty object; leave the element out"))
                    }
                    inner => empties(inner, &at, found),
                }
            }
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, item)| empties(item, &format!("{path}[{i}]"), found))
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn paths(body: Value) -> Vec<String> {
        check_fhir(None, &body).into_iter().map(|p| format!("{} {}", p.code, p.path)).collect()
    }

    #[test]
    fn each_problem_names_its_element() {
        for (body, expected) in [
            (
                json!({"resourceType": "ServiceRequest", "status": "active", "intent": "order"}),
                vec!["required ServiceRequest.subject"],
            ),
            (
                json!({"resourceType": "Patient", "name": "Achieng", "gender": "femal"}),
                vec!["structure Patient.name", "code-invalid Patient.gender"],
            ),
            (json!({"resourceType": "Patient", "birthDate": "2026-02-30"}), vec!["value Patient.birthDate"]),
            (json!({"resourceType": "Patient", "name": null}), vec!["structure Patient.name"]),
            (json!({"resourceType": "Patient", "name": []}), vec!["structure Patient.name"]),
            (json!({"resourceType": 5}), vec!["structure resourceType"]),
            (json!({"resourceType": "Medication"}), vec!["not-supported Medication.resourceType"]),
            (
                json!({"resourceType": "Task", "status": "requested", "intent": "order", "for": "Patient/1"}),
                vec!["structure Task.for"],
            ),
            (
                json!({"resourceType": "Bundle", "type": "transaction", "entry": [{"resource": {"resourceType": "Patient", "id": "a b"},
                "request": {"method": "DELETE", "url": "Patient/1"}}]}),
                vec!["not-supported Bundle.entry[0].request.method", "value Bundle.entry[0].resource.id"],
            ),
            (json!({"resourceType": "Bundle", "type": "searchset"}), vec!["code-invalid Bundle.type"]),
        ] {
            assert_eq!(paths(body.clone()), expected, "{body}");
        }
    }

    #[test]
    fn partial_dates_and_nulls_among_primitives_are_right() {
        let patient = json!({"resourceType": "Patient", "birthDate": "1992-03", "name": [{"given": [null, "A"], "_given": [{"id": "x"}, null]}]});
        assert_eq!(paths(patient), Vec::<String>::new());
    }
}
