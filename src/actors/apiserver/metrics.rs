//! What the API server counts behind its door.

use std::sync::Arc;

use troupe_api::{
    metrics::{Collect, Text},
    stored::StoredObject,
};

use super::cache::CacheTable;

/// Tells how many objects there are, and how far the watch caches are behind the store.
pub struct StoredObjects(pub Arc<CacheTable>);

impl Collect for StoredObjects {
    fn collect(&self, text: &mut Text) {
        let routes = self.0.routes();
        let mut counts: Vec<_> = routes
            .values()
            .map(|route| {
                let resource = &route.cache.resource;
                (resource.group.clone(), resource.plural.clone(), route.cache.load().objects.len() as u64)
            })
            .collect();
        counts.sort_unstable();
        text.family("apiserver_resource_objects", "Number of stored objects at the time of last check split by kind.", "gauge");
        for (group, resource, count) in &counts {
            text.count("apiserver_resource_objects", &[("group", group), ("resource", resource)], *count);
        }
        let help =
            "[DEPRECATED, consider using apiserver_resource_objects instead] Number of stored objects at the time of last check split by kind.";
        text.family("apiserver_storage_objects", help, "gauge");
        for (group, resource, count) in &counts {
            let name = if group.is_empty() { resource.to_string() } else { format!("{resource}.{group}") };
            text.count("apiserver_storage_objects", &[("resource", &name)], *count);
        }
        self.collect_freshness(text);
    }
}

impl StoredObjects {
    /// All pods, as the watch cache has them.
    pub fn pods(&self) -> Vec<Arc<StoredObject>> {
        let routes = self.0.routes();
        let of_pods = routes.values().find(|route| route.cache.resource.group.is_empty() && *route.cache.resource.plural == *"pods");
        of_pods.map_or_else(Vec::new, |route| route.cache.load().objects.values().cloned().collect())
    }

    fn collect_freshness(&self, text: &mut Text) {
        let routes = self.0.routes();
        let mut caches: Vec<_> = routes.values().map(|route| &route.cache).collect();
        caches.sort_unstable_by_key(|cache| (cache.resource.group.clone(), cache.resource.plural.clone()));
        text.family("apiserver_watch_cache_resource_version", "Current resource version of watch cache broken by resource type.", "gauge");
        for cache in &caches {
            let labels = [("group", &*cache.resource.group), ("resource", &*cache.resource.plural)];
            // As upstream: the last fifteen digits, which a float holds exactly.
            text.count("apiserver_watch_cache_resource_version", &labels, cache.applied.get().0 % 1_000_000_000_000_000);
        }
        let help = "Time since a change that a watch cache lacks was first known to lie in the store.";
        text.family("troupe_watch_cache_lag_seconds", help, "gauge");
        for cache in &caches {
            let labels = [("group", &*cache.resource.group), ("resource", &*cache.resource.plural)];
            text.sample("troupe_watch_cache_lag_seconds", &labels, cache.lag().as_secs_f64());
        }
    }
}
