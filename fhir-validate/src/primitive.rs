//! The formats of primitive types (<https://hl7.org/fhir/R4/datatypes.html#primitive>).
use serde_json::Value;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Primitive {
    Boolean,
    Integer,
    UnsignedInt,
    PositiveInt,
    Decimal,
    Text,
    Markdown,
    Code,
    Id,
    Uri,
    Oid,
    Uuid,
    Base64,
    Date,
    DateTime,
    Instant,
    Time,
    Xhtml,
}

use Primitive::*;

impl Primitive {
    pub(crate) fn of(code: &str) -> Option<Self> {
        Some(match code {
            "boolean" => Boolean,
            "integer" => Integer,
            "unsignedInt" => UnsignedInt,
            "positiveInt" => PositiveInt,
            "decimal" => Decimal,
            "string" => Text,
            "markdown" => Markdown,
            "code" => Code,
            "id" => Id,
            "uri" | "url" | "canonical" => Uri,
            "oid" => Oid,
            "uuid" => Uuid,
            "base64Binary" => Base64,
            "date" => Date,
            "dateTime" => DateTime,
            "instant" => Instant,
            "time" => Time,
            "xhtml" => Xhtml,
            _ => return None,
        })
    }

    /// What was expected, if the value is not of this type.
    pub(crate) fn unlike(self, value: &Value) -> Option<(&'static str, &'static str)> {
        match self {
            Boolean => (!value.is_boolean()).then_some(("structure", "expected true or false")),
            Integer | UnsignedInt | PositiveInt | Decimal => {
                let Value::Number(number) = value else { return Some(("structure", "expected a number")) };
                let text = number.to_string();
                let whole = text.parse::<i32>();
                let (right, expected) = match self {
                    Decimal => (text.len() <= 400, "expected a decimal number"),
                    Integer => (whole.is_ok(), "expected a whole number"),
                    UnsignedInt => (whole.is_ok_and(|n| n >= 0), "expected a whole number, 0 or more"),
                    _ => (whole.is_ok_and(|n| n > 0), "expected a whole number, 1 or more"),
                };
                (!right).then_some(("value", expected))
            }
            _ => match value {
                Value::String(text) => self.wrong_text(text).map(|expected| ("value", expected)),
                _ => Some(("structure", "expected a text")),
            },
        }
    }

    fn wrong_text(self, text: &str) -> Option<&'static str> {
        let (right, expected) = match self {
            _ if text.trim().is_empty() => (false, "an empty text; leave the element out"),
            Code => (is_code(text), "expected a code, without blanks around it"),
            Id => (is_id(text), "an id has 1 to 64 letters, digits, - and ."),
            Uri => (!text.contains(char::is_whitespace), "a URI has no blanks"),
            Oid => {
                (text.strip_prefix("urn:oid:").is_some_and(is_oid), "expected urn:oid: and numbers with dots")
            }
            Uuid => (text.strip_prefix("urn:uuid:").is_some_and(is_uuid), "expected urn:uuid: and a uuid"),
            Base64 => (is_base64(text), "expected base64"),
            Date => (is_date(text), "expected a date of the calendar: YYYY, YYYY-MM or YYYY-MM-DD"),
            DateTime => (
                is_date(text) || is_instant(text),
                "expected a date of the calendar, or an instant with its time zone",
            ),
            Instant => (is_instant(text), "expected an instant with its time zone, to the second"),
            Time => (is_time(text), "expected a time: hh:mm:ss"),
            _ => (true, ""),
        };
        (!right).then_some(expected)
    }
}

fn is_code(text: &str) -> bool {
    !text.starts_with(' ')
        && !text.ends_with(' ')
        && !text.contains("  ")
        && !text.contains(['\t', '\n', '\r'])
}

pub(crate) fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b))
}

fn is_oid(text: &str) -> bool {
    text.starts_with(['0', '1', '2'])
        && text.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
}

fn is_uuid(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

fn is_base64(text: &str) -> bool {
    let plain = text.bytes().filter(|b| !b.is_ascii_whitespace());
    plain.clone().count() % 4 == 0
        && plain.into_iter().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b))
}

fn digits(bytes: &[u8]) -> bool {
    bytes.iter().all(u8::is_ascii_digit)
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |n, b| n * 10 + u32::from(b - b'0'))
}

pub(crate) fn is_date(text: &str) -> bool {
    let b = text.as_bytes();
    match b.len() {
        4 => digits(b) && b != b"0000",
        7 => digits(&b[..4]) && b[4] == b'-' && digits(&b[5..]) && (1..=12).contains(&number(&b[5..])),
        10 => {
            digits(&b[..4])
                && b[4] == b'-'
                && digits(&b[5..7])
                && b[7] == b'-'
                && digits(&b[8..])
                && is_day(number(&b[..4]), number(&b[5..7]), number(&b[8..]))
        }
        _ => false,
    }
}

fn is_day(year: u32, month: u32, day: u32) -> bool {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let last = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 0,
    };
    year > 0 && (1..=last).contains(&day)
}

fn is_time(text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').map_or((text, None), |(w, f)| (w, Some(f)));
    let b = whole.as_bytes();
    b.len() == 8
        && b[2] == b':'
        && b[5] == b':'
        && digits(&b[..2])
        && digits(&b[3..5])
        && digits(&b[6..])
        && number(&b[..2]) < 24
        && number(&b[3..5]) < 60
        && number(&b[6..]) <= 60
        && fraction.is_none_or(|f| !f.is_empty() && digits(f.as_bytes()))
}

pub(crate) fn is_instant(text: &str) -> bool {
    let Some((date, rest)) = text.split_once('T') else { return false };
    let zone = rest.find(['Z', '+', '-']).unwrap_or(rest.len());
    let (time, zone) = rest.split_at(zone);
    let z = zone.as_bytes();
    let is_zone = zone == "Z"
        || (z.len() == 6
            && z[3] == b':'
            && digits(&z[1..3])
            && digits(&z[4..])
            && number(&z[1..3]) <= 14
            && number(&z[4..]) < 60);
    date.len() == 10 && is_date(date) && is_time(time) && is_zone
}
