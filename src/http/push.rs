//! What CHT's outbound push sends.
use super::Door;
use super::reply::{Reader, refusal};
use crate::config::Role;
use crate::domain::message::Route;
use axum::extract::{Request, State};
use axum::response::Response;

/// Documents and the drop-in `/cht/...` bodies.
pub(super) async fn cht(State(door): State<Door>, request: Request) -> Response {
    take(&door, request, &[Role::Push]).await
}

/// FHIR resources as CHT builds them; EMRs use these routes too.
pub(super) async fn drop_in(State(door): State<Door>, request: Request) -> Response {
    take(&door, request, &[Role::Push, Role::Fhir]).await
}

async fn take(door: &Door, request: Request, roles: &[Role]) -> Response {
    let path = request.uri().path().to_string();
    let opened = match door.open(request, Reader::Plain, roles).await {
        Ok(opened) => opened,
        Err(refused) => return *refused,
    };
    let Some(route) = route_of(&path) else {
        return refusal(Reader::Plain, 404, "not-found", "", "no such route");
    };
    match opened.read(door.0.limits).await {
        Ok(read) => {
            let caller = read.caller.clone();
            let message = door.message(&caller, route, read);
            door.take(message, 201, &caller).await
        }
        Err(refused) => *refused,
    }
}

/// `path` is without `server.base_path`.
fn route_of(path: &str) -> Option<Route> {
    match path {
        "/cht/person" | "/cht/place" | "/cht/report" => Some(Route::ChtPush(None)),
        other => other.parse().ok(),
    }
}
