//! Which door a body would come through, for the command line.
use super::values::text;
use crate::domain::message::Route;
use serde_json::Value;

/// The route of a body, and the body: a file may hold it bare, or as `{path, body}` of a recorded push.
pub fn guess_route(file: &Value) -> Option<(Route, Value)> {
    if file["body"].is_object() && file["path"].is_string() {
        let path = file["path"].as_str().unwrap_or_default();
        let path = path.strip_prefix("/mediator").unwrap_or(path);
        let route = match path {
            "/cht/person" | "/cht/place" | "/cht/report" => Route::ChtPush(None),
            other => other.parse().ok()?,
        };
        return Some((route, file["body"].clone()));
    }
    let doc = &file["doc"];
    let route = if let Some(kind) = text(&file["resourceType"]) {
        Route::Fhir(if kind == "Bundle" { String::new() } else { kind.into() })
    } else if doc.is_object()
        && doc["type"].is_null()
        && !doc["external_id"].is_null()
        && doc["name"].is_null()
    {
        Route::ChtPatientIds
    } else if doc.is_object() && doc["type"].is_null() && !doc["name"].is_null() {
        Route::ChtPatient
    } else if doc.is_object() {
        Route::ChtPush(None)
    } else if file["observations"].is_array() {
        Route::ChtEncounter
    } else {
        // A stored document, without its envelope.
        text(&file["_id"])?;
        return Some((Route::ChtPush(None), serde_json::json!({"doc": file})));
    };
    Some((route, file.clone()))
}
