//! Pods bound per second at 5,000 nodes, through an API server on the store in memory: the cases of upstream's scheduler_perf, with its nodes
//! and pods. The pods wait when the scheduler starts; the rate is that from the first binding to the last, as a watcher sees them.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use troupe_actors::{
    apiserver::{
        ApiServerOptions,
        testing::{TestApi, boot_with},
    },
    runtime::{
        cache::Caches,
        system::{System, SystemOptions},
    },
    scheduler,
};
use troupe_api::service::{ListOptions, WatchItem, WatchOptions};
use troupe_api_server::store::memory::MemoryStore;

use crate::{
    NODES,
    figures::{Budget, report_beside},
};

/// A case of scheduler_perf.
struct Case {
    name: &'static str,
    /// Bindings per second; ten times upstream's threshold where nothing else is asked for.
    least: f64,
    /// What upstream does on two cores, or its threshold.
    upstream: &'static str,
    zones: &'static [&'static str],
    /// Pods that are on the nodes already, all nodes in turn.
    placed: (usize, Value),
    /// Pods that never fit.
    hopeless: usize,
    waiting: (usize, Value),
}

/// A pod's labels and spec, beside what all have.
fn pod(own: &Value, cpu: &str) -> Value {
    let resources = json!({"requests": {"cpu": cpu, "memory": "500Mi"}});
    let container = json!({"name": "pause", "image": "registry.k8s.io/pause:3.10", "ports": [{"containerPort": 80}], "resources": resources});
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "default", "labels": own["labels"]}, "spec": own["spec"]});
    pod["spec"]["containers"] = json!([container]);
    pod["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
    pod
}

fn cases() -> Vec<Case> {
    let plain = || pod(&json!({"spec": {}}), "100m");
    let with = |label: &str, spec: Value| pod(&json!({"labels": {"color": label}, "spec": spec}), "100m");
    let term = |color: &str, key: &str| json!([{"labelSelector": {"matchLabels": {"color": color}}, "topologyKey": key}]);
    let (zone, host) = ("topology.kubernetes.io/zone", "kubernetes.io/hostname");
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let near = with("blue", json!({"affinity": {"podAffinity": {required: term("blue", zone)}}}));
    let apart = with("green", json!({"affinity": {"podAntiAffinity": {required: term("green", host)}}}));
    let expression = json!({"key": zone, "operator": "In", "values": ["zone1", "zone2"]});
    let chosen = with("red", json!({"affinity": {"nodeAffinity": {required: {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}}}));
    let constraint =
        json!({"maxSkew": 5, "topologyKey": zone, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"color": "blue"}}});
    let spread = with("blue", json!({"topologySpreadConstraints": [constraint]}));
    let low = pod(&json!({"spec": {"terminationGracePeriodSeconds": 0}}), "900m");
    let high = pod(&json!({"spec": {"priorityClassName": "high"}}), "3");
    vec![
        case("plain", 3_000.0, "178–216/s", &["zone1"], (1_000, plain()), (10_000, plain())),
        case("zone spread", 1_000.0, "64/s", &["moon-1", "moon-2", "moon-3"], (5_000, plain()), (5_000, spread)),
        case("node affinity", 2_200.0, "threshold 220/s", &["zone1"], (5_000, chosen.clone()), (10_000, chosen)),
        case("pod affinity", 350.0, "threshold 35/s", &["zone1"], (5_000, near.clone()), (5_000, near)),
        case("pod anti-affinity", 600.0, "threshold 60/s", &["zone1"], (1_000, apart.clone()), (2_000, apart)),
        case("preemption of three pods each", 1_600.0, "threshold 160/s", &["zone1"], (20_000, low), (5_000, high)),
        Case {
            hopeless: 5_000,
            ..case("5,000 unschedulable ones beside", 1_400.0, "threshold 140/s", &["zone1"], (100, plain()), (10_000, plain()))
        },
    ]
}

fn case(
    name: &'static str,
    least: f64,
    upstream: &'static str,
    zones: &'static [&'static str],
    placed: (usize, Value),
    waiting: (usize, Value),
) -> Case {
    Case { name, least, upstream, zones, placed, hopeless: 0, waiting }
}

pub async fn measure() {
    for case in cases() {
        let rate = bound_per_second(&case).await;
        let what = format!("pods bound at 5,000 nodes: {}", case.name);
        report_beside(&what, rate, "/s", Budget::AtLeast(case.least), case.upstream);
    }
}

async fn create(api: &TestApi, pod: &Value, name: String, node: Option<usize>) {
    let mut pod = pod.clone();
    pod["metadata"]["name"] = json!(name);
    if let Some(number) = node {
        pod["spec"]["nodeName"] = json!(node_name(number));
    }
    api.create(pod).await;
}

fn node_name(number: usize) -> String {
    format!("node-{:05}", number % NODES)
}

/// A cluster as it is before the scheduler starts.
async fn prepare(api: &TestApi, case: &Case) {
    for number in 0..NODES {
        let name = node_name(number);
        let labels = json!({"topology.kubernetes.io/zone": case.zones[number % case.zones.len()], "kubernetes.io/hostname": name});
        let room = json!({"cpu": "4", "memory": "32Gi", "pods": "110"});
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "status": {"capacity": room, "allocatable": room}});
        api.create(node).await;
    }
    api.create(json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"}, "value": 10})).await;
    for number in 0..case.placed.0 {
        create(api, &case.placed.1, format!("placed-{number}"), Some(number)).await;
    }
    for number in 0..case.hopeless {
        create(api, &pod(&json!({"spec": {}}), "9"), format!("hopeless-{number}"), None).await;
    }
    for number in 0..case.waiting.0 {
        create(api, &case.waiting.1, format!("waiting-{number}"), None).await;
    }
}

async fn bound_per_second(case: &Case) -> f64 {
    let system = System::new(SystemOptions::default()).expect("threads start");
    let mut options = ApiServerOptions::new(Arc::new(MemoryStore::new()));
    options.system = system.clone();
    let api = boot_with(options).await;
    prepare(&api, case).await;
    let mut seen = api.list("pods", "default", ListOptions::default()).await.expect("lists").revision;
    let caches = Caches::new(system.clone(), api.client.clone());
    scheduler::start(&system, &caches, api.client.clone());
    let (wanted, mut bound, mut first) = (case.waiting.0, HashSet::new(), None);
    while bound.len() < wanted {
        let mut watch = api.watch("pods", "default", WatchOptions { resource_version: Some(seen), ..WatchOptions::default() }).await;
        // A watcher that falls behind is dropped, and goes on from what it has seen.
        while let Some(item) = tokio::time::timeout(Duration::from_secs(60), watch.next()).await.expect("pods are bound") {
            let WatchItem::Event { object, .. } = item else { break };
            seen = object.revision;
            let waited = object.key.name.starts_with("waiting-") && !bound.contains(&object.key.name);
            if waited && object.typed::<Pod>().is_ok_and(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())) {
                first.get_or_insert_with(Instant::now);
                bound.insert(object.key.name.clone());
                if bound.len() == wanted {
                    break;
                }
            }
        }
    }
    let took = first.expect("some were bound").elapsed();
    system.shutdown(Duration::from_secs(5)).await;
    (wanted - 1) as f64 / took.as_secs_f64()
}
