//! Which slice an item of a list belongs to (<https://hl7.org/fhir/R4/profiling.html#discriminator>).
use crate::definitions::{Element, Slicing};
use serde_json::Value;

impl Slicing {
    /// Index of the slice whose discriminators an item fulfils.
    pub(crate) fn slice_of(&self, item: &Value) -> Option<usize> {
        self.slices.iter().position(|(_, slice)| {
            !self.discriminators.is_empty()
                && self.discriminators.iter().all(|(kind, path)| fits(kind, path, slice, item))
        })
    }

    /// Whether every discriminator is of a kind that is understood here.
    pub(crate) fn is_understood(&self) -> bool {
        self.discriminators.iter().all(|(kind, path)| is_understood(kind, path))
    }
}

/// Not what stands in another resource (`resolve()`), nor in an extension, nor by a whole profile.
pub(crate) fn is_understood(kind: &str, path: &str) -> bool {
    matches!(kind, "value" | "pattern" | "exists" | "type") && !path.contains('(')
}

fn fits(kind: &str, path: &str, slice: &Element, item: &Value) -> bool {
    if path == "url"
        && let Some(url) = slice.types.first().and_then(|t| t.profiles.first())
    {
        return item["url"] == url.as_str();
    }
    let steps: Vec<&str> = path.split('.').filter(|step| *step != "$this").collect();
    match kind {
        "value" | "pattern" => told(slice, &steps, item).unwrap_or(false),
        "type" => values(item, &steps).iter().any(|value| is_of_type(slice, &steps, value)),
        "exists" => {
            let there = !values(item, &steps).is_empty();
            let last = steps
                .iter()
                .try_fold(slice, |element, step| element.children.iter().find(|child| child.name == *step));
            last.is_some_and(
                |element| if element.max == Some(0) { !there } else { element.min == 0 || there },
            )
        }
        _ => false,
    }
}

/// Whether a resource is of one of the types that the slice has there.
fn is_of_type(slice: &Element, steps: &[&str], value: &Value) -> bool {
    let element = steps
        .iter()
        .try_fold(slice, |element, step| element.children.iter().find(|child| child.name == *step));
    element.is_some_and(|element| element.types.iter().any(|t| value["resourceType"] == t.code.as_str()))
}

/// Walks slice and item together; `None` if the slice says nothing there.
fn told(slice: &Element, steps: &[&str], item: &Value) -> Option<bool> {
    if let Some(fixed) = &slice.fixed {
        return Some(values(item, steps).contains(&fixed) || (steps.is_empty() && item == fixed));
    }
    if let Some(pattern) = &slice.pattern {
        let pattern = steps.iter().try_fold(pattern, |value, step| first(value.get(*step)?))?;
        let there = values(item, steps);
        return Some(there.iter().any(|value| holds(pattern, value)));
    }
    if let (Some(codes), true) = (&slice.binding, steps.is_empty()) {
        return Some(
            item.as_str().is_some_and(|code| codes.has(None, code))
                || codings(item)
                    .any(|c| codes.has(c["system"].as_str(), c["code"].as_str().unwrap_or_default())),
        );
    }
    let (step, rest) = steps.split_first()?;
    let child = slice.children.iter().find(|child| child.name == *step)?;
    let there = item.get(*step)?;
    match there {
        Value::Array(items) => Some(items.iter().any(|item| told(child, rest, item).unwrap_or(false))),
        one => told(child, rest, one),
    }
}

fn first(value: &Value) -> Option<&Value> {
    match value {
        Value::Array(items) => items.first(),
        other => Some(other),
    }
}

fn values<'v>(value: &'v Value, steps: &[&str]) -> Vec<&'v Value> {
    let mut here = vec![value];
    for step in steps {
        here = here
            .into_iter()
            .filter_map(|value| value.get(*step))
            .flat_map(|value| match value {
                Value::Array(items) => items.iter().collect::<Vec<_>>(),
                one => vec![one],
            })
            .collect();
    }
    here
}

pub(crate) fn codings(value: &Value) -> impl Iterator<Item = &Value> {
    let own = value.get("code").map(|_| value);
    value["coding"].as_array().into_iter().flatten().chain(own)
}

/// All of the pattern is in the value (<https://hl7.org/fhir/R4/elementdefinition-definitions.html#ElementDefinition.pattern_x_>).
pub(crate) fn holds(pattern: &Value, value: &Value) -> bool {
    match (pattern, value) {
        (Value::Object(pattern), Value::Object(value)) => {
            pattern.iter().all(|(key, wanted)| value.get(key).is_some_and(|there| holds(wanted, there)))
        }
        (Value::Array(pattern), Value::Array(value)) => {
            pattern.iter().all(|wanted| value.iter().any(|there| holds(wanted, there)))
        }
        (pattern, value) => pattern == value,
    }
}
