//! Requests and referrals, searched from our own store, so that whoever cannot be told asks:
//! <https://hl7.org/fhir/R4/search.html>, as far as it is described in docs/EMR.md.
use super::Door;
use super::reply::{Reader, json_response, refusal};
use super::request::Place;
use super::search::{self, Mode, Pairs, entry, link, narrow, searchset};
use crate::config::Role;
use crate::domain::audit::Act;
use crate::domain::follow_up::{Criteria, FollowUp};
use crate::domain::identifier::{Identifier, system};
use crate::flow::follow_ups::Cursor;
use crate::flow::ports::JournalError;
use axum::extract::{Query, Request, State};
use axum::response::Response;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Matches on a page, if the caller does not say.
const COUNT: usize = 50;
const MOST: usize = 500;

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
    let mut links = vec![link("self", &base, &kind, &pairs)];
    if let Some((Cursor(at, number), _)) = found.last().filter(|_| more) {
        let mut next: Pairs = pairs.iter().filter(|(key, _)| key != "_after").cloned().collect();
        next.push(("_after".into(), format!("{at}.{number}")));
        links.push(link("next", &base, &kind, &next));
    }
    match door.entries(&asked, &found, &patients, &base).await {
        Ok(entries) => json_response(Reader::Fhir, 200, &searchset(links, None, entries)),
        Err(error) => door.unsafe_now(Reader::Fhir, &error),
    }
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
            entries.push(entry(base, resource, Mode::Match));
        }
        for (id, person) in included {
            let known = self.corridor().journal().identifiers(person).await?;
            let known = known.iter().filter(|identifier| !system::is_ours_alone(&identifier.system));
            let identifiers: Vec<Value> =
                known.map(|i| json!({"system": i.system, "value": i.value})).collect();
            let resource = json!({"resourceType": "Patient", "id": id, "identifier": identifiers});
            entries.push(entry(base, resource, Mode::Include));
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

/// Says what is not understood: a parameter that were skipped would show more than was asked for.
pub(super) fn asked_of(kind: &str, pairs: &Pairs) -> Result<Asked, String> {
    search::no_repeats(pairs, &["authored", "authored-on", "_lastUpdated", "subject", "patient"])?;
    let mut asked = Asked::default();
    asked.criteria.resource_type = kind.to_string();
    for (key, value) in pairs {
        take(&mut asked, kind, key, value)?;
    }
    Ok(asked)
}

const TAKEN: &str = "_id, identifier, status, subject, patient, patient.identifier, subject:identifier, requester, \
     requester:identifier, performer:identifier (Task: owner:identifier), authored (Task: authored-on), \
     _lastUpdated, _tag, _include, _count, _sort and _format";

fn take(asked: &mut Asked, kind: &str, key: &str, value: &str) -> Result<(), String> {
    let is_task = kind == "Task";
    let wanted = &mut asked.criteria;
    match key {
        "_id" | "status" if list(value).is_empty() => return Err(format!("{key} takes one value or more")),
        "_id" => wanted.ids.extend(list(value)),
        "status" => wanted.statuses.extend(list(value)),
        "_tag" => wanted.flags.extend(list(value).into_iter().map(|token| tail(&token))),
        "identifier" => wanted.identifiers.extend(search::tokens(key, value, MOST)?),
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
            asked.subjects.push(Name::Identifier(search::token(key, value)?));
        }
        "authored" if !is_task => narrow(&mut wanted.authored, key, value)?,
        "authored-on" if is_task => narrow(&mut wanted.authored, key, value)?,
        "_lastUpdated" => narrow(&mut wanted.updated, key, value)?,
        "_include" => {
            let taken = [format!("{kind}:subject"), format!("{kind}:patient")];
            if !taken.iter().any(|one| one == value) {
                return Err(format!("_include: {} is taken", taken.join(" or ")));
            }
            asked.includes_subject = true;
        }
        "_count" => asked.count = Some(search::count(value, MOST)?),
        "_sort" if value == "_lastUpdated" => {}
        "_sort" => return Err("_sort: only _lastUpdated is taken, and is how it is sorted anyway".into()),
        "_after" => asked.after = Some(cursor(value).ok_or("_after: expected what a next link has")?),
        "_format" if value.contains("json") => {}
        "_format" => return Err("_format: only json is given".into()),
        _ => return Err(search::unknown(TAKEN)),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_understood_is_said() {
        let asked = |key: &str, value: &str| asked_of("Task", &vec![(key.into(), value.into())]);
        assert!(asked("owner:identifier", "http://mfl|13939").is_ok());
        for (key, value) in [("performer", "x"), ("_sort", "-authored"), ("code", "x"), ("_after", "1")] {
            assert!(asked(key, value).is_err(), "{key}");
        }
    }
}
