//! Hollow nodes (`troupe node --hollow`) through registration, a rollout and the loss of some.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    Bench,
    cluster::binary,
    figures::{Budget, report},
    running::Running,
};

const NODES: usize = 500;
const PODS: usize = 2000;
const PATIENCE: Duration = Duration::from_secs(300);

pub async fn measure(bench: &Bench) {
    bench.cluster.kubectl("create namespace hollow");
    bench.cluster.eventually_has("serviceaccount/default", "hollow");
    let begun = Instant::now();
    let _nodes = start(bench);
    until("all hollow nodes are Ready", || ready_nodes(bench) == NODES).await;
    report(&format!("{NODES} hollow nodes: all Ready"), begun.elapsed().as_secs_f64(), " s", Budget::None);
    let mut connections = bench.door.connections(1).await;
    let connection = &mut connections[0];
    let begun = Instant::now();
    connection.json("POST", "/apis/apps/v1/namespaces/hollow/deployments", deployment().to_string()).await;
    let available = || {
        let said = bench.cluster.kubectl("-n hollow get deployment hollow -o jsonpath={.status.availableReplicas}");
        said.trim().parse::<usize>().unwrap_or_default()
    };
    until("all pods are available", || available() == PODS).await;
    report(&format!("Deployment of {PODS} pods on them: all available"), begun.elapsed().as_secs_f64(), " s", Budget::None);
    report("resident then", bench.daemon.resident_mib(), " MiB", Budget::None);
    let begun = Instant::now();
    bench.cluster.kubectl("delete namespace hollow --wait=true --timeout=300s");
    report("their namespace deleted", begun.elapsed().as_secs_f64(), " s", Budget::None);
    bench.cluster.kubectl("delete nodes -l troupe.dev/hollow=true");
}

fn start(bench: &Bench) -> Running {
    let mut command = Command::new(binary());
    command.args(["node", "--hollow", &NODES.to_string(), "--node-name", "scale", "--kubeconfig"]).arg(bench.cluster.kubeconfig());
    Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("troupe runs"))
}

fn ready_nodes(bench: &Bench) -> usize {
    bench.cluster.kubectl("get nodes -l troupe.dev/hollow=true --no-headers").matches(" Ready ").count()
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {} s", PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn deployment() -> Value {
    let labels = json!({"app": "hollow"});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "hollow"}, "spec": {
        "replicas": PODS, "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {
            "nodeSelector": {"troupe.dev/hollow": "true"},
            "tolerations": [{"key": "troupe.dev/hollow", "operator": "Exists"}],
            "containers": [{"name": "c", "image": "none", "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}}],
        }},
    }})
}
