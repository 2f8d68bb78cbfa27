//! What differs between two versions of an object, as sets of paths.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{element, set::FieldSet};
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
}

/// Compares two objects of one kind; managedFields are left out.
pub fn compare(old: &Object, new: &Object, schema: &Schema) -> Comparison {
    let mut walk = Walk { found: Comparison::default(), path: Vec::new() };
    walk.fields(Some(old.root()), Some(new.root()), &schema.root);
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
                _ => self.fields(old.and_then(Value::as_object), new.and_then(Value::as_object), node),
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

    fn fields(&mut self, old: Option<&Map<String, Value>>, new: Option<&Map<String, Value>>, node: &Node) {
        for (name, left) in old.into_iter().flatten() {
            let right = new.and_then(|fields| fields.get(name));
            self.field(name, Some(left), right, node);
        }
        for (name, right) in new.into_iter().flatten() {
            if old.is_none_or(|fields| !fields.contains_key(name)) {
                self.field(name, None, Some(right), node);
            }
        }
    }

    fn field(&mut self, name: &str, old: Option<&Value>, new: Option<&Value>, node: &Node) {
        let is_managed_fields = name == "managedFields" && matches!(self.path.as_slice(), [only] if **only == *"f:metadata");
        if old == new || is_managed_fields {
            return;
        }
        let element = element::field(name);
        let child = element::child_node(node, &element);
        self.descend(element, old, new, child);
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
