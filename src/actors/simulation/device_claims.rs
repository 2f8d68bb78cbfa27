//! Claims for devices under faults: pods come, get theirs, end and go. A claim is taken from no pod that may run, and in the end nobody has one who
//! is done.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use k8s_openapi::api::{core::v1::Pod, resource::v1::ResourceClaim};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::time::sleep;
use troupe_api::service::{DeleteOptions, PatchType};

use super::{
    Faults, simulate_with_clock,
    world::{World, seeds},
};
use crate::{
    controllers::{
        pods::is_finished,
        resourceclaim::{ClaimReservationController, ResourceClaimController},
    },
    devices::{FINALIZER, allocation, consumer, is_for_pod, is_reserved_for, names_of_claims, reserved_for},
};

const CLAIMS: &str = "resourceclaims.resource.k8s.io";
const STEPS: usize = 120;
/// How long the world has to come to rest.
const REST: Duration = Duration::from_secs(600);
const NAMES: usize = 8;

/// Who uses claims, by the UIDs of claim and pod, which pods may be taken theirs from, and what must not be.
#[derive(Default)]
struct Claims {
    used: BTreeSet<(String, String)>,
    /// Pods that end or go.
    done: BTreeSet<String>,
    wrong: Vec<String>,
}

impl Claims {
    fn note(&mut self, claim: &ResourceClaim, is_there: bool) {
        let uid = claim.metadata.uid.clone().unwrap_or_default();
        let now: BTreeSet<_> = reserved_for(claim).iter().filter(|_| is_there).map(|user| (uid.clone(), user.uid.clone())).collect();
        let owners = claim.metadata.owner_references.iter().flatten().map(|owner| owner.uid.clone());
        let left: Vec<_> = owners.filter(|_| !is_there || claim.metadata.deletion_timestamp.is_some()).collect();
        let before: BTreeSet<_> = self.used.iter().filter(|(of, _)| *of == uid).cloned().collect();
        let lost = before.difference(&now).map(|(_, pod)| pod.clone());
        let wrong = lost.chain(left).filter(|pod| !self.done.contains(pod)).map(|pod| format!("claim {uid} was taken from pod {pod}"));
        self.wrong.extend(wrong.collect::<Vec<_>>());
        self.used.retain(|(of, _)| *of != uid);
        self.used.extend(now);
    }
}

impl World {
    async fn pod_with_device(&self, name: &str) {
        let container = json!({"name": "c", "image": "a:1", "resources": {"claims": [{"name": "gpu"}]}});
        let spec = json!({"containers": [container], "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "one-gpu"}]});
        self.api.ensure(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec})).await;
    }

    /// The claim that a pod says is its own.
    async fn claim_of(&self, pod: &Pod) -> Option<Arc<ResourceClaim>> {
        let name = names_of_claims(pod).next()?.to_owned();
        let claim = self.api.client.namespaced::<ResourceClaim>("default").get_opt(&name).await.expect("answers")?;
        is_for_pod(pod, &claim).is_ok().then_some(claim)
    }

    /// Gives claims devices and pods claims, as the scheduler does.
    async fn allocate(&self) {
        for pod in self.pods().await.into_iter().filter(|pod| !is_finished(pod)) {
            let Some(claim) = self.claim_of(&pod).await else { continue };
            if claim.metadata.deletion_timestamp.is_some() || is_reserved_for(&pod, &claim) {
                continue;
            }
            let name = claim.metadata.name.as_deref().unwrap_or_default();
            let finalizers = json!({"metadata": {"finalizers": [FINALIZER]}});
            self.api.patch(self.api.target(CLAIMS, "default", name), PatchType::Merge, finalizers).await.expect("patched");
            let result = json!({"request": "r", "driver": "gpu.example.com", "pool": "n", "device": name});
            let status = json!({"allocation": {"devices": {"results": [result]}}, "reservedFor": [consumer(&pod)]});
            let target = self.api.subresource(CLAIMS, "default", name, "status");
            self.api.patch(target, PatchType::Merge, json!({"status": status})).await.expect("patched");
        }
    }

    /// A pod comes, ends or goes; `done` is told before it does.
    async fn pods_with_devices_change(&self, rng: &mut StdRng, done: impl Fn(&str)) {
        let name = format!("p{}", rng.random_range(0..NAMES));
        let Ok(pod) = self.api.get("pods", "default", &name).await else { return self.pod_with_device(&name).await };
        match rng.random_range(0..4) {
            0 => {
                done(pod.uid());
                let target = self.api.subresource("pods", "default", &name, "status");
                self.api.patch(target, PatchType::Merge, json!({"status": {"phase": "Succeeded"}})).await.expect("patched");
            }
            1 => {
                done(pod.uid());
                self.api.delete("pods", "default", &name, DeleteOptions::default()).await.expect("deleted");
            }
            _ => {}
        }
    }

    async fn check_devices(&self) {
        let (pods, claims, seed) = (self.pods().await, self.list::<ResourceClaim>("default").await, self.seed);
        for pod in pods.iter().filter(|pod| !is_finished(pod)) {
            let claim = self.claim_of(pod).await.unwrap_or_else(|| panic!("seed {seed}: it has no claim: {pod:?}"));
            assert!(allocation(&claim).is_some() && is_reserved_for(pod, &claim), "seed {seed}: {claim:?}");
        }
        for claim in &claims {
            let may_run = |uid: &str| pods.iter().any(|pod| !is_finished(pod) && pod.metadata.uid.as_deref() == Some(uid));
            assert!(reserved_for(claim).iter().all(|user| may_run(&user.uid)), "seed {seed}: somebody who is done has it: {claim:?}");
            assert!(allocation(claim).is_none() || !reserved_for(claim).is_empty(), "seed {seed}: nobody has it: {claim:?}");
            let name = claim.metadata.name.as_deref();
            let ended = pods.iter().find(|pod| is_finished(pod) && is_for_pod(pod, claim).is_ok() && names_of_claims(pod).next() == name);
            assert!(ended.is_none(), "seed {seed}: its pod has ended: {claim:?}");
        }
    }
}

fn template() -> Value {
    let devices = json!({"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]});
    let metadata = json!({"name": "one-gpu", "namespace": "default"});
    json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate", "metadata": metadata, "spec": {"spec": {"devices": devices}}})
}

#[test]
fn devices_are_taken_from_no_pod_that_may_run_and_from_all_that_are_done() {
    for seed in seeds() {
        simulate_with_clock(seed, |system, clock| async move {
            let world = World::new(system, clock, Faults::default(), seed).await;
            world.start(ResourceClaimController::new);
            world.start(ClaimReservationController::new);
            let claims = world.note("device-claims", Claims::note);
            world.api.create(template()).await;
            let mut rng = StdRng::seed_from_u64(seed);
            let steps = async {
                for _ in 0..STEPS {
                    let done = |uid: &str| {
                        claims.look().done.insert(uid.to_owned());
                    };
                    world.pods_with_devices_change(&mut rng, done).await;
                    world.allocate().await;
                    sleep(Duration::from_secs_f64(rng.random_range(0.0..2.0))).await;
                }
            };
            world.in_trouble(steps).await;
            world.pod_with_device("last").await;
            // Each step of the scheduler waits for one of the controllers.
            for _ in 0..10 {
                sleep(REST / 10).await;
                world.allocate().await;
            }
            sleep(REST / 10).await;
            assert_eq!(claims.look().wrong, Vec::<String>::new(), "seed {seed}");
            assert!(!claims.look().used.is_empty(), "seed {seed}: some pods have devices");
            world.check_devices().await;
        });
    }
}
