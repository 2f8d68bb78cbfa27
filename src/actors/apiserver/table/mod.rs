//! The live resource table: the built-in rows, and those of custom resource definitions as they come, change and go.
//!
//! [`LiveTable`] is the only one that swaps the registry. A row is published when its watch cache is filled, and unpublished before its cache
//! goes. Whoever follows the table takes the registry of the moment (`ApiService::registry`); documents made of one are remembered by its
//! identity. Where a definition says something else of its resource, the cache is made anew and open watches end, as upstream's do.

mod gone;
mod rows;

use std::{collections::HashMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use troupe_api::{
    meta::GroupResource,
    resources::{Registry, Resource, aggregated::Aggregated},
};

use self::{gone::Gone, rows::Rows};
use super::{
    cache::{CacheContext, ResourceCache, Sequence, Snapshot},
    listers::CacheListers,
};
use crate::runtime::{
    host::{Unit, UnitContext},
    system::System,
};

/// How long the caches of new resources may take to fill before their rows are published all the same: reads wait for them then.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long whoever wants to know what is served waits for what definitions said before.
const SETTLING: Duration = Duration::from_secs(1);

/// The owner of the resource table.
pub struct LiveTable {
    builtin: Vec<Arc<Resource>>,
    rows: Mutex<Rows>,
    gone: parking_lot::Mutex<Gone>,
    /// What other servers answer for, as it was told last.
    aggregated: ArcSwap<Aggregated>,
    /// Up to which change of the definitions the table is what they say.
    followed: Sequence,
    listers: Arc<CacheListers>,
    context: CacheContext,
    system: System,
}

/// The resource of custom resource definitions.
pub fn definitions() -> GroupResource {
    GroupResource::new("apiextensions.k8s.io", "customresourcedefinitions")
}

impl LiveTable {
    pub fn new(builtin: Vec<Arc<Resource>>, listers: Arc<CacheListers>, context: CacheContext, system: System) -> Self {
        LiveTable {
            rows: Mutex::new(Rows::new(&builtin)),
            gone: parking_lot::Mutex::default(),
            aggregated: ArcSwap::default(),
            followed: Sequence::default(),
            builtin,
            listers,
            context,
            system,
        }
    }

    /// The cache of the definitions; `None` where the API has none.
    pub fn cache(&self) -> Option<Arc<ResourceCache>> {
        let name = definitions();
        let row = self.builtin.iter().find(|row| row.group_resource() == name)?;
        self.listers.caches.cache(row)
    }

    /// Makes the table what `definitions` say.
    pub async fn follow(&self, definitions: &Snapshot) {
        let mut rows = self.rows.lock().await;
        if rows.follow(definitions.objects.values()) {
            self.take_over(rows.resources().cloned().collect()).await;
        }
        self.followed.advance(definitions.revision);
    }

    /// The registry, when it is what the definitions say that anybody can have read; after a second, as it is.
    pub async fn settled(&self) -> Arc<Registry> {
        if let Some(cache) = self.cache() {
            let seen = cache.load().revision;
            if tokio::time::timeout(SETTLING, self.followed.reached(seen)).await.is_err() {
                tracing::debug!("the resource table is behind the definitions");
            }
        }
        self.listers.registry.load_full()
    }

    /// Makes these the custom resources that there are.
    async fn take_over(&self, custom: Vec<Arc<Resource>>) {
        self.publish_changed(&custom);
        let caches = &self.listers.caches;
        let filling = caches.add_custom(&custom, &self.context, &self.system);
        if !filling.is_empty() {
            let filled = async {
                for route in &filling {
                    route.cache.filled().await;
                }
            };
            if tokio::time::timeout(PATIENCE, filled).await.is_err() {
                tracing::warn!("caches of custom resources fill slowly");
            }
        }
        self.publish(custom.iter().cloned());
        caches.retain_custom(&custom, &self.system);
        self.gone.lock().follow(&custom);
    }

    /// Publishes rows that are served already and change: whoever reads what the new row says writes by it from then on.
    fn publish_changed(&self, custom: &[Arc<Resource>]) {
        let registry = self.listers.registry.load();
        let served: HashMap<&str, &Arc<Resource>> = registry.rows().iter().map(|row| (&*row.storage_prefix, row)).collect();
        let before = |row: &Arc<Resource>| served.get(&*row.storage_prefix).copied();
        if custom.iter().any(|row| before(row).is_some_and(|before| !Arc::ptr_eq(before, row))) {
            self.publish(custom.iter().filter(|row| before(row).is_some()).cloned());
        }
    }

    fn publish(&self, custom: impl Iterator<Item = Arc<Resource>>) {
        let registry = Registry::new(self.builtin.iter().cloned().chain(custom).collect());
        self.listers.registry.store(Arc::new(registry.with_aggregated(self.aggregated.load_full())));
    }

    /// From the next publication on, this is what other servers answer for.
    pub fn note_aggregated(&self, aggregated: Arc<Aggregated>) {
        self.aggregated.store(aggregated);
    }

    /// Publishes what was noted.
    pub async fn publish_aggregated(&self) {
        // Whoever changes the rows publishes them when it is done.
        let _rows = self.rows.lock().await;
        let rows = self.listers.registry.load().rows().to_vec();
        let registry = Registry::new(rows).with_aggregated(self.aggregated.load_full());
        self.listers.registry.store(Arc::new(registry));
    }
}

/// The unit at `apiserver/resource-table`: keeps the table behind the definitions.
pub struct TableFollower {
    table: Arc<LiveTable>,
}

impl TableFollower {
    pub fn new(table: Arc<LiveTable>) -> Self {
        TableFollower { table }
    }
}

impl Unit for TableFollower {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        let table = self.table.clone();
        let Some(cache) = table.cache() else { return };
        cx.spawn(async move {
            loop {
                let seen = cache.applied.get();
                table.follow(&cache.load()).await;
                cache.applied.reached(seen.next()).await;
            }
        });
    }

    fn observe(&self) -> Value {
        json!({"resources": self.table.listers.registry.load().rows().len()})
    }
}
