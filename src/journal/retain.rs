//! What is removed after its days.
use super::audit::{append, by_itself};
use super::rows::to_json;
use crate::domain::audit::{Act, Event};
use crate::domain::plan::Status;
use crate::flow::confirm;
use crate::flow::ports::Millis;
use rusqlite::{Connection, OptionalExtension, Result, params};

/// At most so many in one write.
const AT_ONCE: i64 = 1000;

/// Finished transactions of before `before`; failed ones stay.
pub(super) fn remove(c: &Connection, before: Millis, now: Millis) -> Result<u64> {
    let gone = c.execute(
        "DELETE FROM transactions WHERE seq IN (SELECT seq FROM transactions WHERE finished < ?1 \
         AND status IN ('delivered', 'ignored', 'cancelled') LIMIT ?2)",
        params![before, AT_ONCE],
    )? as u64;
    c.execute("DELETE FROM lists WHERE at < ?1", [before])?;
    if gone > 0 {
        append(c, &removed(gone, before, false, now))?;
    }
    Ok(gone)
}

/// What those said, and what was made of it. That they came, and what became of them, stays.
pub(super) fn forget(c: &Connection, before: Millis, now: Millis) -> Result<u64> {
    let since: i64 = c
        .query_row("SELECT CAST(value AS INTEGER) FROM watermarks WHERE name = 'bodies'", [], |row| {
            row.get(0)
        })
        .optional()?
        .unwrap_or(0);
    let rows: Vec<(String, String, String, i64)> = c
        .prepare_cached(
            "SELECT id, route, status, finished FROM transactions WHERE finished >= ?1 AND finished < ?2 \
             AND status IN ('delivered', 'ignored', 'cancelled') ORDER BY finished LIMIT ?3",
        )?
        .query_map(params![since, before, AT_ONCE], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?
        .collect::<Result<_>>()?;
    let mut gone = 0;
    for (id, route, status, _) in &rows {
        gone += forget_one(c, id, route, status)?;
    }
    if let Some((.., last)) = rows.last() {
        let sql = "INSERT OR REPLACE INTO watermarks (name, value) VALUES ('bodies', CAST(?1 AS TEXT))";
        c.execute(sql, [last])?;
    }
    if gone > 0 {
        append(c, &removed(gone, before, true, now))?;
    }
    Ok(gone)
}

fn removed(transactions: u64, before: Millis, only_bodies: bool, now: Millis) -> Event {
    by_itself(Act::Removed { transactions, before, only_bodies }, now)
}

/// A repeat of it is still answered, in words that name nobody.
fn forget_one(c: &Connection, id: &str, route: &str, status: &str) -> Result<u64> {
    let is_cht = route.parse::<crate::domain::message::Route>().is_ok_and(|route| route.is_cht());
    let answer = confirm::forgotten(id, is_cht, Status::parse(status).unwrap_or(Status::Delivered));
    let gone = c
        .prepare_cached(
            "UPDATE transactions SET progress = NULL, orchestrations = NULL, \
             subjects = seal('subjects', id, '[]'), answer = seal('answer', id, ?2) \
             WHERE id = ?1 AND EXISTS (SELECT 1 FROM bodies WHERE bodies.seq = transactions.seq)",
        )?
        .execute(params![id, to_json(&answer)?])?;
    for table in ["bodies", "plans"] {
        let sql = format!("DELETE FROM {table} WHERE seq = (SELECT seq FROM transactions WHERE id = ?1)");
        c.prepare_cached(&sql)?.execute([id])?;
    }
    Ok(gone as u64)
}
