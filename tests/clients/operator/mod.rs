//! An operator as people write them with kube-rs (watches, finalizers, status, leader election), in pods of a cluster whose API server is
//! killed again and again.
//!
//! The pods run this very test program: its file lies on the node, and a container that sees the node's files starts it there. So no
//! image is built for it.

mod certificates;
mod lease;
mod reconcile;
mod webhook;

use std::{process::Command, sync::Arc, thread, time::Duration};

use kube::Client;
use serde_json::{Value, json};

use crate::cluster::{Backend, Cluster, apply, eventually_within};

/// How long anything may take; most of it is the time of the old leader.
const PATIENCE: Duration = Duration::from_secs(90);
const NAMESPACE: &str = "operator";
/// What the test runs in a pod.
const ENTRY: &str = "an_operator_in_a_pod";
/// What the pod is to do.
const ROLE: &str = "OPERATOR_ROLE";
/// How often the API server is killed.
const KILLS: usize = 3;

/// What a pod runs: the controller until it is ended, or what a chart has besides.
pub fn run() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (client, own) = reconcile::connect().await;
        match std::env::var(ROLE).as_deref().unwrap_or_default() {
            "webhook" => webhook::serve().await,
            "certify" => certificates::certify(&client).await,
            "trust" => certificates::trust(&client).await,
            "forget" => certificates::forget(&client).await,
            _ => control(client, own.into()).await,
        }
    });
}

async fn control(client: Client, own: Arc<str>) {
    loop {
        let leads = lease::acquire(&client, &own).await;
        println!("{own} leads");
        tokio::select! {
            () = lease::keep(&client, &own, leads) => println!("{own} leads no more"),
            () = reconcile::reconcile_all(client.clone(), own.clone()) => println!("{own} has nothing to watch any more"),
        }
    }
}

pub fn survives(backend: Backend) {
    let cluster = Cluster::up_on(backend);
    cluster.kubectl(&format!("create namespace {NAMESPACE}"));
    cluster.eventually_has("serviceaccount/default", NAMESPACE);
    cluster.kubectl(&format!("create clusterrolebinding operator --clusterrole=cluster-admin --serviceaccount={NAMESPACE}:default"));
    apply(&cluster, &definition().to_string());
    cluster.kubectl("wait --for=condition=Established customresourcedefinition/widgets.example.com --timeout=30s");
    apply(&cluster, &deployment().to_string());
    cluster.kubectl(&format!("-n {NAMESPACE} rollout status deployment/operator --timeout=90s"));
    for name in ["a", "b", "c"] {
        apply(&cluster, &widget(name, 1).to_string());
    }
    await_settled(&cluster, &[("a", 1), ("b", 1), ("c", 1)]);
    for round in 0..KILLS {
        let number = i64::try_from(round).expect("small");
        kill_api_server(&cluster);
        // While the operator finds its way back there is something new, something changed, and something deleted.
        apply(&cluster, &widget(&format!("new-{round}"), number).to_string());
        apply(&cluster, &widget("a", 10 + number).to_string());
        let gone = if round == 0 { "b".to_owned() } else { format!("new-{}", round - 1) };
        cluster.kubectl(&format!("-n {NAMESPACE} delete widget {gone} --wait=false"));
        await_settled(&cluster, &[("a", 10 + number), ("c", 1), (&format!("new-{round}"), number)]);
    }
    another_leads_when_the_leader_goes(&cluster);
    let restarts = cluster.kubectl(&format!("-n {NAMESPACE} get pods -o jsonpath={{.items[*].status.containerStatuses[*].restartCount}}"));
    assert!(restarts.split_whitespace().all(|count| count == "0"), "operators crash: {restarts}");
    cluster.kubectl(&format!("-n {NAMESPACE} delete widgets --all --timeout=60s"));
    assert_eq!(found(&cluster, "configmaps -l of=widget"), Vec::<Value>::new(), "finalizers and owners leave nothing");
}

fn kill_api_server(cluster: &Cluster) {
    let killed = Command::new("kill").args(["-9", &cluster.pid()]).status().expect("kill runs");
    assert!(killed.success());
    thread::sleep(Duration::from_secs(1));
    cluster.start();
}

fn another_leads_when_the_leader_goes(cluster: &Cluster) {
    let holder = || cluster.kubectl(&format!("-n {NAMESPACE} get lease {} -o jsonpath={{.spec.holderIdentity}}", lease::NAME));
    let before = holder();
    cluster.kubectl(&format!("-n {NAMESPACE} delete pod {before} --grace-period=0 --force"));
    eventually_within(PATIENCE, "another one leads", || holder() != before);
    apply(cluster, &widget("later", 7).to_string());
    eventually_within(PATIENCE, "the new leader works", || {
        let later = found(cluster, "widgets later");
        later.iter().any(|widget| widget["status"]["count"] == 7 && widget["status"]["by"] != before.as_str())
    });
}

/// Waits until there are these widgets with their counts and no others, each with its status, its own map and what it has outside.
fn await_settled(cluster: &Cluster, wanted: &[(&str, i64)]) {
    let settled = || {
        let (widgets, maps) = (found(cluster, "widgets"), found(cluster, "configmaps -l of=widget"));
        let has = |name: String, count: i64| {
            maps.iter().any(|map| map["metadata"]["name"] == name && map["data"]["count"].as_str() == Some(&*count.to_string()))
        };
        widgets.len() == wanted.len()
            && maps.len() == 2 * wanted.len()
            && wanted.iter().all(|(name, count)| {
                let ready = |widget: &Value| {
                    let generation = &widget["metadata"]["generation"];
                    widget["metadata"]["name"] == *name
                        && widget["status"]["observedGeneration"] == *generation
                        && widget["status"]["count"] == *count
                };
                widgets.iter().any(ready) && has(format!("inner-{name}"), *count) && has(format!("outer-{name}"), *count)
            })
    };
    eventually_within(PATIENCE, &format!("{wanted:?}"), settled);
}

fn found(cluster: &Cluster, what: &str) -> Vec<Value> {
    let output = cluster.kubectl_output(&format!("-n {NAMESPACE} get {what} -o json"));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    match answer["items"].as_array() {
        Some(items) => items.clone(),
        None if answer.is_object() => vec![answer],
        None => Vec::new(),
    }
}

fn definition() -> Value {
    let count = json!({"type": "object", "properties": {"count": {"type": "integer", "minimum": 0}}, "required": ["count"]});
    let status = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": count, "status": status}, "required": ["spec"]}});
    let version = json!({"name": "v1", "served": true, "storage": true, "schema": schema, "subresources": {"status": {}}});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "widgets.example.com"}, "spec": {
        "group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget", "singular": "widget"}, "versions": [version]}})
}

fn widget(name: &str, count: i64) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": {"count": count}})
}

/// Two operators, one of which leads.
fn deployment() -> Value {
    let program = std::env::current_exe().expect("has a path");
    let secrets = "/var/run/secrets/kubernetes.io/serviceaccount";
    let script = format!(
        "export {}=$(cat {secrets}/token) {}=$(base64 -w0 {secrets}/ca.crt); exec chroot /node {} --exact {ENTRY} --ignored --nocapture",
        reconcile::TOKEN,
        reconcile::AUTHORITY,
        program.display()
    );
    let own = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let container = json!({
        "name": "operator", "image": "docker.io/library/busybox:1.35", "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script],
        "env": [own(reconcile::NAME, "metadata.name"), own(reconcile::NAMESPACE, "metadata.namespace")],
        "volumeMounts": [{"name": "node", "mountPath": "/node", "readOnly": true}],
    });
    let node = json!({"name": "node", "hostPath": {"path": "/", "type": "Directory"}});
    let spec = json!({"containers": [container], "volumes": [node], "terminationGracePeriodSeconds": 1});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "operator", "namespace": NAMESPACE}, "spec": {
        "replicas": 2, "selector": {"matchLabels": {"app": "operator"}},
        "template": {"metadata": {"labels": {"app": "operator"}}, "spec": spec}}})
}
