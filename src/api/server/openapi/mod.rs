//! OpenAPI v3: one document per group and version, made from the schema tables, the resource table and, for
//! descriptions, the documentation that the Rust types carry. `v2` is the same in the words of OpenAPI v2.

mod components;
mod custom;
mod descriptions;
mod discovery;
mod fingerprint;
mod operations;
mod order;
mod parameters;
mod paths;
pub mod v2;

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use serde_json::{Map, Value, json};

use self::{custom::Room, order::Form};
use troupe_api::{
    meta::{GroupVersion, GroupVersionKind},
    resources::{Registry, Resource},
    schema::Schemas,
};

/// The documents of all groups. Built-in kinds without a schema are left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct BuiltinOpenApi;

impl OpenApiSource for BuiltinOpenApi {
    fn document(&self, registry: &Registry, group_version: &GroupVersion) -> Option<Bytes> {
        document(registry, group_version, &mut Room::of_group()).map(|document| order::bytes(&document, Form::Document).into())
    }

    fn pages(&self, registry: &Registry) -> Vec<String> {
        discovery::pages(registry)
    }

    fn page(&self, path: &str) -> Option<Bytes> {
        page(path).map(|document| order::bytes(&document, Form::Document).into())
    }

    fn hash(&self, rows: &[Arc<Resource>], group_version: &GroupVersion) -> Option<String> {
        fingerprint::of(rows, &group_version.version)
    }

    fn v2(&self, registry: &Registry) -> Option<OpenApiV2> {
        let document = v2::document(registry);
        Some(OpenApiV2 { message: v2::message(&document).into(), json: order::bytes(&document, Form::Swagger).into() })
    }
}

/// The package of what all kinds share.
const META_V1: &str = "apimachinery.pkg.apis.meta.v1.";

/// The version of the API that documents of built-in kinds are of, as upstream's servers say it of the version that they emulate.
const VERSION: &str = "1.36";

/// The document of one group and version; `None` if nothing of it is served. Custom resources are told of once they are established.
pub fn document(registry: &Registry, group_version: &GroupVersion, room: &mut Room) -> Option<Value> {
    let mut rows = registry.rows_of(&group_version.group);
    let is_described = |row: &Resource| row.is_custom() || Schemas::builtin().definition_of(&row.gvk(&group_version.version)).is_some();
    rows.retain(|row| row.is_told && row.serves(&group_version.version) && is_described(row));
    if rows.is_empty() {
        return None;
    }
    let is_custom = rows.iter().all(|row| row.is_custom());
    let (mut paths, mut defined) = (Map::new(), Vec::new());
    for row in &rows {
        defined.extend(custom::definitions(row, &group_version.version, room));
        paths::add(&mut paths, row, &group_version.version);
    }
    if !is_custom {
        discovery::add(&mut paths, &group_version.group, &group_version.version);
    }
    let mut wanted = references(&paths);
    if !defined.is_empty() {
        wanted.extend(["ObjectMeta", "ListMeta"].map(|name| format!("{META_V1}{name}")));
    }
    let mut schemas = components::schemas(wanted, group_version, is_custom);
    for row in rows.iter().filter(|row| !row.is_custom()) {
        let list = Schemas::builtin().definition_of(&GroupVersionKind::new(row.group.clone(), group_version.version.clone(), row.list_kind()));
        if let Some(list) = list.and_then(|list| schemas.get_mut(&format!("io.k8s.{list}"))) {
            descriptions::describe_list(list, row, &row.kind);
        }
    }
    schemas.extend(defined);
    Some(if is_custom { of_definitions(paths, schemas) } else { of_server(paths, schemas) })
}

/// The document of a path that is of no version of a group.
fn page(path: &str) -> Option<Value> {
    let paths = discovery::page(path)?.paths(path);
    let schemas = schemas_of_page(&paths);
    Some(of_server(paths, schemas))
}

fn schemas_of_page(paths: &Map<String, Value>) -> Map<String, Value> {
    components::schemas(references(paths), &GroupVersion::new("", ""), false)
}

/// The version of the form of documents.
const OPENAPI: &str = "3.0.0";

/// A document of what is built in.
fn of_server(paths: Map<String, Value>, schemas: Map<String, Value>) -> Value {
    let mut components = json!({"securitySchemes": {"BearerToken": {
        "type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header",
    }}});
    if !schemas.is_empty() {
        components["schemas"] = schemas.into();
    }
    of_parts(json!({"title": "Kubernetes", "version": VERSION}), paths, components)
}

/// A document of custom resources. Upstream's says neither what cluster it is of nor how to authenticate.
fn of_definitions(paths: Map<String, Value>, schemas: Map<String, Value>) -> Value {
    let components: Map<String, Value> = Map::from_iter([("schemas".to_owned(), Value::Object(schemas))]);
    of_parts(json!({"title": "Kubernetes CRD Swagger", "version": "v0.1.0"}), paths, components.into())
}

fn of_parts(info: Value, paths: Map<String, Value>, components: Value) -> Value {
    // They are long, so they are moved.
    let parts = [("openapi", OPENAPI.into()), ("info", info), ("paths", Value::Object(paths)), ("components", components)];
    Value::Object(parts.map(|(name, part): (&str, Value)| (name.to_owned(), part)).into_iter().collect())
}

/// The built-in definitions that paths name, without `io.k8s.`.
fn references(paths: &Map<String, Value>) -> BTreeSet<String> {
    fn find(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                let name = fields.get("$ref").and_then(Value::as_str).and_then(|target| target.strip_prefix("#/components/schemas/io.k8s."));
                if let Some(name) = name.filter(|name| !found.contains(*name)) {
                    found.insert(name.to_owned());
                }
                fields.values().for_each(|value| find(value, found));
            }
            Value::Array(items) => items.iter().for_each(|item| find(item, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    paths.values().for_each(|item| find(item, &mut found));
    found
}

#[cfg(test)]
mod tests;

/// Makes OpenAPI v3 documents.
pub trait OpenApiSource: Send + Sync + 'static {
    /// The document of a group and version, JSON encoded; `None` where nothing of it is served.
    fn document(&self, registry: &Registry, group_version: &GroupVersion) -> Option<Bytes>;

    /// A hash of what the document of these rows will be made of, where that costs less than making it. The same document has the same on
    /// every server of a release.
    fn hash(&self, _rows: &[Arc<Resource>], _group_version: &GroupVersion) -> Option<String> {
        None
    }

    /// The paths of the documents that are of no version of a group, such as `apis/apps`.
    fn pages(&self, _registry: &Registry) -> Vec<String> {
        Vec::new()
    }

    /// The document of such a path, JSON encoded, which says the same whatever is served.
    fn page(&self, _path: &str) -> Option<Bytes> {
        None
    }

    /// The v2 document of all that is served.
    fn v2(&self, _registry: &Registry) -> Option<OpenApiV2> {
        None
    }
}

/// An OpenAPI v2 document in both of its encodings.
#[derive(Clone, Debug)]
pub struct OpenApiV2 {
    pub json: Bytes,
    pub message: Bytes,
}
