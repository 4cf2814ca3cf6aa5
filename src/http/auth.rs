//! Who calls: Basic and Bearer clients, whose secrets we have as argon2 hashes only.
use crate::config::{self, Role};
use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use base64::Engine;
use hyper::header::HeaderValue;
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

/// Hashes that are checked at once: each takes 19 MiB and some 20 ms.
const CHECKS: usize = 2;
/// Checks that may wait for their turn.
const WAITING: usize = 64;
/// Bearer tokens without an id in them are compared with this many clients' hashes at most.
const BEARERS: usize = 50;

#[derive(Clone)]
pub struct Caller {
    pub id: String,
    pub roles: Vec<Role>,
    /// The destination whose own ids this client's resources have.
    pub destination: Option<String>,
    /// The prefix by which it came (`server.base_path`), or nothing.
    pub base: String,
    /// It is OpenHIM's core, and speaks for others.
    pub is_core: bool,
    /// OpenHIM's transaction that this request is part of.
    pub via: Option<String>,
    /// OpenHIM's transaction that this one repeats.
    pub again: Option<String>,
    /// The IP address that it calls from.
    pub from: Option<String>,
}

impl Caller {
    pub fn may(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum Denied {
    Missing,
    Wrong,
    TooBusy,
    Role,
}

struct Known {
    caller: Caller,
    hash: String,
}

pub struct Clients {
    known: Vec<Known>,
    open: bool,
    /// Verified pairs of client and secret, as digests under a key of this process.
    verified: Mutex<HashSet<[u8; 32]>>,
    key: [u8; 32],
    checks: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// What a caller shows: an id, if the scheme has one, and a secret.
struct Shown {
    id: Option<String>,
    secret: Vec<u8>,
}

impl Clients {
    /// `open`: no clients are configured, and everybody who reaches us may do everything.
    pub fn new(clients: &[config::Client], open: bool) -> Self {
        let known = clients
            .iter()
            .map(|client| Known {
                caller: Caller {
                    id: client.id.clone(),
                    roles: client.roles.clone(),
                    destination: client.destination.clone(),
                    base: String::new(),
                    is_core: client.openhim,
                    via: None,
                    again: None,
                    from: None,
                },
                hash: client.secret.expose_secret().to_string(),
            })
            .collect();
        Self {
            known,
            open,
            verified: Mutex::default(),
            key: rand::random(),
            checks: Arc::new(Semaphore::new(CHECKS)),
            waiting: Arc::new(Semaphore::new(WAITING)),
        }
    }

    pub async fn authenticate(&self, authorization: Option<&HeaderValue>) -> Result<Caller, Denied> {
        if self.open {
            let roles = vec![Role::Push, Role::Fhir, Role::Admin, Role::Lookup];
            return Ok(Caller {
                id: "anonymous".into(),
                roles,
                destination: None,
                base: String::new(),
                is_core: true,
                via: None,
                again: None,
                from: None,
            });
        }
        let shown = read(authorization.ok_or(Denied::Missing)?).ok_or(Denied::Wrong)?;
        let candidates: Vec<&Known> = match &shown.id {
            Some(id) => self.known.iter().filter(|known| known.caller.id == *id).collect(),
            None => self.known.iter().take(BEARERS).collect(),
        };
        if let Some(known) = candidates.iter().find(|known| self.is_verified(known, &shown.secret)) {
            return Ok(known.caller.clone());
        }
        self.check(&candidates, shown.secret).await
    }

    /// The client that a caller claims to be, if there is such a one. Whether they are it is another question.
    pub fn claimed(&self, authorization: Option<&HeaderValue>) -> Option<&str> {
        let id = read(authorization?)?.id?;
        self.known.iter().map(|known| known.caller.id.as_str()).find(|known| *known == id)
    }

    async fn check(&self, candidates: &[&Known], secret: Vec<u8>) -> Result<Caller, Denied> {
        let _waits = self.waiting.clone().try_acquire_owned().map_err(|_| Denied::TooBusy)?;
        let turn = self.checks.clone().acquire_owned().await.map_err(|_| Denied::TooBusy)?;
        let mut hashes: Vec<String> = candidates.iter().map(|known| known.hash.clone()).collect();
        if hashes.is_empty() {
            // An unknown id takes as long as a wrong secret. A hit here is nobody.
            hashes.extend(self.known.first().map(|known| known.hash.clone()));
        }
        let tried = secret.clone();
        let hit = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            hashes.iter().position(|hash| matches(hash, &tried))
        })
        .await
        .map_err(|_| Denied::TooBusy)?;
        let known = hit.and_then(|i| candidates.get(i)).ok_or(Denied::Wrong)?;
        self.verified.lock().unwrap_or_else(PoisonError::into_inner).insert(self.digest(known, &secret));
        Ok(known.caller.clone())
    }

    fn is_verified(&self, known: &Known, secret: &[u8]) -> bool {
        let digest = self.digest(known, secret);
        let verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        verified.iter().any(|kept| bool::from(kept.ct_eq(&digest)))
    }

    fn digest(&self, known: &Known, secret: &[u8]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.key);
        hash.update((known.caller.id.len() as u64).to_le_bytes());
        hash.update(known.caller.id.as_bytes());
        hash.update(secret);
        hash.finalize().into()
    }
}

fn matches(hash: &str, secret: &[u8]) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| Argon2::default().verify_password(secret, &hash).is_ok())
}

/// An argon2id hash (PHC string) with a salt of its own.
pub fn hash_secret(secret: &str) -> Result<String, String> {
    Argon2::default().hash_password(secret.as_bytes()).map(|hash| hash.to_string()).map_err(|e| e.to_string())
}

/// Whether a text is a hash that we can check secrets against.
pub fn is_hash(text: &str) -> bool {
    text.starts_with("$argon2") && PasswordHash::new(text).is_ok()
}

/// `Basic base64(id:secret)` (RFC 7617), or `Bearer token` (RFC 6750); a token `id.secret` or
/// `id:secret` says whose it is.
fn read(header: &HeaderValue) -> Option<Shown> {
    let (scheme, rest) = header.to_str().ok()?.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("basic") {
        let plain = base64::engine::general_purpose::STANDARD.decode(rest).ok()?;
        let colon = plain.iter().position(|byte| *byte == b':')?;
        let id = String::from_utf8(plain[..colon].to_vec()).ok()?;
        return Some(Shown { id: Some(id), secret: plain[colon + 1..].to_vec() })
            .filter(|s| !s.secret.is_empty());
    }
    if scheme.eq_ignore_ascii_case("bearer") && !rest.is_empty() {
        let (id, secret) = match rest.split_once(':').or_else(|| rest.split_once('.')) {
            // A dot may be part of a token that names nobody: then all clients are asked.
            Some((id, secret)) if !secret.contains('.') => (Some(id.to_string()), secret),
            _ => (None, rest),
        };
        return Some(Shown { id, secret: secret.as_bytes().to_vec() });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::SecretString;

    fn clients() -> Clients {
        let client = |id: &str, secret: &str, roles: &[Role]| config::Client {
            id: id.into(),
            secret: SecretString::from(hash_secret(secret).expect("a hash")),
            roles: roles.to_vec(),
            destination: None,
            facilities: Vec::new(),
            openhim: false,
        };
        let all = [client("cht", "s:ecret", &[Role::Push]), client("emr", "token", &[Role::Fhir])];
        Clients::new(&all, false)
    }

    fn basic(text: &[u8]) -> HeaderValue {
        let text = base64::engine::general_purpose::STANDARD.encode(text);
        HeaderValue::from_str(&format!("Basic {text}")).expect("a header")
    }

    async fn who(clients: &Clients, header: HeaderValue) -> Result<String, Denied> {
        clients.authenticate(Some(&header)).await.map(|caller| caller.id)
    }

    #[tokio::test]
    async fn the_right_secret_is_known_and_remembered() {
        let clients = clients();
        assert_eq!(who(&clients, basic(b"cht:s:ecret")).await, Ok("cht".into()));
        let started = std::time::Instant::now();
        assert_eq!(who(&clients, basic(b"cht:s:ecret")).await, Ok("cht".into()));
        assert!(started.elapsed().as_millis() < 5, "the second time costs no hash");
        assert_eq!(who(&clients, HeaderValue::from_static("Bearer emr.token")).await, Ok("emr".into()));
        assert_eq!(who(&clients, HeaderValue::from_static("bearer token")).await, Ok("emr".into()));
    }

    #[tokio::test]
    async fn every_other_way_is_refused() {
        let clients = clients();
        assert_eq!(clients.authenticate(None).await.err(), Some(Denied::Missing));
        for header in [
            basic(b"cht:wrong"),
            basic(b"cht:token"),
            basic(b"cht:"),
            basic(b"cht"),
            basic(b"nobody:s:ecret"),
            basic(b"\xff\xfe:x"),
            basic(b":s:ecret"),
            HeaderValue::from_static("Basic !!!"),
            HeaderValue::from_static("Basic"),
            HeaderValue::from_static("Digest x"),
            HeaderValue::from_static("Bearer "),
            HeaderValue::from_static("Bearer cht.token"),
            HeaderValue::from_bytes(b"Basic \xff").expect("a header"),
            HeaderValue::from_str(&format!("Bearer {}", "x".repeat(60_000))).expect("a header"),
        ] {
            assert_eq!(who(&clients, header.clone()).await, Err(Denied::Wrong), "{header:?}");
        }
    }

    #[tokio::test]
    async fn a_remembered_secret_is_one_clients_alone() {
        let clients = clients();
        assert_eq!(who(&clients, basic(b"emr:token")).await, Ok("emr".into()));
        assert_eq!(who(&clients, basic(b"cht:token")).await, Err(Denied::Wrong));
    }

    #[tokio::test]
    async fn without_clients_everybody_is_let_in_and_called_anonymous() {
        let open = Clients::new(&[], true);
        let caller = open.authenticate(None).await.expect("let in");
        assert!(caller.id == "anonymous" && caller.may(Role::Admin));
    }
}
