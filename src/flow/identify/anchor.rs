//! References to what stands on the caller's side. `Patient/17` there is not `Patient/17` on our server:
//! it becomes whom we know by it, or a name that says whose 17 it is.
use super::reshape::make_references_logical;
use super::{Draughtsman, Stop, refused};
use crate::domain::identifier::{Identifier, system};
use serde_json::Value;
use std::collections::BTreeMap;

impl Draughtsman<'_> {
    /// A client that is this destination means what it says.
    pub(super) async fn anchor(&self, resource: &mut Value, destination: &str) -> Result<(), Stop> {
        if self.transaction.home.as_deref() == Some(destination) {
            return Ok(());
        }
        let kind = resource["resourceType"].as_str().unwrap_or("Resource").to_string();
        let mut named = Vec::new();
        patients_named(resource, &mut named);
        let mut known = BTreeMap::new();
        for reference in named {
            if let Some(person) = self.meant_by(&kind, &reference).await?
                && let Some(id) = self.id_at(&person, destination).await?
            {
                known.insert(reference, format!("Patient/{id}"));
            }
        }
        make_references_logical(resource, &self.transaction.client, &known);
        Ok(())
    }

    /// The person whom this client calls so: by its own id, or by the one that we answered with.
    async fn meant_by(&self, kind: &str, reference: &str) -> Result<Option<String>, Stop> {
        let client = &self.transaction.client;
        let own = self.owner(&Identifier::new(system::own(client), reference)).await?;
        let told = self.owner(&Identifier::new(system::told(client), reference)).await?;
        match (own, told) {
            (Some(own), Some(told)) if own != told => Err(Stop::Refused(refused(
                kind,
                "conflict",
                "a reference means one patient by your own ids and another by ours; name the patient by identifier",
            ))),
            (own, told) => Ok(own.or(told)),
        }
    }
}

/// `Patient/1`, `https://emr.example.org/fhir/Patient/1`.
fn patients_named(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| patients_named(item, found)),
        Value::Object(fields) => {
            let reference = fields.get("reference").and_then(Value::as_str);
            if let Some(reference) =
                reference.filter(|r| r.starts_with("Patient/") || r.contains("/Patient/"))
            {
                found.push(reference.to_string());
            }
            fields.values().for_each(|field| patients_named(field, found));
        }
        _ => {}
    }
}
