//! Nodes that fall silent: who is told, who is evicted, and who is spared.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};
use tokio::time::Instant;
use troupe_api::{
    meta::{Object, ObjectKey, time::format_time},
    service::{ListOptions, PatchType},
};
use troupe_api_server::store::memory::MemoryStore;

use super::{eventually, eventually_async};
use crate::{
    apiserver::{
        ApiServerOptions,
        testing::{TestApi, boot, boot_with},
    },
    controllers::{
        node_ipam::{ClusterRange, NodeIpamController},
        node_lifecycle::NodeLifecycleController,
    },
    runtime::{
        cache::{Cache, Caches},
        controller::start,
        system::{System, SystemOptions},
    },
};

const GRACE: Duration = Duration::from_secs(2);

/// Nodes of which nothing was heard for an hour, each with a pod that leaves at once when it may. No controller runs yet.
struct Silence {
    api: TestApi,
    system: System,
    nodes: Cache<Node>,
    pods: Cache<Pod>,
    caches: Caches,
}

impl Silence {
    async fn of(names: &[&str]) -> Self {
        let system = System::new(SystemOptions::default()).expect("arbiters start");
        let options = ApiServerOptions { system: system.clone(), ..ApiServerOptions::new(Arc::new(MemoryStore::new())) };
        let api = boot_with(options).await;
        api.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-node-lease"}})).await;
        let caches = Caches::new(system.clone(), api.client.clone());
        let silence = Silence { nodes: caches.cache(), pods: caches.cache(), api, system, caches };
        for name in names {
            silence.node(name).await;
        }
        silence
    }

    async fn node(&self, name: &str) {
        let long_ago = format_time(self.system.clock().now() - jiff::SignedDuration::from_hours(1));
        self.api.create(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})).await;
        let ready = json!({"type": "Ready", "status": "True", "lastHeartbeatTime": long_ago, "lastTransitionTime": long_ago});
        let target = self.api.subresource("nodes", "", name, "status");
        self.api.patch(target, PatchType::Merge, json!({"status": {"conditions": [ready]}})).await.expect("the status is written");
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name, "namespace": "kube-node-lease"},
            "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": micro(self.system.clock().now() - jiff::SignedDuration::from_hours(1))},
        });
        self.api.create(lease).await;
        let bears = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 0});
        self.api
            .create(json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
                "spec": {"nodeName": name, "containers": [{"name": "c", "image": "i"}],
                    "tolerations": [bears("node.kubernetes.io/unreachable"), bears("node.kubernetes.io/not-ready")]},
            }))
            .await;
        let target = self.api.subresource("pods", "default", name, "status");
        let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        self.api.patch(target, PatchType::Merge, status).await.expect("the status is written");
    }

    fn start(&self) {
        start(&self.system, &self.caches, self.api.client.clone(), NodeLifecycleController::new(&self.caches, GRACE));
    }

    /// Plays a kubelet that renews its lease.
    fn keep_alive(&self, name: &str) {
        let (client, name, clock) = (self.api.client.clone(), name.to_owned(), self.system.clock().clone());
        tokio::task::spawn_local(async move {
            let leases = client.namespaced::<k8s_openapi::api::coordination::v1::Lease>("kube-node-lease");
            loop {
                let patch = json!({"spec": {"renewTime": micro(clock.now())}});
                leases.patch(&name, "", PatchType::Merge, &patch).await.expect("the lease is renewed");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
    }

    /// Who says so of all events with a reason.
    async fn sources(&self, reason: &str) -> Vec<String> {
        let list = self.api.list("events", "", ListOptions::default()).await.expect("listed");
        let events = list.items.iter().map(|item| item.to_object()).filter(|event| event.str(&["reason"]) == reason);
        let source = |event: Object| {
            assert_eq!(event.str(&["source", "component"]), event.str(&["reportingComponent"]));
            event.str(&["reportingComponent"]).to_owned()
        };
        events.map(source).collect()
    }

    fn ready(&self, name: &str) -> String {
        let node = self.nodes.get(&ObjectKey::cluster(name));
        let conditions = node.and_then(|node| node.object.status.as_ref()?.conditions.clone()).unwrap_or_default();
        conditions.into_iter().find(|condition| condition.type_ == "Ready").map(|condition| condition.status).unwrap_or_default()
    }

    fn taints(&self, name: &str) -> Vec<String> {
        let node = self.nodes.get(&ObjectKey::cluster(name));
        let taints = node.and_then(|node| node.object.spec.as_ref()?.taints.clone()).unwrap_or_default();
        taints.into_iter().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect()
    }

    fn pod(&self, name: &str) -> Arc<Pod> {
        self.pods.get(&ObjectKey::new("default", name)).expect("is there").object.clone()
    }

    fn leaves(&self, name: &str) -> bool {
        self.pod(name).metadata.deletion_timestamp.is_some()
    }

    fn condition(&self, pod: &str, kind: &str) -> Option<String> {
        let pod = self.pod(pod);
        let conditions = pod.status.as_ref()?.conditions.as_ref()?;
        conditions.iter().find(|condition| condition.type_ == kind).map(|condition| condition.status.clone())
    }
}

/// A time as leases have it: finer than seconds, so that every renewal is another one.
fn micro(time: jiff::Timestamp) -> Value {
    time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string().into()
}

#[actix::test]
async fn a_node_is_silent_only_when_it_was_watched_for_the_grace_period() {
    let silence = Silence::of(&["lost", "alive"]).await;
    silence.keep_alive("alive");
    let begun = Instant::now();
    silence.start();
    eventually("the lost node is unknown", || silence.ready("lost") == "Unknown").await;
    assert!(begun.elapsed() >= GRACE, "its old lease alone made it silent after {:?}", begun.elapsed());
    eventually("its pod leaves", || silence.leaves("lost")).await;
    assert!(silence.taints("lost").contains(&"node.kubernetes.io/unreachable:NoExecute".to_owned()));
    assert_eq!(silence.condition("lost", "Ready").as_deref(), Some("False"), "nobody is sent there");
    assert_eq!(silence.condition("lost", "DisruptionTarget").as_deref(), Some("True"));
    assert_eq!((silence.ready("alive").as_str(), silence.leaves("alive")), ("True", false));
    eventually_async("those who marked and evicted it say so", async || {
        let (marked, evicted) = (silence.sources("NodeNotReady").await, silence.sources("TaintManagerEviction").await);
        marked.len() >= 2 && marked.iter().all(|source| source == "node-controller") && evicted == ["taint-eviction-controller"]
    })
    .await;
}

#[actix::test]
async fn a_node_of_which_nobody_says_anything_takes_pods() {
    let silence = Silence::of(&["alive"]).await;
    silence.keep_alive("alive");
    silence.start();
    let taints = json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}, {"key": "own", "effect": "NoSchedule"}]);
    silence.api.create(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "bare"}, "spec": {"taints": taints}})).await;
    eventually("the taint of admission goes", || silence.taints("bare") == ["own:NoSchedule"]).await;
}

#[actix::test]
async fn pods_of_a_node_that_was_not_ready_before_it_fell_silent_are_left_as_they_are() {
    let silence = Silence::of(&["lost", "alive"]).await;
    let patch = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    let target = silence.api.subresource("nodes", "", "lost", "status");
    silence.api.patch(target, PatchType::StrategicMerge, patch).await.expect("the status is written");
    silence.keep_alive("alive");
    silence.start();
    let is_closed = || silence.taints("lost").contains(&"node.kubernetes.io/unreachable:NoSchedule".to_owned());
    eventually("the lost node is unknown", || silence.ready("lost") == "Unknown" && is_closed()).await;
    eventually("its pod leaves", || silence.leaves("lost")).await;
    assert_eq!(silence.condition("lost", "Ready").as_deref(), Some("True"));
    assert!(silence.sources("NodeNotReady").await.is_empty(), "nothing changed that anybody is to be told of");
}

/// As upstream: why it goes is told of a pod that somebody deleted before, and once.
#[actix::test]
async fn a_pod_that_is_going_when_its_node_gets_a_taint_is_told_why_as_any_other() {
    let silence = Silence::of(&["a"]).await;
    silence.keep_alive("a");
    silence.start();
    silence.api.delete("pods", "default", "a", Default::default()).await.expect("accepted");
    eventually("the pod is going", || silence.leaves("a")).await;
    assert_eq!((silence.condition("a", "DisruptionTarget"), silence.sources("TaintManagerEviction").await.len()), (None, 0));
    let taint = |key: &str| json!({"spec": {"taints": [{"key": key, "effect": "NoExecute"}]}});
    let node = || silence.api.target("nodes", "", "a");
    silence.api.patch(node(), PatchType::Merge, taint("example.com/broken")).await.expect("tainted");
    eventually("it is told why", || silence.condition("a", "DisruptionTarget").as_deref() == Some("True")).await;
    let kinds = |pod: &Pod| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        conditions.into_iter().map(|condition| condition.type_).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&silence.pod("a")).last().map(String::as_str), Some("DisruptionTarget"), "the newest comes last");
    // What is looked at meanwhile says nothing more; another taint is told of again, and that is the same event, counted.
    let told = async || {
        let list = silence.api.list("events", "default", ListOptions::default()).await.expect("listed");
        let events = list.items.iter().map(|item| item.to_object()).filter(|event| event.str(&["reason"]) == "TaintManagerEviction");
        events.map(|event| event.get(&["count"]).and_then(Value::as_i64).unwrap_or(0)).sum::<i64>()
    };
    eventually_async("there is an event", async || told().await == 1).await;
    tokio::time::sleep(GRACE).await;
    assert_eq!(told().await, 1);
    silence.api.patch(node(), PatchType::Merge, taint("example.com/worse")).await.expect("tainted");
    eventually_async("it is told again", async || told().await == 2).await;
}

#[actix::test]
async fn nodes_that_come_and_go_are_told_of() {
    let silence = Silence::of(&["a"]).await;
    silence.start();
    eventually_async("it is registered", async || silence.sources("RegisteredNode").await == ["node-controller"]).await;
    silence.api.delete("nodes", "", "a", Default::default()).await.expect("deleted");
    eventually_async("it is gone", async || silence.sources("RemovingNode").await == ["node-controller"]).await;
}

#[actix::test]
async fn old_labels_of_a_node_follow_the_new_ones() {
    let silence = Silence::of(&["a"]).await;
    silence.start();
    let labels = json!({"kubernetes.io/os": "linux", "beta.kubernetes.io/os": "plan9"});
    let patch = json!({"metadata": {"labels": labels}});
    silence.api.patch(silence.api.target("nodes", "", "a"), PatchType::Merge, patch).await.expect("labelled");
    let old = || silence.nodes.get(&ObjectKey::cluster("a"))?.object.metadata.labels.as_ref()?.get("beta.kubernetes.io/os").cloned();
    eventually("the old label says what the new one says", || old().as_deref() == Some("linux")).await;
}

#[actix::test]
async fn nobody_is_evicted_when_all_nodes_fall_silent() {
    let silence = Silence::of(&["a", "b", "c"]).await;
    silence.start();
    let names = ["a", "b", "c"];
    eventually("all are unknown", || names.iter().all(|name| silence.ready(name) == "Unknown")).await;
    let closed = |name: &&str| silence.taints(name).contains(&"node.kubernetes.io/unreachable:NoSchedule".to_owned());
    eventually("none takes new pods", || names.iter().all(closed)).await;
    let until = Instant::now() + GRACE * 2;
    while Instant::now() < until {
        for name in names {
            assert!(!silence.leaves(name), "{name} is emptied");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // One is back: the others are lost by themselves then, and may be emptied.
    silence.keep_alive("a");
    let now = format_time(silence.system.clock().now());
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": now, "lastTransitionTime": now}]}});
    let target = silence.api.subresource("nodes", "", "a", "status");
    silence.api.patch(target, PatchType::StrategicMerge, ready).await.expect("the status is written");
    eventually("a pod of a lost node leaves", || silence.leaves("b") || silence.leaves("c")).await;
    assert!(!silence.leaves("a"));
    let left = silence.pod(if silence.leaves("b") { "b" } else { "c" });
    let conditions = left.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let disrupted = conditions.iter().find(|condition| condition.type_ == "DisruptionTarget");
    assert_eq!(disrupted.and_then(|condition| condition.observed_generation), Some(1));
}

#[actix::test]
async fn a_node_for_which_no_range_is_left_is_told_of() {
    let api = boot().await;
    let system = api.server.system().clone();
    let caches = Caches::new(system.clone(), api.client.clone());
    let range = ClusterRange { network: "10.244.0.0/24".parse().expect("a range"), node_prefix: 24 };
    start(&system, &caches, api.client.clone(), NodeIpamController::new(&caches, vec![range]));
    for name in ["one", "two"] {
        api.create(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})).await;
    }
    let told = async || {
        let events = api.list("events", "default", ListOptions::default()).await.expect("listed").items;
        let mut told: Vec<_> = events.iter().map(|event| event.to_object()).collect();
        told.retain(|event| event.str(&["reason"]) == "CIDRNotAvailable");
        told
    };
    eventually_async("one of them has none", async || !told().await.is_empty()).await;
    let event = told().await.remove(0);
    let node = event.str(&["involvedObject", "name"]).to_owned();
    assert_eq!((event.str(&["type"]), event.str(&["message"])), ("Normal", format!("Node {node} status is now: CIDRNotAvailable").as_str()));
}
