//! What a journal says of people is sealed before SQLite writes it: AES-256-SIV (RFC 5297).
//!
//! That cipher is deterministic: the same value in the same place is sealed alike. So a name is found by
//! equality without being readable, and no randomness has to be trusted. Everything else is bound to its
//! row and column, and opens nowhere else.
//!
//! SQL does it, by functions of each connection: `seal` and `unseal` (column, row, value), `name` and
//! `unname` (value). In a journal without a key they give back what they are given.
//!
//! A journal is sealed whole, under one key, or not at all; `rekey` brings it from one to the other.
use aes_siv::KeyInit;
use aes_siv::siv::Aes256Siv;
use hkdf::Hkdf;
use rusqlite::functions::{Context, FunctionFlags, SqlFnArg};
use rusqlite::types::{ToSql, ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, Error, OptionalExtension, Result};
use secrecy::{ExposeSecret, ExposeSecretMut, SecretBox};
use sha2::Sha256;
use std::cell::RefCell;
use std::sync::Arc;

/// In front of every sealed value: which way it was sealed.
const VERSION: u8 = 1;
const FLAGS: FunctionFlags = FunctionFlags::SQLITE_UTF8
    .union(FunctionFlags::SQLITE_DETERMINISTIC)
    .union(FunctionFlags::SQLITE_DIRECTONLY);

/// A journal's key, and what it may be called.
pub struct Key {
    /// Eight hexadecimal digits that say nothing of the key.
    pub id: String,
    secret: SecretBox<[u8; 64]>,
}

impl Key {
    pub fn new(secret: &SecretBox<[u8; 32]>) -> Self {
        let derived = Hkdf::<Sha256>::new(None, secret.expose_secret());
        let expand = |purpose: &str, bytes: &mut [u8]| {
            derived.expand(purpose.as_bytes(), bytes).expect("HKDF gives up to 255 hashes");
        };
        let mut id = [0; 4];
        expand("cht-fhir-mediator journal: id", &mut id);
        let mut own = SecretBox::new(Box::new([0; 64]));
        expand("cht-fhir-mediator journal: AES-256-SIV", own.expose_secret_mut());
        Self { id: id.iter().map(|byte| format!("{byte:02x}")).collect(), secret: own }
    }
}

/// The keys that may open a journal, newest first; the newest seals.
#[derive(Clone, Default)]
pub struct Keys(Vec<Arc<Key>>);

impl Keys {
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a SecretBox<[u8; 32]>>) -> Self {
        Self(secrets.into_iter().map(|secret| Arc::new(Key::new(secret))).collect())
    }

    pub fn newest(&self) -> Option<&Arc<Key>> {
        self.0.first()
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.with_id(id).is_some()
    }

    fn with_id(&self, id: &str) -> Option<&Arc<Key>> {
        self.0.iter().find(|key| key.id == id)
    }

    /// How a journal is kept with these.
    pub fn kept(&self) -> String {
        match self.newest() {
            Some(key) => format!("sealed with the key {}", key.id),
            None => "kept in clear (journal.key is not given)".into(),
        }
    }

    fn in_words(&self) -> String {
        match self.0.is_empty() {
            true => "journal.key is not given".into(),
            false => {
                let ids: Vec<&str> = self.0.iter().map(|key| key.id.as_str()).collect();
                format!("journal.key is {}", ids.join(", "))
            }
        }
    }
}

/// How a journal is kept.
#[derive(Clone)]
pub(super) enum Seal {
    Clear,
    With(Arc<Key>),
    /// Under a key of this id, which we do not have: what is sealed reads as NULL.
    Locked(String),
}

impl Seal {
    /// As the journal says; one that holds nothing yet is from now on sealed with the newest key.
    pub(super) fn of(c: &Connection, keys: &Keys) -> Result<Self> {
        let known = c.query_row("SELECT key_id FROM sealed", [], |row| row.get::<_, String>(0)).optional()?;
        match (known, keys.newest()) {
            (Some(id), _) => Ok(keys.with_id(&id).cloned().map_or(Self::Locked(id), Self::With)),
            (None, Some(newest)) if is_empty(c)? => {
                c.execute("INSERT INTO sealed (key_id) VALUES (?1)", [&newest.id])?;
                Ok(Self::With(newest.clone()))
            }
            (None, _) => Ok(Self::Clear),
        }
    }

    pub(super) fn key_id(&self) -> Option<&str> {
        match self {
            Self::Clear => None,
            Self::With(key) => Some(&key.id),
            Self::Locked(id) => Some(id),
        }
    }

    /// Why nobody may work with it so.
    pub(super) fn objection(&self, keys: &Keys) -> Option<String> {
        match self {
            Self::Locked(id) => Some(format!(
                "the journal is sealed with the key {id}, and {}; give that key, after the newest if there \
                 is a newer one",
                keys.in_words()
            )),
            Self::Clear if keys.newest().is_some() => Some(
                "the journal is in clear although journal.key is given; seal it first: \
                 `cht-fhir-mediator journal rekey`"
                    .into(),
            ),
            Self::Clear | Self::With(_) => None,
        }
    }

    pub(super) fn install(&self, c: &Connection) -> Result<()> {
        self.install_sealing(c)?;
        self.install_opening(c)
    }

    pub(super) fn install_sealing(&self, c: &Connection) -> Result<()> {
        // What SQLite sorts must not be written elsewhere in clear.
        c.pragma_update(None, "temp_store", "MEMORY")?;
        let cipher = self.cipher();
        c.create_scalar_function("seal", 3, FLAGS, move |ctx| cipher.seal(ctx, 2))?;
        let cipher = self.cipher();
        c.create_scalar_function("name", 1, FLAGS, move |ctx| cipher.seal(ctx, 0))
    }

    pub(super) fn install_opening(&self, c: &Connection) -> Result<()> {
        let cipher = self.cipher();
        c.create_scalar_function("unseal", 3, FLAGS, move |ctx| cipher.unseal(ctx, 2))?;
        let cipher = self.cipher();
        c.create_scalar_function("unname", 1, FLAGS, move |ctx| cipher.unseal(ctx, 0))
    }

    fn cipher(&self) -> Cipher {
        match self {
            Self::Clear => Cipher::None,
            Self::With(key) => {
                Cipher::Siv(Box::new(RefCell::new(Aes256Siv::new(key.secret.expose_secret().into()))))
            }
            Self::Locked(id) => Cipher::Missing(id.clone()),
        }
    }
}

fn is_empty(c: &Connection) -> Result<bool> {
    let sql = "SELECT NOT EXISTS (SELECT 1 FROM transactions) AND NOT EXISTS (SELECT 1 FROM identifiers) \
               AND NOT EXISTS (SELECT 1 FROM follow_ups) AND NOT EXISTS (SELECT 1 FROM directory) AND NOT EXISTS (SELECT 1 FROM audit)";
    c.query_row(sql, [], |row| row.get(0))
}

enum Cipher {
    None,
    Siv(Box<RefCell<Aes256Siv>>),
    Missing(String),
}

enum Made {
    Same(SqlFnArg),
    New(Value),
}

impl ToSql for Made {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        match self {
            Self::Same(argument) => argument.to_sql(),
            Self::New(value) => value.to_sql(),
        }
    }
}

impl Cipher {
    /// The arguments before the one at `at` say where the value belongs.
    fn seal(&self, ctx: &Context, at: usize) -> Result<Made> {
        let plain = match ctx.get_raw(at) {
            ValueRef::Text(bytes) => bytes,
            ValueRef::Blob(bytes) if !bytes.is_empty() => bytes,
            _ => return Ok(Made::Same(ctx.get_arg(at))),
        };
        match self {
            Self::None => Ok(Made::Same(ctx.get_arg(at))),
            Self::Siv(siv) => {
                let sealed = siv.borrow_mut().encrypt(place(ctx, at), plain);
                let mut sealed = sealed.map_err(|_| refused("a value cannot be sealed".into()))?;
                sealed.insert(0, VERSION);
                Ok(Made::New(Value::Blob(sealed)))
            }
            Self::Missing(id) => {
                Err(refused(format!("the journal is sealed with the key {id}, which is not given")))
            }
        }
    }

    fn unseal(&self, ctx: &Context, at: usize) -> Result<Made> {
        let same = || Ok(Made::Same(ctx.get_arg(at)));
        match (self, ctx.get_raw(at)) {
            (_, ValueRef::Null) | (Self::None, _) => same(),
            // Removed when its days were over.
            (_, ValueRef::Blob([])) => same(),
            (Self::Missing(_), _) => Ok(Made::New(Value::Null)),
            (Self::Siv(siv), ValueRef::Blob([VERSION, sealed @ ..])) => {
                let opened =
                    siv.borrow_mut().decrypt(place(ctx, at), sealed).map_err(|_| foreign(ctx, at))?;
                Ok(Made::New(
                    String::from_utf8(opened).map_or_else(|e| Value::Blob(e.into_bytes()), Value::Text),
                ))
            }
            (Self::Siv(_), _) => Err(foreign(ctx, at)),
        }
    }
}

/// Where a value belongs: its column and row; a name is the same everywhere.
fn place<'a>(ctx: &'a Context, at: usize) -> impl Iterator<Item = &'a [u8]> {
    (0..at).map(|i| ctx.get_raw(i).as_bytes().unwrap_or_default())
}

/// Not of this journal, not of this row, or damaged.
fn foreign(ctx: &Context, at: usize) -> Error {
    let text = |i: usize| ctx.get_raw(i).as_str().unwrap_or_default();
    // Of rows only a transaction's id may be told: others go by what they hold.
    let what = match at {
        0 => "a name".to_string(),
        _ if uuid::Uuid::parse_str(text(1)).is_ok() => format!("{} of {}", text(0), text(1)),
        _ => text(0).to_string(),
    };
    refused(format!(
        "{what} does not open with the journal's key: the file is damaged or was changed by other hands"
    ))
}

fn refused(words: String) -> Error {
    Error::UserFunctionError(words.into())
}

#[cfg(test)]
mod tests;
