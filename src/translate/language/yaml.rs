//! YAML in which every node knows its line. Aliases are refused: they make small files huge.
use super::mistake::At;
use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde_json::{Map, Number, Value};

const DEEPEST: usize = 64;

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub at: At,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Null, a boolean, a number or a text.
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: String,
    pub key_at: At,
    pub node: Node,
}

impl Node {
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node),
            _ => None,
        }
    }

    pub fn entries(&self) -> &[Entry] {
        match &self.kind {
            Kind::Map(entries) => entries,
            _ => &[],
        }
    }

    pub fn items(&self) -> &[Node] {
        match &self.kind {
            Kind::List(items) => items,
            _ => &[],
        }
    }

    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    pub fn value(&self) -> Value {
        match &self.kind {
            Kind::Scalar(value) => value.clone(),
            Kind::List(items) => items.iter().map(Node::value).collect(),
            Kind::Map(entries) => entries
                .iter()
                .map(|entry| (entry.key.clone(), entry.node.value()))
                .collect::<Map<_, _>>()
                .into(),
        }
    }

    /// Where the element of a path such as `entries[1].resource` stands; the nearest that is there.
    pub fn find(&self, path: &[String]) -> At {
        let mut node = self;
        let mut at = self.at;
        for step in path {
            let entry = node.entries().iter().find(|entry| entry.key == *step);
            let next = match (entry, step.parse::<usize>()) {
                (Some(entry), _) => {
                    at = entry.key_at;
                    Some(&entry.node)
                }
                (None, Ok(index)) => node.items().get(index).inspect(|item| at = item.at),
                _ => None,
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        at
    }
}

fn at(span: &Span) -> At {
    At { line: span.start.line() as u32, column: span.start.col() as u32 + 1 }
}

/// The one document of a file. `Err` says where it is not YAML.
pub fn parse(text: &str) -> Result<Node, (At, String)> {
    let mut events = Parser::new_from_str(text);
    let mut next = move || loop {
        match events.next() {
            None => return Ok((Event::StreamEnd, At::default())),
            Some(Err(error)) => {
                let at = At { line: error.marker().line() as u32, column: error.marker().col() as u32 + 1 };
                return Err((at, format!("not YAML: {}", error.info())));
            }
            Some(Ok((Event::StreamStart | Event::DocumentStart(_) | Event::Nothing, _))) => {}
            Some(Ok((event, span))) => return Ok((event, at(&span))),
        }
    };
    let (first, at) = next()?;
    if matches!(first, Event::StreamEnd | Event::DocumentEnd) {
        return Err((At { line: 1, column: 1 }, "the file is empty".into()));
    }
    let node = read(first, at, &mut next, 0)?;
    next()?;
    match next()? {
        (Event::StreamEnd, _) => Ok(node),
        (_, at) => Err((at, "a second document (---) in one file".into())),
    }
}

type Next<'a, 'i> = dyn FnMut() -> Result<(Event<'i>, At), (At, String)> + 'a;

fn read<'i>(event: Event<'i>, at: At, next: &mut Next<'_, 'i>, depth: usize) -> Result<Node, (At, String)> {
    if depth > DEEPEST {
        return Err((at, format!("nested more than {DEEPEST} deep")));
    }
    let kind = match event {
        Event::Scalar(text, style, _, tag) => {
            let plain = style == ScalarStyle::Plain && tag.is_none();
            Kind::Scalar(if plain { resolve(&text) } else { Value::String(text.into_owned()) })
        }
        Event::SequenceStart(..) => {
            let mut items = Vec::new();
            loop {
                match next()? {
                    (Event::SequenceEnd, _) => break Kind::List(items),
                    (event, at) => items.push(read(event, at, next, depth + 1)?),
                }
            }
        }
        Event::MappingStart(..) => read_map(next, depth)?,
        Event::Alias(_) => return Err((at, "aliases (*name) are not taken; write it out".into())),
        _ => return Err((at, "expected a value".into())),
    };
    Ok(Node { at, kind })
}

fn read_map<'i>(next: &mut Next<'_, 'i>, depth: usize) -> Result<Kind, (At, String)> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    loop {
        let (key, key_at) = match next()? {
            (Event::MappingEnd, _) => return Ok(Kind::Map(entries)),
            (Event::Scalar(text, ..), at) => (text.into_owned(), at),
            (_, at) => return Err((at, "expected a name as key".into())),
        };
        if !seen.insert(key.clone()) {
            return Err((key_at, format!("{key} stands here twice")));
        }
        let (event, at) = next()?;
        let node = read(event, at, next, depth + 1)?;
        entries.push(Entry { key, key_at, node });
    }
}

/// YAML's core schema; numbers keep their digits.
fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        other => match serde_json::from_str::<Number>(other) {
            Ok(number) => Value::Number(number),
            Err(_) => Value::String(other.into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_knows_its_line() {
        let node = parse("a: 1\nb:\n- c: yes\n  d: \"2\"\n").expect("YAML");
        assert_eq!(node.value(), serde_json::json!({"a": 1, "b": [{"c": "yes", "d": "2"}]}));
        let path = ["b", "0", "d"].map(String::from);
        assert_eq!(node.find(&path), At { line: 4, column: 3 });
    }

    #[test]
    fn what_is_no_yaml_is_said_with_its_place() {
        for (text, line) in [
            ("a: [1\n", 2),
            ("a: 1\na: 2\n", 2),
            ("a: &x [1]\nb: *x\n", 2),
            ("", 1),
            ("a: 1\n---\nb: 2\n", 3),
        ] {
            let (at, _) = parse(text).expect_err(text);
            assert_eq!(at.line, line, "{text}");
        }
        assert!(parse(&"[".repeat(5000)).is_err());
    }
}
