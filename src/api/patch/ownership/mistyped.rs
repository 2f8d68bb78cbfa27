//! Values of wrong types in an applied object, in the words of upstream's typed objects (structured-merge-diff). Quantities, times and what may
//! be a number or a text it takes as any scalar.

use serde_json::{Map, Value};

use super::element;
use crate::{
    schema::{Kind, ListType, Node, ScalarType, conversion, strict::PROBLEM_LIMIT},
    status::quoted,
};

/// More bytes than this are not told of.
const MOST: usize = 8 << 10;

/// What is wrong with the types of an object's values.
pub(crate) fn mistyped(object: &Map<String, Value>, node: &Node) -> Vec<String> {
    let mut search = Search::default();
    search.fields(object, node);
    search.found
}

#[derive(Default)]
struct Search {
    /// As messages show it, such as `.spec.containers[name="a"].env`.
    path: String,
    found: Vec<String>,
    /// The bytes that were found.
    told: usize,
}

impl Search {
    fn visit(&mut self, value: &Value, node: &Node) {
        match (&node.kind, value) {
            (_, Value::Null) => {}
            (Kind::Struct(_) | Kind::Map(_), Value::Object(fields)) => self.fields(fields, node),
            (Kind::Struct(_) | Kind::Map(_), other) => self.tell(&format!("expected map, got {}", shown(other))),
            (Kind::List(item), Value::Array(items)) => self.list(items, node, item),
            (Kind::List(_), other) => self.tell(&format!("expected list, got {}", shown(other))),
            (_, other) => self.scalar(other, scalar_of(node)),
        }
    }

    fn scalar(&mut self, value: &Value, wanted: Option<ScalarType>) {
        match wanted {
            Some(ScalarType::String) if !value.is_string() => {
                self.tell(&format!("expected string, got &value.valueUnstructured{{Value:{}}}", syntax(value)));
            }
            Some(ScalarType::Numeric) if !value.is_number() => {
                self.tell(&format!("expected numeric (int or float), got {}", go_type(value)));
            }
            Some(ScalarType::Boolean) if !value.is_boolean() => self.tell(&format!("expected boolean, got {}", shown(value))),
            _ => {}
        }
    }

    fn fields(&mut self, fields: &Map<String, Value>, node: &Node) {
        for (name, value) in fields {
            if let Some(child) = node.child(name) {
                self.below(&format!(".{name}"), value, child);
            }
        }
    }

    fn list(&mut self, items: &[Value], node: &Node, item: &Node) {
        for (at, value) in items.iter().enumerate() {
            match node.list {
                ListType::Atomic => self.below(&format!("[{at}]"), value, item),
                ListType::Map(_) if !value.is_object() => {
                    self.tell(&format!("element {at}: associative list with keys may not have non-map elements"));
                }
                _ => self.below(&element::display(&element::item(node, value)), value, item),
            }
        }
    }

    fn below(&mut self, step: &str, value: &Value, node: &Node) {
        let mark = self.path.len();
        self.path.push_str(step);
        self.visit(value, node);
        self.path.truncate(mark);
    }

    fn tell(&mut self, what: &str) {
        if self.found.len() < PROBLEM_LIMIT && self.told < MOST {
            let text = format!("{}: {}", quoted(&self.path), quoted(what));
            self.told += text.len();
            self.found.push(text);
        }
    }
}

/// What a scalar at this place is; nothing of those that may be one or another.
fn scalar_of(node: &Node) -> Option<ScalarType> {
    match node.kind {
        Kind::String | Kind::Bytes => Some(ScalarType::String),
        Kind::Int32 | Kind::Int64 | Kind::Double => Some(ScalarType::Numeric),
        Kind::Bool => Some(ScalarType::Boolean),
        _ => node.scalar,
    }
}

/// A value behind a pointer, as Go prints it (`%v`).
fn shown(value: &Value) -> String {
    format!("&{{{}}}", conversion::printed(value))
}

/// A value in Go's syntax (`%#v`), or how it begins: it is longer than its JSON.
fn syntax(value: &Value) -> String {
    let mut text = String::new();
    write_syntax(value, &mut text);
    text
}

fn write_syntax(value: &Value, text: &mut String) {
    match value {
        Value::Null => text.push_str("interface {}(nil)"),
        Value::Bool(_) | Value::Number(_) => text.push_str(&conversion::printed(value)),
        Value::String(string) => text.push_str(&format!("{:?}", quoted(string))),
        Value::Array(items) => {
            text.push_str("[]interface {}{");
            for (at, item) in items.iter().enumerate() {
                text.push_str(if at == 0 { "" } else { ", " });
                write_syntax(item, text);
                if text.len() > MOST {
                    return;
                }
            }
            text.push('}');
        }
        Value::Object(fields) => {
            text.push_str("map[string]interface {}{");
            for (at, (name, value)) in fields.iter().enumerate() {
                text.push_str(if at == 0 { "" } else { ", " });
                text.push_str(&format!("{:?}:", quoted(name)));
                write_syntax(value, text);
                if text.len() > MOST {
                    return;
                }
            }
            text.push('}');
        }
    }
}

/// The type of a value as Go has it (`%T`).
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_is_shown_in_gos_syntax_as_far_as_it_is_told() {
        let shown = syntax(&json!([1, "a", null, {"b": true, "c": []}]));
        assert_eq!(shown, r#"[]interface {}{1, "a", interface {}(nil), map[string]interface {}{"b":true, "c":[]interface {}{}}}"#);
        assert!(syntax(&json!(vec![json!([]); 100_000])).len() < 2 * MOST);
    }
}
