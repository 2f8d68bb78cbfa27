//! Removing the members of a set from an object.

use serde_json::{Map, Value};

use super::{element, set::FieldSet};
use crate::schema::{Kind, Node};

/// The value without what `unwanted` names. Containers that lose everything stay, empty.
pub fn remove(value: &Value, unwanted: &FieldSet, node: &Node) -> Value {
    match (&node.kind, value) {
        _ if node.is_atomic() => value.clone(),
        (Kind::List(item), Value::Array(items)) => Value::Array(
            items
                .iter()
                .filter_map(|value| {
                    let element = element::item(node, value);
                    keep(value, &element, unwanted, Some(item))
                })
                .collect(),
        ),
        (Kind::Struct(_) | Kind::Map(_) | Kind::Any, Value::Object(fields)) => {
            let mut kept = Map::new();
            for (name, value) in fields {
                let element = element::field(name);
                if let Some(value) = keep(value, &element, unwanted, element::child_node(node, &element)) {
                    kept.insert(name.clone(), value);
                }
            }
            Value::Object(kept)
        }
        _ => value.clone(),
    }
}

fn keep(value: &Value, element: &str, unwanted: &FieldSet, node: Option<&Node>) -> Option<Value> {
    if unwanted.has(element) {
        return None;
    }
    Some(match (unwanted.below(element), node) {
        (Some(below), Some(node)) => remove(value, below, node),
        _ => value.clone(),
    })
}
