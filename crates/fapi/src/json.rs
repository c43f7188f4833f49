//! Strict JSON for what strangers send: one object, no member twice at any level, no silent conversions.
//!
//! Two readers that pick different copies of a repeated member see different tokens (RFC 8725 section 2.4), and a number
//! read as absent or cut to size makes a token live for ever.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// The members of a JSON object.
#[derive(Debug)]
pub(crate) struct Members(Map<String, Value>);

/// The text is not the JSON that was wanted. Deliberately without detail: each reader gives it its own meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotStrict;

/// Reads one list.
pub(crate) fn parse_list(json: &[u8]) -> Result<Vec<Value>, NotStrict> {
    match serde_json::from_slice(json) {
        Ok(Strict(Value::Array(list))) => Ok(list),
        _ => Err(NotStrict),
    }
}

impl Members {
    /// Reads one object.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, NotStrict> {
        match serde_json::from_slice(json) {
            Ok(Strict(Value::Object(members))) => Ok(Self(members)),
            _ => Err(NotStrict),
        }
    }

    /// Wraps an object that was read as part of another.
    pub(crate) fn of(value: &Value) -> Result<View<'_>, NotStrict> {
        value.as_object().map(View).ok_or(NotStrict)
    }

    /// An object that outlives the one that it was part of.
    pub(crate) fn owned(view: View<'_>) -> Self {
        Self(view.to_map())
    }

    pub(crate) const fn view(&self) -> View<'_> {
        View(&self.0)
    }
}

/// A borrowed object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a>(&'a Map<String, Value>);

impl<'a> View<'a> {
    pub(crate) fn has(self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(crate) fn value(self, name: &str) -> Option<&'a Value> {
        self.0.get(name)
    }

    pub(crate) fn to_map(self) -> Map<String, Value> {
        self.0.clone()
    }

    pub(crate) fn names(self) -> impl Iterator<Item = &'a str> {
        self.0.keys().map(String::as_str)
    }

    /// A member that must be a text if it is there.
    pub(crate) fn text(self, name: &str) -> Result<Option<&'a str>, NotStrict> {
        self.value(name).map(|value| value.as_str().ok_or(NotStrict)).transpose()
    }

    /// A member that must be there, as a text.
    pub(crate) fn need_text(self, name: &str) -> Result<&'a str, NotStrict> {
        self.text(name)?.ok_or(NotStrict)
    }

    /// A member that must be a whole number of seconds, before the year 10000, if it is there.
    pub(crate) fn seconds(self, name: &str) -> Result<Option<u64>, NotStrict> {
        let seconds = |value: &Value| value.as_u64().filter(|secs| *secs <= LAST_SECOND).ok_or(NotStrict);
        self.value(name).map(seconds).transpose()
    }

    /// A member that must be there, as a whole number of seconds.
    pub(crate) fn need_seconds(self, name: &str) -> Result<u64, NotStrict> {
        self.seconds(name)?.ok_or(NotStrict)
    }
}

/// A value without repeated members.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Strict;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without repeated members")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Strict, E> {
        Ok(Strict(Value::Null))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Strict, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(value)) = access.next_element()? {
            list.push(value);
        }
        Ok(Strict(Value::Array(list)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Strict, A::Error> {
        let mut members = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            let Strict(value) = access.next_value()?;
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("a member is given twice"));
            }
        }
        Ok(Strict(Value::Object(members)))
    }
}

/// 9999-12-31T23:59:59Z.
const LAST_SECOND: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_given_twice_is_refused_at_every_level() {
        for text in
            [r#"{"a":1,"a":1}"#, r#"{"b":{"a":1,"a":2}}"#, r#"{"b":[{"c":{"a":1,"a":2}}]}"#, r#"{"a":1,"\u0061":2}"#]
        {
            assert_eq!(Members::parse(text.as_bytes()).unwrap_err(), NotStrict, "{text}");
        }
        assert!(Members::parse(br#"{"a":{"a":{"a":1}}}"#).is_ok());
    }

    #[test]
    fn only_one_object_is_read() {
        for text in ["", "1", "[]", "{} {}", "{}x", "{", "\u{feff}{}", "{\"a\":NaN}", "{'a':1}", "{\"a\":1,}"] {
            assert!(Members::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(Members::parse(b"{\"a\":\"\xff\"}").is_err());
        assert!(Members::parse(b" {} \n").is_ok());
    }

    #[test]
    fn seconds_are_whole_numbers_in_range() {
        for bad in ["\"1\"", "1.0", "1e3", "1e30", "-1", "null", "true", "99999999999999999999", "253402300800"] {
            let members = Members::parse(format!("{{\"exp\":{bad}}}").as_bytes()).unwrap();
            assert_eq!(members.view().seconds("exp"), Err(NotStrict), "{bad}");
        }
        let members = Members::parse(br#"{"exp":0}"#).unwrap();
        assert_eq!(members.view().seconds("exp"), Ok(Some(0)));
        assert_eq!(members.view().seconds("nbf"), Ok(None));
        assert_eq!(members.view().need_seconds("nbf"), Err(NotStrict));
    }

    #[test]
    fn depth_is_bounded() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
        assert!(Members::parse(deep.as_bytes()).is_err());
    }
}
