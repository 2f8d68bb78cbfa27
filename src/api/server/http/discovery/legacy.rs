//! The documents of unaggregated discovery.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};
use troupe_api::{
    resources::{Registry, Resource, Subresource},
    service::Verb,
};

use super::{
    forms::{ApiGroup, ApiGroupList, ApiResource, ApiResourceList, ApiVersions, GroupVersionForDiscovery, ServerAddress},
    groups::{self, Group, foreign, group_version},
};

/// `/api`.
pub fn api_versions(registry: &Registry, advertise: &str) -> ApiVersions {
    let versions = groups::groups(registry).into_iter().find(|group| group.name.is_empty()).map_or_else(Vec::new, |group| group.versions);
    let address = ServerAddress { client_cidr: "0.0.0.0/0", server_address: advertise.to_owned() };
    ApiVersions { kind: "APIVersions", versions, server_addresses: [address] }
}

/// `/apis`.
pub fn group_list(registry: &Registry) -> ApiGroupList {
    let groups = groups::groups_by_service(registry).iter().filter(|group| !group.name.is_empty()).map(group_of).collect();
    ApiGroupList { kind: "APIGroupList", api_version: "v1", groups }
}

/// `/apis/G`.
pub fn group(registry: &Registry, name: &str) -> Option<ApiGroup> {
    let group = groups::groups(registry).into_iter().find(|group| &*group.name == name && !name.is_empty())?;
    Some(ApiGroup { kind: Some("APIGroup"), api_version: Some("v1"), ..group_of(&group) })
}

fn group_of(group: &Group) -> ApiGroup {
    let version = |version: &Arc<str>| GroupVersionForDiscovery { group_version: group_version(&group.name, version), version: version.clone() };
    let versions: Vec<_> = group.versions.iter().map(version).collect();
    ApiGroup { kind: None, api_version: None, name: group.name.clone(), preferred_version: versions.first().cloned(), versions }
}

/// `/api/V` and `/apis/G/V`.
pub fn resource_list(registry: &Registry, group: &str, version: &str) -> Option<ApiResourceList> {
    let rows = groups::rows(registry, group, version);
    if rows.is_empty() {
        return None;
    }
    let mut resources = Vec::new();
    for row in rows {
        resources.push(resource_of(row));
        resources.extend(groups::subresources(row, version).into_iter().map(|subresource| subresource_of(row, version, subresource)));
    }
    let api_version = (!group.is_empty()).then_some("v1");
    Some(ApiResourceList { kind: "APIResourceList", api_version, group_version: group_version(group, version), resources })
}

fn resource_of(row: &Resource) -> ApiResource {
    ApiResource {
        name: row.plural.to_string(),
        singular_name: row.singular.clone(),
        namespaced: row.namespaced,
        group: None,
        version: None,
        kind: row.kind.clone(),
        verbs: groups::verbs(row),
        short_names: row.short_names.clone(),
        categories: row.categories.clone(),
        storage_version_hash: row.verbs.contains(&Verb::Watch).then(|| storage_version_hash(row)),
    }
}

/// Tells clients when objects are stored under another version; upstream's `discovery.StorageVersionHash`.
fn storage_version_hash(row: &Resource) -> String {
    let gvk = row.storage_gvk();
    let version = row.hashed_version.unwrap_or(&gvk.version);
    STANDARD.encode(&Sha256::digest(format!("{}/{version}/{}", gvk.group, gvk.kind))[..8])
}

fn subresource_of(row: &Resource, version: &str, subresource: &Subresource) -> ApiResource {
    let foreign = foreign(row, version, &subresource.kind);
    ApiResource {
        name: format!("{}/{}", row.plural, subresource.name),
        singular_name: "".into(),
        namespaced: row.namespaced,
        group: foreign.map(|(group, _)| group.to_owned()),
        version: foreign.map(|(_, version)| version.to_owned()),
        kind: subresource.kind.kind.clone(),
        verbs: sorted(subresource.verbs),
        short_names: Vec::new(),
        categories: Vec::new(),
        storage_version_hash: None,
    }
}

/// Verbs in alphabetical order.
pub fn sorted(verbs: &[&'static str]) -> Vec<&'static str> {
    let mut verbs = verbs.to_vec();
    verbs.sort_unstable();
    verbs
}
