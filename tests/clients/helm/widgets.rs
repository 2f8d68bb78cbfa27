//! A chart with all that charts of operators have: a definition, a controller, a webhook served from a pod, its certificate
//! made by a job. It is installed, used, upgraded, rolled back and removed, and nothing of it is left.

use std::cell::Cell;

use serde_json::{Value, json};

use super::Helm;
use crate::cluster::{Cluster, apply, eventually, text};

const NAMESPACE: &str = "chart";
const EVERYTHING: &str = "deployments,replicasets,pods,jobs,services,secrets,configmaps,leases,serviceaccounts";

pub fn lives_with_a_chart() {
    let cluster = Cluster::up();
    let program = std::env::current_exe().expect("has a path");
    let helm = Helm::of(&cluster, NAMESPACE, "chart").with(format!("program={}", program.display()));
    cluster.kubectl(&format!("create namespace {NAMESPACE}"));
    cluster.eventually_has("serviceaccount/default", NAMESPACE);
    cluster.eventually_has("configmap/kube-root-ca.crt", NAMESPACE);
    let before = left(&cluster);
    let _witness = Witness(&cluster);
    helm.run("install shop CHART --wait --timeout 240s");
    let listed: Value = serde_json::from_str(&helm.run("list -o json")).expect("JSON");
    assert_eq!((listed[0]["name"].as_str(), listed[0]["status"].as_str()), (Some("shop"), Some("deployed")));
    is_used(&cluster, &helm);
    cluster.kubectl(&format!("-n {NAMESPACE} delete widgets --all --timeout=120s"));
    helm.run("uninstall shop --wait --timeout 240s");
    // What a chart brings below crds/ helm leaves to people.
    cluster.kubectl("delete customresourcedefinition widgets.example.com --timeout=120s");
    // Pods go after their Deployment, and the lease of the leader was its own: as long as a pod of them runs it makes another one.
    eventually("its pods are gone", || cluster.kubectl(&format!("-n {NAMESPACE} get pods -o name")).is_empty());
    cluster.kubectl(&format!("-n {NAMESPACE} delete lease widget-operator"));
    eventually("nothing of the chart is left", || left(&cluster) == before);
    cluster.kubectl(&format!("delete namespace {NAMESPACE} --timeout=120s"));
}

/// Tells what there is, and what the controller said, when the test has failed.
struct Witness<'a>(&'a Cluster);

impl Drop for Witness<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for words in ["get pods -o wide", "get widgets -o yaml", "logs deployment/shop-controller --tail=40"] {
            let output = self.0.kubectl_output(&format!("-n {NAMESPACE} {words}"));
            eprintln!("{words}:\n{}{}", text(&output.stdout), text(&output.stderr));
        }
    }
}

fn is_used(cluster: &Cluster, helm: &Helm<'_>) {
    // That its pods are ready is known sooner than the way to them.
    eventually("the webhook judges", || refused(cluster, 500).contains("a widget counts 100 at most"));
    apply(cluster, &widget("small", 5).to_string());
    eventually("the controller works", || status(cluster, "small")["count"] == 5);
    helm.run("upgrade shop CHART --set maximum=1000 --wait --timeout 240s");
    // Old pods answer until they are gone.
    eventually("the new webhook judges", || refused(cluster, 500).is_empty());
    eventually("the controller goes on", || status(cluster, "large")["count"] == 500);
    eventually("and its pods alone", || refused(cluster, 5000).contains("a widget counts 1000 at most"));
    helm.run("rollback shop 1 --wait --timeout 240s");
    // What the pods that go have let in is no change any more, and nobody is asked about it.
    let count = Cell::new(500);
    eventually("the old webhook judges", || {
        count.set(count.get() + 1);
        refused(cluster, count.get()).contains("a widget counts 100 at most")
    });
    // It judges each change, that of the controller too when the widget goes.
    eventually("what is allowed is taken", || refused(cluster, 50).is_empty());
    let history: Value = serde_json::from_str(&helm.run("history shop -o json")).expect("JSON");
    assert_eq!(history.as_array().map(Vec::len), Some(3));
}

fn widget(name: &str, count: i64) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": {"count": count}})
}

/// What is said against a widget that counts so much; nothing when it is taken.
fn refused(cluster: &Cluster, count: i64) -> String {
    let file = cluster.path("widget.json");
    std::fs::write(&file, widget("large", count).to_string()).expect("writes");
    let output = cluster.kubectl_output(&format!("apply -f {}", file.display()));
    if output.status.success() { String::new() } else { text(&output.stderr) }
}

fn status(cluster: &Cluster, name: &str) -> Value {
    let output = cluster.kubectl_output(&format!("-n {NAMESPACE} get widget {name} -o json"));
    let widget: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    widget["status"].clone()
}

/// All that a chart could leave behind.
fn left(cluster: &Cluster) -> [String; 2] {
    let wide = "get validatingwebhookconfigurations,clusterrolebindings,customresourcedefinitions -o name";
    [cluster.kubectl(&format!("-n {NAMESPACE} get {EVERYTHING} -o name")), cluster.kubectl(wide)]
}
