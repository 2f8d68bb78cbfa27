//! What policies' peers follow from: policies, pods, nodes and the labels of namespaces, held small. Written by the caches' threads, read
//! without locks.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use arc_swap::ArcSwap;
use imbl::OrdMap;
use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;
use troupe_api::{
    meta::{LabelSelector, ObjectKey},
    shared::Shared,
};
use troupe_net::{dns::domain_names, iptables::Family};

use super::plan::{Part, Peers};
use crate::network_policy::{
    cluster::{ClusterPolicyView, HOME},
    model::{Labels, PeerSelector, PeerSet, PodView, PolicyView, Protocol},
    view::put,
};

/// A policy's sets of pods, nodes and domain names.
type Sets = Arc<Vec<(Arc<str>, PeerSet)>>;

/// The namespace where a policy's peers are told, and the policy.
type Place = (Arc<str>, ObjectKey);

/// What matters of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    pub labels: Labels,
    pub ips: Vec<IpAddr>,
}

impl NodeView {
    pub fn of(node: &Node) -> Self {
        let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
        NodeView {
            labels: node.metadata.labels.clone().unwrap_or_default(),
            // Names are not looked up.
            ips: addresses.filter_map(|address| address.address.parse().ok()).collect(),
        }
    }
}

/// See the module.
#[derive(Default)]
pub struct World {
    policies: ArcSwap<OrdMap<Place, Sets>>,
    pods: ArcSwap<OrdMap<ObjectKey, Arc<PodView>>>,
    /// Those of pods: many have the same.
    labels: Mutex<Shared<Labels>>,
    namespaces: ArcSwap<OrdMap<Arc<str>, Arc<Labels>>>,
    nodes: ArcSwap<OrdMap<Arc<str>, Arc<NodeView>>>,
}

impl World {
    /// A policy changed; gives its namespace when its peers did.
    pub fn set_policy(&self, key: &ObjectKey, policy: Option<PolicyView>) -> Option<Arc<str>> {
        self.set_sets((key.namespace.clone(), key.clone()), policy.map(|policy| policy.peer_sets()))
    }

    /// The same of a cluster network policy, whose domain names are told in a namespace of their own.
    pub fn set_cluster_policy(&self, key: &ObjectKey, policy: Option<ClusterPolicyView>) -> Vec<Arc<str>> {
        match self.set_sets((HOME.into(), key.clone()), policy.map(|policy| policy.peer_sets())) {
            Some(home) => vec![home, domain_names::NAMESPACE.into()],
            None => Vec::new(),
        }
    }

    fn set_sets(&self, place: Place, sets: Option<BTreeMap<Arc<str>, PeerSet>>) -> Option<Arc<str>> {
        let after = sets.map(|sets| Arc::new(sets.into_iter().filter(|(_, set)| set.is_told()).collect::<Vec<_>>()));
        let before = put(&self.policies, &place, after.clone());
        (before != after).then_some(place.0)
    }

    /// The ids of the sets of all domain names that policies have.
    pub fn domain_names(&self) -> BTreeSet<Arc<str>> {
        let policies = self.policies.load();
        let sets = policies.values().flat_map(|sets| sets.iter());
        sets.filter(|(_, set)| matches!(set, PeerSet::Domain(_))).map(|(id, _)| id.clone()).collect()
    }

    /// A node changed; gives the namespaces of policies that have or had it as a peer.
    pub fn set_node(&self, name: &Arc<str>, node: Option<NodeView>) -> Vec<Arc<str>> {
        let after = node.map(Arc::new);
        let before = put(&self.nodes, name, after.clone());
        if before == after {
            return Vec::new();
        }
        let concerns = |selector: &LabelSelector| before.iter().chain(&after).any(|node| selector.matches(&node.labels));
        self.homes(|set| matches!(set, PeerSet::Nodes(selector) if concerns(selector)))
    }

    /// The namespaces where peers are told of policies that have such a set.
    fn homes(&self, concerned: impl Fn(&PeerSet) -> bool) -> Vec<Arc<str>> {
        let policies = self.policies.load();
        let touched = policies.iter().filter(|(_, sets)| sets.iter().any(|(_, set)| concerned(set)));
        touched.map(|((home, _), _)| home.clone()).collect()
    }

    /// A pod changed; gives the namespaces of policies that have or had it as a peer.
    pub fn set_pod(&self, key: &ObjectKey, pod: Option<PodView>) -> Vec<Arc<str>> {
        let after = pod.map(|pod| Arc::new(PodView { labels: self.labels.lock().share(pod.labels.clone()), ..pod }));
        let before = put(&self.pods, key, after.clone());
        if let Some(before) = &before {
            self.labels.lock().let_go(&before.labels);
        }
        if before == after {
            return Vec::new();
        }
        let namespaces = self.namespaces.load();
        let labels = namespaces.get(&key.namespace).map(Arc::as_ref);
        let concerns = |selector: &PeerSelector| before.iter().chain(&after).any(|pod| selector.selects(pod, labels));
        self.homes(|set| set.selector().is_some_and(concerns))
    }

    /// The labels of a namespace changed; gives the namespaces of policies for which that matters.
    pub fn set_namespace(&self, name: &Arc<str>, labels: Option<Labels>) -> Vec<Arc<str>> {
        let after = labels.map(Arc::new);
        let before = put(&self.namespaces, name, after.clone());
        if before == after {
            return Vec::new();
        }
        let selects = |selector: &PeerSelector, labels: &Option<Arc<Labels>>| match (&selector.namespaces, labels) {
            (Some(selector), Some(labels)) => selector.matches(labels),
            _ => false,
        };
        let moved = |selector: &PeerSelector| selects(selector, &before) != selects(selector, &after);
        self.homes(|set| set.selector().is_some_and(moved))
    }

    /// The addresses of all peers of the policies of a namespace.
    pub fn peers_of(&self, namespace: &str) -> Peers {
        let (policies, pods, namespaces) = (self.policies.load(), self.pods.load(), self.namespaces.load());
        let first: Place = (namespace.into(), ObjectKey::cluster(""));
        let range = policies.range(first..);
        let sets: BTreeMap<&Arc<str>, &PeerSet> =
            range.take_while(|((home, _), _)| &**home == namespace).flat_map(|(_, sets)| sets.iter().map(|(id, set)| (id, set))).collect();
        let mut peers = Peers::new();
        for (id, set) in sets {
            if let PeerSet::Nodes(selector) = set {
                let nodes = self.nodes.load();
                let ips = nodes.values().filter(|node| selector.matches(&node.labels)).flat_map(|node| node.ips.iter().copied());
                ips.for_each(|ip| insert(&mut peers, id, None, ip));
            }
            let Some(selector) = set.selector() else { continue };
            let own = ObjectKey::new(namespace, "");
            let all: Box<dyn Iterator<Item = &Arc<PodView>>> = match &selector.namespaces {
                None => Box::new(pods.range(own..).take_while(|(key, _)| &*key.namespace == namespace).map(|(_, pod)| pod)),
                Some(_) => Box::new(pods.values()),
            };
            for pod in all.filter(|pod| selector.selects(pod, namespaces.get(&pod.key.namespace).map(Arc::as_ref))) {
                add(&mut peers, id, set, pod);
            }
        }
        peers
    }
}

fn add(peers: &mut Peers, id: &Arc<str>, set: &PeerSet, pod: &PodView) {
    let ports = match set {
        PeerSet::Ports(_, name, protocol) => pod.numbers(name, *protocol).into_iter().map(|port| Some((*protocol, port))).collect(),
        _ => vec![None],
    };
    for port in ports {
        for ip in &pod.ips {
            insert(peers, id, port, *ip);
        }
    }
}

fn insert(peers: &mut Peers, id: &Arc<str>, port: Option<(Protocol, u16)>, ip: IpAddr) {
    peers.entry(Part { id: id.clone(), family: Family::of(ip), port }).or_default().insert(ip);
}
