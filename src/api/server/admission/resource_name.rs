//! A resource in one of its versions, and those in which the same objects are served.

use std::sync::Arc;

use troupe_api::{
    resources::{Registry, Resource},
    service::Target,
};

/// A resource in one of its versions.
#[derive(Clone, Debug)]
pub struct ResourceName {
    pub row: Arc<Resource>,
    pub version: Arc<str>,
}

impl ResourceName {
    /// The resource that a request addresses.
    pub fn requested(target: &Target) -> Self {
        ResourceName { row: target.resource.clone(), version: target.version.clone() }
    }
}

/// The other resources and versions in which the same objects are served.
pub fn equivalents(registry: &Registry, own: &ResourceName, subresource: &str) -> Vec<ResourceName> {
    let rows = registry.rows().iter().filter(|row| row.storage_prefix == own.row.storage_prefix);
    let all = rows.flat_map(|row| row.served.iter().map(move |served| (row, served)));
    let others = all.filter(|(row, served)| row.group != own.row.group || row.plural != own.row.plural || served.version != own.version);
    let others = others.filter(|(_, served)| subresource.is_empty() || served.subresource(subresource).is_some());
    others.map(|(row, served)| ResourceName { row: row.clone(), version: served.version.clone() }).collect()
}
