//! Evictions under faults: whatever the controller of budgets knows late, nobody evicts more pods than the budget spares.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::json;
use tokio::time::{Instant, sleep};
use troupe_api::{
    meta::time::format_time,
    service::{Body, DeleteOptions, Operation, WriteOptions},
};

use super::{
    Faults, simulate_with_clock,
    world::{World, running, seeds},
};
use crate::controllers::{
    disruption::DisruptionController,
    pods::{is_active, is_ready},
};

/// How long faults go on, and how long the world then has to come to rest.
const FAULTY: Duration = Duration::from_secs(900);
const REST: Duration = Duration::from_secs(300);
const WANTED: usize = 5;
const LEAST: usize = 3;
/// Who evicts waits so long after a pod became ready, longer than the controller may be behind: of pods that it does not know it forgets, as
/// upstream, that they were evicted.
const SETTLED: Duration = Duration::from_secs(60);

/// The pods that are ready and stay, and how few they ever were once all were there.
#[derive(Default)]
struct Pods {
    healthy: BTreeSet<String>,
    least: Option<usize>,
}

impl Pods {
    fn note(&mut self, pod: &Pod, is_there: bool) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if is_there && is_active(pod) && is_ready(pod) {
            self.healthy.insert(uid);
        } else {
            self.healthy.remove(&uid);
        }
        let healthy = self.healthy.len();
        self.least = match self.least {
            Some(least) => Some(least.min(healthy)),
            None => (healthy == WANTED).then_some(healthy),
        };
    }
}

/// When pods became ready, by UID, and how many were made.
#[derive(Default)]
struct Kubelet {
    ready: BTreeMap<String, Instant>,
    made: usize,
}

impl Kubelet {
    /// What goes is gone after a while, what is missing is made, and what is made is ready after a while.
    async fn step(&mut self, world: &World, rng: &mut StdRng) {
        let (pods, now) = (world.pods().await, format_time(world.system.clock().now()));
        for pod in &pods {
            let (name, uid) = (pod.metadata.name.as_deref().unwrap_or_default(), pod.metadata.uid.clone().unwrap_or_default());
            if !rng.random_bool(0.2) {
                continue;
            }
            if pod.metadata.deletion_timestamp.is_some() {
                let options = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
                world.api.delete("pods", "default", name, options).await.expect("deleted");
            } else if !is_ready(pod) {
                world.set_status(pod, running(&now)).await;
                self.ready.insert(uid, Instant::now());
            }
        }
        for _ in pods.iter().filter(|pod| is_active(pod)).count()..WANTED {
            self.made += 1;
            let metadata = json!({"name": format!("p{}", self.made), "namespace": "default", "labels": {"app": "x"}});
            let spec = json!({"nodeName": "n", "containers": [{"name": "c", "image": "i"}]});
            world.api.create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})).await;
        }
    }

    /// Whether a pod has been ready for long.
    fn is_settled(&self, pod: &Pod) -> bool {
        let since = pod.metadata.uid.as_ref().and_then(|uid| self.ready.get(uid));
        is_active(pod) && since.is_some_and(|since| since.elapsed() > SETTLED)
    }
}

impl World {
    async fn evict(&self, pod: &str) -> bool {
        let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": "default"}});
        let operation = Operation::Create { body: Body::Json(body.to_string().into()), options: WriteOptions::default() };
        self.api.call(self.api.subresource("pods", "default", pod, "eviction"), operation).await.is_ok()
    }

    /// Tries to evict every pod that has been ready for long. Says how many it did.
    async fn evict_settled(&self, kubelet: &Kubelet) -> usize {
        let mut evicted = 0;
        for pod in self.pods().await.into_iter().filter(|pod| kubelet.is_settled(pod)) {
            evicted += usize::from(self.evict(pod.metadata.name.as_deref().unwrap_or_default()).await);
        }
        evicted
    }
}

#[test]
fn no_more_pods_are_evicted_than_their_budget_spares() {
    for seed in seeds() {
        for faults in [Faults::default(), Faults { conflict: 0.4, lost_reply: 0.3, ..Faults::default() }] {
            simulate_with_clock(seed, |system, clock| async move {
                let world = World::new(system, clock, faults, seed).await;
                world.start(DisruptionController::new);
                let pods = world.note("pods", Pods::note);
                let spec = json!({"minAvailable": LEAST, "selector": {"matchLabels": {"app": "x"}}});
                let metadata = json!({"name": "b", "namespace": "default"});
                world.api.create(json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata, "spec": spec})).await;
                let (mut kubelet, mut rng, mut evicted) = (Kubelet::default(), StdRng::seed_from_u64(seed), 0);
                let steps = async {
                    let begun = Instant::now();
                    while begun.elapsed() < FAULTY {
                        kubelet.step(&world, &mut rng).await;
                        evicted += world.evict_settled(&kubelet).await;
                        sleep(Duration::from_secs(1)).await;
                    }
                };
                world.in_trouble(steps).await;
                let begun = Instant::now();
                while begun.elapsed() < REST {
                    kubelet.step(&world, &mut rng).await;
                    sleep(Duration::from_secs(1)).await;
                }
                assert_eq!(pods.look().least, Some(LEAST), "seed {seed}: no fewer, and as few as may be");
                assert!(evicted > WANTED, "seed {seed}: {evicted} were evicted");
                let status = world.status("poddisruptionbudgets.policy", "b").await;
                let told = ["currentHealthy", "desiredHealthy", "disruptionsAllowed"].map(|field| status[field].as_u64());
                assert_eq!(told, [WANTED, LEAST, WANTED - LEAST].map(|count| u64::try_from(count).ok()), "seed {seed}: {status}");
            });
        }
    }
}
