//! OpenAPI v2: one document of everything that is served, made of the v3 documents, as JSON and as the message that
//! kubectl asks for.

mod message;
pub mod remote;
mod shared;
pub mod upward;

use serde_json::{Map, Value, json};

pub use message::{MEDIA_TYPE, message};

use super::{
    VERSION, components,
    custom::{self, Room},
    discovery,
    operations::{ANY_TYPE, LIST_TYPES, LOG_TYPES, PATCH_TYPES, PROTOBUF},
    schemas_of_page,
};
use troupe_api::{meta::GroupVersion, resources::Registry};

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
    for path in discovery::pages(registry) {
        let Some(page) = discovery::page(&path) else { continue };
        let (consumes, found) = (page.consumes, page.paths(&path));
        add_definitions(registry, &mut definitions, schemas_of_page(&found).into());
        for (path, item) in found {
            let mut item = path_item(item);
            if let Some(operation) = item["get"].as_object_mut().filter(|_| !consumes) {
                operation.remove("consumes");
            }
            paths.insert(path, item);
        }
    }
    components::of_all_versions(&mut definitions);
    let mut left = MOST_REMOTE;
    for document in registry.aggregated().versions().iter().filter_map(|remote| remote.documents.v2.as_ref()) {
        if let Some(rest) = left.checked_sub(document.len()) {
            left = rest;
            remote::add(document, &mut paths, &mut definitions);
        }
    }
    let parameters = shared::take(&mut paths);
    let mut document = json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "securityDefinitions": {"BearerToken": {
            "type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header",
        }},
        "security": [{"BearerToken": []}],
    });
    // They are long: a tree of them is made once.
    document["paths"] = paths.into();
    document["definitions"] = definitions.into();
    document["parameters"] = parameters.into();
    document
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
            let found = if custom::is_custom(registry, &found) { custom::for_v2(found) } else { schema(found) };
            definitions.insert(name, found);
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
    order(&mut produces);
    let mut fields = object(operation);
    fields.retain(|name, value| !value.is_null() && !matches!(&**name, "requestBody" | "responses" | "parameters"));
    let mut consumes = taken(&fields, &produces);
    if let Some(Value::Object(content)) = body.remove("content") {
        consumes = content.keys().cloned().collect();
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
    order(&mut consumes);
    fields.insert("consumes".into(), consumes.into());
    fields.insert("produces".into(), produces.into());
    fields.insert("schemes".into(), json!(["https"]));
    fields.insert("responses".into(), responses.into());
    fields.into()
}

/// The media types that an operation without a body is said to take: what it answers with if it is about no objects or custom resources.
fn taken(operation: &Map<String, Value>, produces: &[String]) -> Vec<String> {
    let is_builtin = produces.iter().any(|media_type| media_type == PROTOBUF || media_type == "*/*");
    if operation.contains_key("x-kubernetes-action") && is_builtin {
        return ANY_TYPE.iter().copied().map(str::to_owned).collect();
    }
    produces.to_vec()
}

/// Orders media types as upstream lists them; those of a map are sorted.
fn order(media_types: &mut [String]) {
    let place = |media_type: &str, known: &[&str]| known.iter().position(|known| *known == media_type);
    let known = [LOG_TYPES, LIST_TYPES, PATCH_TYPES];
    media_types.sort_by_key(|media_type| known.map(|known| place(media_type, known).unwrap_or(known.len())));
}
