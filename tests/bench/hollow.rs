//! Hollow nodes (`troupe node --hollow`) through registration, creation of pods, a rollout, and the loss of a tenth of the nodes.
//!
//! `TROUPE_HOLLOW_NODES` and `TROUPE_HOLLOW_PODS` say how many; the budget for memory is for 5,000 and 50,000.

use std::{
    collections::BTreeSet,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    Bench,
    cluster::binary,
    figures::{Budget, report},
    https::Connection,
    running::Running,
};

const NODES: usize = 500;
const PODS: usize = 5_000;
/// Pods of one Deployment, at most.
const REPLICAS: usize = 5_000;
const PATIENCE: Duration = Duration::from_secs(1_800);

/// How much there is of everything.
struct Sizes {
    nodes: usize,
    lost: usize,
    pods: usize,
    deployments: usize,
}

impl Sizes {
    fn read() -> Self {
        let number = |name: &str, usual: usize| {
            let number = std::env::var(name).map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")));
            number.max(1)
        };
        let (nodes, pods) = (number("TROUPE_HOLLOW_NODES", NODES), number("TROUPE_HOLLOW_PODS", PODS));
        let deployments = pods.div_ceil(REPLICAS);
        Sizes { nodes, lost: nodes / 10, pods: pods / deployments * deployments, deployments }
    }
}

pub async fn measure(bench: &Bench) {
    let sizes = Sizes::read();
    let Sizes { nodes, lost, pods, deployments } = sizes;
    bench.cluster.kubectl("create namespace hollow");
    bench.cluster.eventually_has("serviceaccount/default", "hollow");
    let mut connections = bench.door.connections(1).await;
    let connection = &mut connections[0];

    let begun = Instant::now();
    let _staying = start(bench, "scale", nodes - lost);
    let leaving = start(bench, "lost", lost);
    until("all hollow nodes are Ready", async || ready_nodes(connection).await.len() == nodes).await;
    report(&format!("{nodes} hollow nodes: all Ready"), begun.elapsed().as_secs_f64(), " s", Budget::None);

    let begun = Instant::now();
    for number in 0..deployments {
        connection.json("POST", "/apis/apps/v1/namespaces/hollow/deployments", deployment(number, pods / deployments).to_string()).await;
    }
    until("all pods are available", async || available(connection).await == (pods, pods)).await;
    let what = format!("{deployments} Deployments with {pods} pods on them");
    report(&format!("{what}: all available"), begun.elapsed().as_secs_f64(), " s", Budget::None);
    tokio::time::sleep(Duration::from_secs(20)).await;
    report(&format!("resident with {nodes} nodes and {pods} pods"), bench.daemon.resident_mib(), " MiB", Budget::AtMost(800.0 * 1e6 / 1_048_576.0));
    let before = all_pods(connection).await;
    is_whole(&before, pods);

    let begun = Instant::now();
    for number in 0..deployments {
        let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "other"}]}}}});
        let path = format!("/apis/apps/v1/namespaces/hollow/deployments/hollow-{number}");
        let (status, _) = connection.send("PATCH", &path, "application/strategic-merge-patch+json", patch.to_string()).await;
        assert!(status.is_success(), "{status}");
    }
    until("all pods are new", async || available(connection).await == (pods, pods) && all_pods(connection).await.len() == pods).await;
    report(&format!("{what}: all rolled out anew"), begun.elapsed().as_secs_f64(), " s", Budget::None);
    let rolled = all_pods(connection).await;
    is_whole(&rolled, pods);
    let old: BTreeSet<&String> = before.iter().map(|(name, _)| name).collect();
    assert!(rolled.iter().all(|(name, _)| !old.contains(name)), "all pods are others");

    let begun = Instant::now();
    drop(leaving);
    until("all that are lost are seen", async || ready_nodes(connection).await.len() == nodes - lost).await;
    report(&format!("{lost} nodes lost: all are known not to be Ready"), begun.elapsed().as_secs_f64(), " s", Budget::None);
    let begun = Instant::now();
    // As whoever brought the machines does when they are gone.
    for number in 0..lost {
        connection.json("DELETE", &format!("/api/v1/nodes/lost-{number}"), "").await;
    }
    let recovered = async || {
        let there = all_pods(connection).await;
        there.len() == pods && there.iter().all(|(_, node)| !node.starts_with("lost-")) && available(connection).await == (pods, pods)
    };
    until("all pods are elsewhere", recovered).await;
    report(&format!("{lost} nodes deleted: all pods available elsewhere"), begun.elapsed().as_secs_f64(), " s", Budget::None);
    is_whole(&all_pods(connection).await, pods);
    report("resident then", bench.daemon.resident_mib(), " MiB", Budget::None);

    let begun = Instant::now();
    connection.json("DELETE", "/api/v1/namespaces/hollow", "").await;
    until("the namespace is gone", async || connection.send("GET", "/api/v1/namespaces/hollow", "application/json", "").await.0 == 404).await;
    report("their namespace deleted", begun.elapsed().as_secs_f64(), " s", Budget::None);
    connection.json("DELETE", "/api/v1/nodes?labelSelector=troupe.dev/hollow%3Dtrue", "").await;
}

fn start(bench: &Bench, name: &str, nodes: usize) -> Running {
    let mut command = Command::new(binary());
    command.args(["node", "--hollow", &nodes.to_string(), "--node-name", name, "--kubeconfig"]).arg(bench.cluster.kubeconfig());
    Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("troupe runs"))
}

async fn items(connection: &mut Connection, path: &str) -> Vec<Value> {
    let list: Value = serde_json::from_slice(&connection.json("GET", path, "").await).expect("a list");
    list["items"].as_array().cloned().unwrap_or_default()
}

async fn ready_nodes(connection: &mut Connection) -> Vec<String> {
    let nodes = items(connection, "/api/v1/nodes?labelSelector=troupe.dev/hollow%3Dtrue&resourceVersion=0").await;
    let is_ready = |node: &&Value| {
        let mut conditions = node["status"]["conditions"].as_array().into_iter().flatten();
        conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    };
    nodes.iter().filter(is_ready).map(|node| node["metadata"]["name"].to_string()).collect()
}

/// Pods that are available and such of the newest template, of all Deployments that have been looked at.
async fn available(connection: &mut Connection) -> (usize, usize) {
    let deployments = items(connection, "/apis/apps/v1/namespaces/hollow/deployments").await;
    let fresh = deployments.iter().filter(|one| one["status"]["observedGeneration"] == one["metadata"]["generation"]);
    let number = |status: &Value, field: &str| status[field].as_u64().and_then(|number| usize::try_from(number).ok()).unwrap_or(0);
    fresh.fold((0, 0), |(available, updated), one| {
        let status = &one["status"];
        (available + number(status, "availableReplicas"), updated + number(status, "updatedReplicas"))
    })
}

/// Names of all pods, with their nodes.
async fn all_pods(connection: &mut Connection) -> Vec<(String, String)> {
    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/v1/namespaces/hollow/pods?limit=5000&continue={token}");
        let list: Value = serde_json::from_slice(&connection.json("GET", &path, "").await).expect("a list");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        all.extend(list["items"].as_array().into_iter().flatten().map(|pod| (text(&pod["metadata"]["name"]), text(&pod["spec"]["nodeName"]))));
        token = text(&list["metadata"]["continue"]);
        if token.is_empty() {
            return all;
        }
    }
}

/// No pod is lost, none is double, each has a node.
fn is_whole(pods: &[(String, String)], wanted: usize) {
    let names: BTreeSet<&str> = pods.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((pods.len(), names.len()), (wanted, wanted));
    assert!(pods.iter().all(|(_, node)| !node.is_empty()));
}

async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !done().await {
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {} s", PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn deployment(number: usize, replicas: usize) -> Value {
    let labels = json!({"app": format!("hollow-{number}")});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": format!("hollow-{number}")}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {
            "nodeSelector": {"troupe.dev/hollow": "true"},
            "tolerations": [{"key": "troupe.dev/hollow", "operator": "Exists"}],
            "containers": [{"name": "c", "image": "none", "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}}],
        }},
    }})
}
