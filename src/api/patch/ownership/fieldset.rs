//! All the paths that an object sets: what its applier owns.

use serde_json::Value;

use super::{element, set::FieldSet};
use crate::schema::{Kind, Node};

/// The set of an applied object.
pub fn field_set(value: &Value, node: &Node) -> FieldSet {
    let mut set = FieldSet::default();
    visit(value, node, &mut Vec::new(), &mut set);
    set
}

fn visit(value: &Value, node: &Node, path: &mut Vec<Box<str>>, set: &mut FieldSet) {
    match (&node.kind, value) {
        _ if node.is_atomic() => set.insert(path),
        (Kind::List(item), Value::Array(items)) => {
            for value in items {
                path.push(element::item(node, value));
                visit(value, item, path, set);
                set.insert(path);
                path.pop();
            }
        }
        (Kind::Struct(_) | Kind::Map(_) | Kind::Any, Value::Object(fields)) => {
            for (name, value) in fields {
                let element = element::field(name);
                let Some(child) = element::child_node(node, &element) else { continue };
                path.push(element);
                visit(value, child, path, set);
                let is_empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
                if is_empty || node.as_struct().is_none() {
                    set.insert(path);
                }
                path.pop();
            }
        }
        (Kind::Any, _) => set.insert(path),
        _ => {}
    }
}
