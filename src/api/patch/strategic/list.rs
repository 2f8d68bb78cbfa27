//! Merging and ordering lists of strategic merge patches. Items are found by an index: lists of users may be long.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::{PATCH, StrategicError, merge_map, plain};
use crate::schema::{Node, conversion::printed};

/// Where the items of a list stand: by their merge key, or by themselves where they have none. The first of equals counts.
#[derive(Clone, Debug, Default)]
pub struct Positions(HashMap<Value, usize>);

impl Positions {
    pub fn of(items: &[Value], key: Option<&str>) -> Self {
        let mut positions = HashMap::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            if let Some(identity) = identity(item, key)
                && !positions.contains_key(identity)
            {
                positions.insert(identity.clone(), at);
            }
        }
        Positions(positions)
    }

    fn get(&self, item: &Value, key: Option<&str>) -> Option<usize> {
        self.0.get(identity(item, key)?).copied()
    }

    /// Items behind the first so many.
    fn append(&mut self, behind: usize, identities: Vec<Value>) {
        for (at, identity) in identities.into_iter().enumerate() {
            self.0.entry(identity).or_insert(behind + at);
        }
    }
}

/// What tells an item from others.
fn identity<'a>(item: &'a Value, key: Option<&str>) -> Option<&'a Value> {
    match key {
        Some(key) => item.get(key),
        None => Some(item),
    }
}

/// A merged list, and where its items count as having stood before: what `$setElementOrder` does not name goes by that.
#[derive(Debug)]
pub struct Merged {
    pub items: Vec<Value>,
    pub server_order: Positions,
}

/// Merges two lists by the merge key of `node`, or as sets of scalars.
pub fn merge(original: Vec<Value>, patch: Vec<Value>, node: Option<&Node>, name: &str) -> Result<Merged, StrategicError> {
    if original.iter().chain(&patch).any(Value::is_array) {
        return Err(StrategicError::ListOfLists);
    }
    if !original.iter().chain(&patch).any(Value::is_object) {
        return Ok(merge_scalars(original, &patch));
    }
    let key = node.and_then(|node| node.merge_key.as_deref()).ok_or_else(|| StrategicError::KeylessList(name.to_owned()))?;
    let Directed { original: mut merged, items, deleted } = directives(original, patch, key)?;
    let kept = merged.len();
    let mut server_order = Positions::of(&merged, Some(key));
    let Positions(mut slots) = server_order.clone();
    let element = node.and_then(Node::element);
    for item in &items {
        let value = key_of(item, key)?;
        let Value::Object(new) = item.clone() else { return Err(StrategicError::NoMap(name.to_owned())) };
        match slots.get(value) {
            Some(at) => {
                if let Value::Object(old) = merged[*at].take() {
                    merged[*at] = Value::Object(merge_map(old, new, element)?);
                }
            }
            None => {
                if let Some(added) = plain(Value::Object(new)) {
                    slots.insert(value.clone(), merged.len());
                    merged.push(added);
                }
            }
        }
    }
    // Upstream deletes and adds in place: new items stand where the list used to go on.
    let instead: Vec<Value> = merged[kept..].iter().take(deleted).filter_map(|item| identity(item, Some(key))).cloned().collect();
    let items = arrange(merged, &items, &server_order, Some(key));
    server_order.append(kept, instead);
    Ok(Merged { items, server_order })
}

fn merge_scalars(original: Vec<Value>, patch: &[Value]) -> Merged {
    let server_order = Positions::of(&original, None);
    let mut known = HashSet::with_capacity(original.len() + patch.len());
    let union = original.into_iter().chain(patch.iter().cloned()).filter(|item| known.insert(item.clone())).collect();
    Merged { items: arrange(union, patch, &server_order, None), server_order }
}

/// What the items with directives leave of both lists.
struct Directed {
    original: Vec<Value>,
    /// What is left to merge.
    items: Vec<Value>,
    /// How many items of the original went.
    deleted: usize,
}

/// Carries out `$patch: delete` and `$patch: replace` items. A patch that replaces is the original from then on, in its own order.
fn directives(mut original: Vec<Value>, patch: Vec<Value>, key: &str) -> Result<Directed, StrategicError> {
    let mut items = Vec::new();
    let mut unwanted = HashSet::new();
    let mut replace = false;
    for item in patch {
        match item.get(PATCH).map(|directive| directive.as_str().unwrap_or_default()) {
            None => items.push(item),
            Some("delete") => {
                unwanted.insert(key_of(&item, key)?.clone());
            }
            Some("replace") => replace = true,
            Some("merge") => return Err(StrategicError::MergeDirective),
            Some(other) => return Err(StrategicError::UnknownDirective(other.to_owned(), printed(&item))),
        }
    }
    if replace {
        for item in &items {
            key_of(item, key)?;
        }
        return Ok(Directed { original: items, items: Vec::new(), deleted: 0 });
    }
    let before = original.len();
    if !unwanted.is_empty() {
        original.retain(|old| old.get(key).is_none_or(|value| !unwanted.contains(value)));
    }
    let deleted = before - original.len();
    Ok(Directed { original, items, deleted })
}

fn key_of<'a>(item: &'a Value, key: &str) -> Result<&'a Value, StrategicError> {
    item.get(key).ok_or_else(|| StrategicError::NoMergeKey(printed(item), key.to_owned()))
}

/// An item with its places in the wanted and in the server's order.
struct Placed {
    wanted: Option<usize>,
    server: Option<usize>,
    item: Value,
}

/// Items that `order` names take its order; the others keep the server's, and the server's order decides how both mesh.
pub fn arrange(items: Vec<Value>, order: &[Value], server_order: &Positions, key: Option<&str>) -> Vec<Value> {
    let order = Positions::of(order, key);
    let place = |item: Value| Placed { wanted: order.get(&item, key), server: server_order.get(&item, key), item };
    let (mut named, mut others): (Vec<_>, Vec<_>) = items.into_iter().map(place).partition(|placed| placed.wanted.is_some());
    named.sort_by_key(|placed| placed.wanted);
    others.sort_by_key(|placed| placed.server);
    let mut arranged = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    while let (Some(left), Some(right)) = (others.peek(), named.peek()) {
        let before = matches!((left.server, right.server), (Some(left), Some(right)) if left < right);
        arranged.extend(if before { others.next() } else { named.next() });
    }
    arranged.extend(others);
    arranged.extend(named);
    arranged.into_iter().map(|placed| placed.item).collect()
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
        let wanted = identity(item, key);
        if !rest.any(|other| identity(other, key) == wanted && wanted.is_some()) {
            return Err(StrategicError::OrderMismatch(Value::from(patch.to_vec()).to_string(), Value::from(order.to_vec()).to_string()));
        }
    }
    Ok(())
}
