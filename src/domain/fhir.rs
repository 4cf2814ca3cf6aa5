//! FHIR resources on their way to a FHIR server.
use super::identifier::Identifier;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What the URLs of our profiles, extensions and code systems begin with.
pub const CANONICAL: &str = "https://cht-fhir-mediator.org/fhir/";

/// Where on a server a resource belongs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The one resource of its type with this identifier (conditional create or update).
    Identifier(Identifier),
    /// The server's own id: `{type}/{id}`.
    Id(String),
}

/// What may happen to a resource that the server already has.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Write {
    /// Ours replaces it whole.
    Replace,
    /// Ours is laid over it: identifiers are united, elements that we don't set stay, and of the
    /// elements in `keep` the server's are kept where it has them.
    Merge { keep: Vec<String> },
    /// As `Merge`, and ours is all that CHT says of it: what we once wrote and no longer say goes.
    Whole { keep: Vec<String> },
    /// It stays as it is.
    CreateIfMissing,
}

/// One resource to deliver. References between entries are `full_url`s (`urn:uuid:...`).
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub full_url: String,
    pub target: Target,
    pub write: Write,
    pub resource: Value,
}

impl Entry {
    /// A resource of which we know the identifier.
    pub fn new(identifier: Identifier, write: Write, resource: Value) -> Self {
        let kind = resource["resourceType"].as_str().unwrap_or_default();
        Self {
            full_url: full_url(kind, &identifier),
            target: Target::Identifier(identifier),
            write,
            resource,
        }
    }

    /// `resourceType` of the resource; empty if it has none.
    pub fn resource_type(&self) -> &str {
        self.resource["resourceType"].as_str().unwrap_or_default()
    }
}

/// Types that have one identifier, and not a list of them.
const SINGLE: &[&str] = &["QuestionnaireResponse", "Bundle"];

/// The identifiers of a resource, be they one or a list.
pub fn identifiers(resource: &Value) -> &[Value] {
    match &resource["identifier"] {
        Value::Array(all) => all,
        Value::Null => &[],
        one => std::slice::from_ref(one),
    }
}

/// Sets them in the shape of the type; where only one can be, the first.
pub fn set_identifiers(resource: &mut Value, all: Vec<Value>) {
    let is_single = SINGLE.contains(&resource["resourceType"].as_str().unwrap_or_default());
    resource["identifier"] = match is_single {
        true => all.into_iter().next().unwrap_or_default(),
        false => Value::Array(all),
    };
}

/// How a resource says that it asks for a conditional create: what is there already stays as it is.
const CREATE_ONLY: &str = "create-only";

pub fn mark_create_only(resource: &mut Value) {
    mark(resource, CREATE_ONLY);
}

/// Whether it said so; it does not any more.
pub fn take_create_only(resource: &mut Value) -> bool {
    take(resource, |code| (code == CREATE_ONLY).then_some(())).is_some()
}

/// How a resource says which version of it its sender has seen.
const IF_MATCH: &str = "if-match:";

pub fn mark_if_match(resource: &mut Value, version: &str) {
    mark(resource, &format!("{IF_MATCH}{version}"));
}

/// The version that it said; it does not any more.
pub fn take_if_match(resource: &mut Value) -> Option<String> {
    take(resource, |code| code.strip_prefix(IF_MATCH).map(String::from))
}

/// How a request says that it came in a list.
const LISTED: &str = "listed";

pub fn mark_listed(resource: &mut Value) {
    mark(resource, LISTED);
}

/// Whether it said so; it does not any more.
pub fn take_listed(resource: &mut Value) -> bool {
    take(resource, |code| (code == LISTED).then_some(())).is_some()
}

fn tag_system() -> String {
    format!("{CANONICAL}CodeSystem/write")
}

fn mark(resource: &mut Value, code: &str) {
    let tag = json!({"system": tag_system(), "code": code});
    if !resource["meta"].is_object() {
        resource["meta"] = json!({});
    }
    match resource["meta"]["tag"].as_array_mut() {
        Some(tags) => tags.push(tag),
        None => resource["meta"]["tag"] = json!([tag]),
    }
}

/// What the first tag of ours that `of` knows means; the tag goes.
fn take<T>(resource: &mut Value, of: impl Fn(&str) -> Option<T>) -> Option<T> {
    let tags = resource.pointer_mut("/meta/tag").and_then(Value::as_array_mut)?;
    let mut found = None;
    tags.retain(|tag| {
        let ours = tag["system"] == tag_system().as_str();
        match tag["code"].as_str().filter(|_| ours).and_then(&of) {
            Some(meaning) => {
                found = Some(meaning);
                false
            }
            None => true,
        }
    });
    if tags.is_empty() {
        resource["meta"].as_object_mut().map(|meta| meta.remove("tag"));
    }
    if resource["meta"].as_object().is_some_and(serde_json::Map::is_empty) {
        resource.as_object_mut().map(|fields| fields.remove("meta"));
    }
    found
}

/// The same for the same identifier, so that two messages mean one resource.
pub fn full_url(kind: &str, identifier: &Identifier) -> String {
    let name = format!("{kind} {}", identifier.token());
    format!("urn:uuid:{}", uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, name.as_bytes()))
}

/// The transaction Bundle that says what `entries` ask of a server, for people to read and for
/// servers that take it as it is (<https://hl7.org/fhir/R4/http.html#transaction>).
pub fn transaction_bundle(entries: &[Entry]) -> Value {
    let entries: Vec<Value> = entries
        .iter()
        .map(|entry| {
            let kind = entry.resource_type();
            let request = match (&entry.target, &entry.write) {
                (Target::Id(id), _) => json!({"method": "PUT", "url": id}),
                (Target::Identifier(id), Write::CreateIfMissing) => json!({"method": "POST", "url": kind,
                    "ifNoneExist": format!("identifier={}", query_value(&id.token()))}),
                (Target::Identifier(id), _) => json!({"method": "PUT",
                    "url": format!("{kind}?identifier={}", query_value(&id.token()))}),
            };
            json!({"fullUrl": entry.full_url, "resource": entry.resource, "request": request})
        })
        .collect();
    json!({"resourceType": "Bundle", "type": "transaction", "entry": entries})
}

/// A value percent-encoded for a query string.
pub fn query_value(raw: &str) -> String {
    url::form_urlencoded::byte_serialize(raw.as_bytes()).collect::<String>().replace('+', "%20")
}
