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
const SELECTABLE: &str = "x-kubernetes-selectable-fields";
const PRESERVES: &str = "x-kubernetes-preserve-unknown-fields";
const EMBEDDED: &str = "x-kubernetes-embedded-resource";
const INT_OR_STRING: &str = "x-kubernetes-int-or-string";

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
    let served = row.version(version);
    let SchemaSource::Defined(defined) = &served.schema else { return Vec::new() };
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
    let mut object = object(source, &kind);
    if !served.selectable.is_empty() {
        let fields: Value = served.selectable.iter().map(|path| json!({"fieldPath": &**path})).collect();
        object[SELECTABLE] = fields.clone();
        items[SELECTABLE] = fields;
    }
    vec![(name(&kind), object), (name(&list), items)]
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
    each(&mut schema, &complete);
    schema["properties"]["apiVersion"] = json!({"type": "string", "description": of_every_object("apiVersion")});
    schema["properties"]["kind"] = json!({"type": "string", "description": of_every_object("kind")});
    schema["properties"]["metadata"] = metadata();
    schema[KINDS] = json!([gvk(kind)]);
    schema
}

fn metadata() -> Value {
    let metadata = format!("#/components/schemas/io.k8s.{META_V1}ObjectMeta");
    json!({"allOf": [{"$ref": metadata}], "description": of_every_object("metadata")})
}

/// Changes a schema, then those of its fields, items and values.
fn each(schema: &mut Value, change: &dyn Fn(&mut Map<String, Value>)) {
    let Some(fields) = schema.as_object_mut() else { return };
    change(fields);
    if let Some(properties) = fields.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(|inner| each(inner, change));
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get_mut(keyword) {
            each(inner, change);
        }
    }
}

fn is(fields: &Map<String, Value>, keyword: &str) -> bool {
    fields.get(keyword) == Some(&Value::Bool(true))
}

/// What a schema means beside what is written: a value is a number or a text, or an object of its own
/// (`apiextensions-apiserver/pkg/apiserver/schema/unfold.go`, `pkg/controller/openapi/builder`). What says nothing goes.
fn complete(fields: &mut Map<String, Value>) {
    fields.retain(|keyword, value| !says_nothing(keyword, value));
    if is(fields, INT_OR_STRING) {
        allow_both(fields);
    }
    if is(fields, EMBEDDED) {
        embed(fields);
    }
}

/// Whether a keyword means the same as none, so that Go leaves it out.
fn says_nothing(keyword: &str, value: &Value) -> bool {
    match value {
        Value::Null => keyword != "default",
        Value::Bool(flag) => {
            !flag && matches!(keyword, "nullable" | "exclusiveMaximum" | "exclusiveMinimum" | "uniqueItems" | PRESERVES | EMBEDDED | INT_OR_STRING)
        }
        Value::String(text) => text.is_empty() && matches!(keyword, "description" | "title" | "type" | "format" | "pattern"),
        Value::Array(items) => items.is_empty() && matches!(keyword, "required" | "enum" | "allOf" | "anyOf" | "oneOf"),
        Value::Object(inner) => inner.is_empty() && keyword == "properties",
        Value::Number(_) => false,
    }
}

fn allow_both(fields: &mut Map<String, Value>) {
    let both = json!([{"type": "integer"}, {"type": "string"}]);
    if fields.get("anyOf") == Some(&both) || fields.get("allOf").is_some_and(|all| all[0]["anyOf"] == both) {
        return;
    }
    if !fields.contains_key("anyOf") {
        fields.insert("anyOf".to_owned(), both);
    } else if let Some(all) = fields.entry("allOf").or_insert_with(|| json!([])).as_array_mut() {
        all.insert(0, json!({"anyOf": both}));
    }
}

fn embed(fields: &mut Map<String, Value>) {
    const CONVENTIONS: &str = "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md";
    if let Some(properties) = fields.entry("properties").or_insert_with(|| json!({})).as_object_mut() {
        let version = format!("The version of the schema of the embedded object. More info: {CONVENTIONS}#resources");
        let kind = format!("The kind of the embedded object. In CamelCase. More info: {CONVENTIONS}#types-kinds");
        properties.insert("apiVersion".to_owned(), json!({"type": "string", "description": version}));
        properties.insert("kind".to_owned(), json!({"type": "string", "description": kind}));
        properties.insert("metadata".to_owned(), metadata());
    }
    if let Some(required) = fields.entry("required").or_insert_with(|| json!([])).as_array_mut() {
        for name in ["kind", "apiVersion"] {
            if !required.iter().any(|known| known == name) {
                required.push(name.into());
            }
        }
    }
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
pub fn for_v2(mut definition: Value) -> Value {
    if flag(&definition, &[PRESERVES]) {
        let mut made = anything(definition[KINDS][0].take());
        if let Some(fields) = definition.get_mut(SELECTABLE) {
            made[SELECTABLE] = fields.take();
        }
        return made;
    }
    each(&mut definition, &reduce);
    definition
}

/// Takes out of a schema what OpenAPI v2, or kubectl with it, knows no words for.
fn reduce(fields: &mut Map<String, Value>) {
    let nullable = |schema: &Value| flag(schema, &["nullable"]);
    if let Some(target) = fields.get("$ref").or_else(|| fields.get("allOf")?.get(0)?.get("$ref")).and_then(Value::as_str) {
        let target = target.replace("#/components/schemas/", "#/definitions/");
        fields.insert("$ref".to_owned(), target.into());
    }
    fields.retain(|keyword, _| !matches!(&**keyword, "allOf" | "anyOf" | "oneOf" | "not" | "default"));
    let is_null = fields.remove("nullable").is_some_and(|flag| flag == true);
    if is_null {
        fields.remove("type");
    }
    let (preserves, is_embedded) = (is(fields, PRESERVES), is(fields, EMBEDDED));
    if is_null || preserves {
        fields.retain(|keyword, _| !matches!(&**keyword, "items" | "properties"));
    }
    let has_items = fields.contains_key("items");
    if fields.get("type").is_some_and(|kind| kind == "array" && !has_items || kind == "object" && preserves) {
        fields.remove("type");
    }
    // What may be null need not be there.
    let absent: Vec<String> = match fields.get("properties").and_then(Value::as_object) {
        Some(properties) => properties.iter().filter(|(_, inner)| nullable(inner)).map(|(name, _)| name.clone()).collect(),
        None => Vec::new(),
    };
    if fields.get("additionalProperties").is_some_and(nullable) {
        fields.remove("required");
    }
    if let Some(required) = fields.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| !absent.iter().any(|absent| name == absent.as_str()));
        if preserves && is_embedded {
            // Of what may hold any fields nothing of an object's is told.
            required.retain(|name| name != "kind" && name != "apiVersion");
        }
    }
    fields.retain(|keyword, value| !says_nothing(keyword, value));
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

    #[test]
    fn what_a_schema_means_is_written_out_and_what_says_nothing_goes() {
        let schema = json!({"type": "object", "properties": {
            "port": {"x-kubernetes-int-or-string": true, "nullable": false, "description": ""},
            "limit": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}], "pattern": "^a$"},
            "size": {"x-kubernetes-int-or-string": true, "anyOf": [{"pattern": "a"}]},
            "template": {"type": "object", "x-kubernetes-embedded-resource": true, "required": ["kind", "spec"], "properties": {"spec": {"type": "object"}}},
            "free": {"type": "object", "properties": {}, "x-kubernetes-preserve-unknown-fields": true, "default": {}},
        }});
        let made = object(schema, &GroupVersionKind::new("example.com", "v1", "Widget"));
        let properties = &made["properties"];
        let both = json!([{"type": "integer"}, {"type": "string"}]);
        assert_eq!(properties["port"], json!({"x-kubernetes-int-or-string": true, "anyOf": both}));
        assert_eq!((&properties["limit"]["anyOf"], properties["limit"].get("allOf")), (&both, None));
        assert_eq!(properties["size"]["allOf"], json!([{"anyOf": both}]));
        assert_eq!(properties["template"]["required"], json!(["kind", "spec", "apiVersion"]));
        let metadata = json!([{"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}]);
        assert_eq!((&properties["template"]["properties"]["metadata"]["allOf"], &properties["metadata"]["allOf"]), (&metadata, &metadata));
        assert_eq!(properties["free"], json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "default": {}}));
    }

    #[test]
    fn the_old_document_says_nothing_that_kubectl_would_take_for_more() {
        let schema = json!({"type": "object", "required": ["maybe", "name"], "properties": {
            "name": {"type": "string", "default": "a", "not": {"enum": ["b"]}},
            "maybe": {"type": "object", "nullable": true, "properties": {"a": {"type": "string"}}},
            "free": {"type": "array", "items": {"type": "string"}, "x-kubernetes-preserve-unknown-fields": true},
            "inner": {"type": "object", EMBEDDED: true, PRESERVES: true},
            "labels": {"type": "object", "required": ["a"], "additionalProperties": {"type": "string", "nullable": true}},
        }});
        let made = for_v2(object(schema, &GroupVersionKind::new("example.com", "v1", "Widget")));
        assert_eq!(made["required"], json!(["name"]));
        let properties = &made["properties"];
        assert_eq!(properties["name"], json!({"type": "string"}));
        assert_eq!(properties["inner"], json!({EMBEDDED: true, PRESERVES: true}));
        assert_eq!(properties["maybe"], json!({}));
        assert_eq!(properties["free"], json!({"x-kubernetes-preserve-unknown-fields": true}));
        assert_eq!(properties["labels"], json!({"type": "object", "additionalProperties": {}}));
        let metadata = &properties["metadata"];
        assert_eq!((&metadata["$ref"], metadata.get("allOf")), (&json!("#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"), None));
        let free =
            object(json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}), &GroupVersionKind::new("example.com", "v1", "Widget"));
        assert_eq!(for_v2(free), json!({"type": "object", KINDS: [{"group": "example.com", "version": "v1", "kind": "Widget"}]}));
    }
}
