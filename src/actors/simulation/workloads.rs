//! Jobs, stateful sets and daemon sets under faults.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use troupe_api::service::PatchType;

use super::{
    Faults, SimulatedClock, simulate_with_clock,
    world::{World, comes_up, ended, running, seeds, template},
};
use crate::{
    controllers::{
        daemonset::DaemonSetController,
        job::{JobController, orphans::JobOrphanController},
        pods::{is_finished, is_ready, phase},
        statefulset::StatefulSetController,
    },
    runtime::system::System,
};

/// How long faults go on, and how long the world then has to come to rest.
const FAULTY: Duration = Duration::from_secs(90);
const REST: Duration = Duration::from_secs(900);

/// A world with the controllers of workloads that last or end.
async fn workloads(system: System, clock: Arc<SimulatedClock>, faults: Faults, seed: u64) -> World {
    let world = World::new(system, clock, faults, seed).await;
    world.start(StatefulSetController::new);
    world.start(DaemonSetController::new);
    world.start(JobController::new);
    world.start(JobOrphanController::new);
    world
}

impl World {
    /// A workload comes up, is changed half way and comes to rest, in trouble until shortly before; gives its status.
    async fn rolled_out(&self, resource: &str, name: &str, change: Value) -> Value {
        let steps = async {
            self.play(FAULTY, comes_up).await;
            self.api.patch(self.api.target(resource, "default", name), PatchType::Merge, change).await.expect("patched");
            self.play(FAULTY, comes_up).await;
        };
        self.in_trouble(steps).await;
        self.play(REST, comes_up).await;
        self.status(resource, name).await
    }
}

/// The UID of each pod that there was at any time.
fn note_made(made: &mut BTreeSet<String>, pod: &Pod, _is_there: bool) {
    made.insert(pod.metadata.uid.clone().unwrap_or_default());
}

/// A job whose pods fail now and then ends, and every pod is in its counts exactly once. Where a reply gets lost, or the
/// controller is killed while it waits for one, there may be pods too many: they end like others, or are taken away again and
/// end uncounted or count as failed, as any pod does that is deleted before it ended.
fn run_job(seed: u64, indexed: bool, faults: Faults) {
    simulate_with_clock(seed, |system, clock| async move {
        let world = workloads(system, clock, faults, seed).await;
        let mode = if indexed { "Indexed" } else { "NonIndexed" };
        let spec = json!({"parallelism": 3, "completions": 8, "completionMode": mode, "backoffLimit": 1000, "template": template("a", "Never")});
        world.api.create(json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "work", "namespace": "default"}, "spec": spec})).await;
        let (mut rng, mut failed, mut done) = (StdRng::seed_from_u64(seed), 0, 0);
        let made = world.note("pods-made", note_made);
        let mut life = |pod: &Pod, now: &str| {
            if is_finished(pod) || pod.metadata.deletion_timestamp.is_some() {
                return None;
            }
            if !is_ready(pod) {
                return Some(running(now));
            }
            if rng.random_bool(0.3) {
                failed += 1;
                return Some(ended("Failed", 1, now));
            }
            done += 1;
            Some(ended("Succeeded", 0, now))
        };
        world.in_trouble(world.play(FAULTY, &mut life)).await;
        // Failures in a row make it wait for minutes.
        let complete =
            |status: &Value| status["conditions"].as_array().is_some_and(|all| all.iter().any(|condition| condition["type"] == "Complete"));
        let mut status = world.status("jobs.batch", "work").await;
        for _ in 0..20 {
            if complete(&status) {
                break;
            }
            world.play(REST, &mut life).await;
            status = world.status("jobs.batch", "work").await;
        }
        assert!(complete(&status), "seed {seed}: {status}");
        world.play(REST, &mut life).await;
        let (succeeded, counted) = (status["succeeded"].as_i64().unwrap_or(0), status["failed"].as_i64().unwrap_or(0));
        let made = i64::try_from(made.look().len()).expect("a few pods");
        let taken_away = made - failed - done;
        assert!(8 <= succeeded && succeeded <= done, "seed {seed}: {done} succeeded: {status}");
        assert!(counted <= failed + taken_away, "seed {seed}: {failed} failed and {taken_away} were taken away: {status}");
        // One too many is taken away when the others are enough, and if it fails at that moment nobody counts it, as upstream.
        let pods = world.pods().await;
        let kept = i64::try_from(pods.iter().filter(|pod| phase(pod) == "Failed").count()).expect("a few pods");
        assert!(kept <= counted, "seed {seed}: {kept} failed and are there: {status}");
        if made == 8 + failed {
            assert_eq!(succeeded, 8, "seed {seed}: {status}");
        }
        let held = pods.iter().filter(|pod| pod.metadata.finalizers.as_ref().is_some_and(|all| !all.is_empty())).count();
        assert_eq!(held, 0, "seed {seed}");
    });
}

#[test]
fn a_job_counts_every_pod_once_under_faults() {
    for seed in seeds() {
        let certain = Faults { lost_reply: 0.0, ..Faults::default() };
        for faults in [certain, Faults::default(), Faults { conflict: 0.5, ..certain }] {
            run_job(seed, false, faults);
            run_job(seed, true, faults);
        }
    }
}

#[test]
fn a_stateful_set_is_rolled_out_under_faults_with_one_pod_for_each_name() {
    for seed in seeds() {
        simulate_with_clock(seed, |system, clock| async move {
            let world = workloads(system, clock, Faults::default(), seed).await;
            let claim = json!({"metadata": {"name": "d"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
            let spec = json!({
                "replicas": 4, "selector": {"matchLabels": {"app": "x"}}, "template": template("a:1", "Always"), "volumeClaimTemplates": [claim],
            });
            let metadata = json!({"name": "db", "namespace": "default"});
            world.api.create(json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": spec})).await;
            let change = json!({"spec": {"replicas": 3, "template": template("a:2", "Always")}});
            let status = world.rolled_out("statefulsets.apps", "db", change).await;
            let counts = ["replicas", "readyReplicas", "updatedReplicas", "availableReplicas"].map(|field| status[field].as_i64());
            assert_eq!(counts, [Some(3); 4], "seed {seed}: {status}");
            assert_eq!(status["currentRevision"], status["updateRevision"], "seed {seed}");
            assert_eq!(world.api.names("pods", "default").await, ["db-0", "db-1", "db-2"], "seed {seed}");
            assert_eq!(world.api.names("persistentvolumeclaims", "default").await.len(), 4, "seed {seed}: claims stay");
            assert_eq!(world.api.names("controllerrevisions.apps", "default").await.len(), 2, "seed {seed}");
        });
    }
}

#[test]
fn a_daemon_set_is_rolled_out_under_faults_with_one_pod_for_each_node() {
    for seed in seeds() {
        simulate_with_clock(seed, |system, clock| async move {
            let world = workloads(system, clock, Faults::default(), seed).await;
            for node in ["n1", "n2", "n3"] {
                world.api.create(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}})).await;
                let target = world.api.target("nodes", "", node);
                // Nobody runs that would take the taint of a new node away.
                world.api.patch(target, PatchType::Merge, json!({"spec": {"taints": null}})).await.expect("patched");
            }
            let spec = json!({"selector": {"matchLabels": {"app": "x"}}, "template": template("a:1", "Always")});
            let metadata = json!({"name": "agent", "namespace": "default"});
            world.api.create(json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "spec": spec})).await;
            let change = json!({"spec": {"template": template("a:2", "Always")}});
            let status = world.rolled_out("daemonsets.apps", "agent", change).await;
            let fields = ["desiredNumberScheduled", "currentNumberScheduled", "updatedNumberScheduled", "numberAvailable"];
            assert_eq!(fields.map(|field| status[field].as_i64()), [Some(3); 4], "seed {seed}: {status}");
            assert_eq!(world.api.names("pods", "default").await.len(), 3, "seed {seed}");
        });
    }
}
