//! Decisions of the scheduler per second at 5,000 nodes with 30 pods each, also on pods with affinity to others, with spread constraints,
//! and such as make room for themselves; what taking one pod into the snapshot costs, and pods bound per second through an API server in
//! this process (`bound`).
//!
//! Each decision is made as the scheduler's unit makes it: on from where the last one ended, and the pod counts on its
//! node before the next.

#[path = "scheduler/bound.rs"]
mod bound;
#[allow(dead_code, reason = "shared by benchmarks")]
#[path = "../../../tests/support/figures.rs"]
mod figures;

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use figures::{Budget, report};
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};
use troupe_actors::scheduler::{
    decide::{Decision, SchedulingContext, decide},
    object_lookup::NoObjects,
    placed_pod::PlacedPod,
    plugins::default_profile,
    pod_info::PodInfo,
    snapshot::Snapshot,
};

const NODES: usize = 5_000;
const PODS_PER_NODE: usize = 30;
const DECISIONS: usize = 20_000;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut snapshot = cluster();
    println!("scheduler, {NODES} nodes with {PODS_PER_NODE} pods each");
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
    let spread = json!({"topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}},
        {"maxSkew": 3, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": {"app": "web"}}},
    ]});
    let term = json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "web"}}});
    let near = json!({"affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 10, "podAffinityTerm": term}]}}});
    let term = json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"alone": "yes"}}});
    let apart = json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}});
    for (name, spec, decisions) in [
        ("plain", plain, DECISIONS),
        ("with affinity to nodes", choosy, DECISIONS),
        ("pinned to one node", daemon, 70),
        ("with spread constraints", spread, DECISIONS / 10),
        ("with affinity to pods", near, DECISIONS / 10),
        ("with anti-affinity to pods", apart, DECISIONS / 10),
    ] {
        let rate = decisions_per_second(&mut snapshot, name, &spec, decisions);
        report(&format!("scheduling at 5,000 nodes: decisions on pods {name}"), rate, "/s", Budget::None);
    }
    let rate = preemptions_per_second(&snapshot);
    report("scheduling at 5,000 nodes: decisions on pods that preempt others", rate, "/s", Budget::None);
    let cost = snapshot_cost(&mut snapshot).as_secs_f64() * 1e6;
    report("scheduling at 5,000 nodes: a pod into the snapshot and out again", cost, " µs", Budget::None);
    drop(snapshot);
    actix::System::new().block_on(bound::measure());
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
            snapshot.set_pod(&name, &pod(&format!("running-{number}-{at}"), &json!({}), "web"));
        }
    }
    snapshot
}

fn pod(name: &str, spec: &Value, app: &str) -> Arc<Pod> {
    let alone = if spec["affinity"]["podAntiAffinity"].is_object() { "yes" } else { "no" };
    let labels = json!({"app": app, "alone": alone});
    let requests = json!({"cpu": "100m", "memory": "128Mi"});
    let mut pod = json!({"metadata": {"name": name, "namespace": "n", "labels": labels}, "spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]}});
    for (key, value) in spec.as_object().expect("an object") {
        pod["spec"][key] = value.clone();
    }
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

/// Decides on fresh pods one after another; making the pods is not measured.
fn decisions_per_second(snapshot: &mut Snapshot, name: &str, spec: &Value, decisions: usize) -> f64 {
    let profile = default_profile();
    let pods: Vec<Arc<Pod>> = (0..decisions).map(|number| pod(&format!("{name}-{number}"), spec, "web")).collect();
    let (mut start, mut spent) = (0, Duration::ZERO);
    for (number, pod) in pods.iter().enumerate() {
        let begun = Instant::now();
        let info = PodInfo::new(pod.clone(), &NoObjects);
        snapshot.prepare(&info);
        let chance = u64::try_from(number).expect("small").wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let context = SchedulingContext { profile: &profile, cluster: snapshot, start, chance, budgets: &Vec::new, ranked: &|_| () };
        let (decision, looked_at) = decide(&info, &context);
        start = (start + looked_at) % snapshot.nodes().len();
        let Decision::Bind { node } = decision else { panic!("there is room: {decision:?}") };
        snapshot.set_pod(&node, pod);
        spent += begun.elapsed();
    }
    for pod in pods {
        snapshot.remove_pod(PlacedPod::of(&pod).key());
    }
    decisions as f64 / spent.as_secs_f64()
}

/// Decides on important pods for which no node has room: each time all nodes are filtered, and a tenth of them tried without less
/// important pods.
fn preemptions_per_second(snapshot: &Snapshot) -> f64 {
    const DECISIONS: u32 = 200;
    let profile = default_profile();
    let spec = json!({"priority": 10, "containers": [{"name": "c", "resources": {"requests": {"cpu": "62", "memory": "1Gi"}}}]});
    let info = PodInfo::new(pod("important", &spec, "db"), &NoObjects);
    let begun = Instant::now();
    for chance in 0..u64::from(DECISIONS) {
        let context = SchedulingContext { profile: &profile, cluster: snapshot, start: 0, chance: chance * 977, budgets: &Vec::new, ranked: &|_| () };
        let (Decision::Unschedulable(unschedulable), _) = decide(&info, &context) else { panic!("there is no room") };
        assert!(unschedulable.preemption.is_some(), "{}", unschedulable.message);
    }
    f64::from(DECISIONS) / begun.elapsed().as_secs_f64()
}

fn snapshot_cost(snapshot: &mut Snapshot) -> Duration {
    let rounds = u32::try_from(DECISIONS).expect("small");
    let pod = pod("passing", &json!({}), "web");
    let key = PlacedPod::of(&pod).key().clone();
    let begun = Instant::now();
    for round in 0..DECISIONS {
        snapshot.set_pod(&format!("node-{:05}", round % NODES), &pod);
        snapshot.remove_pod(black_box(&key));
    }
    begun.elapsed() / rounds
}
