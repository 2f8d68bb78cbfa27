//! What the API server counts behind its door.

use std::sync::Arc;

use troupe_api::metrics::{Collect, Counter, Family, Text};

use super::cache::CacheTable;

const LABELS: [&str; 2] = ["group", "resource"];

static RECEIVED: Family<Counter> = Family::new("apiserver_storage_events_received_total", "Number of etcd events received split by kind.", &LABELS);
static DISPATCHED: Family<Counter> =
    Family::new("apiserver_watch_cache_events_dispatched_total", "Counter of events dispatched in watch cache broken by resource type.", &LABELS);
static TERMINATED: Family<Counter> =
    Family::new("apiserver_terminated_watchers_total", "Counter of watchers closed due to unresponsiveness broken by resource type.", &LABELS);

/// What the watch caches count.
pub static COLLECTORS: [&dyn Collect; 3] = [&RECEIVED, &TERMINATED, &DISPATCHED];

/// The series of one resource's watch cache.
#[derive(Clone, Copy, Debug)]
pub struct CacheCounts {
    /// Changes that came from the store.
    pub received: &'static Counter,
    /// Changes handed to watchers.
    pub dispatched: &'static Counter,
    /// Watchers that were too slow.
    pub terminated: &'static Counter,
}

impl CacheCounts {
    pub fn of(resource: &troupe_api::resources::Resource) -> Self {
        let labels = [&*resource.group, &*resource.plural];
        CacheCounts { received: RECEIVED.with(&labels), dispatched: DISPATCHED.with(&labels), terminated: TERMINATED.with(&labels) }
    }
}

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
