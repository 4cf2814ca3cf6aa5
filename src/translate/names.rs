//! What a body calls things: identifiers that only the mediator may give, names that mean nothing or two
//! things. Looked for at the door, so that the sender hears of it with its place.
use super::Refusal;
use crate::domain::fhir::identifiers;
use crate::domain::identifier::{Identifier, system};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// Identifiers that one resource may have.
const MOST_IDENTIFIERS: usize = 100;

/// Every such problem of what `client` sends, with the element it is about.
pub fn check_names(body: &Value, client: &str) -> Vec<Refusal> {
    let kind = body["resourceType"].as_str().map_or("Resource", super::plain);
    let mut names = Names { client, entries: None, found: Vec::new() };
    if kind == "Bundle" && body["type"] != "batch" {
        let entries = body["entry"].as_array().into_iter().flatten();
        names.entries = Some(entries.filter_map(|entry| entry["fullUrl"].as_str()).collect());
        names.twice(body);
    }
    names.walk(body, &mut vec![kind.to_string()]);
    names.found
}

struct Names<'a> {
    client: &'a str,
    /// `fullUrl` of a Bundle's entries.
    entries: Option<HashSet<&'a str>>,
    found: Vec<Refusal>,
}

impl Names<'_> {
    /// Two entries that are one resource: which of them would it be
    /// (<https://hl7.org/fhir/R4/http.html#trules>)?
    fn twice(&mut self, bundle: &Value) {
        let mut seen: HashMap<(&str, Identifier), usize> = HashMap::new();
        for (i, entry) in bundle["entry"].as_array().into_iter().flatten().enumerate() {
            let resource = &entry["resource"];
            let Some(kind) = resource["resourceType"].as_str() else { continue };
            let first = identifiers(resource).iter().find_map(Identifier::of);
            let Some(first) = first else { continue };
            if let Some(before) = seen.insert((kind, first), i) {
                let message = format!(
                    "the same {} as Bundle.entry[{before}]: both have this first identifier",
                    super::plain(kind)
                );
                self.add(format!("Bundle.entry[{i}].resource.identifier[0]"), "duplicate", message);
            }
        }
    }

    fn walk(&mut self, value: &Value, path: &mut Vec<String>) {
        match value {
            Value::Array(items) => {
                for (i, item) in items.iter().enumerate() {
                    path.push(format!("[{i}]"));
                    self.walk(item, path);
                    path.pop();
                }
            }
            Value::Object(fields) => {
                for (key, field) in fields {
                    path.push(format!(".{key}"));
                    self.field(key, field, path);
                    self.walk(field, path);
                    path.pop();
                }
            }
            _ => {}
        }
    }

    fn field(&mut self, key: &str, field: &Value, path: &[String]) {
        match (key, field) {
            ("system", Value::String(said)) if system::is_reserved(said, self.client) => {
                let message = "the mediator gives these identifiers itself; use a system of your own";
                self.add(path.concat(), "value", message.into());
            }
            ("identifier", Value::Array(all)) if all.len() > MOST_IDENTIFIERS => {
                let message = format!("expected at most {MOST_IDENTIFIERS} identifiers, found {}", all.len());
                self.add(path.concat(), "too-costly", message);
            }
            ("reference", Value::String(said)) if self.is_nobodys(said) => {
                let message = "no entry of this Bundle has this fullUrl";
                self.add(path.concat(), "not-found", message.into());
            }
            _ => {}
        }
    }

    /// A name of an entry that is not there.
    fn is_nobodys(&self, reference: &str) -> bool {
        reference.starts_with("urn:uuid:")
            && self.entries.as_ref().is_some_and(|all| !all.contains(reference))
    }

    fn add(&mut self, path: String, code: &'static str, message: String) {
        self.found.push(Refusal { path, code, message });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn paths(body: Value) -> Vec<String> {
        check_names(&body, "emr").into_iter().map(|refusal| refusal.path).collect()
    }

    #[test]
    fn a_caller_names_what_is_its_own() {
        let patient = |system: &str| json!({"resourceType": "Task", "contained": [{"identifier": [{"system": system, "value": "1"}]}]});
        for system in ["urn:nupi", "urn:cht:uuid", system::REQUEST, "urn:cht-fhir-mediator:request:emr"] {
            assert!(paths(patient(system)).is_empty(), "{system}");
        }
        for system in
            [system::IN_CHT, "urn:cht-fhir-mediator:request:other", "urn:cht-fhir-mediator:at:fhir:Patient"]
        {
            assert_eq!(paths(patient(system)), ["Task.contained[0].identifier[0].system"], "{system}");
        }
    }

    #[test]
    fn a_resource_has_so_many_identifiers() {
        let all: Vec<Value> =
            (0..=MOST_IDENTIFIERS).map(|i| json!({"system": "s", "value": i.to_string()})).collect();
        assert!(paths(json!({"resourceType": "Patient", "identifier": all[1..]})).is_empty());
        assert_eq!(paths(json!({"resourceType": "Patient", "identifier": all})), ["Patient.identifier"]);
    }

    #[test]
    fn entries_are_each_their_own_and_name_each_other() {
        let patient = |value: &str| {
            json!({"fullUrl": format!("urn:uuid:{value}"),
                "resource": {"resourceType": "Patient", "identifier": [{"system": "s", "value": value}]}})
        };
        let visit =
            |of: &str| json!({"resource": {"resourceType": "Encounter", "subject": {"reference": of}}});
        let bundle =
            |entries: Value| json!({"resourceType": "Bundle", "type": "transaction", "entry": entries});
        assert!(paths(bundle(json!([patient("1"), patient("2"), visit("urn:uuid:2")]))).is_empty());
        let found = paths(bundle(json!([patient("1"), patient("1"), visit("urn:uuid:2")])));
        assert_eq!(
            found,
            ["Bundle.entry[1].resource.identifier[0]", "Bundle.entry[2].resource.subject.reference"]
        );
        assert!(paths(visit("urn:uuid:2")["resource"].clone()).is_empty(), "alone, another name may say who");
    }
}
