//! The units together, on a recording packet filter.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use imbl::OrdMap;
use k8s_openapi::api::{
    core::v1::{Namespace, Node, Pod, Service},
    discovery::v1::EndpointSlice,
    networking::v1::{NetworkPolicy, ServiceCIDR},
};
use serde_json::{Value, json};
use troupe_api::{
    meta::{Cause, Object, ObjectKey, Revision, SystemClock},
    stored::{KubeObject, StoredObject},
};
use troupe_net::{
    dns::domain_names::{self, DomainName},
    iptables::{FakeIptables, Family, IpSets, Iptables},
};

use super::{
    Followed, NetworkPolicies, NetworkPolicyOptions, PodGate,
    cluster::{ClusterNetworkPolicy, HOME, parse},
    layout::TABLE,
    model::{Direction, PeerSet, PodView, PolicyView},
    names, plan_tests,
    running::RunningPods,
    slices::{MANAGED_BY, MANAGER, PEERS_LABEL},
};
use crate::runtime::{
    cache::Cache,
    directory::Control,
    system::{System, SystemOptions},
};

/// Pods that the runtime tells of.
struct Running(Vec<PodView>);

#[async_trait]
impl RunningPods for Running {
    async fn all(&self) -> Vec<PodView> {
        self.0.clone()
    }
}

/// Units on caches that the test feeds.
pub struct Stage {
    pub policies: Cache<NetworkPolicy>,
    pub cluster_policies: Cache<ClusterNetworkPolicy>,
    pub namespaces: Cache<Namespace>,
    pub pods: Cache<Pod>,
    pub slices: Cache<EndpointSlice>,
    pub nodes: Cache<Node>,
    pub services: Cache<Service>,
    pub ranges: Cache<ServiceCIDR>,
    pub system: System,
    pub gate: Arc<dyn PodGate>,
    followed: Arc<AtomicUsize>,
    revision: std::cell::Cell<u64>,
}

impl Stage {
    pub fn new<F: Iptables + IpSets>(filter: Arc<F>, unable: Option<&str>) -> Self {
        Stage::beside(Running(Vec::new()), filter, unable)
    }

    /// The same on a node where pods run already.
    fn beside<F: Iptables + IpSets>(running: Running, filter: Arc<F>, unable: Option<&str>) -> Self {
        let system = System::new(SystemOptions::local(1, Arc::new(SystemClock))).expect("a system");
        let (pods, slices) = (Cache::<Pod>::default(), Cache::<EndpointSlice>::default());
        let (cluster_policies, namespaces) = (Cache::<ClusterNetworkPolicy>::default(), Cache::<Namespace>::default());
        let (nodes, services, ranges) = (Cache::<Node>::default(), Cache::<Service>::default(), Cache::<ServiceCIDR>::default());
        let followed = Followed {
            pods: pods.clone(),
            namespaces: namespaces.clone(),
            slices: slices.clone(),
            nodes: nodes.clone(),
            services: services.clone(),
            ranges: ranges.clone(),
        };
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        let policies = Cache::<NetworkPolicy>::default();
        let options = NetworkPolicyOptions {
            policies: policies.clone(),
            cluster_policies: cluster_policies.clone(),
            follow: Arc::new(move || {
                counted.fetch_add(1, Ordering::SeqCst);
                followed.clone()
            }),
            running: Arc::new(running),
            iptables: filter.clone(),
            sets: filter,
            family: Family::V4,
            inside: ["10.244.0.0/16".parse().expect("a range")].into(),
            unable: unable.map(Into::into),
        };
        let gate = NetworkPolicies::start(options, &system).gate();
        let revision = std::cell::Cell::new(1);
        Stage { policies, cluster_policies, namespaces, pods, slices, nodes, services, ranges, system, gate, followed: count, revision }
    }

    /// All lists are in, and empty.
    pub fn sync(&self) {
        self.policies.replace_now(OrdMap::new(), Revision(1));
        self.cluster_policies.replace_now(OrdMap::new(), Revision(1));
        self.namespaces.replace_now(OrdMap::new(), Revision(1));
        self.pods.replace_now(OrdMap::new(), Revision(1));
        self.slices.replace_now(OrdMap::new(), Revision(1));
        self.nodes.replace_now(OrdMap::new(), Revision(1));
        self.services.replace_now(OrdMap::new(), Revision(1));
        self.ranges.replace_now(OrdMap::new(), Revision(1));
    }

    fn stored(&self, value: Value) -> (ObjectKey, Arc<StoredObject>, Revision) {
        let revision = Revision(self.revision.get() + 1);
        self.revision.set(revision.0);
        let mut object = Object::from_value(value).expect("a map");
        object.set(&["metadata", "resourceVersion"], revision.0.to_string());
        let stored = Arc::new(StoredObject::from_object(&object).expect("well formed"));
        (stored.key.clone(), stored, revision)
    }

    fn apply<K: KubeObject>(&self, cache: &Cache<K>, value: Value) {
        let (key, stored, revision) = self.stored(value);
        cache.apply(key, Some(stored), revision, &Cause::default());
    }

    pub fn remove<K: KubeObject>(&self, cache: &Cache<K>, name: &str) {
        self.remove_key(cache, ObjectKey::new("ns", name));
    }

    fn remove_key<K: KubeObject>(&self, cache: &Cache<K>, key: ObjectKey) {
        let revision = Revision(self.revision.get() + 1);
        self.revision.set(revision.0);
        cache.apply(key, None, revision, &Cause::default());
    }

    pub fn namespace(&self, labels: Value) {
        let object = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "ns", "uid": "ns", "labels": labels}});
        self.apply(&self.namespaces, object);
    }

    /// A node with this address.
    pub fn node(&self, name: &str, ip: &str) {
        let status = json!({"addresses": [{"type": "InternalIP", "address": ip}]});
        self.apply(&self.nodes, json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": name, "uid": name}, "status": status}));
    }

    /// A range of Services' addresses.
    pub fn range(&self, name: &str, cidr: &str) {
        let object =
            json!({"kind": "ServiceCIDR", "apiVersion": "networking.k8s.io/v1", "metadata": {"name": name, "uid": name}, "spec": {"cidrs": [cidr]}});
        self.apply(&self.ranges, object);
    }

    pub fn cluster_policy(&self, name: &str, spec: Value) {
        self.apply(&self.cluster_policies, cluster_policy(name, spec));
    }

    pub fn remove_cluster_policy(&self, name: &str) {
        self.remove_key(&self.cluster_policies, ObjectKey::cluster(name));
    }

    /// The control plane tells the peers of a cluster network policy's only selector.
    pub fn cluster_peers(&self, spec: Value, ips: &[&str]) -> Arc<str> {
        let policy: ClusterNetworkPolicy = serde_json::from_value(cluster_policy("any", spec)).expect("a policy");
        let id = parse(&policy).policy.expect("is known here").peer_sets().into_keys().next().expect("has peers");
        self.tell(HOME, &id, ips);
        id
    }

    pub fn policy(&self, name: &str, spec: Value) {
        self.apply(&self.policies, policy(name, spec));
    }

    pub fn pod(&self, name: &str, labels: Value, ip: &str) {
        self.apply(&self.pods, pod(name, labels, ip));
    }

    /// The control plane tells the peers of a policy's only selector.
    pub fn peers(&self, name: &str, spec: Value, ips: &[&str]) {
        let policy: NetworkPolicy = serde_json::from_value(policy(name, spec)).expect("a policy");
        let id = PolicyView::of(&policy).peer_sets().into_keys().next().expect("has peers");
        self.tell("ns", &id, ips);
    }

    /// A DNS server tells the addresses of a domain name.
    pub fn domain_peers(&self, name: &DomainName, ips: &[&str]) {
        self.tell(domain_names::NAMESPACE, &name.id(), ips);
    }

    fn tell(&self, namespace: &str, id: &str, ips: &[&str]) {
        let writer = if namespace == domain_names::NAMESPACE { domain_names::SLICE_MANAGER } else { MANAGER };
        let endpoints: Vec<Value> = ips.iter().map(|ip| json!({"addresses": [ip]})).collect();
        self.apply(
            &self.slices,
            json!({
                "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "addressType": "IPv4", "endpoints": endpoints,
                "metadata": {"name": format!("peers-{id}"), "namespace": namespace, "uid": id, "labels": {PEERS_LABEL: id, MANAGED_BY: writer}},
            }),
        );
    }

    pub async fn admit(&self, name: &str, labels: Value, ip: &str) -> Result<(), String> {
        let pod: Pod = serde_json::from_value(pod(name, labels, "")).expect("a pod");
        self.gate.admit(&pod, &[ip.to_owned()], true).await
    }

    /// How often the unit of a pod has planned.
    async fn plans(&self, pod: &str) -> Option<u64> {
        let path = format!("network-policy/pods/ns/{pod}");
        let seen = self.system.directory().observe(Duration::from_secs(1)).await;
        seen.iter().find(|actor| *actor.path == *path).and_then(|actor| actor.status["plans"].as_u64())
    }

    fn crash(&self, path: &str) {
        self.system.directory().get(path).expect("the unit lives").control(Control::Crash("test".into()));
    }
}

fn policy(name: &str, spec: Value) -> Value {
    json!({"kind": "NetworkPolicy", "apiVersion": "networking.k8s.io/v1", "metadata": {"name": name, "namespace": "ns", "uid": name}, "spec": spec})
}

fn cluster_policy(name: &str, spec: Value) -> Value {
    json!({"kind": "ClusterNetworkPolicy", "apiVersion": "policy.networking.k8s.io/v1alpha2", "metadata": {"name": name, "uid": name}, "spec": spec})
}

fn pod(name: &str, labels: Value, ip: &str) -> Value {
    let status = if ip.is_empty() { json!({}) } else { json!({"podIP": ip, "podIPs": [{"ip": ip}]}) };
    json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": labels},
        "spec": {"nodeName": "n", "containers": [{"name": "c"}]}, "status": status})
}

fn deny() -> Value {
    json!({"podSelector": {"matchLabels": {"app": "x"}}})
}

fn allow() -> Value {
    json!({"podSelector": {"matchLabels": {"app": "x"}}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"role": "client"}}}]}]})
}

pub fn ingress(filter: &FakeIptables, pod: &str) -> Option<Vec<String>> {
    filter.rules(TABLE, &names::pod_chain(Direction::Ingress, &ObjectKey::new("ns", pod)))
}

pub async fn until(what: &str, filter: &FakeIptables, check: impl Fn(&FakeIptables) -> bool) {
    for _ in 0..1000 {
        if check(filter) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what} did not happen: {:#?}", filter.transactions());
}

pub async fn local(test: impl Future<Output = ()>) {
    tokio::task::LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_pod_is_admitted_when_its_rules_stand() {
    local(async {
        let filter = Arc::new(FakeIptables::default());
        let stage = Stage::new(filter.clone(), None);
        stage.sync();
        stage.policy("deny", deny());
        stage.admit("a", json!({"app": "x"}), "10.244.0.5").await.expect("is admitted");
        assert!(ingress(&filter, "a").is_some_and(|rules| rules.iter().any(|rule| rule.ends_with("-j DROP"))), "before the API knows the address");
        stage.admit("b", json!({"app": "y"}), "10.244.0.6").await.expect("is admitted");
        assert_eq!(ingress(&filter, "b"), None);
        stage.gate.left("ns", "a", "a").await;
        until("the removal", &filter, |filter| ingress(filter, "a").is_none()).await;
    })
    .await;
}

#[tokio::test]
async fn without_policies_nobody_waits_and_nothing_is_followed() {
    local(async {
        let filter = Arc::new(FakeIptables::default());
        let stage = Stage::new(filter.clone(), None);
        let waits = tokio::time::timeout(Duration::from_millis(100), stage.admit("a", json!({"app": "x"}), "10.244.0.5")).await;
        assert!(waits.is_err(), "nobody is admitted before it is known which policies there are");
        stage.sync();
        stage.admit("a", json!({"app": "x"}), "10.244.0.5").await.expect("is admitted");
        assert_eq!(stage.followed.load(Ordering::SeqCst), 0);
        stage.policy("deny", deny());
        until("the rules of a pod that was there before", &filter, |filter| ingress(filter, "a").is_some()).await;
        assert_eq!(stage.followed.load(Ordering::SeqCst), 1);
    })
    .await;
}

#[tokio::test]
async fn rules_that_cannot_be_installed_hold_a_pod_up_and_a_machine_that_cannot_is_named() {
    local(async {
        let filter = Arc::new(FakeIptables::default());
        let stage = Stage::new(filter.clone(), None);
        stage.sync();
        stage.policy("deny", deny());
        until("the base", &filter, |filter| filter.rules(TABLE, names::POLICY).is_some()).await;
        filter.fail_next(1_000_000);
        let waits = tokio::time::timeout(Duration::from_millis(300), stage.admit("a", json!({"app": "x"}), "10.244.0.5")).await;
        assert!(waits.is_err());
        filter.fail_next(0);
        stage.admit("a", json!({"app": "x"}), "10.244.0.5").await.expect("is admitted");
        let unable = Stage::new(Arc::new(FakeIptables::default()), Some("there is no ipset"));
        unable.sync();
        unable.policy("deny", deny());
        assert_eq!(unable.admit("a", json!({"app": "x"}), "10.244.0.5").await, Err("there is no ipset".to_owned()));
        assert_eq!(unable.admit("b", json!({}), "10.244.0.6").await, Ok(()), "no policy selects it");
    })
    .await;
}

#[tokio::test]
async fn rules_follow_labels_peers_and_policies() {
    local(async {
        let filter = Arc::new(FakeIptables::default());
        let stage = Stage::new(filter.clone(), None);
        stage.sync();
        stage.pod("a", json!({"app": "y"}), "10.244.0.5");
        stage.policy("some", allow());
        stage.pod("a", json!({"app": "x"}), "10.244.0.5");
        until("the rules", &filter, |filter| ingress(filter, "a").is_some_and(|rules| rules.len() == 3)).await;
        let policy: NetworkPolicy = serde_json::from_value(policy("some", allow())).expect("a policy");
        let (id, set) = PolicyView::of(&policy).peer_sets().into_iter().next().expect("has peers");
        assert!(matches!(set, PeerSet::Pods(_)));
        let set = names::set(Family::V4, &id);
        assert_eq!(filter.set(&set), Some(Vec::new()));
        stage.peers("some", allow(), &["10.244.0.9", "10.244.1.7"]);
        until("the peers", &filter, |filter| filter.set(&set).is_some_and(|entries| entries.len() == 2)).await;
        stage.peers("some", allow(), &["10.244.1.7"]);
        until("one peer less", &filter, |filter| filter.set(&set).is_some_and(|entries| entries == ["10.244.1.7"])).await;
        stage.policy("more", deny());
        stage.remove(&stage.policies, "some");
        until("the set's end", &filter, |filter| filter.set(&set).is_none()).await;
        assert!(ingress(&filter, "a").is_some_and(|rules| rules.len() == 2));
        stage.pod("a", json!({"app": "z"}), "10.244.0.5");
        until("the chain's end", &filter, |filter| ingress(filter, "a").is_none()).await;
        assert!(filter.rules(TABLE, "TROUPE-NI-10.244.0.0").is_none());
    })
    .await;
}

#[tokio::test]
async fn a_policy_that_changes_is_planned_for_the_pods_that_it_selects_alone() {
    local(async {
        let filter = Arc::new(FakeIptables::default());
        let stage = Stage::new(filter.clone(), None);
        stage.sync();
        stage.policy("some", deny());
        stage.pod("a", json!({"app": "x"}), "10.244.0.5");
        stage.pod("b", json!({"app": "y"}), "10.244.0.6");
        until("the rules", &filter, |filter| ingress(filter, "a").is_some_and(|rules| rules.len() == 2)).await;
        let before = stage.plans("b").await;
        assert!(before.is_some(), "the other pod has a unit, too");
        let block = json!({"podSelector": {"matchLabels": {"app": "x"}}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.9.0.1/32"}}]}]});
        stage.policy("some", block);
        until("the new rule", &filter, |filter| ingress(filter, "a").is_some_and(|rules| rules.len() == 3)).await;
        let steps = filter.transactions().join("");
        let (filled, named) = (steps.find(" 10.9.0.1\n"), steps.find("--match-set"));
        assert!(filled.is_some() && filled < named, "a set has its entries before rules name it: {steps}");
        assert_eq!(stage.plans("b").await, before, "the policy is not about it");
        stage.policy("some", json!({"podSelector": {"matchLabels": {"app": "y"}}}));
        until("the rules of the other", &filter, |filter| ingress(filter, "b").is_some() && ingress(filter, "a").is_none()).await;
    })
    .await;
}

#[tokio::test]
async fn a_restarted_daemon_takes_rules_over_and_opens_nothing() {
    local(async {
        let filter = Arc::new(FakeIptables::default());
        let first = Stage::new(filter.clone(), None);
        first.sync();
        first.policy("some", allow());
        first.pod("a", json!({"app": "x"}), "10.244.0.5");
        first.pod("gone", json!({"app": "x"}), "10.244.0.6");
        first.peers("some", allow(), &["10.244.1.7"]);
        let settled =
            |filter: &FakeIptables| ingress(filter, "gone").is_some() && filter.transactions().iter().any(|text| text.contains("10.244.1.7"));
        until("all rules", &filter, settled).await;
        first.system.shutdown(Duration::from_secs(5)).await;
        let before = filter.transactions().len();

        let second = Stage::new(filter.clone(), None);
        let one = |(key, stored, _): (ObjectKey, Arc<StoredObject>, Revision)| OrdMap::unit(key, stored);
        second.policies.replace_now(one(second.stored(policy("some", allow()))), Revision(10));
        second.cluster_policies.replace_now(OrdMap::new(), Revision(10));
        second.namespaces.replace_now(OrdMap::new(), Revision(10));
        second.pods.replace_now(one(second.stored(pod("a", json!({"app": "x"}), "10.244.0.5"))), Revision(10));
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(filter.transactions().len(), before, "nothing is touched before the peers are known");
        second.slices.replace_now(OrdMap::new(), Revision(10));
        until("the removal", &filter, |filter| ingress(filter, "gone").is_none()).await;
        assert!(ingress(&filter, "a").is_some());
        let touched = filter.transactions()[before..].join("");
        assert!(!touched.contains(&names::pod_chain(Direction::Ingress, &ObjectKey::new("ns", "a"))), "{touched}");
    })
    .await;
}

#[tokio::test]
async fn a_pod_whose_address_only_the_runtime_knows_stays_isolated_through_a_restart() {
    local(async {
        let filter = Arc::new(FakeIptables::default());
        let first = Stage::new(filter.clone(), None);
        first.sync();
        first.policy("deny", deny());
        first.admit("a", json!({"app": "x"}), "10.244.0.5").await.expect("is admitted");
        first.system.shutdown(Duration::from_secs(5)).await;
        let rules = ingress(&filter, "a").expect("stand");
        let before = filter.transactions().len();
        let running = Running(vec![plan_tests::pod("a", json!({}), "10.244.0.5")]);
        let second = Stage::beside(running, filter.clone(), None);
        let one = |(key, stored, _): (ObjectKey, Arc<StoredObject>, Revision)| OrdMap::unit(key, stored);
        second.policies.replace_now(one(second.stored(policy("deny", deny()))), Revision(10));
        second.cluster_policies.replace_now(OrdMap::new(), Revision(10));
        second.namespaces.replace_now(OrdMap::new(), Revision(10));
        second.pods.replace_now(one(second.stored(pod("a", json!({"app": "x"}), ""))), Revision(10));
        second.slices.replace_now(OrdMap::new(), Revision(10));
        second.admit("b", json!({"app": "x"}), "10.244.0.6").await.expect("is admitted");
        assert_eq!(ingress(&filter, "a"), Some(rules));
        let touched = filter.transactions()[before..].join("");
        assert!(!touched.contains(&names::pod_chain(Direction::Ingress, &ObjectKey::new("ns", "a"))), "{touched}");
    })
    .await;
}

#[tokio::test]
async fn a_panic_of_any_unit_loses_no_rule() {
    local(async {
        let filter = Arc::new(FakeIptables::default());
        let stage = Stage::new(filter.clone(), None);
        stage.sync();
        stage.policy("some", allow());
        stage.pod("a", json!({"app": "x"}), "10.244.0.5");
        until("the rules", &filter, |filter| ingress(filter, "a").is_some()).await;
        for (at, path) in ["network-policy/pods/ns/a", "network-policy/rule-table", "network-policy"].into_iter().enumerate() {
            stage.crash(path);
            let name = format!("b{at}");
            stage.admit(&name, json!({"app": "x"}), &format!("10.244.0.{}", 20 + at)).await.expect("is admitted");
            assert!(ingress(&filter, &name).is_some() && ingress(&filter, "a").is_some(), "after a crash of {path}");
        }
    })
    .await;
}
