//! ReplicaSets and ReplicationControllers under faults. While nobody is killed each pod is made once, however late watches are and whatever
//! replies get lost; otherwise there may be too many for a while, and in the end there are as many as are wanted.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use troupe_api::service::{DeleteOptions, PatchType};

use super::{
    Faults, simulate_with_clock,
    world::{Noted, World, comes_up, seeds, template},
};
use crate::controllers::{pods::is_active, replicaset::ReplicaSetController, replicationcontroller::ReplicationControllerController};

/// How long each state is given.
const PHASE: Duration = Duration::from_secs(300);
const REST: Duration = Duration::from_secs(900);

const KINDS: [(&str, &str, &str); 2] = [("v1", "ReplicationController", "replicationcontrollers"), ("apps/v1", "ReplicaSet", "replicasets.apps")];

/// Pods that there ever were, those that may run, and how many of these there were at once.
#[derive(Default)]
struct Pods {
    made: BTreeSet<String>,
    active: BTreeSet<String>,
    most: usize,
}

impl Pods {
    fn note(&mut self, pod: &Pod, is_there: bool) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        self.made.insert(uid.clone());
        if is_there && is_active(pod) {
            self.active.insert(uid);
        } else {
            self.active.remove(&uid);
        }
        self.most = self.most.max(self.active.len());
    }
}

fn counts(pods: &Noted<Pods>) -> (usize, usize, usize) {
    let pods = pods.look();
    (pods.made.len(), pods.active.len(), pods.most)
}

impl World {
    async fn replicated(&self, (version, kind, _): (&str, &str, &str), replicas: i32) {
        let labels = json!({"app": "x"});
        let selector = if version == "v1" { labels } else { json!({"matchLabels": labels}) };
        let spec: Value = json!({"replicas": replicas, "selector": selector, "template": template("a", "Always")});
        self.api.create(json!({"apiVersion": version, "kind": kind, "metadata": {"name": "x", "namespace": "default"}, "spec": spec})).await;
    }

    async fn scale(&self, resource: &str, replicas: i32) {
        let target = self.api.target(resource, "default", "x");
        self.api.patch(target, PatchType::Merge, json!({"spec": {"replicas": replicas}})).await.expect("patched");
    }

    async fn lose_a_pod(&self) {
        let pods = self.pods().await;
        let name = pods.first().and_then(|pod| pod.metadata.name.as_deref()).expect("there is one");
        let deleted = self.api.delete("pods", "default", name, DeleteOptions::default()).await;
        assert!(deleted.is_ok() || deleted.is_err_and(|status| status.is_not_found()));
    }
}

#[test]
fn late_watches_conflicts_and_lost_replies_make_no_pod_too_many_and_take_none_too_many() {
    for seed in seeds() {
        for (kind, lost_reply) in KINDS.into_iter().zip([0.0, 0.3]).chain(KINDS.into_iter().zip([0.3, 0.0])) {
            let faults = Faults { lost_reply, broken_watch: 0.1, lost_item: 0.1, ..Faults::default() };
            simulate_with_clock(seed, |system, clock| async move {
                let world = World::new(system, clock, faults, seed).await;
                world.start(ReplicationControllerController::new);
                world.start(ReplicaSetController::new);
                let pods = world.note("pods", Pods::note);
                world.replicated(kind, 3).await;
                world.play(PHASE, comes_up).await;
                assert_eq!(counts(&pods), (3, 3, 3), "seed {seed}: made, active, most");
                world.lose_a_pod().await;
                world.play(PHASE, comes_up).await;
                assert_eq!(counts(&pods), (4, 3, 3), "seed {seed}: made, active, most");
                world.scale(kind.2, 6).await;
                world.play(PHASE, comes_up).await;
                assert_eq!(counts(&pods), (7, 6, 6), "seed {seed}: made, active, most");
                world.scale(kind.2, 2).await;
                world.play(PHASE, comes_up).await;
                assert_eq!(counts(&pods), (7, 2, 6), "seed {seed}: made, active, most");
            });
        }
    }
}

#[test]
fn in_the_end_there_are_as_many_pods_as_are_wanted() {
    for seed in seeds() {
        for kind in KINDS {
            simulate_with_clock(seed, |system, clock| async move {
                let world = World::new(system, clock, Faults::default(), seed).await;
                world.start(ReplicationControllerController::new);
                world.start(ReplicaSetController::new);
                let pods = world.note("pods", Pods::note);
                world.replicated(kind, 3).await;
                let steps = async {
                    world.play(PHASE, comes_up).await;
                    world.scale(kind.2, 6).await;
                    world.play(PHASE / 2, comes_up).await;
                    world.scale(kind.2, 2).await;
                    world.play(PHASE / 2, comes_up).await;
                    world.scale(kind.2, 4).await;
                };
                world.in_trouble(steps).await;
                world.play(REST, comes_up).await;
                assert_eq!(pods.look().active.len(), 4, "seed {seed}");
                let status = world.status(kind.2, "x").await;
                let told = ["replicas", "readyReplicas", "availableReplicas"].map(|field| status[field].as_i64());
                assert_eq!(told, [Some(4); 3], "seed {seed}: {status}");
            });
        }
    }
}
