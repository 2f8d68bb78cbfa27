//! JSON or YAML as it was written: field order and duplicate fields kept.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

/// A parsed document before any schema has looked at it.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    List(Vec<Raw>),
    Object(Vec<(String, Raw)>),
}

impl Raw {
    /// The JSON type as Go's decoder names it; numbers with their text where `exact`.
    pub fn describe(&self, exact: bool) -> String {
        match self {
            Raw::Null => "null".into(),
            Raw::Bool(_) => "bool".into(),
            Raw::Number(number) if exact => format!("number {number}"),
            Raw::Number(_) => "number".into(),
            Raw::String(_) => "string".into(),
            Raw::List(_) => "array".into(),
            Raw::Object(_) => "object".into(),
        }
    }

    /// The last field of this name.
    pub fn get(&self, name: &str) -> Option<&Raw> {
        match self {
            Raw::Object(fields) => fields.iter().rev().find(|(field, _)| field == name).map(|(_, value)| value),
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Raw::String(text) => Some(text),
            _ => None,
        }
    }

    /// The plain JSON value; of duplicate fields the last counts.
    pub fn into_value(self) -> Value {
        match self {
            Raw::Null => Value::Null,
            Raw::Bool(flag) => Value::Bool(flag),
            Raw::Number(number) => Value::Number(number),
            Raw::String(text) => Value::String(text),
            Raw::List(items) => Value::Array(items.into_iter().map(Raw::into_value).collect()),
            Raw::Object(fields) => Value::Object(fields.into_iter().map(|(name, value)| (name, value.into_value())).collect::<Map<_, _>>()),
        }
    }
}

impl From<Value> for Raw {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Raw::Null,
            Value::Bool(flag) => Raw::Bool(flag),
            Value::Number(number) => Raw::Number(number),
            Value::String(text) => Raw::String(text),
            Value::Array(items) => Raw::List(items.into_iter().map(Raw::from).collect()),
            Value::Object(fields) => Raw::Object(fields.into_iter().map(|(name, value)| (name, Raw::from(value))).collect()),
        }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Raw, E> {
        Ok(Raw::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Raw, E> {
        Ok(Raw::Number(number.into()))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Raw, E> {
        Number::from_f64(number).map(Raw::Number).ok_or_else(|| E::custom("numbers must be finite"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Raw, E> {
        Ok(Raw::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Raw, A::Error> {
        let mut object = Vec::new();
        while let Some((Key(name), value)) = fields.next_entry()? {
            object.push((name, value));
        }
        Ok(Raw::Object(object))
    }
}

/// A field name; YAML's numbers and booleans become their text, as in JSON.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Raw::deserialize(deserializer)? {
            Raw::String(text) => Ok(Key(text)),
            Raw::Number(number) => Ok(Key(number.to_string())),
            Raw::Bool(flag) => Ok(Key(flag.to_string())),
            Raw::Null => Ok(Key("null".to_owned())),
            Raw::List(_) | Raw::Object(_) => Err(de::Error::custom("field names must be scalars")),
        }
    }
}
