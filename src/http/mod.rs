//! The HTTP door: who calls, may they, and what they said; then into the corridor.
mod admin;
mod audit;
pub mod auth;
mod certificate;
mod connections;
mod fhir;
mod health;
mod json;
mod lists;
mod measures;
mod openapi;
mod openhim;
mod patients;
mod push;
mod reply;
mod request;
mod requests;
mod search;
pub mod server;
mod subscriptions;
mod trail;

use crate::config::{self, Role};
use crate::domain::message::Route;
use crate::domain::plan::Status;
use crate::flow::audit::told_openhim;
use crate::flow::corridor::{Corridor, Message};
use crate::flow::ports::{Accepted, Head, JournalError, Millis, OpenHim};
use audit::{Known, Refusals};
use auth::{Caller, Clients};
use axum::Router;
use axum::extract::{OriginalUri, Request};
use axum::middleware;
use axum::response::Response;
use axum::routing::{get, post, put};
pub use json::parse as parse_json;
use metrics_exporter_prometheus::PrometheusHandle;
use patients::Turns;
use reply::{Reader, refusal};
use request::{Closed, Limits, Opened};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What every handler needs.
#[derive(Clone)]
pub struct Door(Arc<Inner>);

struct Inner {
    corridor: Corridor,
    clients: Arc<Clients>,
    limits: Limits,
    /// In milliseconds; OpenHIM's console may change it.
    answer_within: Arc<AtomicU64>,
    openhim: Option<Arc<dyn OpenHim>>,
    base_path: String,
    success_codes: BTreeMap<String, u16>,
    /// Routes whose FHIR is taken even if it is not valid.
    flag_invalid: Vec<String>,
    /// Profiles that FHIR must fulfil, by type.
    profiles: BTreeMap<String, String>,
    metrics: PrometheusHandle,
    started: Instant,
    /// We speak TLS ourselves.
    tls: bool,
    refusals: Mutex<Refusals>,
    /// Of those who look people up.
    turns: Turns,
}

impl Door {
    /// Whether FHIR that is not valid is taken by this route, and flagged.
    fn flags(&self, route: &Route) -> bool {
        self.0.flag_invalid.contains(&route.to_string())
    }

    pub fn new(
        settings: &config::Settings,
        corridor: Corridor,
        clients: Arc<Clients>,
        metrics: PrometheusHandle,
        openhim: Option<Arc<dyn OpenHim>>,
        answer_within: Arc<AtomicU64>,
    ) -> Self {
        let config::Settings { server, lookups, .. } = settings;
        Self(Arc::new(Inner {
            corridor,
            clients,
            limits: Limits {
                max_body_bytes: server.max_body_bytes,
                max_list_bytes: server.max_list_bytes,
                read_timeout: Duration::from_millis(server.read_timeout_ms),
            },
            answer_within,
            openhim,
            base_path: server.base_path.clone(),
            success_codes: server.success_codes.clone(),
            flag_invalid: server.flag_invalid.clone(),
            profiles: server.profiles.clone(),
            metrics,
            started: Instant::now(),
            tls: server.tls_cert.is_some(),
            refusals: Mutex::default(),
            turns: Turns::new(lookups),
        }))
    }

    /// The routes, as a contents page. All are there under `base_path` too.
    pub fn router(self, base_path: &str) -> Router {
        let routes = Router::new()
            .route("/patient", post(push::drop_in))
            .route("/encounter", post(push::drop_in))
            .route("/organization", post(push::drop_in))
            .route("/endpoint", post(push::drop_in))
            .route("/cht/patient", post(push::cht))
            .route("/cht/patient_ids", post(push::cht))
            .route("/cht/encounter", post(push::cht))
            .route("/cht/push", post(push::cht))
            .route("/cht/push/{mapping}", post(push::cht))
            // By these paths deployments that push whole documents tell their kinds apart.
            .route("/cht/person", post(push::cht))
            .route("/cht/place", post(push::cht))
            .route("/cht/report", post(push::cht))
            .route("/service-request", post(fhir::service_request))
            .route("/fhir", post(fhir::bundle))
            .route("/fhir/", post(fhir::bundle))
            .route("/fhir/metadata", get(fhir::metadata))
            .route("/fhir/AuditEvent", get(trail::search))
            .route("/fhir/AuditEvent/{id}", get(trail::read))
            .route("/fhir/MeasureReport", get(measures::report))
            .route("/fhir/Subscription", post(subscriptions::create).get(subscriptions::list))
            .route(
                "/fhir/Subscription/{id}",
                get(subscriptions::read).put(subscriptions::update).delete(subscriptions::delete),
            )
            .route(
                "/fhir/Patient",
                get(patients::search).post(fhir::create_patient).put(fhir::update_patient_by_identifier),
            )
            .route("/fhir/Patient/_search", post(patients::search_by_form))
            .route("/fhir/Patient/{id}", get(patients::read).put(fhir::update_patient))
            .route("/fhir/Patient/{id}/$everything", get(patients::everything))
            .route("/fhir/{Type}", post(fhir::create).put(fhir::update_by_identifier).get(requests::search))
            .route("/fhir/{Type}/{id}", put(fhir::update).get(fhir::read))
            .route("/afyastat", post(lists::afyastat))
            .route("/lists/{id}", get(lists::show))
            .route("/transactions", get(admin::list))
            .route("/transactions/{id}", get(admin::show))
            .route("/transactions/{id}/rerun", post(admin::rerun))
            .route("/transactions/{id}/cancel", post(admin::cancel))
            .route("/mappings/reload", post(admin::reload))
            .route("/openapi.json", get(openapi::description))
            .route("/health/live", get(health::live))
            .route("/health/ready", get(health::ready))
            .route("/metrics", get(health::metrics))
            .fallback(nothing_here)
            .method_not_allowed_fallback(wrong_method);
        let routes = routes.layer(middleware::from_fn_with_state(self.clone(), audit::refusals));
        let routes = routes.layer(middleware::from_fn_with_state(self.clone(), openhim::envelope));
        let router = routes.clone().route("/", get(health::status));
        let router = match base_path.trim_end_matches('/') {
            "" => router,
            base => router
                .nest(base, routes)
                .route(base, get(health::status))
                .route(&format!("{base}/"), get(health::status)),
        };
        router.with_state(self)
    }

    fn corridor(&self) -> &Corridor {
        &self.0.corridor
    }

    /// Lets a request in, if its sender has one of the roles.
    async fn open(
        &self,
        request: Request,
        reader: Reader,
        roles: &[config::Role],
    ) -> Result<Opened, Box<Response>> {
        let base = self.base_of(&request);
        let mut opened = Closed::new(request, reader).open(&self.0.clients, roles).await?;
        opened.caller.base = base;
        opened.caller.from = audit::address(&opened.parts.extensions);
        if opened.caller.is_core && self.0.openhim.is_some() {
            self.speaks_for(&mut opened).await;
        }
        Known::note(&opened.parts.extensions, opened.caller.agent());
        Ok(opened)
    }

    /// OpenHIM's core says who calls. Two of its clients are two: their `Patient/1` are two people. A rerun
    /// does not say it, but whose rerun it is.
    async fn speaks_for(&self, opened: &mut Opened) {
        let headers = &opened.parts.headers;
        let Some(via) = openhim::via(headers) else { return };
        let client = openhim::client(headers).map(|client| format!("{}/{client}", opened.caller.id));
        let client = match (client, openhim::parent(headers)) {
            (Some(client), _) => Some(client),
            // Known by another's transaction alone, it may repeat what was sent, and read nothing.
            (None, Some(parent)) if opened.parts.method != hyper::Method::GET => {
                self.corridor().journal().client_via(&parent).await.ok().flatten()
            }
            (None, _) => None,
        };
        if let Some(client) = client {
            opened.caller.id = client;
        }
        opened.caller.via = Some(via.id);
        opened.caller.again = openhim::parent(&opened.parts.headers);
        if let Some(core) = opened.parts.extensions.get::<openhim::Core>() {
            core.is_known();
        }
    }

    /// `server.base_path`, if the caller came by it: what it is told to look at must be there too.
    fn base_of(&self, request: &Request) -> String {
        let path =
            request.extensions().get::<OriginalUri>().map_or_else(|| request.uri().path(), |uri| uri.path());
        let base = self.0.base_path.trim_end_matches('/');
        let inside = path.strip_prefix(base).is_some_and(|rest| rest.starts_with('/'));
        if inside { base.to_string() } else { String::new() }
    }

    fn deadline(&self) -> Millis {
        self.0.corridor.steady() + self.0.answer_within.load(Relaxed) as Millis
    }

    /// Journals one message and answers for it, now or where to look.
    /// `caller` may be an EMR on a route of CHT's: it is told of a failure by the status.
    async fn take(&self, message: Message, created: u16, caller: &Caller) -> Response {
        let (head, response) = match self.journaled(message, created, caller).await {
            Ok(taken) => taken,
            Err(refused) => return *refused,
        };
        match &caller.via {
            Some(via) => self.with_told(response, via, &head).await,
            None => response,
        }
    }

    /// What OpenHIM is to know of it beside the answer.
    async fn with_told(&self, mut response: Response, via: &str, head: &Head) -> Response {
        let journal = self.corridor().journal();
        if let Ok(Some(transaction)) = journal.transaction(&head.id).await {
            let status = transaction.head.status;
            if status != Status::Open {
                journal.told(via);
            }
            if let Some(disclosed) = told_openhim(&transaction, self.corridor().now()) {
                journal.note(disclosed);
            }
            let told =
                openhim::Told { id: head.id.clone(), status, orchestrations: transaction.orchestrations };
            response.extensions_mut().insert(told);
        }
        response
    }

    async fn journaled(
        &self,
        message: Message,
        created: u16,
        caller: &Caller,
    ) -> Result<(Head, Response), Box<Response>> {
        let (route, reader) = (message.route.clone(), Reader::of(&message.route));
        let base = caller.base.clone();
        let deadline = self.deadline();
        let accepted = match self.0.corridor.accept(vec![message]).await {
            Ok(mut accepted) => accepted.remove(0),
            Err(error) => return Err(Box::new(self.unsafe_now(reader, &error))),
        };
        let head = accepted.head().clone();
        if matches!(accepted, Accepted::KeyReused(_)) {
            return Err(Box::new(refusal(reader, 422, "duplicate", "", KEY_REUSED)));
        }
        // CHT gains nothing by waiting behind another message, and CHT may be what that one waits for.
        if route.is_cht() && self.0.corridor.is_behind(&head) {
            let response = reply::accepted(reader, &base, &head.id);
            return Ok((head, response));
        }
        let answer = self.0.corridor.wait(&head, deadline).await;
        crate::failpoint::reach("answered");
        let response = match answer {
            Some(answer)
                if route.is_cht() && !caller.may(Role::Push) && answer.body["status"] == "failed" =>
            {
                let why = answer.body["message"].as_str().unwrap_or_default();
                let text = format!("{why} (transaction {})", head.id);
                reply::named(refusal(reader, 422, "processing", "", &text), &head.id)
            }
            Some(mut answer) => {
                if answer.status == 201 {
                    answer.status = created;
                }
                if (200..300).contains(&answer.status)
                    && let Some(code) = self.0.success_codes.get(&route.to_string())
                {
                    answer.status = *code;
                }
                reply::answered(reader, &answer, &head.id)
            }
            None => match self.0.success_codes.get(&route.to_string()) {
                // A caller that takes one code only takes it for "safe" too.
                Some(code) => {
                    let mut response = reply::accepted(reader, &base, &head.id);
                    *response.status_mut() =
                        hyper::StatusCode::from_u16(*code).unwrap_or(hyper::StatusCode::ACCEPTED);
                    response
                }
                None => reply::accepted(reader, &base, &head.id),
            },
        };
        Ok((head, response))
    }

    /// Not journaled, so not accepted.
    fn unsafe_now(&self, reader: Reader, error: &JournalError) -> Response {
        tracing::error!(%error, "a message was not accepted");
        refusal(reader, 503, "transient", "", "the message cannot be kept safe now; send it again later")
    }

    fn message(&self, caller: &Caller, route: Route, read: request::Read) -> Message {
        Message {
            route,
            client: caller.id.clone(),
            home: caller.destination.clone(),
            idempotency_key: read.idempotency_key,
            via: caller.via.clone(),
            again: caller.again.clone(),
            from: caller.from.clone(),
            bytes: read.bytes,
            body: read.body,
        }
    }
}

const KEY_REUSED: &str = "this Idempotency-Key was used for another body";

async fn nothing_here() -> Response {
    refusal(Reader::Fhir, 404, "not-found", "", "there is nothing at this path; see /openapi.json")
}

async fn wrong_method() -> Response {
    refusal(Reader::Fhir, 405, "not-supported", "", "this method is not served here")
}
