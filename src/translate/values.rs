//! How CHT writes values, and how FHIR wants them.
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

/// A non-empty text. CHT writes `""` for what was not answered.
pub(super) fn text(value: &Value) -> Option<&str> {
    value.as_str().map(str::trim).filter(|text| !text.is_empty())
}

/// A calendar date of any way that CHT and FHIR write one: `2026-10-17`, `2026-10-23T00:00:00.000-00:00`,
/// an instant or milliseconds since 1970 by their day in `zone`; nothing for `""` and for what is no date
/// (`NaN-NaN-01`).
pub(super) fn date(value: &Value, zone: &TimeZone) -> Option<Date> {
    match value {
        Value::Number(millis) => day(millis.as_i64()?, zone),
        _ => date_of(text(value)?, zone),
    }
}

fn date_of(written: &str, zone: &TimeZone) -> Option<Date> {
    let Some((date, time)) = written.split_once(['T', ' ']) else {
        return (written.len() == 10).then(|| written.parse().ok()).flatten();
    };
    // What CHT's forms compute of a date, and a time of no zone: the date as it stands.
    if is_midnight_of_nowhere(time) || time.parse::<jiff::civil::Time>().is_ok() {
        return date_of(date, zone);
    }
    Some(zone.to_datetime(written.parse().ok()?).date())
}

/// `00:00:00.000-00:00`: the form knows a date, and no time or zone.
fn is_midnight_of_nowhere(time: &str) -> bool {
    time.strip_suffix("-00:00").is_some_and(|time| time.bytes().all(|b| matches!(b, b'0' | b':' | b'.')))
}

/// A FHIR date as far as it is known: `2026`, `2026-10` or `2026-10-17`.
pub(super) fn known_date(value: &Value, zone: &TimeZone) -> Option<String> {
    let partial = text(value).filter(|text| first_day(text).is_some() && text.len() < 10);
    partial.map(String::from).or_else(|| Some(date(value, zone)?.to_string()))
}

/// The first day of a year, a month or a day.
pub(super) fn first_day(written: &str) -> Option<Date> {
    let digits = |text: &str| {
        text.bytes().enumerate().all(|(i, b)| if i == 4 { b == b'-' } else { b.is_ascii_digit() })
    };
    match written.len() {
        4 if digits(written) => format!("{written}-01-01").parse().ok(),
        7 if digits(written) => format!("{written}-01").parse().ok(),
        10 => written.parse().ok(),
        _ => None,
    }
}

/// The last day of a year, a month or a day.
pub(super) fn last_day(written: &str) -> Option<Date> {
    let first = first_day(written)?;
    Some(match written.len() {
        4 => first.last_of_year(),
        7 => first.last_of_month(),
        _ => first,
    })
}

/// A FHIR dateTime: a date as far as it is known, or an instant in UTC.
pub(super) fn date_time(value: &Value, zone: &TimeZone) -> Option<String> {
    if let Value::Number(millis) = value {
        return instant(millis.as_i64()?);
    }
    let written = text(value)?;
    match written.split_once('T') {
        Some((_, time)) if !is_midnight_of_nowhere(time) => {
            Some(written.parse::<Timestamp>().ok()?.to_string())
        }
        _ => known_date(value, zone),
    }
}

/// The day of an instant.
pub(super) fn day(millis: i64, zone: &TimeZone) -> Option<Date> {
    Some(zone.to_datetime(Timestamp::from_millisecond(millis).ok()?).date())
}

/// Milliseconds as an instant, in UTC.
pub(super) fn instant(millis: i64) -> Option<String> {
    Timestamp::from_millisecond(millis).ok().map(|instant| instant.to_string())
}

/// A HumanName: `text` as it was written, the last word as family name if there are several.
/// Which word is which differs from country to country, so `text` is what counts.
pub(super) fn human_name(name: &str, family_first: bool) -> Value {
    let words: Vec<&str> = name.split_whitespace().collect();
    let split = match family_first {
        true => words.split_first(),
        false => words.split_last(),
    };
    match split {
        Some((family, given)) if !given.is_empty() => {
            json!({"use": "official", "text": name, "family": family, "given": given})
        }
        _ => json!({"use": "official", "text": name}),
    }
}

/// A HumanName in one text; its parts in the order given, family if it has none.
pub(super) fn whole_name(name: &Value) -> Option<String> {
    if let Some(whole) = text(&name["text"]) {
        return Some(whole.into());
    }
    let given = name["given"].as_array().into_iter().flatten().filter_map(text);
    let words: Vec<&str> = given.chain(text(&name["family"])).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// CodeableConcepts in words; one or a list of them.
pub(super) fn concepts(value: &Value) -> Vec<String> {
    let all = match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(_) => vec![value],
        _ => Vec::new(),
    };
    all.into_iter()
        .filter_map(|concept| {
            let coding = &concept["coding"][0];
            text(&concept["text"]).or(text(&coding["display"])).or(text(&coding["code"])).map(String::from)
        })
        .collect()
}

/// In E.164 if it is a possible number in this country, else as it was written.
pub(super) fn phone(raw: &str, country: &str) -> String {
    let country = country.parse().ok();
    match phonenumber::parse(country, raw) {
        Ok(number) if phonenumber::is_valid(&number) => {
            number.format().mode(phonenumber::Mode::E164).to_string()
        }
        _ => raw.to_string(),
    }
}

/// As people write it in groups, and as it was written.
pub(super) fn phone_spellings(raw: &str, country: &str) -> Vec<String> {
    let number = phonenumber::parse(country.parse().ok(), raw).ok().filter(phonenumber::is_valid);
    let grouped = number.map(|number| {
        [phonenumber::Mode::National, phonenumber::Mode::International]
            .map(|mode| number.format().mode(mode).to_string())
    });
    let mut all: Vec<String> = grouped.into_iter().flatten().chain([raw.trim().to_string()]).collect();
    all.retain(|written| written.contains([' ', '-']));
    all.sort();
    all.dedup();
    all
}

/// As one word: where people live, and abroad with and without the plus.
pub(super) fn phone_shapes(raw: &str, country: &str) -> Vec<String> {
    let digits = |text: String| text.chars().filter(char::is_ascii_digit).collect::<String>();
    let Some(number) = phonenumber::parse(country.parse().ok(), raw).ok().filter(phonenumber::is_valid)
    else {
        return vec![digits(raw.to_string())];
    };
    let national = digits(number.format().mode(phonenumber::Mode::National).to_string());
    let whole = number.format().mode(phonenumber::Mode::E164).to_string();
    vec![national, digits(whole.clone()), whole]
}

/// Numbers of a text such as `-0.52 35.27 1650 5`, or the members of an object, as latitude, longitude and
/// altitude: how CHT's forms and its app write where somebody is.
pub(super) fn position(value: &Value) -> Option<Value> {
    let number = |value: &Value| match value {
        Value::Number(_) => Some(value.clone()),
        _ => Some(Value::Number(text(value)?.parse().ok()?)),
    };
    let [latitude, longitude, altitude] = match value {
        Value::Object(_) => ["latitude", "longitude", "altitude"].map(|key| number(&value[key])),
        _ => {
            let mut parts = text(value)?.split_whitespace().map(|part| number(&json!(part)));
            [parts.next()?, parts.next()?, parts.next().flatten()]
        }
    };
    let mut position = json!({"longitude": longitude?, "latitude": latitude?});
    if let Some(altitude) = altitude {
        position["altitude"] = altitude;
    }
    Some(position)
}

/// Without nulls, empty texts, and what is empty because of that. FHIR has no empty elements.
pub(super) fn pruned(value: &Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::String(text) => {
            text.trim().is_empty().then_some(()).map_or_else(|| Some(json!(text.trim())), |()| None)
        }
        Value::Array(items) => {
            let kept: Vec<Value> = items.iter().filter_map(pruned).collect();
            (!kept.is_empty()).then_some(Value::Array(kept))
        }
        Value::Object(fields) => {
            let kept: serde_json::Map<String, Value> =
                fields.iter().filter_map(|(key, field)| Some((key.clone(), pruned(field)?))).collect();
            (!kept.is_empty()).then_some(Value::Object(kept))
        }
        other => Some(other.clone()),
    }
}

/// `danger_signs_without_fever` for people: "Danger signs without fever".
pub(super) fn humanised(name: &str) -> String {
    let words = name.replace(['_', '.'], " ");
    let mut letters = words.trim().chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// A uuid, with hyphens or without: how CHT makes document ids.
pub(super) fn is_document_id(text: &str) -> bool {
    uuid::Uuid::try_parse(text).is_ok() && (text.len() == 36 || text.len() == 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_date() {
        for (written, expected) in [
            (json!("2026-10-17"), Some("2026-10-17")),
            (json!("2026-10-23T00:00:00.000-00:00"), Some("2026-10-23")),
            (json!("2001-11-23T00:00:00.000Z"), Some("2001-11-23")),
            (json!(1790726400000_i64), Some("2026-09-30")),
            (json!(""), None),
            (json!("NaN-NaN-01"), None),
            (json!("2026-02-30"), None),
            (json!("é234567890"), None),
            (json!("2026-10-17garbage"), None),
            (json!("2026-10"), None),
            (json!(null), None),
        ] {
            assert_eq!(
                date(&written, &TimeZone::UTC).map(|d| d.to_string()).as_deref(),
                expected,
                "{written}"
            );
        }
    }

    #[test]
    fn an_instant_has_its_day_where_it_was_written() {
        let nairobi = TimeZone::get("Africa/Nairobi").expect("a zone");
        for (written, expected) in [
            (json!("2001-11-22T21:00:00.000Z"), "2001-11-23"),
            (json!(1006462800000_i64), "2001-11-23"),
            (json!("2026-11-17T00:00:00.000-00:00"), "2026-11-17"),
            (json!("2026-11-17"), "2026-11-17"),
            (json!("2026-11-17T23:30:00"), "2026-11-17"),
        ] {
            assert_eq!(
                date(&written, &nairobi).map(|d| d.to_string()).as_deref(),
                Some(expected),
                "{written}"
            );
        }
        assert_eq!(
            date_time(&json!("2026-11-17T00:00:00.000-00:00"), &nairobi).as_deref(),
            Some("2026-11-17")
        );
        assert_eq!(
            date_time(&json!("2026-11-17T00:00:00Z"), &nairobi).as_deref(),
            Some("2026-11-17T00:00:00Z")
        );
    }

    #[test]
    fn a_date_may_be_known_in_part() {
        for (written, first, last) in [
            ("1992", Some("1992-01-01"), Some("1992-12-31")),
            ("2024-02", Some("2024-02-01"), Some("2024-02-29")),
            ("2026-10-17", Some("2026-10-17"), Some("2026-10-17")),
            ("2026-13", None, None),
            ("2026-1", None, None),
            ("20260101", None, None),
        ] {
            assert_eq!(first_day(written).map(|d| d.to_string()).as_deref(), first, "{written}");
            assert_eq!(last_day(written).map(|d| d.to_string()).as_deref(), last, "{written}");
            let known = known_date(&json!(written), &TimeZone::UTC);
            assert_eq!(known.as_deref(), first.map(|_| written), "{written}");
        }
    }

    #[test]
    fn phones_as_people_write_them() {
        for (raw, country, expected) in [
            ("0712 345 678", "KE", "+254712345678"),
            ("+256 (0)772-123 457", "KE", "+256772123457"),
            ("77 123 45 67", "SN", "+221771234567"),
            ("12", "KE", "12"),
        ] {
            assert_eq!(phone(raw, country), expected);
        }
        assert_eq!(phone_shapes("+254 712 345 678", "KE"), ["0712345678", "254712345678", "+254712345678"]);
        assert_eq!(phone_spellings("0712-345 678", "KE"), ["+254 712 345678", "0712 345678", "0712-345 678"]);
        assert_eq!(phone_shapes("077-12", "KE"), ["07712"]);
    }

    #[test]
    fn names_keep_their_text() {
        assert_eq!(human_name("Karma  Lama", false)["text"], "Karma  Lama");
        assert_eq!(human_name("Wanjiku", true), json!({"use": "official", "text": "Wanjiku"}));
    }

    #[test]
    fn nothing_empty_stays() {
        let value = json!({"a": [null, ""], "b": {"c": null}, "d": [{"e": ""}, "x"], "f": false});
        assert_eq!(pruned(&value), Some(json!({"d": ["x"], "f": false})));
    }
}
