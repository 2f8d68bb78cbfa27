//! A Deployment of 1,000 pods on 1,000 nodes that only exist in the API. They stay behind and soon look dead, so this comes last.

use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{Value, json};
use troupe_api::meta::{Clock, SystemClock, time::format_time};

use crate::{
    Bench,
    figures::{Budget, report_beside},
    https::Connection,
};

const NODES: usize = 1000;
const PODS: usize = 1000;
const CLIENTS: usize = 16;
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn measure(bench: &Bench) {
    bench.cluster.kubectl("create namespace fleet");
    bench.cluster.eventually_has("serviceaccount/default", "fleet");
    let mut connections = bench.door.connections(CLIENTS).await;
    join_all(connections.iter_mut().enumerate().map(|(first, connection)| nodes(connection, first))).await;
    let connection = &mut connections[0];
    let begun = Instant::now();
    connection.json("POST", "/apis/apps/v1/namespaces/fleet/deployments", deployment().to_string()).await;
    let mut bound = 0;
    while bound < PODS {
        assert!(begun.elapsed() < PATIENCE, "only {bound} of {PODS} pods are bound");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let body = connection.json("GET", "/api/v1/namespaces/fleet/pods?fieldSelector=spec.nodeName!%3D", "").await;
        let list: Value = serde_json::from_slice(&body).expect("a list");
        bound = list["items"].as_array().map_or(0, Vec::len);
    }
    report_beside("Deployment of 1,000 pods on 1,000 nodes: all bound", begun.elapsed().as_secs_f64(), " s", Budget::None, "15.7 s");
}

async fn nodes(connection: &mut Connection, first: usize) {
    for at in (first..NODES).step_by(CLIENTS) {
        let name = format!("hollow-{at:04}");
        let now = format_time(SystemClock.now());
        let resources = json!({"cpu": "64", "memory": "256Gi", "pods": "110"});
        let condition = json!({"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "hollow",
            "lastHeartbeatTime": now, "lastTransitionTime": now});
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"hollow": "true"}},
            "status": {"capacity": resources, "allocatable": resources, "conditions": [condition]}});
        connection.json("POST", "/api/v1/nodes", node.to_string()).await;
        // Nobody may schedule on nodes before their lifecycle controller has looked; say at once that this one is well.
        let patch = json!({"spec": {"taints": null}, "status": node["status"]}).to_string();
        for path in [format!("/api/v1/nodes/{name}"), format!("/api/v1/nodes/{name}/status")] {
            let (status, body) = connection.send("PATCH", &path, "application/merge-patch+json", patch.clone()).await;
            assert!(status.is_success(), "{status} {}", String::from_utf8_lossy(&body));
        }
    }
}

fn deployment() -> Value {
    let labels = json!({"app": "fleet"});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "fleet"}, "spec": {
        "replicas": PODS, "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {
            "nodeSelector": {"hollow": "true"},
            "containers": [{"name": "c", "image": "none", "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}}],
        }},
    }})
}
