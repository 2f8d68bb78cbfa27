//! The schema of a custom resource, made of the structural schema in its definition.
//!
//! It says what is kept, defaulted, merged and owned. What values must be like is no part of it: see
//! [`crate::resources::custom::rules`]. So a value of a wrong type decodes as it is, for validation to refuse.

use std::sync::Arc;

use serde_json::Value;

use super::{
    builtin,
    node::{Field, Kind, ListType, Node, ScalarType, Schema, Struct, StructRef},
};
use crate::meta::{
    GroupVersionKind,
    tree::{at, flag, is_empty, items, text},
};

const OBJECT_META: &str = "apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The schema of a kind whose objects `schema`, an OpenAPI v3 schema, describes.
pub fn schema(gvk: GroupVersionKind, schema: &Value, preserve_unknown: bool) -> Schema {
    let mut root = structure(schema, &gvk.kind, true);
    root.preserve_unknown |= preserve_unknown;
    Schema::new(gvk, Arc::new(root))
}

fn node(schema: &Value, name: &str) -> Node {
    let mut made = Node::new(kind(schema, name));
    if matches!(made.kind, Kind::Any) {
        // Where nothing is known of objects, their fields are owned one by one.
        made.atomic = !flag(schema, &["x-kubernetes-preserve-unknown-fields"]);
    }
    made.atomic |= text(schema, &["x-kubernetes-map-type"]) == "atomic";
    made.list = match text(schema, &["x-kubernetes-list-type"]) {
        "set" => ListType::Set,
        "map" => ListType::Map(items(schema, &["x-kubernetes-list-map-keys"]).iter().filter_map(Value::as_str).map(Box::from).collect()),
        _ => ListType::Atomic,
    };
    made.default = schema.get("default").filter(|default| !default.is_null()).cloned();
    made.nullable = flag(schema, &["nullable"]);
    made.scalar = match text(schema, &["type"]) {
        "string" => Some(ScalarType::String),
        "integer" | "number" => Some(ScalarType::Numeric),
        "boolean" => Some(ScalarType::Boolean),
        _ => None,
    };
    made
}

fn kind(schema: &Value, name: &str) -> Kind {
    let values = at(schema, &["additionalProperties"]);
    let embedded = flag(schema, &["x-kubernetes-embedded-resource"]);
    match text(schema, &["type"]) {
        "object" if values.is_object() => Kind::Map(Box::new(node(values, name))),
        "object" if values == &Value::Bool(true) => Kind::Map(Box::new(Node::unknown())),
        "object" if is_empty(schema, &["properties"]) && !embedded && flag(schema, &["x-kubernetes-preserve-unknown-fields"]) => Kind::Any,
        "object" => Kind::Struct(StructRef::new(Arc::new(structure(schema, name, embedded)))),
        "array" => Kind::List(Box::new(node(at(schema, &["items"]), name))),
        // Scalars, and what is anything.
        _ => Kind::Any,
    }
}

fn structure(schema: &Value, name: &str, is_resource: bool) -> Struct {
    let properties = at(schema, &["properties"]).as_object().into_iter().flatten();
    let own = |name: &str| is_resource && matches!(name, "apiVersion" | "kind" | "metadata");
    let mut fields: Vec<Field> = properties.filter(|(name, _)| !own(name)).map(|(name, schema)| field(name, node(schema, name))).collect();
    if is_resource {
        fields.push(field("apiVersion", Node::new(Kind::String)));
        fields.push(field("kind", Node::new(Kind::String)));
        fields.push(field("metadata", Node::new(Kind::Struct(builtin::reference(OBJECT_META)))));
    }
    let mut made = Struct::new(name, fields);
    made.lenient = true;
    made.preserve_unknown = flag(schema, &["x-kubernetes-preserve-unknown-fields"]);
    made
}

fn field(name: &str, node: Node) -> Field {
    Field { name: name.into(), node, required: false, pointer: true, omit_empty: true, numbers: Vec::new() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{growth::assert_linear, meta::Object, schema::Format};

    fn widget() -> Schema {
        let spec = json!({"type": "object", "properties": {
            "size": {"type": "integer", "default": 3},
            "names": {"type": "array", "items": {"type": "string"}},
            "extra": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "labels": {"type": "object", "additionalProperties": {"type": "object", "properties": {"a": {"type": "string", "default": "x"}}}},
            "maybe": {"type": "string", "nullable": true, "default": "d"},
        }});
        let root = json!({"type": "object", "properties": {"spec": spec, "metadata": {"type": "object"}}});
        schema(GroupVersionKind::new("example.com", "v1", "Widget"), &root, false)
    }

    fn decoded(body: Value) -> (Object, Vec<String>) {
        let schema = widget();
        let decoded = schema.decode(body.to_string().as_bytes(), Format::Json).expect("decodes");
        let mut object = decoded.object;
        schema.apply_defaults(&mut object);
        (object, decoded.problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn unknown_fields_go_and_defaults_come_down_to_the_values_of_maps() {
        let (object, problems) = decoded(json!({"kind": "Widget", "metadata": {"name": "a", "bogus": 1}, "top": 1, "spec": {
            "odd": {"a": 1}, "extra": {"a": null, "b": [{}]}, "labels": {"k": {"z": 1}}, "names": null, "maybe": null,
        }}));
        let want = json!({"kind": "Widget", "metadata": {"name": "a"}, "spec": {
            "size": 3, "extra": {"a": null, "b": [{}]}, "labels": {"k": {"a": "x"}}, "maybe": null,
        }});
        assert_eq!(object.into_value(), want);
        let unknown = ["metadata.bogus", "spec.labels.k.z", "spec.odd", "top"].map(|path| format!("unknown field {path:?}"));
        assert_eq!(problems, unknown, "sorted, whatever order they stand in");
    }

    #[test]
    fn values_of_wrong_types_are_left_to_validation_but_metadata_is_typed() {
        let odd = json!({"kind": "Widget", "spec": {"size": "three", "names": {"a": 1}, "labels": [null], "maybe": "d"}});
        assert_eq!(decoded(odd.clone()).0.into_value(), odd);
        let refused = widget().decode(br#"{"metadata": {"labels": {"a": 1}}}"#, Format::Json);
        assert!(refused.is_err(), "{refused:?}");
        assert!(widget().decode(br#"{"metadata": "x"}"#, Format::Json).is_err());
    }

    #[test]
    fn who_applies_may_say_anything_of_an_object_without_properties() {
        let full = json!({"type": "object", "properties": {"a": {"type": "string"}}});
        let root = json!({"type": "object", "properties": {"bare": {"type": "object"}, "full": full}});
        let schema = schema(GroupVersionKind::new("example.com", "v1", "Widget"), &root, false);
        let raw = crate::schema::decode::parse(br#"{"bare": {"x": 1}, "full": {"x": 1}}"#, Format::Json).expect("parses");
        let decoded = schema.decode_applied(raw).expect("decodes");
        assert_eq!(decoded.unknown().map(ToString::to_string).collect::<Vec<_>>(), ["full.x"]);
        assert_eq!(decoded.object.into_value(), json!({"bare": {}, "full": {}}));
    }

    #[test]
    fn fields_that_stand_twice_are_told_where_nothing_is_known_of_them() {
        let body = br#"{"kind": "Widget", "spec": {"extra": {"a": 1, "a": 2, "l": [{"q": 1, "q": 2}]}}}"#;
        let decoded = widget().decode(body, Format::Json).expect("decodes");
        let problems: Vec<String> = decoded.problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems, ["duplicate field \"spec.extra.a\"", "duplicate field \"spec.extra.l[0].q\""]);
    }

    #[test]
    fn long_names_above_many_values_cost_no_more_than_their_bytes() {
        let lists = json!({"type": "array", "items": {"x-kubernetes-preserve-unknown-fields": true}});
        let root = json!({"type": "object", "properties": {"lists": {"type": "object", "additionalProperties": lists}}});
        let schema = schema(GroupVersionKind::new("example.com", "v1", "Widget"), &root, false);
        let body = |count: usize| json!({"lists": {"x".repeat(16 * count): vec![1; count]}}).to_string();
        assert_linear(2000, body, |body| drop(schema.decode(body.as_bytes(), Format::Json).expect("decodes")));
    }

    #[test]
    fn defaults_take_no_more_than_an_object_may() {
        let items = json!({"type": "object", "properties": {"d": {"type": "string", "default": "x".repeat(10_000)}}});
        let root = json!({"type": "object", "properties": {"l": {"type": "array", "items": items}}});
        let schema = schema(GroupVersionKind::new("example.com", "v1", "Widget"), &root, false);
        for (count, whole) in [(100, true), (300, false)] {
            let body = json!({"kind": "Widget", "l": vec![json!({}); count], "unknown": "x".repeat(100_000)});
            let mut object = schema.decode(body.to_string().as_bytes(), Format::Json).expect("decodes").object;
            assert_eq!(schema.apply_defaults(&mut object), whole);
            assert!(object.into_value().to_string().len() < 3 << 20);
        }
    }
}
