//! The audit trail, read by those who may: `GET /fhir/AuditEvent`, as a searchset or as lines of JSON.
use super::Door;
use super::reply::{Reader, json_response, refusal};
use super::request::Place;
use super::search::{self, Mode, Pairs, link, narrow, number, query, searchset, token};
use crate::config::Role;
use crate::domain::audit::{Act, audit_event, is_fit};
use crate::domain::follow_up::Span;
use crate::domain::identifier::{Identifier, system};
use crate::flow::audit::Search;
use crate::flow::ports::JournalError;
use axum::body::{Body, Bytes};
use axum::extract::{Query, Request, State};
use axum::response::Response;
use http_body_util::channel::{Channel, Sender};
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};

const NDJSON: &str = "application/fhir+ndjson";
/// Of `_format`; a `+` that is not escaped comes as a space.
const FORMATS: [&str; 4] = ["json", "application/fhir+json", "ndjson", NDJSON];
/// Matches on a page, if the caller does not say.
const COUNT: usize = 50;
const MOST: usize = 1000;
/// Records that are read at once for a stream.
const CHUNK: usize = 500;
const TAKEN: &str = "_count, _format, action, agent, before, date, entity and outcome";

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
    query(&pairs.iter().map(fit).collect())
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
        let mut links = vec![link("self", base, "AuditEvent", pairs)];
        if let Some(last) = found.last().filter(|_| more && count > 0) {
            let mut next: Pairs = pairs.iter().filter(|(key, _)| key != "before").cloned().collect();
            next.push(("before".into(), last.record.seq.to_string()));
            links.push(link("next", base, "AuditEvent", &next));
        }
        let entry = |link| search::entry(base, audit_event(link), Mode::Match);
        let bundle = searchset(links, None, found.iter().map(entry).collect());
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

fn search_of(pairs: &Pairs) -> Result<Search, String> {
    let mut search = Search { limit: COUNT, ..Search::default() };
    let mut date = Span::default();
    search::no_repeats(pairs, &["date"])?;
    for (key, value) in pairs {
        let key = key.strip_suffix(":identifier").unwrap_or(key);
        match key {
            "_count" => search.limit = search::count(value, MOST)?,
            "before" => {
                search.before = Some(number(value).ok_or("before is the number of a record")?);
            }
            "date" => narrow(&mut date, key, value)?,
            "agent" => search.agent = Some(token(key, value)?.value),
            "entity" => search.about = vec![named(token(key, value)?)],
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
            _ => return Err(search::unknown(TAKEN)),
        }
    }
    Ok(Search { from: date.from, until: date.until, ..search })
}

/// As records are asked for: a transaction by its id, a person by `system|value`.
fn named(identifier: Identifier) -> String {
    match identifier.system.as_str() {
        "" | system::TRANSACTION => identifier.value,
        _ => identifier.token(),
    }
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
}
