//! JSON or YAML as it was written: field order and duplicate fields kept.

use std::fmt;

use serde::{
    Deserializer,
    de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

use crate::meta::{
    floats,
    limits::{self, Meter},
};

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
            Raw::Number(number) if exact => match number.as_f64() {
                // Only a point or an exponent makes a whole number of this size a float.
                Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 1e16 => format!("number {float:.1}"),
                Some(float) if number.is_f64() => format!("number {}", floats::json(float)),
                _ => format!("number {number}"),
            },
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
        self.value_with(|number| number)
    }

    /// The same with numbers as Go reads them where no type says what they are: an integer beyond an int64 is a float.
    pub fn into_untyped(self) -> Value {
        self.value_with(untyped)
    }

    fn value_with(self, read: fn(Number) -> Number) -> Value {
        match self {
            Raw::Null => Value::Null,
            Raw::Bool(flag) => Value::Bool(flag),
            Raw::Number(number) => Value::Number(read(number)),
            Raw::String(text) => Value::String(text),
            Raw::List(items) => Value::Array(items.into_iter().map(|item| item.value_with(read)).collect()),
            Raw::Object(fields) => Value::Object(fields.into_iter().map(|(name, value)| (name, value.value_with(read))).collect::<Map<_, _>>()),
        }
    }
}

/// A number that Go decodes into an `interface{}`. `-0` is the integer 0, and what `-0.0` says is not told from it.
fn untyped(number: Number) -> Number {
    match number.as_f64() {
        Some(float) if float == 0.0 && float.is_sign_negative() => 0.into(),
        Some(float) if !number.is_i64() => Number::from_f64(float).unwrap_or(number),
        _ => number,
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

/// Reads a value and counts what it costs.
pub(super) struct Metered<'m>(pub &'m mut Meter);

impl<'de> DeserializeSeed<'de> for Metered<'_> {
    type Value = Raw;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Metered<'_> {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
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

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Raw, E> {
        self.0.charge(limits::TEXT + text.len()).map_err(E::custom)?;
        Ok(Raw::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let meter = self.0;
        meter.open().map_err(de::Error::custom)?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Metered(meter))? {
            meter.charge(item_cost(&item)).map_err(de::Error::custom)?;
            list.push(item);
        }
        meter.close();
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Raw, A::Error> {
        let meter = self.0;
        meter.open().map_err(de::Error::custom)?;
        let mut object = Vec::new();
        while let Some(name) = fields.next_key::<String>()? {
            meter.charge(field_cost(object.len(), &name)).map_err(de::Error::custom)?;
            object.push((name, fields.next_value_seed(Metered(meter))?));
        }
        meter.close();
        Ok(Raw::Object(object))
    }
}

/// What an item costs in a list. Defaults may fill an empty object.
pub(super) fn item_cost(item: &Raw) -> usize {
    let filled = matches!(item, Raw::Object(fields) if fields.is_empty());
    limits::ITEM + if filled { limits::OBJECT } else { 0 }
}

/// What a field costs in an object that has `before` fields already.
pub(super) fn field_cost(before: usize, name: &str) -> usize {
    let slot = if before == 0 { limits::OBJECT } else { limits::FIELD };
    slot + limits::TEXT + name.len()
}
