//! Watch caches: one ordered store watch feeds an actor per resource, readers see immutable snapshots.
//!
//! [`StoreFeed`] routes the store's changes by key prefix to [`ResourceActor`]s. Each applies them to its
//! [`ResourceCache`], remembers them in its [`History`] and hands them to its `watchers`. Readers take a [`Snapshot`]
//! without locks; [`ResourceCache::fresh`] makes such a read linearizable.

mod delivery;
mod feed;
mod history;
mod messages;
pub mod metrics;
mod queue;
mod resource_actor;
mod selection;
mod sequence;
mod snapshot;
mod ticks;
mod watchers;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use arc_swap::ArcSwap;
use troupe_api::{
    meta::{Cause, Revision},
    resources::Resource,
    status::Status,
};

use crate::runtime::{host::UnitAddr, system::System};

pub use delivery::Delivery;
pub use feed::StoreFeed;
pub use history::{Change, Changes, History};
pub use messages::{Announce, Apply, Backlog, Begin, NoSubscription, Start, Subscribe, Subscription, Tick, Withdraw};
pub use queue::Queued;
pub use resource_actor::{CacheContext, ResourceActor};
pub use selection::Selection;
pub use sequence::Sequence;
pub use snapshot::{ResourceCache, Snapshot};
pub use ticks::Ticks;

/// One resource's cache and the actor that feeds it.
#[derive(Clone)]
pub struct Route {
    pub cache: Arc<ResourceCache>,
    pub actor: UnitAddr<ResourceActor>,
}

/// All caches by storage prefix. Rows that share a prefix share a cache.
#[derive(Default)]
pub struct CacheTable {
    routes: ArcSwap<HashMap<Arc<str>, Route>>,
}

impl CacheTable {
    pub fn routes(&self) -> Arc<HashMap<Arc<str>, Route>> {
        self.routes.load_full()
    }

    /// The cache of a resource; `None` for resources that are not stored.
    pub fn route(&self, resource: &Resource) -> Option<Route> {
        self.routes.load().get(&resource.storage_prefix).cloned()
    }

    /// The cache of a resource; `None` for resources that are not stored.
    pub fn cache(&self, resource: &Resource) -> Option<Arc<ResourceCache>> {
        self.routes.load().get(&resource.storage_prefix).map(|route| route.cache.clone())
    }

    /// Starts an actor at `apiserver/<resource>` for every stored row that has none yet.
    pub fn add_rows(&self, rows: &[Arc<Resource>], context: &CacheContext, system: &System) {
        let mut routes = (*self.routes.load_full()).clone();
        for row in rows.iter().filter(|row| row.is_stored()) {
            routes.entry(row.storage_prefix.clone()).or_insert_with(|| start(ResourceCache::new(row.clone()), context, system));
        }
        self.routes.store(Arc::new(routes));
    }

    /// Starts actors for custom resources that have none, and new ones for those of which something else is served now: open watches of
    /// those end. Returns the caches that are being filled.
    pub fn add_custom(&self, rows: &[Arc<Resource>], context: &CacheContext, system: &System) -> Vec<Route> {
        let is_new = |row: &&Arc<Resource>| self.cache(row).is_none_or(|cache| !Arc::ptr_eq(&cache.resource.storage, &row.storage));
        let mut routes = (*self.routes.load_full()).clone();
        let mut added = Vec::new();
        for row in rows.iter().filter(is_new) {
            // What it loads must not be older than what the feed brings: it begins when the feed knows it.
            let route = start(ResourceCache::held(row.clone()), context, system);
            if let Some(before) = routes.insert(row.storage_prefix.clone(), route.clone()) {
                route.cache.show(before.cache.load());
                before.cache.end();
            }
            added.push(route);
        }
        if !added.is_empty() {
            self.routes.store(Arc::new(routes));
        }
        for route in &added {
            route.cache.release();
            route.actor.wake(Begin, Cause::default());
        }
        added
    }

    /// Ends the caches of custom resources that are not in `rows`, and all watches of them.
    pub fn retain_custom(&self, rows: &[Arc<Resource>], system: &System) {
        let kept: HashSet<&str> = rows.iter().map(|row| &*row.storage_prefix).collect();
        let mut routes = (*self.routes.load_full()).clone();
        let mut gone = Vec::new();
        routes.retain(|prefix, route| {
            let stays = !route.cache.resource.is_custom() || kept.contains(&**prefix);
            if !stays {
                route.cache.end();
                gone.push(route.cache.resource.group_resource());
            }
            stays
        });
        if gone.is_empty() {
            return;
        }
        self.routes.store(Arc::new(routes));
        for resource in gone {
            system.stop(&format!("apiserver/{resource}"));
        }
    }
}

fn start(cache: ResourceCache, context: &CacheContext, system: &System) -> Route {
    let cache = Arc::new(cache);
    let (context, fed) = (context.clone(), cache.clone());
    let path = format!("apiserver/{}", cache.resource.group_resource());
    let policy = ResourceActor::policy(&cache.resource);
    let actor = system.spawn(path, policy, move |_| ResourceActor::new(fed.clone(), context.clone()));
    Route { cache, actor }
}

/// 410 in upstream's words: changes behind `requested` are forgotten, those behind `oldest` are there.
pub fn too_old(requested: Revision, oldest: Revision) -> Status {
    Status::expired(format!("too old resource version: {requested} ({oldest})"))
}
