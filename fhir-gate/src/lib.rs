//! The typed gate for FHIR resources that the mediator makes.
//!
//! `fhir-model` reads a resource into Rust types. What it cannot read is wrong; what it reads and
//! does not write back was unknown to it. Both are refused here, so that a mistake in a mapping is
//! found before a server finds it. Resources that come in never pass through this crate: they stay
//! `serde_json::Value`, because the typed model does not keep everything.
use serde_json::Value;

/// Checks one resource that we made. `Err` says what the typed model could not take, never with a
/// value of the resource in it.
pub fn check(resource: &Value) -> Result<(), String> {
    let typed: fhir_model::r4b::resources::Resource =
        serde_json::from_value(in_doubles(resource)).map_err(|e| without_values(&e.to_string()))?;
    let back = serde_json::to_value(&typed).map_err(|e| without_values(&e.to_string()))?;
    match first_lost(resource, &back, String::new()) {
        Some(path) => Err(format!("{path} is not an element of R4")),
        None => Ok(()),
    }
}

/// With every number as a double has it: the model's untagged types read no other digits.
fn in_doubles(value: &Value) -> Value {
    match value {
        Value::Number(number) if !number.is_i64() && !number.is_u64() => {
            number.as_f64().and_then(serde_json::Number::from_f64).map_or(Value::Null, Value::Number)
        }
        Value::Array(items) => items.iter().map(in_doubles).collect(),
        Value::Object(fields) => fields.iter().map(|(key, field)| (key.clone(), in_doubles(field))).collect(),
        other => other.clone(),
    }
}

/// The path of the first element of `sent` that is not in `back`. Values are not compared: the
/// model writes numbers and instants in other digits.
fn first_lost(sent: &Value, back: &Value, path: String) -> Option<String> {
    match (sent, back) {
        (Value::Object(sent), Value::Object(back)) => sent.iter().find_map(|(key, value)| {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match back.get(key) {
                Some(other) => first_lost(value, other, path),
                None => Some(path),
            }
        }),
        (Value::Array(sent), Value::Array(back)) => {
            sent.iter().enumerate().find_map(|(i, value)| match back.get(i) {
                Some(other) => first_lost(value, other, format!("{path}[{i}]")),
                None => Some(format!("{path}[{i}]")),
            })
        }
        _ => None,
    }
}

/// The model's messages quote what they found, each in its own way: only what names an element stays.
fn without_values(message: &str) -> String {
    let named = ["missing field `", "duplicate field `"].iter().find_map(|start| {
        let name = message.strip_prefix(start)?.split('`').next()?;
        Some(format!("{start}{name}`"))
    });
    named.unwrap_or_else(|| "a value that its type does not allow".into())
}

#[cfg(test)]
mod tests {
    use super::check;
    use serde_json::json;

    #[test]
    fn a_right_resource_passes() {
        let patient = json!({"resourceType": "Patient", "gender": "female", "birthDate": "1992-03-14",
            "name": [{"text": "Achieng Otieno"}]});
        assert_eq!(check(&patient), Ok(()));
    }

    #[test]
    fn numbers_pass_with_all_their_digits() {
        let long = r#"{"resourceType":"Observation","status":"final","code":{"text":"x"},
            "valueQuantity":{"value":176.000000000000000001,"extension":[{"url":"urn:x","valueDecimal":1.10}]},
            "component":[{"code":{"text":"y"},"valueQuantity":{"value":0.50}}]}"#;
        assert_eq!(check(&serde_json::from_str(long).expect("JSON")), Ok(()));
    }

    #[test]
    fn an_unknown_element_is_named() {
        let patient = json!({"resourceType": "Patient", "name": [{"text": "A", "nick": "B"}]});
        assert_eq!(check(&patient), Err("name[0].nick is not an element of R4".to_string()));
    }

    #[test]
    fn a_wrong_value_is_not_quoted() {
        let patient = json!({"resourceType": "Patient", "birthDate": "Achieng"});
        let error = check(&patient).expect_err("not a date");
        assert!(!error.contains("Achieng"), "{error}");
        let patient = json!({"resourceType": "Patient", "gender": "Achieng"});
        let error = check(&patient).expect_err("not a gender");
        assert!(!error.contains("Achieng"), "{error}");
    }
}
