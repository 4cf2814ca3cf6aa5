//! OpenHIE's indicators of community follow-up (requests created, claimed, completed, completed by outcome), as a
//! FHIR MeasureReport: <https://hl7.org/fhir/R4/measurereport.html>.
use super::Door;
use super::reply::{Reader, json_response, refusal};
use super::search::{Mode, Pairs, entry, link, narrow, searchset, unknown};
use crate::config::Role;
use crate::domain::audit::Act;
use crate::domain::fhir::CANONICAL;
use crate::domain::follow_up::Span;
use crate::flow::follow_ups::Tally;
use axum::extract::{Query, Request, State};
use axum::response::Response;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What is asked for.
#[derive(Default)]
struct Asked {
    period: Span,
    program: Option<String>,
    place: Option<String>,
}

/// Of what the caller sees; an admin's, of all.
pub(super) async fn report(
    State(door): State<Door>,
    Query(pairs): Query<Pairs>,
    request: Request,
) -> Response {
    let opened = match door.open(request, Reader::Fhir, &[Role::Fhir, Role::Admin]).await {
        Ok(opened) => opened,
        Err(refused) => return *refused,
    };
    let asked = match asked_of(&pairs) {
        Ok(asked) => asked,
        Err(why) => return refusal(Reader::Fhir, 400, "invalid", "", &why),
    };
    let caller = &opened.caller;
    let view = (!caller.may(Role::Admin)).then(|| door.corridor().view(&caller.id));
    let tallies = match door.corridor().journal().tally(view, asked.period).await {
        Ok(tallies) => tallies,
        Err(error) => return door.unsafe_now(Reader::Fhir, &error),
    };
    let query = pairs.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>().join("&");
    let act = Act::Searched { path: "/fhir/MeasureReport".into(), query };
    if let Err(refused) = door.shows(Reader::Fhir, caller, act, None, Vec::new()).await {
        return *refused;
    }
    let same = |wanted: &Option<String>, is: &Option<String>| {
        wanted.as_ref().is_none_or(|wanted| is.as_ref().is_some_and(|is| is.eq_ignore_ascii_case(wanted)))
    };
    let tallies: Vec<Tally> = tallies
        .into_iter()
        .filter(|tally| same(&asked.program, &tally.program) && same(&asked.place, &tally.place))
        .collect();
    let report = measure_report(&asked, &tallies, door.corridor().now());
    let base = door.address(&opened.parts.headers, &caller.base);
    let links = vec![link("self", &base, "MeasureReport", &pairs)];
    let entries = vec![entry(&base, report, Mode::Match)];
    json_response(Reader::Fhir, 200, &searchset(links, Some(1), entries))
}

fn asked_of(pairs: &Pairs) -> Result<Asked, String> {
    let mut asked = Asked::default();
    for (key, value) in pairs {
        match key.as_str() {
            "period" => narrow(&mut asked.period, key, value)?,
            "program" => asked.program = Some(value.clone()),
            "place" => asked.place = Some(value.clone()),
            "measure" if *value == measure() || *value == "follow-up-indicators" => {}
            "measure" => return Err(format!("measure: there is {} only", measure())),
            "_format" if value.contains("json") => {}
            _ => return Err(unknown("measure, period, program and place")),
        }
    }
    Ok(asked)
}

fn measure() -> String {
    format!("{CANONICAL}Measure/follow-up-indicators")
}

fn measure_report(asked: &Asked, tallies: &[Tally], now: i64) -> Value {
    let instant = |millis: i64| jiff::Timestamp::from_millisecond(millis).map(|at| at.to_string());
    let mut period = json!({});
    for (key, at) in [("start", asked.period.from), ("end", asked.period.until.map(|until| until - 1))] {
        if let Some(Ok(at)) = at.map(instant) {
            period[key] = at.into();
        }
    }
    // A period of no beginning has one all the same: a report must name some.
    if period["end"].is_null() {
        period["end"] = instant(now).unwrap_or_default().into();
    }
    let indicators: [(&str, Count); 3] = [
        ("created", |tally| tally.created),
        ("claimed", |tally| tally.claimed),
        ("completed", |tally| tally.completed),
    ];
    let groups: Vec<Value> =
        indicators.into_iter().map(|(code, count)| group(code, count, tallies)).collect();
    json!({"resourceType": "MeasureReport", "id": report_id(asked), "status": "complete", "type": "summary", "measure": measure(),
        "date": instant(now).unwrap_or_default(), "period": period, "group": groups})
}

/// The same for the same question.
fn report_id(asked: &Asked) -> String {
    let asked = format!("{:?} {:?} {:?}", asked.period, asked.program, asked.place);
    uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, asked.as_bytes()).to_string()
}

/// What an indicator counts.
type Count = fn(&Tally) -> u64;

fn group(code: &str, count: Count, tallies: &[Tally]) -> Value {
    let by = |name: fn(&Tally) -> &Option<String>| {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for tally in tallies.iter().filter(|tally| count(tally) > 0) {
            let name = name(tally).clone().unwrap_or_else(|| "not said".into());
            *counts.entry(name).or_default() += count(tally);
        }
        counts
    };
    let mut strata = vec![stratifier("program", by(|t| &t.program)), stratifier("place", by(|t| &t.place))];
    if code == "completed" {
        let mut outcomes: BTreeMap<String, u64> = BTreeMap::new();
        for (outcome, n) in tallies.iter().flat_map(|tally| &tally.outcomes) {
            *outcomes.entry(outcome.clone()).or_default() += n;
        }
        strata.push(stratifier("outcome", outcomes));
    }
    let all: u64 = tallies.iter().map(count).sum();
    json!({"code": concept(code), "population": [population(all)], "stratifier": strata})
}

fn stratifier(code: &str, counts: BTreeMap<String, u64>) -> Value {
    let strata: Vec<Value> = counts
        .into_iter()
        .map(|(name, count)| json!({"value": {"text": name}, "population": [population(count)]}))
        .collect();
    let mut stratifier = json!({"code": [{"text": code}]});
    if !strata.is_empty() {
        stratifier["stratum"] = strata.into();
    }
    stratifier
}

fn population(count: u64) -> Value {
    json!({"code": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/measure-population",
        "code": "initial-population"}]}, "count": count})
}

fn concept(code: &str) -> Value {
    json!({"coding": [{"system": format!("{CANONICAL}CodeSystem/follow-up-indicator"), "code": code}]})
}
