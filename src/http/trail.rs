//! The audit trail, read by those who may: `GET /fhir/AuditEvent`, as a searchset or as lines of JSON.
use super::Door;
use super::reply::{Reader, json_response, refusal};
use super::request::Place;
use crate::config::Role;
use crate::domain::audit::chain::Link;
use crate::domain::audit::{Act, audit_event, is_fit};
use crate::domain::identifier::{Identifier, system};
use crate::flow::audit::Search;
use crate::flow::ports::{JournalError, Millis};
use axum::body::{Body, Bytes};
use axum::extract::{Query, Request, State};
use axum::response::Response;
use http_body_util::channel::{Channel, Sender};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde_json::{Value, json};

const NDJSON: &str = "application/fhir+ndjson";
/// Of `_format`; a `+` that is not escaped comes as a space.
const FORMATS: [&str; 4] = ["json", "application/fhir+json", "ndjson", NDJSON];
/// Matches on a page, if the caller does not say.
const COUNT: usize = 50;
const MOST: usize = 1000;
/// Records that are read at once for a stream.
const CHUNK: usize = 500;
const TAKEN: &str = "_count, _format, action, agent, before, date, entity and outcome are taken";

type Pairs = Vec<(String, String)>;

pub(super) async fn search(
    State(door): State<Door>,
    Query(pairs): Query<Pairs>,
    request: Request,
) -> Response {
    let opened = match door.open(request, Reader::Fhir, &[Role::Admin]).await {
        Ok(opened) => opened,
        Err(refused) => return *refused,
    };
    let search = match search_of(&pairs) {
        Ok(search) => search,
        Err(why) => return refusal(Reader::Fhir, 400, "invalid", "", &why),
    };
    let act = Act::Searched { path: "/fhir/AuditEvent".into(), query: asked(&pairs) };
    let patient = search.about.first().and_then(|name| patient_of(name));
    let patients = patient.and_then(Identifier::for_trail).into_iter().collect();
    if let Err(refused) = door.shows(Reader::Fhir, &opened.caller, act, None, patients).await {
        return *refused;
    }
    let headers = &opened.parts.headers;
    let found = match door.by_every_name(search).await {
        Ok(search) if wants_lines(&pairs, headers) => door.lines(search).await,
        Ok(search) => door.page(search, &pairs, &door.address(headers, &opened.caller.base)).await,
        Err(error) => Err(error),
    };
    found.unwrap_or_else(|error| unreadable(&error))
}

/// The query, for the audit trail itself: without what may be a person's name.
fn asked(pairs: &Pairs) -> String {
    let fit = |(key, value): &(String, String)| {
        (key.clone(), if is_fit(value) { value.clone() } else { "(left out)".into() })
    };
    query(pairs.iter().map(fit))
}

fn query(pairs: impl IntoIterator<Item = (String, String)>) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// One record, by its number.
pub(super) async fn read(State(door): State<Door>, Place(id): Place<String>, request: Request) -> Response {
    let opened = match door.open(request, Reader::Fhir, &[Role::Admin]).await {
        Ok(opened) => opened,
        Err(refused) => return *refused,
    };
    let seq = number(&id).unwrap_or_default();
    let search = Search { after: seq.saturating_sub(1), limit: 1, ..Search::default() };
    let link = match door.corridor().journal().records(search).await {
        Ok(found) => found.into_iter().find(|link| link.record.seq.to_string() == id),
        Err(error) => return unreadable(&error),
    };
    let Some(link) = link else {
        return refusal(Reader::Fhir, 404, "not-found", "", "the audit trail has no record of this number");
    };
    let act = Act::Read { what: format!("AuditEvent/{seq}") };
    let patients = link.record.event.patients.clone();
    match door.shows(Reader::Fhir, &opened.caller, act, None, patients).await {
        Ok(()) => json_response(Reader::Fhir, 200, &audit_event(&link)),
        Err(refused) => *refused,
    }
}

fn unreadable(error: &JournalError) -> Response {
    tracing::error!(%error, "the audit trail cannot be read");
    refusal(
        Reader::Fhir,
        503,
        "transient",
        "",
        "the audit trail cannot be read now; `audit verify` may say why",
    )
}

impl Door {
    /// A person is asked for by one name and recorded by another: all that the crosswalk knows are looked for.
    async fn by_every_name(&self, mut search: Search) -> Result<Search, JournalError> {
        let journal = self.corridor().journal();
        if let Some(identifier) = search.about.first().and_then(|name| patient_of(name))
            && let Some(person) = journal.person(&identifier).await?
        {
            search.about.extend(journal.identifiers(&person).await?.iter().map(Identifier::token));
        }
        Ok(search)
    }

    async fn page(&self, search: Search, pairs: &Pairs, base: &str) -> Result<Response, JournalError> {
        let count = search.limit;
        let one_more = Search { limit: count + 1, newest_first: true, ..search };
        let mut found = self.corridor().journal().records(one_more).await?;
        let more = found.len() > count;
        found.truncate(count);
        let link = |relation: &str, pairs: &Pairs| {
            let query = query(pairs.iter().cloned());
            let mark = if query.is_empty() { "" } else { "?" };
            json!({"relation": relation, "url": format!("{base}/AuditEvent{mark}{query}")})
        };
        let mut links = vec![link("self", pairs)];
        if let Some(last) = found.last().filter(|_| more && count > 0) {
            let mut next: Pairs = pairs.iter().filter(|(key, _)| key != "before").cloned().collect();
            next.push(("before".into(), last.record.seq.to_string()));
            links.push(link("next", &next));
        }
        let mut bundle = json!({"resourceType": "Bundle", "type": "searchset", "link": links});
        let entries: Vec<Value> = found.iter().map(|link| entry(link, base)).collect();
        if !entries.is_empty() {
            bundle["entry"] = Value::Array(entries);
        }
        Ok(json_response(Reader::Fhir, 200, &bundle))
    }

    /// Oldest first, up to what there is now; read as it is taken.
    async fn lines(&self, search: Search) -> Result<Response, JournalError> {
        let end = self.corridor().journal().head().await?.map_or(0, |(seq, _)| seq) + 1;
        let before = Some(search.before.map_or(end, |before| before.min(end)));
        let (sender, body) = Channel::new(2);
        tokio::spawn(self.clone().send_lines(Search { before, limit: CHUNK, ..search }, sender));
        let mut response = Response::new(Body::new(body));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(NDJSON));
        Ok(response)
    }

    async fn send_lines(self, mut search: Search, mut sender: Sender<Bytes, JournalError>) {
        loop {
            let found = match self.corridor().journal().records(search.clone()).await {
                Ok(found) => found,
                Err(error) => return sender.abort(error),
            };
            let lines: String = found.iter().map(|link| format!("{}\n", audit_event(link))).collect();
            // The reader may have gone.
            if sender.send_data(Bytes::from(lines)).await.is_err() || found.len() < CHUNK {
                return;
            }
            search.after = found.last().map_or(search.after, |link| link.record.seq);
        }
    }

    /// The FHIR base by which the caller came.
    pub(super) fn address(&self, headers: &HeaderMap, base: &str) -> String {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
        format!("{}://{host}{base}/fhir", if self.0.tls { "https" } else { "http" })
    }
}

fn entry(link: &Link, base: &str) -> Value {
    json!({"fullUrl": format!("{base}/AuditEvent/{}", link.record.seq), "resource": audit_event(link),
        "search": {"mode": "match"}})
}

fn wants_lines(pairs: &Pairs, headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    match pairs.iter().find(|(key, _)| key == "_format") {
        Some((_, format)) => format.contains("ndjson"),
        None => accept.contains("ndjson"),
    }
}

fn patient_of(name: &str) -> Option<Identifier> {
    Identifier::of_token(name).filter(|identifier| !identifier.system.is_empty())
}

/// Says what is not understood: a parameter that were skipped would show more than was asked for.
fn search_of(pairs: &Pairs) -> Result<Search, String> {
    let mut search = Search { limit: COUNT, ..Search::default() };
    let mut seen = Vec::new();
    for (key, value) in pairs {
        let key = key.strip_suffix(":identifier").unwrap_or(key);
        if key != "date" && seen.contains(&key) {
            return Err(format!("{key} stands twice; one value is taken"));
        }
        seen.push(key);
        match key {
            "_count" => {
                let count = value.parse::<usize>().map_err(|_| format!("_count is a number up to {MOST}"))?;
                search.limit = count.min(MOST);
            }
            "before" => {
                search.before = Some(number(value).ok_or("before is the number of a record")?);
            }
            "date" => limit(&mut search, value)?,
            "agent" => search.agent = Some(one(key, value)?.value),
            "entity" => search.about = vec![named(one(key, value)?)],
            "action" if ["C", "R", "U", "D", "E"].contains(&value.as_str()) => {
                search.action = Some(value.clone())
            }
            "action" => return Err("action is C, R, U, D or E".into()),
            "outcome" if ["0", "4", "8", "12"].contains(&value.as_str()) => {
                search.outcome = Some(value.clone())
            }
            "outcome" => return Err("outcome is 0, 4, 8 or 12".into()),
            "_format" if FORMATS.contains(&value.replace(' ', "+").as_str()) => {}
            "_format" => return Err("_format is json or ndjson".into()),
            _ => return Err(format!("this search parameter is not known; {TAKEN}")),
        }
    }
    Ok(search)
}

/// SQLite's numbers end earlier than ours.
fn number(text: &str) -> Option<u64> {
    text.parse::<i64>().ok().and_then(|number| number.try_into().ok())
}

fn one(key: &str, value: &str) -> Result<Identifier, String> {
    let identifier = Identifier::of_token(value).filter(|identifier| !identifier.value.is_empty());
    identifier.ok_or_else(|| format!("{key} takes one value, or system|value"))
}

/// As records are asked for: a transaction by its id, a person by `system|value`.
fn named(identifier: Identifier) -> String {
    match identifier.system.as_str() {
        "" | system::TRANSACTION => identifier.value,
        _ => identifier.token(),
    }
}

/// <https://hl7.org/fhir/R4/search.html#date>; a date without a time is one in UTC.
fn limit(search: &mut Search, value: &str) -> Result<(), String> {
    let at = value.find(|c: char| c.is_ascii_digit()).unwrap_or(value.len());
    let (prefix, date) = value.split_at(at);
    let (start, end) = span(date)
        .ok_or("date takes a date or a time with a zone, such as ge2026-11-25 or le2026-11-25T10:00:00Z")?;
    let (from, until) = match prefix {
        "" | "eq" => (Some(start), Some(end)),
        "ge" => (Some(start), None),
        "gt" => (Some(end), None),
        "le" => (None, Some(end)),
        "lt" => (None, Some(start)),
        _ => return Err("date takes ge, gt, le, lt or eq before it".into()),
    };
    search.from = search.from.max(from);
    search.until = match (search.until, until) {
        (Some(known), Some(until)) => Some(known.min(until)),
        (known, until) => known.or(until),
    };
    Ok(())
}

/// From when until before when it is this date.
fn span(date: &str) -> Option<(Millis, Millis)> {
    let (day, length) = match date.len() {
        4 => (format!("{date}-01-01"), Span::new().years(1)),
        7 => (format!("{date}-01"), Span::new().months(1)),
        10 => (date.to_string(), Span::new().days(1)),
        _ => {
            let start = date.parse::<Timestamp>().ok()?.as_millisecond();
            return Some((start, start + if date.contains('.') { 1 } else { 1000 }));
        }
    };
    let day: Date = day.parse().ok()?;
    let millis =
        |day: Date| TimeZone::UTC.to_timestamp(day.at(0, 0, 0, 0)).map(Timestamp::as_millisecond).ok();
    Some((millis(day)?, millis(day.checked_add(length).ok()?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Search, String> {
        search_of(&pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect())
    }

    #[test]
    fn what_is_asked_for_is_understood_or_refused() {
        let search = of(&[
            ("agent", "urn:cht-fhir-mediator:client|cht"),
            ("entity", "urn:cht:uuid|p"),
            ("_count", "7"),
        ]);
        let search = search.expect("understood");
        assert_eq!((search.agent.as_deref(), search.limit), (Some("cht"), 7));
        assert_eq!(search.about, ["urn:cht:uuid|p"]);
        let bare = of(&[("entity:identifier", "urn:cht-fhir-mediator:transaction|t1")]).expect("understood");
        assert_eq!(bare.about, ["t1"]);
        for (pairs, words) in [
            (&[("name", "x")][..], "not known"),
            (&[("action", "X")], "C, R, U, D or E"),
            (&[("outcome", "1")], "0, 4, 8 or 12"),
            (&[("_count", "many")], "a number"),
            (&[("before", "-1")], "the number of a record"),
            (&[("before", "18446744073709551615")], "the number of a record"),
            (&[("_format", "xml")], "json or ndjson"),
            (&[("entity", "a,b")], "one value"),
            (&[("agent", "a"), ("agent", "b")], "stands twice"),
            (&[("date", "yesterday")], "ge2026-11-25"),
            (&[("date", "ap2026")], "ge, gt, le, lt or eq"),
        ] {
            assert!(of(pairs).is_err_and(|why| why.contains(words)), "{pairs:?}");
        }
    }

    #[test]
    fn the_trail_is_not_told_a_name_that_is_searched_for() {
        let pairs = [("agent", "Achieng Otieno"), ("entity", "urn:cht:uuid|p"), ("_count", "7")];
        let pairs = pairs.map(|(key, value)| (key.to_string(), value.to_string())).to_vec();
        assert_eq!(asked(&pairs), "agent=%28left+out%29&entity=urn%3Acht%3Auuid%7Cp&_count=7");
    }

    #[test]
    fn a_date_is_all_of_its_day_month_or_year() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time").as_millisecond();
        for (date, start, end) in [
            ("2026", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("2026-02", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"),
            ("2026-11-25", "2026-11-25T00:00:00Z", "2026-11-26T00:00:00Z"),
            ("2026-11-25T10:00:00+03:00", "2026-11-25T07:00:00Z", "2026-11-25T07:00:01Z"),
        ] {
            assert_eq!(span(date), Some((at(start), at(end))), "{date}");
        }
        let both = of(&[("date", "ge2026-11-25"), ("date", "le2026-11-25")]).expect("understood");
        assert_eq!(
            (both.from, both.until),
            (Some(at("2026-11-25T00:00:00Z")), Some(at("2026-11-26T00:00:00Z")))
        );
    }
}
