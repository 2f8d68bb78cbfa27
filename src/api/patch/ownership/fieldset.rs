//! All the paths that an object sets: what its applier owns.

use serde_json::{Map, Value};

use super::{
    element,
    set::{Branch, FieldSet},
};
use crate::schema::{Kind, Node};

/// The set of an applied object.
pub fn field_set(value: &Value, node: &Node) -> FieldSet {
    visit(value, node).below
}

/// What a value sets: itself, if it is owned as a whole, and what is below. Sets are made from the bottom up, so that no
/// element of a path is looked at more than once: elements may be as long as an object is.
fn visit(value: &Value, node: &Node) -> Branch {
    let mut found = Branch::default();
    match (&node.kind, value) {
        _ if node.is_atomic() => found.member = true,
        (Kind::List(item), Value::Array(items)) => {
            for value in items {
                let branch = Branch { member: true, ..visit(value, item) };
                found.below.add(&element::item(node, value), branch);
            }
        }
        (Kind::Struct(_) | Kind::Map(_) | Kind::Any, Value::Object(fields)) => {
            for (name, value) in fields {
                let element = element::field(name);
                let Some(child) = element::child_node(node, &element) else { continue };
                let mut branch = visit(value, child);
                let is_empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                // What no field of a type stands for is owned by itself, as the entries of a map are.
                branch.member |= is_empty || node.as_struct().is_none_or(|holder| holder.field(name).is_none());
                found.below.add(&element, branch);
            }
        }
        (Kind::Any, _) => found.member = true,
        _ => {}
    }
    found
}
