//! CHT's REST API, as its contract has it: one class of trap a function.
use super::client::{Answer, Http, client};
use crate::config;
use crate::domain::person::Change;
use crate::domain::record::Record;
use crate::flow::ports::{Cht, Failure, FailureKind};
use crate::planted::{Bug, is_planted};
use async_trait::async_trait;
use reqwest::{Method, RequestBuilder, header};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::time::Duration;

/// Words of CHT's 500 answers that are mistakes of the caller: repeating them changes nothing.
const CLIENT_MISTAKES: &[&str] = &["Form not found", "Missing _meta property", "Missing required field"];

/// Documents that are hydrated by one call.
const HYDRATED: usize = 100;

pub struct ChtApi {
    http: Http,
    base: String,
    username: String,
    password: Option<secrecy::SecretString>,
    index_lag: Duration,
}

impl ChtApi {
    pub fn new(settings: &config::Cht) -> Result<Self, String> {
        let http = client(Duration::from_millis(settings.timeout_ms), settings.ca_file.as_deref())?;
        Ok(Self::over(http.into(), settings))
    }

    /// CHT is reached by `http`.
    pub fn over(http: Http, settings: &config::Cht) -> Self {
        Self {
            http,
            base: settings.url.trim_end_matches('/').to_string(),
            username: settings.username.clone(),
            password: settings.password.clone(),
            index_lag: Duration::from_millis(settings.index_lag_ms),
        }
    }

    /// `Accept` always: without it a wrong password is a redirect to a login page.
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self
            .http
            .request(method, format!("{}{path}", self.base))
            .header(header::ACCEPT, "application/json");
        match (&self.password, self.username.is_empty()) {
            (Some(password), false) => request.basic_auth(&self.username, Some(password.expose_secret())),
            _ => request,
        }
    }

    async fn get(&self, path: &str) -> Result<Option<Value>, Failure> {
        self.answered(self.request(Method::GET, path)).await
    }

    /// CHT takes exactly this content type, so the body is not left to the client's `json`.
    fn sent(&self, method: Method, path: &str, body: &Value) -> RequestBuilder {
        let request = self.request(method, path);
        request.header(header::CONTENT_TYPE, "application/json").body(body.to_string())
    }

    /// A question whose words are nobody's business, so they are not in the address.
    async fn asked(&self, path: &str, body: &Value) -> Result<Option<Value>, Failure> {
        self.answered(self.sent(Method::POST, path, body)).await
    }

    async fn answered(&self, request: RequestBuilder) -> Result<Option<Value>, Failure> {
        let answer = checked(self.http.send(request, "CHT").await?)?;
        match answer.status.as_u16() {
            200 => answer.json().map(Some).ok_or_else(not_json),
            404 => Ok(None),
            _ => Err(answer.failure("CHT")),
        }
    }

    /// The report that an earlier attempt at this record made, if it is there.
    async fn find(&self, record: &Record) -> Result<Option<String>, Failure> {
        let Some(value) = record.fields.get(&record.lookup_field).and_then(Value::as_str) else {
            return Ok(None);
        };
        // CHT indexes no shorter and no longer texts.
        let candidates = match (3..=1000).contains(&value.len()) {
            true => self.candidates(&record.lookup_field, value, record).await?,
            false => self.candidates_by_subject(record).await?,
        };
        for uuid in candidates {
            if let Some(report) = self.report(&uuid).await?
                && is_ours(&report, record)
            {
                return Ok(Some(uuid));
            }
        }
        Ok(None)
    }

    /// A report, also below CHT 4.18, where only `hydrate` shows it.
    async fn report(&self, uuid: &str) -> Result<Option<Value>, Failure> {
        if let Some(report) = self.get(&format!("/api/v1/report/{}", encode(uuid))).await? {
            return Ok(Some(report));
        }
        let ids = Value::from(vec![uuid]).to_string();
        let found = self.get(&format!("/api/v1/hydrate?doc_ids={}", encode(&ids))).await?;
        let one = found.and_then(|found| found.get(0).cloned()).filter(|one| one["id"] == uuid);
        Ok(one.and_then(|one| one.get("doc").cloned()))
    }

    /// Reports that may be it: by the full-text index, and below CHT 4.18 by the patient's view.
    async fn candidates(&self, field: &str, value: &str, record: &Record) -> Result<Vec<String>, Failure> {
        let mut found = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut path = format!(
                "/api/v1/report/uuid?freetext={}",
                encode(&format!("{field}:{}", value.to_lowercase()))
            );
            if let Some(cursor) = &cursor {
                path.push_str(&format!("&cursor={}", encode(cursor)));
            }
            let Some(page) = self.get(&path).await? else { return self.candidates_by_subject(record).await };
            found.extend(strings(list(&page, "data")?));
            cursor = page["cursor"].as_str().map(String::from);
            if cursor.is_none() || found.len() > 1000 {
                return Ok(found);
            }
        }
    }

    async fn candidates_by_subject(&self, record: &Record) -> Result<Vec<String>, Failure> {
        let patient = ["patient_uuid", "patient_id"].iter().find_map(|key| record.fields.get(*key)?.as_str());
        let rows = self.rows_about(patient.unwrap_or_default()).await?;
        Ok(rows.iter().filter_map(|row| row["id"].as_str().map(String::from)).collect())
    }

    /// Of the view that has each report under everybody whom it is about.
    async fn rows_about(&self, subject: &str) -> Result<Vec<Value>, Failure> {
        let key = encode(&Value::from(subject).to_string());
        let view = format!("/medic/_design/medic-client/_view/reports_by_subject?key={key}");
        let Some(page) = self.get(&view).await? else { return Ok(Vec::new()) };
        list(&page, "rows").cloned()
    }

    /// A report can be saved with errors although the answer was 200: only reading it back tells.
    async fn read_back(&self, uuid: &str, form: &str) -> Result<(), Failure> {
        let Some(report) = self.report(uuid).await? else {
            return Err(Failure::transient(format!("CHT does not show the {form} report that it made")));
        };
        let errors = words_of_errors(&report);
        if errors.is_empty() {
            return Ok(());
        }
        Err(Failure::permanent(format!("CHT saved the {form} report with errors"))
            .in_words(errors.join("; ")))
    }

    async fn post(&self, record: &Record) -> Result<String, Failure> {
        let request = self.sent(Method::POST, "/api/v2/records", &record.body());
        let answer = self.http.attempt(request, "CHT").await.map_err(|broken| match broken.sent {
            true => self.in_doubt(broken.failure),
            false => broken.failure,
        })?;
        let answer = checked(answer).map_err(|failure| self.in_doubt(failure))?;
        let json = answer.json();
        let made = json.as_ref().and_then(|json| json["id"].as_str().filter(|_| json["success"] == true));
        match (answer.status.as_u16(), made) {
            (200, Some(id)) => Ok(id.to_string()),
            (200, None) => {
                Err(self.in_doubt(Failure::transient("CHT answered 200 without the id of a report")))
            }
            (500, _) if CLIENT_MISTAKES.iter().any(|words| answer.words().contains(words)) => {
                Err(Failure::permanent("CHT refused it").in_words(answer.words()))
            }
            _ => Err(self.in_doubt(answer.failure("CHT"))),
        }
    }

    /// The report may be there all the same: the next attempt waits until the index would show it.
    fn in_doubt(&self, failure: Failure) -> Failure {
        match failure.kind {
            _ if is_planted(Bug::NoWaitAfterDoubt) => failure,
            FailureKind::Transient(asked) | FailureKind::Fault(asked) => {
                let wait = asked.unwrap_or_default().max(self.index_lag);
                Failure { kind: FailureKind::Transient(Some(wait)), ..failure }
            }
            _ => failure,
        }
    }
}

#[async_trait]
impl Cht for ChtApi {
    /// Records have no idempotency of their own: look up, then POST. Whoever calls keeps two
    /// attempts at the same record apart.
    async fn create_record(&self, record: &Record) -> Result<String, Failure> {
        let found = match is_planted(Bug::NoLookUpBeforeRetry) {
            true => None,
            false => self.find(record).await?,
        };
        let uuid = match found {
            Some(uuid) => uuid,
            None => self.post(record).await?,
        };
        // It is there, but a search may not show it yet: the next attempt must not make another.
        self.read_back(&uuid, &record.form).await.map_err(|failure| self.in_doubt(failure))?;
        Ok(uuid)
    }

    async fn create_person(&self, body: &Value) -> Result<String, Failure> {
        let uuid = body["_id"].as_str().unwrap_or_default();
        let request = self.sent(Method::POST, "/api/v1/people", body);
        let answer = checked(self.http.send(request, "CHT").await?)?;
        match answer.status.as_u16() {
            200 if answer.json().is_some_and(|json| json["id"] == uuid) => Ok(uuid.to_string()),
            200 => Err(Failure::transient("CHT answered 200 without the id of the person")),
            // There already: by an earlier attempt, since nobody else derives this id.
            409 => Ok(uuid.to_string()),
            404 => Err(Failure::permanent(
                "CHT has no such place; name one of CHT's places in [people], then rerun",
            )
            .in_words(answer.words())),
            _ => Err(answer.failure("CHT")),
        }
    }

    /// Straight in CHT's database, since its API changes people only from 5.2 on: there nothing is overwritten that
    /// was not read.
    async fn change_person(&self, change: &Change) -> Result<(), Failure> {
        let path = format!("/medic/{}", encode(&change.uuid));
        let Some(person) = self.get(&path).await? else { return Ok(()) };
        let Some(changed) = change.applied_to(&person) else { return Ok(()) };
        let request = self.sent(Method::PUT, &path, &changed);
        let answer = checked(self.http.send(request, "CHT").await?)?;
        match answer.status.as_u16() {
            200 | 201 => Ok(()),
            409 => Err(Failure::transient("somebody changed this person in CHT at the same moment")),
            _ => Err(answer.failure("CHT")),
        }
    }

    async fn person(&self, uuid: &str) -> Result<Option<Value>, Failure> {
        if !is_plain(uuid) {
            return Ok(None);
        }
        match self.get(&format!("/api/v1/person/{}", encode(uuid))).await? {
            Some(person) if person["_id"] != uuid => {
                Err(Failure::transient("CHT answered with something that is not the person asked for"))
            }
            found => Ok(found),
        }
    }

    async fn people_with_shortcode(&self, shortcode: &str) -> Result<Vec<Value>, Failure> {
        if !is_plain(shortcode) {
            return Ok(Vec::new());
        }
        let path = format!(
            "/api/v1/contact/uuid?type=person&freetext={}",
            encode(&format!("patient_id:{shortcode}"))
        );
        let Some(page) = self.get(&path).await? else { return Ok(Vec::new()) };
        let mut people = Vec::new();
        for uuid in strings(list(&page, "data")?) {
            // The index matches loosely; the document decides.
            if let Some(person) = self.person(&uuid).await?
                && person["patient_id"].as_str() == Some(shortcode)
            {
                people.push(person);
            }
        }
        Ok(people)
    }

    async fn hydrated(&self, uuids: &[String]) -> Result<Vec<Value>, Failure> {
        let mut docs = Vec::with_capacity(uuids.len());
        for some in uuids.chunks(HYDRATED) {
            let body = json!({"doc_ids": some});
            let Some(found) = self.asked("/api/v1/hydrate", &body).await? else { continue };
            let rows =
                found.as_array().ok_or_else(|| Failure::transient("CHT hydrated to no list of documents"))?;
            docs.extend(rows.iter().filter_map(|row| row.get("doc").cloned()));
        }
        Ok(docs)
    }

    async fn contacts_with_phone(&self, phone: &str) -> Result<Vec<Value>, Failure> {
        let found = self.asked("/api/v1/contacts-by-phone", &json!({"phone": phone})).await?;
        found.map_or(Ok(Vec::new()), |found| list(&found, "docs").cloned())
    }

    async fn people_with_word(&self, word: &str, most: usize) -> Result<Vec<String>, Failure> {
        // CHT indexes no shorter words, and takes a colon for the end of a field's name.
        if !(3..=100).contains(&word.chars().count()) || word.contains([':', ' ']) {
            return Ok(Vec::new());
        }
        self.people_by(word, most).await
    }

    async fn people_with(&self, field: &str, written: &str) -> Result<Vec<String>, Failure> {
        if !(3..=100).contains(&written.chars().count()) {
            return Ok(Vec::new());
        }
        self.people_by(&format!("{field}:{written}"), usize::MAX).await
    }

    async fn reports_about(&self, subject: &str) -> Result<Vec<(String, i64)>, Failure> {
        let rows = self.rows_about(subject).await?;
        let of =
            |row: &Value| Some((row["id"].as_str()?.to_string(), row["value"].as_i64().unwrap_or_default()));
        Ok(rows.iter().filter_map(of).collect())
    }
}

impl ChtApi {
    /// Of CHT's full-text index, all pages; `most` at the most.
    async fn people_by(&self, text: &str, most: usize) -> Result<Vec<String>, Failure> {
        let path = format!("/api/v1/contact/uuid?type=person&freetext={}", encode(&text.to_lowercase()));
        let mut found = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let of_page = cursor.map(|cursor| format!("&cursor={}", encode(&cursor))).unwrap_or_default();
            let Some(page) = self.get(&format!("{path}{of_page}")).await? else { return Ok(found) };
            found.extend(strings(list(&page, "data")?));
            cursor = page["cursor"].as_str().map(String::from);
            if cursor.is_none() || found.len() > most {
                return Ok(found);
            }
        }
    }
}

/// A page for people, or a redirect to one, is not the API's answer: it is starting, or we are not let in.
fn checked(answer: Answer) -> Result<Answer, Failure> {
    let html =
        answer.headers.get(header::CONTENT_TYPE).is_some_and(|t| t.as_bytes().starts_with(b"text/html"));
    if answer.status.is_redirection() {
        return Err(Failure::new(
            FailureKind::Unauthorised,
            "CHT sent us to its login page: check cht.username and cht.password",
        ));
    }
    if html && answer.status.is_success() {
        return Err(Failure::transient("CHT is starting"));
    }
    if answer.status.as_u16() == 401 {
        return Err(Failure::new(
            FailureKind::Unauthorised,
            "CHT refused our credentials: check cht.username and cht.password",
        ));
    }
    if answer.status.as_u16() == 403 {
        return Err(Failure::permanent(
            "CHT answered 403; give the mediator's user the permissions in mediator-config/cht",
        )
        .in_words(answer.words()));
    }
    Ok(answer)
}

/// The same form, one of our dates (to the millisecond), and nothing that we sent reads otherwise.
fn is_ours(report: &Value, record: &Record) -> bool {
    let same_value = |(key, sent): (&String, &Value)| match &report["fields"][key] {
        // Dates are stored as milliseconds, so only texts are compared with texts.
        Value::String(kept) => sent.as_str().is_none_or(|sent| kept == sent),
        _ => true,
    };
    report["form"] == record.form.as_str()
        && is_our_date(report, record)
        && record.fields.iter().all(same_value)
}

/// This attempt's date; or that of an earlier one at the same act, unless that left a report with errors.
fn is_our_date(report: &Value, record: &Record) -> bool {
    match (report["reported_date"].as_i64(), record.since) {
        (Some(date), _) if date == record.reported_date => true,
        (Some(date), Some(since)) => {
            (since..record.reported_date).contains(&date) && words_of_errors(report).is_empty()
        }
        _ => false,
    }
}

fn words_of_errors(report: &Value) -> Vec<String> {
    let errors = report["errors"].as_array().into_iter().flatten();
    errors
        .map(|error| {
            let code = error["code"].as_str().unwrap_or("error");
            format!("{code} ({})", error["message"].as_str().unwrap_or_default())
        })
        .collect()
}

fn not_json() -> Failure {
    Failure::transient("CHT answered 200 with something that is not JSON")
}

/// Nothing found and nothing understood are not the same: the one creates, the other must not.
fn list<'a>(page: &'a Value, key: &str) -> Result<&'a Vec<Value>, Failure> {
    let found = page[key].as_array();
    found.ok_or_else(|| Failure::transient(format!("CHT answered a search without `{key}`")))
}

fn strings(values: &[Value]) -> Vec<String> {
    values.iter().filter_map(|v| v.as_str().map(String::from)).collect()
}

/// Ids only: nothing that would mean something else in a path or a search.
fn is_plain(id: &str) -> bool {
    (3..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn encode(text: &str) -> String {
    crate::domain::fhir::query_value(text)
}
