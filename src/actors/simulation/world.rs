//! What simulations of controllers share: an API server under controllers whose calls go through a [`FaultyService`], played kubelets,
//! and a look at every change that no fault disturbs.

use std::{cell::Cell, sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};
use troupe_api::{
    meta::time::format_time,
    service::{ListOptions, PatchType, WatchOptions},
    stored::KubeObject,
};
use troupe_api_client::{Client, WatchEvent};
use troupe_api_server::store::memory::MemoryStore;

use super::{Faults, FaultyService, SimulatedClock, jump_clock, restart_units};
use crate::{
    apiserver::{
        ApiServerOptions,
        testing::{TestApi, boot_with},
    },
    controllers::pods::is_ready,
    runtime::{
        cache::Caches,
        controller::{Controller, start},
        system::{System, TaskHandle},
    },
};

/// See the module.
pub struct World {
    pub api: TestApi,
    pub system: System,
    pub seed: u64,
    clock: Arc<SimulatedClock>,
    client: Client,
    caches: Caches,
    service: Arc<FaultyService>,
    controllers: Cell<u32>,
}

/// Every controller is restarted about once in this time while there is trouble: the pauses before restarts stay short.
const RESTARTED: Duration = Duration::from_secs(20);

/// What was noted of a kind so far; more is noted for as long as this lives.
pub struct Noted<T> {
    _noting: TaskHandle,
    noted: Arc<Mutex<T>>,
}

impl<T> Noted<T> {
    pub fn look(&self) -> MutexGuard<'_, T> {
        self.noted.lock()
    }
}

impl World {
    pub async fn new(system: System, clock: Arc<SimulatedClock>, faults: Faults, seed: u64) -> Self {
        let options =
            ApiServerOptions { system: system.clone(), clock: system.clock().clone(), ..ApiServerOptions::new(Arc::new(MemoryStore::new())) };
        let api = boot_with(options).await;
        let service = FaultyService::new(api.server.clone(), faults, seed);
        let client = Client::new(service.clone(), api.user.clone(), "controllers");
        let caches = Caches::new(system.clone(), client.clone());
        World { api, system, seed, clock, client, caches, service, controllers: Cell::default() }
    }

    /// Starts a controller that reads and writes under faults.
    pub fn start<C: Controller>(&self, make: impl FnOnce(&Caches) -> C) {
        self.controllers.update(|started| started + 1);
        start(&self.system, &self.caches, self.client.clone(), make(&self.caches));
    }

    /// Tells `note` of each object of a kind that there is and of each change to come, in order and without faults, and whether it is there.
    pub fn note<K: KubeObject, T: Default + Send + 'static>(&self, name: &str, note: fn(&mut T, &K, bool)) -> Noted<T> {
        let noted: Arc<Mutex<T>> = Arc::default();
        let (into, api) = (noted.clone(), self.api.client.all::<K>());
        let task = self.system.spawn_task(name, move || {
            let (into, api) = (into.clone(), api.clone());
            async move {
                let Ok(mut events) = api.watch(WatchOptions { send_initial_events: Some(true), ..WatchOptions::default() }).await else { return };
                while let Some(event) = events.next().await {
                    match event {
                        WatchEvent::Applied { object, .. } => note(&mut into.lock(), &object, true),
                        WatchEvent::Deleted { object, .. } => note(&mut into.lock(), &object, false),
                        WatchEvent::Bookmark { .. } | WatchEvent::End(_) => {}
                    }
                }
            }
        });
        Noted { _noting: task, noted }
    }

    /// The objects of a kind in a namespace, or in all where that is empty, in the order of their names.
    pub async fn list<K: KubeObject>(&self, namespace: &str) -> Vec<Arc<K>> {
        self.api.client.namespaced::<K>(namespace).list(ListOptions::default()).await.expect("listed").items
    }

    /// The pods, the oldest changes first.
    pub async fn pods(&self) -> Vec<Arc<Pod>> {
        let mut pods = self.list::<Pod>("default").await;
        pods.sort_by_key(|pod| pod.metadata.resource_version.as_ref().and_then(|version| version.parse::<u64>().ok()));
        pods
    }

    pub async fn set_status(&self, pod: &Pod, status: Value) {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let patched = self.api.patch(self.api.subresource("pods", "default", name, "status"), PatchType::Merge, json!({"status": status})).await;
        assert!(patched.is_ok() || patched.is_err_and(|status| status.is_not_found()), "a status is refused");
    }

    /// Plays the kubelets for a while: `life` says what becomes of a pod.
    pub async fn play(&self, time: Duration, mut life: impl FnMut(&Pod, &str) -> Option<Value>) {
        let until = tokio::time::Instant::now() + time;
        while tokio::time::Instant::now() < until {
            let now = format_time(self.system.clock().now());
            for pod in self.pods().await {
                if let Some(status) = life(&pod, &now) {
                    self.set_status(&pod, status).await;
                }
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Does `steps` while units are restarted and the clock is set. With these the faults of the service end.
    pub async fn in_trouble(&self, steps: impl Future<Output = ()>) {
        let period = RESTARTED / self.controllers.get().max(1);
        tokio::select! {
            biased;
            () = steps => {}
            () = restart_units(self.system.clone(), "controllers/", period, self.seed) => {}
            () = jump_clock(self.clock.clone(), Duration::from_secs(30), Duration::from_secs(11), self.seed) => {}
        }
        self.service.set(Faults::NONE);
    }

    pub async fn status(&self, resource: &str, name: &str) -> Value {
        let object = self.api.get(resource, "default", name).await.expect("there");
        object.get(&["status"]).cloned().unwrap_or_default()
    }
}

pub fn running(now: &str) -> Value {
    json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}]})
}

pub fn ended(phase: &str, code: i32, now: &str) -> Value {
    let state = json!({"terminated": {"exitCode": code, "finishedAt": now, "startedAt": now, "reason": "Completed"}});
    json!({"phase": phase, "containerStatuses": [{"name": "c", "image": "a", "imageID": "x", "ready": false, "restartCount": 0, "state": state}]})
}

pub fn comes_up(pod: &Pod, now: &str) -> Option<Value> {
    (!is_ready(pod)).then(|| running(now))
}

pub fn template(image: &str, restart: &str) -> Value {
    json!({"metadata": {"labels": {"app": "x"}}, "spec": {"restartPolicy": restart, "containers": [{"name": "c", "image": image}]}})
}

/// Two seeds that no run had before, or as many as `$TROUPE_SIMULATION_SEEDS` says, from `$TROUPE_SIMULATION_SEED` on if that is set; said
/// aloud.
pub fn seeds() -> impl Iterator<Item = u64> {
    let given = |name: &str| std::env::var(name).ok().map(|number| number.parse::<u64>().expect("a number"));
    let first = given("TROUPE_SIMULATION_SEED").unwrap_or_else(|| rand::random_range(0..1_000_000));
    (first..first + given("TROUPE_SIMULATION_SEEDS").unwrap_or(2)).inspect(|seed| println!("seed {seed}"))
}
