//! What a schema says of values, for expressions (`k8s.io/apiserver/pkg/cel/common/schemas.go`).

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use crate::{
    expressions::{Declaration, Field, Identity, ObjectType, Type, escape},
    resources::tree::{at, flag, items, text},
};

/// The largest request that upstream takes, in bytes; sizes without a bound in the schema are bounded by it.
const LARGEST: u64 = 3 << 20;
const META: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// What is declared by a schema; `None` where expressions see nothing. Of the root of an object, and of embedded ones, what every object has
/// is known.
pub fn declaration(schema: &Value, is_resource: bool, name: &str) -> Option<Declaration> {
    let mut declared = declared(schema, is_resource, name)?;
    declared.nullable = flag(schema, &["nullable"]);
    Some(declared)
}

fn declared(schema: &Value, is_resource: bool, name: &str) -> Option<Declaration> {
    let length = at(schema, &["maxLength"]).as_i64().map(|most| u64::try_from(most).unwrap_or(0));
    if flag(schema, &["x-kubernetes-int-or-string"]) {
        return Some(Declaration::int_or_string(length.map_or(LARGEST - 2, |length| length.saturating_mul(4))));
    }
    Some(match text(schema, &["type"]) {
        "array" => {
            let inner = nested(at(schema, &["items"]), &format!("{name}.@idx"))?;
            let most = count(schema, "maxItems").unwrap_or((LARGEST - 2) / (inner.least + 1));
            Declaration::list(inner, identity(schema), most)
        }
        "object" => return object(schema, is_resource, name),
        "string" => string(schema, length),
        "boolean" => Declaration::plain(Type::Bool, 0, 4),
        "number" => Declaration::plain(Type::Double, 0, 1),
        "integer" => Declaration::plain(Type::Int, 0, 1),
        _ => return None,
    })
}

fn nested(schema: &Value, name: &str) -> Option<Declaration> {
    if !schema.is_object() {
        return None;
    }
    declaration(schema, flag(schema, &["x-kubernetes-embedded-resource"]), name)
}

fn count(schema: &Value, field: &str) -> Option<u64> {
    at(schema, &[field]).as_i64().map(|count| u64::try_from(count).unwrap_or(0))
}

fn identity(schema: &Value) -> Identity {
    match text(schema, &["x-kubernetes-list-type"]) {
        "set" => Identity::Value,
        "map" => Identity::Keys(items(schema, &["x-kubernetes-list-map-keys"]).iter().filter_map(Value::as_str).map(Box::from).collect()),
        _ => Identity::Place,
    }
}

fn object(schema: &Value, is_resource: bool, name: &str) -> Option<Declaration> {
    let values = at(schema, &["additionalProperties"]);
    if values.is_object() {
        let inner = nested(values, &format!("{name}.@elem"))?;
        let most = count(schema, "maxProperties").unwrap_or((LARGEST - 2) / (inner.least + 6));
        return Some(Declaration::map(inner, most));
    }
    let required: Vec<&str> = items(schema, &["required"]).iter().filter_map(Value::as_str).collect();
    let (mut fields, mut least) = (BTreeMap::new(), 2);
    for (property, inner) in at(schema, &["properties"]).as_object().into_iter().flatten() {
        let is_meta = is_resource && META.contains(&property.as_str());
        let field =
            if is_meta { of_every_object(property, name) } else { nested(inner, &format!("{name}.{}", escape(property).unwrap_or_default())) };
        let Some(field) = field else { continue };
        if required.contains(&property.as_str()) && (is_meta || at(inner, &["default"]).is_null()) {
            least += property.len() as u64 + field.least + 4;
        }
        if let Some(escaped) = escape(property) {
            fields.insert(Box::from(escaped), Field { name: property.as_str().into(), declaration: field });
        }
    }
    for property in META.into_iter().filter(|_| is_resource) {
        if let (false, Some(declaration)) = (fields.contains_key(property), of_every_object(property, name)) {
            fields.insert(property.into(), Field { name: property.into(), declaration });
        }
    }
    Some(Declaration::object(Arc::new(ObjectType { name: name.into(), fields }), least))
}

/// Of metadata the names are known, and nothing else.
fn of_every_object(field: &str, name: &str) -> Option<Declaration> {
    let plain = || Declaration::plain(Type::String, LARGEST - 2, 2);
    if field != "metadata" {
        return Some(plain());
    }
    let fields = ["generateName", "name"].map(|field| (Box::from(field), Field { name: field.into(), declaration: plain() }));
    Some(Declaration::object(Arc::new(ObjectType { name: format!("{name}.metadata").into(), fields: fields.into() }), 2))
}

fn string(schema: &Value, length: Option<u64>) -> Declaration {
    let longest = || items(schema, &["enum"]).iter().filter_map(Value::as_str).map(|choice| choice.len() as u64).max();
    match text(schema, &["format"]) {
        "byte" => Declaration::plain(Type::Bytes, length.unwrap_or(LARGEST - 2), 2),
        "duration" => Declaration::plain(Type::Duration, 32, 3),
        "date" => Declaration::plain(Type::Timestamp, 12, 12),
        "date-time" => Declaration::plain(Type::Timestamp, 32, 21),
        _ => {
            let most = length.map(|length| length.saturating_mul(4)).or_else(longest).unwrap_or(LARGEST - 2);
            Declaration::plain(Type::String, most, 2)
        }
    }
}
