//! YAML with the line of everything, so that each problem can name its place.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_saphyr::Spanned;

use super::problem::Finding;

/// A value and the line that it starts on.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) line: u32,
    pub(super) value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    /// The line of the key.
    pub(super) line: u32,
    pub(super) node: Node,
}

/// Reads one document. `first_line` is its line in the file.
pub(super) fn read(text: &str, first_line: u32) -> Result<Node, Finding> {
    let mut node: Node = serde_saphyr::from_str(text).map_err(|error| {
        let line = error.location().map_or(1, |place| line_of(place.line()));
        Finding::new(
            line + first_line - 1,
            "",
            format!("this is not YAML: {}", first_sentence(&error)),
            "mend the line; until then what was last read stays in force",
        )
    })?;
    node.shift(first_line - 1);
    Ok(node)
}

fn first_sentence(error: &serde_saphyr::Error) -> String {
    // The rest of the text is a drawing of the place, which the line number replaces.
    let text = error.without_snippet().to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

fn line_of(line: u64) -> u32 {
    u32::try_from(line).unwrap_or(u32::MAX)
}

impl Node {
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node)
    }

    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The line of a field by its path (`spec.rules[0].paths`), or of the nearest thing above it that is there.
    pub(super) fn line_at(&self, path: &str) -> u32 {
        let mut node = self;
        for step in path.split(['.', '[']).filter(|step| !step.is_empty()) {
            let next = match (&node.value, step.strip_suffix(']')) {
                (Value::List(items), Some(position)) => position.parse().ok().and_then(|at: usize| items.get(at)),
                (_, None) => node.get(step),
                _ => None,
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node.line
    }

    /// The same from JSON, which has no lines: everything stands on `line`.
    pub(super) fn from_json(json: &serde_json::Value, line: u32) -> Self {
        use serde_json::Value as Json;
        let value = match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => Value::Number(number.clone()),
            Json::String(text) => Value::Text(text.clone()),
            Json::Array(items) => Value::List(items.iter().map(|item| Self::from_json(item, line)).collect()),
            Json::Object(fields) => {
                let entry = |(key, value): (&String, &Json)| Entry {
                    key: key.clone(),
                    line,
                    node: Self::from_json(value, line),
                };
                Value::Map(fields.iter().map(entry).collect())
            }
        };
        Self { line, value }
    }

    pub(super) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Number(number) => number.clone().into(),
            Value::Text(text) => text.as_str().into(),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(entries) => entries.iter().map(|entry| (entry.key.clone(), entry.node.to_json())).collect(),
        }
    }

    fn shift(&mut self, by: u32) {
        self.line += by;
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.shift(by)),
            Value::Map(entries) => {
                for entry in entries {
                    entry.line += by;
                    entry.node.shift(by);
                }
            }
            _ => {}
        }
    }
}

impl Value {
    /// What it is, in the words of a schema.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { line: line_of(spanned.referenced.line()), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping, a list or a scalar")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        // JSON has no infinity; as text it is refused wherever a number is wanted.
        Ok(Number::from_f64(value).map_or_else(|| Value::Text(value.to_string()), Value::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            entries.push(Entry { line: line_of(key.referenced.line()), key: key.value, node: map.next_value()? });
        }
        Ok(Value::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_knows_its_line() {
        let node = read("a: 1\nb:\n  c: [x,\n    z]\n  d: {e: true}\n", 10).unwrap();
        assert_eq!(node.line_at("a"), 10);
        assert_eq!(node.line_at("b.c[0]"), 12);
        assert_eq!(node.line_at("b.c[1]"), 13);
        assert_eq!(node.line_at("b.d.e"), 14);
        assert_eq!(node.line_at("b.c[7].x"), 12);
        assert_eq!(node.to_json(), serde_json::json!({"a": 1, "b": {"c": ["x", "z"], "d": {"e": true}}}));
    }

    #[test]
    fn a_broken_document_names_the_line() {
        let finding = read("a: 1\nb: [x\nc: 2\n", 5).unwrap_err();
        assert!((6..=8).contains(&finding.line), "{finding:?}");
        assert!(!finding.message.contains('\n'), "{finding:?}");
    }

    #[test]
    fn a_key_twice_is_broken() {
        assert!(read("a: 1\na: 2\n", 1).is_err());
    }

    #[test]
    fn quoted_numbers_are_text() {
        let node = read("a: \"80\"\nb: 80\nc: null\n", 1).unwrap();
        assert_eq!(node.to_json(), serde_json::json!({"a": "80", "b": 80, "c": null}));
    }
}
