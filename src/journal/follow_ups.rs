//! Requests and referrals in the embedded journal: each with what it can be found by beside it.
use super::embedded::Embedded;
use super::rows::{self, FOLLOW_UP, to_json};
use crate::domain::follow_up::{Criteria, FollowUp, Happening, Kind, Span, State, View};
use crate::domain::identifier::Identifier;
use crate::flow::follow_ups::{Cursor, FollowUps, List, Subscription, Tally};
use crate::flow::ports::{Answer, JournalError, Millis};
use async_trait::async_trait;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Result, params, params_from_iter};
use std::collections::BTreeMap;

type Kept<T> = std::result::Result<T, JournalError>;

/// Writes a request as it stands, in place of what it was.
pub(super) fn write(c: &Connection, request: &FollowUp) -> Result<()> {
    c.prepare_cached(
        "INSERT INTO follow_ups (kind, system, value, person, record, state, content) \
         VALUES (?1, ?2, name(?3), name(?4), name(?5), ?6, seal('content', ?1 || ' ' || ?2 || ' ' || ?3, ?7)) \
         ON CONFLICT (kind, system, value) DO UPDATE SET person = excluded.person, record = excluded.record, \
         state = excluded.state, content = excluded.content",
    )?
    .execute(params![
        rows::kind(request.kind),
        request.identifier.system,
        request.identifier.value,
        request.person,
        request.record,
        to_json(&request.state)?,
        to_json(request)?
    ])?;
    index(c, request)
}

/// What it is found by.
fn index(c: &Connection, request: &FollowUp) -> Result<()> {
    c.prepare_cached(
        "UPDATE follow_ups SET id = ?4, type = ?5, client = ?6, status = ?7, requester = ?8, performer = ?9, \
         created = ?10, updated = ?11, wakes = ?12, claimed = ?13, completed = ?14, outcome = ?15, program = ?16, \
         authored = ?17, flag = ?18 \
         WHERE kind = ?1 AND system = ?2 AND value = name(?3)",
    )?
    .execute(params![
        rows::kind(request.kind),
        request.identifier.system,
        request.identifier.value,
        request.id(),
        request.resource_type(),
        request.client,
        request.state.status_of(request.resource_type()),
        request.requester(),
        request.performer(),
        request.created(),
        request.updated(),
        request.wakes(),
        request.first(Happening::Claimed),
        request.first(Happening::Completed).filter(|_| request.state == State::Completed),
        request.outcome,
        request.program,
        request.authored(),
        request.flag(),
    ])?;
    Ok(())
}

/// Those of a journal of an earlier release, which could not be searched.
pub(super) fn index_old(c: &Connection) -> Result<()> {
    let old = || -> Result<Vec<FollowUp>> {
        c.prepare(&format!("SELECT {FOLLOW_UP} WHERE updated IS NULL LIMIT 1000"))?
            .query_map([], rows::follow_up)?
            .collect()
    };
    loop {
        let some = old()?;
        if some.is_empty() {
            return Ok(());
        }
        let batch = c.unchecked_transaction()?;
        some.iter().try_for_each(|request| index(c, request))?;
        batch.commit()?;
    }
}

/// Statuses of a type of resource, each a range of the index.
fn statuses(criteria: &Criteria) -> Vec<String> {
    if !criteria.statuses.is_empty() {
        return criteria.statuses.clone();
    }
    let all = [
        State::Requested,
        State::Accepted,
        State::InProgress,
        State::Completed,
        State::Rejected,
        State::Cancelled,
        State::Expired,
    ];
    let mut all: Vec<String> =
        all.iter().map(|state| state.status_of(&criteria.resource_type).to_string()).collect();
    all.sort();
    all.dedup();
    all
}

/// A part of what somebody sees, in the order of an index.
struct Source {
    index: &'static str,
    condition: &'static str,
    value: Option<String>,
}

/// A column with one of the values that are asked for.
type Exactly<'c> = Option<(&'static str, &'c String)>;

/// By which indices the client's own requests are read: the one that leads straight to what is asked for.
fn own<'c>(view: &View, criteria: &'c Criteria) -> Vec<(Source, Exactly<'c>)> {
    let by = |index| Source {
        index,
        condition: "kind = 'follow_up' AND client = ?1",
        value: Some(view.client.clone()),
    };
    let each = |index, column, wanted: &'c [String]| {
        wanted.iter().map(|value| (by(index), Some((column, value)))).collect::<Vec<_>>()
    };
    match criteria {
        Criteria { performers, .. } if !performers.is_empty() => {
            each("follow_ups_of_client_for", "performer", performers)
        }
        Criteria { requesters, .. } if !requesters.is_empty() => {
            each("follow_ups_of_client_by", "requester", requesters)
        }
        Criteria { authored, .. } if is_short(*authored) => vec![(by("follow_ups_of_client_on"), None)],
        _ => vec![(by("follow_ups_of_client"), None)],
    }
}

/// So little that it is quicker sorted than found among all in their order.
fn is_short(span: Span) -> bool {
    const WEEK_MS: i64 = 7 * 24 * 60 * 60 * 1000;
    span.from.zip(span.until).is_some_and(|(from, until)| until - from <= WEEK_MS)
}

fn sources<'c>(view: &View, criteria: &'c Criteria) -> Vec<(Source, Exactly<'c>)> {
    let mut all = own(view, criteria);
    if view.facilities.iter().any(|facility| facility == "*") {
        let any = Source { index: "follow_ups_of_kind", condition: "kind = 'referral'", value: None };
        all.push((any, None));
    } else {
        let of = |facility: &String| Source {
            index: "follow_ups_of_performer",
            condition: "kind = 'referral' AND performer = ?1",
            value: Some(facility.clone()),
        };
        all.extend(view.facilities.iter().map(|facility| (of(facility), None)));
    }
    all
}

/// Conditions in SQL, and their values.
struct Query {
    conditions: Vec<String>,
    values: Vec<Value>,
}

impl Query {
    fn new(source: &Source, kind: &str, status: &str) -> Self {
        let mut query = Self { conditions: Vec::new(), values: Vec::new() };
        query.values.push(source.value.clone().map_or(Value::Null, Value::Text));
        query.conditions.push(source.condition.into());
        query.and("type = ?", Value::Text(kind.into()));
        query.and("status = ?", Value::Text(status.into()));
        query
    }

    fn and(&mut self, condition: &str, value: Value) {
        self.values.push(value);
        self.conditions.push(condition.replace('?', &format!("?{}", self.values.len())));
    }

    fn any_of(&mut self, column: &str, wanted: &[String]) {
        if !wanted.is_empty() {
            let list = serde_json::json!(wanted).to_string();
            self.and(&format!("{column} IN (SELECT value FROM json_each(?))"), Value::Text(list));
        }
    }

    fn within(&mut self, column: &str, span: Span) {
        if let Some(from) = span.from {
            self.and(&format!("{column} >= ?"), Value::Integer(from));
        }
        if let Some(until) = span.until {
            self.and(&format!("{column} < ?"), Value::Integer(until));
        }
    }
}

/// What asks for the cursors of what matches: by the index of each part of what is seen, each in order.
fn queries(
    view: &View,
    criteria: &Criteria,
    after: Option<Cursor>,
    limit: usize,
) -> Vec<(String, Vec<Value>)> {
    let mut all = Vec::new();
    let statuses = statuses(criteria);
    for (source, exactly) in sources(view, criteria) {
        for status in &statuses {
            let mut query = Query::new(&source, &criteria.resource_type, status);
            if let Some((column, value)) = exactly {
                query.and(&format!("{column} = ?"), Value::Text(value.clone()));
            }
            query.any_of("requester", &criteria.requesters);
            query.any_of("performer", &criteria.performers);
            query.any_of("flag", &criteria.flags);
            query.within("authored", criteria.authored);
            query.within("updated", criteria.updated);
            if let Some(Cursor(updated, number)) = after {
                query.values.extend([Value::Integer(updated), Value::Integer(number)]);
                let last = query.values.len();
                query.conditions.push(format!("(updated, rowid) > (?{}, ?{last})", last - 1));
            }
            let sql = format!(
                "SELECT updated, rowid FROM follow_ups INDEXED BY {} WHERE {} ORDER BY updated, rowid LIMIT {limit}",
                source.index,
                query.conditions.join(" AND ")
            );
            all.push((sql, query.values));
        }
    }
    all
}

/// Cursors of what matches, in order.
fn cursors(
    c: &Connection,
    view: &View,
    criteria: &Criteria,
    after: Option<Cursor>,
    limit: usize,
) -> Result<Vec<Cursor>> {
    let mut found = Vec::new();
    for (sql, values) in queries(view, criteria, after, limit) {
        let rows = c
            .prepare_cached(&sql)?
            .query_map(params_from_iter(values), |row| Ok(Cursor(row.get(0)?, row.get(1)?)))?
            .collect::<Result<Vec<_>>>()?;
        found.extend(rows);
    }
    found.sort();
    found.truncate(limit);
    Ok(found)
}

/// The few that go by these names, or are about these people.
fn named(c: &Connection, criteria: &Criteria) -> Result<Option<Vec<(Cursor, FollowUp)>>> {
    let (condition, names) = if !criteria.ids.is_empty() {
        ("id IN (SELECT value FROM json_each(?1))", criteria.ids.clone())
    } else if !criteria.identifiers.is_empty() {
        let values = criteria.identifiers.iter().map(|identifier| identifier.value.clone());
        ("value IN (SELECT name(value) FROM json_each(?1))", values.collect())
    } else if let Some(people) = &criteria.people {
        ("person IN (SELECT name(value) FROM json_each(?1))", people.clone())
    } else {
        return Ok(None);
    };
    let sql = format!("SELECT updated, rowid, {FOLLOW_UP} WHERE {condition} ORDER BY updated, rowid");
    c.prepare_cached(&sql)?
        .query_map([serde_json::json!(names).to_string()], |row| {
            Ok((Cursor(row.get(0)?, row.get(1)?), rows::json(row, 2)?))
        })?
        .collect::<Result<Vec<_>>>()
        .map(Some)
}

fn find(
    c: &Connection,
    view: &View,
    criteria: &Criteria,
    after: Option<Cursor>,
    limit: usize,
) -> Result<Vec<(Cursor, FollowUp)>> {
    if let Some(mut few) = named(c, criteria)? {
        few.retain(|(cursor, request)| {
            after.is_none_or(|after| *cursor > after) && view.shows(request) && criteria.matches(request)
        });
        few.truncate(limit);
        return Ok(few);
    }
    let mut read = c.prepare_cached(&format!("SELECT {FOLLOW_UP} WHERE rowid = ?1"))?;
    cursors(c, view, criteria, after, limit)?
        .into_iter()
        .map(|cursor| Ok((cursor, read.query_row([cursor.1], rows::follow_up)?)))
        .collect()
}

/// One row of the tally's query: with one outcome, or none.
fn tally_row(row: &rusqlite::Row) -> Result<Tally> {
    let completed: u64 = row.get(5)?;
    let outcome: Option<String> = row.get(2)?;
    let outcomes = outcome.filter(|_| completed > 0).map(|outcome| (outcome, completed));
    Ok(Tally {
        program: row.get(0)?,
        place: row.get(1)?,
        created: row.get(3)?,
        claimed: row.get(4)?,
        completed,
        outcomes: outcomes.into_iter().collect::<BTreeMap<_, _>>(),
    })
}

fn tally(c: &Connection, view: Option<&View>, span: Span) -> Result<Vec<Tally>> {
    let everybody = view.is_none();
    let view = view.cloned().unwrap_or_default();
    let any_facility = view.facilities.iter().any(|facility| facility == "*");
    let rows = c
        .prepare_cached(
            "SELECT program, CASE kind WHEN 'referral' THEN performer ELSE requester END AS place, outcome, \
             SUM(created >= ?1 AND created < ?2), SUM(COALESCE(claimed >= ?1 AND claimed < ?2, 0)), \
             SUM(COALESCE(completed >= ?1 AND completed < ?2, 0)) FROM follow_ups \
             WHERE ?3 OR (kind = 'follow_up' AND client = ?4) \
             OR (kind = 'referral' AND (?5 OR performer IN (SELECT value FROM json_each(?6)))) \
             GROUP BY 1, 2, 3 ORDER BY 1, 2",
        )?
        .query_map(
            params![
                span.from.unwrap_or(i64::MIN),
                span.until.unwrap_or(i64::MAX),
                everybody,
                view.client,
                any_facility,
                serde_json::json!(view.facilities).to_string()
            ],
            tally_row,
        )?
        .collect::<Result<Vec<_>>>()?;
    let mut all: Vec<Tally> = Vec::new();
    for row in rows {
        match all.last_mut().filter(|last| (&last.program, &last.place) == (&row.program, &row.place)) {
            Some(last) => {
                last.created += row.created;
                last.claimed += row.claimed;
                last.completed += row.completed;
                last.outcomes.extend(row.outcomes);
            }
            None => all.push(row),
        }
    }
    all.retain(|tally| tally.created + tally.claimed + tally.completed > 0);
    Ok(all)
}

const SUBSCRIPTION: &str = "unseal('content', id, content) FROM subscriptions";

#[async_trait]
impl FollowUps for Embedded {
    async fn follow_up(&self, kind: Kind, identifier: &Identifier) -> Kept<Option<FollowUp>> {
        let identifier = identifier.clone();
        self.read(move |c| {
            c.prepare_cached(&format!(
                "SELECT {FOLLOW_UP} WHERE kind = ?1 AND system = ?2 AND value = name(?3)"
            ))?
            .query_row([rows::kind(kind), &identifier.system, &identifier.value], rows::follow_up)
            .optional()
        })
        .await
    }

    async fn follow_ups_of(&self, person: &str) -> Kept<Vec<FollowUp>> {
        let person = person.to_string();
        self.scan(move |c| {
            c.prepare_cached(&format!("SELECT {FOLLOW_UP} WHERE person = name(?1) ORDER BY rowid"))?
                .query_map([person], rows::follow_up)?
                .collect()
        })
        .await
    }

    async fn follow_ups_named(&self, name: &str) -> Kept<Vec<FollowUp>> {
        let name = name.to_string();
        self.read(move |c| {
            c.prepare_cached(&format!(
                "SELECT {FOLLOW_UP} WHERE value = name(?1) OR record = name(?1) OR id = ?1 ORDER BY rowid"
            ))?
            .query_map([name], rows::follow_up)?
            .collect()
        })
        .await
    }

    async fn find_follow_ups(
        &self,
        view: View,
        criteria: Criteria,
        after: Option<Cursor>,
        limit: usize,
    ) -> Kept<Vec<(Cursor, FollowUp)>> {
        self.scan(move |c| find(c, &view, &criteria, after, limit)).await
    }

    async fn lapsed(&self, now: Millis, limit: usize) -> Kept<Vec<FollowUp>> {
        self.scan(move |c| {
            c.prepare_cached(&format!("SELECT {FOLLOW_UP} WHERE wakes <= ?1 ORDER BY wakes LIMIT ?2"))?
                .query_map(params![now, limit], rows::follow_up)?
                .collect()
        })
        .await
    }

    async fn tally(&self, view: Option<View>, span: Span) -> Kept<Vec<Tally>> {
        self.scan(move |c| tally(c, view.as_ref(), span)).await
    }

    async fn keep_list(&self, list: List) -> Kept<()> {
        self.write(move |c| {
            c.execute(
                "INSERT OR REPLACE INTO lists (id, at, content) VALUES (?1, ?2, ?3)",
                params![list.id, list.at, to_json(&list)?],
            )?;
            Ok(Ok(()))
        })
        .await
    }

    async fn list_of(&self, id: &str) -> Kept<Option<List>> {
        let id = id.to_string();
        self.scan(move |c| {
            c.query_row("SELECT content FROM lists WHERE id = ?1", [id], |row| rows::json(row, 0)).optional()
        })
        .await
    }

    async fn answers(&self, ids: Vec<String>) -> Kept<BTreeMap<String, Option<Answer>>> {
        self.scan(move |c| {
            let mut read = c.prepare_cached(
                "SELECT status <> 'open', unseal('answer', id, answer) FROM transactions WHERE id = ?1",
            )?;
            let mut all = BTreeMap::new();
            for id in ids {
                let answer = read.query_row([&id], |row| match row.get(0)? {
                    true => rows::optional_json(row, 1),
                    false => Ok(None),
                });
                if let Some(answer) = answer.optional()? {
                    all.insert(id, answer);
                }
            }
            Ok(all)
        })
        .await
    }

    async fn subscribe(&self, subscription: Subscription) -> Kept<()> {
        self.write(move |c| {
            c.execute(
                "INSERT OR REPLACE INTO subscriptions (id, client, type, content) \
                 VALUES (?1, ?2, ?3, seal('content', ?1, ?4))",
                params![
                    subscription.id,
                    subscription.client,
                    subscription.resource_type,
                    to_json(&subscription)?
                ],
            )?;
            Ok(Ok(()))
        })
        .await
    }

    async fn unsubscribe(&self, id: &str) -> Kept<bool> {
        let id = id.to_string();
        self.write(move |c| Ok(Ok(c.execute("DELETE FROM subscriptions WHERE id = ?1", [&id])? > 0))).await
    }

    async fn subscription(&self, id: &str) -> Kept<Option<Subscription>> {
        let id = id.to_string();
        self.read(move |c| {
            c.prepare_cached(&format!("SELECT {SUBSCRIPTION} WHERE id = ?1"))?
                .query_row([id], |row| rows::json(row, 0))
                .optional()
        })
        .await
    }

    async fn subscriptions(
        &self,
        client: Option<&str>,
        resource_type: Option<&str>,
    ) -> Kept<Vec<Subscription>> {
        let (client, kind) = (client.map(String::from), resource_type.map(String::from));
        self.read(move |c| {
            c.prepare_cached(&format!(
                "SELECT {SUBSCRIPTION} WHERE (?1 IS NULL OR client = ?1) AND (?2 IS NULL OR type = ?2) ORDER BY id"
            ))?
            .query_map([client, kind], |row| rows::json(row, 0))?
            .collect()
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::super::schema;
    use super::*;

    /// How SQLite goes about each query of a search.
    fn plans(criteria: &Criteria, after: Option<Cursor>) -> Vec<String> {
        let c = Connection::open_in_memory().expect("a database");
        schema::migrate(&c).expect("a schema");
        let view = View { client: "emr".into(), facilities: vec!["urn:mfl|1".into()] };
        let plan = |(sql, values): (String, Vec<Value>)| {
            c.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?
                .query_map(params_from_iter(values), |row| row.get::<_, String>(3))?
                .collect::<Result<Vec<_>>>()
        };
        let all = queries(&view, criteria, after, 50).into_iter().map(|query| plan(query).expect("a plan"));
        all.flatten().collect()
    }

    #[test]
    fn a_search_goes_by_the_index_that_leads_straight_to_it() {
        let day = Span { from: Some(0), until: Some(86_400_000) };
        let all = || Criteria { resource_type: "ServiceRequest".into(), ..Criteria::default() };
        let one = || vec!["urn:mfl|13939".to_string()];
        for (criteria, way, is_sorted) in [
            (all(), "follow_ups_of_client (kind=? AND client=? AND type=? AND status=?", true),
            (
                Criteria { performers: one(), ..all() },
                "follow_ups_of_client_for (kind=? AND client=? AND performer=? AND type=? AND status=?",
                true,
            ),
            (
                Criteria { requesters: one(), ..all() },
                "follow_ups_of_client_by (kind=? AND client=? AND requester=? AND type=? AND status=?",
                true,
            ),
            (
                Criteria { authored: day, ..all() },
                "follow_ups_of_client_on (kind=? AND client=? AND type=? AND status=? AND authored>? AND authored<?",
                false,
            ),
            (
                Criteria { authored: Span { from: Some(0), until: None }, ..all() },
                "follow_ups_of_client (",
                true,
            ),
        ] {
            for after in [None, Some(Cursor(7, 1))] {
                let plans = plans(&criteria, after);
                assert!(plans.iter().any(|plan| plan.contains(way)), "{way}: {plans:?}");
                assert!(!plans.iter().any(|plan| plan.starts_with("SCAN follow_ups")), "{plans:?}");
                let is_sorted_anew = plans.iter().any(|plan| plan.contains("TEMP B-TREE FOR ORDER BY"));
                assert_eq!(is_sorted_anew, !is_sorted, "{plans:?}");
            }
        }
    }
}
