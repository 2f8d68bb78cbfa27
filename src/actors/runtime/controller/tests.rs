//! How long keys wait that fail, and those that nothing wakes.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use k8s_openapi::api::core::v1::ConfigMap;
use parking_lot::Mutex;
use serde_json::json;
use troupe_api::{meta::ObjectKey, service::PatchType};
use troupe_api_server::store::memory::MemoryStore;

use super::{Controller, Outcome, ReconcileContext, ReconcileError, Watches, start};
use crate::{
    apiserver::{ApiServerOptions, testing::boot_with},
    runtime::cache::{Cache, Caches},
    simulation::simulate,
};

/// Notes each attempt in its object, and fails as long as that is not right.
struct Scribbler {
    config_maps: Cache<ConfigMap>,
    tries: Arc<AtomicUsize>,
    content: Arc<AtomicBool>,
}

impl Controller for Scribbler {
    const NAME: &'static str = "scribbler";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<ConfigMap>();
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(map) = self.config_maps.get(key).map(|cached| cached.object).filter(|_| &*key.name == "one") else { return Ok(Outcome::Done) };
        if map.data.as_ref().is_some_and(|data| data.contains_key("right")) {
            self.content.store(true, SeqCst);
            return Ok(Outcome::Done);
        }
        let tries = self.tries.fetch_add(1, SeqCst);
        let patch = json!({"metadata": {"annotations": {"try": tries.to_string()}}});
        let maps = cx.client().namespaced::<ConfigMap>("default");
        cx.wrote(&self.config_maps, &*maps.patch(&key.name, "", PatchType::Merge, &patch).await?);
        Err(ReconcileError::Other("it is not right".into()))
    }
}

#[test]
fn a_correction_ends_the_wait_and_what_a_controller_writes_itself_does_not() {
    simulate(1, |system| async move {
        let options =
            ApiServerOptions { system: system.clone(), clock: system.clock().clone(), ..ApiServerOptions::new(Arc::new(MemoryStore::new())) };
        let api = boot_with(options).await;
        api.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one", "namespace": "default"}})).await;
        let caches = Caches::new(system.clone(), api.client.clone());
        let (tries, content) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let scribbler = Scribbler { config_maps: caches.cache(), tries: tries.clone(), content: content.clone() };
        start(&system, &caches, api.client.clone(), scribbler);
        tokio::time::sleep(Duration::from_secs(40)).await;
        let tried = tries.load(SeqCst);
        assert!((10..20).contains(&tried), "{tried} attempts");
        let right = json!({"data": {"right": "yes"}});
        api.patch(api.target("configmaps", "default", "one"), PatchType::Merge, right).await.expect("corrected");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(content.load(SeqCst) && tries.load(SeqCst) == tried, "it was seen at once");
    });
}

/// Counts its attempts on each key.
struct Counter {
    attempts: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Controller for Counter {
    const NAME: &'static str = "counter";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary_when::<ConfigMap>(|change| change.is_addition() || change.meta_after().is_some_and(|meta| !meta.labels.is_empty()));
    }

    async fn reconcile(&self, key: &ObjectKey, _cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        *self.attempts.lock().entry(key.name.to_string()).or_default() += 1;
        Ok(Outcome::Done)
    }
}

#[test]
fn keys_are_looked_at_again_although_nothing_wakes_them() {
    simulate(1, |system| async move {
        let options =
            ApiServerOptions { system: system.clone(), clock: system.clock().clone(), ..ApiServerOptions::new(Arc::new(MemoryStore::new())) };
        let api = boot_with(options).await;
        for (name, labels) in [("a", json!({"of": "interest"})), ("b", json!({"of": "interest"})), ("other", json!({}))] {
            let metadata = json!({"name": name, "namespace": "default", "labels": labels});
            api.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})).await;
        }
        let caches = Caches::new(system.clone(), api.client.clone());
        let attempts = Arc::<Mutex<BTreeMap<String, usize>>>::default();
        start(&system, &caches, api.client.clone(), Counter { attempts: attempts.clone() });
        let seen = || ["a", "b", "other"].map(|name| attempts.lock().get(name).copied().unwrap_or_default());
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(seen(), [1, 1, 1]);
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(seen(), [2, 2, 1], "each that a change would wake, once");
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(seen(), [3, 3, 1]);
    });
}
