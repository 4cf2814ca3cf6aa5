//! Answers, in the shape that the caller expects: FHIR callers an OperationOutcome, CHT plain JSON.
use crate::domain::message::Route;
use crate::flow::confirm::operation_outcome;
use crate::flow::ports::Answer;
use crate::translate::Refusal;
use axum::body::Body;
use axum::response::Response;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use serde_json::{Value, json};

/// Who reads the answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    Fhir,
    Plain,
}

impl Reader {
    pub fn of(route: &Route) -> Self {
        match route.is_cht() {
            true => Self::Plain,
            false => Self::Fhir,
        }
    }
}

pub fn json_response(reader: Reader, status: u16, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = match reader {
        Reader::Fhir => "application/fhir+json",
        Reader::Plain => "application/json",
    };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Why it is a refusal: FHIR's issue type.
#[derive(Clone)]
pub struct Code(pub String);

pub fn refusal(reader: Reader, status: u16, code: &str, expression: &str, text: &str) -> Response {
    let body = match reader {
        Reader::Fhir => operation_outcome("error", code, expression, text),
        Reader::Plain => json!({"error": text}),
    };
    let mut response = json_response(reader, status, &body);
    response.extensions_mut().insert(Code(code.into()));
    match status {
        401 => {
            header(&mut response, WWW_AUTHENTICATE, "Basic realm=\"cht-fhir-mediator\", charset=\"UTF-8\"")
        }
        429 | 503 => header(&mut response, RETRY_AFTER, "5"),
        _ => {}
    }
    response
}

/// With how long to wait at least, in whole seconds.
pub fn retry_after(mut response: Response, wait: std::time::Duration) -> Response {
    header(&mut response, RETRY_AFTER, &wait.as_secs_f64().ceil().to_string());
    response
}

/// Every problem of a body, each an issue.
pub fn problems(status: u16, problems: &[Refusal]) -> Response {
    let mut response = json_response(Reader::Fhir, status, &outcome_of(problems));
    response.extensions_mut().insert(Code(problems.first().map(|p| p.code.to_string()).unwrap_or_default()));
    response
}

pub fn outcome_of(problems: &[Refusal]) -> Value {
    let issues: Vec<Value> = problems
        .iter()
        .map(|p| operation_outcome("error", p.code, &p.path, &p.message)["issue"][0].clone())
        .collect();
    json!({"resourceType": "OperationOutcome", "issue": issues})
}

pub fn answered(reader: Reader, answer: &Answer, transaction: &str) -> Response {
    let mut response = json_response(reader, answer.status, &answer.body);
    if let Some(location) = &answer.location {
        header(&mut response, LOCATION, location);
    }
    named(with_version(response, &answer.body), transaction)
}

/// With the version of what is shown, if it has one.
pub fn with_version(mut response: Response, shown: &Value) -> Response {
    if let Some(version) = shown["meta"]["versionId"].as_str() {
        header(&mut response, ETAG, &format!("W/\"{version}\""));
    }
    response
}

/// Safe, but not finished: where to look.
/// `base` is the prefix by which the caller came.
pub fn accepted(reader: Reader, base: &str, transaction: &str) -> Response {
    let place = format!("{base}/transactions/{transaction}");
    let text = format!("the message is safe and its delivery under way; see {place}");
    let body = match reader {
        Reader::Fhir => operation_outcome("information", "informational", "", &text),
        Reader::Plain => json!({"transaction": transaction, "status": "open", "message": text}),
    };
    let mut response = json_response(reader, 202, &body);
    header(&mut response, LOCATION, &place);
    named(response, transaction)
}

/// With the transaction that it is the answer of.
pub fn named(mut response: Response, transaction: &str) -> Response {
    header(&mut response, HeaderName::from_static("x-transaction-id"), transaction);
    response
}

fn header(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}
