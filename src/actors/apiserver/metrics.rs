//! What the API server counts behind its door.

use std::sync::Arc;

use troupe_api::metrics::{Collect, Text};

use super::cache::CacheTable;

/// Tells how many objects there are.
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
    }
}
