//! Decisions of the scheduler per second at 5,000 nodes with 30 pods each, and what taking one pod into the snapshot costs.
//!
//! Each decision is made as the scheduler's unit makes it: on from where the last one ended, and the pod counts on its
//! node before the next.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};
use troupe_actors::scheduler::{
    decide::{Decision, decide},
    node_info::PodInfo,
    plugins::default_plugins,
    snapshot::Snapshot,
};

const NODES: usize = 5_000;
const PODS_PER_NODE: usize = 30;
const DECISIONS: usize = 20_000;
/// Pods per second that the scheduler must be able to decide on.
const BUDGET: f64 = 3_000.0;

fn main() {
    let mut snapshot = cluster();
    println!("{NODES} nodes with {PODS_PER_NODE} pods each, {DECISIONS} decisions");
    println!("{:>28} {:>14} {:>10} {:>8}", "pod", "decisions/s", "budget", "ratio");
    let plain = json!({});
    let choosy = json!({
        "tolerations": [{"key": "k", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["zone-0", "zone-1"]}]},
            ]},
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 10, "preference": {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["zone-0"]}]}},
            ],
        }},
    });
    let daemon = json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-04242"]}]},
    ]}}}});
    for (name, spec, decisions) in [("plain", plain, DECISIONS), ("with affinity", choosy, DECISIONS), ("pinned to one node", daemon, 70)] {
        let rate = decisions_per_second(&mut snapshot, name, &spec, decisions);
        println!("{name:>28} {rate:>14.0} {BUDGET:>10.0} {:>8.2}", rate / BUDGET);
    }
    println!("taking one bound pod into the snapshot and out again: {:?}", snapshot_cost(&mut snapshot));
}

fn cluster() -> Snapshot {
    let mut snapshot = Snapshot::default();
    for number in 0..NODES {
        let name = format!("node-{number:05}");
        let allocatable = json!({"cpu": "64", "memory": "256Gi", "pods": "110"});
        let labels = json!({"zone": format!("zone-{}", number % 3), "kubernetes.io/hostname": name});
        let node = json!({"metadata": {"name": name, "labels": labels}, "spec": {}, "status": {"allocatable": allocatable}});
        snapshot.set_node(Arc::new(serde_json::from_value::<Node>(node).expect("a node")));
        for at in 0..PODS_PER_NODE {
            snapshot.set_pod(&name, pod(&format!("running-{number}-{at}"), &json!({})));
        }
    }
    snapshot
}

fn pod(name: &str, spec: &Value) -> Arc<Pod> {
    let requests = json!({"cpu": "100m", "memory": "128Mi"});
    let mut pod = json!({"metadata": {"name": name, "namespace": "n"}, "spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]}});
    for (key, value) in spec.as_object().expect("an object") {
        pod["spec"][key] = value.clone();
    }
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

/// Decides on fresh pods one after another; making the pods is not measured.
fn decisions_per_second(snapshot: &mut Snapshot, name: &str, spec: &Value, decisions: usize) -> f64 {
    let plugins = default_plugins();
    let pods: Vec<Arc<Pod>> = (0..decisions).map(|number| pod(&format!("{name}-{number}"), spec)).collect();
    let (mut start, mut spent) = (0, Duration::ZERO);
    for (number, pod) in pods.iter().enumerate() {
        let begun = Instant::now();
        let info = PodInfo::new(pod.clone());
        let tie = u64::try_from(number).expect("small").wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (decision, looked_at) = decide(&plugins, &info, snapshot.nodes(), start, tie);
        start = (start + looked_at) % snapshot.nodes().len();
        let Decision::Bind { node } = decision else { panic!("there is room: {decision:?}") };
        snapshot.set_pod(&node, pod.clone());
        spent += begun.elapsed();
    }
    for pod in pods {
        snapshot.remove_pod(&PodInfo::new(pod).key);
    }
    decisions as f64 / spent.as_secs_f64()
}

fn snapshot_cost(snapshot: &mut Snapshot) -> Duration {
    let rounds = u32::try_from(DECISIONS).expect("small");
    let pod = pod("passing", &json!({}));
    let key = PodInfo::new(pod.clone()).key;
    let begun = Instant::now();
    for round in 0..DECISIONS {
        snapshot.set_pod(&format!("node-{:05}", round % NODES), pod.clone());
        snapshot.remove_pod(black_box(&key));
    }
    begun.elapsed() / rounds
}
