//! OpenAPI v3: one document per group and version, made from the schema tables, the resource table and, for
//! descriptions, the documentation that the Rust types carry. `v2` is the same in the words of OpenAPI v2.

mod components;
mod descriptions;
mod operations;
mod parameters;
mod paths;
pub mod v2;

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::{Value, json};

use super::Schemas;
use crate::{
    http::{OpenApiSource, OpenApiV2},
    meta::{GroupVersion, GroupVersionKind},
    resources::{Registry, Resource},
};

/// The documents of built-in groups. Kinds without a built-in schema are left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct BuiltinOpenApi;

impl OpenApiSource for BuiltinOpenApi {
    fn document(&self, registry: &Registry, group_version: &GroupVersion) -> Option<Bytes> {
        document(registry, group_version).map(|document| document.to_string().into())
    }

    fn v2(&self, registry: &Registry) -> Option<OpenApiV2> {
        let document = v2::document(registry);
        Some(OpenApiV2 { message: v2::message(&document).into(), json: document.to_string().into() })
    }
}

/// Definitions that every document holds.
const COMMON: [&str; 5] = [
    "apimachinery.pkg.apis.meta.v1.APIResourceList",
    "apimachinery.pkg.apis.meta.v1.DeleteOptions",
    "apimachinery.pkg.apis.meta.v1.Patch",
    "apimachinery.pkg.apis.meta.v1.Status",
    "apimachinery.pkg.apis.meta.v1.WatchEvent",
];

/// The document of one group and version; `None` if nothing of it is served.
pub fn document(registry: &Registry, group_version: &GroupVersion) -> Option<Value> {
    let schemas = Schemas::builtin();
    let rows = registry
        .rows()
        .iter()
        .filter(|row| row.group == group_version.group && row.serves(&group_version.version))
        .filter(|row| schemas.definition_of(&row.gvk(&group_version.version)).is_some())
        .collect::<Vec<_>>();
    if rows.is_empty() {
        return None;
    }
    let mut wanted: BTreeSet<String> = COMMON.iter().map(|name| (*name).to_owned()).collect();
    let mut paths = serde_json::Map::new();
    for row in rows {
        wanted.extend(kinds_of(row, &group_version.version).iter().filter_map(|gvk| schemas.definition_of(gvk)));
        paths::add(&mut paths, row, &group_version.version);
    }
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "unversioned"},
        "paths": paths,
        "components": {
            "schemas": components::schemas(wanted, group_version),
            "securitySchemes": {"BearerToken": {
                "type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header",
            }},
        },
    }))
}

/// The kinds that a resource's requests and replies carry.
fn kinds_of(row: &Resource, version: &str) -> Vec<GroupVersionKind> {
    let mut kinds = vec![row.gvk(version), GroupVersionKind::new(row.group.clone(), version, row.list_kind())];
    kinds.extend(row.subresources.iter().map(|subresource| row.subresource_gvk(subresource, version)));
    kinds
}

#[cfg(test)]
mod tests;
