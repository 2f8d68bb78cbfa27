//! OpenAPI v2: one document of everything that is served, made of the v3 documents, as JSON and as the message that
//! kubectl asks for.

mod message;
pub mod remote;
pub mod upward;

use serde_json::{Map, Value, json};

pub use message::{MEDIA_TYPE, message};
use troupe_api::{meta::GroupVersion, resources::Registry};

use super::custom::{self, Room};

/// What other servers' documents take of it, in bytes: all of it is in memory as a tree for a moment.
const MOST_REMOTE: usize = 8 << 20;

/// The document.
pub fn document(registry: &Registry) -> Value {
    let (mut definitions, mut paths) = (Map::new(), Map::new());
    let (mut seen, mut room) = (std::collections::HashSet::new(), Room::of_all());
    for row in registry.rows() {
        for served in &row.served {
            let group_version = GroupVersion::new(row.group.clone(), served.version.clone());
            if registry.is_elsewhere(&row.group, &served.version) || !seen.insert(group_version.to_string()) {
                continue;
            }
            let Some(mut part) = super::document(registry, &group_version, &mut room) else { continue };
            add_definitions(registry, &mut definitions, part["components"]["schemas"].take());
            for (path, item) in object(part["paths"].take()) {
                paths.insert(path, path_item(item));
            }
        }
    }
    let mut left = MOST_REMOTE;
    for document in registry.aggregated().versions().iter().filter_map(|remote| remote.documents.v2.as_ref()) {
        if let Some(rest) = left.checked_sub(document.len()) {
            left = rest;
            remote::add(document, &mut paths, &mut definitions);
        }
    }
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": "unversioned"},
        "paths": paths,
        "definitions": definitions,
        "securityDefinitions": {"BearerToken": {
            "type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header",
        }},
        "security": [{"BearerToken": []}],
    })
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// Adds schemas; what several parts hold has the kinds of all of them.
fn add_definitions(registry: &Registry, definitions: &mut Map<String, Value>, schemas: Value) {
    const KINDS: &str = "x-kubernetes-group-version-kind";
    for (name, found) in object(schemas) {
        let Some(known) = definitions.get_mut(&name) else {
            let found = if custom::is_custom(registry, &found) { custom::for_v2(found) } else { found };
            definitions.insert(name, schema(found));
            continue;
        };
        for kind in found[KINDS].as_array().into_iter().flatten() {
            if let Some(kinds) = known[KINDS].as_array_mut()
                && !kinds.contains(kind)
            {
                kinds.push(kind.clone());
            }
        }
    }
}

/// A schema in the words of v2: it knows no `oneOf`, and references stand for themselves.
fn schema(value: Value) -> Value {
    let mut out = Map::new();
    for (keyword, value) in object(value) {
        match (&*keyword, value) {
            ("$ref", Value::String(target)) => drop(out.insert(keyword, target.replace("#/components/schemas/", "#/definitions/").into())),
            ("allOf", Value::Array(all)) => out.extend(all.into_iter().flat_map(|part| object(schema(part)))),
            // Upstream's one of a string and a number is a string here.
            ("oneOf", _) => drop(out.insert("type".into(), "string".into())),
            ("default", _) => {}
            ("items" | "additionalProperties" | "not", value @ Value::Object(_)) => drop(out.insert(keyword, schema(value))),
            ("properties", properties) => {
                let properties: Map<_, _> = object(properties).into_iter().map(|(name, property)| (name, schema(property))).collect();
                out.insert(keyword, properties.into());
            }
            (_, value) => drop(out.insert(keyword, value)),
        }
    }
    out.into()
}

fn path_item(item: Value) -> Value {
    let convert = |(name, value): (String, Value)| match (&*name, value) {
        ("parameters", Value::Array(parameters)) => (name, parameters.into_iter().map(parameter).collect()),
        (_, operation) => (name, self::operation(operation)),
    };
    object(item).into_iter().map(convert).collect::<Map<_, _>>().into()
}

/// The type of a parameter stands in the parameter itself.
fn parameter(mut parameter: Value) -> Value {
    let inner = object(parameter["schema"].take());
    let mut fields = object(parameter);
    fields.remove("schema");
    fields.extend(inner);
    fields.into()
}

fn operation(mut operation: Value) -> Value {
    let mut body = object(operation["requestBody"].take());
    let mut parameters: Vec<Value> = operation["parameters"].take().as_array().cloned().unwrap_or_default().into_iter().map(parameter).collect();
    let mut produces: Vec<String> = Vec::new();
    let mut responses = Map::new();
    for (code, mut response) in object(operation["responses"].take()) {
        let mut made = json!({"description": response["description"].take()});
        for (media_type, mut content) in object(response["content"].take()) {
            made["schema"] = schema(content["schema"].take());
            if !produces.contains(&media_type) {
                produces.push(media_type);
            }
        }
        responses.insert(code, made);
    }
    let mut fields = object(operation);
    fields.retain(|name, value| !value.is_null() && !matches!(&**name, "requestBody" | "responses" | "parameters"));
    if let Some(Value::Object(content)) = body.remove("content") {
        fields.insert("consumes".into(), content.keys().cloned().collect());
        let found = content.into_iter().next().map(|(_, mut content)| schema(content["schema"].take()));
        let mut made = json!({"in": "body", "name": "body", "schema": found});
        if body.get("required") == Some(&Value::Bool(true)) {
            made["required"] = true.into();
        }
        parameters.insert(0, made);
    }
    if !parameters.is_empty() {
        fields.insert("parameters".into(), parameters.into());
    }
    fields.insert("produces".into(), produces.into());
    fields.insert("responses".into(), responses.into());
    fields.into()
}
