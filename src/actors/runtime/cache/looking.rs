//! Looks once a second how far the caches of one identity are behind what the API service has told its watches. There is one timer for all of
//! them, one question where it is time for one, and no cache is woken.

#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};
use troupe_api::{ApiService, meta::GroupResource};
use troupe_api_client::Client;

use crate::runtime::{
    freshness::Freshness,
    system::{System, TaskHandle},
};

/// From one look to the next; an answer that takes longer is not waited for.
const LOOK: Duration = Duration::from_secs(1);

/// Looks at caches, until it is dropped.
pub struct Lags {
    system: System,
    service: Arc<dyn ApiService>,
    followed: Arc<Followed>,
    /// From the first cache on.
    task: OnceLock<TaskHandle>,
}

impl Lags {
    /// Of caches that are fed through `client`.
    pub fn new(system: &System, client: &Client) -> Self {
        Lags { system: system.clone(), service: client.service().clone(), followed: Arc::default(), task: OnceLock::new() }
    }

    /// Lists a cache that is fed by a watch of `resource`, and looks how far it is behind, for as long as it lives.
    pub fn follow(&self, cache: &Arc<Freshness>, resource: GroupResource) {
        self.system.directory().list_cache(cache);
        self.followed.add(cache, resource);
        self.task.get_or_init(|| {
            let (followed, service) = (self.followed.clone(), self.service.clone());
            self.system.spawn_task("caches", move || look(followed.clone(), service.clone()))
        });
    }
}

/// The caches that are looked at, with what they watch.
#[derive(Debug, Default)]
struct Followed(Mutex<Vec<(Weak<Freshness>, GroupResource)>>);

impl Followed {
    fn add(&self, cache: &Arc<Freshness>, resource: GroupResource) {
        self.0.lock().push((Arc::downgrade(cache), resource));
    }

    /// Those that live, and what they watch, in one order. The others are forgotten.
    fn living(&self) -> (Vec<Arc<Freshness>>, Vec<GroupResource>) {
        let mut followed = self.0.lock();
        followed.retain(|(cache, _)| cache.strong_count() > 0);
        followed.iter().filter_map(|(cache, resource)| Some((cache.upgrade()?, resource.clone()))).unzip()
    }
}

/// Looks for ever.
async fn look(followed: Arc<Followed>, service: Arc<dyn ApiService>) {
    let mut ask_at = Instant::now();
    loop {
        sleep(LOOK).await;
        let (caches, resources) = followed.living();
        let mut announced = Vec::new();
        if Instant::now() >= ask_at
            && let Ok(told) = timeout(LOOK, service.announced(resources)).await
        {
            ask_at = Instant::now() + told.ask_again;
            announced = told.revisions;
        }
        let now = Instant::now().into_std();
        for (at, cache) in caches.iter().enumerate() {
            cache.look(announced.get(at).copied().flatten(), now);
        }
    }
}
