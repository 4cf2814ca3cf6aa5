//! `mediator-config/openapi.json`, read for tests that go through every route.
use argon2::password_hash::PasswordHasher;
use argon2::{Algorithm, Argon2, Params, Version};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A client for each role, with that role; all have the same secret.
pub const CLIENTS: [(&str, &str); 4] =
    [("cht", "push"), ("emr", "fhir"), ("ops", "admin"), ("portal", "lookup")];
pub const SECRET: &str = "a-secret-of-clients";

/// They, as a setting (`MEDIATOR__CLIENTS`), with a hash that is checked in no time: every route is tried with
/// every secret.
pub fn clients() -> String {
    let cheap =
        Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(8, 1, 1, None).expect("parameters"));
    let secret = cheap.hash_password(SECRET.as_bytes()).expect("a hash").to_string();
    json!(CLIENTS.map(|(id, role)| json!({"id": id, "secret": secret, "roles": [role]}))).to_string()
}

pub fn shipped(path: &str) -> Value {
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
}

/// One method of one path, as it is described.
pub struct Operation {
    pub path: String,
    pub method: Method,
    pub described: Value,
}

/// Every operation of the description, references followed.
pub fn operations() -> Vec<Operation> {
    let all = shipped("mediator-config/openapi.json");
    let paths = all["paths"].as_object().expect("paths");
    let methods = |(path, item): (&String, &Value)| -> Vec<Operation> {
        let item = resolved(&all, item);
        let methods = item.as_object().expect("an item").iter().filter(|(key, _)| *key != "parameters");
        let operation = |(method, described): (&String, &Value)| Operation {
            path: path.clone(),
            method: method.to_uppercase().parse().expect("a method"),
            described: described.clone(),
        };
        methods.map(operation).collect()
    };
    paths.iter().flat_map(methods).collect()
}

/// With what every `$ref` in it stands for.
fn resolved(all: &Value, value: &Value) -> Value {
    match value {
        Value::Object(fields) => match fields.get("$ref").and_then(Value::as_str) {
            Some(place) => {
                let found = all.pointer(place.trim_start_matches('#')).unwrap_or_else(|| panic!("{place}"));
                resolved(all, found)
            }
            None => fields.iter().map(|(key, value)| (key.clone(), resolved(all, value))).collect(),
        },
        Value::Array(items) => items.iter().map(|item| resolved(all, item)).collect(),
        other => other.clone(),
    }
}

impl Operation {
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// Nothing: whoever calls.
    pub fn roles(&self) -> BTreeSet<String> {
        let ways = self.described["security"].as_array().expect("security, if only []");
        let roles = |scheme: &str| -> BTreeSet<String> {
            let of = ways.iter().filter_map(|way| way[scheme][0].as_str());
            of.map(String::from).collect()
        };
        assert_eq!(roles("basic"), roles("bearer"), "{}", self.name());
        roles("basic")
    }

    pub fn answers(&self) -> BTreeSet<u16> {
        let all = self.described["responses"].as_object().expect("responses");
        all.keys().map(|status| status.parse().expect("a status")).collect()
    }

    /// Of JSON.
    pub fn takes_body(&self) -> bool {
        self.described["requestBody"]["content"]["application/json"].is_object()
    }

    /// Its bodies, by name.
    pub fn examples(&self) -> Vec<Value> {
        let content = self.described["requestBody"]["content"].as_object().into_iter().flatten();
        let examples = content.filter_map(|(_, media)| media["examples"].as_object()).flatten();
        examples.map(|(_, example)| example["value"].clone()).collect()
    }

    /// Who may send it; nothing: whoever calls.
    pub fn client(&self) -> Option<&'static str> {
        let roles = self.roles();
        CLIENTS.iter().rev().find(|(_, role)| roles.contains(*role)).map(|(client, _)| *client)
    }

    /// Its parameters of a place (`path`, `query`, `header`) with the examples of those that have one.
    pub fn parameters(&self, place: &str) -> Vec<(String, Option<String>)> {
        let all = self.described["parameters"].as_array().into_iter().flatten();
        let of_place = all.filter(|parameter| parameter["in"] == place);
        let text = |value: &Value| value.as_str().map(String::from);
        of_place.map(|p| (text(&p["name"]).expect("a name"), text(&p["example"]))).collect()
    }

    /// Path and query with the examples of its parameters; `id` in the place of the example.
    pub fn target(&self, id: Option<&str>) -> String {
        let mut path = self.path.clone();
        for (name, example) in self.parameters("path") {
            let value = id.filter(|_| name == "id").map(String::from).or(example).expect("an example");
            path = path.replace(&format!("{{{name}}}"), &value);
        }
        let query = self.parameters("query").into_iter().filter_map(|(name, example)| Some((name, example?)));
        let query: Vec<String> = query.map(|(name, value)| format!("{name}={value}")).collect();
        if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) }
    }
}
