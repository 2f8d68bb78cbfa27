//! Plain schema defaults, as OpenAPI states them, and the zero values that Go always writes.

use serde_json::{Map, Value};

use super::{
    node::{Kind, Node, Schema},
    walk::keeps,
};
use crate::meta::Object;

impl Schema {
    /// Fills in defaults where nothing (or null) stands, down through lists and maps. Applying twice changes nothing.
    pub fn apply_defaults(&self, object: &mut Object) {
        fill_struct(&self.root, object.root_mut());
    }
}

fn fill(node: &Node, value: &mut Value) {
    match (&node.kind, value) {
        (Kind::Struct(_), Value::Object(fields)) => fill_struct(node, fields),
        (Kind::List(item), Value::Array(items)) => items.iter_mut().for_each(|value| fill(item, value)),
        (Kind::Map(value_node), Value::Object(entries)) => entries.values_mut().for_each(|value| fill(value_node, value)),
        _ => {}
    }
}

fn fill_struct(node: &Node, fields: &mut Map<String, Value>) {
    let Some(holder) = node.as_struct() else { return };
    for field in holder.fields() {
        // A default that Go leaves out when it writes is no value that clients see.
        if let Some(default) = &field.node.default
            && keeps(field, default)
            && fields.get(&*field.name).is_none_or(|value| value.is_null() && !field.node.nullable)
        {
            fields.insert(field.name.to_string(), default.clone());
        }
        if let Some(value) = fields.get_mut(&*field.name) {
            fill(&field.node, value);
        }
    }
}
