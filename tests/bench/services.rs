//! One Service of 10,000 changes: how long until the kernel sends packets elsewhere.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::future::join_all;
use serde_json::{Value, json};
use troupe_api::metrics::parse::Samples;

use crate::{
    Bench,
    figures::{Budget, report},
    https::Connection,
};

/// How many [`create_all`] makes.
pub const SERVICES: usize = 10_000;
/// How many connections [`create_all`] takes.
pub const CLIENTS: usize = 16;
const CHANGES: usize = 9;
const PATIENCE: Duration = Duration::from_secs(120);
const APPLIED: &str = "kubeproxy_sync_proxy_rules_last_timestamp_seconds";
const QUEUED: &str = "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds";

pub async fn measure(bench: &Bench) {
    bench.cluster.kubectl("create namespace services");
    let mut connections = bench.door.connections(CLIENTS).await;
    let begun = Instant::now();
    create_all(&mut connections).await;
    report(
        "creates of Services and EndpointSlices over HTTPS, 16 clients",
        2.0 * SERVICES as f64 / begun.elapsed().as_secs_f64(),
        "/s",
        Budget::None,
    );
    let connection = &mut connections[0];
    settled(connection).await;
    report("10,000 Services in the kernel, from the first create on", begun.elapsed().as_secs_f64(), " s", Budget::None);
    let mut times = Vec::new();
    for round in 0..CHANGES {
        let address = format!("10.250.0.{}", round + 1);
        times.push(change(connection, round * 1000 + 7, &address).await);
        assert!(bench.cluster.rules().contains(&format!("{address}:8080")), "the kernel has the new address");
    }
    times.sort_by(f64::total_cmp);
    report("one Service change among 10,000 to the kernel, median", times[CHANGES / 2] * 1000.0, " ms", Budget::AtMost(50.0));
    // What is measured after this has no use for them.
    bench.cluster.kubectl("delete namespace services --timeout=300s");
    settled(connection).await;
}

/// Makes the Services, each with an endpoint, in the namespace `services`, over [`CLIENTS`] connections.
pub async fn create_all(connections: &mut [Connection]) {
    join_all(connections.iter_mut().enumerate().map(|(first, connection)| create(connection, first))).await;
}

async fn create(connection: &mut Connection, first: usize) {
    for at in (first..SERVICES).step_by(CLIENTS) {
        let name = format!("s{at:05}");
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8080}]}});
        connection.json("POST", "/api/v1/namespaces/services/services", service.to_string()).await;
        let address = format!("10.{}.{}.{}", 200 + at / 60_000, at / 250, 1 + at % 250);
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [{"addresses": [address], "conditions": {"ready": true}}]});
        connection.json("POST", "/apis/discovery.k8s.io/v1/namespaces/services/endpointslices", slice.to_string()).await;
    }
}

async fn scrape(connection: &mut Connection) -> Samples {
    let text = connection.json("GET", "/metrics", "").await;
    Samples::parse(std::str::from_utf8(&text).expect("text")).expect("a scrape parses")
}

/// Waits until nothing was queued for a while and all of it is applied.
async fn settled(connection: &mut Connection) {
    let begun = Instant::now();
    loop {
        let samples = scrape(connection).await;
        let (queued, applied) = (samples.value(QUEUED, &[]).unwrap_or(0.0), samples.value(APPLIED, &[]).unwrap_or(0.0));
        if applied > queued && now() - queued > 1.0 {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "the rules are never settled");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Moves a Service's endpoint; seconds until the transaction with the new rules was in the kernel.
async fn change(connection: &mut Connection, at: usize, address: &str) -> f64 {
    let path = format!("/apis/discovery.k8s.io/v1/namespaces/services/endpointslices/s{at:05}");
    let patch: Value = json!({"endpoints": [{"addresses": [address], "conditions": {"ready": true}}]});
    let begun = now();
    let (status, body) = connection.send("PATCH", &path, "application/merge-patch+json", patch.to_string()).await;
    assert!(status.is_success(), "{status} {}", String::from_utf8_lossy(&body));
    let waiting = Instant::now();
    loop {
        let samples = scrape(connection).await;
        let (queued, applied) = (samples.value(QUEUED, &[]).unwrap_or(0.0), samples.value(APPLIED, &[]).unwrap_or(0.0));
        if queued >= begun && applied >= queued {
            return applied - begun;
        }
        assert!(waiting.elapsed() < PATIENCE, "the change never reaches the kernel");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64()
}
