//! Reads a body as JSON, strictly: a key that stands twice means something else to every reader.
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// `Err` says what is wrong and where, in words without the body's content.
pub fn parse(bytes: &[u8]) -> Result<Value, String> {
    if let Err(error) = std::str::from_utf8(bytes) {
        return Err(format!("the body is not UTF-8 (at byte {})", error.valid_up_to()));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict(DEEPEST).deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    value.map_err(|error| without_quotes(&error.to_string()))
}

/// serde's messages may quote what they found; a single sign is JSON's own.
fn without_quotes(message: &str) -> String {
    let parts = message.split('`').enumerate();
    parts.map(|(i, part)| if i % 2 == 1 && part.chars().count() > 1 { "…" } else { part }).collect()
}

/// Levels of lists and objects that are taken. What we keep wraps a body in some more, and has to be
/// read again by parsers that stop at 128.
const DEEPEST: usize = 64;

/// How serde_json hands a number on whose digits it keeps: as an object with this key.
const NUMBER: &str = "$serde_json::private::Number";

/// How many levels may still come.
struct Strict(usize);

impl Strict {
    fn inner<E: Error>(&self) -> Result<usize, E> {
        self.0.checked_sub(1).ok_or_else(|| E::custom(format!("nested deeper than {DEEPEST} levels")))
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_string()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut all = Vec::new();
        while let Some(item) = items.next_element_seed(Strict(inner))? {
            all.push(item);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut all = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if key == NUMBER {
                let no = || A::Error::custom("a key that is not taken");
                let digits: String = entries.next_value().map_err(|_| no())?;
                let number = digits.parse().map(Value::Number).map_err(|_| no())?;
                let is_number = all.is_empty() && entries.next_key::<String>()?.is_none();
                return is_number.then_some(number).ok_or_else(no);
            }
            let value = entries.next_value_seed(Strict(inner))?;
            if all.insert(key, value).is_some() {
                return Err(A::Error::custom("a key stands twice in one object"));
            }
        }
        Ok(Value::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn what_it_takes() {
        let text = r#"{"a":[1,-2,3.5,true,null,"x"],"b":{}}"#;
        assert_eq!(parse(text.as_bytes()).map(|v| v.to_string()), Ok(text.to_string()));
    }

    #[test]
    fn numbers_keep_their_digits() {
        for digits in [
            "176.0",
            "1.10",
            "0.1000000000000000055511151231257827",
            "-1e-7",
            "123456789012345678901234567890",
        ] {
            let text = format!("[{digits}]");
            assert_eq!(parse(text.as_bytes()).map(|v| v.to_string()), Ok(text));
        }
    }

    #[test]
    fn what_it_refuses_and_how() {
        let deep = "[".repeat(10_000);
        for (body, words) in [
            (&br#"{"a":1,"a":2}"#[..], "a key stands twice"),
            (b"{\"a\":", "EOF"),
            (b"{\"a\":1 2}", "expected , or }"),
            (b"\xff", "not UTF-8 (at byte 0)"),
            (b"{} {}", "trailing characters"),
            (b"", "EOF"),
            (br#"{"$serde_json::private::Number":"Achieng"}"#, "a key that is not taken"),
            (br#"{"a":1,"$serde_json::private::Number":"1"}"#, "a key that is not taken"),
            (br#"{"$serde_json::private::Number":"1","a":1}"#, "a key that is not taken"),
            (deep.as_bytes(), "nested deeper than 64"),
        ] {
            let error = parse(body).expect_err("refused");
            assert!(error.contains(words), "{error}");
        }
    }
}
