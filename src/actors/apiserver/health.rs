//! What `/healthz`, `/livez` and `/readyz` ask of the API server.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use troupe_api::{
    http::{HealthCheck, HealthGroups},
    meta::Revision,
    store::{Store, StoreError},
};

use super::cache::CacheTable;

/// How long the store may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// All checks, under upstream's names and in its order. The server is about to stop once `leaving` is set.
pub fn checks(store: &Arc<dyn Store>, caches: &Arc<CacheTable>, leaving: &Arc<AtomicBool>) -> Vec<HealthCheck> {
    let answers = |name, groups| {
        let store = store.clone();
        HealthCheck::new(name, groups, move || {
            let store = store.clone();
            async move { store_answers(store.current_revision(), PATIENCE).await }
        })
    };
    let (caches, leaving) = (caches.clone(), leaving.clone());
    vec![
        answers("etcd", HealthGroups::ALL),
        answers("etcd-readiness", HealthGroups::READY_ONLY),
        HealthCheck::new("informer-sync", HealthGroups::READY_ONLY, move || std::future::ready(caches_are_filled(&caches))),
        HealthCheck::new("shutdown", HealthGroups::READY_ONLY, move || std::future::ready(goes_on(&leaving))),
    ]
}

/// Whether a read that sees all acknowledged writes succeeds in time; the error says why not.
pub async fn store_answers(read: impl Future<Output = Result<Revision, StoreError>>, patience: Duration) -> Result<(), String> {
    match tokio::time::timeout(patience, read).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("the store does not answer within {} s", patience.as_secs())),
    }
}

/// Readers of a cache that was never filled would see nothing where there is something.
fn caches_are_filled(caches: &CacheTable) -> Result<(), String> {
    let routes = caches.routes();
    let mut empty: Vec<String> =
        routes.values().filter(|route| !route.cache.is_filled()).map(|route| route.cache.resource.group_resource().to_string()).collect();
    empty.sort();
    if empty.is_empty() { Ok(()) } else { Err(format!("{} caches are not filled yet: {}", empty.len(), empty.join(", "))) }
}

fn goes_on(leaving: &AtomicBool) -> Result<(), String> {
    if leaving.load(Ordering::Relaxed) { Err("process is shutting down".into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_store_that_fails_or_is_silent_is_not_well() {
        let answer = |read| store_answers(std::future::ready(read), PATIENCE);
        assert_eq!(answer(Ok(Revision(5))).await, Ok(()));
        assert_eq!(answer(Err(StoreError::Unavailable("gone".into()))).await, Err("the store is not available: gone".into()));
        assert_eq!(store_answers(std::future::pending(), PATIENCE).await, Err("the store does not answer within 2 s".into()));
    }
}
