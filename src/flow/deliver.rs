//! One act towards one destination.
use super::identify::Neighbours;
use super::ports::{Failure, ServerIds, Transaction};
use crate::domain::plan::{Act, Progress, Step, StepStatus};
use serde_json::Value;
use std::collections::BTreeMap;

/// Does what a step says. `earlier` are the steps before it, and how far they are.
pub async fn deliver(
    near: &Neighbours,
    step: &Step,
    earlier: (&[Step], &[Progress]),
) -> Result<ServerIds, Failure> {
    let (steps, progress) = earlier;
    match &step.act {
        Act::Fhir { entries } => match near.servers.get(&step.destination) {
            Some(server) => {
                let here =
                    steps.iter().zip(progress).filter(|(earlier, _)| earlier.destination == step.destination);
                let ids: BTreeMap<&String, &String> = here.flat_map(|(_, progress)| &progress.ids).collect();
                let mut entries = entries.clone();
                if !ids.is_empty() {
                    entries.iter_mut().for_each(|entry| rewrite_references(&mut entry.resource, &ids));
                }
                server.write(entries).await
            }
            None => Err(Failure::permanent(format!(
                "no destination named {} is configured; configure it and rerun",
                step.destination
            ))),
        },
        Act::ChtRecord { record, .. } => {
            let report = near.cht.create_record(record).await?;
            Ok(BTreeMap::from([("report".to_string(), report)]))
        }
        Act::ChtPerson { body, .. } => {
            let uuid = near.cht.create_person(body).await?;
            Ok(BTreeMap::from([("person".to_string(), uuid)]))
        }
        Act::ChtPersonChange { change } => {
            near.cht.change_person(change).await?;
            Ok(BTreeMap::new())
        }
        Act::Callback { address, full_url, resource, subscription } => {
            let ids: BTreeMap<&String, &String> = progress.iter().flat_map(|p| &p.ids).collect();
            let mut resource = resource.clone();
            let id = match ids.get(full_url) {
                Some(reference) => reference.rsplit('/').next().unwrap_or_default().to_string(),
                None => full_url.trim_start_matches("urn:uuid:").to_string(),
            };
            resource["id"] = Value::from(id.clone());
            rewrite_references(&mut resource, &ids);
            let kind = resource["resourceType"].as_str().unwrap_or("Resource").to_string();
            match subscription {
                None => near.callbacks.put(address, &kind, &id, &resource).await?,
                Some(subscription) => notify(near, subscription, &id, &resource).await?,
            }
            Ok(BTreeMap::new())
        }
    }
}

async fn notify(near: &Neighbours, subscription: &str, id: &str, resource: &Value) -> Result<(), Failure> {
    let found = near.journal.subscription(subscription).await;
    match found.map_err(|error| Failure::transient(error.to_string()))? {
        Some(subscription) => near.callbacks.notify(&subscription, id, resource).await,
        // Whoever asked for it does so no more.
        None => Ok(()),
    }
}

/// References between the entries become references on the server.
fn rewrite_references(value: &mut Value, ids: &BTreeMap<&String, &String>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| rewrite_references(item, ids)),
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get_mut("reference")
                && let Some(id) = ids.get(reference)
            {
                *reference = id.to_string();
            }
            fields.values_mut().for_each(|field| rewrite_references(field, ids));
        }
        _ => {}
    }
}

/// The steps that may be tried now: open, due, and not behind one that is still open.
pub fn due(transaction: &Transaction, now: i64) -> Vec<usize> {
    let Some(plan) = &transaction.plan else { return Vec::new() };
    let status = |i: usize| transaction.progress.get(i).map_or(StepStatus::Open, |p| p.status);
    let ready = |i: &usize| {
        status(*i) == StepStatus::Open
            && transaction.progress.get(*i).is_none_or(|p| p.not_before <= now)
            && plan.steps[*i].after.is_none_or(|before| status(before) != StepStatus::Open)
            && plan.steps[*i].needs.is_none_or(|needed| status(needed) == StepStatus::Done)
    };
    (0..plan.steps.len()).filter(ready).collect()
}

/// What needs a step that has failed fails with it.
pub fn give_up(transaction: &mut Transaction) {
    let Some(plan) = &transaction.plan else { return };
    for (i, step) in plan.steps.iter().enumerate() {
        let failed = step.needs.and_then(|needed| transaction.progress.get(needed));
        if failed.is_none_or(|needed| needed.status != StepStatus::Failed) {
            continue;
        }
        if let Some(own) = transaction.progress.get_mut(i).filter(|own| own.status == StepStatus::Open) {
            own.status = StepStatus::Failed;
            own.error = Some("not tried, because what it needs has failed".into());
            own.cause.clone_from(&own.error);
        }
    }
}
