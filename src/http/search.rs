//! FHIR searches: what a query asks for, and the searchset that answers it. What is not understood is said: a
//! parameter that were skipped would show more than was asked for.
use super::Door;
use crate::domain::follow_up::Span;
use crate::domain::identifier::Identifier;
use crate::flow::ports::Millis;
use hyper::header::{HOST, HeaderMap};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span as Length, Timestamp};
use serde_json::{Value, json};

/// Names and values, as they were sent.
pub(super) type Pairs = Vec<(String, String)>;

pub(super) fn pairs(query: &[u8]) -> Pairs {
    url::form_urlencoded::parse(query).into_owned().collect()
}

pub(super) fn query(pairs: &Pairs) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// A parameter and its modifier: `identifier` of `performer:identifier`.
pub(super) fn modified(key: &str) -> (&str, Option<&str>) {
    key.split_once(':').map_or((key, None), |(key, modifier)| (key, Some(modifier)))
}

/// Parameters of one search.
const PARAMETERS: usize = 100;

/// Refuses a parameter that stands twice; those of `many` may: both must hold then.
pub(super) fn no_repeats(pairs: &Pairs, many: &[&str]) -> Result<(), String> {
    if pairs.len() > PARAMETERS {
        return Err(format!("a search has {PARAMETERS} parameters at the most"));
    }
    for (i, (key, _)) in pairs.iter().enumerate() {
        let (name, _) = modified(key);
        let is_again = pairs.iter().take(i).any(|(other, _)| modified(other).0 == name);
        if is_again && !many.contains(&name) {
            return Err(format!("{} stands twice; one value is taken", plain(name)));
        }
    }
    Ok(())
}

/// The refusal of a parameter that is not among those that are `taken`. It is not repeated: it may say anything.
pub(super) fn unknown(taken: &str) -> String {
    format!("this search parameter is not known; {taken} are taken")
}

/// A parameter's name as it may be told again.
fn plain(key: &str) -> &str {
    let is_name = key.len() <= 40 && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_:.-".contains(&b));
    if is_name { key } else { "a parameter" }
}

/// `_count`, up to `most`.
pub(super) fn count(value: &str, most: usize) -> Result<usize, String> {
    let count = value.parse::<usize>().map_err(|_| format!("_count is a number up to {most}"))?;
    Ok(count.min(most))
}

/// SQLite's numbers end earlier than ours.
pub(super) fn number(text: &str) -> Option<u64> {
    text.parse::<i64>().ok().and_then(|number| number.try_into().ok())
}

/// One value, or `system|value`.
pub(super) fn token(key: &str, value: &str) -> Result<Identifier, String> {
    let identifier = Identifier::of_token(value).filter(|identifier| !identifier.value.is_empty());
    identifier.ok_or_else(|| format!("{key} takes one value, or system|value"))
}

/// Any of several, with commas between them; `most` at the most.
pub(super) fn tokens(key: &str, value: &str, most: usize) -> Result<Vec<Identifier>, String> {
    let found: Vec<&str> = alternatives(value);
    if found.len() > most {
        return Err(format!("{key} takes {most} values at the most"));
    }
    found.into_iter().map(|value| token(key, value)).collect()
}

/// Split at the commas that are not escaped (<https://hl7.org/fhir/R4/search.html#escaping>).
fn alternatives(value: &str) -> Vec<&str> {
    let mut is_escaped = false;
    let at_comma = |letter: char| {
        let splits = letter == ',' && !is_escaped;
        is_escaped = letter == '\\' && !is_escaped;
        splits
    };
    value.split(at_comma).collect()
}

/// Narrows a span by a date with eq, ge, gt, le, lt or nothing before it
/// (<https://hl7.org/fhir/R4/search.html#date>); a date without a time is one in UTC.
pub(super) fn narrow(span: &mut Span, key: &str, value: &str) -> Result<(), String> {
    let at = value.find(|c: char| c.is_ascii_digit()).unwrap_or(value.len());
    let (prefix, date) = value.split_at(at);
    let (start, end) = bounds(date).ok_or_else(|| {
        format!("{key} takes a date or a time with a zone, such as ge2026-11-25 or le2026-11-25T10:00:00Z")
    })?;
    let (from, until) = match prefix {
        "" | "eq" => (Some(start), Some(end)),
        "ge" => (Some(start), None),
        "gt" => (Some(end), None),
        "le" => (None, Some(end)),
        "lt" => (None, Some(start)),
        _ => return Err(format!("{key} takes ge, gt, le, lt or eq before it")),
    };
    span.from = span.from.max(from);
    span.until = match (span.until, until) {
        (Some(known), Some(until)) => Some(known.min(until)),
        (known, until) => known.or(until),
    };
    Ok(())
}

/// From when until before when it is this date.
pub(super) fn bounds(date: &str) -> Option<(Millis, Millis)> {
    let (day, length) = match date.len() {
        4 => (format!("{date}-01-01"), Length::new().years(1)),
        7 => (format!("{date}-01"), Length::new().months(1)),
        10 => (date.to_string(), Length::new().days(1)),
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

/// Why a resource stands in a searchset.
#[derive(Clone, Copy)]
pub(super) enum Mode {
    Match,
    Include,
}

/// An entry of a searchset; `base` as [`Door::address`] gives it.
pub(super) fn entry(base: &str, resource: Value, mode: Mode) -> Value {
    let full_url = ["resourceType", "id"].map(|key| resource[key].as_str().unwrap_or_default()).join("/");
    let mode = match mode {
        Mode::Match => "match",
        Mode::Include => "include",
    };
    json!({"fullUrl": format!("{base}/{full_url}"), "resource": resource, "search": {"mode": mode}})
}

/// A link of a searchset (`self`, `next`) to a search of this type with these parameters.
pub(super) fn link(relation: &str, base: &str, kind: &str, pairs: &Pairs) -> Value {
    let query = query(pairs);
    let mark = if query.is_empty() { "" } else { "?" };
    json!({"relation": relation, "url": format!("{base}/{kind}{mark}{query}")})
}

/// `total` counts the matches on all pages, where they are counted.
pub(super) fn searchset(links: Vec<Value>, total: Option<usize>, entries: Vec<Value>) -> Value {
    let mut bundle = json!({"resourceType": "Bundle", "type": "searchset", "link": links});
    if let Some(total) = total {
        bundle["total"] = json!(total);
    }
    if !entries.is_empty() {
        bundle["entry"] = Value::Array(entries);
    }
    bundle
}

impl Door {
    /// The FHIR base by which the caller came.
    pub(super) fn address(&self, headers: &HeaderMap, base: &str) -> String {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
        format!("{}://{host}{base}/fhir", if self.0.tls { "https" } else { "http" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Pairs {
        pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    #[test]
    fn a_parameter_stands_once_unless_both_must_hold() {
        assert_eq!(no_repeats(&of(&[("date", "ge2026"), ("date", "lt2027")]), &["date"]), Ok(()));
        let twice = no_repeats(&of(&[("status", "active"), ("status", "revoked")]), &["date"]);
        assert_eq!(twice, Err("status stands twice; one value is taken".into()));
        let odd = no_repeats(&of(&[("Achieng Otieno", ""), ("Achieng Otieno", "")]), &[]);
        assert_eq!(odd, Err("a parameter stands twice; one value is taken".into()));
        assert_eq!(modified("performer:identifier"), ("performer", Some("identifier")));
    }

    #[test]
    fn tokens_are_split_at_commas_that_are_not_escaped() {
        let named = |value| {
            let found = tokens("identifier", value, 3)?;
            Ok::<_, String>(found.iter().map(Identifier::token).collect::<Vec<_>>())
        };
        assert_eq!(named(r"http://e|1,2\,3"), Ok(vec!["http://e|1".into(), r"|2\,3".into()]));
        assert_eq!(named(r"a\\,b"), Ok(vec![r"|a\\".into(), "|b".into()]));
        assert_eq!(named("a,"), Err("identifier takes one value, or system|value".into()));
        assert_eq!(named("a,b,c,d"), Err("identifier takes 3 values at the most".into()));
        assert!(token("identifier", "a,b").is_err());
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
            assert_eq!(bounds(date), Some((at(start), at(end))), "{date}");
        }
        let mut both = Span::default();
        for date in ["ge2026-11-25", "le2026-11-25"] {
            narrow(&mut both, "date", date).expect("understood");
        }
        assert_eq!(
            (both.from, both.until),
            (Some(at("2026-11-25T00:00:00Z")), Some(at("2026-11-26T00:00:00Z")))
        );
    }

    #[test]
    fn a_searchset_without_matches_has_no_entries() {
        let pairs = of(&[("identifier", "urn:cht:uuid|p 1")]);
        let links = vec![link("self", "http://here/fhir", "Patient", &pairs)];
        let url = "http://here/fhir/Patient?identifier=urn%3Acht%3Auuid%7Cp+1";
        assert_eq!(links[0], json!({"relation": "self", "url": url}));
        let bundle = searchset(links, Some(0), Vec::new());
        assert_eq!(bundle["total"], 0);
        assert!(bundle["entry"].is_null());
        let one = entry("http://here/fhir", json!({"resourceType": "Task", "id": "t"}), Mode::Match);
        assert_eq!(
            (&one["fullUrl"], &one["search"]["mode"]),
            (&json!("http://here/fhir/Task/t"), &json!("match"))
        );
    }
}
