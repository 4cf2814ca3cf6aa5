//! Writes a mapping to start from: of an XForm, a JSON form of app_settings, or an example document.
mod form;
mod write;
mod xform;

pub use form::Form;

use serde_json::Value;

/// A mapping, and a case that it holds for.
pub struct Scaffold {
    pub name: String,
    pub yaml: String,
    /// A document as CHT would push it, with an answer for each question.
    pub example: Value,
}

/// From the text of a file: an XForm (XML), app_settings with the code of a form, or a document.
pub fn scaffold(text: &str, code: Option<&str>, name: Option<&str>) -> Result<Scaffold, String> {
    let form = match text.trim_start().starts_with('<') {
        true => xform::read(text)?,
        false => {
            let value: Value =
                serde_json::from_str(text).map_err(|e| format!("line {}: neither XML nor JSON", e.line()))?;
            match code {
                Some(code) => form::of_settings(&value, code)?,
                None => form::of_document(&value)?,
            }
        }
    };
    if form.questions.is_empty() {
        return Err("no question was found in it".into());
    }
    let name = name.map_or_else(|| plain_name(&form.code), String::from);
    Ok(Scaffold { yaml: write::mapping(&form, &name), example: write::example(&form), name })
}

/// A form's code as the name of a file.
fn plain_name(code: &str) -> String {
    let name: String =
        code.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    name.trim_matches('-').to_string()
}
