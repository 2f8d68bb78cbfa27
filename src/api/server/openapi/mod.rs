//! OpenAPI v3: one document per group and version, made from the schema tables, the resource table and, for
//! descriptions, the documentation that the Rust types carry. `v2` is the same in the words of OpenAPI v2.

mod components;
mod custom;
mod descriptions;
mod fingerprint;
mod operations;
mod parameters;
mod paths;
pub mod v2;

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use serde_json::{Value, json};
use troupe_api::{
    meta::{GroupVersion, GroupVersionKind},
    resources::{Registry, Resource},
    schema::Schemas,
};

use self::custom::Room;

/// The documents of all groups. Built-in kinds without a schema are left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct BuiltinOpenApi;

impl OpenApiSource for BuiltinOpenApi {
    fn document(&self, registry: &Registry, group_version: &GroupVersion) -> Option<Bytes> {
        document(registry, group_version, &mut Room::of_group()).map(|document| document.to_string().into())
    }

    fn hash(&self, rows: &[Arc<Resource>], group_version: &GroupVersion) -> Option<String> {
        fingerprint::of(rows, &group_version.version)
    }

    fn v2(&self, registry: &Registry) -> Option<OpenApiV2> {
        let document = v2::document(registry);
        Some(OpenApiV2 { message: v2::message(&document).into(), json: document.to_string().into() })
    }
}

/// The package of what all kinds share.
const META_V1: &str = "apimachinery.pkg.apis.meta.v1.";

/// Definitions that every document holds.
const COMMON: [&str; 5] = [
    "apimachinery.pkg.apis.meta.v1.APIResourceList",
    "apimachinery.pkg.apis.meta.v1.DeleteOptions",
    "apimachinery.pkg.apis.meta.v1.Patch",
    "apimachinery.pkg.apis.meta.v1.Status",
    "apimachinery.pkg.apis.meta.v1.WatchEvent",
];

/// The document of one group and version; `None` if nothing of it is served.
pub fn document(registry: &Registry, group_version: &GroupVersion, room: &mut Room) -> Option<Value> {
    let schemas = Schemas::builtin();
    let mut rows = registry.rows_of(&group_version.group);
    rows.retain(|row| row.serves(&group_version.version) && (row.is_custom() || schemas.definition_of(&row.gvk(&group_version.version)).is_some()));
    if rows.is_empty() {
        return None;
    }
    let mut wanted: BTreeSet<String> = COMMON.iter().map(|name| (*name).to_owned()).collect();
    let (mut paths, mut defined) = (serde_json::Map::new(), Vec::new());
    for row in &rows {
        if row.is_custom() {
            wanted.extend(["ObjectMeta", "ListMeta"].map(|name| format!("{META_V1}{name}")));
            defined.extend(custom::definitions(row, &group_version.version, room));
        }
        wanted.extend(kinds_of(row, &group_version.version).iter().filter_map(|gvk| schemas.definition_of(gvk)));
        paths::add(&mut paths, row, &group_version.version);
    }
    let mut schemas = components::schemas(wanted, group_version);
    for row in rows.iter().filter(|row| !row.is_custom()) {
        let list = Schemas::builtin().definition_of(&GroupVersionKind::new(row.group.clone(), group_version.version.clone(), row.list_kind()));
        if let Some(list) = list.and_then(|list| schemas.get_mut(&format!("io.k8s.{list}"))) {
            descriptions::describe_list(list, row, &row.kind);
        }
    }
    schemas.extend(defined);
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "unversioned"},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"BearerToken": {
                "type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header",
            }},
        },
    }))
}

/// The kinds that a resource's requests and replies carry.
fn kinds_of(row: &Resource, version: &str) -> Vec<GroupVersionKind> {
    let mut kinds = vec![row.gvk(version), GroupVersionKind::new(row.group.clone(), version, row.list_kind())];
    kinds.extend(row.version(version).subresources.iter().map(|subresource| row.subresource_gvk(subresource, version)));
    kinds
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
