//! Paths into documents: `doc.fields.danger_signs`, `resource.name[0].text`,
//! `resource.identifier[system=urn:cht:uuid].value`, `doc.fields["facility.name"]`.
use serde_json::{Map, Value};
use std::fmt;

#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    Key(String),
    Index(usize),
    /// Each item of a list: in a condition any of them, else the first.
    Any,
    /// The first object of a list in which this path has this text.
    Where(Vec<String>, String),
}

/// The root is its first step.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Path {
    pub steps: Vec<Step>,
}

/// Something on the way is of another kind than the path says.
#[derive(Debug, PartialEq)]
pub struct OtherKind {
    pub expected: &'static str,
}

impl Path {
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(inner) = rest.strip_prefix('[') {
                let end = closing(inner).ok_or("the [ has no ]")?;
                steps.push(bracket(&inner[..end])?);
                rest = &inner[end + 1..];
                rest = rest.strip_prefix('.').unwrap_or(rest);
                continue;
            }
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            if end == 0 || rest[..end].contains([' ', '\t', '"', '\'', '(', ')']) {
                return Err("expected a path, such as doc.fields.name".into());
            }
            steps.push(Step::Key(rest[..end].into()));
            rest = &rest[end..];
            if let Some(after) = rest.strip_prefix('.') {
                if after.is_empty() {
                    return Err("a path does not end in a dot".into());
                }
                rest = after;
            }
        }
        if steps.is_empty() { Err("expected a path".into()) } else { Ok(Self { steps }) }
    }

    pub fn join(&self, rest: &[Step]) -> Self {
        Self { steps: self.steps.iter().chain(rest).cloned().collect() }
    }

    /// What stands there, below `root`; the first step names the root and is passed over.
    pub fn read<'v>(&self, root: &'v Value) -> Result<Option<&'v Value>, OtherKind> {
        let mut value = root;
        for step in self.steps.iter().skip(1) {
            let next = match (step, value) {
                (_, Value::Null) => None,
                // CHT writes "" for a group that was not filled.
                (_, Value::String(text)) if text.trim().is_empty() => None,
                (Step::Key(key), Value::Object(fields)) => fields.get(key),
                (Step::Key(_), _) => return Err(OtherKind { expected: "an object" }),
                (Step::Index(index), Value::Array(items)) => items.get(*index),
                (Step::Any, Value::Array(items)) => items.first(),
                (Step::Where(path, wanted), Value::Array(items)) => {
                    items.iter().find(|item| text_at(item, path) == Some(wanted))
                }
                (_, _) => return Err(OtherKind { expected: "a list" }),
            };
            match next {
                Some(next) => value = next,
                None => return Ok(None),
            }
        }
        Ok(Some(value))
    }

    /// Everything that stands there, if it has `[*]`; what is of another kind on the way is passed over.
    pub fn read_all<'v>(&self, root: &'v Value) -> Vec<&'v Value> {
        let Some(any) = self.steps.iter().skip(1).position(|step| *step == Step::Any) else {
            return self.read(root).ok().flatten().into_iter().collect();
        };
        let (list, rest) = self.steps.split_at(any + 1);
        let items = Self { steps: list.to_vec() }.read(root).ok().flatten().and_then(Value::as_array);
        let rest = Self { steps: rest.to_vec() };
        items.into_iter().flatten().flat_map(|item| rest.read_all(item)).collect()
    }

    pub fn has_any(&self) -> bool {
        self.steps.contains(&Step::Any)
    }

    /// Puts a value there, and makes what is on the way.
    pub fn write(&self, root: &mut Value, new: Value) {
        let mut value = root;
        for step in self.steps.iter().skip(1) {
            value = match step {
                Step::Key(key) => object(value).entry(key.clone()).or_insert(Value::Null),
                Step::Index(_) | Step::Any => {
                    let index = if let Step::Index(index) = step { index } else { &0 };
                    let items = list(value);
                    while items.len() <= (*index).min(1000) {
                        items.push(Value::Null);
                    }
                    let last = items.len() - 1;
                    &mut items[(*index).min(last)]
                }
                Step::Where(path, wanted) => {
                    let items = list(value);
                    let known = items.iter().position(|item| text_at(item, path) == Some(wanted));
                    let index = known.unwrap_or_else(|| {
                        let mut made = Value::Null;
                        let mut inner = &mut made;
                        for key in path {
                            inner = object(inner).entry(key.clone()).or_insert(Value::Null);
                        }
                        *inner = Value::String(wanted.clone());
                        items.push(made);
                        items.len() - 1
                    });
                    &mut items[index]
                }
            };
        }
        *value = new;
    }
}

fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(fields) => fields,
        _ => unreachable!("just made one"),
    }
}

fn list(value: &mut Value) -> &mut Vec<Value> {
    if !value.is_array() {
        *value = Value::Array(Vec::new());
    }
    match value {
        Value::Array(items) => items,
        _ => unreachable!("just made one"),
    }
}

fn text_at<'v>(value: &'v Value, path: &[String]) -> Option<&'v str> {
    path.iter().try_fold(value, |value, key| value.get(key))?.as_str()
}

/// The end of a bracket, quotes regarded.
fn closing(inner: &str) -> Option<usize> {
    let mut quoted = false;
    inner.char_indices().find_map(|(i, c)| {
        if c == '"' {
            quoted = !quoted;
        }
        (c == ']' && !quoted).then_some(i)
    })
}

fn bracket(inner: &str) -> Result<Step, String> {
    if let Some(quoted) = inner.strip_prefix('"') {
        let key = quoted.strip_suffix('"').ok_or("the \" has no end")?;
        return Ok(Step::Key(key.into()));
    }
    if inner == "*" {
        return Ok(Step::Any);
    }
    if let Some((path, value)) = inner.split_once('=') {
        return Ok(Step::Where(path.split('.').map(String::from).collect(), value.into()));
    }
    inner.parse().map(Step::Index).map_err(|_| "expected [number], [*], [\"name\"] or [element=value]".into())
}

impl Path {
    /// As it is written below another: `.name[0]`.
    pub fn below(&self) -> String {
        let text = self.to_string();
        if text.starts_with('[') { text } else { format!(".{text}") }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.steps.iter().enumerate() {
            match step {
                Step::Key(key) if key.contains(['.', '[', ' ']) => write!(f, "[\"{key}\"]")?,
                Step::Key(key) if i == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Any => f.write_str("[*]")?,
                Step::Where(path, value) => write!(f, "[{}={value}]", path.join("."))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn path(text: &str) -> Path {
        Path::parse(text).expect(text)
    }

    #[test]
    fn what_is_written_is_read_and_read_is_written() {
        for text in [
            "doc.a.b",
            "resource.name[0].given[1]",
            "resource.identifier[system=urn:cht:uuid].value",
            "resource.identifier[type.text=CHT Document ID].value",
            "doc.fields[\"facility.name\"]",
            "resource.category[*].coding[*].code",
            "body",
        ] {
            assert_eq!(path(text).to_string(), text);
            let mut root = Value::Null;
            path(text).write(&mut root, json!("x"));
            assert_eq!(path(text).read(&root), Ok(Some(&json!("x"))), "{root}");
        }
        for wrong in ["", "doc.", "doc..a", ".a", "doc[", "doc[x]", "doc a", "doc[\"a]"] {
            assert!(Path::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn each_item_of_each_list() {
        let doc = json!({"a": [{"b": [{"c": 1}, {"c": 2}]}, {"b": "x"}, {"b": [{"c": 3}, {}]}]});
        assert_eq!(path("doc.a[*].b[*].c").read_all(&doc), [&json!(1), &json!(2), &json!(3)]);
        assert_eq!(path("doc.a[0].b[*].c").read_all(&doc), [&json!(1), &json!(2)]);
        assert!(path("doc.x[*].c").read_all(&doc).is_empty());
    }

    #[test]
    fn absent_is_not_of_another_kind() {
        let doc = json!({"a": "", "b": null, "c": "x", "d": [1]});
        assert_eq!(path("doc.a.x").read(&doc), Ok(None));
        assert_eq!(path("doc.b.x").read(&doc), Ok(None));
        assert_eq!(path("doc.c.x").read(&doc), Err(OtherKind { expected: "an object" }));
        assert_eq!(path("doc.d.x").read(&doc), Err(OtherKind { expected: "an object" }));
        assert_eq!(path("doc.c[0]").read(&doc), Err(OtherKind { expected: "a list" }));
        assert_eq!(path("doc.d[7]").read(&doc), Ok(None));
    }
}
