//! The description of our routes (OpenAPI 3.1). `tests/it/api.rs` keeps it true.
use super::reply::{Reader, json_response};
use axum::response::Response;
use serde_json::{Value, json};
use std::sync::LazyLock;

pub(super) async fn description() -> Response {
    static DESCRIPTION: LazyLock<Value> = LazyLock::new(|| {
        let text = include_str!("../../mediator-config/openapi.json");
        let mut description: Value = serde_json::from_str(text).unwrap_or_default();
        description["info"]["version"] = json!(crate::version::VERSION);
        description
    });
    json_response(Reader::Plain, 200, &DESCRIPTION)
}
