//! The documents of unaggregated discovery.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::groups::{self, Group, foreign, group_version};
use crate::{
    resources::{Registry, Resource, Subresource},
    service::Verb,
};

/// `/api`.
pub fn api_versions(registry: &Registry, advertise: &str) -> Value {
    let versions = groups::groups(registry).into_iter().find(|group| group.name.is_empty()).map_or_else(Vec::new, |group| group.versions);
    json!({
        "kind": "APIVersions", "versions": versions,
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": advertise}],
    })
}

/// `/apis`.
pub fn group_list(registry: &Registry) -> Value {
    let groups: Vec<_> = groups::groups(registry).iter().filter(|group| !group.name.is_empty()).map(group_value).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/G`.
pub fn group(registry: &Registry, name: &str) -> Option<Value> {
    let group = groups::groups(registry).into_iter().find(|group| &*group.name == name && !name.is_empty())?;
    let mut value = group_value(&group);
    value["kind"] = "APIGroup".into();
    value["apiVersion"] = "v1".into();
    Some(value)
}

fn group_value(group: &Group) -> Value {
    let versions: Vec<_> =
        group.versions.iter().map(|version| json!({"groupVersion": group_version(&group.name, version), "version": version})).collect();
    json!({"name": group.name, "preferredVersion": versions.first(), "versions": versions})
}

/// `/api/V` and `/apis/G/V`.
pub fn resource_list(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let rows = groups::rows(registry, group, version);
    if rows.is_empty() {
        return None;
    }
    let mut resources: Vec<Value> = Vec::new();
    for row in rows {
        resources.push(resource_value(row));
        let mut subresources: Vec<_> = row.subresources.iter().collect();
        subresources.sort_by_key(|subresource| subresource.name);
        resources.extend(subresources.into_iter().map(|subresource| subresource_value(row, version, subresource)));
    }
    let mut list = json!({"kind": "APIResourceList", "groupVersion": group_version(group, version), "resources": resources});
    // Upstream leaves apiVersion out for the core group alone.
    if !group.is_empty() {
        list["apiVersion"] = "v1".into();
    }
    Some(list)
}

fn resource_value(row: &Resource) -> Value {
    let mut value = json!({
        "name": row.plural, "singularName": row.singular, "namespaced": row.namespaced, "kind": row.kind, "verbs": groups::verbs(row),
    });
    if !row.short_names.is_empty() {
        value["shortNames"] = json!(row.short_names);
    }
    if !row.categories.is_empty() {
        value["categories"] = json!(row.categories);
    }
    if row.verbs.contains(&Verb::Watch) {
        value["storageVersionHash"] = storage_version_hash(row).into();
    }
    value
}

/// Tells clients when objects are stored under another version.
fn storage_version_hash(row: &Resource) -> String {
    let gvk = row.storage_gvk();
    STANDARD.encode(&Sha256::digest(format!("{}/{}/{}", gvk.group, gvk.version, gvk.kind))[..8])
}

fn subresource_value(row: &Resource, version: &str, subresource: &Subresource) -> Value {
    let mut value = json!({
        "name": format!("{}/{}", row.plural, subresource.name), "singularName": "", "namespaced": row.namespaced,
        "kind": subresource.kind.kind, "verbs": sorted(subresource.verbs),
    });
    if let Some((group, version)) = foreign(row, version, &subresource.kind) {
        value["group"] = group.into();
        value["version"] = version.into();
    }
    value
}

/// Verbs in alphabetical order.
pub fn sorted(verbs: &[&'static str]) -> Vec<&'static str> {
    let mut verbs = verbs.to_vec();
    verbs.sort_unstable();
    verbs
}
