//! From the entries that are wanted and what the server has, the requests to make. Pure.
use crate::domain::fhir::{CANONICAL, Entry, Target, Write, identifiers, query_value};
use crate::domain::identifier::Identifier;
use crate::flow::ports::{FailureKind, ServerIds};
use crate::systems::client::Answer;
use reqwest::header::LOCATION;
use serde_json::{Map, Value, json};

pub(super) enum Planned {
    /// It is there already: its reference.
    Nothing(String),
    /// Reference and content.
    Update(String, Value),
    Create(Value),
}

pub(super) fn planned(entry: Entry, existing: Option<&Value>) -> Planned {
    let kind = entry.resource_type();
    let there = existing.and_then(|e| e["id"].as_str()).map(|id| format!("{kind}/{id}"));
    match (there, entry.write, entry.target) {
        (Some(reference), Write::CreateIfMissing, _) => Planned::Nothing(reference),
        (Some(reference), write, _) => {
            let body = match (write, existing) {
                (Write::Merge { keep }, Some(theirs)) => merge(&entry.resource, theirs, &keep),
                (Write::Whole { keep }, Some(theirs)) => {
                    merge(&entry.resource, &taken_back(theirs, &entry.resource), &keep)
                }
                _ => entry.resource,
            };
            if existing.is_some_and(|theirs| is_same(theirs, &body)) {
                return Planned::Nothing(reference);
            }
            let body = with_id(body, &reference);
            Planned::Update(reference, body)
        }
        (None, _, Target::Id(reference)) => {
            let body = with_id(entry.resource, &reference);
            Planned::Update(reference, body)
        }
        (None, _, _) => Planned::Create(entry.resource),
    }
}

/// Of a resource as a server has it.
pub(super) fn version(theirs: &Value) -> Option<&str> {
    theirs["meta"]["versionId"].as_str()
}

fn with_id(mut body: Value, reference: &str) -> Value {
    body["id"] = json!(reference.rsplit('/').next().unwrap_or_default());
    body
}

/// Nothing to write: what is there says it all already. References between our entries have no
/// server's id yet, so a resource that has any is written.
fn is_same(theirs: &Value, body: &Value) -> bool {
    let content = |value: &Value| {
        let mut fields = value.as_object().cloned().unwrap_or_default();
        ["id", "meta", "text"].iter().for_each(|key| {
            fields.remove(*key);
        });
        fields
    };
    content(theirs) == content(body)
}

/// Ours over theirs: elements that we don't set stay, identifiers are united, and of `keep` theirs stay.
pub(super) fn merge(ours: &Value, theirs: &Value, keep: &[String]) -> Value {
    let mut merged: Map<String, Value> = theirs.as_object().cloned().unwrap_or_default();
    for (key, value) in ours.as_object().into_iter().flatten() {
        if keep.contains(key) && merged.contains_key(key) {
            continue;
        }
        let value = match key.as_str() {
            "identifier" if value.is_array() => {
                united(value, &merged.get("identifier").cloned().unwrap_or_default())
            }
            "extension" if value.is_array() => with_theirs(value, merged.get("extension")),
            "telecom" | "address" | "name" if value.is_array() => beside_theirs(value, merged.get(key)),
            _ => value.clone(),
        };
        // What we once said of the value does not hold of another.
        let companion = format!("_{key}");
        if ours.get(&companion).is_none() && merged.get(&companion).is_some_and(is_marked) {
            merged.remove(&companion);
        }
        merged.insert(key.clone(), value);
    }
    // Only one of a choice: ours decides.
    for choice in ["deceased", "value", "effective", "occurrence"] {
        let mine = ours.as_object().into_iter().flatten().any(|(key, _)| key.starts_with(choice));
        if mine {
            merged.retain(|key, _| !key.starts_with(choice) || ours.get(key).is_some());
        }
    }
    // The server tells them itself.
    merged.remove("meta");
    merged.remove("text");
    Value::Object(merged)
}

/// Theirs without what we once wrote and no longer say: our own extensions, and elements that one of them
/// marks as ours (a date of death that CHT has undone).
fn taken_back(theirs: &Value, ours: &Value) -> Value {
    let mut theirs = theirs.as_object().cloned().unwrap_or_default();
    let foreign = |extension: &&Value| !is_ours(extension);
    let kept: Vec<Value> = theirs
        .get("extension")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(foreign)
        .cloned()
        .collect();
    match kept.is_empty() {
        false => theirs.insert("extension".into(), kept.into()),
        true => theirs.remove("extension"),
    };
    let marked: Vec<String> = theirs
        .iter()
        .filter(|(_, companion)| is_marked(companion))
        .filter_map(|(key, _)| key.strip_prefix('_').map(String::from))
        .collect();
    for gone in marked.into_iter().flat_map(|element| [format!("_{element}"), element]) {
        if ours.get(gone.as_str()).is_none() {
            theirs.remove(&gone);
        }
    }
    Value::Object(theirs)
}

fn is_marked(element: &Value) -> bool {
    element["extension"].as_array().is_some_and(|all| all.iter().any(is_ours))
}

fn is_ours(extension: &Value) -> bool {
    extension["url"].as_str().is_some_and(|url| url.starts_with(CANONICAL))
}

/// Our extensions, and theirs of which we say nothing now.
fn with_theirs(ours: &Value, theirs: Option<&Value>) -> Value {
    let ours = ours.as_array().map(Vec::as_slice).unwrap_or_default();
    let said = |extension: &&Value| ours.iter().any(|own| own["url"] == extension["url"]);
    let theirs = theirs.and_then(Value::as_array).into_iter().flatten().filter(|other| !said(other));
    ours.iter().chain(theirs).cloned().collect()
}

/// Our names, phones and addresses, and those that a clinic has of another use, or that it added itself:
/// what we wrote before is recognised by its use or by our extension.
fn beside_theirs(ours: &Value, theirs: Option<&Value>) -> Value {
    let ours = ours.as_array().map(Vec::as_slice).unwrap_or_default();
    let is_theirs = |other: &&Value| {
        let marked = is_marked(other);
        let same = ours.iter().any(|own| own["value"].is_string() && own["value"] == other["value"]);
        let of_use = !other["use"].is_null() && ours.iter().all(|own| own["use"] != other["use"]);
        !marked && !same && (of_use || (other["system"].is_string() && other["use"].is_null()))
    };
    let theirs = theirs.and_then(Value::as_array).into_iter().flatten().filter(is_theirs);
    ours.iter().chain(theirs).cloned().collect()
}

fn united(ours: &Value, theirs: &Value) -> Value {
    let mut all = ours.as_array().cloned().unwrap_or_default();
    for identifier in theirs.as_array().into_iter().flatten() {
        if !all.iter().any(|i| i["system"] == identifier["system"] && i["value"] == identifier["value"]) {
            all.push(identifier.clone());
        }
    }
    Value::Array(all)
}

pub(super) fn first_identifier(resource: &Value) -> Option<Identifier> {
    let first = identifiers(resource).first()?;
    Some(Identifier::new(first["system"].as_str()?, first["value"].as_str()?))
}

/// Whether a server's resource is the one that was asked for by this identifier. Some call a system by
/// another name than the one they are asked by, as OpenMRS does, and some leave it out.
pub(super) fn goes_by(resource: &Value, identifier: &Identifier) -> bool {
    identifiers(resource).iter().any(|i| {
        let is_system = i["system"].as_str().is_none_or(|system| system == identifier.system)
            || i["type"]["text"].as_str() == Some(&identifier.system)
            || identifier.system.is_empty();
        is_system && i["value"].as_str().is_some_and(|value| value.eq_ignore_ascii_case(&identifier.value))
    })
}

/// A conditional update does it: nothing has to be known of what is there.
pub(super) fn is_replaced(entry: &Entry) -> bool {
    matches!((&entry.write, &entry.target), (Write::Replace, Target::Identifier(_)))
}

/// One transaction Bundle, and the references of what is there already.
pub(super) fn transaction(entries: Vec<Entry>, existing: Vec<Option<Value>>) -> (Value, ServerIds) {
    let mut known = ServerIds::new();
    let mut all = Vec::with_capacity(entries.len());
    for (entry, existing) in entries.into_iter().zip(existing) {
        let (full_url, creation) = (entry.full_url.clone(), creation(&entry));
        let (resource, request) = match planned(entry, existing.as_ref()) {
            Planned::Nothing(reference) => {
                known.insert(full_url, reference);
                continue;
            }
            Planned::Update(reference, body) => {
                let mut request = json!({"method": "PUT", "url": reference});
                if let Some(version) = existing.as_ref().and_then(version) {
                    request["ifMatch"] = json!(format!("W/\"{version}\""));
                }
                known.insert(full_url.clone(), reference);
                (body, request)
            }
            Planned::Create(body) => (body, creation),
        };
        // `json!` would copy the resource.
        let mut one = json!({"fullUrl": full_url, "request": request});
        one["resource"] = resource;
        all.push(one);
    }
    if !known.is_empty() {
        all.iter_mut().for_each(|entry| refer(&mut entry["resource"], &known));
    }
    let mut bundle = json!({"resourceType": "Bundle", "type": "transaction"});
    bundle["entry"] = Value::Array(all);
    (bundle, known)
}

fn creation(entry: &Entry) -> Value {
    let kind = entry.resource_type();
    let Target::Identifier(identifier) = &entry.target else { return json!({"method": "POST", "url": kind}) };
    let query = format!("identifier={}", query_value(&identifier.token()));
    match is_replaced(entry) {
        true => json!({"method": "PUT", "url": format!("{kind}?{query}")}),
        false => json!({"method": "POST", "url": kind, "ifNoneExist": query}),
    }
}

/// References to entries become references to what the server has.
pub(super) fn refer(value: &mut Value, ids: &ServerIds) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| refer(item, ids)),
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get_mut("reference")
                && let Some(known) = ids.get(reference)
            {
                *reference = known.clone();
            }
            fields.values_mut().for_each(|field| refer(field, ids));
        }
        _ => {}
    }
}

/// Each behind those that it refers to; of those that refer to each other the first stays first.
pub(super) fn referred_first(mut left: Vec<Entry>) -> Vec<Entry> {
    let mut ordered = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let waits = |entry: &Entry| {
            let others = left.iter().filter(|other| other.full_url != entry.full_url);
            others.into_iter().any(|other| refers_to(&entry.resource, &other.full_url))
        };
        let next = left.iter().position(|entry| !waits(entry)).unwrap_or_default();
        ordered.push(left.remove(next));
    }
    ordered
}

fn refers_to(value: &Value, full_url: &str) -> bool {
    match value {
        Value::Array(items) => items.iter().any(|item| refers_to(item, full_url)),
        Value::Object(fields) => {
            fields.get("reference").is_some_and(|reference| reference == full_url)
                || fields.values().any(|field| refers_to(field, full_url))
        }
        _ => false,
    }
}

/// Issue types that pass by themselves (<https://hl7.org/fhir/R4/valueset-issue-type.html>, transient).
const PASSING: &[&str] =
    &["transient", "lock-error", "no-store", "exception", "timeout", "incomplete", "throttled"];

/// The error that an OperationOutcome tells, whatever the status it came with.
pub(super) fn error_in(answer: &Value) -> Option<FailureKind> {
    let issues = answer["issue"].as_array().filter(|_| answer["resourceType"] == "OperationOutcome")?;
    let error = issues.iter().find(|issue| issue["severity"] == "error" || issue["severity"] == "fatal")?;
    match PASSING.iter().any(|code| error["code"] == *code) {
        true => Some(FailureKind::Transient(None)),
        false => Some(FailureKind::Permanent),
    }
}

/// Whether the answer tells of each entry of the transaction that it was carried out.
pub(super) fn accounted_for(bundle: &Value, answer: &Value) -> Result<(), (FailureKind, String)> {
    let count = |bundle: &Value| bundle["entry"].as_array().map_or(0, Vec::len);
    if answer["resourceType"] != "Bundle" || count(answer) != count(bundle) {
        let what = format!("without a Bundle of {} answers", count(bundle));
        return Err((FailureKind::Transient(None), what));
    }
    let statuses = answer["entry"].as_array().into_iter().flatten().map(|e| e["response"]["status"].as_str());
    match statuses.flatten().find(|status| !status.starts_with('2') && !status.starts_with("304")) {
        Some(refused) if refused.starts_with('5') => {
            Err((FailureKind::Transient(None), "but refused an entry with 5xx".into()))
        }
        Some(_) => Err((FailureKind::Permanent, "but refused an entry".into())),
        None => Ok(()),
    }
}

/// What a transaction's answer says of each entry's id.
pub(super) fn ids_of(bundle: &Value, answer: &Value) -> ServerIds {
    let asked = bundle["entry"].as_array().into_iter().flatten();
    let told = answer["entry"].as_array().into_iter().flatten();
    asked
        .zip(told)
        .filter_map(|(asked, told)| {
            let reference = reference_in(
                told["response"]["location"].as_str()?,
                asked["resource"]["resourceType"].as_str()?,
            )?;
            Some((asked["fullUrl"].as_str()?.to_string(), reference))
        })
        .collect()
}

/// `Type/id` from a location such as `http://host/fhir/Patient/12/_history/1`.
fn reference_in(location: &str, kind: &str) -> Option<String> {
    let mut parts = location.split('/').skip_while(|part| *part != kind);
    let id = parts.nth(1).filter(|id| is_id(id))?;
    Some(format!("{kind}/{id}"))
}

/// Nothing that would lead to another place than `Type/id`.
fn is_id(id: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    !id.is_empty() && id != "." && id != ".." && id.bytes().all(plain)
}

pub(super) fn reference_of(kind: &str, path: &str, answer: &Answer) -> Option<String> {
    let location =
        answer.headers.get(LOCATION).and_then(|l| l.to_str().ok()).and_then(|l| reference_in(l, kind));
    let body = || answer.json().and_then(|json| Some(format!("{kind}/{}", json["id"].as_str()?)));
    location.or_else(body).or_else(|| path.contains('/').then(|| path.to_string()))
}

/// The next page of a search, if it is on the same server: a link elsewhere is not followed.
pub(super) fn next_page(page: &Value, base: &str) -> Option<String> {
    let links = page["link"].as_array()?;
    let next = links.iter().find(|link| link["relation"] == "next")?["url"].as_str()?;
    if let Some(rest) = next.strip_prefix(base) {
        return Some(rest.trim_start_matches('/').to_string());
    }
    let (base, next) = (url::Url::parse(base).ok()?, url::Url::parse(next).ok()?);
    // Servers behind a proxy name themselves by another host: the path is what counts.
    let rest = next.path().strip_prefix(base.path())?.trim_start_matches('/').to_string();
    Some(format!("{rest}?{}", next.query().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identifier::Identifier;

    fn entry(write: Write) -> Entry {
        Entry {
            full_url: "urn:uuid:p".into(),
            target: Target::Identifier(Identifier::new("s", "1")),
            write,
            resource: json!({"resourceType": "Patient", "gender": "female", "identifier": [{"system": "s", "value": "1"}]}),
        }
    }

    #[test]
    fn what_was_found_is_what_was_asked_for() {
        let asked = Identifier::new("urn:mrn", "A7");
        for (identifier, expected) in [
            (json!([{"system": "urn:mrn", "value": "a7"}]), true),
            (json!([{"value": "A7"}]), true),
            (json!([{"system": "urn:x", "type": {"text": "urn:mrn"}, "value": "A7"}]), true),
            (json!([{"system": "urn:other", "value": "A7"}]), false),
            (json!([{"system": "urn:mrn", "value": "A8"}]), false),
            (json!(null), false),
        ] {
            assert_eq!(goes_by(&json!({"identifier": identifier}), &asked), expected, "{identifier}");
        }
    }

    #[test]
    fn a_merge_keeps_what_others_wrote() {
        let theirs = json!({"resourceType": "Patient", "id": "7", "meta": {"versionId": "3"}, "gender": "unknown",
            "identifier": [{"system": "mrn", "value": "9"}], "maritalStatus": {"text": "m"}});
        let merged = merge(&entry(Write::Replace).resource, &theirs, &[]);
        assert_eq!(merged["identifier"].as_array().map(Vec::len), Some(2));
        assert_eq!(merged["gender"], "female");
        assert_eq!(merged["maritalStatus"]["text"], "m");
        assert_eq!(merge(&entry(Write::Replace).resource, &theirs, &["gender".into()])["gender"], "unknown");
    }

    #[test]
    fn what_we_no_longer_say_is_taken_back_and_what_others_say_stays() {
        let own =
            |id: &str| json!({"url": format!("{CANONICAL}StructureDefinition/{id}"), "valueBoolean": true});
        let foreign = json!({"url": "urn:x", "valueString": "y"});
        let theirs = json!({"resourceType": "Patient", "extension": [own("muted"), foreign],
            "deceasedDateTime": "2026-11-02", "_deceasedDateTime": {"extension": [own("recorded-in-cht")]},
            "birthDate": "1990", "_birthDate": {"extension": [own("birth-date-estimated")]}});
        let ours = json!({"resourceType": "Patient", "birthDate": "1990-05-05"});
        assert_eq!(
            merge(&ours, &taken_back(&theirs, &ours), &[]),
            json!({"resourceType": "Patient", "extension": [foreign], "birthDate": "1990-05-05"})
        );
        let kept = merge(&ours, &theirs, &[]);
        assert_eq!(kept["deceasedDateTime"], "2026-11-02", "who says only some of it takes nothing back");
        assert!(kept.get("_birthDate").is_none(), "an exact date is no estimate");
        let theirs = json!({"resourceType": "Patient", "deceasedDateTime": "2026-11-02"});
        assert_eq!(merge(&ours, &theirs, &[])["deceasedDateTime"], "2026-11-02", "recorded by a clinic");
    }

    #[test]
    fn what_is_there_is_updated_under_its_version_and_referred_to_by_its_id() {
        let theirs = json!({"resourceType": "Patient", "id": "7", "meta": {"versionId": "3"}});
        let mut visit = entry(Write::Replace);
        visit.full_url = "urn:uuid:e".into();
        visit.resource = json!({"resourceType": "Encounter", "subject": {"reference": "urn:uuid:p"}});
        let (bundle, ids) =
            transaction(vec![entry(Write::Merge { keep: vec![] }), visit], vec![Some(theirs), None]);
        assert_eq!(bundle["entry"][0]["request"]["url"], "Patient/7");
        assert_eq!(bundle["entry"][0]["request"]["ifMatch"], "W/\"3\"");
        assert_eq!(bundle["entry"][1]["resource"]["subject"]["reference"], "Patient/7");
        assert_eq!(bundle["entry"][1]["request"]["url"], "Encounter?identifier=s%7C1");
        assert_eq!(ids["urn:uuid:p"], "Patient/7");
    }

    #[test]
    fn what_says_it_already_is_not_written_again() {
        let mut theirs = entry(Write::Replace).resource;
        theirs["id"] = json!("7");
        theirs["meta"] = json!({"versionId": "3"});
        let (bundle, ids) = transaction(vec![entry(Write::Merge { keep: vec![] })], vec![Some(theirs)]);
        assert_eq!(bundle["entry"], json!([]));
        assert_eq!(ids["urn:uuid:p"], "Patient/7");
    }

    #[test]
    fn what_is_sent_singly_comes_behind_what_it_refers_to() {
        let named = |full_url: &str, refers: &str| Entry {
            full_url: full_url.into(),
            resource: json!({"resourceType": "Encounter", "basedOn": [{"reference": refers}]}),
            ..entry(Write::Replace)
        };
        let order = |entries: &[Entry]| -> Vec<String> {
            referred_first(entries.to_vec()).into_iter().map(|entry| entry.full_url).collect()
        };
        assert_eq!(
            order(&[named("visit", "request"), named("request", "person"), named("person", "")]),
            ["person", "request", "visit"]
        );
        assert_eq!(order(&[named("a", "b"), named("b", "a"), named("c", "a")]), ["a", "b", "c"]);
    }

    #[test]
    fn ids_are_read_from_locations() {
        let bundle = json!({"entry": [{"fullUrl": "urn:uuid:p", "resource": {"resourceType": "Patient"}}]});
        let answer = json!({"entry": [{"response": {"location": "http://h/fhir/Patient/12/_history/1"}}]});
        assert_eq!(ids_of(&bundle, &answer)["urn:uuid:p"], "Patient/12");
    }

    #[test]
    fn pages_elsewhere_are_not_followed() {
        let page = |url: &str| json!({"link": [{"relation": "next", "url": url}]});
        assert_eq!(
            next_page(&page("http://h/fhir?_getpages=1"), "http://h/fhir"),
            Some("?_getpages=1".into())
        );
        assert_eq!(
            next_page(&page("http://proxy/fhir?_getpages=1"), "http://h/fhir"),
            Some("?_getpages=1".into())
        );
        assert_eq!(next_page(&page("http://evil/other?x=1"), "http://h/fhir"), None);
    }
}
