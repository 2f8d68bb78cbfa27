//! The aggregated discovery document (`apidiscovery.k8s.io/v2`).

use serde_json::{Map, Value};
use troupe_api::resources::{Registry, Resource, Subresource};

use super::{
    forms::{AnyResource, GroupDiscovery, GroupDiscoveryList, ResourceDiscovery, ResponseKind, SubresourceDiscovery, VersionDiscovery},
    groups::{self, Group, foreign},
    legacy::sorted,
};

/// The document of `/api` (`core`) or of `/apis`.
pub fn document(registry: &Registry, core: bool) -> GroupDiscoveryList {
    let groups = groups::groups(registry);
    let items = groups.iter().filter(|group| group.name.is_empty() == core).map(|group| group_of(registry, group)).collect();
    GroupDiscoveryList { kind: "APIGroupDiscoveryList", api_version: "apidiscovery.k8s.io/v2", metadata: Map::new(), items }
}

fn group_of(registry: &Registry, group: &Group) -> GroupDiscovery {
    let version = |version: &std::sync::Arc<str>| {
        if let Some(remote) = registry.aggregated().version(&group.name, version) {
            let resources = remote.discovered.resources.iter().cloned().map(AnyResource::Elsewhere).collect();
            let freshness = if remote.discovered.stale { "Stale" } else { "Current" };
            return VersionDiscovery { version: version.clone(), resources, freshness };
        }
        let rows = groups::rows(registry, &group.name, version);
        let resources = rows.iter().map(|row| AnyResource::Here(resource_of(row, version))).collect();
        VersionDiscovery { version: version.clone(), resources, freshness: "Current" }
    };
    let name = (!group.name.is_empty()).then(|| ("name".to_owned(), Value::from(&*group.name)));
    GroupDiscovery { metadata: name.into_iter().collect(), versions: group.versions.iter().map(version).collect() }
}

fn resource_of(row: &Resource, version: &str) -> ResourceDiscovery {
    // Upstream leaves nothing out of the kind of what definitions make.
    let response_kind = if row.is_custom() {
        ResponseKind { group: row.group.to_string(), version: version.into(), kind: row.kind.clone() }
    } else {
        ResponseKind { group: String::new(), version: String::new(), kind: row.kind.clone() }
    };
    let subresources = groups::subresources(row, version);
    ResourceDiscovery {
        resource: row.plural.clone(),
        response_kind,
        scope: if row.namespaced { "Namespaced" } else { "Cluster" },
        singular_resource: row.singular.clone(),
        verbs: groups::verbs(row),
        short_names: row.short_names.clone(),
        categories: row.categories.clone(),
        subresources: subresources.into_iter().map(|subresource| subresource_of(row, version, subresource)).collect(),
    }
}

fn subresource_of(row: &Resource, version: &str, subresource: &Subresource) -> SubresourceDiscovery {
    let kind = &subresource.kind;
    let (group, version) = if row.is_custom() { (&*kind.group, &*kind.version) } else { foreign(row, version, kind).unwrap_or(("", "")) };
    let response_kind = ResponseKind { group: group.into(), version: version.into(), kind: subresource.kind.kind.clone() };
    SubresourceDiscovery { subresource: subresource.name, response_kind, verbs: sorted(subresource.verbs) }
}
