//! Search parameters, for the resources that we write and read.
use super::Failure;
use jiff::Timestamp;
use serde_json::Value;

/// One criterion: `identifier=s|v`, `_lastUpdated=ge2026-11-24`, `subject.identifier=v`.
pub(super) struct Criterion {
    /// For a chain, the reference through which the rest is asked of its target.
    through: Option<String>,
    kind: Kind,
    /// Any of these.
    values: Vec<String>,
}

enum Kind {
    Id,
    LastUpdated,
    /// Codings, Identifiers and codes below these elements.
    Token(&'static [&'static str]),
    Reference(&'static [&'static str]),
    /// Beginning of a part of the name.
    Name(&'static [&'static str]),
    Exact(&'static str),
}

fn kind(name: &str) -> Option<Kind> {
    Some(match name {
        "_id" => Kind::Id,
        "_lastUpdated" => Kind::LastUpdated,
        "identifier" => Kind::Token(&["identifier"]),
        "status" => Kind::Token(&["status"]),
        "intent" => Kind::Token(&["intent"]),
        "gender" => Kind::Token(&["gender"]),
        "code" => Kind::Token(&["code"]),
        "phone" | "telecom" => Kind::Token(&["telecom"]),
        "subject" => Kind::Reference(&["subject"]),
        "patient" => Kind::Reference(&["subject", "for", "patient"]),
        "encounter" => Kind::Reference(&["encounter"]),
        "based-on" => Kind::Reference(&["basedOn"]),
        "focus" => Kind::Reference(&["focus"]),
        "owner" => Kind::Reference(&["owner"]),
        "requester" => Kind::Reference(&["requester"]),
        "name" => Kind::Name(&["family", "given", "text"]),
        "family" => Kind::Name(&["family"]),
        "given" => Kind::Name(&["given"]),
        "birthdate" => Kind::Exact("birthDate"),
        "criteria" => Kind::Exact("criteria"),
        "url" => Kind::Exact("url"),
        _ => return None,
    })
}

/// The criteria of a query. Names that begin with `_` and shape the answer only are left out.
pub(super) fn criteria(query: &[(String, String)]) -> Result<Vec<Criterion>, Failure> {
    const SHAPE: [&str; 5] = ["_count", "_sort", "_format", "_total", "_pretty"];
    query.iter().filter(|(name, _)| !SHAPE.contains(&name.as_str())).map(criterion).collect()
}

fn criterion((name, value): &(String, String)) -> Result<Criterion, Failure> {
    let (through, asked) = match name.split_once('.') {
        Some((through, asked)) => (Some(through.split(':').next().unwrap_or_default().to_string()), asked),
        None => (None, name.as_str()),
    };
    let known = through.as_deref().is_none_or(|t| matches!(kind(t), Some(Kind::Reference(_))));
    let Some(kind) = kind(asked).filter(|_| known) else {
        return Err(Failure::new(400, "processing", &format!("Unknown search parameter \"{name}\"")));
    };
    let values = unescaped(value, ',').into_iter().map(Into::into).collect::<Vec<String>>();
    if matches!(kind, Kind::LastUpdated) && !values.iter().all(|v| bound(v).is_some()) {
        return Err(Failure::new(400, "processing", &format!("Invalid date/time format: \"{value}\"")));
    }
    Ok(Criterion { through, kind, values })
}

impl Criterion {
    /// `follow` finds the target of a reference.
    pub(super) fn holds<'a>(&self, resource: &Value, follow: &impl Fn(&str) -> Option<&'a Value>) -> bool {
        match &self.through {
            None => self.is_met(resource),
            Some(through) => match kind(through) {
                Some(Kind::Reference(elements)) => references(resource, elements)
                    .iter()
                    .filter_map(|r| follow(r))
                    .any(|target| self.is_met(target)),
                _ => false,
            },
        }
    }

    fn is_met(&self, resource: &Value) -> bool {
        self.values.iter().any(|wanted| match &self.kind {
            Kind::Id => resource["id"] == wanted.as_str(),
            Kind::LastUpdated => is_within(resource, wanted),
            Kind::Token(elements) => elements.iter().any(|e| has_token(&resource[*e], wanted)),
            Kind::Reference(elements) => references(resource, elements).iter().any(|r| refers(r, wanted)),
            Kind::Name(parts) => items(&resource["name"]).iter().any(|name| has_name(name, parts, wanted)),
            Kind::Exact(element) => resource[*element] == wanted.as_str(),
        })
    }
}

/// An element that may repeat, or not.
fn items(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Null => Vec::new(),
        one => vec![one],
    }
}

/// `system|value`, `|value` (no system), `system|` (any value), or a value of any system.
/// Split where the separator stands by itself (<https://hl7.org/fhir/R4/search.html#escaping>).
fn unescaped(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut is_escaped) = (0, false);
    for (at, letter) in text.char_indices() {
        if letter == separator && !is_escaped {
            parts.push(&text[start..at]);
            start = at + letter.len_utf8();
        }
        is_escaped = letter == '\\' && !is_escaped;
    }
    parts.push(&text[start..]);
    parts
}

fn plain(text: &str) -> String {
    let mut letters = text.chars();
    std::iter::from_fn(|| match letters.next()? {
        '\\' => letters.next(),
        other => Some(other),
    })
    .collect()
}

fn has_token(element: &Value, wanted: &str) -> bool {
    let (system, value) = match unescaped(wanted, '|').as_slice() {
        [system, value] => (Some(plain(system)), plain(value)),
        _ => (None, plain(wanted)),
    };
    items(element).into_iter().any(|item| match item {
        Value::String(code) => *code == value,
        _ if item["coding"].is_array() => has_token(&item["coding"], wanted),
        _ => {
            let said = item["value"].as_str().or(item["code"].as_str()).unwrap_or_default();
            let right =
                system.as_ref().is_none_or(|system| item["system"].as_str().unwrap_or_default() == *system);
            right && (value.is_empty() || said == value)
        }
    })
}

fn references(resource: &Value, elements: &[&str]) -> Vec<String> {
    let all = elements.iter().flat_map(|element| items(&resource[*element]));
    all.filter_map(|item| item["reference"].as_str().map(Into::into)).collect()
}

/// `Patient/1` is referred to by `Patient/1` and by `1`.
fn refers(reference: &str, wanted: &str) -> bool {
    reference == wanted || reference.rsplit('/').next() == Some(wanted)
}

fn has_name(name: &Value, parts: &[&str], wanted: &str) -> bool {
    let wanted = wanted.to_lowercase();
    let texts = parts.iter().flat_map(|part| items(&name[*part])).filter_map(Value::as_str);
    texts.map(str::to_lowercase).any(|text| text.starts_with(&wanted))
}

fn bound(value: &str) -> Option<(&str, Timestamp)> {
    let (prefix, text) = value.split_at_checked(2).filter(|(p, _)| p.chars().all(char::is_alphabetic))?;
    let instant = text.parse().ok().or_else(|| {
        let day: jiff::civil::Date = text.parse().ok()?;
        jiff::tz::TimeZone::UTC.to_timestamp(day.at(0, 0, 0, 0)).ok()
    });
    instant.filter(|_| matches!(prefix, "ge" | "gt" | "le" | "lt")).map(|instant| (prefix, instant))
}

fn is_within(resource: &Value, wanted: &str) -> bool {
    let updated = resource["meta"]["lastUpdated"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    match (updated, bound(wanted)) {
        (Some(updated), Some(("ge", bound))) => updated >= bound,
        (Some(updated), Some(("gt", bound))) => updated > bound,
        (Some(updated), Some(("le", bound))) => updated <= bound,
        (Some(updated), Some(("lt", bound))) => updated < bound,
        _ => false,
    }
}
