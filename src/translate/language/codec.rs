//! How one value is written on either side: `as:` in a mapping.
use super::super::values::{day, humanised, instant, text};
use crate::config;
use crate::domain::identifier::system;
use crate::translate::values;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

/// How a value is written on the target's side, and read back.
#[derive(Clone, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    /// Any way in which CHT writes a date (`2026-10-17`, `2026-10-17T00:00:00.000-00:00`, milliseconds)
    /// <-> FHIR date, as far as it is known: `2026-10`.
    Date,
    /// A date or an instant as text <-> FHIR dateTime, in UTC.
    DateTime,
    /// Milliseconds since 1970 <-> FHIR instant.
    EpochMs,
    /// A date -> its year: for a birth date that was estimated.
    Year,
    /// The same, known to the month.
    Month,
    /// A phone number <-> E.164, by the default country; what is no possible number stays as written.
    Phone,
    /// A person's name <-> HumanName: `text` as written; the last word is the family name.
    Name,
    /// The same, for countries where the family name comes first.
    NameFamilyFirst,
    /// HumanName -> the whole name in one text.
    WholeName,
    /// `yes`, `no` <-> true, false.
    YesNo,
    /// `true`, `false` as text <-> true, false.
    TrueFalse,
    /// A number written as text <-> a number, with its digits.
    Number,
    /// Anything plain <-> text.
    Text,
    /// `danger_signs` -> "Danger signs".
    Label,
    /// Small letters.
    Lower,
    /// CodeableConcepts, one or a list -> their words.
    Concept,
    /// A list of texts <-> one text, joined by spaces, as CHT writes a multi-select.
    Words,
    /// A date -> the days from it until the message came; nothing if it is not past.
    DaysLate,
    /// A birth date -> whole years until the message came.
    AgeYears,
    /// `latitude longitude [altitude]` as text, or an object with them <-> Location.position.
    Position,
    /// Objects and lists as they are.
    Copy,
    /// An id of CHT -> the system that it is of: `urn:cht:uuid` or `urn:cht:shortcode`.
    ChtSystem,
    /// `Patient/?identifier=7`, `Patient/7` -> `7`.
    ReferenceId,
    /// Text <-> text with this before it.
    Prefix(String),
}

/// What a codec may know besides the value.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    pub default_country: &'a str,
    /// Where an instant has its date.
    pub time_zone: &'a TimeZone,
    /// Milliseconds since 1970 at which the message came.
    pub received: i64,
}

impl<'a> Around<'a> {
    pub fn of(settings: &'a config::Translate, received: i64) -> Self {
        let config::Translate { default_country, time_zone, .. } = settings;
        Self { default_country, time_zone, received }
    }
}

/// What the names of the codecs are, for errors.
pub const NAMES: &[&str] = &[
    "date",
    "date_time",
    "epoch_ms",
    "year",
    "month",
    "phone",
    "name",
    "name_family_first",
    "whole_name",
    "yes_no",
    "true_false",
    "number",
    "text",
    "label",
    "lower",
    "concept",
    "words",
    "days_late",
    "age_years",
    "position",
    "copy",
    "reference_id",
    "cht_system",
    "prefix",
];

impl Codec {
    /// As the target writes it. `Ok(None)`: nothing was answered. `Err`: what was expected.
    pub fn out(&self, value: &Value, around: &Around) -> Result<Option<Value>, &'static str> {
        Ok(match self {
            Self::Copy => values::pruned(value),
            Self::Concept => {
                let words = values::concepts(value);
                (!words.is_empty()).then(|| json!(words.join("; ")))
            }
            Self::WholeName => values::whole_name(value).map(|name| json!(name)),
            Self::Words => {
                let items = value.as_array().ok_or("expected a list of texts")?;
                let words: Vec<&str> = items.iter().filter_map(text).collect();
                (!words.is_empty()).then(|| json!(words.join(" ")))
            }
            Self::Position => match value {
                Value::Null => None,
                Value::String(written) if written.trim().is_empty() => None,
                // CHT's app could not find out where it is: a code and a message.
                Value::Object(fields) if !fields.contains_key("latitude") => None,
                _ => Some(values::position(value).ok_or("expected latitude and longitude")?),
            },
            // An object or list as its JSON: to derive an id of it.
            Self::Text if value.is_object() || value.is_array() => Some(json!(value.to_string())),
            _ => match plain(value)? {
                Some(value) => self.plain_out(value, around)?,
                None => None,
            },
        })
    }

    fn plain_out(&self, value: &Value, around: &Around) -> Result<Option<Value>, &'static str> {
        const DATE: &str = "expected a date of the calendar, such as 2026-10-17";
        let written = || text(value).ok_or("expected a text");
        Ok(Some(match self {
            Self::Date => match values::known_date(value, around.time_zone) {
                Some(date) => json!(date),
                None if is_no_date_of_cht(value) => return Ok(None),
                None => return Err(DATE),
            },
            Self::DateTime => {
                let date_time = values::date_time(value, around.time_zone);
                json!(date_time.ok_or("expected a date, or an instant with its time zone")?)
            }
            Self::EpochMs => {
                let millis = value.as_i64().or_else(|| text(value)?.parse().ok());
                let millis = millis.ok_or("expected milliseconds since 1970")?;
                json!(instant(millis).ok_or("expected milliseconds since 1970")?)
            }
            Self::Year | Self::Month => match values::known_date(value, around.time_zone) {
                Some(date) => {
                    let length = if *self == Self::Year { 4 } else { 7 };
                    json!(date.get(..length).unwrap_or(&date))
                }
                None if is_no_date_of_cht(value) => return Ok(None),
                None => return Err(DATE),
            },
            Self::Phone => json!(values::phone(written()?, around.default_country)),
            Self::Name => values::human_name(written()?, false),
            Self::NameFamilyFirst => values::human_name(written()?, true),
            Self::YesNo | Self::TrueFalse => match (value, text(value)) {
                (Value::Bool(_), _) => value.clone(),
                (_, Some("yes" | "true" | "1")) => json!(true),
                (_, Some("no" | "false" | "0")) => json!(false),
                _ => return Err("expected yes or no"),
            },
            Self::Number => match value {
                Value::Number(_) => value.clone(),
                _ => Value::Number(written()?.parse().map_err(|_| "expected a number")?),
            },
            Self::Text => match value {
                Value::String(_) => json!(written()?),
                other => json!(other.to_string()),
            },
            Self::Label => json!(humanised(written()?)),
            Self::Lower => json!(written()?.to_lowercase()),
            Self::Prefix(prefix) => json!(format!("{prefix}{}", written()?)),
            Self::ReferenceId => {
                let id = written()?.rsplit(['/', '=', '|']).next().unwrap_or_default();
                return Ok((!id.is_empty()).then(|| json!(id)));
            }
            Self::AgeYears => {
                let born = values::known_date(value, around.time_zone);
                let born = born.as_deref().and_then(values::first_day).ok_or(DATE)?;
                let today = day(around.received, around.time_zone).ok_or(DATE)?;
                let age = today.since((jiff::Unit::Year, born)).map_err(|_| DATE)?;
                json!(age.get_years())
            }
            Self::ChtSystem if values::is_document_id(written()?) => json!(system::CHT_UUID),
            Self::ChtSystem => json!(system::CHT_SHORTCODE),
            Self::DaysLate => {
                let due = values::known_date(value, around.time_zone);
                let due = due.as_deref().and_then(values::last_day).ok_or(DATE)?;
                let today = day(around.received, around.time_zone);
                let late = today.map(|today| (today - due).get_days()).unwrap_or_default();
                return Ok((late > 0).then(|| json!(late)));
            }
            Self::Copy | Self::Concept | Self::Words | Self::WholeName | Self::Position => value.clone(),
        }))
    }

    /// As the source writes it. `Err`: it cannot be read backwards, or not from this value.
    pub fn back(&self, value: &Value) -> Result<Value, &'static str> {
        let written = || text(value).ok_or("expected a text");
        Ok(match self {
            Self::Date => {
                let written = written()?;
                values::first_day(written).ok_or("expected a date")?;
                json!(written)
            }
            Self::DateTime => json!(written()?),
            Self::EpochMs => {
                let instant: jiff::Timestamp = written()?.parse().map_err(|_| "expected an instant")?;
                json!(instant.as_millisecond())
            }
            Self::Year => match written()? {
                year if year.len() == 4 => json!(format!("{year}-01-01")),
                _ => return Err("expected a year"),
            },
            Self::Month => match written()? {
                month if month.len() == 7 => json!(format!("{month}-01")),
                _ => return Err("expected a month"),
            },
            Self::Phone | Self::Lower | Self::Copy => value.clone(),
            Self::Position => {
                let part = |key: &str| value[key].is_number().then(|| value[key].to_string());
                let both = part("latitude").zip(part("longitude")).ok_or("expected a position")?;
                let altitude = part("altitude").map(|altitude| format!(" {altitude}"));
                json!(format!("{} {}{}", both.0, both.1, altitude.unwrap_or_default()))
            }
            Self::Name | Self::NameFamilyFirst => {
                json!(values::whole_name(value).ok_or("a name without text")?)
            }
            Self::YesNo => json!(if value.as_bool().ok_or("expected true or false")? { "yes" } else { "no" }),
            Self::TrueFalse => json!(value.as_bool().ok_or("expected true or false")?.to_string()),
            Self::Number => json!(value.is_number().then(|| value.to_string()).ok_or("expected a number")?),
            Self::Text => json!(written()?),
            Self::Words => written()?.split_whitespace().collect(),
            Self::Prefix(prefix) => json!(written()?.strip_prefix(prefix.as_str()).ok_or("another prefix")?),
            Self::Concept => json!({"text": written()?}),
            Self::WholeName => json!({"text": written()?}),
            Self::Label | Self::DaysLate | Self::AgeYears | Self::ReferenceId | Self::ChtSystem => {
                return Err("it cannot be read backwards");
            }
        })
    }

    /// What is lost on the way out and back, if anything is.
    pub fn loss(&self) -> Option<&'static str> {
        Some(match self {
            Self::Year => "month and day: the date was an estimate",
            Self::Month => "the day: the date was an estimate",
            Self::Position => "how exact it is",
            Self::Phone => "the spaces and hyphens of a number that is made E.164",
            Self::Lower => "capital letters",
            Self::Label => "a label cannot be read backwards",
            Self::WholeName => "which part of the name is which",
            Self::AgeYears => "month and day",
            Self::DaysLate => "it says how late it was when the message came",
            Self::ChtSystem => "it says which kind of id stands beside it",
            Self::ReferenceId => "how the reference was written",
            Self::Concept => "codes beside the words",
            _ => return None,
        })
    }
}

/// A single value; nothing if it was not answered.
pub fn plain(value: &Value) -> Result<Option<&Value>, &'static str> {
    match value {
        Value::Null => Ok(None),
        Value::String(written) if written.trim().is_empty() => Ok(None),
        Value::Array(_) => Err("expected one value, found a list"),
        Value::Object(_) => Err("expected one value, found an object"),
        _ => Ok(Some(value)),
    }
}

/// `NaN-NaN-01`: what CHT's forms compute from an age that was not given.
fn is_no_date_of_cht(value: &Value) -> bool {
    text(value).is_some_and(|text| text.starts_with("NaN") || text == "Invalid Date")
}
