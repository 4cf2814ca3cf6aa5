//! A FHIR R4 server: conditional writes that may be repeated, in one transaction where it takes one.
mod auth;
mod entries;

use super::client::{Answer, Http, client};
use crate::config;
use crate::domain::fhir::{Entry, Target, Write, query_value};
use crate::domain::identifier::Identifier;
use crate::flow::ports::{Failure, FailureKind, FhirServer, Page, ServerIds};
use async_trait::async_trait;
use auth::Auth;
use reqwest::{Method, RequestBuilder, header};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

const FHIR_JSON: &str = "application/fhir+json";
/// Pages of one search that are read.
const MAX_PAGES: usize = 1000;

pub struct FhirApi {
    name: String,
    http: Http,
    base: String,
    auth: Auth,
    transactions: bool,
    success_status: Vec<u16>,
    success_body: BTreeMap<String, Value>,
    /// Resources that are only made where there are none, and are there: a CHW's Practitioner comes with each
    /// of their reports, and must not make them wait for each other.
    there: Mutex<HashMap<String, (String, Instant)>>,
    /// Two messages that bring the same resource at once would create it twice: servers check and
    /// create in two steps.
    locks: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl FhirApi {
    pub fn new(name: &str, settings: &config::FhirServer) -> Result<Self, String> {
        let http = client(Duration::from_millis(settings.timeout_ms), settings.ca_file.as_deref())?;
        Self::over(http.into(), name, settings)
    }

    /// The server is reached by `http`.
    pub fn over(http: Http, name: &str, settings: &config::FhirServer) -> Result<Self, String> {
        let success_body = settings
            .success_body
            .iter()
            .map(|(pointer, value)| {
                Ok((pointer.clone(), serde_json::to_value(value).map_err(|e| e.to_string())?))
            })
            .collect::<Result<_, String>>()?;
        Ok(Self {
            name: name.to_string(),
            auth: Auth::new(settings, http.clone()),
            http,
            base: settings.url.trim_end_matches('/').to_string(),
            transactions: settings.transactions,
            success_status: settings.success_status.clone(),
            success_body,
            there: Mutex::default(),
            locks: Mutex::default(),
        })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = match path.is_empty() {
            true => self.base.clone(),
            false => format!("{}/{path}", self.base),
        };
        // Servers keep answers of searches for a while; ours must be of this moment.
        self.http
            .request(method, url)
            .header(header::ACCEPT, FHIR_JSON)
            .header(header::CACHE_CONTROL, "no-cache")
    }

    async fn send(&self, request: RequestBuilder, body: Option<&Value>) -> Result<Answer, Failure> {
        let request = match body {
            Some(body) => request.header(header::CONTENT_TYPE, FHIR_JSON).body(body.to_string()),
            None => request,
        };
        let again = request.try_clone();
        let answer = self.http.send(self.auth.apply(request).await?, &self.name).await?;
        // A token may end before its time: one more try with a new one tells.
        match again {
            Some(again) if answer.status.as_u16() == 401 && self.auth.renew().await? => {
                self.http.send(self.auth.apply(again).await?, &self.name).await
            }
            _ => Ok(answer),
        }
    }

    /// What the answer to a write holds, if it means success by its status and by what its body says.
    fn succeeded(&self, answer: &Answer) -> Result<Option<Value>, Failure> {
        if !self.success_status.contains(&answer.status.as_u16()) {
            return Err(self.failure(answer));
        }
        let json = self.body(answer)?;
        let unlike = self
            .success_body
            .iter()
            .find(|(pointer, value)| json.as_ref().and_then(|json| json.pointer(pointer)) != Some(value));
        if let Some((pointer, _)) = unlike {
            return Err(Failure::permanent(format!(
                "{} answered {} but {pointer} is not what success looks like",
                self.name, answer.status
            ))
            .in_words(answer.words()));
        }
        Ok(json)
    }

    /// The JSON of an answer with a good status. What cannot be read may be half an answer, or that
    /// of something between us and the server: nobody knows what took effect, so it is tried again.
    fn body(&self, answer: &Answer) -> Result<Option<Value>, Failure> {
        if answer.bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        let said = format!("{} answered {}", self.name, answer.status);
        let Some(json) = answer.json().filter(Value::is_object) else {
            return Err(Failure::transient(format!("{said} with something that is not FHIR"))
                .in_words(answer.words()));
        };
        match entries::error_in(&json) {
            Some(kind) => Err(Failure::new(kind, format!("{said} with an error")).in_words(answer.words())),
            None => Ok(Some(json)),
        }
    }

    /// The answer to a transaction must account for each entry. Servers with an answer of their own
    /// kind say so by `success_body`.
    fn transaction_ids(&self, bundle: &Value, answer: &Answer) -> Result<ServerIds, Failure> {
        let Some(json) = self.succeeded(answer)? else { return Ok(ServerIds::new()) };
        if self.success_body.is_empty() {
            entries::accounted_for(bundle, &json).map_err(|(kind, what)| {
                Failure::new(kind, format!("{} answered {} {what}", self.name, answer.status))
            })?;
        }
        Ok(entries::ids_of(bundle, &json))
    }

    /// 412 on a conditional write means several matches; with If-Match, that somebody was faster.
    fn failure(&self, answer: &Answer) -> Failure {
        let failure = answer.failure(&self.name);
        match answer.status.as_u16() {
            412 => Failure {
                kind: FailureKind::Permanent,
                message: format!("{}; two resources there have the same identifier", failure.message),
                ..failure
            },
            _ => failure,
        }
    }

    /// The resource with this identifier, if there is exactly one.
    async fn by_identifier(&self, kind: &str, identifier: &Identifier) -> Result<Option<Value>, Failure> {
        let mut found = self.search(kind, &[("identifier", &identifier.token())]).await?;
        if found.iter().any(|resource| !entries::goes_by(resource, identifier)) {
            return Err(Failure::transient(format!(
                "{} answered a search by an identifier of {} with a {kind} that does not have it",
                self.name, identifier.system
            )));
        }
        match found.len() {
            0 | 1 => Ok(found.pop()),
            n => Err(Failure::permanent(format!(
                "{} has {n} {kind} resources with the same identifier of {}; merge them there, then rerun",
                self.name, identifier.system
            ))),
        }
    }

    /// What the server has of an entry.
    async fn existing(&self, entry: &Entry) -> Result<Option<Value>, Failure> {
        match &entry.target {
            Target::Id(reference) => self.read(reference).await,
            Target::Identifier(identifier) => self.by_identifier(entry.resource_type(), identifier).await,
        }
    }

    /// What the server has of each entry. A resource that was deleted there is looked for
    /// by its identifier, and else made anew: servers give ids themselves.
    async fn look_up(&self, entries: &mut [Entry]) -> Result<Vec<Option<Value>>, Failure> {
        let mut existing = Vec::with_capacity(entries.len());
        for entry in entries {
            // What is replaced by its identifier the server finds itself.
            if entries::is_replaced(entry) {
                existing.push(None);
                continue;
            }
            let mut there = self.existing(entry).await?;
            if there.is_none()
                && matches!(entry.target, Target::Id(_))
                && let Some(identifier) = entries::first_identifier(&entry.resource)
            {
                entry.target = Target::Identifier(identifier);
                there = self.existing(entry).await?;
            }
            existing.push(there);
        }
        Ok(existing)
    }

    async fn write_together(&self, mut entries: Vec<Entry>) -> Result<ServerIds, Failure> {
        let existing = self.look_up(&mut entries).await?;
        let (bundle, mut ids) = entries::transaction(entries, existing);
        if bundle["entry"].as_array().is_some_and(|all| !all.is_empty()) {
            let answer = self.send(self.request(Method::POST, ""), Some(&bundle)).await?;
            let told = self.transaction_ids(&bundle, &answer);
            ids.extend(told.map_err(|failure| conflict_is_transient(failure, &answer))?);
        }
        Ok(ids)
    }

    /// One by one; each refers to those before it by the ids that the server gave them.
    async fn write_singly(&self, entries: Vec<Entry>) -> Result<ServerIds, Failure> {
        let mut ids = ServerIds::new();
        for mut entry in entries::referred_first(entries) {
            let existing = match entries::is_replaced(&entry) {
                true => self.existing(&entry).await?,
                false => self.look_up(std::slice::from_mut(&mut entry)).await?.pop().flatten(),
            };
            let full_url = entry.full_url.clone();
            let reference = self.write_one(entry, existing, &ids).await?;
            ids.insert(full_url, reference);
        }
        Ok(ids)
    }

    async fn write_one(
        &self,
        entry: Entry,
        existing: Option<Value>,
        ids: &ServerIds,
    ) -> Result<String, Failure> {
        let kind = entry.resource_type().to_string();
        let target = entry.target.clone();
        let (method, path, mut body) = match entries::planned(entry, existing.as_ref()) {
            entries::Planned::Nothing(reference) => return Ok(reference),
            entries::Planned::Update(reference, body) => (Method::PUT, reference, body),
            entries::Planned::Create(body) => (Method::POST, kind.clone(), body),
        };
        entries::refer(&mut body, ids);
        let mut request = self.request(method.clone(), &path);
        if let (Target::Identifier(identifier), true) = (&target, method == Method::POST) {
            request =
                request.header("If-None-Exist", format!("identifier={}", query_value(&identifier.token())));
        }
        if let Some(version) = existing.as_ref().and_then(entries::version) {
            request = request.header(header::IF_MATCH, format!("W/\"{version}\""));
        }
        let answer = self.send(request, Some(&body)).await?;
        self.succeeded(&answer).map_err(|failure| conflict_is_transient(failure, &answer))?;
        entries::reference_of(&kind, &path, &answer).ok_or_else(|| {
            Failure::transient(format!("{} did not say which id it gave the {kind}", self.name))
        })
    }

    /// A good status that no reading has comes from something between us and the server.
    fn unread(&self, answer: &Answer) -> Failure {
        match answer.status.is_success() {
            true => self.not_what_was_asked(None),
            false => self.failure(answer),
        }
    }

    fn not_what_was_asked(&self, kind: Option<&str>) -> Failure {
        Failure::transient(format!(
            "{} answered a search or a reading without a {}",
            self.name,
            kind.unwrap_or("resource")
        ))
    }

    /// The reference of what was there a while ago.
    fn is_there(&self, key: &str) -> Option<String> {
        let there = self.there.lock().unwrap_or_else(PoisonError::into_inner);
        there.get(key).filter(|(_, at)| at.elapsed() < THERE).map(|(reference, _)| reference.clone())
    }

    /// `kept` are keys, and what each is called among the entries.
    fn note_there(&self, kept: Vec<(String, String)>, ids: &ServerIds) {
        let mut there = self.there.lock().unwrap_or_else(PoisonError::into_inner);
        if there.len() > 10_000 {
            there.clear();
        }
        for (key, full_url) in kept {
            if let Some(reference) = ids.get(&full_url) {
                there.insert(key, (reference.clone(), Instant::now()));
            }
        }
    }

    fn forget_there(&self, keys: &[String]) {
        let mut there = self.there.lock().unwrap_or_else(PoisonError::into_inner);
        keys.iter().for_each(|key| drop(there.remove(key)));
    }

    async fn write_locked(&self, entries: Vec<Entry>) -> Result<ServerIds, Failure> {
        if entries.is_empty() {
            return Ok(ServerIds::new());
        }
        let mut keys: Vec<String> = entries
            .iter()
            .map(|entry| match &entry.target {
                Target::Identifier(identifier) => format!("{} {}", entry.resource_type(), identifier.token()),
                Target::Id(reference) => reference.clone(),
            })
            .collect();
        // In one order, so that two writes cannot wait for each other.
        keys.sort();
        keys.dedup();
        let locks: Vec<_> = keys.into_iter().map(|key| self.lock_of(key)).collect();
        let mut held = Vec::with_capacity(locks.len());
        for lock in &locks {
            held.push(lock.lock().await);
        }
        match self.transactions {
            true => self.write_together(entries).await,
            false => self.write_singly(entries).await,
        }
    }

    fn lock_of(&self, key: String) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        if locks.len() > 10_000 {
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        }
        locks.entry(key).or_default().clone()
    }
}

/// How long what was there counts as being there.
const THERE: Duration = Duration::from_secs(600);

/// Of what is only to be there.
fn there_key(entry: &Entry) -> Option<String> {
    match (&entry.write, &entry.target) {
        (Write::CreateIfMissing, Target::Identifier(identifier)) => {
            Some(format!("{} {}", entry.resource_type(), identifier.token()))
        }
        _ => None,
    }
}

/// Somebody else changed the resource between our look and our write: look again.
fn conflict_is_transient(failure: Failure, answer: &Answer) -> Failure {
    let raced = answer.status.as_u16() == 412 && !answer.words().to_lowercase().contains("multiple");
    match raced {
        true => Failure { kind: FailureKind::Transient(None), ..failure },
        false => failure,
    }
}

#[async_trait]
impl FhirServer for FhirApi {
    async fn write(&self, entries: Vec<Entry>) -> Result<ServerIds, Failure> {
        let (mut known, mut there) = (ServerIds::new(), Vec::new());
        let (mut wanted, mut kept) = (Vec::with_capacity(entries.len()), Vec::new());
        for entry in entries {
            let key = there_key(&entry);
            match key.as_ref().and_then(|key| self.is_there(key)) {
                Some(reference) => {
                    known.insert(entry.full_url, reference);
                    there.extend(key);
                }
                None => {
                    kept.extend(key.map(|key| (key, entry.full_url.clone())));
                    wanted.push(entry);
                }
            }
        }
        if !known.is_empty() {
            wanted.iter_mut().for_each(|entry| entries::refer(&mut entry.resource, &known));
        }
        match self.write_locked(wanted).await {
            Ok(ids) => {
                self.note_there(kept, &ids);
                known.extend(ids);
                Ok(known)
            }
            // One of them may have been deleted: the next try looks.
            Err(failure) if failure.kind == FailureKind::Permanent && !known.is_empty() => {
                self.forget_there(&there);
                Err(Failure { kind: FailureKind::Transient(None), ..failure })
            }
            Err(failure) => Err(failure),
        }
    }

    async fn read(&self, reference: &str) -> Result<Option<Value>, Failure> {
        let safe = reference.split('/').count() == 2
            && reference.bytes().all(|b| b.is_ascii_alphanumeric() || b"-./".contains(&b))
            && !reference.contains("..");
        if !safe {
            return Ok(None);
        }
        let answer = self.send(self.request(Method::GET, reference), None).await?;
        match answer.status.as_u16() {
            200 => {
                let (kind, id) = reference.split_once('/').unzip();
                let is_it =
                    |found: &Value| found["resourceType"].as_str() == kind && found["id"].as_str() == id;
                let found = self.body(&answer)?.filter(is_it);
                found.map(Some).ok_or_else(|| self.not_what_was_asked(kind))
            }
            404 | 410 => Ok(None),
            _ => Err(self.unread(&answer)),
        }
    }

    async fn search(&self, kind: &str, query: &[(&str, &str)]) -> Result<Vec<Value>, Failure> {
        let mut found = Vec::new();
        let mut page = self.page(kind, query, None).await?;
        for _ in 0..MAX_PAGES {
            found.append(&mut page.resources);
            match page.next {
                Some(next) => page = self.page(kind, query, Some(&next)).await?,
                None => return Ok(found),
            }
        }
        Err(Failure::permanent(format!("{}: a search for {kind} has no end", self.name)))
    }

    async fn page(&self, kind: &str, query: &[(&str, &str)], next: Option<&str>) -> Result<Page, Failure> {
        let query: Vec<String> =
            query.iter().map(|(key, value)| format!("{key}={}", query_value(value))).collect();
        let path = next.map_or_else(|| format!("{kind}?{}", query.join("&")), String::from);
        let answer = self.send(self.request(Method::GET, &path), None).await?;
        if answer.status.as_u16() != 200 {
            return Err(self.unread(&answer));
        }
        // Nothing found and nothing understood are not the same: the one creates, the other must not.
        let page = self.body(&answer)?.filter(|page| page["resourceType"] == "Bundle");
        let page = page.ok_or_else(|| self.not_what_was_asked(Some("Bundle")))?;
        let matches = page["entry"].as_array().into_iter().flatten();
        let resources = matches
            .filter(|e| e["search"]["mode"] != "outcome")
            .map(|e| e["resource"].clone())
            .filter(|r| r["resourceType"] == kind)
            .collect();
        Ok(Page { resources, next: entries::next_page(&page, &self.base) })
    }
}
