//! The live resource table and the watch caches of its rows, as all parts of the server share them.

use std::sync::Arc;

use arc_swap::ArcSwap;
use troupe_api::{
    meta::{GroupResource, ObjectKey, Revision},
    resources::{Registry, Resource},
    service::{ListerChange, ListerState, Listers, ResourceSize},
    status::Status,
    stored::StoredObject,
};

use super::cache::{CacheTable, ResourceCache, Route, Snapshot};

/// Synchronous reads of the caches; outlives requests.
pub struct CacheListers {
    pub registry: ArcSwap<Registry>,
    pub caches: Arc<CacheTable>,
}

impl CacheListers {
    /// The cache of a stored resource; 404 for what is not stored.
    pub fn cache(&self, resource: &Resource) -> Result<Arc<ResourceCache>, Status> {
        self.caches.cache(resource).ok_or_else(Status::page_not_found)
    }

    /// The cache of a stored resource with its actor.
    pub fn route(&self, resource: &Resource) -> Result<Route, Status> {
        self.caches.route(resource).ok_or_else(Status::page_not_found)
    }

    /// The newest change of a stored resource that all watches of it have been told of.
    pub fn announced(&self, resource: &GroupResource) -> Option<Revision> {
        let row = self.row(&resource.group, &resource.resource)?;
        Some(self.caches.cache(&row)?.announced())
    }

    /// The row of a resource.
    pub fn row(&self, group: &str, plural: &str) -> Option<Arc<Resource>> {
        self.registry.load().by_resource(group, plural)
    }
}

impl Listers for CacheListers {
    fn get(&self, resource: &GroupResource, key: &ObjectKey) -> Option<Arc<StoredObject>> {
        let row = self.registry.load().by_resource(&resource.group, &resource.resource)?;
        self.caches.cache(&row)?.get(key)
    }

    fn list(&self, resource: &GroupResource, namespace: &str) -> Vec<Arc<StoredObject>> {
        let Some(row) = self.registry.load().by_resource(&resource.group, &resource.resource) else { return Vec::new() };
        let Some(cache) = self.caches.cache(&row) else { return Vec::new() };
        cache.load().scan(namespace, None).cloned().collect()
    }

    fn is_known(&self, resource: &GroupResource) -> bool {
        let row = self.registry.load().by_resource(&resource.group, &resource.resource);
        let Some(cache) = row.and_then(|row| self.caches.cache(&row)) else { return true };
        let is_known = !cache.load().has_unknown();
        if !is_known {
            cache.load_again();
        }
        is_known
    }

    fn size(&self, resource: &GroupResource) -> Option<ResourceSize> {
        let row = self.registry.load().by_resource(&resource.group, &resource.resource)?;
        let snapshot = self.caches.cache(&row)?.load();
        Some(ResourceSize { objects: snapshot.objects.len(), bytes: snapshot.bytes })
    }

    fn version(&self, resource: &GroupResource) -> Option<Revision> {
        let row = self.registry.load().by_resource(&resource.group, &resource.resource)?;
        Some(self.caches.cache(&row)?.load().revision)
    }

    fn changes(&self, resource: &GroupResource, since: Option<&ListerState>) -> (ListerState, Vec<ListerChange>) {
        let row = self.registry.load().by_resource(&resource.group, &resource.resource);
        let cache = row.and_then(|row| self.caches.cache(&row));
        let now = cache.map(|cache| cache.load()).unwrap_or_default();
        let before = since.and_then(|state| state.clone().downcast::<Snapshot>().ok()).unwrap_or_default();
        let changes = before.changes_to(&now);
        (now, changes)
    }
}
