//! What `/healthz`, `/livez` and `/readyz` ask of the API server.

mod hooks;
mod log;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use troupe_api::meta::Revision;
use troupe_api_server::{
    http::{HealthCheck, HealthGroups},
    store::{Store, StoreError},
};

use self::{hooks::HOOKS, log::LogProbe};
use super::cache::CacheTable;
use crate::runtime::system::System;

/// How long the store may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the checks look at.
#[derive(Clone)]
pub struct Checked {
    pub store: Arc<dyn Store>,
    pub caches: Arc<CacheTable>,
    pub system: System,
    /// What must exist after the first start does.
    pub bootstrapped: Arc<AtomicBool>,
    /// The server is about to stop.
    pub leaving: Arc<AtomicBool>,
}

/// All checks, under upstream's names and in its order.
pub fn checks(checked: &Checked) -> Vec<HealthCheck> {
    let answers = |name, groups| {
        let store = checked.store.clone();
        HealthCheck::new(name, groups, move || {
            let store = store.clone();
            async move { store_answers(store.current_revision(), PATIENCE).await }
        })
    };
    let (probe, caches, leaving) = (Arc::new(LogProbe::default()), checked.caches.clone(), checked.leaving.clone());
    let mut checks = vec![
        HealthCheck::new("log", HealthGroups::ALL, move || std::future::ready(probe.check(Instant::now()))),
        answers("etcd", HealthGroups::ALL),
        answers("etcd-readiness", HealthGroups::READY_ONLY),
        HealthCheck::new("informer-sync", HealthGroups::READY_ONLY, move || std::future::ready(caches_are_filled(&caches))),
    ];
    checks.extend(HOOKS.iter().map(|hook| {
        let checked = checked.clone();
        HealthCheck::new(hook.name, HealthGroups::ALL, move || std::future::ready(hook.check(&checked)))
    }));
    checks.push(HealthCheck::new("shutdown", HealthGroups::READY_ONLY, move || std::future::ready(goes_on(&leaving))));
    checks
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
