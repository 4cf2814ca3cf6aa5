//! One request for many: its subject is a Group or a List, contained or in the same Bundle. Each member is
//! asked for by a request of its own (<https://hl7.org/fhir/R4/group.html>, <https://hl7.org/fhir/R4/list.html>).
use super::inbound::Around;
use super::{Refusal, around_of, values::text};
use crate::domain::fhir::identifiers;
use crate::domain::identifier::Identifier;
use serde_json::{Map, Value, json};
use std::collections::{HashMap, HashSet};

/// The bodies that a body means if it asks for a group: a resource each, or a Bundle of it and its patient.
/// What else a Bundle has comes first, as one. `None`: it asks for no group.
pub fn spread(body: &Value) -> Result<Option<Vec<Value>>, Refusal> {
    match body["resourceType"].as_str() {
        Some("ServiceRequest" | "Task") => alone(body),
        Some("Bundle") => in_bundle(body),
        _ => Ok(None),
    }
}

fn subject_element(request: &Value) -> &'static str {
    if request["resourceType"] == "Task" { "for" } else { "subject" }
}

fn is_request(resource: &Value) -> bool {
    matches!(resource["resourceType"].as_str(), Some("ServiceRequest" | "Task"))
}

fn is_group(resource: &Value) -> bool {
    matches!(resource["resourceType"].as_str(), Some("Group" | "List"))
}

/// References to the members that are still such.
fn members(group: &Value) -> Vec<&Value> {
    let (list, element, gone) = match group["resourceType"].as_str() {
        Some("List") => ("entry", "item", "deleted"),
        _ => ("member", "entity", "inactive"),
    };
    let all = group[list].as_array().into_iter().flatten();
    all.filter(|member| member[gone] != true).map(|member| &member[element]).collect()
}

fn alone(request: &Value) -> Result<Option<Vec<Value>>, Refusal> {
    let contained = || request["contained"].as_array().into_iter().flatten();
    let named = text(&request[subject_element(request)]["reference"]).and_then(|name| name.strip_prefix('#'));
    let Some(group) = contained().find(|one| is_group(one) && one["id"].as_str() == named && named.is_some())
    else {
        return Ok(None);
    };
    // Each member's request has what the others' have, and not the whole list.
    let mut bare = request.clone();
    bare.as_object_mut().map(|fields| fields.remove("contained"));
    let others: Vec<&Value> =
        contained().filter(|one| !is_group(one) && one["resourceType"] != "Patient").collect();
    let patients: HashMap<&str, &Value> =
        contained().filter_map(|one| Some((one["id"].as_str()?, one))).collect();
    let all = members(group);
    is_bearable(request, all.len(), &bare, &others)?;
    let each = |member: &Value| {
        let own = text(&member["reference"]).and_then(|name| name.strip_prefix('#'));
        let patient = own.and_then(|own| patients.get(own)).copied();
        let mut item = for_member(&bare, member, patient);
        let kept: Vec<Value> = others.iter().copied().chain(patient).cloned().collect();
        set_or_remove(&mut item, "contained", kept);
        item
    };
    some(request, all.into_iter().map(each).collect())
}

/// What the requests of all members may come to, beside the members themselves.
const MOST_SHARED: usize = 16 << 20;

/// What is shared stands in each member's request.
fn is_bearable(request: &Value, members: usize, bare: &Value, others: &[&Value]) -> Result<(), Refusal> {
    let shared: usize = others.iter().chain([&bare]).map(|one| one.to_string().len()).sum();
    if shared.saturating_mul(members) <= MOST_SHARED {
        return Ok(());
    }
    let kind = request["resourceType"].as_str().unwrap_or_default();
    let message =
        format!("{members} members share {shared} bytes, and each would get them; send them in parts");
    Err(Refusal { path: format!("{kind}.contained"), code: "too-costly", message })
}

fn in_bundle(bundle: &Value) -> Result<Option<Vec<Value>>, Refusal> {
    let around = around_of(bundle);
    let entries = Entries::of(&around);
    let asks = |resource: &Value| {
        let name =
            text(&resource[subject_element(resource)]["reference"]).filter(|_| is_request(resource))?;
        entries.called(name).map(|(_, group)| group).filter(|group| is_group(group))
    };
    let mut items = Vec::new();
    let mut used: HashSet<*const Value> = HashSet::new();
    for (_, request) in &around.0 {
        let Some(group) = asks(request) else { continue };
        used.extend([std::ptr::from_ref(*request), std::ptr::from_ref(group)]);
        let all = members(group);
        is_bearable(request, all.len(), request, &[])?;
        let mut own = Vec::new();
        for member in all {
            let found = text(&member["reference"]).and_then(|name| entries.called(name));
            let item =
                relinked(for_member(request, member, found.map(|(_, patient)| patient)), &entries, found);
            own.push(match found {
                Some((url, patient)) => {
                    used.insert(std::ptr::from_ref(patient));
                    with_patient(item, url, patient)
                }
                None => item,
            });
        }
        items.extend(some(request, own)?.unwrap_or_default());
    }
    if items.is_empty() {
        return Ok(None);
    }
    let all = bundle["entry"].as_array().into_iter().flatten();
    let rest: Vec<Value> =
        all.filter(|entry| !used.contains(&std::ptr::from_ref(&entry["resource"]))).cloned().collect();
    if !rest.is_empty() {
        items.insert(0, json!({"resourceType": "Bundle", "type": "transaction", "entry": rest}));
    }
    Ok(Some(items))
}

fn some(request: &Value, items: Vec<Value>) -> Result<Option<Vec<Value>>, Refusal> {
    if !items.is_empty() {
        return Ok(Some(items));
    }
    let kind = request["resourceType"].as_str().unwrap_or_default();
    Err(Refusal {
        path: format!("{kind}.{}", subject_element(request)),
        code: "required",
        message: "the group has no members".into(),
    })
}

/// `fullUrl` and resource of each entry, by what it goes by.
struct Entries<'a>(HashMap<String, (&'a str, &'a Value)>);

impl<'a> Entries<'a> {
    fn of(around: &Around<'a>) -> Self {
        let mut all = HashMap::new();
        for (url, resource) in &around.0 {
            let own = text(&resource["resourceType"]).zip(text(&resource["id"]));
            let own = own.map(|(kind, id)| format!("{kind}/{id}"));
            for name in own.into_iter().chain([url.to_string()]) {
                all.entry(name).or_insert((*url, *resource));
            }
        }
        Self(all)
    }

    fn called(&self, name: &str) -> Option<(&'a str, &'a Value)> {
        self.0.get(name).copied()
    }
}

/// The request for one of the group, by a name that is the same each time.
fn for_member(request: &Value, member: &Value, patient: Option<&Value>) -> Value {
    let mut item = request.clone();
    item.as_object_mut().map(|fields| fields.remove("id"));
    item[subject_element(request)] = member.clone();
    let own = patient.and_then(|patient| identifiers(patient).iter().find_map(Identifier::of));
    let by_reference = || text(&member["reference"]).map(String::from);
    let who = Identifier::of(&member["identifier"]).or(own).map(|name| name.value).or_else(by_reference);
    if let (Some(list), Some(who)) = (identifiers(request).iter().find_map(Identifier::of), who) {
        let mut identifier = json!({"value": format!("{}#{who}", list.value)});
        if !list.system.is_empty() {
            identifier["system"] = list.system.into();
        }
        item["identifier"] = json!([identifier]);
    }
    item
}

fn with_patient(item: Value, url: &str, patient: &Value) -> Value {
    let entry = |url: Option<&str>, resource: &Value| {
        let kind = resource["resourceType"].as_str().unwrap_or_default();
        let mut entry = json!({"resource": resource, "request": {"method": "POST", "url": kind}});
        if let Some(url) = url.filter(|url| !url.is_empty()) {
            entry["fullUrl"] = url.into();
        }
        entry
    };
    json!({"resourceType": "Bundle", "type": "transaction", "entry": [entry(Some(url), patient), entry(None, &item)]})
}

/// What it says of other entries of the Bundle goes by their identifiers: they are not beside it any more.
fn relinked(mut item: Value, around: &Entries, kept: Option<(&str, &Value)>) -> Value {
    relink(&mut item, around, kept.map(|(_, patient)| patient));
    item
}

fn relink(value: &mut Value, around: &Entries, kept: Option<&Value>) {
    match value {
        Value::Array(all) => all.iter_mut().for_each(|one| relink(one, around, kept)),
        Value::Object(fields) => {
            let name = fields.get("reference").and_then(text).map(String::from);
            if let Some((_, other)) = name.and_then(|name| around.called(&name))
                && kept != Some(other)
            {
                as_logical(fields, other);
            }
            fields.values_mut().for_each(|field| relink(field, around, kept));
        }
        _ => {}
    }
}

fn as_logical(reference: &mut Map<String, Value>, other: &Value) {
    let kind = other["resourceType"].as_str().unwrap_or_default();
    match (identifiers(other).first(), text(&other["id"])) {
        (Some(identifier), _) => {
            reference.remove("reference");
            reference.insert("type".into(), kind.into());
            reference.insert("identifier".into(), identifier.clone());
        }
        (None, Some(id)) => drop(reference.insert("reference".into(), format!("{kind}/{id}").into())),
        (None, None) => drop(reference.remove("reference")),
    }
}

fn set_or_remove(value: &mut Value, key: &str, list: Vec<Value>) {
    match list.is_empty() {
        true => drop(value.as_object_mut().map(|fields| fields.remove(key))),
        false => value[key] = list.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(subject: &str) -> Value {
        json!({"resourceType": "ServiceRequest", "id": "r", "status": "active", "intent": "order",
            "identifier": [{"system": "urn:emr:lists", "value": "W48"}], "subject": {"reference": subject}})
    }

    #[test]
    fn a_contained_group_is_as_many_requests_as_it_has_members() {
        let mut asked = request("#g");
        asked["contained"] = json!([
            {"resourceType": "Group", "id": "g", "type": "person", "actual": true, "member": [
                {"entity": {"identifier": {"system": "urn:cht:shortcode", "value": "83288"}}},
                {"entity": {"reference": "#p"}},
                {"entity": {"reference": "Patient/9"}, "inactive": true}]},
            {"resourceType": "Patient", "id": "p", "identifier": [{"system": "urn:mrn", "value": "M-2"}]},
            {"resourceType": "Encounter", "id": "last"}]);
        let items = spread(&asked).expect("a list").expect("a list");
        let names: Vec<&Value> = items.iter().map(|item| &item["identifier"][0]["value"]).collect();
        assert_eq!(names, ["W48#83288", "W48#M-2"]);
        assert_eq!(items[0]["contained"].as_array().map(Vec::len), Some(1), "the Encounter");
        assert_eq!(items[1]["contained"].as_array().map(Vec::len), Some(2), "and whom it is about");
        assert_eq!(spread(&request("Patient/1")), Ok(None));
    }

    #[test]
    fn in_a_bundle_each_has_its_patient_and_the_rest_comes_first() {
        let mut asked = request("urn:uuid:g");
        asked["requester"] = json!({"reference": "urn:uuid:o"});
        let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
            {"fullUrl": "urn:uuid:g", "resource": {"resourceType": "List", "entry": [
                {"item": {"reference": "urn:uuid:p1"}}, {"item": {"reference": "Patient/2"}}, {"item": {"identifier": {"value": "83288"}}}]}},
            {"fullUrl": "urn:uuid:p1", "resource": {"resourceType": "Patient", "identifier": [{"value": "M-1"}]}},
            {"fullUrl": "urn:uuid:p2", "resource": {"resourceType": "Patient", "id": "2"}},
            {"fullUrl": "urn:uuid:o", "resource": {"resourceType": "Organization", "identifier": [{"system": "urn:mfl", "value": "1"}]}},
            {"fullUrl": "urn:uuid:r", "resource": asked}]});
        let items = spread(&bundle).expect("a list").expect("a list");
        assert_eq!(items.len(), 4);
        assert_eq!(items[0]["entry"][0]["resource"]["resourceType"], "Organization");
        assert_eq!(items[1]["entry"][1]["resource"]["identifier"][0]["value"], "W48#M-1");
        assert_eq!(items[1]["entry"][1]["resource"]["subject"]["reference"], "urn:uuid:p1");
        assert_eq!(items[1]["entry"][1]["resource"]["requester"]["identifier"]["value"], "1");
        assert_eq!(items[3]["subject"]["identifier"]["value"], "83288");
        let empty = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
            {"fullUrl": "urn:uuid:g", "resource": {"resourceType": "Group"}}, {"resource": request("urn:uuid:g")}]});
        assert!(spread(&empty).is_err());
    }
}
