//! What differs between two versions of an object, as sets of paths.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    element,
    set::{Branch, FieldSet},
};
use crate::{
    meta::Object,
    schema::{Kind, Node, Schema},
};

/// The differences between an old and a new object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    pub added: FieldSet,
    pub modified: FieldSet,
    pub removed: FieldSet,
}

impl Comparison {
    pub fn is_same(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    /// What the new object sets that the old one did not set, or set otherwise.
    pub(super) fn changed(&self) -> FieldSet {
        self.added.clone().union(&self.modified)
    }
}

/// Compares two objects of one kind; managedFields are left out.
pub fn compare(old: &Object, new: &Object, schema: &Schema) -> Comparison {
    let found = fields(Some(old.root()), Some(new.root()), &schema.root, Place::Root);
    Comparison { added: found.added.below, modified: found.modified.below, removed: found.removed.below }
}

/// Whether a value is a container that is looked into: a granular map, struct or list that is not empty on both sides.
pub(super) fn is_granular(node: &Node, old: Option<&Value>, new: Option<&Value>) -> bool {
    let sides = || [old, new].into_iter().flatten();
    if node.is_atomic() {
        return false;
    }
    match &node.kind {
        Kind::List(_) => sides().any(|value| value.as_array().is_some_and(|items| !items.is_empty())),
        Kind::Struct(_) | Kind::Map(_) | Kind::Any => sides().any(|value| value.as_object().is_some_and(|fields| !fields.is_empty())),
        _ => false,
    }
}

/// What differs at one place and below it. Made from the bottom up, as sets of fields are.
#[derive(Default)]
struct Found {
    added: Branch,
    modified: Branch,
    removed: Branch,
}

impl Found {
    /// Takes in what was found below an element.
    fn take(&mut self, element: &str, below: Found) {
        self.added.below.add(element, below.added);
        self.modified.below.add(element, below.modified);
        self.removed.below.add(element, below.removed);
    }
}

/// Where fields stand, as far as it matters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    Metadata,
    Elsewhere,
}

fn value(old: Option<&Value>, new: Option<&Value>, node: &Node, place: Place) -> Found {
    if old == new {
        return Found::default();
    }
    let granular = is_granular(node, old, new);
    let mut found = match &node.kind {
        _ if !granular => Found::default(),
        Kind::List(item) => items(old, new, node, item),
        _ => fields(old.and_then(Value::as_object), new.and_then(Value::as_object), node, place),
    };
    match (old, new) {
        (None, _) => found.added.member = true,
        (_, None) => found.removed.member = true,
        _ if !granular => found.modified.member = true,
        _ => {}
    }
    found
}

fn fields(old: Option<&Map<String, Value>>, new: Option<&Map<String, Value>>, node: &Node, place: Place) -> Found {
    let mut found = Found::default();
    let mut field = |name: &str, old: Option<&Value>, new: Option<&Value>| {
        if old == new || (place == Place::Metadata && name == "managedFields") {
            return;
        }
        let element = element::field(name);
        let below = if place == Place::Root && name == "metadata" { Place::Metadata } else { Place::Elsewhere };
        if let Some(child) = element::child_node(node, &element) {
            found.take(&element, value(old, new, child, below));
        }
    };
    for (name, left) in old.into_iter().flatten() {
        field(name, Some(left), new.and_then(|fields| fields.get(name)));
    }
    for (name, right) in new.into_iter().flatten() {
        let is_new = old.is_none_or(|fields| !fields.contains_key(name) && !is_unset_time(node, name, right));
        if is_new {
            field(name, None, Some(right));
        }
    }
    found
}

/// A time that is not set, which Go writes as null: beside the other fields of an old object it is nothing new.
fn is_unset_time(node: &Node, name: &str, value: &Value) -> bool {
    let is_time = |child: &Node| matches!(child.kind, Kind::Time | Kind::MicroTime);
    value.is_null() && element::child_node(node, &element::field(name)).is_some_and(is_time)
}

fn items(old: Option<&Value>, new: Option<&Value>, node: &Node, item: &Node) -> Found {
    let (old, new) = (index(old, node), index(new, node));
    let mut found = Found::default();
    for (element, old) in &old {
        let new = new.get(element).map_or(&[][..], Vec::as_slice);
        found.take(element, items_under(old, new, item));
    }
    for (element, new) in new.iter().filter(|(element, _)| !old.contains_key(*element)) {
        found.take(element, items_under(&[], new, item));
    }
    found
}

/// Items under one key; more than one means duplicates, which are owned as a whole.
fn items_under(old: &[&Value], new: &[&Value], item: &Node) -> Found {
    if old.len() <= 1 && new.len() <= 1 {
        return value(old.first().copied(), new.first().copied(), item, Place::Elsewhere);
    }
    let mut found = Found::default();
    if old == new {
        return found;
    }
    match (old.len(), new.len()) {
        (2.., 2..) => found.modified.member = true,
        (2.., _) => found.removed.member = true,
        _ => found.added.member = true,
    }
    found
}

/// List items by element.
fn index<'a>(list: Option<&'a Value>, node: &Node) -> BTreeMap<Box<str>, Vec<&'a Value>> {
    let mut index = BTreeMap::<_, Vec<_>>::new();
    for value in list.and_then(Value::as_array).map_or(&[][..], Vec::as_slice) {
        index.entry(element::item(node, value)).or_default().push(value);
    }
    index
}
