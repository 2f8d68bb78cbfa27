//! What the watch caches count.

use troupe_api::metrics::{Collect, Counter, Family};

const LABELS: [&str; 2] = ["group", "resource"];

static RECEIVED: Family<Counter> = Family::new("apiserver_storage_events_received_total", "Number of etcd events received split by kind.", &LABELS);

static DISPATCHED: Family<Counter> =
    Family::new("apiserver_watch_cache_events_dispatched_total", "Counter of events dispatched in watch cache broken by resource type.", &LABELS);

static TERMINATED: Family<Counter> =
    Family::new("apiserver_terminated_watchers_total", "Counter of watchers closed due to unresponsiveness broken by resource type.", &LABELS);

/// How often the watch on the store was a second behind it.
pub static FEED_EPISODES: Family<Counter> =
    Family::new("troupe_store_watch_lag_episodes_total", "How often the watch on the store was a second behind it.", &[]);

/// Watches on the store that were stuck.
pub static FEED_REPLACEMENTS: Family<Counter> =
    Family::new("troupe_store_watch_replacements_total", "Watches on the store that were replaced because they were stuck.", &[]);

/// What the watch caches count.
pub static COLLECTORS: [&dyn Collect; 5] = [&RECEIVED, &TERMINATED, &DISPATCHED, &FEED_EPISODES, &FEED_REPLACEMENTS];

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
        CacheCounts { received: RECEIVED.find(&labels), dispatched: DISPATCHED.find(&labels), terminated: TERMINATED.find(&labels) }
    }
}
