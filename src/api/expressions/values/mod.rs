//! Values while an expression is evaluated. What stands in a document is borrowed from it and turned into values where it is looked at.

mod equality;
mod json;
mod list;
mod map;
mod named;
pub mod times;

use std::{ops::Deref, rc::Rc};

use jiff::Timestamp;
use serde_json::Value;

use super::{
    meter::Fault,
    types::{Declaration, Identity, ObjectType},
};

pub use equality::{compare, equal, key_of};
pub use json::{from_json, object_from_json, to_json};
pub use map::{Key, Made, Message};
pub use named::{Format, Named, Version};

/// What JSON has as an object.
type Fields = serde_json::Map<String, Value>;

/// A text of a document or an expression, or one that was made.
#[derive(Clone, Debug)]
pub enum Text<'a> {
    Borrowed(&'a str),
    Made(Rc<str>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Text::Borrowed(text) => text,
            Text::Made(text) => text,
        }
    }
}

/// A point in time, with the offset from UTC, in seconds, in which it was written.
#[derive(Clone, Copy, Debug)]
pub struct Time {
    pub at: Timestamp,
    pub offset: i32,
}

/// A value.
#[derive(Clone, Debug)]
pub enum Val<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Text<'a>),
    Bytes(Rc<[u8]>),
    /// In nanoseconds.
    Duration(i64),
    Timestamp(Time),
    List(List<'a>),
    Map(Map<'a>),
    Optional(Option<Rc<Val<'a>>>),
    /// The variables that stand beside an expression.
    Variables,
    /// A type, by its name.
    Type(Rc<str>),
    /// One of a library.
    Named(Rc<Named>),
}

/// A list.
#[derive(Clone, Debug)]
pub enum List<'a> {
    Document {
        entries: &'a [Value],
        of: &'a Declaration,
        identity: &'a Identity,
    },
    /// With the identity of the list that it was made of.
    Made {
        entries: Rc<[Val<'a>]>,
        identity: &'a Identity,
    },
}

/// A map or an object.
#[derive(Clone, Debug)]
pub enum Map<'a> {
    /// A map of a document.
    Document {
        entries: &'a Fields,
        of: &'a Declaration,
    },
    /// An object with known fields.
    Object {
        entries: &'a Fields,
        of: &'a ObjectType,
    },
    Made(Rc<Made<'a>>),
    /// A message that was constructed.
    Message(Rc<Message<'a>>),
}

impl<'a> Val<'a> {
    pub fn text(text: impl Into<Rc<str>>) -> Self {
        Val::String(Text::Made(text.into()))
    }

    pub fn borrowed(text: &'a str) -> Self {
        Val::String(Text::Borrowed(text))
    }

    pub fn list(entries: Vec<Val<'a>>) -> Self {
        Val::List(List::made(entries))
    }

    pub fn some(inner: Val<'a>) -> Self {
        Val::Optional(Some(Rc::new(inner)))
    }

    pub fn named(named: Named) -> Self {
        Val::Named(Rc::new(named))
    }

    /// The name of its type.
    pub fn type_name(&self) -> &str {
        match self {
            Val::Null => "null_type",
            Val::Bool(_) => "bool",
            Val::Int(_) => "int",
            Val::Uint(_) => "uint",
            Val::Double(_) => "double",
            Val::String(_) => "string",
            Val::Bytes(_) => "bytes",
            Val::Duration(_) => "google.protobuf.Duration",
            Val::Timestamp(_) => "google.protobuf.Timestamp",
            Val::List(_) => "list",
            Val::Map(map) => map.type_name(),
            Val::Optional(_) => "optional_type",
            Val::Variables => "kubernetes.variables",
            Val::Type(_) => "type",
            Val::Named(named) => named.type_name(),
        }
    }

    /// Its size as costs count it: characters, bytes or entries; 1 for everything else.
    pub fn size(&self) -> u64 {
        let size = match self {
            Val::String(text) => text.chars().count(),
            Val::Bytes(bytes) => bytes.len(),
            Val::List(list) => list.len(),
            Val::Map(map) => map.len(),
            Val::Optional(Some(inner)) => return inner.size(),
            Val::Named(named) => return named.size(),
            _ => 1,
        };
        size as u64
    }

    /// The bytes that looking at all of it goes through, where that is no fixed number.
    pub fn bytes(&self) -> usize {
        match self {
            Val::String(text) => text.len(),
            Val::Bytes(bytes) => bytes.len(),
            _ => 0,
        }
    }
}

/// The error of an operation that there is not for such values.
pub fn no_overload() -> Fault {
    Fault::error("no such overload")
}

/// A key as errors show it.
pub fn shown(key: &Val<'_>) -> String {
    match key {
        Val::Bool(value) => value.to_string(),
        Val::Int(value) => value.to_string(),
        Val::Uint(value) => value.to_string(),
        Val::Double(value) => value.to_string(),
        Val::String(text) => text.to_string(),
        other => other.type_name().to_owned(),
    }
}
