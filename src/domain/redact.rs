//! Takes a patient's data out of other systems' words before they are kept or shown.
use serde_json::Value;
use std::collections::BTreeSet;

/// Parts of keys under which CHT and FHIR keep what identifies a person.
const PERSONAL: &[&str] = &[
    "name",
    "family",
    "given",
    "phone",
    "telecom",
    "birth",
    "dob",
    "address",
    "note",
    "contact_info",
    "from",
];

/// Longest text that is kept of another system's answer.
const LONGEST: usize = 600;

/// `words` without anything that `body` says of a person.
pub fn redact(words: &str, body: &Value) -> String {
    let mut personal = BTreeSet::new();
    collect(body, false, &mut personal);
    let mut text: String = words.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
    let mut longest_first: Vec<&String> = personal.iter().collect();
    longest_first.sort_by_key(|value| std::cmp::Reverse(value.len()));
    for value in longest_first {
        text = replace_ignoring_case(&text, value);
    }
    text
}

fn collect(value: &Value, personal: bool, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let key = key.to_lowercase();
                let here = personal || PERSONAL.iter().any(|part| key.contains(part));
                collect(value, here, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, personal, found)),
        Value::String(text) if personal && text.trim().chars().count() >= 3 => {
            found.insert(text.trim().to_string());
            found.extend(text.split_whitespace().filter(|word| word.chars().count() >= 3).map(String::from));
        }
        _ => {}
    }
}

fn replace_ignoring_case(text: &str, value: &str) -> String {
    if !text.to_lowercase().contains(&value.to_lowercase()) {
        return text.to_string();
    }
    let mut kept = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let hit = rest.get(..value.len()).is_some_and(|start| start.to_lowercase() == value.to_lowercase());
        let step = if hit { value.len() } else { rest.chars().next().map_or(1, char::len_utf8) };
        kept.push_str(if hit { "…" } else { &rest[..step] });
        rest = &rest[step..];
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::redact;
    use serde_json::json;

    #[test]
    fn names_and_phones_go_codes_stay() {
        let body = json!({"resourceType": "Patient", "name": [{"family": "Otieno", "given": ["Achieng"]}],
            "telecom": [{"value": "+254712000101"}], "gender": "femal"});
        assert_eq!(
            redact("ACHIENG otieno (+254712000101): unknown gender femal", &body),
            "… … (…): unknown gender femal"
        );
    }

    #[test]
    fn letters_of_every_script() {
        let body = json!({"doc": {"name": "सीता कुमारी"}});
        assert_eq!(redact("किसको? सीता कुमारी!", &body), "किसको? …!");
    }
}
