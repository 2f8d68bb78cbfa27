//! Merging an applied object into the live one: what the applied object sets wins, lists merge by their keys.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{compare::is_granular, element};
use crate::schema::{Kind, Node};

/// Merges `applied` into `live`. Items of merged lists keep the applied order where both have them.
pub fn merge(live: Value, applied: &Value, node: &Node) -> Value {
    merge_sides(Some(live), Some(applied), node).unwrap_or(Value::Null)
}

fn merge_sides(live: Option<Value>, applied: Option<&Value>, node: &Node) -> Option<Value> {
    if !is_granular(node, live.as_ref(), applied) || applied.is_some_and(Value::is_null) {
        return applied.cloned().or(live);
    }
    match &node.kind {
        Kind::List(item) => Some(Value::Array(merge_lists(list(live.as_ref()), list(applied), node, item))),
        _ => Some(Value::Object(merge_maps(live, applied, node))),
    }
}

fn list(side: Option<&Value>) -> &[Value] {
    side.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn merge_maps(live: Option<Value>, applied: Option<&Value>, node: &Node) -> Map<String, Value> {
    let mut merged = match live {
        Some(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    for (name, value) in applied.and_then(Value::as_object).into_iter().flatten() {
        let child = element::child_node(node, &element::field(name));
        let value = match child {
            Some(child) => merge_sides(merged.remove(name), Some(value), child),
            None => Some(value.clone()),
        };
        if let Some(value) = value {
            merged.insert(name.clone(), value);
        }
    }
    merged
}

/// Items that both sides have come in the applied order; items that only one side has stay near their neighbours.
fn merge_lists(live: &[Value], applied: &[Value], node: &Node, item: &Node) -> Vec<Value> {
    let live_keys = live.iter().map(|value| element::item(node, value)).collect::<Vec<_>>();
    let applied_keys = applied.iter().map(|value| element::item(node, value)).collect::<Vec<_>>();
    let live_at = live_keys.iter().enumerate().map(|(at, key)| (&**key, at)).collect::<BTreeMap<_, _>>();
    let applied_at = applied_keys.iter().enumerate().map(|(at, key)| (&**key, at)).collect::<BTreeMap<_, _>>();
    let both = |key: &str| {
        let old = live_at.get(key).map(|at| live[*at].clone());
        merge_sides(old, applied_at.get(key).map(|at| &applied[*at]), item)
    };
    let mut shared = applied_keys.iter().map(|key| &**key).filter(|key| live_at.contains_key(key)).peekable();
    let mut merged = Vec::with_capacity(live.len().max(applied.len()));
    let (mut left, mut right) = (0, 0);
    while left < live.len() || right < applied.len() {
        if left < live.len() && right < applied.len() {
            let key = &*live_keys[left];
            if *key == *applied_keys[right] {
                merged.extend(both(key));
                left += 1;
                right += 1;
                shared.next();
                continue;
            }
            if applied_at.contains_key(key) && shared.peek().is_some_and(|next| *next != key) {
                left += 1;
                continue;
            }
        }
        if left < live.len() {
            let key = &*live_keys[left];
            match applied_at.get(key) {
                None => {
                    merged.push(live[left].clone());
                    left += 1;
                    continue;
                }
                Some(at) if *at < right => left += 1,
                Some(_) => {}
            }
        }
        if right < applied.len() {
            let key = &*applied_keys[right];
            merged.extend(both(key));
            right += 1;
            shared.next_if(|next| *next == key);
        }
    }
    merged
}
