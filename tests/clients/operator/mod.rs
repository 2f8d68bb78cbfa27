//! An operator as people write them with kube-rs (watches, finalizers, status, leader election), in pods of a cluster whose API server is
//! killed again and again. Further pods of it are the conversion webhook of its two versions, of which another one is stored from the
//! second kill on.
//!
//! The pods run this very test program: its file lies on the node, and a container that sees the node's files starts it there. So no
//! image is built for it.

mod certificates;
mod conversion;
mod lease;
mod reconcile;
mod server;
mod webhook;
mod writer;

use std::{collections::BTreeMap, sync::Arc, thread, time::Duration};

use kube::Client;
use serde_json::{Value, json};

use self::{
    conversion::{CONVERTER, DEFINITION, GROUP, amount, definition, introduce},
    writer::Writer,
};
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
            CONVERTER => conversion::serve().await,
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
    for namespace in [NAMESPACE, writer::NAMESPACE] {
        cluster.kubectl(&format!("create namespace {namespace}"));
        cluster.eventually_has("serviceaccount/default", namespace);
    }
    cluster.kubectl(&format!("create clusterrolebinding operator --clusterrole=cluster-admin --serviceaccount={NAMESPACE}:default"));
    let authority = introduce(&cluster);
    apply(&cluster, &definition("v1", &authority).to_string());
    cluster.kubectl(&format!("wait --for=condition=Established {DEFINITION} --timeout=90s"));
    for name in ["operator", CONVERTER] {
        apply(&cluster, &deployment(name).to_string());
        cluster.kubectl(&format!("-n {NAMESPACE} rollout status deployment/{name} --timeout=180s"));
    }
    let writer = Writer::start(&cluster);
    for (name, version) in [("a", "v1"), ("b", "v2"), ("c", "v2")] {
        apply(&cluster, &widget(version, name, 1).to_string());
    }
    await_settled(&cluster, &[("a", 1), ("b", 1), ("c", 1)]);
    for round in 0..KILLS {
        let number = i64::try_from(round).expect("small");
        kill_api_server(&cluster);
        if round == 1 {
            apply(&cluster, &definition("v2", &authority).to_string());
        }
        // While the operator finds its way back there is something new, something changed, and something deleted.
        apply(&cluster, &widget("v2", &format!("new-{round}"), number).to_string());
        apply(&cluster, &widget("v1", "a", 10 + number).to_string());
        let gone = if round == 0 { "b".to_owned() } else { format!("new-{}", round - 1) };
        cluster.kubectl(&format!("-n {NAMESPACE} delete widget {gone} --wait=false"));
        await_settled(&cluster, &[("a", 10 + number), ("c", 1), (&format!("new-{round}"), number)]);
    }
    another_leads_when_the_leader_goes(&cluster);
    has_written(&cluster, &writer.stop());
    let restarts = cluster.kubectl(&format!("-n {NAMESPACE} get pods -o jsonpath={{.items[*].status.containerStatuses[*].restartCount}}"));
    assert!(restarts.split_whitespace().all(|count| count == "0"), "operators crash: {restarts}");
    cluster.kubectl(&format!("-n {NAMESPACE} delete widgets --all --timeout=120s"));
    eventually_within(PATIENCE, "finalizers and owners leave nothing", || found(&cluster, "configmaps -l of=widget").is_empty());
    goes_without_residue(&cluster);
}

/// Both versions show exactly what was acknowledged.
fn has_written(cluster: &Cluster, written: &BTreeMap<String, i64>) {
    let shown = |version: &str, field: &str| -> BTreeMap<String, Value> {
        let listed = cluster.kubectl(&format!("-n {} get widgets.{version}.{GROUP} -o json", writer::NAMESPACE));
        let listed: Value = serde_json::from_str(&listed).expect("JSON");
        let items = listed["items"].as_array().into_iter().flatten();
        items.map(|item| (item["metadata"]["name"].as_str().expect("a name").to_owned(), item["spec"][field].clone())).collect()
    };
    let wanted = |show: fn(i64) -> Value| written.iter().map(|(name, count)| (name.clone(), show(*count))).collect::<BTreeMap<_, _>>();
    assert_eq!(shown("v1", "count"), wanted(Value::from));
    assert_eq!(shown("v2", "amount"), wanted(|count| amount(count).into()));
}

/// Takes everything away, and looks what a definition of the same name finds.
fn goes_without_residue(cluster: &Cluster) {
    cluster.kubectl(&format!("delete {DEFINITION} --timeout=120s"));
    eventually_within(PATIENCE, "the group is gone", || !cluster.kubectl_output(&format!("get --raw /apis/{GROUP}")).status.success());
    cluster.kubectl("delete clusterrolebinding operator");
    cluster.kubectl(&format!("delete namespace {NAMESPACE} {} --timeout=180s", writer::NAMESPACE));
    eventually_within(PATIENCE, "nothing is left", || left(cluster).is_empty());
    apply(cluster, &definition("v2", "").to_string());
    cluster.kubectl(&format!("wait --for=condition=Established {DEFINITION} --timeout=90s"));
    assert_eq!(cluster.kubectl("get widgets -A -o name"), "", "the store holds none any more");
}

/// What still bears one of our names, of all that belongs to no namespace.
fn left(cluster: &Cluster) -> Vec<String> {
    let listed = cluster.kubectl("get customresourcedefinitions,clusterrolebindings,namespaces,persistentvolumes,apiservices -o name");
    let own = [GROUP, NAMESPACE, writer::NAMESPACE, CONVERTER];
    listed.lines().filter(|name| own.iter().any(|own| name.contains(own))).map(str::to_owned).collect()
}

fn kill_api_server(cluster: &Cluster) {
    cluster.strike("-9");
    thread::sleep(Duration::from_secs(1));
    cluster.start();
}

fn another_leads_when_the_leader_goes(cluster: &Cluster) {
    let holder = || cluster.kubectl(&format!("-n {NAMESPACE} get lease {} -o jsonpath={{.spec.holderIdentity}}", lease::NAME));
    let before = holder();
    cluster.kubectl(&format!("-n {NAMESPACE} delete pod {before} --grace-period=0 --force"));
    eventually_within(PATIENCE, "another one leads", || holder() != before);
    apply(cluster, &widget("v2", "later", 7).to_string());
    eventually_within(PATIENCE, "the new leader works", || {
        let later = found(cluster, "widgets later");
        later.iter().any(|widget| widget["status"]["count"] == 7 && widget["status"]["by"] != before.as_str())
    });
}

/// Waits until there are these widgets with their counts and no others, each with its status, its own map and what it has outside.
fn await_settled(cluster: &Cluster, wanted: &[(&str, i64)]) {
    let settled = || {
        let [widgets, amounts] = ["v1", "v2"].map(|version| found(cluster, &format!("widgets.{version}.{GROUP}")));
        let maps = found(cluster, "configmaps -l of=widget");
        let has = |name: String, count: i64| {
            maps.iter().any(|map| map["metadata"]["name"] == name && map["data"]["count"].as_str() == Some(&*count.to_string()))
        };
        let says = |name: &str, count: i64| {
            amounts.iter().any(|widget| widget["metadata"]["name"] == name && widget["spec"]["amount"] == amount(count).as_str())
        };
        widgets.len() == wanted.len()
            && amounts.len() == wanted.len()
            && maps.len() == 2 * wanted.len()
            && wanted.iter().all(|(name, count)| {
                let ready = |widget: &Value| {
                    let generation = &widget["metadata"]["generation"];
                    widget["metadata"]["name"] == *name
                        && widget["status"]["observedGeneration"] == *generation
                        && widget["status"]["count"] == *count
                };
                widgets.iter().any(ready) && says(name, *count) && has(format!("inner-{name}"), *count) && has(format!("outer-{name}"), *count)
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

fn widget(version: &str, name: &str, count: i64) -> Value {
    conversion::widget(version, NAMESPACE, name, count)
}

/// Two pods of the operator: of those that control one leads, the others convert.
fn deployment(name: &str) -> Value {
    let program = std::env::current_exe().expect("has a path");
    let secrets = "/var/run/secrets/kubernetes.io/serviceaccount";
    let converts = name == CONVERTER;
    let certificate = "export OPERATOR_CERTIFICATE=$(base64 -w0 /certificates/tls.crt) OPERATOR_KEY=$(base64 -w0 /certificates/tls.key); ";
    let script = format!(
        "export {}=$(cat {secrets}/token) {}=$(base64 -w0 {secrets}/ca.crt); {}exec chroot /node {} --exact {ENTRY} --ignored --nocapture",
        reconcile::TOKEN,
        reconcile::AUTHORITY,
        if converts { certificate } else { "" },
        program.display()
    );
    let own = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let mut container = json!({
        "name": name, "image": "docker.io/library/busybox:1.35", "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script],
        "env": [{"name": ROLE, "value": name}, own(reconcile::NAME, "metadata.name"), own(reconcile::NAMESPACE, "metadata.namespace")],
        "volumeMounts": [{"name": "node", "mountPath": "/node", "readOnly": true}],
    });
    let mut volumes = vec![json!({"name": "node", "hostPath": {"path": "/", "type": "Directory"}})];
    if converts {
        volumes.push(json!({"name": "certificates", "secret": {"secretName": CONVERTER}}));
        container["volumeMounts"]
            .as_array_mut()
            .expect("a list")
            .push(json!({"name": "certificates", "mountPath": "/certificates", "readOnly": true}));
        container["readinessProbe"] = json!({"tcpSocket": {"port": server::PORT}, "periodSeconds": 1});
    }
    let spec = json!({"containers": [container], "volumes": volumes, "terminationGracePeriodSeconds": 1});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": {
        "replicas": 2, "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": spec}}})
}
