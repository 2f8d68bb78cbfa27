//! Custom resources: their schemas as the definitions state them, in the words of OpenAPI v3 and v2.

use serde_json::{Map, Value, json};
use troupe_api::{
    meta::GroupVersionKind,
    resources::{
        Registry, Resource, SchemaSource,
        tree::{at, flag},
    },
};

use super::{
    META_V1,
    descriptions::{describe_list, of_every_object},
};

const KINDS: &str = "x-kubernetes-group-version-kind";

/// The name of a kind's definition: the group backwards, version and kind (`com.example.v1.Widget`).
pub fn name(kind: &GroupVersionKind) -> String {
    let mut labels: Vec<&str> = kind.group.split('.').rev().collect();
    labels.extend([&*kind.version, &*kind.kind]);
    labels.join(".")
}

/// The room that the definitions of custom resources have in one document.
#[derive(Debug)]
pub struct Room(usize);

impl Room {
    /// In a document of one group and version.
    pub const fn of_group() -> Self {
        Room(24 << 20)
    }

    /// In the document of all: that of 1,500 definitions of 10 KB.
    pub const fn of_all() -> Self {
        Room(64 << 20)
    }

    fn take(&mut self, weight: usize) -> bool {
        let left = self.0.checked_sub(weight);
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }
}

/// The definitions of a custom resource in one version, of its objects and of their lists; nothing for a built-in one. Where there is no
/// room for a schema, its objects are published as those that have none.
pub fn definitions(row: &Resource, version: &str, room: &mut Room) -> Vec<(String, Value)> {
    let SchemaSource::Defined(defined) = &row.version(version).schema else { return Vec::new() };
    let source = if room.take(defined.weight()) {
        defined.source()
    } else {
        tracing::warn!(resource = %row.group_resource(), version, "its schema is too large to be published beside the others");
        Value::Null
    };
    let kind = row.gvk(version);
    let list = GroupVersionKind::new(kind.group.clone(), kind.version.clone(), row.list_kind());
    let mut items = json!({
        "type": "object", "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"$ref": format!("#/components/schemas/io.k8s.{META_V1}ListMeta")},
            "items": {"type": "array", "items": {"$ref": reference(&kind)}},
        },
        KINDS: [gvk(&list)],
    });
    describe_list(&mut items, row, &kind.kind);
    vec![(name(&kind), object(source, &kind)), (name(&list), items)]
}

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
        return anything(gvk(kind));
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

/// Objects of which nothing is known. Clients take fields beside known ones for wrong, so nothing is said of any.
fn anything(kind: Value) -> Value {
    json!({"type": "object", KINDS: [kind]})
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

/// A definition in the words of OpenAPI v2 (`apiextensions-apiserver/pkg/controller/openapi/v2`). It says less, and nothing wrong.
pub fn for_v2(definition: Value) -> Value {
    match flag(&definition, &["x-kubernetes-preserve-unknown-fields"]) {
        true => anything(definition[KINDS][0].clone()),
        false => without_junctors(definition),
    }
}

/// A schema without what OpenAPI v2 has no words for.
fn without_junctors(schema: Value) -> Value {
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
            ("type", _) if preserves => {}
            ("items" | "properties", _) if preserves => {}
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

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_api::{meta::Object, resources::definitions::definition::Definition, stored::StoredObject};

    #[test]
    fn a_schema_that_finds_no_room_is_published_as_none() {
        let properties: Map<String, Value> = (0..5000).map(|n| (format!("f{n}"), json!({"type": "string"}))).collect();
        let version =
            json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}}});
        let names = json!({"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"});
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "widgets.example.com"},
            "spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]},
            "status": {"acceptedNames": names, "storedVersions": ["v1"], "conditions": [
                {"type": "NamesAccepted", "status": "True"}, {"type": "Established", "status": "True"}]},
        });
        let stored = StoredObject::from_object(&Object::from_value(definition).expect("an object")).expect("is well formed");
        let row = Definition::read(&stored).expect("a definition").resource().expect("a row");
        let mut room = Room(1 << 20);
        let fields = |room: &mut Room| definitions(&row, "v1", room)[0].1["properties"].as_object().map_or(0, Map::len);
        assert_eq!([fields(&mut room), fields(&mut room)], [5003, 0]);
    }
}
