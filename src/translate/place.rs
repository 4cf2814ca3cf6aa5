//! A CHT place: Location, in its place of the hierarchy.
use super::values::text;
use super::{Refusal, missing};
use crate::domain::fhir::{Entry, Write};
use crate::domain::follow_up::Draft;
use crate::domain::identifier::{Identifier, system};
use serde_json::{Value, json};

/// The place types of CHT's default hierarchy; others say `type: contact` and theirs in `contact_type`.
const PLACES: &[&str] = &["clinic", "health_center", "district_hospital"];

pub(super) fn is_place(doc: &Value) -> bool {
    let kind = text(&doc["type"]).unwrap_or_default();
    PLACES.contains(&kind)
        || (kind == "contact" && text(&doc["contact_type"]).is_some_and(|kind| kind != "person"))
}

pub(super) fn location(doc: &Value) -> Result<Draft, Refusal> {
    let id = text(&doc["_id"]).ok_or_else(|| missing("doc._id"))?;
    let kind = text(&doc["contact_type"]).or(text(&doc["type"])).unwrap_or_default();
    let mut location = json!({
        "resourceType": "Location",
        "identifier": identifiers(doc, id),
        "status": if text(&doc["muted"]).is_some() { "suspended" } else { "active" },
        "mode": "instance",
        "type": [{"coding": [{"system": "urn:cht:place-type", "code": kind}], "text": kind}],
    });
    if let Some(name) = text(&doc["name"]) {
        location["name"] = json!(name);
    }
    if let Some(parent) = text(&doc["parent"]["_id"]) {
        location["partOf"] =
            json!({"type": "Location", "identifier": {"system": system::CHT_PLACE, "value": parent}});
        if let Some(name) = text(&doc["parent"]["name"]) {
            location["partOf"]["display"] = json!(name);
        }
    }
    let entry = Entry::new(Identifier::new(system::CHT_PLACE, id), Write::Merge { keep: vec![] }, location);
    Ok(Draft { entries: vec![entry], ..Draft::default() })
}

fn identifiers(doc: &Value, id: &str) -> Value {
    let mut all = vec![json!({"system": system::CHT_PLACE, "value": id})];
    let further = [("place_id", system::CHT_SHORTCODE), ("external_id", system::CHT_EXTERNAL_ID)];
    for (key, system) in further {
        all.extend(text(&doc[key]).map(|value| json!({"system": system, "value": value})));
    }
    json!(all)
}
