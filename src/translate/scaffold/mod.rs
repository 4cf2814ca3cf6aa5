//! Writes a mapping to start from: of an XForm, a JSON form of app_settings, or an example document.
mod form;
mod write;
mod xform;

pub use form::Form;

use crate::domain::message::Route;
use crate::translate::proof::cases::RECEIVED;
use crate::translate::{Mappings, Source};
use serde_json::Value;

/// A mapping, and a case that it holds for.
pub struct Scaffold {
    pub name: String,
    pub yaml: String,
    /// A document as CHT would push it, with an answer for each question.
    pub example: Value,
}

/// From the text of a file: an XForm (XML), app_settings with the code of a form, or a document. What
/// serves the form already gives way to the new mapping, which says so.
pub fn scaffold(
    text: &str,
    code: Option<&str>,
    name: Option<&str>,
    mappings: &Mappings,
) -> Result<Scaffold, String> {
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
    let name = free_name(name, &form.code, mappings)?;
    let example = write::example(&form);
    let route = Route::ChtPush(None);
    let source = Source { route: &route, body: &example, received: RECEIVED };
    let set = mappings.set();
    let mut claims = mappings.claims(&source).map_err(|refusal| refusal.to_string())?;
    claims.retain(|claim| set.get(claim).is_some_and(|mapping| !mapping.fallback));
    Ok(Scaffold { yaml: write::mapping(&form, &name, &claims, &set), example, name })
}

/// A name that no mapping has: one of the same name would take the place of a built-in one.
fn free_name(asked: Option<&str>, code: &str, mappings: &Mappings) -> Result<String, String> {
    let taken = mappings.all_names();
    match asked {
        Some(name)
            if taken.iter().any(|other| other == name) && !mappings.set().own.iter().any(|o| o == name) =>
        {
            Err(format!("a built-in mapping is called {name}: give another --name"))
        }
        Some(name) => Ok(name.into()),
        None => {
            let plain = plain_name(code);
            let is_free = !taken.contains(&plain) || mappings.set().own.contains(&plain);
            Ok(if is_free { plain } else { format!("{plain}-form") })
        }
    }
}

/// A form's code as the name of a file.
fn plain_name(code: &str) -> String {
    let name: String =
        code.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    match name.trim_matches('-') {
        "" => "form".into(),
        name => name.into(),
    }
}
