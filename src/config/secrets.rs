//! Secrets that stand in files of their own: `password_file` instead of `password`.
use toml::Value;

const SECRETS: &[&str] = &["password", "bearer_token", "client_secret", "secret", "key"];

/// Reads every `<secret>_file` and puts its content under `<secret>`. `variables` are the keys that the
/// environment sets: it overrides the file, whichever way each of them gives the secret. Answers what
/// went wrong, by key.
pub(super) fn read(settings: &mut Value, variables: &[String]) -> Vec<(String, String)> {
    let mut errors = Vec::new();
    walk(settings, "", variables, &mut errors);
    errors
}

fn walk(value: &mut Value, at: &str, variables: &[String], errors: &mut Vec<(String, String)>) {
    match value {
        Value::Array(items) => {
            for (i, item) in items.iter_mut().enumerate() {
                walk(item, &format!("{at}.{i}"), variables, errors);
            }
        }
        Value::Table(table) => {
            for secret in SECRETS {
                let key = format!("{secret}_file");
                let Some(file) = table.remove(&key) else { continue };
                let full = format!("{at}.{key}").trim_start_matches('.').to_string();
                let plain = full.trim_end_matches("_file").to_string();
                match (variables.contains(&full), variables.contains(&plain)) {
                    (true, false) => drop(table.remove(*secret)),
                    (false, true) => continue,
                    _ => {}
                }
                match content(&file, table.contains_key(*secret)) {
                    Ok(text) => {
                        table.insert(secret.to_string(), Value::String(text));
                    }
                    Err(message) => errors.push((full, message)),
                }
            }
            for (key, value) in table {
                walk(value, format!("{at}.{key}").trim_start_matches('.'), variables, errors);
            }
        }
        _ => {}
    }
}

fn content(file: &Value, given: bool) -> Result<String, String> {
    let Value::String(path) = file else { return Err("expected the path of a file".into()) };
    if given {
        return Err("the secret is given here and as a file; keep one".into());
    }
    let text = std::fs::read_to_string(path).map_err(|e| format!("{path} cannot be read: {e}"))?;
    let text = text.trim_end_matches(['\r', '\n']).to_string();
    if text.is_empty() { Err(format!("{path} is empty")) } else { Ok(text) }
}
