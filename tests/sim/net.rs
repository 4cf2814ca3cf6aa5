//! The network between the mediator and its neighbours. What was sent arrives, whatever becomes of its
//! sender; what is lost is lost on the way there, or on the way back.
use crate::fate::Fate;
use crate::life::Life;
use async_trait::async_trait;
use axum::body::{Body, to_bytes};
use axum::{Router, http};
use cht_fhir_mediator::flow::ports::Failure;
use cht_fhir_mediator::systems::client::{Answer, Broken, Extent, Wire};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use reqwest::{Request, StatusCode};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Longest way of a request, or of an answer, in milliseconds. Shorter than a restart takes.
pub const FLIGHT: u64 = 200;
/// How long the mediator waits for an answer.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// A neighbour, and what looks at it after each call.
pub struct Neighbour {
    pub name: &'static str,
    pub router: Router,
    pub fate: Arc<Fate>,
    pub watch: Box<dyn Fn() + Send + Sync>,
}

enum Fault {
    Unreachable,
    LostBefore,
    LostAfter,
    Refused(StatusCode),
    Late,
}

fn fault(fate: &Fate) -> Option<Fault> {
    let temper = fate.temper;
    if fate.strikes(temper.unreachable) {
        return Some(Fault::Unreachable);
    }
    if fate.strikes(temper.lost_before) {
        return Some(Fault::LostBefore);
    }
    if fate.strikes(temper.lost_after) {
        return Some(Fault::LostAfter);
    }
    if fate.strikes(temper.refused) {
        let statuses = [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::SERVICE_UNAVAILABLE];
        return Some(Fault::Refused(statuses[fate.between(0, 1) as usize]));
    }
    fate.strikes(temper.late).then_some(Fault::Late)
}

impl Neighbour {
    /// Nothing is told to `answered` of what is lost.
    async fn meet(
        self: Arc<Self>,
        request: Request,
        fault: Option<Fault>,
        answered: oneshot::Sender<Answer>,
    ) {
        self.fate.pause(FLIGHT).await;
        let what = format!("{} {} {}", self.name, request.method(), request.url().path());
        let answer = match &fault {
            Some(Fault::LostBefore) => return self.fate.note(format!("{what}: lost before")),
            Some(Fault::Refused(status)) => {
                Answer { status: *status, headers: Default::default(), bytes: b"{}".to_vec() }
            }
            _ => {
                let answer = serve(self.router.clone(), request).await;
                (self.watch)();
                answer
            }
        };
        self.fate.note(format!("{what}: {}", answer.status));
        match fault {
            Some(Fault::LostAfter) => return self.fate.note(format!("{what}: its answer is lost")),
            Some(Fault::Late) => tokio::time::sleep(TIMEOUT).await,
            _ => {}
        }
        self.fate.pause(FLIGHT).await;
        let _ = answered.send(answer);
    }
}

async fn serve(router: Router, request: Request) -> Answer {
    let url = request.url();
    let place = url.query().map_or_else(|| url.path().to_string(), |query| format!("{}?{query}", url.path()));
    let body = request.body().and_then(|body| body.as_bytes()).unwrap_or_default().to_vec();
    let mut asked = http::Request::new(Body::from(body));
    *asked.method_mut() = request.method().clone();
    *asked.uri_mut() = place.parse().expect("an address");
    *asked.headers_mut() = request.headers().clone();
    let (parts, body) = call(router, asked).await.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.expect("a body").to_vec();
    Answer { status: parts.status, headers: parts.headers, bytes }
}

pub async fn call(router: Router, request: http::Request<Body>) -> http::Response<Body> {
    match TowerToHyperService::new(router).call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// The way from one life of the mediator to a neighbour.
pub struct Link {
    pub life: Arc<Life>,
    pub to: Arc<Neighbour>,
}

#[async_trait]
impl Wire for Link {
    async fn carry(&self, request: Request, _: Extent, who: &str) -> Result<Answer, Broken> {
        self.life.pass(1).await;
        let fault = fault(&self.to.fate);
        if let Some(Fault::Unreachable) = fault {
            let failure = Failure::transient(format!("{who} cannot be reached"));
            return Err(Broken { failure, sent: false });
        }
        let (answered, answer) = oneshot::channel();
        tokio::spawn(self.to.clone().meet(request, fault, answered));
        let result = tokio::time::timeout(TIMEOUT, answer).await;
        self.life.pass(1).await;
        let broken = |what: &str| Broken { failure: Failure::transient(format!("{who} {what}")), sent: true };
        match result {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(broken("broke the connection off")),
            Err(_) => Err(broken("did not answer in time")),
        }
    }
}
