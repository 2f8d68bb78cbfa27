//! Maps and objects.

use std::collections::HashMap;

use super::{Map, Text, Val, from_json, shown};
use crate::expressions::{meter::Fault, types::escape};

/// A key that values are found by. Numbers of different types are the same key if they are the same number.
#[derive(Clone, Debug)]
pub enum Key<'a> {
    Bool(bool),
    Int(i64),
    Uint(u64),
    String(Text<'a>),
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Key::Bool(a), Key::Bool(b)) => a == b,
            (Key::Int(a), Key::Int(b)) => a == b,
            (Key::Uint(a), Key::Uint(b)) => a == b,
            (Key::String(a), Key::String(b)) => **a == **b,
            _ => false,
        }
    }
}

impl Eq for Key<'_> {}

impl std::hash::Hash for Key<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        match self {
            Key::Bool(value) => value.hash(state),
            Key::Int(value) => value.hash(state),
            Key::Uint(value) => value.hash(state),
            Key::String(value) => (**value).hash(state),
        }
    }
}

impl<'a> Key<'a> {
    /// The key that a value is; `None` for what is never one.
    pub fn of(value: &Val<'a>) -> Option<Self> {
        Some(match value {
            Val::Bool(value) => Key::Bool(*value),
            Val::Int(value) => Key::Int(*value),
            Val::Uint(value) => i64::try_from(*value).map_or(Key::Uint(*value), Key::Int),
            Val::Double(value) if value.fract() == 0.0 && value.abs() < 9.0e18 => Key::Int(*value as i64),
            Val::String(text) => Key::String(text.clone()),
            _ => return None,
        })
    }
}

/// A map that was made.
#[derive(Debug, Default)]
pub struct Made<'a> {
    pub entries: Vec<(Val<'a>, Val<'a>)>,
    index: HashMap<Key<'a>, usize>,
    /// What stands for keys that it has not.
    otherwise: Option<Val<'a>>,
}

impl<'a> Made<'a> {
    /// An empty one in which every key has a value.
    pub fn with_default(otherwise: Val<'a>) -> Self {
        Made { otherwise: Some(otherwise), ..Made::default() }
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// The key cannot be one, or is there already.
    pub fn insert(&mut self, key: Val<'a>, value: Val<'a>) -> Result<(), Fault> {
        let found = Key::of(&key).filter(|_| !matches!(key, Val::Double(_))).ok_or_else(|| Fault::error("unsupported key type"))?;
        if self.index.contains_key(&found) {
            return Err(Fault::error(format!("insert failed: key {} already exists", shown(&key))));
        }
        self.index.insert(found, self.entries.len());
        self.entries.push((key, value));
        Ok(())
    }
}

/// A message that was constructed, with its fields in the order in which they were written.
#[derive(Debug)]
pub struct Message<'a> {
    pub name: &'a str,
    pub fields: Vec<(&'a str, Val<'a>)>,
}

impl<'a> Message<'a> {
    pub fn field(&self, name: &str) -> Option<&Val<'a>> {
        self.fields.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

impl<'a> Map<'a> {
    pub fn type_name(&self) -> &str {
        match self {
            Map::Object { of, .. } => &of.name,
            Map::Message(message) => message.name,
            _ => "map",
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn len(&self) -> usize {
        match self {
            Map::Document { entries, .. } | Map::Object { entries, .. } => entries.len(),
            Map::Made(made) => made.entries.len(),
            Map::Message(message) => message.fields.len(),
        }
    }

    /// The value of a key, if there is one. A field of an object that is null is not there.
    ///
    /// # Errors
    /// The document holds something else than was declared, or the key cannot be one.
    pub fn find(&self, key: &Val<'a>) -> Result<Option<Val<'a>>, Fault> {
        match (self, key) {
            (Map::Made(made), key) => {
                let found = Key::of(key).and_then(|key| made.index.get(&key));
                Ok(found.map(|at| made.entries[*at].1.clone()).or_else(|| made.otherwise.clone()))
            }
            (_, Val::String(name)) => self.field(name),
            _ => Err(super::no_overload()),
        }
    }

    /// Whether there is such a key, whatever stands for keys that there are not.
    ///
    /// # Errors
    /// As of [`Map::find`].
    pub fn contains(&self, key: &Val<'a>) -> Result<bool, Fault> {
        match self {
            Map::Made(made) => Ok(Key::of(key).is_some_and(|key| made.index.contains_key(&key))),
            other => Ok(other.find(key)?.is_some()),
        }
    }

    /// The value of a text.
    ///
    /// # Errors
    /// The document holds something else than was declared.
    pub fn field(&self, name: &str) -> Result<Option<Val<'a>>, Fault> {
        match self {
            Map::Document { entries, of } => entries.get(name).map(|value| from_json(value, of)).transpose(),
            Map::Object { entries, of } => {
                let Some(field) = of.selected(name) else { return Ok(None) };
                entries.get(&*field.name).filter(|value| !value.is_null()).map(|value| from_json(value, &field.declaration)).transpose()
            }
            Map::Message(message) => Ok(message.field(name).cloned()),
            Map::Made(made) => {
                // The text need not live as long as the map.
                let found = made.entries.iter().find(|(key, _)| matches!(key, Val::String(text) if **text == *name));
                Ok(found.map(|(_, value)| value.clone()).or_else(|| made.otherwise.clone()))
            }
        }
    }

    /// The keys and their values. Of an object only what expressions can name.
    ///
    /// # Errors
    /// The document holds something else than was declared.
    pub fn entries(&self) -> Result<Vec<(Val<'a>, Val<'a>)>, Fault> {
        match self {
            Map::Document { entries, of } => entries.iter().map(|(key, value)| Ok((Val::borrowed(key), from_json(value, of)?))).collect(),
            Map::Object { entries, of } => {
                let known = entries.keys().filter_map(|key| Some((escape(key)?, of.fields.get(&*escape(key)?)?)));
                let present = known.filter_map(|(name, field)| Some((name, field, entries.get(&*field.name).filter(|value| !value.is_null())?)));
                present.map(|(name, field, value)| Ok((Val::text(name), from_json(value, &field.declaration)?))).collect()
            }
            Map::Made(made) => Ok(made.entries.clone()),
            Map::Message(message) => Ok(message.fields.iter().map(|(name, value)| (Val::borrowed(name), value.clone())).collect()),
        }
    }

    /// The keys.
    pub fn keys(&self) -> Vec<Val<'a>> {
        match self {
            Map::Document { entries, .. } => entries.keys().map(|key| Val::borrowed(key)).collect(),
            Map::Object { entries, of } => {
                entries.keys().filter_map(|key| escape(key)).filter(|key| of.fields.contains_key(&**key)).map(Val::text).collect()
            }
            Map::Made(made) => made.entries.iter().map(|(key, _)| key.clone()).collect(),
            Map::Message(message) => message.fields.iter().map(|(name, _)| Val::borrowed(name)).collect(),
        }
    }
}
