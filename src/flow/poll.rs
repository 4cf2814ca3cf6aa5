//! News of referrals from servers that don't tell: a search by `_lastUpdated`, over a window that
//! overlaps the last one, with a watermark that moves only when what was found is journaled.
use super::corridor::{Corridor, Message};
use super::ports::{FhirServer, JournalError, Page};
use crate::domain::follow_up::State;
use crate::domain::identifier::system;
use crate::domain::message::Route;
use crate::planted::{Bug, is_planted};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

pub struct Poll {
    pub destination: String,
    pub server: Arc<dyn FhirServer>,
    pub every: Duration,
    pub overlap: Duration,
}

/// Tasks first: they say more of an outcome than the request does.
const KINDS: [&str; 2] = ["Task", "ServiceRequest"];
/// How far ahead of ours a server's clock may be.
const AHEAD: SignedDuration = SignedDuration::from_mins(5);
/// How far back the first poll looks.
const FIRST: SignedDuration = SignedDuration::from_hours(24);

/// Polls until the corridor stops.
pub async fn run(poll: Poll, corridor: Corridor) {
    let stop = corridor.stopping();
    loop {
        for kind in KINDS {
            if let Err(error) = once(&poll, &corridor, kind).await {
                tracing::warn!(destination = poll.destination, kind, error, "a poll failed");
            }
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(poll.every) => {}
        }
    }
}

async fn once(poll: &Poll, corridor: &Corridor, kind: &str) -> Result<(), String> {
    let name = format!("{} {kind}", poll.destination);
    let journal = corridor.journal();
    let mark = journal.watermark(&name).await.map_err(|e| e.to_string())?;
    let now = Timestamp::from_millisecond(corridor.now()).map_err(|e| e.to_string())?;
    let since = since(mark.as_deref(), poll.overlap, now)?;
    let query =
        [("_lastUpdated", format!("ge{since}")), ("_sort", "_lastUpdated".into()), ("_count", "100".into())];
    let query: Vec<(&str, &str)> = query.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let mut mark = mark.as_deref().and_then(parse);
    let mut next: Option<String> = None;
    // Page by page, so that a long absence is caught up with step by step.
    loop {
        let page = ask(poll, corridor, kind, &query, next.as_deref()).await?;
        let changed = || page.resources.iter().filter_map(last_updated);
        if changed().any(|at| at > now + AHEAD) {
            tracing::warn!(
                destination = poll.destination,
                kind,
                "a resource there was changed in the future: its clock is wrong"
            );
        }
        // Never past now, or all that comes until then would be missed.
        let newest = changed().map(|at| at.min(now)).max();
        let news: Vec<Message> =
            page.resources.into_iter().filter(is_news).map(|resource| message(poll, resource)).collect();
        if let Some(newest) = newest.filter(|_| is_planted(Bug::WatermarkMovedTooEarly)) {
            journal.set_watermark(&name, &newest.to_string()).await.map_err(|e| e.to_string())?;
        }
        if !news.is_empty() {
            corridor.accept(news).await.map_err(|e: JournalError| e.to_string())?;
        }
        if let Some(newest) = newest.filter(|newest| mark.is_none_or(|mark| *newest > mark)) {
            journal.set_watermark(&name, &newest.to_string()).await.map_err(|e| e.to_string())?;
            mark = Some(newest);
        }
        match page.next {
            Some(more) if !corridor.stopping().is_cancelled() => next = Some(more),
            _ => return Ok(()),
        }
    }
}

/// One page, unless the server is left alone.
async fn ask(
    poll: &Poll,
    corridor: &Corridor,
    kind: &str,
    query: &[(&str, &str)],
    next: Option<&str>,
) -> Result<Page, String> {
    let guard = corridor.guard();
    guard.enter(&poll.destination).await.map_err(|failure| failure.message)?;
    let page = poll.server.page(kind, query, next).await;
    guard.leave(&poll.destination, page.as_ref().err());
    page.map_err(|failure| failure.message)
}

fn since(mark: Option<&str>, overlap: Duration, now: Timestamp) -> Result<Timestamp, String> {
    let from = match mark.and_then(parse) {
        Some(mark) => mark.min(now).checked_sub(overlap),
        None => now.checked_sub(FIRST),
    };
    // Servers compare to the second.
    from.and_then(|from| Timestamp::from_second(from.as_second())).map_err(|e| e.to_string())
}

fn parse(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

fn last_updated(resource: &Value) -> Option<Timestamp> {
    parse(resource["meta"]["lastUpdated"].as_str()?)
}

/// A referral of CHT's that is no longer as CHT made it.
fn is_news(resource: &Value) -> bool {
    let status = resource["status"].as_str().unwrap_or_default();
    let state = match resource["resourceType"].as_str() {
        Some("Task") => State::of_task(status),
        _ => State::of_request(status),
    };
    let identifiers = resource["identifier"].as_array().into_iter().flatten();
    let ours =
        identifiers.chain([&resource["focus"]["identifier"]]).any(|i| i["system"] == system::CHT_REPORT);
    ours && state.is_some_and(|state| state != State::Requested)
}

fn message(poll: &Poll, resource: Value) -> Message {
    Message {
        route: Route::Poll(poll.destination.clone()),
        client: format!("poll:{}", poll.destination),
        home: Some(poll.destination.clone()),
        idempotency_key: None,
        via: None,
        again: None,
        from: None,
        bytes: resource.to_string().into_bytes(),
        body: resource,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_referrals_that_moved_on_are_news() {
        let task = |system: &str, status: &str| {
            json!({"resourceType": "Task", "status": status,
            "identifier": [{"system": system, "value": "r"}]})
        };
        assert!(is_news(&task(system::CHT_REPORT, "accepted")));
        assert!(!is_news(&task(system::CHT_REPORT, "requested")));
        assert!(!is_news(&task("http://lab.example", "completed")));
    }

    #[test]
    fn the_window_overlaps_the_last_one_to_the_second() {
        let now = parse("2026-11-24T09:00:00Z").expect("a time");
        let of = |mark| since(Some(mark), Duration::from_secs(60), now).expect("a time").to_string();
        assert_eq!(of("2026-11-24T08:00:30.700Z"), "2026-11-24T07:59:30Z");
        assert_eq!(of("2999-01-01T00:00:00Z"), "2026-11-24T08:59:00Z", "a wrong clock there stops nothing");
    }
}
