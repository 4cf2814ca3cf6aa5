//! A CHT 5.2 api, as a client meets it: records, reports, people, and outbound pushes.
//!
//! Strict where CHT is strict and lax where CHT is lax. Not here: SMS, places, permissions by
//! role, sessions, CouchDB beyond one view.
mod push;
mod record;
mod routes;
mod store;

use super::faults::Faults;
use super::server::Server;
use super::{Clock, Ids, client, lock};
use axum::Router;
use push::Pusher;
use record::Parsed;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store::{Store, text};
use tokio::net::TcpListener;
use tokio::time::Instant;

/// The JSON forms that the stand-in knows unless it is told others.
pub const FORMS: &str = include_str!("../../../mediator-config/cht/app_settings/forms.json");

#[derive(Clone)]
pub struct Options {
    pub username: String,
    pub password: String,
    /// `forms` of app_settings.
    pub forms: Value,
    /// Where every report and every new person is pushed to.
    pub outbound_url: Option<String>,
    /// Username and password for it.
    pub outbound_auth: Option<(String, String)>,
    pub outbound_timeout: Duration,
    /// The api's push of a record and sentinel's go out at the same time.
    pub push_twice: bool,
    /// A report is found by freetext only this long after it was saved.
    pub index_delay: Duration,
    /// A new person gets the short code only after this time.
    pub shortcode_delay: Duration,
    /// How long everybody is locked out after too many failed logins.
    pub lockout: Duration,
    /// What its clock shows at the start, in milliseconds since 1970; none: what the machine's shows.
    pub clock: Option<i64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            username: "interop-client".into(),
            password: "interop-password".into(),
            forms: serde_json::from_str(FORMS).unwrap_or_default(),
            outbound_url: None,
            outbound_auth: None,
            outbound_timeout: Duration::from_secs(10),
            push_twice: false,
            index_delay: Duration::ZERO,
            shortcode_delay: Duration::ZERO,
            lockout: Duration::from_secs(10),
            clock: None,
        }
    }
}

/// Failed logins that CHT bears within [`Options::lockout`].
const FAILED_LOGINS: usize = 10;

struct Cht {
    options: Options,
    store: Mutex<Store>,
    pusher: Pusher,
    failed_logins: Mutex<VecDeque<Instant>>,
}

pub struct Handle {
    server: Option<Server>,
    cht: Arc<Cht>,
    faults: Faults,
}

pub async fn start(bind: SocketAddr, options: Options) -> io::Result<Handle> {
    let (mut handle, router) = unbound(options)?;
    let server = Server::start(TcpListener::bind(bind).await?, router, handle.faults.clone()).await?;
    handle.server = Some(server);
    Ok(handle)
}

/// One that listens nowhere: whoever has its routes carries the requests to them, and its faults.
pub fn unbound(options: Options) -> io::Result<(Handle, Router)> {
    let to = match options.outbound_url.clone() {
        Some(url) => Some((client(options.outbound_timeout)?, url)),
        None => None,
    };
    let pusher = Pusher { to, auth: options.outbound_auth.clone(), failed: Mutex::default() };
    let store = Mutex::new(Store::new(Clock::new(options.clock)));
    let cht = Arc::new(Cht { options, store, pusher, failed_logins: Mutex::default() });
    let router = routes::router(cht.clone());
    Ok((Handle { server: None, cht, faults: Faults::default() }, router))
}

impl Handle {
    pub fn url(&self) -> String {
        self.server.as_ref().map_or_else(String::new, |server| format!("http://{}", server.address))
    }

    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Saves a person (or, with its `type`, any document) without pushing it. Answers it as saved.
    pub fn add_person(&self, mut person: Value) -> Value {
        if text(&person, "type").is_empty() {
            person["type"] = "person".into();
        }
        lock(&self.cht.store).save(person)
    }

    pub fn get(&self, id: &str) -> Option<Value> {
        lock(&self.cht.store).get(id).cloned()
    }

    /// As outbound pushes show it.
    pub fn hydrated(&self, id: &str) -> Option<Value> {
        let store = lock(&self.cht.store);
        store.get(id).map(|doc| store.hydrated(doc))
    }

    /// All reports, in the order in which they were saved.
    pub fn reports(&self) -> Vec<Value> {
        lock(&self.cht.store).reports()
    }

    /// Everybody.
    pub fn people(&self) -> Vec<Value> {
        lock(&self.cht.store).people()
    }

    /// Uuids of the reports of each form and `external_id`. A second uuid is a duplicate.
    pub fn ledger(&self) -> BTreeMap<(String, String), Vec<String>> {
        let mut ledger = BTreeMap::<_, Vec<String>>::new();
        for report in self.reports() {
            let key = (text(&report, "form").to_string(), text(&report["fields"], "external_id").to_string());
            ledger.entry(key).or_default().push(text(&report, "_id").into());
        }
        ledger
    }

    /// A CHW does the task that a request raised, and the phone syncs: saves the report of the
    /// app form and answers it hydrated, ready for [`Handle::push`]. None: there is no such request.
    pub fn complete_follow_up(&self, request_report_id: &str, form: &str, fields: Value) -> Option<Value> {
        let mut store = lock(&self.cht.store);
        let request = store.report(request_report_id)?;
        let patient = store.patient(&request["fields"])?.clone();
        let report = app_form_report(&mut store, request_report_id, form, &patient, fields);
        let report = store.save(report);
        Some(store.hydrated(&report))
    }

    /// Pushes `{"doc": doc}`. Whether CHT takes it for pushed.
    pub async fn push(&self, doc: &Value) -> bool {
        self.cht.pusher.push(doc).await
    }

    /// Documents that were not taken, and would be pushed again in the next round.
    pub fn failed_pushes(&self) -> Vec<Value> {
        lock(&self.cht.pusher.failed).clone()
    }

    /// The round that CHT makes every five minutes: what failed goes out again, one by one.
    /// Answers how many are left.
    pub async fn push_again(&self) -> usize {
        let failed = std::mem::take(&mut *lock(&self.cht.pusher.failed));
        for doc in failed {
            self.cht.pusher.push(&doc).await;
        }
        self.failed_pushes().len()
    }

    pub async fn stop(self) {
        if let Some(server) = self.server {
            server.stop().await;
        }
    }
}

impl Cht {
    /// Whether too many logins have failed lately.
    fn is_locked_out(&self) -> bool {
        let mut failed = lock(&self.failed_logins);
        failed.retain(|at| at.elapsed() < self.options.lockout);
        failed.len() >= FAILED_LOGINS
    }

    fn note_failed_login(&self) {
        lock(&self.failed_logins).push_back(Instant::now());
    }

    /// Saves a record. Its push goes out before it is saved, and before the caller is answered.
    async fn take_record(&self, parsed: Parsed) -> String {
        let report = self.report(parsed);
        let pushed = lock(&self.store).hydrated(&report);
        let api = self.pusher.push(&pushed);
        if self.options.push_twice {
            let mut revised = pushed.clone();
            revised["_rev"] = format!("1-{}", lock(&self.store).ids.next().simple()).into();
            tokio::join!(api, self.pusher.push(&revised));
        } else {
            api.await;
        }
        let saved = lock(&self.store).save(report);
        text(&saved, "_id").into()
    }

    fn report(&self, parsed: Parsed) -> Value {
        let Parsed { form, public, about_patient, meta, fields, mut errors } = parsed;
        let mut store = lock(&self.store);
        let fields = Value::Object(fields);
        let from = meta.get("from").and_then(Value::as_str);
        let sender = from.and_then(|phone| store.by_phone(phone).into_iter().next());
        if !public && sender.is_none() {
            errors.push(json!({"code": "sys.facility_not_found",
                "message": "You have not been registered to use this app."}));
        } else if about_patient && store.patient(&fields).is_none() {
            errors.push(json!({"code": "registration_not_found",
                "message": format!("No patient with id {}.", named_patient(&fields))}));
        }
        let reported = meta.get("reported_date").and_then(as_millis).unwrap_or_else(|| store.clock.now_ms());
        let mut report = json!({"_id": store.ids.next(), "type": "data_record", "form": form, "errors": errors,
            "tasks": [], "fields": fields, "reported_date": reported, "sms_message": meta});
        if let Some(from) = from {
            report["from"] = from.into();
        }
        if let Some(contact) = sender.and_then(|sender| store.lineage(text(&sender, "_id"))) {
            report["contact"] = contact;
        }
        report
    }
}

/// Sentinel gives a new person the short code a while later. Both revisions are pushed.
async fn follow_new_person(cht: Arc<Cht>, id: String) {
    let hydrated = |doc: &Value| lock(&cht.store).hydrated(doc);
    let Some(mut person) = lock(&cht.store).get(&id).cloned() else { return };
    tokio::time::sleep(cht.options.shortcode_delay).await;
    if text(&person, "patient_id").is_empty() {
        person["patient_id"] = lock(&cht.store).shortcode().into();
    }
    // The first push has the code already, and the revision from before it was saved.
    let first = hydrated(&person);
    let saved = lock(&cht.store).save(person);
    cht.pusher.push(&merged(first, &saved, &["patient_id"])).await;
    cht.pusher.push(&hydrated(&saved)).await;
}

fn merged(mut doc: Value, from: &Value, keys: &[&str]) -> Value {
    for key in keys {
        doc[*key] = from[*key].clone();
    }
    doc
}

fn as_millis(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

fn named_patient(fields: &Value) -> String {
    let named = ["patient_id", "patient_uuid"].iter().find(|key| !fields[**key].is_null());
    named
        .map(|key| fields[*key].as_str().map_or_else(|| fields[*key].to_string(), Into::into))
        .unwrap_or_default()
}

/// A report of an app form as a phone makes it from a task.
fn app_form_report(store: &mut Store, request: &str, form: &str, patient: &Value, fields: Value) -> Value {
    let contact = json!({"_id": patient["_id"], "name": patient["name"], "patient_id": patient["patient_id"],
        "date_of_birth": patient["date_of_birth"], "sex": patient["sex"]});
    let mut all = Map::from_iter([
        ("inputs".to_string(), json!({"source": "task", "source_id": request, "contact": contact})),
        ("patient_uuid".to_string(), patient["_id"].clone()),
        ("patient_name".to_string(), patient["name"].clone()),
    ]);
    if !patient["patient_id"].is_null() {
        all.insert("patient_id".into(), patient["patient_id"].clone());
    }
    all.extend(fields.as_object().cloned().unwrap_or_default());
    all.insert(
        "meta".into(),
        json!({"instanceID": format!("uuid:{}", store.ids.next()), "deprecatedID": ""}),
    );
    json!({"_id": store.ids.next(), "type": "data_record", "form": form, "content_type": "xml",
        "reported_date": store.clock.now_ms(), "from": "+254711000001", "hidden_fields": ["meta"], "fields": all})
}

#[cfg(test)]
mod tests;
