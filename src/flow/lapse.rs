//! Requests whose day has come: each becomes a message to ourselves, so that what follows is journaled and
//! happens once, whatever stops us on the way.
use super::corridor::{Corridor, Message};
use super::ports::JournalError;
use crate::domain::follow_up::FollowUp;
use crate::domain::message::Route;
use serde_json::json;
use std::time::Duration;

/// Requests that are looked at together.
const AT_ONCE: usize = 500;

/// Looks for them until the corridor stops.
pub async fn run(corridor: Corridor, every: Duration) {
    let stop = corridor.stopping();
    loop {
        if let Err(error) = once(&corridor).await {
            tracing::error!(%error, "requests that are due cannot be looked for");
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
    }
}

/// Those that are due now, as far as they go together.
async fn once(corridor: &Corridor) -> Result<(), JournalError> {
    let lapsed = corridor.journal().lapsed(corridor.now(), AT_ONCE).await?;
    let messages: Vec<Message> = lapsed.iter().filter_map(message).collect();
    if !messages.is_empty() {
        corridor.accept(messages).await?;
    }
    Ok(())
}

/// The same for the same day: found again before it was carried out, it is a repeat.
fn message(request: &FollowUp) -> Option<Message> {
    let named = json!({"system": request.identifier.system, "value": request.identifier.value});
    let body = json!({"kind": request.kind, "identifier": [named], "at": request.wakes()?});
    Some(Message {
        route: Route::Lapse,
        client: request.client.clone(),
        home: request.home.clone(),
        idempotency_key: None,
        via: None,
        again: None,
        from: None,
        bytes: body.to_string().into_bytes(),
        body,
    })
}
