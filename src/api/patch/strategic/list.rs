//! Merging and ordering lists of strategic merge patches.

use serde_json::Value;

use super::{PATCH, StrategicError, merge_map, plain};
use crate::schema::Node;

/// Merges two lists by the merge key of `node`, or as sets of scalars.
pub fn merge(original: Vec<Value>, patch: Vec<Value>, node: Option<&Node>, name: &str) -> Result<Vec<Value>, StrategicError> {
    if original.iter().chain(&patch).any(Value::is_array) {
        return Err(StrategicError::ListOfLists);
    }
    let server_order = original.clone();
    if !original.iter().chain(&patch).any(Value::is_object) {
        let mut merged = original;
        for item in &patch {
            if !merged.contains(item) {
                merged.push(item.clone());
            }
        }
        return Ok(arrange(merged, &patch, &server_order, None));
    }
    let key = node.and_then(|node| node.merge_key.as_deref()).ok_or_else(|| StrategicError::KeylessList(name.to_owned()))?;
    let (mut merged, items) = directives(original, patch, key)?;
    let element = node.and_then(Node::element);
    for item in &items {
        let value = key_of(item, key)?;
        let Value::Object(new) = item.clone() else { return Err(StrategicError::NoMap(name.to_owned())) };
        match merged.iter_mut().find(|old| old.get(key) == Some(value)) {
            Some(slot) => {
                if let Value::Object(old) = slot.take() {
                    *slot = Value::Object(merge_map(old, new, element)?);
                }
            }
            None => merged.extend(plain(Value::Object(new))),
        }
    }
    Ok(arrange(merged, &items, &server_order, Some(key)))
}

/// Carries out `$patch: delete` and `$patch: replace` items; returns what is left of both lists.
fn directives(mut original: Vec<Value>, patch: Vec<Value>, key: &str) -> Result<(Vec<Value>, Vec<Value>), StrategicError> {
    let mut items = Vec::new();
    let mut replace = false;
    for item in patch {
        match item.get(PATCH).map(|directive| directive.as_str().unwrap_or_default()) {
            None => items.push(item),
            Some("delete") => {
                let value = key_of(&item, key)?;
                original.retain(|old| old.get(key) != Some(value));
            }
            Some("replace") => replace = true,
            Some("merge") => return Err(StrategicError::MergeDirective),
            Some(other) => return Err(StrategicError::UnknownDirective(other.to_owned(), item.to_string())),
        }
    }
    Ok(if replace { (items, Vec::new()) } else { (original, items) })
}

fn key_of<'a>(item: &'a Value, key: &str) -> Result<&'a Value, StrategicError> {
    item.get(key).ok_or_else(|| StrategicError::NoMergeKey(item.to_string(), key.to_owned()))
}

/// Where an item stands in `order`, by key or as a whole.
fn position(order: &[Value], item: &Value, key: Option<&str>) -> Option<usize> {
    order.iter().position(|other| match key {
        Some(key) => other.get(key).is_some() && other.get(key) == item.get(key),
        None => other == item,
    })
}

/// Items that `order` names take its order; the others keep the server's, and the server's order decides how both mesh.
pub fn arrange(items: Vec<Value>, order: &[Value], server_order: &[Value], key: Option<&str>) -> Vec<Value> {
    let (mut named, mut others): (Vec<_>, Vec<_>) = items.into_iter().partition(|item| position(order, item, key).is_some());
    named.sort_by_key(|item| position(order, item, key));
    others.sort_by_key(|item| position(server_order, item, key));
    let mut arranged = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    while let (Some(left), Some(right)) = (others.peek(), named.peek()) {
        let before = match (position(server_order, left, key), position(server_order, right, key)) {
            (Some(left), Some(right)) => left < right,
            _ => false,
        };
        arranged.extend(if before { others.next() } else { named.next() });
    }
    arranged.extend(others);
    arranged.extend(named);
    arranged
}

/// The items of a patch must come in the order that `$setElementOrder` states.
pub fn check_order(patch: &[Value], order: &[Value], key: Option<&str>) -> Result<(), StrategicError> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut rest = order.iter();
    for item in patch.iter().filter(|item| item.get(PATCH).is_none()) {
        if let Some(key) = key {
            key_of(item, key)?;
        }
        if !rest.any(|other| position(std::slice::from_ref(other), item, key).is_some()) {
            return Err(StrategicError::OrderMismatch(Value::from(patch.to_vec()).to_string(), Value::from(order.to_vec()).to_string()));
        }
    }
    Ok(())
}
