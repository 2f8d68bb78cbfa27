//! The object tree: any API object, built-in or custom, as the schema-driven code sees it.

use serde_json::{Map, Value};

use super::{GroupVersionKind, ObjectKey};

/// An API object as a JSON tree. The root is always a JSON object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object {
    root: Map<String, Value>,
}

impl Object {
    pub fn new(root: Map<String, Value>) -> Self {
        Object { root }
    }

    /// Wraps a JSON value; `None` unless it is a JSON object.
    pub fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Object(root) => Some(Object { root }),
            _ => None,
        }
    }

    pub fn root(&self) -> &Map<String, Value> {
        &self.root
    }

    pub fn root_mut(&mut self) -> &mut Map<String, Value> {
        &mut self.root
    }

    pub fn into_value(self) -> Value {
        Value::Object(self.root)
    }

    /// The map at a path; the whole object at the empty one.
    pub fn at(&self, path: &[&str]) -> Option<&Map<String, Value>> {
        if path.is_empty() { Some(&self.root) } else { self.get(path)?.as_object() }
    }

    /// The value at a path of field names.
    pub fn get(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.root.get(*first)?, |value, field| value.get(*field))
    }

    /// The string at a path, or "".
    pub fn str(&self, path: &[&str]) -> &str {
        self.get(path).and_then(Value::as_str).unwrap_or("")
    }

    /// The integer at a path.
    pub fn int(&self, path: &[&str]) -> Option<i64> {
        self.get(path).and_then(Value::as_i64)
    }

    /// The array at a path, or an empty one.
    pub fn list(&self, path: &[&str]) -> &[Value] {
        self.get(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// The array at a path, to be changed in place.
    pub fn list_mut(&mut self, path: &[&str]) -> Option<&mut Vec<Value>> {
        let (last, parents) = path.split_last()?;
        let parent = parents.iter().try_fold(&mut self.root, |map, field| map.get_mut(*field)?.as_object_mut())?;
        parent.get_mut(*last)?.as_array_mut()
    }

    /// The map at a path, created (with its parents) where missing or not a map.
    pub fn map_mut(&mut self, path: &[&str]) -> &mut Map<String, Value> {
        path.iter().fold(&mut self.root, |map, field| {
            let slot = map.entry(*field).or_insert(Value::Null);
            if !slot.is_object() {
                *slot = Value::Object(Map::new());
            }
            slot.as_object_mut().expect("made an object above")
        })
    }

    /// Sets the value at a path, creating parents. `path` must not be empty.
    pub fn set(&mut self, path: &[&str], value: impl Into<Value>) {
        let (last, parents) = path.split_last().expect("a path names at least one field");
        self.map_mut(parents).insert((*last).to_owned(), value.into());
    }

    /// Removes and returns the value at a path.
    pub fn remove(&mut self, path: &[&str]) -> Option<Value> {
        let (last, parents) = path.split_last()?;
        let parent = parents.iter().try_fold(&mut self.root, |map, field| map.get_mut(*field)?.as_object_mut())?;
        parent.remove(*last)
    }

    /// Sets the value at a path only where nothing (or null) stands there.
    pub fn set_default(&mut self, path: &[&str], value: impl Into<Value>) {
        if self.get(path).is_none_or(Value::is_null) {
            self.set(path, value);
        }
    }

    pub fn kind(&self) -> &str {
        self.str(&["kind"])
    }

    pub fn api_version(&self) -> &str {
        self.str(&["apiVersion"])
    }

    pub fn set_gvk(&mut self, gvk: &GroupVersionKind) {
        self.root.insert("apiVersion".into(), gvk.api_version().into());
        self.root.insert("kind".into(), gvk.kind.as_ref().into());
    }

    pub fn name(&self) -> &str {
        self.str(&["metadata", "name"])
    }

    pub fn namespace(&self) -> &str {
        self.str(&["metadata", "namespace"])
    }

    pub fn uid(&self) -> &str {
        self.str(&["metadata", "uid"])
    }

    pub fn resource_version(&self) -> &str {
        self.str(&["metadata", "resourceVersion"])
    }

    pub fn key(&self) -> ObjectKey {
        ObjectKey::new(self.namespace(), self.name())
    }

    pub fn label(&self, name: &str) -> Option<&str> {
        self.get(&["metadata", "labels", name])?.as_str()
    }

    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.get(&["metadata", "annotations", name])?.as_str()
    }

    /// `metadata.deletionTimestamp` is set.
    pub fn is_terminating(&self) -> bool {
        self.get(&["metadata", "deletionTimestamp"]).is_some_and(|time| !time.is_null())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_a_path_creates_its_parents_and_removing_leaves_siblings() {
        let mut object = Object::default();
        object.set(&["metadata", "labels", "app"], "web");
        object.set(&["metadata", "name"], "x");
        assert_eq!(object.label("app"), Some("web"));
        assert_eq!(object.remove(&["metadata", "labels", "app"]), Some("web".into()));
        assert_eq!(object.name(), "x");
        object.set_default(&["metadata", "name"], "y");
        assert_eq!(object.name(), "x");
    }
}
