//! 10,000 pods: what they weigh, and how fast they are listed.

use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{Value, json};

use crate::{
    Bench,
    figures::{Budget, report, report_beside},
    https::Connection,
};

const PODS: usize = 10_000;
const LISTS: usize = 16;
const PATH: &str = "/api/v1/namespaces/stored/pods";
const LASTS: Duration = Duration::from_secs(4);

/// A pod as a ReplicaSet makes them; no scheduler of this cluster takes it.
pub fn pod(at: usize) -> Value {
    let probe = json!({"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 5});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("web-5d4f8c7b9d-{at:05}"), "labels": {"app": "web", "pod-template-hash": "5d4f8c7b9d", "shard": (at % 100).to_string()}},
        "spec": {
            "schedulerName": "none",
            "containers": [{
                "name": "web", "image": "registry.example/web:1.2.3", "args": ["--listen=:8080", "--verbose"],
                "ports": [{"name": "http", "containerPort": 8080}],
                "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}, {"name": "MODE", "value": "production"}],
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
                "readinessProbe": probe, "livenessProbe": probe,
            }],
        },
    })
}

pub async fn measure(bench: &Bench) {
    bench.cluster.kubectl("create namespace stored");
    bench.cluster.eventually_has("serviceaccount/default", "stored");
    let mut connections = bench.door.connections(LISTS).await;
    let begun = Instant::now();
    join_all(connections.iter_mut().enumerate().map(|(first, connection)| create(connection, first))).await;
    report(&bench.name("creates of pods over HTTPS, 16 clients"), PODS as f64 / begun.elapsed().as_secs_f64(), "/s", Budget::None);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let resident = bench.daemon.resident_mib();
    report(&bench.name("resident, 10,000 pods stored"), resident, " MiB", Budget::AtMost(200.0));
    throughput(bench, &mut connections[0]).await;
    bench.daemon.forget_peak();
    let before = bench.daemon.resident_mib();
    join_all(connections.iter_mut().map(|connection| connection.drain(PATH))).await;
    let each = (bench.daemon.peak_mib() - before).max(0.0) / LISTS as f64;
    report(&bench.name("memory of each of 16 concurrent LISTs of 10,000 pods"), each, " MiB", Budget::AtMost(4.0));
}

async fn create(connection: &mut Connection, first: usize) {
    for at in (first..PODS).step_by(LISTS) {
        connection.json("POST", PATH, pod(at).to_string()).await;
    }
}

async fn throughput(bench: &Bench, connection: &mut Connection) {
    let (begun, before, mut bytes) = (Instant::now(), bench.daemon.cpu(), 0);
    while begun.elapsed() < LASTS {
        bytes += connection.drain(PATH).await;
    }
    let (took, busy) = (begun.elapsed(), bench.daemon.cpu() - before);
    let megabytes = bytes as f64 / 1e6;
    report_beside(&bench.name("LIST of 10,000 pods over HTTPS, one client"), megabytes / took.as_secs_f64(), " MB/s", Budget::None, "41 MB/s");
    report(&bench.name("LIST of 10,000 pods over HTTPS, by the server's core"), megabytes / busy.as_secs_f64(), " MB/s", Budget::None);
}
