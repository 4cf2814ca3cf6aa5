//! The embedded journal's tables. A released schema is never edited: a change is a new step.
use rusqlite::Connection;

/// Each step brings the schema from its index to the next (`PRAGMA user_version`).
const STEPS: &[&str] = &[
    r#"
CREATE TABLE transactions (
  seq        INTEGER PRIMARY KEY AUTOINCREMENT,
  id         TEXT NOT NULL UNIQUE,
  route      TEXT NOT NULL,
  client     TEXT NOT NULL,
  home       TEXT,
  key        TEXT NOT NULL,
  digest     TEXT NOT NULL,
  subjects   TEXT NOT NULL,
  received   INTEGER NOT NULL,
  body       BLOB NOT NULL,
  status     TEXT NOT NULL DEFAULT 'open',
  attempts   INTEGER NOT NULL DEFAULT 0,
  reruns     INTEGER NOT NULL DEFAULT 0,
  not_before INTEGER NOT NULL DEFAULT 0,
  error      TEXT,
  mapping    TEXT,
  plan       TEXT,
  progress   TEXT,
  answer     TEXT,
  finished   INTEGER
);
CREATE INDEX transactions_by_key ON transactions (key, seq);
CREATE INDEX transactions_open ON transactions (seq) WHERE status = 'open';
CREATE INDEX transactions_finished ON transactions (finished) WHERE finished IS NOT NULL;
CREATE TABLE identifiers (
  system TEXT NOT NULL,
  value  TEXT NOT NULL,
  person TEXT NOT NULL,
  PRIMARY KEY (system, value)
) WITHOUT ROWID;
CREATE INDEX identifiers_by_person ON identifiers (person);
CREATE INDEX identifiers_by_value ON identifiers (value);
CREATE TABLE follow_ups (
  kind    TEXT NOT NULL,
  system  TEXT NOT NULL,
  value   TEXT NOT NULL,
  person  TEXT NOT NULL,
  record  TEXT,
  state   TEXT NOT NULL,
  content TEXT NOT NULL,
  PRIMARY KEY (kind, system, value)
);
CREATE INDEX follow_ups_by_person ON follow_ups (person);
CREATE INDEX follow_ups_by_value ON follow_ups (value);
CREATE INDEX follow_ups_by_record ON follow_ups (record) WHERE record IS NOT NULL;
CREATE TABLE directory (key TEXT PRIMARY KEY, resource TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE watermarks (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE commands (
  number        INTEGER PRIMARY KEY AUTOINCREMENT,
  action        TEXT NOT NULL,
  transaction_id TEXT NOT NULL,
  outcome       TEXT
);
CREATE TABLE counts (status TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
CREATE TRIGGER count_new AFTER INSERT ON transactions BEGIN
  INSERT INTO counts VALUES (new.status, 1) ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER count_changed AFTER UPDATE OF status ON transactions WHEN old.status <> new.status BEGIN
  UPDATE counts SET n = n - 1 WHERE status = old.status;
  INSERT INTO counts VALUES (new.status, 1) ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER count_gone AFTER DELETE ON transactions BEGIN
  UPDATE counts SET n = n - 1 WHERE status = old.status;
END;
"#,
    r#"
-- When an operator asked for it again; 0: never.
ALTER TABLE transactions ADD COLUMN rerun_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE transactions ADD COLUMN orchestrations TEXT;
-- CouchDB's generation of the document, where it says it.
ALTER TABLE transactions ADD COLUMN revision INTEGER;
-- Transactions of OpenHIM that brought ours: `waits` for our answer, to be told `later`, or `told`.
CREATE TABLE via (
  openhim TEXT NOT NULL,
  id      TEXT NOT NULL,
  state   TEXT NOT NULL DEFAULT 'waits',
  since   INTEGER NOT NULL,
  PRIMARY KEY (openhim, id)
) WITHOUT ROWID;
CREATE INDEX via_by_id ON via (id);
CREATE INDEX via_untold ON via (since) WHERE state <> 'told';
CREATE TRIGGER via_gone AFTER DELETE ON transactions BEGIN DELETE FROM via WHERE id = old.id; END;
"#,
    r#"
-- The audit trail. Numbers are never used twice: what is missing at the end is missed.
CREATE TABLE audit (
  seq    INTEGER PRIMARY KEY AUTOINCREMENT,
  at     INTEGER NOT NULL,
  record TEXT NOT NULL,
  hash   BLOB NOT NULL
);
-- The last record of each part that was cut off for its age.
CREATE TABLE audit_cuts (seq INTEGER PRIMARY KEY, hash BLOB NOT NULL);
CREATE TRIGGER audit_stays BEFORE UPDATE ON audit BEGIN
  SELECT RAISE(ABORT, 'the audit trail is append-only');
END;
CREATE TRIGGER audit_is_kept BEFORE DELETE ON audit
WHEN old.seq > (SELECT COALESCE(MAX(seq), 0) FROM audit_cuts) BEGIN
  SELECT RAISE(ABORT, 'the audit trail is append-only');
END;
-- The OS user who asks.
ALTER TABLE commands ADD COLUMN asked_by TEXT NOT NULL DEFAULT '';
-- The key that this journal is sealed with; no row: it is in clear.
CREATE TABLE sealed (key_id TEXT NOT NULL);
-- The error in our words, which name nobody: never sealed.
ALTER TABLE transactions ADD COLUMN cause TEXT;
"#,
    r#"
-- What came and what is to be done, apart from how far it is: that is written anew with each step.
CREATE TABLE bodies (seq INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE plans (seq INTEGER PRIMARY KEY, plan TEXT NOT NULL);
INSERT INTO bodies SELECT seq, body FROM transactions WHERE length(body) > 0;
INSERT INTO plans SELECT seq, plan FROM transactions WHERE plan IS NOT NULL;
ALTER TABLE transactions DROP COLUMN body;
ALTER TABLE transactions DROP COLUMN plan;
CREATE TRIGGER contents_gone AFTER DELETE ON transactions BEGIN
  DELETE FROM bodies WHERE seq = old.seq;
  DELETE FROM plans WHERE seq = old.seq;
END;
-- What a request is found by; `wakes` is its next day, `claimed` and `completed` when that was first so.
ALTER TABLE follow_ups ADD COLUMN id TEXT;
ALTER TABLE follow_ups ADD COLUMN type TEXT;
ALTER TABLE follow_ups ADD COLUMN client TEXT;
ALTER TABLE follow_ups ADD COLUMN status TEXT;
ALTER TABLE follow_ups ADD COLUMN requester TEXT;
ALTER TABLE follow_ups ADD COLUMN performer TEXT;
ALTER TABLE follow_ups ADD COLUMN flag TEXT;
ALTER TABLE follow_ups ADD COLUMN authored INTEGER;
ALTER TABLE follow_ups ADD COLUMN created INTEGER;
ALTER TABLE follow_ups ADD COLUMN updated INTEGER;
ALTER TABLE follow_ups ADD COLUMN wakes INTEGER;
ALTER TABLE follow_ups ADD COLUMN claimed INTEGER;
ALTER TABLE follow_ups ADD COLUMN completed INTEGER;
ALTER TABLE follow_ups ADD COLUMN outcome TEXT;
ALTER TABLE follow_ups ADD COLUMN program TEXT;
CREATE INDEX follow_ups_by_id ON follow_ups (id);
CREATE INDEX follow_ups_of_client ON follow_ups (kind, client, type, status, updated);
CREATE INDEX follow_ups_of_performer ON follow_ups (kind, performer, type, status, updated);
CREATE INDEX follow_ups_of_kind ON follow_ups (kind, type, status, updated);
CREATE INDEX follow_ups_wake ON follow_ups (wakes) WHERE wakes IS NOT NULL;
-- What was sent as one: transactions' ids, and why others were refused.
CREATE TABLE lists (id TEXT PRIMARY KEY, at INTEGER NOT NULL, content TEXT NOT NULL) WITHOUT ROWID;
-- Clients' FHIR Subscriptions.
CREATE TABLE subscriptions (
  id      TEXT PRIMARY KEY,
  client  TEXT NOT NULL,
  type    TEXT NOT NULL,
  content TEXT NOT NULL
) WITHOUT ROWID;
"#,
    r#"
-- What a client asks for most: of one facility, by one facility, of one day.
CREATE INDEX follow_ups_of_client_for ON follow_ups (kind, client, performer, type, status, updated);
CREATE INDEX follow_ups_of_client_by ON follow_ups (kind, client, requester, type, status, updated);
CREATE INDEX follow_ups_of_client_on ON follow_ups (kind, client, type, status, authored);
"#,
];

/// Brings a journal of any earlier release up to this one. A newer one is refused, not guessed at.
pub(super) fn migrate(connection: &Connection) -> rusqlite::Result<()> {
    let version = refuse_newer(connection)?;
    for (step, statements) in STEPS.iter().enumerate().skip(version) {
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; {statements} PRAGMA user_version = {}; COMMIT;",
            step + 1
        ))?;
    }
    Ok(())
}

/// The schema's version, if this release knows it.
pub(super) fn refuse_newer(connection: &Connection) -> rusqlite::Result<usize> {
    let version: usize = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version > STEPS.len() {
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_SCHEMA),
            Some(format!("this journal was written by a newer release (schema {version})")),
        ));
    }
    Ok(version)
}
