//! Plain schema defaults, as OpenAPI states them, and the zero values that Go always writes.

use serde_json::{Map, Value};

use super::{
    node::{Field, Kind, Node, Schema},
    walk::keeps,
};
use crate::meta::{Object, limits::MAX_STORED};

impl Schema {
    /// Fills in defaults where nothing (or null) stands, down through lists and maps. Applying twice changes nothing.
    ///
    /// `false` if they take more than any stored object may: then some lack. A definition of a custom resource chooses its defaults, and
    /// a body how often each is put in.
    pub fn apply_defaults(&self, object: &mut Object) -> bool {
        let mut room = Room(Some(MAX_STORED));
        fill_struct(&self.root, object.root_mut(), &mut room);
        room.0.is_some()
    }
}

/// Whether Go writes null where nobody set a field: a time is a struct, which `omitempty` never leaves out. The time of creation says
/// `omitzero`.
fn is_written_unset(field: &Field) -> bool {
    matches!(field.node.kind, Kind::Time | Kind::MicroTime) && !field.pointer && &*field.name != "creationTimestamp"
}

/// The bytes that defaults may still take; nothing when they took too many.
struct Room(Option<usize>);

impl Room {
    fn take(&mut self, name: &str, default: &Value) -> bool {
        self.0 = self.0.and_then(|left| left.checked_sub(name.len() + least_size(default)));
        self.0.is_some()
    }
}

/// The bytes that a value takes at least when it is written.
fn least_size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(items) => 2 + items.iter().map(least_size).sum::<usize>(),
        Value::Object(fields) => 2 + fields.iter().map(|(name, value)| name.len() + least_size(value)).sum::<usize>(),
        _ => 1,
    }
}

fn fill(node: &Node, value: &mut Value, room: &mut Room) {
    match (&node.kind, value) {
        (Kind::Struct(_), Value::Object(fields)) => fill_struct(node, fields, room),
        (Kind::List(item), Value::Array(items)) => items.iter_mut().for_each(|value| fill(item, value, room)),
        (Kind::Map(value_node), Value::Object(entries)) => entries.values_mut().for_each(|value| fill(value_node, value, room)),
        _ => {}
    }
}

fn fill_struct(node: &Node, fields: &mut Map<String, Value>, room: &mut Room) {
    let Some(holder) = node.as_struct() else { return };
    for field in holder.fields() {
        // A default that Go leaves out when it writes is no value that clients see.
        if let Some(default) = &field.node.default
            && keeps(field, default)
            && fields.get(&*field.name).is_none_or(|value| value.is_null() && !field.node.nullable)
            && room.take(&field.name, default)
        {
            fields.insert(field.name.to_string(), default.clone());
        } else if is_written_unset(field) && !fields.contains_key(&*field.name) && room.take(&field.name, &Value::Null) {
            fields.insert(field.name.to_string(), Value::Null);
        }
        if let Some(value) = fields.get_mut(&*field.name) {
            fill(&field.node, value, room);
        }
    }
}
