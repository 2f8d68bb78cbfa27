//! What differs between two versions of an object, as sets of paths.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{element, set::FieldSet};
use crate::schema::{Kind, Node};

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
}

/// Compares two objects of one kind.
pub fn compare(old: &Value, new: &Value, node: &Node) -> Comparison {
    let mut walk = Walk { found: Comparison::default(), path: Vec::new() };
    walk.value(Some(old), Some(new), node);
    walk.found
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

struct Walk {
    found: Comparison,
    path: Vec<Box<str>>,
}

impl Walk {
    fn value(&mut self, old: Option<&Value>, new: Option<&Value>, node: &Node) {
        if old == new {
            return;
        }
        let granular = is_granular(node, old, new);
        if granular {
            match &node.kind {
                Kind::List(item) => self.items(old, new, node, item),
                _ => self.fields(old, new, node),
            }
        }
        match (old, new) {
            (None, _) => self.found.added.insert(&self.path),
            (_, None) => self.found.removed.insert(&self.path),
            _ if !granular => self.found.modified.insert(&self.path),
            _ => {}
        }
    }

    fn descend(&mut self, element: Box<str>, old: Option<&Value>, new: Option<&Value>, node: Option<&Node>) {
        let Some(node) = node else { return };
        self.path.push(element);
        self.value(old, new, node);
        self.path.pop();
    }

    fn fields(&mut self, old: Option<&Value>, new: Option<&Value>, node: &Node) {
        let map = |side: Option<&Value>| side.and_then(Value::as_object).cloned().unwrap_or_default();
        let (old, new) = (map(old), map(new));
        for name in old.keys().chain(new.keys().filter(|name| !old.contains_key(*name))) {
            let element = element::field(name);
            let child = element::child_node(node, &element);
            self.descend(element, old.get(name), new.get(name), child);
        }
    }

    fn items(&mut self, old: Option<&Value>, new: Option<&Value>, node: &Node, item: &Node) {
        let (old, new) = (index(old, node), index(new, node));
        for (element, old) in &old {
            let new = new.get(element).map_or(&[][..], Vec::as_slice);
            self.item(element, old, new, item);
        }
        for (element, new) in &new {
            if !old.contains_key(element) {
                self.item(element, &[], new, item);
            }
        }
    }

    /// Items under one key; more than one means duplicates, which are owned as a whole.
    fn item(&mut self, element: &str, old: &[&Value], new: &[&Value], item: &Node) {
        if old.len() <= 1 && new.len() <= 1 {
            return self.descend(element.into(), old.first().copied(), new.first().copied(), Some(item));
        }
        if old == new {
            return;
        }
        self.path.push(element.into());
        match (old.len(), new.len()) {
            (2.., 2..) => self.found.modified.insert(&self.path),
            (2.., _) => self.found.removed.insert(&self.path),
            _ => self.found.added.insert(&self.path),
        }
        self.path.pop();
    }
}

/// List items by element.
fn index<'a>(list: Option<&'a Value>, node: &Node) -> BTreeMap<Box<str>, Vec<&'a Value>> {
    let mut index = BTreeMap::<_, Vec<_>>::new();
    for value in list.and_then(Value::as_array).map_or(&[][..], Vec::as_slice) {
        index.entry(element::item(node, value)).or_default().push(value);
    }
    index
}
