//! What a form asks, wherever that is written.
use serde_json::Value;

pub struct Form {
    pub code: String,
    pub title: String,
    /// Reports of it come from the app, not from JSON or SMS.
    pub is_app_form: bool,
    pub questions: Vec<Question>,
}

pub struct Question {
    /// Names below `fields`; a repeat is one of them.
    pub path: Vec<String>,
    /// How many names lead to the repeat that it is asked in.
    pub repeat: Option<usize>,
    pub label: String,
    pub kind: Kind,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Kind {
    Text,
    Date,
    Instant,
    /// A JSON number, or one as text.
    Number,
    NumberAsText,
    Flag,
    /// Milliseconds, as JSON forms keep dates.
    Millis,
    Phone,
    /// Code and label of each choice.
    One(Vec<(String, String)>),
    Several(Vec<(String, String)>),
}

/// Groups and fields that say how a form was filled.
pub const NOT_ASKED: &[&str] =
    &["inputs", "meta", "patient_id", "patient_uuid", "patient_name", "instanceID"];

/// A JSON form of app_settings, by its code.
pub fn of_settings(settings: &Value, code: &str) -> Result<Form, String> {
    let settings = if settings["settings"]["forms"].is_object() { &settings["settings"] } else { settings };
    let forms = if settings["forms"].is_object() { &settings["forms"] } else { settings };
    let Some(form) = forms.get(code).filter(|form| form["fields"].is_object()) else {
        let known = forms.as_object().into_iter().flatten().filter(|(_, form)| form["fields"].is_object());
        let known: Vec<&str> = known.map(|(code, _)| code.as_str()).collect();
        return Err(format!(
            "there is no form {code}; {}",
            crate::translate::language::mistake::nearest(code, known.into_iter())
        ));
    };
    let mut questions: Vec<(i64, Question)> = Vec::new();
    for (name, field) in form["fields"].as_object().into_iter().flatten() {
        if NOT_ASKED.contains(&name.as_str()) {
            continue;
        }
        let choices = || -> Vec<(String, String)> {
            let rows = field["list"].as_array().into_iter().flatten();
            rows.filter_map(|row| {
                Some((
                    plain(&row[0])?,
                    translated(&row[1]).unwrap_or_else(|| plain(&row[0]).unwrap_or_default()),
                ))
            })
            .collect()
        };
        let kind = match field["type"].as_str() {
            _ if field["list"].is_array() => Kind::One(choices()),
            Some("integer" | "number") => Kind::Number,
            Some("boolean") => Kind::Flag,
            Some("date") => Kind::Millis,
            Some("phone_number") => Kind::Phone,
            _ => Kind::Text,
        };
        let label = translated(&field["labels"]["short"]).or_else(|| translated(&field["labels"]["tiny"]));
        let question = Question {
            path: name.split('.').map(String::from).collect(),
            repeat: None,
            label: label.unwrap_or_else(|| name.clone()),
            kind,
        };
        questions.push((field["position"].as_i64().unwrap_or(i64::MAX), question));
    }
    questions.sort_by_key(|(position, _)| *position);
    let title = translated(&form["meta"]["label"]).unwrap_or_else(|| code.to_string());
    Ok(Form {
        code: code.into(),
        title,
        is_app_form: false,
        questions: questions.into_iter().map(|(_, question)| question).collect(),
    })
}

/// A code as text: lists of app_settings have numbers too.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn translated(label: &Value) -> Option<String> {
    match label {
        Value::String(text) => Some(text.clone()),
        Value::Object(all) => {
            let english = all.get("en").and_then(Value::as_str);
            english.or_else(|| all.values().find_map(Value::as_str)).map(String::from)
        }
        _ => None,
    }
}

/// A report as CHT stores or pushes it: what is in it was asked.
pub fn of_document(value: &Value) -> Result<Form, String> {
    let doc = [&value["body"]["doc"], &value["doc"], value].into_iter().find(|doc| doc["fields"].is_object());
    let Some(doc) = doc else {
        return Err("expected an XForm, app_settings with --form CODE, or a report with `fields`".into());
    };
    let code = doc["form"].as_str().ok_or("the report has no `form`")?.to_string();
    let mut questions = Vec::new();
    for (name, field) in doc["fields"].as_object().into_iter().flatten() {
        if !NOT_ASKED.contains(&name.as_str()) {
            ask(field, vec![name.clone()], None, &mut questions);
        }
    }
    let is_app_form = doc["content_type"].is_string();
    Ok(Form { title: code.clone(), code, is_app_form, questions })
}

fn ask(value: &Value, path: Vec<String>, repeat: Option<usize>, questions: &mut Vec<Question>) {
    let kind = match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let below = path.iter().cloned().chain([name.clone()]).collect();
                ask(field, below, repeat, questions);
            }
            return;
        }
        Value::Array(items) => {
            if let Some(first) = items.iter().find(|item| item.is_object()).filter(|_| repeat.is_none()) {
                let length = path.len();
                ask(first, path, Some(length), questions);
            }
            return;
        }
        Value::Bool(_) => Kind::Flag,
        Value::Number(_) => Kind::Number,
        Value::String(text) if is_date(text) => Kind::Date,
        _ => Kind::Text,
    };
    let label = path.last().cloned().unwrap_or_default();
    questions.push(Question { path, repeat, label: crate::translate::values::humanised(&label), kind });
}

fn is_date(text: &str) -> bool {
    text.len() >= 10 && text.get(..10).is_some_and(|day| day.parse::<jiff::civil::Date>().is_ok())
}
