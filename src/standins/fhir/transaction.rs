//! Batches and transactions (<https://hl7.org/fhir/R4/http.html#transaction>).
use super::Failure;
use super::store::{Conditions, Effect, Store, Written, each_reference, location};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn process(store: &mut Store, bundle: Value) -> Result<Value, Failure> {
    if bundle["resourceType"] != "Bundle" {
        return Err(Failure::new(400, "structure", "A Bundle is expected here"));
    }
    let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
    let (kind, done) = match bundle["type"].as_str() {
        Some("transaction") => ("transaction-response", transaction(store, entries)?),
        Some("batch") => ("batch-response", entries.into_iter().map(|entry| alone(store, entry)).collect()),
        other => {
            let text = format!("Unable to process a Bundle of type {}", other.unwrap_or("(missing)"));
            return Err(Failure::new(422, "not-supported", &text));
        }
    };
    let mut answer = json!({"resourceType": "Bundle", "id": store.ids.next(), "type": kind});
    if !done.is_empty() {
        answer["entry"] = done.into();
    }
    Ok(answer)
}

fn alone(store: &mut Store, entry: Value) -> Value {
    transaction(store, vec![entry]).map_or_else(
        |failure| json!({"response": {"status": failure.status.to_string(), "outcome": failure.outcome()}}),
        |mut done| done.pop().unwrap_or_default(),
    )
}

/// All or nothing: works on a copy, which takes the store's place at the end.
fn transaction(store: &mut Store, mut entries: Vec<Value>) -> Result<Vec<Value>, Failure> {
    let mut copy = store.clone();
    refuse_repetitions(&entries)?;
    let targets: Vec<Target> =
        entries.iter().map(|entry| target(&mut copy, entry)).collect::<Result<_, _>>()?;
    rewrite_references(&mut entries, &targets)?;
    let done = entries.into_iter().zip(targets).map(|(entry, target)| apply(&mut copy, entry, target));
    let done = done.collect::<Result<_, _>>()?;
    *store = copy;
    Ok(done)
}

/// Two entries that are to write the same resource have no defined outcome.
fn refuse_repetitions(entries: &[Value]) -> Result<(), Failure> {
    let mut seen = BTreeSet::new();
    for entry in entries {
        let request = &entry["request"];
        let condition = match request["method"].as_str() {
            Some("PUT") => request["url"].as_str().map(Into::into),
            Some("POST") => request["ifNoneExist"].as_str().map(|q| format!("{} {q}", request["url"])),
            _ => None,
        };
        if let Some(condition) = condition.filter(|condition: &String| !seen.insert(condition.clone())) {
            let text = format!("Unable to process transaction: {condition} stands in it more than once");
            return Err(Failure::new(400, "processing", &text));
        }
    }
    Ok(())
}

/// The resource that an entry is about.
struct Target {
    kind: String,
    id: String,
    /// A conditional create found it: it stays as it is.
    found: bool,
}

fn target(store: &mut Store, entry: &Value) -> Result<Target, Failure> {
    let request = &entry["request"];
    let url = request["url"].as_str().unwrap_or_default();
    let (path, query) = url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query)));
    let (kind, id) = path.split_once('/').map_or((path, None), |(kind, id)| (kind, Some(id)));
    let at = |id: String, found| Ok(Target { kind: kind.into(), id, found });
    match (request["method"].as_str(), id, query) {
        (Some("POST"), None, None) => {
            let condition = request["ifNoneExist"].as_str().map(|q| q.rsplit('?').next().unwrap_or_default());
            match condition.map(|query| store.only_match(kind, query)).transpose()?.flatten() {
                Some(id) => at(id, true),
                None => at(store.next_id(), false),
            }
        }
        (Some("PUT"), None, Some(query)) => match store.only_match(kind, query)? {
            Some(id) => at(id, false),
            None => at(store.next_id(), false),
        },
        (Some("PUT" | "DELETE" | "GET"), Some(id), None) => at(id.into(), false),
        (Some(method), ..) => {
            Err(Failure::new(400, "processing", &format!("Unable to process request: {method} {url}")))
        }
        (None, ..) => Err(Failure::new(422, "required", "Bundle.entry.request.method: minimum required = 1")),
    }
}

fn rewrite_references(entries: &mut [Value], targets: &[Target]) -> Result<(), Failure> {
    let mut ids = BTreeMap::new();
    for (entry, target) in entries.iter().zip(targets) {
        if let Some(url) = entry["fullUrl"].as_str() {
            ids.insert(url.to_string(), format!("{}/{}", target.kind, target.id));
        }
    }
    entries.iter_mut().try_for_each(|entry| {
        each_reference(&mut entry["resource"], &mut |reference| {
            if let Some(id) = ids.get(reference) {
                *reference = id.clone();
            }
            Ok(())
        })
    })
}

fn apply(store: &mut Store, mut entry: Value, target: Target) -> Result<Value, Failure> {
    let Target { kind, id, found } = target;
    let conditions =
        Conditions { if_match: entry["request"]["ifMatch"].as_str().map(Into::into), if_none_exist: None };
    let mut resource = entry["resource"].take();
    let written = match entry["request"]["method"].as_str() {
        Some("GET") => {
            let resource = store.read(&kind, &id)?.clone();
            return Ok(json!({"resource": resource, "response": {"status": "200 OK"}}));
        }
        Some("DELETE") => {
            store.delete(&kind, &id)?;
            return Ok(json!({"response": {"status": "204 No Content"}}));
        }
        _ if found => Written { effect: Effect::Unchanged, resource: store.read(&kind, &id)?.clone() },
        Some("PUT") if entry["request"]["url"].as_str().is_some_and(|url| !url.contains('?')) => {
            store.update(&kind, &id, resource, &conditions)?
        }
        Some("PUT") if store.read(&kind, &id).is_ok() => {
            let query = format!("_id={id}");
            store.conditional_update(&kind, &query, resource, &conditions)?
        }
        _ => {
            super::check::check(&kind, &resource)?;
            resource["id"] = id.as_str().into();
            store.put(&kind, &id, resource)?
        }
    };
    let status = if written.effect == Effect::Created { "201 Created" } else { "200 OK" };
    let (location, meta) = (location(&written.resource), &written.resource["meta"]);
    let version = meta["versionId"].as_str().unwrap_or_default();
    Ok(json!({"response": {"status": status, "location": location,
        "etag": format!("W/\"{version}\""), "lastModified": meta["lastUpdated"]}}))
}
