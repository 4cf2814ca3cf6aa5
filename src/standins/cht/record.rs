//! A JSON-form record as CHT reads it: quietly. What a client gets wrong ends in `errors` of the
//! saved report, or is gone.
use serde_json::{Map, Value, json};

/// Why a record is not saved at all. CHT answers these with 500.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused(pub(super) Option<String>);

/// A record that has been read, before its patient and its sender are looked for.
pub(super) struct Parsed {
    pub(super) form: String,
    pub(super) public: bool,
    /// The form has a field that names a patient.
    pub(super) about_patient: bool,
    pub(super) meta: Map<String, Value>,
    pub(super) fields: Map<String, Value>,
    pub(super) errors: Vec<Value>,
}

pub(super) fn parse(forms: &Value, body: &[u8]) -> Result<Parsed, Refused> {
    let Ok(Value::Object(body)) = serde_json::from_slice(body) else { return Err(Refused(None)) };
    let Some(Value::Object(meta)) = body.get("_meta") else {
        return Err(Refused(Some("Missing _meta property.".into())));
    };
    let form = meta.get("form").and_then(Value::as_str).unwrap_or_default().to_uppercase();
    if form.is_empty() {
        return Err(Refused(Some("Missing required field: form".into())));
    }
    let Some(definition) = forms.get(&form) else {
        return Err(Refused(Some(format!("Form not found: {form}"))));
    };
    let mut meta = meta.clone();
    meta.insert("form".into(), form.clone().into());
    let sent: Map<String, Value> = body.iter().map(|(k, v)| (k.to_lowercase(), v.clone())).collect();
    let defined = fields_in_order(definition);
    let fields = copy_fields(&defined, &sent);
    Ok(Parsed {
        public: definition["public_form"] == true,
        about_patient: defined.iter().any(|(key, _)| matches!(*key, "patient_id" | "patient_uuid")),
        errors: errors(&defined, &fields),
        form,
        meta,
        fields,
    })
}

fn fields_in_order(definition: &Value) -> Vec<(&str, &Value)> {
    let mut fields: Vec<(&str, &Value)> =
        definition["fields"].as_object().into_iter().flatten().map(|(k, v)| (k.as_str(), v)).collect();
    fields.sort_by_key(|(_, field)| field["position"].as_i64().unwrap_or(i64::MAX));
    fields
}

/// A key with a capital is never met by a lowercased one; a dotted key is looked for as a path.
fn copy_fields(defined: &[(&str, &Value)], sent: &Map<String, Value>) -> Map<String, Value> {
    let fillable = defined.iter().filter(|(key, _)| !key.contains('.'));
    fillable.filter_map(|(key, field)| Some((key.to_string(), coerced(field, sent.get(*key)?)))).collect()
}

fn coerced(field: &Value, value: &Value) -> Value {
    match (field["type"].as_str(), value) {
        (Some("date"), Value::String(text)) => epoch_ms(text).map_or(Value::Null, Value::from),
        (Some("date"), Value::Number(_)) => value.clone(),
        (Some("date"), _) => Value::Null,
        _ => value.clone(),
    }
}

fn epoch_ms(text: &str) -> Option<i64> {
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return Some(instant.as_millisecond());
    }
    let local: jiff::civil::DateTime = text.parse().ok()?;
    Some(jiff::tz::TimeZone::UTC.to_timestamp(local).ok()?.as_millisecond())
}

fn errors(defined: &[(&str, &Value)], fields: &Map<String, Value>) -> Vec<Value> {
    let mut errors: Vec<Value> =
        defined.iter().filter_map(|(key, field)| wrong_type(key, field, fields.get(*key)?)).collect();
    let missing: Vec<&str> = defined
        .iter()
        .filter(|(key, field)| field["required"] == true && is_missing(fields.get(*key)))
        .map(|(key, _)| *key)
        .collect();
    if !missing.is_empty() {
        let message = format!("Missing or invalid fields: {}.", missing.join(", "));
        errors.push(json!({"code": "sys.missing_fields", "message": message}));
    }
    errors
}

fn is_missing(value: Option<&Value>) -> bool {
    matches!(value, None | Some(Value::Null)) || value == Some(&Value::from(""))
}

fn wrong_type(key: &str, field: &Value, value: &Value) -> Option<Value> {
    let kind = field["type"].as_str()?;
    let right = match kind {
        _ if value.is_null() => true,
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        _ => true,
    };
    let message = format!("Incorrect type of field {key}, expected {kind}.");
    (!right).then(|| json!({"code": "sys.incorrect_type", "message": message}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forms() -> Value {
        let mut forms: Value = serde_json::from_str(super::super::FORMS).unwrap();
        forms["ODD"] = json!({"fields": {
            "Upper": {"type": "string", "position": 0, "required": false},
            "a.b": {"type": "string", "position": 1, "required": true},
        }});
        forms
    }

    fn read(body: Value) -> Result<Parsed, Refused> {
        parse(&forms(), body.to_string().as_bytes())
    }

    fn refused(body: Value) -> String {
        read(body).err().and_then(|refused| refused.0).unwrap()
    }

    #[test]
    fn a_record_without_a_known_form_is_refused_in_chts_words() {
        assert_eq!(refused(json!({})), "Missing _meta property.");
        assert_eq!(refused(json!({"_meta": {"from": "+254720999000"}})), "Missing required field: form");
        assert_eq!(refused(json!({"_meta": {"form": "NO_SUCH_FORM"}})), "Form not found: NO_SUCH_FORM");
        assert_eq!(parse(&forms(), b"{\"_meta\": {").err(), Some(Refused(None)));
    }

    #[test]
    fn only_defined_fields_are_kept_and_dates_become_milliseconds() {
        let parsed = read(json!({
            "_meta": {"form": "ltfu_request", "reported_date": 1_795_300_000_000_i64},
            "patient_uuid": "bf3d89b0-2c75-48a0-b5ad-f94c9fd3e203", "External_ID": "SR-2026-000117",
            "last_visit": "2026-09-30", "days_late": 26, "urgent": true, "phone": "0733111222",
            "facility.name": "Mbagathi County Hospital", "unknown": 1,
        }))
        .ok()
        .unwrap();
        assert_eq!(parsed.form, "LTFU_REQUEST");
        assert_eq!(parsed.meta["form"], "LTFU_REQUEST");
        assert!(parsed.errors.is_empty());
        let expected = json!({
            "patient_uuid": "bf3d89b0-2c75-48a0-b5ad-f94c9fd3e203", "external_id": "SR-2026-000117",
            "last_visit": 1_790_726_400_000_i64, "days_late": 26, "urgent": true, "phone": "0733111222",
        });
        assert_eq!(Value::Object(parsed.fields), expected);
    }

    #[test]
    fn wrong_types_and_missing_fields_end_in_errors() {
        let parsed = read(json!({
            "_meta": {"form": "LTFU_REQUEST"}, "patient_uuid": "bf3d89b0-2c75-48a0-b5ad-f94c9fd3e203",
            "external_id": "SR-2026-000120", "days_late": "26", "urgent": "yes", "reason": 12,
            "last_visit": "yesterday",
        }))
        .ok()
        .unwrap();
        assert_eq!(
            parsed.errors,
            [
                json!({"code": "sys.incorrect_type", "message": "Incorrect type of field reason, expected string."}),
                json!({"code": "sys.incorrect_type", "message": "Incorrect type of field days_late, expected integer."}),
                json!({"code": "sys.incorrect_type", "message": "Incorrect type of field urgent, expected boolean."}),
            ]
        );
        assert_eq!(parsed.fields["last_visit"], Value::Null);
        let parsed = read(json!({"_meta": {"form": "LTFU_REQUEST"}, "patient_uuid": "x"})).ok().unwrap();
        assert_eq!(
            parsed.errors,
            [json!({"code": "sys.missing_fields", "message": "Missing or invalid fields: external_id."})]
        );
    }

    #[test]
    fn capitals_and_dots_in_a_forms_keys_are_never_filled() {
        let parsed =
            read(json!({"_meta": {"form": "ODD"}, "Upper": "x", "upper": "x", "a.b": "y", "a": {"b": "y"}}))
                .ok()
                .unwrap();
        assert!(parsed.fields.is_empty());
        assert!(!parsed.public);
        assert_eq!(parsed.errors[0]["message"], "Missing or invalid fields: a.b.");
    }
}
