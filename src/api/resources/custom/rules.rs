//! What values must be like: types, bounds, formats, patterns and choices of a schema, and what `allOf` and the like add.
//!
//! Errors are worded as upstream's (`k8s.io/kube-openapi/pkg/validation`). A check costs no more than [`MOST_STEPS`], whatever schema and
//! object are.

mod bounds;
mod compile;
mod embedded;
mod walk;

#[cfg(test)]
mod tests;

use serde_json::Value;

use self::bounds::Bounds;
use crate::{schema::ListType, status::FieldError};

/// The types that a value may have, as a set of bits. Without any all do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Types(u8);

const NAMES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// The rules of one place in an object.
#[derive(Debug, Default)]
pub struct Rules {
    types: Types,
    nullable: bool,
    /// A whole object of any kind stands here (`x-kubernetes-embedded-resource`).
    embedded: bool,
    required: Box<[Box<str>]>,
    /// Sorted by name.
    properties: Box<[(Box<str>, Rules)]>,
    /// Of entries of a map that are no properties.
    values: Option<Box<Rules>>,
    items: Option<Box<Rules>>,
    list: ListType,
    bounds: Option<Box<Bounds>>,
    junctors: Option<Box<Junctors>>,
    /// Schemas within junctors, here and below.
    alternatives: usize,
    /// Known at the root: see [`Rules::heaviest_pattern`].
    heaviest_pattern: usize,
}

#[derive(Debug, Default)]
struct Junctors {
    all: Vec<Rules>,
    any: Vec<Rules>,
    one: Vec<Rules>,
    not: Option<Rules>,
}

/// Values that are looked at, by one rule each, before a check gives up; a large object has a hundred thousand.
pub const MOST_STEPS: usize = 5_000_000;
/// Errors that are told of one object.
const MOST_ERRORS: usize = 200;
/// Bytes of all errors that a check makes, also of those that are not told in the end.
const MOST_TEXT: usize = 4 << 20;

impl Rules {
    /// Everything that is wrong with an object.
    pub fn check(&self, object: &Value) -> Vec<FieldError> {
        walk::check(self, object, None, String::new())
    }

    /// Everything that is wrong with an object and was not so in the old one.
    pub fn check_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        walk::check(self, object, Some(old), String::new())
    }

    /// Everything that is wrong with the part of an object below a field of it, such as the status, and was not so in the old one.
    pub fn check_field(&self, object: &Value, old: &Value, name: &str) -> Vec<FieldError> {
        match (self.property(name), object.get(name)) {
            (Some(rules), Some(value)) => walk::check(rules, value, old.get(name), name.to_owned()),
            _ => Vec::new(),
        }
    }

    /// How many schemas there are within `allOf` and the like.
    pub fn alternatives(&self) -> usize {
        self.alternatives
    }

    /// What one byte of a text may have to be tried against.
    pub fn heaviest_pattern(&self) -> usize {
        self.heaviest_pattern
    }

    /// The rules of entries of a list.
    pub fn entries(&self) -> Option<&Rules> {
        self.items.as_deref()
    }

    /// The rules of a field, or of an entry of a map.
    fn inner(&self, name: &str) -> Option<&Rules> {
        self.property(name).or(self.values.as_deref())
    }

    /// The rules of a field that the schema names.
    pub fn property(&self, name: &str) -> Option<&Rules> {
        self.properties.binary_search_by(|(known, _)| (**known).cmp(name)).ok().map(|at| &self.properties[at].1)
    }
}

impl Types {
    fn of(name: &str) -> Self {
        Types(NAMES.iter().position(|known| *known == name).map_or(0, |at| 1 << at))
    }

    fn with(self, other: Types) -> Self {
        Types(self.0 | other.0)
    }

    fn has(self, name: &str) -> bool {
        self.0 & Types::of(name).0 != 0
    }

    /// `integer,string`
    fn text(self) -> String {
        NAMES.into_iter().filter(|name| self.has(name)).collect::<Vec<_>>().join(",")
    }
}

/// The type of a value as schemas name it.
fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if !number.is_i64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
