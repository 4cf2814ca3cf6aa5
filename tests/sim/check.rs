//! What must hold once all is calm: nothing lost, nothing doubled, in order, and everything in a named state.
use crate::fate::lock;
use crate::life::Mediator;
use crate::world::World;
use cht_fhir_mediator::flow::ports::Filter;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What the senders were promised.
#[derive(Default)]
pub struct Expected {
    /// The newest version of each person.
    pub newest: BTreeMap<String, u64>,
    pub referrals: BTreeSet<String>,
    pub requests: BTreeSet<String>,
}

pub async fn violations(world: &World, mediator: &Mediator) -> Vec<String> {
    let mut wrong = lock(&world.refused).clone();
    transactions(world, mediator, &mut wrong).await;
    let expected = lock(&world.expected);
    for (identifier, n) in world.fhir.ledger().into_iter().filter(|(_, n)| *n > 1) {
        wrong.push(format!("doubled: {n} of {identifier:?}"));
    }
    people(world, &expected, &mut wrong);
    referrals(world, &expected, &mut wrong);
    requests(world, &expected, &mut wrong);
    wrong
}

/// Every accepted message is there, and ended well.
async fn transactions(world: &World, mediator: &Mediator, wrong: &mut Vec<String>) {
    let rows = mediator.corridor.journal().list(Filter::default()).await.expect("a list");
    let known: BTreeSet<&String> = rows.iter().map(|row| &row.id).collect();
    for id in lock(&world.acknowledged).iter().filter(|id| !known.contains(id)) {
        wrong.push(format!("lost: transaction {id}, which was acknowledged"));
    }
    for row in rows.iter().filter(|row| !matches!(row.status.as_str(), "delivered" | "ignored")) {
        wrong.push(format!("{} {} is {}: {:?}", row.route, row.id, row.status, row.error));
    }
}

fn people(world: &World, expected: &Expected, wrong: &mut Vec<String>) {
    let stood = lock(&world.stood);
    for (person, newest) in &expected.newest {
        let versions = stood.get(person).cloned().unwrap_or_default();
        if versions.last() != Some(newest) || !versions.is_sorted() {
            wrong.push(format!("order: {person} should end at version {newest}, and was {versions:?}"));
        }
    }
}

fn referrals(world: &World, expected: &Expected, wrong: &mut Vec<String>) {
    for referral in &expected.referrals {
        for kind in ["ServiceRequest", "Task", "Encounter"] {
            if with_identifier(world, kind, referral).len() != 1 {
                wrong.push(format!("lost: {kind} of referral {referral}"));
            }
        }
        let told = reports(world, "REF_BACK", referral);
        let told: Vec<&str> = told.iter().filter_map(|report| report["fields"]["status"].as_str()).collect();
        if !matches!(told[..], ["completed"] | ["accepted", "completed"]) {
            wrong.push(format!("news of referral {referral}: CHT was told {told:?}"));
        }
    }
}

fn requests(world: &World, expected: &Expected, wrong: &mut Vec<String>) {
    for request in &expected.requests {
        let asked = reports(world, "LTFU_REQUEST", request).len();
        if asked != 1 {
            wrong.push(format!("request {request}: CHT was asked {asked} times"));
        }
        let statuses: Vec<Value> =
            with_identifier(world, "ServiceRequest", request).iter().map(|r| r["status"].clone()).collect();
        if statuses != ["completed"] {
            wrong.push(format!("request {request} is {statuses:?} on the FHIR server"));
        }
    }
    let mut told: Vec<String> = world.emr.received().into_iter().map(|call| call.path).collect();
    told.sort();
    told.dedup();
    let wanted = world.fhir.resources("Endpoint").len();
    if told.len() != wanted {
        wrong.push(format!("{wanted} requesters wait to be told of one Encounter each: {told:?}"));
    }
}

fn with_identifier(world: &World, kind: &str, value: &str) -> Vec<Value> {
    let has = |resource: &Value| {
        let identifiers = resource["identifier"].as_array();
        identifiers.is_some_and(|all| all.iter().any(|identifier| identifier["value"] == value))
    };
    world.fhir.resources(kind).into_iter().filter(has).collect()
}

/// In the order in which they were saved.
fn reports(world: &World, form: &str, external_id: &str) -> Vec<Value> {
    let reports = world.cht.reports().into_iter();
    reports.filter(|r| r["form"] == form && r["fields"]["external_id"] == external_id).collect()
}
