//! `components.schemas`: the definitions of the tables in OpenAPI's form.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use troupe_api::{
    meta::GroupVersion,
    schema::{
        Schemas,
        builtin::parse_gvk,
        table::{Definition, FieldLine},
    },
};

use super::descriptions::{Descriptions, Documented};

/// All wanted definitions and those they refer to, by full name with `io.k8s.`.
pub fn schemas(wanted: BTreeSet<String>, group_version: &GroupVersion) -> Map<String, Value> {
    let descriptions = Descriptions::of(group_version);
    let mut made = Map::new();
    let mut open: Vec<String> = wanted.into_iter().collect();
    while let Some(name) = open.pop() {
        let full_name = format!("io.k8s.{name}");
        if made.contains_key(&full_name) {
            continue;
        }
        let Some((package, definition)) = Schemas::builtin().definition_lines(&name) else { continue };
        open.extend(definition.fields.iter().filter_map(|field| reference(package, field.type_name)));
        let documented = descriptions.get(&full_name);
        made.insert(full_name, schema(package, &definition, documented, group_version));
    }
    made
}

/// The definition that a type leads to.
fn reference(package: &str, type_name: &str) -> Option<String> {
    let name = type_name.trim_start_matches("[]").trim_start_matches("{}").trim_start_matches("[]");
    if name.contains('.') { Some(name.to_owned()) } else { name.starts_with(|c: char| c.is_ascii_uppercase()).then(|| format!("{package}.{name}")) }
}

fn schema(package: &str, definition: &Definition, documented: Option<&Documented>, group_version: &GroupVersion) -> Value {
    let mut schema = match definition.alias {
        Some(alias) => scalar(alias, package),
        None => structure(package, definition, documented),
    };
    if let Some(description) = documented.map(|documented| documented.description.as_str()).filter(|text| !text.is_empty()) {
        schema["description"] = description.into();
    }
    if definition.atomic {
        schema["x-kubernetes-map-type"] = "atomic".into();
    }
    let mut kinds: Vec<Value> = definition
        .kinds
        .iter()
        .map(|kind| parse_gvk(kind))
        .map(|gvk| json!({"group": &*gvk.group, "version": &*gvk.version, "kind": &*gvk.kind}))
        .collect();
    if matches!(definition.name, "DeleteOptions" | "WatchEvent") {
        kinds.push(json!({"group": &*group_version.group, "version": &*group_version.version, "kind": definition.name}));
    }
    if !kinds.is_empty() {
        schema["x-kubernetes-group-version-kind"] = kinds.into();
    }
    schema
}

/// The schema of a definition that stands for a scalar.
fn scalar(alias: &str, package: &str) -> Value {
    match alias {
        "quantity" => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        "intstr" => json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}),
        "time" | "microtime" => json!({"type": "string", "format": "date-time"}),
        _ if package.starts_with("apiextensions") => json!({}),
        _ => json!({"type": "object"}),
    }
}

fn structure(package: &str, definition: &Definition, documented: Option<&Documented>) -> Value {
    let mut schema = json!({"type": "object"});
    if !definition.fields.is_empty() {
        let property = |field: &FieldLine| (field.name.to_owned(), property(package, field, documented));
        schema["properties"] = Value::Object(definition.fields.iter().map(property).collect());
    }
    let required = definition.fields.iter().filter(|field| field.flags.contains('!')).map(|field| field.name).collect::<Vec<_>>();
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    schema
}

fn property(package: &str, field: &FieldLine, documented: Option<&Documented>) -> Value {
    let description = documented.and_then(|documented| documented.fields.get(field.name));
    let default = field.default.map(|text| serde_json::from_str::<Value>(text).expect("a default in a table is JSON"));
    let mut schema = type_schema(package, field.type_name, description.is_some() || default.is_some());
    if let Some(description) = description {
        schema["description"] = description.as_str().into();
    }
    if let Some(default) = default {
        schema["default"] = default;
    }
    if let Some(list) = field.list {
        let (kind, keys) = list.split_once(':').unwrap_or((list, ""));
        schema["x-kubernetes-list-type"] = kind.into();
        if !keys.is_empty() {
            schema["x-kubernetes-list-map-keys"] = keys.split(',').collect::<Vec<_>>().into();
        }
    }
    if let Some(map) = field.map {
        schema["x-kubernetes-map-type"] = map.into();
    }
    if let Some((strategy, key)) = field.patch.map(|patch| patch.split_once(':').unwrap_or((patch, ""))) {
        if !strategy.is_empty() {
            schema["x-kubernetes-patch-strategy"] = strategy.into();
        }
        if !key.is_empty() {
            schema["x-kubernetes-patch-merge-key"] = key.into();
        }
    }
    schema
}

/// `wrapped` puts a reference into `allOf`, so that other keywords may stand beside it.
fn type_schema(package: &str, type_name: &str, wrapped: bool) -> Value {
    if let Some(item) = type_name.strip_prefix("[]") {
        return json!({"type": "array", "items": type_schema(package, item, false)});
    }
    if let Some(value) = type_name.strip_prefix("{}") {
        return json!({"type": "object", "additionalProperties": type_schema(package, value, false)});
    }
    match type_name {
        "string" => json!({"type": "string"}),
        "bytes" => json!({"type": "string", "format": "byte"}),
        "int32" | "int64" => json!({"type": "integer", "format": type_name}),
        "bool" => json!({"type": "boolean"}),
        "double" => json!({"type": "number", "format": "double"}),
        name => {
            let full_name = reference(package, name).unwrap_or_default();
            let target = json!({"$ref": format!("#/components/schemas/io.k8s.{full_name}")});
            if wrapped { json!({"allOf": [target]}) } else { target }
        }
    }
}
