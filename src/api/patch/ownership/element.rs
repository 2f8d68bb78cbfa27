//! Path elements: how fields and list items are named in FieldsV1 and in messages.

use serde_json::{Map, Value};

use crate::schema::{Kind, ListType, Node};

pub fn field(name: &str) -> Box<str> {
    format!("f:{name}").into()
}

/// The element of an item of a set or of a list of maps. Keys that the item lacks take their schema's default.
pub fn item(node: &Node, value: &Value) -> Box<str> {
    match &node.list {
        ListType::Map(keys) => {
            let mut key = Map::new();
            for name in keys {
                let default = || node.element()?.child(name)?.default.as_ref();
                if let Some(value) = value.get(&**name).or_else(default) {
                    key.insert(name.to_string(), value.clone());
                }
            }
            format!("k:{}", Value::Object(key)).into()
        }
        ListType::Set | ListType::Atomic => format!("v:{value}").into(),
    }
}

/// The node that an element below `node` leads to.
pub fn child_node<'a>(node: &'a Node, element: &str) -> Option<&'a Node> {
    match (&node.kind, element.strip_prefix("f:")) {
        (Kind::Any, _) => Some(node),
        (_, Some(name)) => node.child(name),
        (Kind::List(item), None) => Some(item),
        _ => None,
    }
}

/// The element as upstream prints it: `.name`, `[name="web"]`, `[="x"]`, `[0]`.
pub fn display(element: &str) -> String {
    match element.split_at_checked(2) {
        Some(("f:", name)) => format!(".{name}"),
        Some(("k:", key)) => {
            let key: Map<String, Value> = serde_json::from_str(key).unwrap_or_default();
            let parts = key.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
            format!("[{}]", parts.join(","))
        }
        Some(("v:", value)) => format!("[={value}]"),
        Some(("i:", index)) => format!("[{index}]"),
        _ => element.to_owned(),
    }
}
