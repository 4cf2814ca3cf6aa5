//! Between rows and the corridor's types.
use crate::domain::follow_up::{FollowUp, Kind};
use crate::domain::plan::Status;
use crate::flow::ports::{Head, Row, Transaction};
use rusqlite::types::Type;
use rusqlite::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::sync::Arc;

pub(super) const HEAD: &str = "seq, id, unseal('subjects', id, subjects), status, not_before";

pub(super) fn head(row: &rusqlite::Row) -> Result<Head> {
    Ok(Head {
        seq: row.get(0)?,
        id: row.get(1)?,
        subjects: optional_json(row, 2)?.unwrap_or_default(),
        status: status(row, 3)?,
        not_before: row.get(4)?,
    })
}

pub(super) const TRANSACTION: &str = "seq, id, unseal('subjects', id, subjects), status, not_before, route, client, \
     home, received, (SELECT unseal('body', id, body) FROM bodies WHERE bodies.seq = transactions.seq), reruns, attempts, mapping, COALESCE(unseal('error', id, error), cause), \
     (SELECT unseal('plan', id, plan) FROM plans WHERE plans.seq = transactions.seq), unseal('progress', id, progress), unseal('answer', id, answer), finished, \
     unseal('orchestrations', id, orchestrations), EXISTS (SELECT 1 FROM via WHERE via.id = transactions.id), cause";

pub(super) fn transaction(row: &rusqlite::Row) -> Result<Transaction> {
    Ok(Transaction {
        head: head(row)?,
        route: row.get::<_, String>(5)?.parse().map_err(|e: String| bad(5, e))?,
        client: row.get(6)?,
        home: row.get(7)?,
        received: row.get(8)?,
        body: row.get_ref(9)?.as_bytes_or_null()?.unwrap_or_default().to_vec(),
        reruns: row.get(10)?,
        attempts: row.get(11)?,
        mapping: row.get(12)?,
        error: row.get(13)?,
        plan: optional_json(row, 14)?.map(Arc::new),
        progress: optional_json(row, 15)?.unwrap_or_default(),
        answer: optional_json(row, 16)?,
        finished: row.get(17)?,
        orchestrations: optional_json(row, 18)?.unwrap_or_default(),
        through_openhim: row.get(19)?,
        cause: row.get(20)?,
    })
}

pub(super) const LIST: &str = "id, route, received, status, attempts, COALESCE(unseal('error', id, error), cause), client, \
     mapping, not_before, seq, unseal('subjects', id, subjects)";

/// Whom an open one waits for: the oldest before it about the same patient or request.
pub(super) struct Lanes(HashMap<String, (i64, String)>);

impl Lanes {
    /// `open` in order of arrival.
    pub(super) fn of(open: impl Iterator<Item = Head>) -> Self {
        let mut first = HashMap::new();
        for head in open {
            for subject in head.subjects {
                first.entry(subject).or_insert((head.seq, head.id.clone()));
            }
        }
        Self(first)
    }

    fn before(&self, seq: i64, subjects: &[String]) -> Option<String> {
        let before = subjects.iter().filter_map(|subject| self.0.get(subject)).filter(|(at, _)| *at < seq);
        before.min().map(|(_, id)| id.clone())
    }
}

pub(super) fn list(row: &rusqlite::Row, lanes: &Lanes) -> Result<Row> {
    let status: String = row.get(3)?;
    let not_before: i64 = row.get(8)?;
    Ok(Row {
        id: row.get(0)?,
        route: row.get(1)?,
        received: rfc3339(row.get(2)?),
        attempts: row.get(4)?,
        error: row.get(5)?,
        client: row.get(6)?,
        mapping: row.get(7)?,
        waits_for: match status == "open" {
            true => lanes.before(row.get(9)?, &optional_json::<Vec<String>>(row, 10)?.unwrap_or_default()),
            false => None,
        },
        next_attempt: (status == "open" && not_before > 0).then(|| rfc3339(not_before)),
        status,
    })
}

pub(super) const FOLLOW_UP: &str =
    "unseal('content', kind || ' ' || system || ' ' || unname(value), content) FROM follow_ups";

pub(super) fn follow_up(row: &rusqlite::Row) -> Result<FollowUp> {
    json(row, 0)
}

pub(super) fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::FollowUp => "follow_up",
        Kind::Referral => "referral",
    }
}

pub(super) fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::ToSqlConversionFailure(e.into()))
}

pub(super) fn rfc3339(millis: i64) -> String {
    jiff::Timestamp::from_millisecond(millis).map(|t| t.to_string()).unwrap_or_default()
}

pub(super) fn json<T: DeserializeOwned>(row: &rusqlite::Row, column: usize) -> Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|e| bad(column, e.to_string()))
}

pub(super) fn optional_json<T: DeserializeOwned>(row: &rusqlite::Row, column: usize) -> Result<Option<T>> {
    match row.get::<_, Option<String>>(column)? {
        Some(text) => serde_json::from_str(&text).map(Some).map_err(|e| bad(column, e.to_string())),
        None => Ok(None),
    }
}

fn status(row: &rusqlite::Row, column: usize) -> Result<Status> {
    let text: String = row.get(column)?;
    Status::parse(&text).ok_or_else(|| bad(column, format!("{text} is no status")))
}

fn bad(column: usize, message: String) -> Error {
    Error::FromSqlConversionFailure(column, Type::Text, message.into())
}
