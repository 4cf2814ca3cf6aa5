//! Requests and referrals, searched from our own store, so that whoever cannot be told asks:
//! <https://hl7.org/fhir/R4/search.html>, as far as it is described in docs/EMR.md.
use super::Door;
use super::reply::{Reader, json_response, refusal};
use super::request::Place;
use crate::config::Role;
use crate::domain::audit::Act;
use crate::domain::follow_up::{Criteria, FollowUp, Span};
use crate::domain::identifier::{Identifier, system};
use crate::flow::follow_ups::Cursor;
use crate::flow::ports::JournalError;
use axum::extract::{Query, Request, State};
use axum::response::Response;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Matches on a page, if the caller does not say.
const COUNT: usize = 50;
const MOST: usize = 500;

type Pairs = Vec<(String, String)>;

/// What is asked for, before it is known who goes by the names in it.
#[derive(Default)]
pub(super) struct Asked {
    pub criteria: Criteria,
    /// The patient, by any of these; several are several conditions.
    subjects: Vec<Name>,
    count: Option<usize>,
    after: Option<Cursor>,
    includes_subject: bool,
}

enum Name {
    /// `Patient/x`.
    Reference(String),
    Identifier(Identifier),
}

pub(super) async fn search(
    State(door): State<Door>,
    Place(kind): Place<String>,
    Query(pairs): Query<Pairs>,
    request: Request,
) -> Response {
    let opened = match door.open(request, Reader::Fhir, &[Role::Fhir]).await {
        Ok(opened) => opened,
        Err(refused) => return *refused,
    };
    if !matches!(kind.as_str(), "ServiceRequest" | "Task") {
        let text = "only ServiceRequest and Task are searched here";
        return refusal(Reader::Fhir, 404, "not-supported", "", text);
    }
    let mut asked = match asked_of(&kind, &pairs) {
        Ok(asked) => asked,
        Err(why) => return refusal(Reader::Fhir, 400, "invalid", "", &why),
    };
    let caller = &opened.caller;
    let page = async {
        door.name_people(&mut asked, &caller.id).await?;
        let count = asked.count.unwrap_or(COUNT);
        let found = door.find(&caller.id, &asked, count + 1).await?;
        Ok::<_, JournalError>((count, found))
    };
    let (count, mut found) = match page.await {
        Ok(page) => page,
        Err(error) => return door.unsafe_now(Reader::Fhir, &error),
    };
    let more = found.len() > count;
    found.truncate(count);
    let patients = match door.patients(&found).await {
        Ok(patients) => patients,
        Err(error) => return door.unsafe_now(Reader::Fhir, &error),
    };
    let shown = patients.iter().filter_map(|who| who.as_ref()?.clone().for_trail()).collect();
    let kinds: BTreeSet<&str> = pairs.iter().map(|(key, _)| key.as_str()).collect();
    let query = kinds.into_iter().collect::<Vec<_>>().join("&");
    let act = Act::Searched { path: format!("/fhir/{kind}"), query };
    if let Err(refused) = door.shows(Reader::Fhir, caller, act, None, shown).await {
        return *refused;
    }
    let base = door.address(&opened.parts.headers, &caller.base);
    let mut links = vec![link("self", &kind, &pairs, &base)];
    if let Some((Cursor(at, number), _)) = found.last().filter(|_| more) {
        let mut next: Pairs = pairs.iter().filter(|(key, _)| key != "_after").cloned().collect();
        next.push(("_after".into(), format!("{at}.{number}")));
        links.push(link("next", &kind, &next, &base));
    }
    let mut bundle = json!({"resourceType": "Bundle", "type": "searchset", "link": links});
    let entries = door.entries(&asked, &found, &patients, &base).await;
    match entries {
        Ok(entries) if entries.is_empty() => {}
        Ok(entries) => bundle["entry"] = entries.into(),
        Err(error) => return door.unsafe_now(Reader::Fhir, &error),
    }
    json_response(Reader::Fhir, 200, &bundle)
}

impl Door {
    /// The people that the names mean; nobody, if a name means nobody.
    async fn name_people(&self, asked: &mut Asked, client: &str) -> Result<(), JournalError> {
        let journal = self.corridor().journal();
        for name in &asked.subjects {
            let identifiers = match name {
                Name::Reference(id) => vec![
                    Identifier::new(system::CHT_UUID, id),
                    Identifier::new(system::told(client), format!("Patient/{id}")),
                    Identifier::new(system::own(client), format!("Patient/{id}")),
                ],
                Name::Identifier(identifier) => vec![identifier.clone()],
            };
            let mut people = BTreeSet::new();
            for identifier in identifiers {
                if identifier.system.is_empty() {
                    people.extend(journal.people_with(&identifier.value).await?);
                } else {
                    people.extend(journal.person(&identifier).await?);
                }
            }
            let known = asked.criteria.people.take();
            let all = people.into_iter().filter(|one| known.as_ref().is_none_or(|known| known.contains(one)));
            asked.criteria.people = Some(all.collect());
        }
        Ok(())
    }

    async fn find(
        &self,
        client: &str,
        asked: &Asked,
        limit: usize,
    ) -> Result<Vec<(Cursor, FollowUp)>, JournalError> {
        let view = self.corridor().view(client);
        self.corridor().journal().find_follow_ups(view, asked.criteria.clone(), asked.after, limit).await
    }

    /// By CHT uuid, of each request the patient.
    async fn patients(&self, found: &[(Cursor, FollowUp)]) -> Result<Vec<Option<Identifier>>, JournalError> {
        let mut patients = Vec::with_capacity(found.len());
        for (_, request) in found {
            let known = self.corridor().journal().identifiers(&request.person).await?;
            patients.push(known.into_iter().find(|identifier| identifier.system == system::CHT_UUID));
        }
        Ok(patients)
    }

    async fn entries(
        &self,
        asked: &Asked,
        found: &[(Cursor, FollowUp)],
        patients: &[Option<Identifier>],
        base: &str,
    ) -> Result<Vec<Value>, JournalError> {
        let mut entries = Vec::new();
        let mut included: Vec<(String, &str)> = Vec::new();
        for ((_, request), patient) in found.iter().zip(patients) {
            let mut resource = request.shown();
            if asked.includes_subject {
                let id = name_subject(&mut resource, patient.as_ref());
                if !included.iter().any(|(known, _)| *known == id) {
                    included.push((id, &request.person));
                }
            }
            let url = format!("{base}/{}/{}", request.resource_type(), request.id());
            entries.push(json!({"fullUrl": url, "resource": resource, "search": {"mode": "match"}}));
        }
        for (id, person) in included {
            let known = self.corridor().journal().identifiers(person).await?;
            let known = known.iter().filter(|identifier| !system::is_ours_alone(&identifier.system));
            let identifiers: Vec<Value> =
                known.map(|i| json!({"system": i.system, "value": i.value})).collect();
            let resource = json!({"resourceType": "Patient", "id": id, "identifier": identifiers});
            let url = format!("{base}/Patient/{id}");
            entries.push(json!({"fullUrl": url, "resource": resource, "search": {"mode": "include"}}));
        }
        Ok(entries)
    }
}

/// The id by which the request's subject is included; the subject refers to it.
fn name_subject(resource: &mut Value, patient: Option<&Identifier>) -> String {
    let element = if resource["resourceType"] == "Task" { "for" } else { "subject" };
    let literal = resource[element]["reference"].as_str().and_then(|name| name.strip_prefix("Patient/"));
    if let Some(id) = literal.filter(|id| !id.contains(['?', '/'])) {
        return id.to_string();
    }
    let id = patient.map(|patient| patient.value.clone()).unwrap_or_default();
    resource[element]["reference"] = json!(format!("Patient/{id}"));
    id
}

fn link(relation: &str, kind: &str, pairs: &Pairs, base: &str) -> Value {
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    let mark = if query.is_empty() { "" } else { "?" };
    json!({"relation": relation, "url": format!("{base}/{kind}{mark}{query}")})
}

/// Says what is not understood: a parameter that were skipped would show more than was asked for.
pub(super) fn asked_of(kind: &str, pairs: &[(String, String)]) -> Result<Asked, String> {
    let mut asked = Asked::default();
    asked.criteria.resource_type = kind.to_string();
    for (key, value) in pairs {
        take(&mut asked, kind, key, value)?;
    }
    Ok(asked)
}

const TAKEN: &str = "_id, identifier, status, subject, patient, patient.identifier, subject:identifier, requester, \
     requester:identifier, performer:identifier (Task: owner:identifier), authored (Task: authored-on), \
     _lastUpdated, _tag, _include, _count, _sort, _format are taken";

fn take(asked: &mut Asked, kind: &str, key: &str, value: &str) -> Result<(), String> {
    let is_task = kind == "Task";
    let wanted = &mut asked.criteria;
    match key {
        "_id" => wanted.ids.extend(list(value)),
        "status" => wanted.statuses.extend(list(value)),
        "_tag" => wanted.flags.extend(list(value).into_iter().map(|token| tail(&token))),
        "identifier" => {
            let all = list(value).into_iter().filter_map(|token| Identifier::of_token(&token));
            wanted.identifiers.extend(all);
        }
        "requester" | "requester:identifier" => {
            wanted.requesters.extend(list(value).iter().map(|one| tail(one)));
        }
        "performer:identifier" | "performer" if !is_task => {
            wanted.performers.extend(list(value).iter().map(|one| tail(one)));
        }
        "owner:identifier" | "owner" if is_task => {
            wanted.performers.extend(list(value).iter().map(|one| tail(one)));
        }
        "subject" | "patient" | "subject:Patient" => {
            asked.subjects.push(Name::Reference(value.rsplit('/').next().unwrap_or(value).to_string()));
        }
        "patient.identifier"
        | "subject.identifier"
        | "subject:Patient.identifier"
        | "patient:identifier"
        | "subject:identifier" => {
            let identifier = Identifier::of_token(value).ok_or(format!("{key}: expected system|value"))?;
            asked.subjects.push(Name::Identifier(identifier));
        }
        "authored" if !is_task => wanted.authored = wanted.authored.and(span(key, value)?),
        "authored-on" if is_task => wanted.authored = wanted.authored.and(span(key, value)?),
        "_lastUpdated" => wanted.updated = wanted.updated.and(span(key, value)?),
        "_include" => {
            let taken = [format!("{kind}:subject"), format!("{kind}:patient")];
            if !taken.iter().any(|one| one == value) {
                return Err(format!("_include: {} is taken", taken.join(" or ")));
            }
            asked.includes_subject = true;
        }
        "_count" => {
            let count = value.parse().ok().filter(|count| *count <= MOST);
            asked.count = Some(count.ok_or(format!("_count: expected a number up to {MOST}"))?);
        }
        "_sort" if value == "_lastUpdated" => {}
        "_sort" => return Err("_sort: only _lastUpdated is taken, and is how it is sorted anyway".into()),
        "_after" => asked.after = Some(cursor(value).ok_or("_after: expected what a next link has")?),
        "_format" if value.contains("json") => {}
        "_format" => return Err("_format: only json is given".into()),
        _ => return Err(format!("{} is not taken; {TAKEN}", crate::translate::plain(key))),
    }
    Ok(())
}

/// Values of which any will do (<https://hl7.org/fhir/R4/search.html#combining>).
fn list(value: &str) -> Vec<String> {
    value.split(',').filter(|one| !one.is_empty()).map(String::from).collect()
}

/// An identifier's value, a reference's id.
fn tail(value: &str) -> String {
    value.rsplit(['|', '/']).next().unwrap_or(value).to_string()
}

fn cursor(text: &str) -> Option<Cursor> {
    let (at, number) = text.split_once('.')?;
    Some(Cursor(at.parse().ok()?, number.parse().ok()?))
}

/// `ge2026-11-01`: <https://hl7.org/fhir/R4/search.html#date>. A year, a month, a day or an instant, in UTC.
pub(super) fn span(key: &str, value: &str) -> Result<Span, String> {
    let at = value.find(|c: char| c.is_ascii_digit()).unwrap_or_default();
    let (prefix, date) = value.split_at(at);
    let bad = || format!("{key}: expected a date such as ge2026-11-01, of the prefixes eq, ge, gt, le, lt");
    let (from, until) = bounds(date).ok_or_else(bad)?;
    Ok(match prefix {
        "" | "eq" => Span { from: Some(from), until: Some(until) },
        "ge" => Span { from: Some(from), until: None },
        "gt" | "sa" => Span { from: Some(until), until: None },
        "le" => Span { from: None, until: Some(until) },
        "lt" | "eb" => Span { from: None, until: Some(from) },
        _ => return Err(bad()),
    })
}

/// From its first millisecond on, and before the first after it.
fn bounds(date: &str) -> Option<(i64, i64)> {
    let midnight = |day: Date| Some(TimeZone::UTC.to_timestamp(day.at(0, 0, 0, 0)).ok()?.as_millisecond());
    let days = |first: Date, next: Option<Date>| Some((midnight(first)?, midnight(next?)?));
    match date.len() {
        4 => {
            let first: Date = format!("{date}-01-01").parse().ok()?;
            days(first, first.last_of_year().tomorrow().ok())
        }
        7 => {
            let first: Date = format!("{date}-01").parse().ok()?;
            days(first, first.last_of_month().tomorrow().ok())
        }
        10 => {
            let first: Date = date.parse().ok()?;
            days(first, first.tomorrow().ok())
        }
        _ => {
            // A `+` that is not escaped comes as a space.
            let at: Timestamp = date.replace(' ', "+").parse().ok()?;
            let has_millis = date.contains('.');
            let at = at.as_millisecond();
            Some((at, at + if has_millis { 1 } else { 1000 }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_spans_by_their_precision() {
        let of = |value: &str| span("authored", value).expect("a span");
        let day = of("2026-11-26");
        assert_eq!(day.until.zip(day.from).map(|(until, from)| until - from), Some(86_400_000));
        assert_eq!(of("ge2026-11").from, of("2026-11-01").from);
        assert_eq!(of("lt2026").until, of("2026-01-01").from);
        assert_eq!(of("gt2026-11-26").from, day.until);
        assert_eq!(of("ge2026-11-26T00:00:00Z").from, day.from);
        assert_eq!(of("ge2026-11-26T03:00:00 03:00").from, day.from);
        for bad in ["", "yesterday", "ne2026", "2026-13", "ge26-01-01"] {
            assert!(span("authored", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_not_understood_is_said() {
        let asked = |key: &str, value: &str| asked_of("Task", &[(key.into(), value.into())]);
        assert!(asked("owner:identifier", "http://mfl|13939").is_ok());
        for (key, value) in
            [("performer", "x"), ("_count", "501"), ("_sort", "-authored"), ("code", "x"), ("_after", "1")]
        {
            assert!(asked(key, value).is_err(), "{key}");
        }
    }
}
