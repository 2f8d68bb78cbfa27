//! What is known of a variable and of everything within it before there is a value.

use std::{collections::BTreeMap, sync::Arc};

use super::{Type, object::escape};
use crate::expressions::words::is_reserved;

/// The type of a place in a document, how it is written there, and how large it may be
/// (`k8s.io/apiserver/pkg/cel/types.go`, `DeclType`).
#[derive(Clone, Debug)]
pub struct Declaration {
    pub ty: Type,
    pub shape: Shape,
    /// The document may hold null here.
    pub nullable: bool,
    /// The largest size as `size()` counts it; 0 where there is none to count.
    pub most: u64,
    /// The fewest bytes that it takes in a JSON document.
    pub least: u64,
}

/// How a value stands in a document.
#[derive(Clone, Debug)]
pub enum Shape {
    /// As its type says: numbers, texts, and objects with known fields.
    Plain,
    /// An integer or a text.
    IntOrString,
    /// A list of such values.
    List { items: Arc<Declaration>, identity: Identity },
    /// A map of such values by text.
    Map { values: Arc<Declaration> },
    /// Any value of JSON.
    Any,
}

/// What makes two entries of a list the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Their place.
    Place,
    /// Their value.
    Value,
    /// The values of these fields.
    Keys(Arc<[Box<str>]>),
}

impl Declaration {
    /// A value of a type without parts.
    pub fn plain(ty: Type, most: u64, least: u64) -> Self {
        Declaration { ty, shape: Shape::Plain, nullable: false, most, least }
    }

    pub fn object(object: Arc<ObjectType>, least: u64) -> Self {
        Declaration::plain(Type::Object(object), 0, least)
    }

    /// A list of at most `most` entries.
    pub fn list(items: Declaration, identity: Identity, most: u64) -> Self {
        let ty = Type::list(items.ty.clone());
        Declaration { ty, shape: Shape::List { items: Arc::new(items), identity }, nullable: false, most, least: 2 }
    }

    /// A map of at most `most` entries.
    pub fn map(values: Declaration, most: u64) -> Self {
        let ty = Type::map(Type::String, values.ty.clone());
        Declaration { ty, shape: Shape::Map { values: Arc::new(values) }, nullable: false, most, least: 2 }
    }

    pub fn int_or_string(most: u64) -> Self {
        Declaration { ty: Type::Dyn, shape: Shape::IntOrString, nullable: false, most, least: 1 }
    }

    /// Any JSON.
    pub fn any() -> Self {
        Declaration { ty: Type::Dyn, shape: Shape::Any, nullable: true, most: u64::MAX, least: 1 }
    }

    /// The fields, where it is an object.
    pub fn fields(&self) -> Option<&Arc<ObjectType>> {
        match &self.ty {
            Type::Object(object) => Some(object),
            _ => None,
        }
    }

    /// What entries of a list or values of a map are.
    pub fn element(&self) -> Option<&Declaration> {
        match &self.shape {
            Shape::List { items, .. } => Some(items),
            Shape::Map { values } => Some(values),
            _ => None,
        }
    }
}

/// An object whose fields are known. Two are the same if their names are.
#[derive(Debug)]
pub struct ObjectType {
    pub name: Box<str>,
    /// By their names in expressions.
    pub fields: BTreeMap<Box<str>, Field>,
}

#[derive(Debug)]
pub struct Field {
    /// The name in documents.
    pub name: Box<str>,
    pub declaration: Declaration,
}

impl ObjectType {
    /// The field that an expression selects: a word that is reserved may be written as it is.
    pub fn selected(&self, name: &str) -> Option<&Field> {
        self.fields.get(name).or_else(|| if is_reserved(name) { self.fields.get(&*format!("__{name}__")) } else { None })
    }

    /// The field of that name in documents.
    pub fn field(&self, name: &str) -> Option<&Declaration> {
        let escaped = escape(name)?;
        self.fields.get(&*escaped).map(|field| &field.declaration)
    }
}
