//! Strategic merge patch: lists merge by the keys that the schema names, directives (`$patch`, `$retainKeys`,
//! `$setElementOrder/…`, `$deleteFromPrimitiveList/…`) say the rest.

mod list;

use std::collections::HashSet;

use serde_json::{Map, Value};

use self::list::{Merged, Positions};
use super::rejected;
use crate::{
    schema::{Node, conversion::printed},
    status::{Reason, Status, quoted},
};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ELEMENT_ORDER: &str = "$setElementOrder/";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";

/// Why a strategic merge patch cannot be applied, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StrategicError {
    #[error("invalid patch format of retainKeys")]
    RetainKeys,
    #[error("invalid patch format of setElementOrder list")]
    ElementOrder,
    #[error("lists of lists are not supported")]
    ListOfLists,
    #[error("map: {0} does not contain declared merge key: {1}")]
    NoMergeKey(String, String),
    #[error("unknown patch type: {0} in map: {1}")]
    UnknownDirective(String, String),
    #[error("cannot merge lists without merge key for {0}")]
    KeylessList(String),
    #[error("merging lists cannot yet be specified in the patch")]
    MergeDirective,
    #[error("expected a map among the items of {0}")]
    NoMap(String),
    #[error("The order in patch list:\n{0}\n doesn't match $setElementOrder list:\n{1}\n")]
    OrderMismatch(String, String),
}

impl From<StrategicError> for Status {
    fn from(error: StrategicError) -> Self {
        match error {
            StrategicError::RetainKeys | StrategicError::ElementOrder => Status::bad_request(error.to_string()),
            StrategicError::ListOfLists => rejected(),
            _ => Status::new(500, Reason::Unknown, quoted(&error.to_string())),
        }
    }
}

/// Applies `patch` to `original`; `node` is the schema of both.
pub fn apply(original: Value, patch: Value, node: &Node) -> Result<Value, StrategicError> {
    let (Value::Object(original), Value::Object(patch)) = (original, patch) else { return Err(StrategicError::NoMap("the object".into())) };
    merge_map(original, patch, Some(node)).map(Value::Object)
}

pub(super) fn merge_map(
    mut original: Map<String, Value>,
    mut patch: Map<String, Value>,
    node: Option<&Node>,
) -> Result<Map<String, Value>, StrategicError> {
    if let Some(directive) = patch.remove(PATCH) {
        return match directive.as_str() {
            Some("replace") => Ok(patch),
            Some("delete") => Ok(Map::new()),
            _ => {
                let shown = printed(&directive);
                patch.insert(PATCH.to_owned(), directive);
                Err(StrategicError::UnknownDirective(shown, printed(&Value::Object(patch))))
            }
        };
    }
    retain_keys(&mut original, &mut patch)?;
    ordered_lists(&mut original, &mut patch, node)?;
    for (name, value) in patch {
        match name.strip_prefix(DELETE_PRIMITIVES) {
            Some(name) => {
                if let (Some(Value::Array(items)), Value::Array(unwanted)) = (original.get_mut(name), &value) {
                    let unwanted: HashSet<&Value> = unwanted.iter().collect();
                    items.retain(|item| !unwanted.contains(item));
                }
            }
            None => merge_field(&mut original, name, value, node)?,
        }
    }
    Ok(original)
}

fn merge_field(original: &mut Map<String, Value>, name: String, value: Value, node: Option<&Node>) -> Result<(), StrategicError> {
    let child = node.and_then(|node| node.child(&name));
    let merged = match (original.remove(&name), value) {
        (_, Value::Null) => return Ok(()),
        (Some(Value::Object(old)), Value::Object(new)) if !child.is_some_and(|child| child.patch.replace) => {
            Some(Value::Object(merge_map(old, new, child)?))
        }
        (Some(Value::Array(old)), Value::Array(new)) if child.is_some_and(|child| child.patch.merge) => {
            Some(Value::Array(list::merge(old, new, child, &name)?.items))
        }
        (Some(Value::Object(_)), new @ Value::Object(_)) | (Some(Value::Array(_)), new @ Value::Array(_)) => Some(new),
        (_, new) => plain(new),
    };
    if let Some(merged) = merged {
        original.insert(name, merged);
    }
    Ok(())
}

/// A patch value where nothing stood: nulls and directives are gone; `None` if the value is only a directive.
pub(super) fn plain(value: Value) -> Option<Value> {
    match value {
        Value::Object(fields) if fields.contains_key(PATCH) => None,
        Value::Object(fields) => Some(Value::Object(
            fields
                .into_iter()
                .filter(|(name, value)| !value.is_null() && !is_directive(name))
                .filter_map(|(name, value)| plain(value).map(|value| (name, value)))
                .collect(),
        )),
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(plain).collect())),
        value => Some(value),
    }
}

/// The patch as it is when it was applied: lists of what to keep and in which order are taken out on the way.
pub(super) fn without_orders(patch: Value) -> Value {
    match patch {
        Value::Object(fields) => {
            let stays = |name: &str| name != RETAIN_KEYS && !name.starts_with(ELEMENT_ORDER);
            Value::Object(fields.into_iter().filter(|(name, _)| stays(name)).map(|(name, value)| (name, without_orders(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_orders).collect()),
        value => value,
    }
}

fn is_directive(name: &str) -> bool {
    name == RETAIN_KEYS || name.starts_with(ELEMENT_ORDER) || name.starts_with(DELETE_PRIMITIVES)
}

/// `$retainKeys`: fields of the original that it does not name go.
fn retain_keys(original: &mut Map<String, Value>, patch: &mut Map<String, Value>) -> Result<(), StrategicError> {
    let Some(listed) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let listed = listed.as_array().ok_or(StrategicError::RetainKeys)?;
    let listed: HashSet<&str> = listed.iter().filter_map(Value::as_str).collect();
    let is_listed = |name: &str| listed.contains(name);
    if patch.iter().any(|(name, value)| !value.is_null() && !is_directive(name) && !is_listed(name)) {
        return Err(StrategicError::RetainKeys);
    }
    original.retain(|name, _| is_listed(name));
    Ok(())
}

/// `$setElementOrder/NAME`: merges NAME and brings its items into the order that the client sees.
fn ordered_lists(original: &mut Map<String, Value>, patch: &mut Map<String, Value>, node: Option<&Node>) -> Result<(), StrategicError> {
    let directives = patch.keys().filter(|name| name.starts_with(ELEMENT_ORDER)).cloned().collect::<Vec<_>>();
    for directive in directives {
        let Some(Value::Array(order)) = patch.remove(&directive) else { return Err(StrategicError::ElementOrder) };
        let name = &directive[ELEMENT_ORDER.len()..];
        let child = node.and_then(|node| node.child(name));
        let key = child.and_then(|child| child.merge_key.as_deref());
        let (old, new) = match (take_list(original, name), take_list(patch, name)) {
            (None, None) => continue,
            (old, new) => (old, new),
        };
        list::check_order(new.as_deref().unwrap_or_default(), &order, key)?;
        let Merged { items, server_order } = match (old, new) {
            (Some(old), Some(new)) if child.is_some_and(|child| child.patch.merge) => list::merge(old, new, child, name)?,
            (old, new) => {
                let server_order = Positions::of(old.as_deref().unwrap_or_default(), key);
                let items = new.map(|new| new.into_iter().filter_map(plain).collect());
                Merged { items: items.or(old).unwrap_or_default(), server_order }
            }
        };
        original.insert(name.to_owned(), Value::Array(list::arrange(items, &order, &server_order, key)));
    }
    Ok(())
}

/// Takes a list out of a map; other values stay.
fn take_list(map: &mut Map<String, Value>, name: &str) -> Option<Vec<Value>> {
    match map.get(name) {
        Some(Value::Array(_)) => match map.remove(name) {
            Some(Value::Array(items)) => Some(items),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod order_tests;
