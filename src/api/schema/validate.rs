//! Structural checks: required fields must stand where their parents do.

use serde_json::{Map, Value};

use super::node::{Field, Kind, Node, Schema, Struct};
use crate::{meta::Object, status::FieldError};

/// Fields that OpenAPI calls required and whose absence upstream takes, or tells of by a rule of the kind, at another path. By struct.
const UNASKED: [(&str, &[&str]); 22] = [
    ("CustomResourceColumnDefinition", &["jsonPath", "name", "type"]),
    ("CustomResourceDefinitionVersion", &["name"]),
    ("CustomResourceSubresourceScale", &["specReplicasPath", "statusReplicasPath"]),
    ("DaemonSetSpec", &["selector"]),
    ("DownwardAPIVolumeFile", &["path"]),
    ("ForZone", &["name"]),
    ("GCEPersistentDiskVolumeSource", &["pdName"]),
    ("GroupResource", &["group", "resource"]),
    ("HTTPHeader", &["value"]),
    ("LabelSelectorRequirement", &["key", "operator"]),
    ("ObjectFieldSelector", &["fieldPath"]),
    ("OwnerReference", &["apiVersion", "kind", "name", "uid"]),
    ("ResourceFieldSelector", &["resource"]),
    ("ScaleIOPersistentVolumeSource", &["secretRef"]),
    ("ScaleIOVolumeSource", &["secretRef"]),
    ("ScopedResourceSelectorRequirement", &["operator", "scopeName"]),
    ("SelectableField", &["jsonPath"]),
    ("ServiceAccountTokenProjection", &["path"]),
    ("Sysctl", &["value"]),
    ("Taint", &["effect", "key"]),
    ("TokenRequest", &["audience"]),
    ("ValidationRule", &["rule"]),
];

/// Required fields that are missing or empty, in field order. Status is left out: it is written by units, not by people.
/// Lists are left to the rules of their kind: Go writes an empty required list as null, and some kinds take that.
pub fn validate(schema: &Schema, object: &Object) -> Vec<FieldError> {
    let mut search = Search { path: String::new(), errors: Vec::new() };
    search.check(schema.root_struct(), object.root());
    search.errors
}

struct Search {
    path: String,
    errors: Vec<FieldError>,
}

impl Search {
    fn check(&mut self, holder: &Struct, fields: &Map<String, Value>) {
        let is_root = self.path.is_empty();
        for field in holder.fields() {
            if is_root && &*field.name == "status" {
                continue;
            }
            let value = fields.get(&*field.name);
            let mark = self.enter(&[if is_root { "" } else { "." }, &field.name]);
            if is_missing(field, value) && !is_unasked(holder, field) {
                self.errors.push(FieldError::required(self.path.clone(), ""));
            } else if let Some(value) = value {
                self.descend(&field.node, value);
            }
            self.path.truncate(mark);
        }
    }

    fn descend(&mut self, node: &Node, value: &Value) {
        match (&node.kind, value) {
            (Kind::Struct(reference), Value::Object(fields)) => self.check(reference.get(), fields),
            (Kind::List(item), Value::Array(items)) => {
                for (index, value) in items.iter().enumerate() {
                    self.below(&index.to_string(), item, value);
                }
            }
            (Kind::Map(node), Value::Object(entries)) => {
                for (key, value) in entries {
                    self.below(key, node, value);
                }
            }
            _ => {}
        }
    }

    fn below(&mut self, key: &str, node: &Node, value: &Value) {
        let mark = self.enter(&["[", key, "]"]);
        self.descend(node, value);
        self.path.truncate(mark);
    }

    /// Extends the path; returns the length to cut back to.
    fn enter(&mut self, parts: &[&str]) -> usize {
        let mark = self.path.len();
        parts.iter().for_each(|part| self.path.push_str(part));
        mark
    }
}

fn is_unasked(holder: &Struct, field: &Field) -> bool {
    UNASKED.iter().any(|(name, fields)| **name == *holder.name && fields.contains(&&*field.name))
}

fn is_missing(field: &Field, value: Option<&Value>) -> bool {
    // An empty apiGroup means the core group.
    if !field.required || &*field.name == "apiGroup" {
        return false;
    }
    match (&field.node.kind, value) {
        (Kind::String, value) => value.is_none_or(|value| value.is_null() || value == ""),
        (Kind::Struct(_), value) => value.is_none_or(Value::is_null),
        _ => false,
    }
}
