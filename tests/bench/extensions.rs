//! What others who take part in the API cost: a validating webhook, an aggregated server, and keys that seal what is stored.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::{
    Bench,
    api::{config_map, rate_of},
    backend::Backend,
    cluster::{Cluster, NODE_IP, eventually},
    figures::{Budget, report},
    https::{Connection, Door},
};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const REGISTRATIONS: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
const ROUNDS: usize = 7;
const WRITES: usize = 200;
const CLIENTS: usize = 16;

pub async fn measure(bench: &Bench) {
    webhook(bench).await;
    aggregated(bench).await;
}

/// Patches with and without a webhook, in turns; its own answer time is not counted.
async fn webhook(bench: &Bench) {
    let own = Arc::new(AtomicU64::new(0));
    let counted = own.clone();
    let backend = Backend::serve(move |_, body| {
        let begun = Instant::now();
        let review: Value = serde_json::from_slice(body).expect("a review");
        let response = json!({"uid": review["request"]["uid"], "allowed": true});
        let answer = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response}).to_string();
        counted.fetch_add(u64::try_from(begun.elapsed().as_nanos()).expect("short"), Relaxed);
        answer
    })
    .await;
    let rule = json!({"operations": ["UPDATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]});
    let client = json!({"url": format!("https://{NODE_IP}:{}/review", backend.port), "caBundle": BASE64_STANDARD.encode(&backend.ca)});
    let hook =
        json!({"name": "bench.example.com", "rules": [rule], "sideEffects": "None", "admissionReviewVersions": ["v1"], "clientConfig": client});
    let configuration = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "bench"}, "webhooks": [hook]})
    .to_string();
    let mut connection = bench.door.connect().await;
    connection.json("POST", MAPS, config_map("reviewed")).await;
    let mut added = Vec::new();
    for _ in 0..ROUNDS {
        let without = patches(&mut connection).await;
        connection.json("POST", REGISTRATIONS, configuration.clone()).await;
        own.store(0, Relaxed);
        let with = patches(&mut connection).await;
        connection.json("DELETE", &format!("{REGISTRATIONS}/bench"), "").await;
        added.push(with - without - own.load(Relaxed) as f64 / 1e6 / WRITES as f64);
    }
    added.sort_by(f64::total_cmp);
    report("a validating webhook adds to its own answer time", added[ROUNDS / 2], " ms", Budget::AtMost(1.0));
}

/// Milliseconds of a patch, in the mean.
async fn patches(connection: &mut Connection) -> f64 {
    let begun = Instant::now();
    for at in 0..WRITES {
        let patch = json!({"metadata": {"annotations": {"round": format!("{at}-{begun:?}")}}}).to_string();
        let (status, body) = connection.send("PATCH", &format!("{MAPS}/reviewed"), "application/merge-patch+json", patch).await;
        assert!(status.is_success(), "{status} {}", String::from_utf8_lossy(&body));
    }
    begun.elapsed().as_secs_f64() * 1e3 / WRITES as f64
}

/// GETs of an aggregated resource beside those that go to its server directly.
async fn aggregated(bench: &Bench) {
    const GROUP: &str = "/apis/bench.example.com/v1";
    const PATH: &str = "/apis/bench.example.com/v1/namespaces/default/things/one";
    let thing =
        json!({"apiVersion": "bench.example.com/v1", "kind": "Thing", "metadata": {"name": "one", "namespace": "default"}, "data": "x".repeat(800)});
    let resources = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "bench.example.com/v1", "resources": [
        {"name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing", "verbs": ["get"]}]});
    let (thing, resources) = (thing.to_string(), resources.to_string());
    let backend = Backend::serve(move |path, _| if path == PATH { thing.clone() } else { resources.clone() }).await;
    for object in serving(&backend) {
        crate::cluster::apply(&bench.cluster, &object.to_string());
    }
    let available = "wait --for=condition=Available apiservice/v1.bench.example.com --timeout=30s";
    eventually("the aggregated server is found", || bench.cluster.kubectl_output(available).status.success());
    let (_, listed) = bench.door.connect().await.send("GET", GROUP, "", "").await;
    assert!(String::from_utf8_lossy(&listed).contains("things"), "it is the aggregated server that answers");
    let get = |mut connection: Connection, _| async move {
        connection.json("GET", PATH, "").await;
        connection
    };
    let direct = rate_of(backend.door().connections(CLIENTS).await, get).await;
    let passed_on = rate_of(bench.door.connections(CLIENTS).await, get).await;
    report("GET of an aggregated object over HTTPS, 16 clients", passed_on, "/s", Budget::None);
    report("the same / straight to its server", passed_on / direct, "", Budget::AtLeast(0.5));
    bench.cluster.kubectl("delete apiservice v1.bench.example.com");
}

/// What leads to the aggregated server.
fn serving(backend: &Backend) -> [Value; 3] {
    let metadata = json!({"name": "bench-backend", "namespace": "default"});
    let service =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 443, "targetPort": backend.port}]}});
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "bench-backend", "namespace": "default", "labels": {"kubernetes.io/service-name": "bench-backend"}},
        "endpoints": [{"addresses": [NODE_IP], "conditions": {"ready": true}}], "ports": [{"port": backend.port}]});
    let registration = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "v1.bench.example.com"}, "spec": {
        "group": "bench.example.com", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 10,
        "service": {"name": "bench-backend", "namespace": "default"}, "caBundle": BASE64_STANDARD.encode(&backend.ca)}});
    [service, slice, registration]
}

/// Creates of Secrets that are sealed beside those that are not, in turns.
pub fn sealed() {
    const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    let (plain, sealed) = (Cluster::place(), Cluster::place());
    let file = sealed.path("encryption.yaml");
    let keys = json!([{"aesgcm": {"keys": [{"name": "one", "secret": KEY}]}}, {"identity": {}}]);
    let configuration = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration",
        "resources": [{"resources": ["secrets"], "providers": keys}]});
    std::fs::write(&file, configuration.to_string()).expect("writes");
    let flag = format!("--encryption-provider-config={}", file.display());
    let daemons = [plain.daemon("control-plane", &["--components=apiserver"]), sealed.daemon("control-plane", &["--components=apiserver", &flag])];
    for cluster in [&plain, &sealed] {
        eventually("the API server is ready", || cluster.kubectl_output("get --raw /readyz").status.success());
    }
    let mut ratios: Vec<f64> = (0..3).map(|round| secrets(&sealed, round) / secrets(&plain, round)).collect();
    ratios.sort_by(f64::total_cmp);
    report("durable creates of 1 KB, sealed / not sealed, 16 clients", ratios[1], "", Budget::AtLeast(0.9));
    drop(daemons);
    // Both end before their directories go.
    std::thread::sleep(Duration::from_millis(100));
}

/// Creates per second.
fn secrets(cluster: &Cluster, round: usize) -> f64 {
    const SECRETS: &str = "/api/v1/namespaces/default/secrets";
    let kubeconfig = cluster.kubeconfig();
    let measured = cluster.within(move || {
        crate::runtime().block_on(async {
            let connections = Door::of(&kubeconfig).connections(CLIENTS).await;
            rate_of(connections, move |mut connection, number| {
                let metadata = json!({"name": format!("s-{round}-{number}")});
                let secret =
                    json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"value": "x".repeat(800)}}).to_string();
                async move {
                    connection.json("POST", SECRETS, secret).await;
                    connection
                }
            })
            .await
        })
    });
    measured.join().expect("no panic")
}
