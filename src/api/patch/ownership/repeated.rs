//! Lists whose items have keys, with two items of one key: nobody could own one of them.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::element;
use crate::schema::{Kind, ListType, Node, strict::PROBLEM_LIMIT};

/// What is wrong with such lists of an applied object, in upstream's words.
pub fn repeated(object: &Map<String, Value>, node: &Node) -> Vec<String> {
    let mut search = Search { path: String::new(), found: Vec::new() };
    search.fields(object, node);
    search.found
}

struct Search {
    /// As messages show it, such as `.spec.containers[name="a"].env`.
    path: String,
    found: Vec<String>,
}

impl Search {
    fn visit(&mut self, value: &Value, node: &Node) {
        match (&node.kind, value) {
            (Kind::List(item), Value::Array(items)) => self.list(items, node, item),
            (Kind::Struct(_) | Kind::Map(_), Value::Object(fields)) => self.fields(fields, node),
            _ => {}
        }
    }

    fn fields(&mut self, fields: &Map<String, Value>, node: &Node) {
        for (name, value) in fields.iter().filter(|(_, value)| value.is_array() || value.is_object()) {
            if let Some(child) = node.child(name) {
                self.below(&format!(".{name}"), value, child);
            }
        }
    }

    fn list(&mut self, items: &[Value], node: &Node, item: &Node) {
        if node.list == ListType::Atomic {
            return items.iter().enumerate().for_each(|(at, value)| self.below(&format!("[{at}]"), value, item));
        }
        let mut known = HashSet::with_capacity(items.len());
        for value in items {
            let element = element::item(node, value);
            let shown = element::display(&element);
            if !known.insert(element) && self.found.len() < PROBLEM_LIMIT {
                self.found.push(format!("{}: duplicate entries for key {shown}", self.path));
            }
            self.below(&shown, value, item);
        }
    }

    fn below(&mut self, step: &str, value: &Value, node: &Node) {
        if !value.is_array() && !value.is_object() {
            return;
        }
        let mark = self.path.len();
        self.path.push_str(step);
        self.visit(value, node);
        self.path.truncate(mark);
    }
}
