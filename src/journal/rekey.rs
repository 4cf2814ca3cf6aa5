//! Seals a whole journal anew, into a file beside it that takes its place when it is complete. Killed on
//! the way, the journal is as it was. Nothing of the old file's pages comes along: neither what was in
//! clear, nor what the old key opens.
use super::audit::RECORD;
use super::backup::Part;
use super::claim::Claim;
use super::schema;
use super::seal::{Keys, Seal};
use rusqlite::{Connection, Result, params};
use std::path::Path;
use std::time::Duration;

/// What is sealed: table, column, and the row that a value is bound to, in SQL; names are bound to none.
const SEALED: &[(&str, &[&str], Option<&str>)] = &[
    ("transactions", &["key", "digest"], None),
    ("transactions", &["subjects", "error", "progress", "answer", "orchestrations"], Some("id")),
    ("bodies", &["body"], Some("(SELECT id FROM old.transactions t WHERE t.seq = bodies.seq)")),
    ("plans", &["plan"], Some("(SELECT id FROM old.transactions t WHERE t.seq = plans.seq)")),
    ("identifiers", &["value", "person"], None),
    ("follow_ups", &["value", "person", "record"], None),
    ("follow_ups", &["content"], Some("kind || ' ' || system || ' ' || unname(value)")),
    ("directory", &["key"], None),
    ("directory", &["resource"], Some("unname(key)")),
    ("subscriptions", &["content"], Some("id")),
];

/// Tables of a row or so a transaction.
const LONG: &[&str] = &["transactions", "bodies", "plans"];

/// Rows of one of them between two words of how far it is.
const AT_ONCE: i64 = 10_000;

/// Under the newest key; answers what was done. `told` hears how far it is.
pub fn rekey(journal: &Path, keys: &Keys, mut told: impl FnMut(String)) -> Result<String, String> {
    let Some(newest) = keys.newest() else {
        return Err("journal.key is not given; `journal new-key` makes one".into());
    };
    let _claim = Claim::on(journal)?;
    let at = |e: rusqlite::Error| format!("{}: {e}", journal.display());
    let from = {
        let connection = Connection::open(journal).map_err(at)?;
        schema::migrate(&connection).map_err(at)?;
        let from = Seal::of(&connection, keys).map_err(at)?;
        settle(&connection).map_err(|e| format!("{}: {e}", journal.display()))?;
        from
    };
    match &from {
        Seal::With(key) if key.id == newest.id => {
            return Ok(format!("it is sealed with the newest key ({}) already", key.id));
        }
        Seal::Locked(_) => return Err(from.objection(keys).unwrap_or_default()),
        Seal::With(_) | Seal::Clear => {}
    }
    let fresh = Part::beside(journal, ".rekey")?;
    let held = copy(journal, &fresh.path, (&from, &Seal::With(newest.clone())), &mut told).map_err(at)?;
    fresh.put(journal)?;
    drop(held);
    Ok(format!("sealed with the key {}; older keys open nothing of it", newest.id))
}

/// Keeps everybody else out until the connection is closed: a WAL that somebody began now would be taken
/// for that of the file which takes this one's place.
pub(super) fn hold(c: &Connection, which: &str) -> Result<()> {
    c.execute_batch(&format!("PRAGMA {which}.locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE"))?;
    let mode: String = c.query_row(&format!("PRAGMA {which}.journal_mode"), [], |row| row.get(0))?;
    match mode == "wal" {
        true => Err(rusqlite::Error::UserFunctionError("somebody else has just opened it; try again".into())),
        false => Ok(()),
    }
}

/// One file, without a WAL, and nobody else who has it open.
pub(super) fn settle(connection: &Connection) -> Result<(), String> {
    connection.busy_timeout(Duration::from_secs(1)).map_err(|e| e.to_string())?;
    let mode = connection.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get::<_, String>(0));
    match mode {
        Ok(mode) if mode == "delete" => Ok(()),
        _ => Err("somebody else has the journal open (`transactions`, sqlite3?); try again".into()),
    }
}

fn copy(
    old: &Path,
    fresh: &Path,
    (from, to): (&Seal, &Seal),
    told: &mut impl FnMut(String),
) -> Result<Connection> {
    let c = Connection::open(fresh)?;
    // It is no journal before it is complete: nothing is to be taken back or flushed on the way.
    c.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")?;
    c.execute("ATTACH DATABASE ?1 AS old", [old.to_string_lossy()])?;
    from.install_opening(&c)?;
    to.install_sealing(&c)?;
    hold(&c, "old")?;
    make(&c, "table")?;
    for table in tables(&c)? {
        copy_table(&c, &table, told)?;
    }
    if let Seal::With(key) = to {
        c.execute_batch("DELETE FROM sealed")?;
        c.execute("INSERT INTO sealed (key_id) VALUES (?1)", [&key.id])?;
    }
    make(&c, "index")?;
    make(&c, "trigger")?;
    let version: i64 = c.query_row("PRAGMA old.user_version", [], |row| row.get(0))?;
    c.pragma_update(None, "user_version", version)?;
    c.execute_batch("COMMIT")?;
    Ok(c)
}

/// What the old journal is made of; indexes and triggers after the rows that they are about.
fn make(c: &Connection, kind: &str) -> Result<()> {
    let sql = "SELECT sql FROM old.sqlite_master WHERE type = ?1 AND sql IS NOT NULL AND name NOT LIKE 'sqlite!_%' \
               ESCAPE '!'";
    let all: Vec<String> = c.prepare(sql)?.query_map([kind], |row| row.get(0))?.collect::<Result<_>>()?;
    all.iter().try_for_each(|sql| c.execute_batch(sql))
}

/// With `sqlite_sequence`, so that no number is given twice.
fn tables(c: &Connection) -> Result<Vec<String>> {
    let sql = "SELECT name FROM old.sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite!_stat%' ESCAPE '!' \
               ORDER BY name = 'sqlite_sequence'";
    c.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
}

fn copy_table(c: &Connection, table: &str, told: &mut impl FnMut(String)) -> Result<()> {
    let columns: Vec<String> = c
        .prepare("SELECT name FROM pragma_table_info(?1, 'old')")?
        .query_map([table], |row| row.get(0))?
        .collect::<Result<_>>()?;
    let values: Vec<String> = columns.iter().map(|column| sealed_anew(table, column)).collect();
    c.execute_batch(&format!("DELETE FROM main.{table}"))?;
    let insert = format!(
        "INSERT INTO main.{table} ({}) SELECT {} FROM old.{table}",
        columns.join(", "),
        values.join(", ")
    );
    if !LONG.contains(&table) {
        let rows = c.execute(&insert, [])?;
        told(format!("{table}: {rows}"));
        return Ok(());
    }
    let all: u64 = c.query_row(&format!("SELECT COUNT(*) FROM old.{table}"), [], |row| row.get(0))?;
    let (mut done, mut last) = (0, 0);
    while done < all {
        done += c
            .execute(&format!("{insert} WHERE seq > ?1 ORDER BY seq LIMIT ?2"), params![last, AT_ONCE])?
            as u64;
        last = c.query_row(&format!("SELECT MAX(seq) FROM main.{table}"), [], |row| row.get(0))?;
        told(format!("{table}: {done} of {all}"));
    }
    Ok(())
}

/// A column's value as it is to be written.
fn sealed_anew(table: &str, column: &str) -> String {
    if (table, column) == ("audit", "record") {
        return format!("seal('record', CAST(seq AS TEXT), {RECORD})");
    }
    let known = SEALED.iter().find(|(of, columns, _)| *of == table && columns.contains(&column));
    match known {
        None => column.to_string(),
        Some((_, _, None)) => format!("name(unname({column}))"),
        Some((_, _, Some(row))) => format!("seal('{column}', {row}, unseal('{column}', {row}, {column}))"),
    }
}
