//! People of CHT, looked up by other systems: <https://hl7.org/fhir/R4/patient.html#search>, as far as it is described
//! in docs/EMR.md. Who asks has the role `lookup`, asks so often and no oftener, and leaves a record in the audit trail.
use super::Door;
use super::auth::Caller;
use super::reply::{Reader, json_response, refusal, retry_after};
use super::request::{Opened, Place};
use super::search::{self, Mode, Pairs, entry, link, narrow, searchset};
use crate::config::{self, Role};
use crate::domain::audit::Act;
use crate::domain::fhir::Entry;
use crate::domain::follow_up::Span;
use crate::domain::identifier::{Identifier, system};
use crate::flow::confirm::operation_outcome;
use crate::flow::lookups::{By, Found, Unanswered};
use crate::flow::ports::{Failure, FailureKind};
use axum::extract::{Query, Request, State};
use axum::response::Response;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

const ROLES: &[Role] = &[Role::Lookup];
/// Reports of which a page of `$everything` is made, if the caller does not say, and at the most.
const COUNT: usize = 50;
const MOST: usize = 200;

/// How often, and how many at once.
pub(super) struct Turns {
    limiter: DefaultKeyedRateLimiter<String>,
    at_once: Semaphore,
}

impl Turns {
    pub(super) fn new(settings: &config::Lookups) -> Self {
        let limiter = RateLimiter::keyed(Quota::per_minute(settings.per_minute));
        Self { limiter, at_once: Semaphore::new(settings.max_concurrent) }
    }

    /// Waits for a turn; the refusal of a client that has had all of its own.
    async fn take(&self, client: &str) -> Result<SemaphorePermit<'_>, Box<Response>> {
        if let Err(not_until) = self.limiter.check_key(&client.to_string()) {
            let wait = not_until.wait_time_from(DefaultClock::default().now());
            let text = "more look-ups than one client may make in a minute (lookups.per_minute)";
            return Err(Box::new(retry_after(refusal(Reader::Fhir, 429, "throttled", "", text), wait)));
        }
        let turn = self.at_once.acquire().await;
        turn.map_err(|_| Box::new(refusal(Reader::Fhir, 503, "transient", "", "no look-up is possible now")))
    }
}

/// `GET /fhir/Patient`.
pub(super) async fn search(
    State(door): State<Door>,
    Query(pairs): Query<Pairs>,
    request: Request,
) -> Response {
    match door.open(request, Reader::Fhir, ROLES).await {
        Ok(opened) => answer(door.searched(Asker::of(&door, opened), &pairs).await),
        Err(refused) => *refused,
    }
}

/// `POST /fhir/Patient/_search`: what is asked for is in the body, and in nobody's log of addresses.
pub(super) async fn search_by_form(State(door): State<Door>, request: Request) -> Response {
    let opened = match door.open(request, Reader::Fhir, ROLES).await {
        Ok(opened) => opened,
        Err(refused) => return *refused,
    };
    match opened.form(door.0.limits).await {
        Ok((opened, form)) => {
            // The address may have parameters too (<https://hl7.org/fhir/R4/http.html#search>).
            let mut pairs = search::pairs(opened.parts.uri.query().unwrap_or_default().as_bytes());
            pairs.extend(search::pairs(&form));
            answer(door.searched(Asker::of(&door, opened), &pairs).await)
        }
        Err(refused) => *refused,
    }
}

/// `GET /fhir/Patient/{id}`, by the CHT uuid.
pub(super) async fn read(State(door): State<Door>, Place(id): Place<String>, request: Request) -> Response {
    match door.open(request, Reader::Fhir, ROLES).await {
        Ok(opened) => answer(door.shown(Asker::of(&door, opened), &id).await),
        Err(refused) => *refused,
    }
}

/// `GET /fhir/Patient/{id}/$everything`: <https://hl7.org/fhir/R4/patient-operation-everything.html>.
pub(super) async fn everything(
    State(door): State<Door>,
    Place(id): Place<String>,
    Query(pairs): Query<Pairs>,
    request: Request,
) -> Response {
    match door.open(request, Reader::Fhir, ROLES).await {
        Ok(opened) => answer(door.everything(Asker::of(&door, opened), &id, &pairs).await),
        Err(refused) => *refused,
    }
}

fn answer(made: Result<Response, Box<Response>>) -> Response {
    made.unwrap_or_else(|refused| *refused)
}

/// Who asks, and the FHIR base by which they came.
struct Asker {
    caller: Caller,
    base: String,
}

impl Asker {
    fn of(door: &Door, opened: Opened) -> Self {
        Self { base: door.address(&opened.parts.headers, &opened.caller.base), caller: opened.caller }
    }
}

/// Whom a search is for.
struct Asked {
    by: By,
    born: Span,
}

const TAKEN: &str = "_id, identifier, phone, or name with birthdate; _count and _format";

fn asked_of(pairs: &Pairs) -> Result<Asked, String> {
    search::no_repeats(pairs, &["birthdate"])?;
    let mut by = Vec::new();
    let mut born = Span::default();
    for (key, value) in pairs {
        let value = value.trim();
        match key.as_str() {
            "_id" => by.push(By::Identifier(Identifier::new(system::CHT_UUID, value))),
            "identifier" => by.push(By::Identifier(search::token(key, value)?)),
            "phone" | "telecom" => by.push(By::Phone(phone_of(key, value)?)),
            "name" => by.push(By::Name(name_of(value)?)),
            "birthdate" => narrow(&mut born, key, value)?,
            "_count" => drop(search::count(value, MOST)?),
            "_format" if value.contains("json") => {}
            "_format" => return Err("_format: only json is given".into()),
            _ => return Err(search::unknown(TAKEN)),
        }
    }
    let is_narrowed = (born.from, born.until) != (None, None);
    match (by.pop(), by.is_empty()) {
        (Some(By::Name(_)), true) if !is_narrowed => Err("name is taken with birthdate only".into()),
        (Some(by), true) => Ok(Asked { by, born }),
        _ => Err(format!("say by what somebody is looked up: {TAKEN}")),
    }
}

/// A number, or `phone|number`.
fn phone_of(key: &str, value: &str) -> Result<String, String> {
    let number = value.rsplit('|').next().unwrap_or(value);
    let digits = number.bytes().filter(u8::is_ascii_digit).count();
    let is_phone = (5..=20).contains(&digits) && number.len() <= 40;
    if is_phone { Ok(number.to_string()) } else { Err(format!("{key} takes a phone number")) }
}

fn name_of(value: &str) -> Result<String, String> {
    let longest = value.split_whitespace().map(|word| word.chars().count()).max().unwrap_or_default();
    match longest >= 3 && value.len() <= 200 && !value.contains(':') {
        true => Ok(value.to_string()),
        false => Err("name takes one or more names, one of them of three letters or more".into()),
    }
}

/// Somebody of whom the year is known may be born on any day of it.
fn is_born_within(patient: &Value, span: Span) -> bool {
    if (span.from, span.until) == (None, None) {
        return true;
    }
    let Some((start, end)) = patient["birthDate"].as_str().and_then(search::bounds) else { return false };
    span.from.is_none_or(|from| end > from) && span.until.is_none_or(|until| start < until)
}

impl Door {
    async fn searched(&self, asker: Asker, pairs: &Pairs) -> Result<Response, Box<Response>> {
        let asked =
            asked_of(pairs).map_err(|why| Box::new(refusal(Reader::Fhir, 400, "invalid", "", &why)))?;
        let Asker { caller, base } = &asker;
        let lookups = self.corridor().lookups(self.within());
        let wanted = |patient: &Value| is_born_within(patient, asked.born);
        let people = self.in_turn(caller, lookups.people(&asked.by, wanted)).await?;
        let found = people.found;
        let mut keys: Vec<&str> = pairs.iter().map(|(key, _)| key.as_str()).collect();
        keys.sort_unstable();
        let act = Act::Searched { path: "/fhir/Patient".into(), query: keys.join("&") };
        self.shows(Reader::Fhir, caller, act, None, found.iter().map(named).collect()).await?;
        let links = vec![link("self", base, "Patient", pairs)];
        let total = found.len();
        let matches = found.into_iter().map(|person| entry(base, person.patient, Mode::Match));
        let mut entries: Vec<Value> = matches.collect();
        entries.extend(people.left_out.map(|why| {
            let text = format!("somebody of whom no Patient can be made: {}", why.message);
            beside(operation_outcome("warning", "processing", &why.path, &text))
        }));
        Ok(json_response(Reader::Fhir, 200, &searchset(links, Some(total), entries)))
    }

    async fn shown(&self, asker: Asker, id: &str) -> Result<Response, Box<Response>> {
        let lookups = self.corridor().lookups(self.within());
        let found = self.in_turn(&asker.caller, lookups.person(id)).await?;
        let Some(person) = found else { return Err(nobody()) };
        let act = Act::Read { what: format!("Patient/{}", person.uuid) };
        self.shows(Reader::Fhir, &asker.caller, act, None, vec![named(&person)]).await?;
        Ok(json_response(Reader::Fhir, 200, &person.patient))
    }

    async fn everything(&self, asker: Asker, id: &str, pairs: &Pairs) -> Result<Response, Box<Response>> {
        let (skip, count) =
            page_of(pairs).map_err(|why| Box::new(refusal(Reader::Fhir, 400, "invalid", "", &why)))?;
        let Asker { caller, base } = &asker;
        let lookups = self.corridor().lookups(self.within());
        let found = self.in_turn(caller, lookups.everything(id, skip, count)).await?;
        let Some(all) = found else { return Err(nobody()) };
        let what = format!("Patient/{}/$everything", all.person.uuid);
        self.shows(Reader::Fhir, caller, Act::Read { what }, None, vec![named(&all.person)]).await?;
        let kind = format!("Patient/{}/$everything", all.person.uuid);
        let mut links = vec![link("self", base, &kind, pairs)];
        if all.has_more {
            let next = [("_count", count), ("_after", skip + count)];
            let next = next.map(|(key, number)| (key.to_string(), number.to_string())).to_vec();
            links.push(link("next", base, &kind, &next));
        }
        let mut entries = vec![entry(base, all.person.patient, Mode::Match)];
        entries.extend(all.entries.into_iter().map(of_everything));
        if all.left_out > 0 {
            let text = format!("{} more reports, of which no mapping makes FHIR", all.left_out);
            entries.push(beside(operation_outcome("information", "informational", "", &text)));
        }
        Ok(json_response(Reader::Fhir, 200, &searchset(links, None, entries)))
    }

    /// How long a caller waits.
    fn within(&self) -> Duration {
        Duration::from_millis(self.0.answer_within.load(std::sync::atomic::Ordering::Relaxed))
    }

    /// When it is the client's turn, for which it waits no longer than for an answer.
    async fn in_turn<T>(
        &self,
        caller: &Caller,
        lookup: impl Future<Output = Result<T, Unanswered>>,
    ) -> Result<T, Box<Response>> {
        let turn = tokio::time::timeout(self.within(), self.0.turns.take(&caller.id)).await;
        let _turn = turn.unwrap_or_else(|_| {
            let text = "too many look-ups at once (lookups.max_concurrent); try again";
            Err(Box::new(refusal(Reader::Fhir, 503, "throttled", "", text)))
        })?;
        lookup.await.map_err(|why| Box::new(self.unanswered(why)))
    }

    fn unanswered(&self, why: Unanswered) -> Response {
        match why {
            Unanswered::Failed(failure) => cht_failed(&failure),
            Unanswered::Journal(error) => self.unsafe_now(Reader::Fhir, &error),
            Unanswered::TooMany(most) => {
                let text = format!("this finds more than {most} people; say more of whom you look for");
                refusal(Reader::Fhir, 400, "too-costly", "", &text)
            }
            Unanswered::Untranslated(problem) => {
                let text = format!("a person was found of whom no Patient can be made: {}", problem.message);
                refusal(Reader::Fhir, 422, "processing", &problem.path, &text)
            }
        }
    }
}

/// By the name that the others call it; what is found has an id.
fn of_everything(mut one: Entry) -> Value {
    one.resource["id"] = json!(one.full_url.trim_start_matches("urn:uuid:"));
    json!({"fullUrl": one.full_url, "resource": one.resource, "search": {"mode": "match"}})
}

/// Words beside what is found.
fn beside(mut outcome: Value) -> Value {
    outcome["id"] = json!("outcome");
    json!({"resource": outcome, "search": {"mode": "outcome"}})
}

fn cht_failed(failure: &Failure) -> Response {
    tracing::warn!(kind = ?failure.kind, "a look-up was not answered");
    // Our credentials are nothing to whoever looks somebody up.
    let why = match failure.kind {
        FailureKind::Unauthorised => "it does not let the mediator in",
        _ => &failure.message,
    };
    let text = format!("CHT cannot be asked now: {why}");
    let refused = refusal(Reader::Fhir, 503, "transient", "", &text);
    match failure.kind {
        FailureKind::Transient(Some(wait)) | FailureKind::Fault(Some(wait)) => retry_after(refused, wait),
        _ => refused,
    }
}

fn nobody() -> Box<Response> {
    Box::new(refusal(Reader::Fhir, 404, "not-found", "", "CHT has no patient of this id"))
}

fn named(person: &Found) -> Identifier {
    Identifier::new(system::CHT_UUID, &person.uuid)
}

/// How many reports are left out, and how many make the page.
fn page_of(pairs: &Pairs) -> Result<(usize, usize), String> {
    search::no_repeats(pairs, &[])?;
    let (mut skip, mut count) = (0, COUNT);
    for (key, value) in pairs {
        match key.as_str() {
            "_count" => count = search::count(value, MOST)?.max(1),
            "_after" => {
                skip = value.parse::<u32>().map_err(|_| "_after: expected what a next link has")? as usize
            }
            "_format" if value.contains("json") => {}
            _ => return Err(search::unknown("_count, _after and _format=json")),
        }
    }
    Ok((skip, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Asked, String> {
        asked_of(&pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect())
    }

    #[test]
    fn whom_is_looked_for_must_be_said_in_one_way() {
        assert!(of(&[("identifier", "urn:cht:shortcode|83288")]).is_ok());
        assert!(of(&[("phone", "0712 000 101"), ("_count", "5")]).is_ok());
        assert!(of(&[("name", "Achieng Otieno"), ("birthdate", "1990")]).is_ok());
        for wrong in [
            &[][..],
            &[("name", "Achieng")],
            &[("name", "Al"), ("birthdate", "1990")],
            &[("name", "type:person"), ("birthdate", "1990")],
            &[("birthdate", "1990")],
            &[("phone", "12")],
            &[("phone", "0712000101"), ("identifier", "x|1")],
            &[("identifier", "")],
            &[("gender", "female")],
        ] {
            assert!(of(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn somebody_of_whom_the_year_is_known_may_be_born_on_any_day_of_it() {
        let mut span = Span::default();
        narrow(&mut span, "birthdate", "1990-05").expect("understood");
        for (born, expected) in
            [("1990", true), ("1990-05-31", true), ("1990-06", false), ("1991-05-01", false), ("", false)]
        {
            assert_eq!(is_born_within(&json!({"birthDate": born}), span), expected, "{born}");
        }
    }
}
