//! Nodes under faults: some fall silent, for a while or for good. Pods leave those alone, and not before their time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;
use tokio::time::{Instant, sleep};
use troupe_api::{
    meta::time::format_time,
    service::{DeleteOptions, PatchType},
};

use super::{
    Faults, simulate_with_clock,
    world::{World, running, seeds},
};
use crate::{
    controllers::{
        node_lifecycle::{GRACE, NodeLifecycleController},
        nodes,
        pod_gc::PodGcController,
        pods::is_ready,
    },
    kubelet::node::lease,
};

/// How long faults go on, and how long the world then has to come to rest.
const FAULTY: Duration = Duration::from_secs(600);
const REST: Duration = Duration::from_secs(900);
/// Kubelets do something about so often.
const PERIOD: Duration = Duration::from_secs(5);
/// What kubelets say of how often they renew their leases.
const HEARTBEAT: Duration = Duration::from_secs(10);
const NODES: [&str; 6] = ["a", "b", "c", "d", "away", "dead"];
/// So long after the start the last two fall silent, and then the first of them comes back.
const SILENT: Duration = Duration::from_secs(60);
const BACK: Duration = Duration::from_secs(400);
/// How long a pod named `hasty-NODE` bears a node that is silent. One named `patient-NODE` bears it for ever.
const BORNE: Duration = Duration::from_secs(60);

/// When pods were first seen to go, by name.
#[derive(Default)]
struct Going {
    since: BTreeMap<String, Instant>,
}

impl Going {
    fn note(&mut self, pod: &Pod, is_there: bool) {
        if !is_there || pod.metadata.deletion_timestamp.is_some() {
            self.since.entry(pod.metadata.name.clone().unwrap_or_default()).or_insert_with(Instant::now);
        }
    }
}

/// The kubelets, when each wrote its lease, and the time that the lease tells.
#[derive(Default)]
struct Kubelets {
    renewed: BTreeMap<&'static str, (Instant, Timestamp)>,
}

impl Kubelets {
    /// Those of `alive` nodes do what is to be done.
    async fn step(&mut self, world: &World, alive: &BTreeSet<&'static str>) {
        for node in alive {
            // As kubelets do: a clock that was set back must not make them look silent.
            let before = self.renewed.get(node).map(|(_, told)| *told);
            let told = lease::next_renewal(before, world.system.clock().now());
            lease::renew(&world.api.client, node, None, told, HEARTBEAT).await.expect("renewed");
            self.renewed.insert(node, (Instant::now(), told));
        }
        let now = format_time(world.system.clock().now());
        for node in world.list::<Node>("").await {
            let name = node.metadata.name.as_deref().unwrap_or_default();
            if alive.contains(name) && !nodes::is_ready(&node) {
                world.say_ready(name, &now).await;
            }
        }
        for pod in world.pods().await {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
            if !alive.contains(node) {
                continue;
            }
            if pod.metadata.deletion_timestamp.is_some() {
                let options = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                world.api.delete("pods", "default", name, options).await.expect("deleted");
            } else if !is_ready(&pod) {
                world.set_status(&pod, running(&now)).await;
            }
        }
    }

    async fn go_on(&mut self, world: &World, alive: &BTreeSet<&'static str>, time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < time {
            self.step(world, alive).await;
            sleep(PERIOD).await;
        }
    }
}

impl World {
    async fn add_node(&self, name: &str) {
        self.api.create(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})).await;
        for (kind, seconds) in [("hasty", Some(BORNE.as_secs())), ("patient", None)] {
            let bears = |key: &str| {
                let mut toleration = json!({"key": key, "operator": "Exists", "effect": "NoExecute"});
                if let Some(seconds) = seconds {
                    toleration["tolerationSeconds"] = json!(seconds);
                }
                toleration
            };
            let tolerations = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"].map(bears);
            let metadata = json!({"name": format!("{kind}-{name}"), "namespace": "default"});
            let spec = json!({"nodeName": name, "tolerations": tolerations, "containers": [{"name": "c", "image": "i"}]});
            self.api.create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})).await;
        }
    }

    async fn say_ready(&self, node: &str, now: &str) {
        let ready = json!({"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now, "lastTransitionTime": now});
        let target = self.api.subresource("nodes", "", node, "status");
        self.api.patch(target, PatchType::Merge, json!({"status": {"conditions": [ready]}})).await.expect("patched");
    }

    /// The versions of all nodes and pods.
    async fn versions(&self) -> Vec<(Option<String>, Option<String>)> {
        let nodes = self.list::<Node>("").await.into_iter().map(|node| (node.metadata.name.clone(), node.metadata.resource_version.clone()));
        let pods = self.list::<Pod>("default").await.into_iter().map(|pod| (pod.metadata.name.clone(), pod.metadata.resource_version.clone()));
        nodes.chain(pods).collect()
    }
}

/// What the condition Ready says, and the taints that tell of conditions.
fn marks(node: &Node) -> (String, BTreeSet<(String, String)>) {
    let ready = node.status.iter().flat_map(|status| status.conditions.iter().flatten()).find(|condition| condition.type_ == "Ready");
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let of_conditions = taints.filter(|taint| taint.key.starts_with("node.kubernetes.io/"));
    (ready.map(|ready| ready.status.clone()).unwrap_or_default(), of_conditions.map(|taint| (taint.key.clone(), taint.effect.clone())).collect())
}

async fn run(world: &World) {
    let seed = world.seed;
    world.start(|caches| NodeLifecycleController::new(caches, GRACE));
    world.start(PodGcController::new);
    let going = world.note("pods", Going::note);
    world.api.ensure(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": lease::NAMESPACE}})).await;
    for node in NODES {
        world.add_node(node).await;
    }
    let (all, mut kubelets) = (BTreeSet::from(NODES), Kubelets::default());
    let without = |names: &[&str]| all.iter().copied().filter(|name| !names.contains(name)).collect::<BTreeSet<_>>();
    let mut silent_since = None;
    let steps = async {
        kubelets.go_on(world, &all, SILENT).await;
        silent_since = Some(kubelets.renewed["dead"].0);
        kubelets.go_on(world, &without(&["away", "dead"]), BACK).await;
        kubelets.go_on(world, &without(&["dead"]), FAULTY - SILENT - BACK).await;
    };
    world.in_trouble(steps).await;
    kubelets.go_on(world, &without(&["dead"]), REST).await;

    for node in world.list::<Node>("").await {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let unreachable = ["NoExecute", "NoSchedule"].map(|effect| ("node.kubernetes.io/unreachable".to_owned(), effect.to_owned()));
        let wanted = if name == "dead" { ("Unknown".to_owned(), BTreeSet::from(unreachable)) } else { ("True".to_owned(), BTreeSet::new()) };
        assert_eq!(marks(&node), wanted, "seed {seed}: {name}");
    }
    let since = going.look().since.clone();
    let gone: BTreeSet<_> = since.keys().map(String::as_str).collect();
    assert!(gone.contains("hasty-dead"), "seed {seed}: {gone:?}");
    assert!(gone.is_subset(&BTreeSet::from(["hasty-dead", "hasty-away"])), "seed {seed}: {gone:?}");
    let silent_since = silent_since.expect("they fell silent");
    for (pod, at) in since {
        let after = at.duration_since(silent_since);
        assert!(after >= GRACE + BORNE, "seed {seed}: {pod} left after {after:?}");
    }
    for pod in world.pods().await {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        assert_eq!(is_ready(&pod), !name.ends_with("-dead"), "seed {seed}: {name}");
    }
    let before = world.versions().await;
    kubelets.go_on(world, &without(&["dead"]), Duration::from_secs(60)).await;
    assert_eq!(world.versions().await, before, "seed {seed}: at rest nothing is written");

    world.api.delete("nodes", "", "dead", DeleteOptions::default()).await.expect("deleted");
    kubelets.go_on(world, &without(&["dead"]), REST).await;
    let left: BTreeSet<_> = world.pods().await.iter().filter_map(|pod| pod.metadata.name.clone()).collect();
    let expected = before.iter().filter_map(|(name, _)| name.clone()).filter(|name| name.contains('-') && !name.ends_with("-dead")).collect();
    assert_eq!(left, expected, "seed {seed}: the pods of a node that is gone go with it");
}

#[test]
fn pods_leave_silent_nodes_alone_and_not_before_their_time() {
    for seed in seeds() {
        for faults in [Faults::default(), Faults { lost_reply: 0.3, ..Faults::default() }] {
            simulate_with_clock(seed, |system, clock| async move { run(&World::new(system, clock, faults, seed).await).await });
        }
    }
}
