//! The aggregated discovery document (`apidiscovery.k8s.io/v2`).

use serde_json::{Value, json};

use super::{
    groups::{self, Group, foreign},
    legacy::sorted,
};
use crate::resources::{Registry, Resource, Subresource};

/// The document of `/api` (`core`) or of `/apis`.
pub fn document(registry: &Registry, core: bool) -> Value {
    let items: Vec<_> =
        groups::groups(registry).iter().filter(|group| group.name.is_empty() == core).map(|group| group_value(registry, group)).collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn group_value(registry: &Registry, group: &Group) -> Value {
    let versions: Vec<_> = group
        .versions
        .iter()
        .map(|version| {
            let rows = groups::rows(registry, &group.name, version);
            let resources: Vec<_> = rows.iter().map(|row| resource_value(row, version)).collect();
            json!({"version": version, "freshness": "Current", "resources": resources})
        })
        .collect();
    let metadata = if group.name.is_empty() { json!({}) } else { json!({"name": group.name}) };
    json!({"metadata": metadata, "versions": versions})
}

fn resource_value(row: &Resource, version: &str) -> Value {
    let mut value = json!({
        "resource": row.plural, "responseKind": {"group": "", "version": "", "kind": row.kind},
        "scope": if row.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": row.singular, "verbs": groups::verbs(row),
    });
    if !row.short_names.is_empty() {
        value["shortNames"] = json!(row.short_names);
    }
    if !row.categories.is_empty() {
        value["categories"] = json!(row.categories);
    }
    if !row.subresources.is_empty() {
        let mut subresources: Vec<_> = row.subresources.iter().collect();
        subresources.sort_by_key(|subresource| subresource.name);
        value["subresources"] = subresources.into_iter().map(|subresource| subresource_value(row, version, subresource)).collect();
    }
    value
}

fn subresource_value(row: &Resource, version: &str, subresource: &Subresource) -> Value {
    let (group, version) = foreign(row, version, &subresource.kind).unwrap_or(("", ""));
    json!({
        "subresource": subresource.name, "verbs": sorted(subresource.verbs),
        "responseKind": {"group": group, "version": version, "kind": subresource.kind.kind},
    })
}
