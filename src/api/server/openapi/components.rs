//! `components.schemas`: the definitions of the tables in OpenAPI's form.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{
    META_V1,
    descriptions::{Descriptions, Documented},
    discovery::capital,
};
use troupe_api::{
    meta::GroupVersion,
    schema::{
        Schemas,
        builtin::parse_gvk,
        table::{Definition, FieldLine},
    },
};

const KINDS: &str = "x-kubernetes-group-version-kind";

/// Every version of upstream's scheme, its groups sorted: each has options of deletions and watch events of its own, which are one definition.
const REGISTERED: &[(&str, &[&str])] = &[
    ("", &["v1"]),
    ("admission.k8s.io", &["v1", "v1beta1"]),
    ("admissionregistration.k8s.io", &["v1", "v1alpha1", "v1beta1"]),
    ("apiextensions.k8s.io", &["v1", "v1beta1"]),
    ("apiregistration.k8s.io", &["v1", "v1beta1"]),
    ("apps", &["v1", "v1beta1", "v1beta2"]),
    ("authentication.k8s.io", &["v1", "v1alpha1", "v1beta1"]),
    ("authorization.k8s.io", &["v1", "v1beta1"]),
    ("autoscaling", &["v1", "v2"]),
    ("batch", &["v1", "v1beta1"]),
    ("certificates.k8s.io", &["v1", "v1alpha1", "v1beta1"]),
    ("coordination.k8s.io", &["v1", "v1alpha2", "v1beta1"]),
    ("discovery.k8s.io", &["v1", "v1beta1"]),
    ("events.k8s.io", &["v1", "v1beta1"]),
    ("extensions", &["v1beta1"]),
    ("flowcontrol.apiserver.k8s.io", &["v1", "v1beta1", "v1beta2", "v1beta3"]),
    ("imagepolicy.k8s.io", &["v1alpha1"]),
    ("internal.apiserver.k8s.io", &["v1alpha1"]),
    ("networking.k8s.io", &["v1", "v1beta1"]),
    ("node.k8s.io", &["v1", "v1alpha1", "v1beta1"]),
    ("policy", &["v1", "v1beta1"]),
    ("rbac.authorization.k8s.io", &["v1", "v1alpha1", "v1beta1"]),
    ("resource.k8s.io", &["v1", "v1alpha3", "v1beta1", "v1beta2"]),
    ("scheduling.k8s.io", &["v1", "v1alpha2", "v1beta1"]),
    ("storage.k8s.io", &["v1", "v1alpha1", "v1beta1"]),
    ("storagemigration.k8s.io", &["v1beta1"]),
];
/// The groups whose kinds the documents of custom resources have not, since these are made of what upstream's clients know.
const UNKNOWN_TO_CLIENTS: [&str; 4] = ["admission.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io", "imagepolicy.k8s.io"];
/// The definitions that every version has.
const OF_ALL_VERSIONS: [&str; 2] = ["DeleteOptions", "WatchEvent"];

/// All wanted definitions and those they refer to, by full name with `io.k8s.`; `is_custom` where the document has custom resources alone.
pub fn schemas(wanted: BTreeSet<String>, group_version: &GroupVersion, is_custom: bool) -> Map<String, Value> {
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
        made.insert(full_name, schema(package, &definition, documented));
    }
    for name in OF_ALL_VERSIONS {
        let Some(definition) = made.get_mut(&format!("io.k8s.{META_V1}{name}")) else { continue };
        definition[KINDS] = if is_custom {
            kinds_of_all(name, |group| !UNKNOWN_TO_CLIENTS.contains(&group))
        } else {
            let core = json!({"group": "", "version": "v1", "kind": name});
            let own = json!({"group": &*group_version.group, "version": &*group_version.version, "kind": name});
            if own == core { json!([core]) } else { json!([core, own]) }
        };
    }
    made
}

/// Says of definitions that every version has that they are of all versions, as the document of all does.
pub fn of_all_versions(definitions: &mut Map<String, Value>) {
    for name in OF_ALL_VERSIONS {
        if let Some(definition) = definitions.get_mut(&format!("io.k8s.{META_V1}{name}")) {
            definition[KINDS] = kinds_of_all(name, |_| true);
        }
    }
}

fn kinds_of_all(name: &str, takes: impl Fn(&str) -> bool) -> Value {
    let versions =
        REGISTERED.iter().filter(|(group, _)| takes(group)).flat_map(|(group, versions)| versions.iter().map(move |version| (group, version)));
    versions.map(|(group, version)| json!({"group": group, "version": version, "kind": name})).collect()
}

/// The definition that a type leads to.
fn reference(package: &str, type_name: &str) -> Option<String> {
    let name = type_name.trim_start_matches("[]").trim_start_matches("{}").trim_start_matches("[]");
    if name.contains('.') { Some(name.to_owned()) } else { name.starts_with(|c: char| c.is_ascii_uppercase()).then(|| format!("{package}.{name}")) }
}

fn schema(package: &str, definition: &Definition, documented: Option<&Documented>) -> Value {
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
    if let Some((discriminator, fields)) = definition.union.and_then(|union| union.split_once(':')) {
        let fields: Map<String, Value> = fields.split(',').map(|field| (field.to_owned(), capital(field).into())).collect();
        let mut union = json!({"fields-to-discriminateBy": fields});
        if !discriminator.is_empty() {
            union["discriminator"] = discriminator.into();
        }
        schema["x-kubernetes-unions"] = json!([union]);
    }
    let kinds: Vec<Value> = definition
        .kinds
        .iter()
        .map(|kind| parse_gvk(kind))
        .map(|gvk| json!({"group": &*gvk.group, "version": &*gvk.version, "kind": &*gvk.kind}))
        .collect();
    if !kinds.is_empty() {
        schema[KINDS] = kinds.into();
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
    let required = required(definition);
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    schema
}

/// The names of required fields in the order in which Go declares them, which their numbers follow unless the table says otherwise.
fn required(definition: &Definition) -> Vec<&'static str> {
    if let Some(names) = definition.required {
        return names.split(',').collect();
    }
    let mut fields: Vec<&FieldLine> = definition.fields.iter().filter(|field| field.flags.contains('!')).collect();
    fields.sort_by_cached_key(|field| field.numbers.split('.').map(|number| number.parse().unwrap_or(u32::MAX)).collect::<Vec<u32>>());
    fields.into_iter().map(|field| field.name).collect()
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
    if let Some(values) = field.values {
        innermost(&mut schema)["enum"] = serde_json::from_str(values).expect("values in a table are JSON");
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

/// The schema of what a list or map holds; of any other value its own.
fn innermost(schema: &mut Value) -> &mut Value {
    for keyword in ["items", "additionalProperties"] {
        if schema.get(keyword).is_some() {
            return innermost(&mut schema[keyword]);
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
