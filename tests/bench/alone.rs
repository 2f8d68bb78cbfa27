//! The node daemon as a process of its own: what it needs when it is idle, with as many pods as a node has, and for each probe.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use troupe_api::metrics::parse::Samples;

use crate::{
    cluster::{Cluster, eventually},
    figures::{Budget, report},
    https::Door,
    pods::{MOST, Pods, group, kubelet_config},
    process::Process,
    running::Running,
    runtime,
};

/// A megabyte in MiB.
const MB: f64 = 1e6 / 1_048_576.0;
/// A daemon that has begun is idle by then.
const STARTING: Duration = Duration::from_secs(10);
/// What pods cost to start is over by then.
const SETTLING: Duration = Duration::from_secs(4);
/// How long processor time is counted.
const WINDOW: Duration = Duration::from_secs(20);
/// How many of all pods are probed, in two ways every second.
const PROBED: usize = 50;

pub fn measure() {
    let cluster = Cluster::place();
    let config = kubelet_config(&cluster);
    let flags = ["--kubelet-config", config.as_str()];
    let control_plane = cluster.daemon("control-plane", &[]);
    eventually("the control plane writes the node's kubeconfig", || cluster.path("node.kubeconfig").exists());
    let node = cluster.daemon("node", &flags);
    eventually("the node is Ready", || cluster.kubectl_output("wait --for=condition=Ready node/it --timeout=1s").status.success());
    cluster.kubectl("-n kube-system rollout status daemonset --timeout=60s");
    thread::sleep(STARTING);
    idle("control plane alone", &control_plane, Budget::None);
    idle("node daemon alone that imported images", &node, Budget::None);
    drop(node);
    let node = cluster.daemon("node", &flags);
    thread::sleep(STARTING);
    idle("node daemon alone", &node, Budget::AtMost(20.0 * MB));

    cluster.enter();
    runtime().block_on(with_pods(&cluster, &process(&node)));
    drop((node, control_plane));
}

fn idle(what: &str, daemon: &Running, budget: Budget) {
    report(&format!("resident, idle, {what}"), process(daemon).resident_mib(), " MiB", budget);
}

fn process(daemon: &Running) -> Process {
    Process::new(i32::try_from(daemon.id()).expect("a pid"))
}

/// As many pods as a node has; then some of them make room for such that are probed.
async fn with_pods(cluster: &Cluster, node: &Process) {
    let door = Door::of(&cluster.kubeconfig());
    let mut pods = Pods::open(cluster, &door).await;
    let (lasting, mut leaving) = (group("lasting", MOST - PROBED), group("leaving", PROBED));
    pods.run(&[&lasting[..], &leaving[..]].concat()).await;
    let plain = busy(node).await;
    report(&format!("processor use with {MOST} pods Ready, node daemon alone"), plain * 100.0, " % of a core", Budget::AtMost(2.0));
    report(&format!("resident with {MOST} pods Ready, node daemon alone"), node.resident_mib(), " MiB", Budget::AtMost(45.0 * MB));
    for (name, probe) in [("http", json!({"httpGet": {"path": "/", "port": 8080}})), ("tcp", json!({"tcpSocket": {"port": 8080}}))] {
        pods.delete(&leaving).await;
        leaving = group(name, PROBED).into_iter().map(|pod| probed(pod, name, &probe)).collect();
        pods.run(&leaving).await;
        let cost = cost_of_a_probe(node, &door, name, plain).await;
        report(&format!("processor time of the node daemon a probe, {name}"), cost * 1e6, " µs", Budget::AtMost(50.0));
    }
    for all in [lasting, leaving] {
        pods.delete(&all).await;
    }
}

/// The share of a core that it uses, after what pods cost to start.
async fn busy(daemon: &Process) -> f64 {
    tokio::time::sleep(SETTLING).await;
    let (begun, before) = (Instant::now(), daemon.cpu());
    tokio::time::sleep(WINDOW).await;
    (daemon.cpu() - before).as_secs_f64() / begun.elapsed().as_secs_f64()
}

/// The pod with a container of that name that serves, and is probed for it in two ways.
fn probed(mut pod: Value, container_name: &str, probe: &Value) -> Value {
    let mut probe = probe.clone();
    probe["periodSeconds"] = json!(1);
    let container = &mut pod["spec"]["containers"][0];
    container["name"] = json!(container_name);
    container["command"] = json!(["sh", "-c", "trap exit TERM; mkdir /w; echo here > /w/index.html; httpd -f -p 8080 -h /w & wait"]);
    container["livenessProbe"] = probe.clone();
    container["readinessProbe"] = probe;
    pod
}

/// Seconds of processor time for each probe of containers of a name. There are as many pods as when none was probed, which took `plain` of a core.
async fn cost_of_a_probe(node: &Process, door: &Door, container: &str, plain: f64) -> f64 {
    let (begun, before) = (Instant::now(), probes(door, container).await);
    let busy = busy(node).await;
    let rate = (probes(door, container).await - before) / begun.elapsed().as_secs_f64();
    let expected = 2.0 * PROBED as f64;
    assert!(rate > 0.5 * expected, "only {rate} of {expected} probes a second went well");
    (busy - plain) / rate
}

/// How many probes of containers of a name went well, as the kubelet counts them.
async fn probes(door: &Door, container: &str) -> f64 {
    let page = door.connect().await.json("GET", "/api/v1/nodes/it/proxy/metrics/probes", "").await;
    let samples = Samples::parse(std::str::from_utf8(&page).expect("text")).expect("a scrape parses");
    samples.value("prober_probe_total", &[("container", container), ("result", "successful")]).expect("probes are counted")
}
