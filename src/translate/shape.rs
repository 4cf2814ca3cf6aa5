//! What a FHIR body must look like before it is journaled: what we take, and what R4 and the profiles say.
use super::Refusal;
use super::conformance::in_force;
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
    "RelatedPerson",
    "QuestionnaireResponse",
    "Communication",
    "DiagnosticReport",
    "MedicationRequest",
    "Appointment",
];

/// Profiles that what comes in must fulfil, by type (`server.profiles`).
pub type Profiles = std::collections::BTreeMap<String, String>;

pub(super) fn is_taken(kind: &str) -> bool {
    TYPES.contains(&kind)
}

/// Every problem of a FHIR body that is to be taken as `kind`, each with the element it is about.
pub fn check_fhir(kind: Option<&str>, body: &Value, profiles: &Profiles) -> Vec<Refusal> {
    let mut found = check_taken(kind, body);
    add_problems(&mut found, check_valid(body, profiles));
    found
}

/// One problem an element, and as many as a person reads.
pub fn add_problems(found: &mut Vec<Refusal>, more: Vec<Refusal>) {
    for problem in more {
        if found.len() < MOST && !found.iter().any(|known| known.path == problem.path) {
            found.push(problem);
        }
    }
}

/// What cannot be taken, whether it is valid or not.
pub fn check_taken(kind: Option<&str>, body: &Value) -> Vec<Refusal> {
    let mut found = Vec::new();
    match body["resourceType"].as_str() {
        None => found.push(problem("resourceType", "structure", "expected the name of a resource type")),
        Some(own) if kind.is_some_and(|kind| kind != own) => {
            let message = format!("expected {}, as the address says", kind.unwrap_or_default());
            found.push(problem(&format!("{}.resourceType", plain(own)), "invalid", &message));
        }
        Some("Bundle") => bundle(body, &mut found),
        Some(own) if !is_taken(own) => {
            let message = format!("{} is not taken; these are: {}", plain(own), TYPES.join(", "));
            found.push(problem(&format!("{}.resourceType", plain(own)), "not-supported", &message));
        }
        Some(own) => usable(body, own, own, &mut found),
    }
    found.truncate(MOST);
    found
}

/// What R4 and profiles say of it: those that it claims, and those that are asked for.
pub fn check_valid(body: &Value, profiles: &Profiles) -> Vec<Refusal> {
    // CHT builds Practitioners in its own way, and they are made valid.
    if !body["resourceType"].as_str().is_some_and(|kind| kind == "Bundle" || is_taken(kind))
        || body["resourceType"] == "Practitioner"
    {
        return Vec::new();
    }
    // A batch's entries are answered one by one.
    if body["resourceType"] == "Bundle" && body["type"] == "batch" {
        return Vec::new();
    }
    let issues = in_force().definitions.validate_by(body, None, profiles);
    let is_ours = |issue: &fhir_validate::Issue| {
        // What is not taken is not judged either.
        let Some(rest) = issue.expression.strip_prefix("Bundle.entry[") else {
            // EMRs send messages without a MessageHeader, and nothing here needs one.
            return !issue.message.ends_with("(bdl-12)");
        };
        let entry = rest.split(']').next().and_then(|i| i.parse::<usize>().ok()).map(|i| &body["entry"][i]);
        entry.is_some_and(|e| e["resource"]["resourceType"].as_str().is_none_or(is_taken))
    };
    issues
        .into_iter()
        .filter(|issue| is_ours(issue))
        .map(|issue| Refusal { path: issue.expression, code: issue.code, message: issue.message })
        .collect()
}

/// Those of `profiles` that cannot be asked for, and why.
pub fn unknown_profiles(profiles: &Profiles) -> Vec<(&str, String)> {
    let in_force = in_force();
    let wrong = |(kind, url): (&'_ String, &'_ String)| match in_force.definitions.type_of(url) {
        Some(of) if of == kind => None,
        Some(of) => Some(format!("this profile is of {of}")),
        None => Some("no such profile is in fhir-profiles".into()),
    };
    profiles.iter().filter_map(|(kind, url)| Some((kind.as_str(), wrong((kind, url))?))).collect()
}

/// What the corridor itself cannot work with.
fn usable(body: &Value, kind: &str, path: &str, found: &mut Vec<Refusal>) {
    let codes: &[&str] = match kind {
        "Bundle" => &["transaction", "batch", "message", "collection"],
        _ => return,
    };
    if let Some(code) = body["type"].as_str()
        && !codes.contains(&code)
    {
        let message = format!("expected one of {}", codes.join(", "));
        found.push(problem(&format!("{path}.type"), "code-invalid", &message));
    }
}

fn problem(path: &str, code: &'static str, message: &str) -> Refusal {
    Refusal { path: path.into(), code, message: message.into() }
}

/// A type's name as it came, if it could be one.
pub fn plain(kind: &str) -> &str {
    if kind.len() <= 40 && kind.bytes().all(|b| b.is_ascii_alphabetic()) { kind } else { "Resource" }
}

fn bundle(body: &Value, found: &mut Vec<Refusal>) {
    usable(body, "Bundle", "Bundle", found);
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
        Some(own) if !is_taken(own) && kind == "transaction" => {
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn paths(body: Value) -> Vec<String> {
        check_fhir(None, &body, &Profiles::new())
            .into_iter()
            .map(|p| format!("{} {}", p.code, p.path))
            .collect()
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
                vec!["code-invalid Patient.gender", "structure Patient.name"],
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
    fn what_is_not_taken_is_not_judged_and_a_batch_is_judged_entry_by_entry() {
        let patient = json!({"resourceType": "Patient", "gender": "female"});
        for body in [
            json!({"resourceType": "Bundle", "type": "message", "entry": [{"resource": patient}]}),
            json!({"resourceType": "Bundle", "type": "collection", "entry": [{"resource": {"resourceType": "Condition"}}, {"resource": patient}]}),
            json!({"resourceType": "Bundle", "type": "batch", "entry": [{"resource": {"resourceType": "Patient", "gender": 1}}]}),
        ] {
            assert_eq!(paths(body.clone()), Vec::<String>::new(), "{body}");
        }
    }

    #[test]
    fn partial_dates_and_nulls_among_primitives_are_right() {
        let patient = json!({"resourceType": "Patient", "birthDate": "1992-03", "name": [{"given": [null, "A"], "_given": [{"extension": [{"url": "urn:x", "valueString": "x"}]}, null]}]});
        assert_eq!(paths(patient), Vec::<String>::new());
    }
}
