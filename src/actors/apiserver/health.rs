//! What `/healthz`, `/livez` and `/readyz` ask of the API server.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use troupe_api::{
    http::{HealthCheck, HealthGroups},
    meta::Revision,
    store::StoreError,
};

use super::core::Core;

/// How long the store may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// All checks, under upstream's names and in its order.
pub fn checks(core: &Arc<Core>) -> Vec<HealthCheck> {
    let check = |name, groups, check: fn(Arc<Core>) -> Result<(), String>| {
        let core = core.clone();
        HealthCheck::new(name, groups, move || std::future::ready(check(core.clone())))
    };
    let store = |name, groups| {
        let core = core.clone();
        HealthCheck::new(name, groups, move || {
            let store = core.store.clone();
            async move { store_answers(store.current_revision(), PATIENCE).await }
        })
    };
    vec![
        store("etcd", HealthGroups::ALL),
        store("etcd-readiness", HealthGroups::READY_ONLY),
        check("informer-sync", HealthGroups::READY_ONLY, |core| caches_are_filled(&core)),
        check("shutdown", HealthGroups::READY_ONLY, |core| goes_on(&core)),
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
fn caches_are_filled(core: &Core) -> Result<(), String> {
    let routes = core.listers.caches.routes();
    let mut empty: Vec<String> =
        routes.values().filter(|route| !route.cache.is_filled()).map(|route| route.cache.resource.group_resource().to_string()).collect();
    empty.sort();
    if empty.is_empty() { Ok(()) } else { Err(format!("{} caches are not filled yet: {}", empty.len(), empty.join(", "))) }
}

fn goes_on(core: &Core) -> Result<(), String> {
    if core.leaving.load(Ordering::Relaxed) { Err("process is shutting down".into()) } else { Ok(()) }
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
