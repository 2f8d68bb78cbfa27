//! Custom resources: their schemas as the definitions state them, in the words of OpenAPI v3 and v2.

use serde_json::{Map, Value, json};

use super::{META_V1, descriptions::of_every_object};
use crate::{
    meta::GroupVersionKind,
    resources::{
        Registry, Resource, SchemaSource,
        tree::{at, flag},
    },
};

const KINDS: &str = "x-kubernetes-group-version-kind";

/// The name of a kind's definition: the group backwards, version and kind (`com.example.v1.Widget`).
pub fn name(kind: &GroupVersionKind) -> String {
    let mut labels: Vec<&str> = kind.group.split('.').rev().collect();
    labels.extend([&*kind.version, &*kind.kind]);
    labels.join(".")
}

/// The definitions of a custom resource in one version, of its objects and of their lists; nothing for a built-in one.
pub fn definitions(row: &Resource, version: &str) -> Vec<(String, Value)> {
    let SchemaSource::Defined(defined) = &row.version(version).schema else { return Vec::new() };
    let kind = row.gvk(version);
    let list = GroupVersionKind::new(kind.group.clone(), kind.version.clone(), row.list_kind());
    let items = json!({
        "type": "object", "description": format!("{} is a list of {}", list.kind, kind.kind), "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": of_every_object("apiVersion")},
            "kind": {"type": "string", "description": of_every_object("kind")},
            "metadata": {"allOf": [{"$ref": format!("#/components/schemas/io.k8s.{META_V1}ListMeta")}], "description": format!("Standard list metadata. More info: {CONVENTIONS}#types-kinds")},
            "items": {"type": "array", "items": {"$ref": reference(&kind)}, "description": format!("List of {}. More info: {CONVENTIONS}", row.plural)},
        },
        KINDS: [gvk(&list)],
    });
    vec![(name(&kind), object(defined.source(), &kind)), (name(&list), items)]
}

const CONVENTIONS: &str = "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md";

/// Where a document has a kind's definition.
pub fn reference(kind: &GroupVersionKind) -> String {
    format!("#/components/schemas/{}", name(kind))
}

fn gvk(kind: &GroupVersionKind) -> Value {
    json!({"group": &*kind.group, "version": &*kind.version, "kind": &*kind.kind})
}

/// A definition's schema with what every object has.
fn object(mut schema: Value, kind: &GroupVersionKind) -> Value {
    if !schema.is_object() {
        schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    }
    if at(&schema, &["type"]).is_null() {
        schema["type"] = "object".into();
    }
    if !at(&schema, &["properties"]).is_object() {
        schema["properties"] = json!({});
    }
    schema["properties"]["apiVersion"] = json!({"type": "string", "description": of_every_object("apiVersion")});
    schema["properties"]["kind"] = json!({"type": "string", "description": of_every_object("kind")});
    let metadata = format!("#/components/schemas/io.k8s.{META_V1}ObjectMeta");
    schema["properties"]["metadata"] = json!({"allOf": [{"$ref": metadata}], "description": of_every_object("metadata")});
    schema[KINDS] = json!([gvk(kind)]);
    schema
}

/// Whether a definition is one of a custom resource.
pub fn is_custom(registry: &Registry, definition: &Value) -> bool {
    let kinds = at(definition, &[KINDS]).as_array().map_or(&[][..], Vec::as_slice);
    let text = |kind: &Value, name: &str| kind[name].as_str().unwrap_or_default().to_owned();
    kinds.first().is_some_and(|kind| {
        let (group, name) = (text(kind, "group"), text(kind, "kind"));
        let item = name.strip_suffix("List").unwrap_or(&name);
        let row = registry.by_kind(&group, &name).or_else(|| registry.by_kind(&group, item));
        row.is_some_and(|row| row.is_custom())
    })
}

/// A schema without what OpenAPI v2 has no words for. It says less, and nothing wrong.
pub fn without_junctors(schema: Value) -> Value {
    let Value::Object(fields) = schema else { return schema };
    let holder = Value::Object(fields);
    let untyped = flag(&holder, &["x-kubernetes-int-or-string"]) || flag(&holder, &["nullable"]);
    let preserves = flag(&holder, &["x-kubernetes-preserve-unknown-fields"]);
    let Value::Object(fields) = holder else { return Value::Null };
    let mut out = Map::new();
    for (keyword, value) in fields {
        match (&*keyword, value) {
            ("anyOf" | "oneOf" | "not" | "default" | "nullable", _) => {}
            ("type" | "format" | "enum", _) if untyped => {}
            ("items" | "properties", _) if preserves && untyped => {}
            ("allOf", value) if value[0].get("$ref").is_some() => drop(out.insert(keyword, value)),
            ("allOf", _) => {}
            ("items" | "additionalProperties", value) => drop(out.insert(keyword, without_junctors(value))),
            ("properties", Value::Object(properties)) => {
                let inner = properties.into_iter().map(|(name, inner)| (name, without_junctors(inner)));
                out.insert(keyword, inner.collect::<Map<_, _>>().into());
            }
            (_, value) => drop(out.insert(keyword, value)),
        }
    }
    out.into()
}
