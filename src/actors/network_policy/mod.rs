//! Network policies, enforced on the node of the pods that they select.
//!
//! ```text
//! NetworkPolicies ───────┐
//! ClusterNetworkPolicies ┤
//! namespaces' labels ────┼► PolicyRouter ─► PodRules (one per pod): plan ──┐
//! pods of the node ──────┤            └──► PeerRules (one per set of peers)┴► RuleTable (`rules`) ─► ipset, iptables
//! slices of peers ───────┘
//! ```
//!
//! A pod that policies isolate has a chain for each direction that returns what they allow and drops the rest; peers are sets of addresses
//! that rules of all pods share. What begins a connection is judged where it is forwarded, after Services are translated; replies pass. Traffic
//! of the node itself is not forwarded: a node always reaches its own pods, and pods their node, as the API's documentation says, unless a policy
//! of the whole cluster keeps a pod from it.
//!
//! Which addresses peers have a node may not read from pods: the control plane tells it in slices ([`slices`]). Rules outlive the daemon; a
//! later one takes them over. The kubelet asks the [`PodGate`] before it starts a container: the pod's rules stand before its first packet.
//! While a cluster has no policy, a node follows nothing but policies. Those of the whole cluster ([`cluster`]) are there when their definition is;
//! a node reads the labels of namespaces to know which of its pods they select.
//!
//! Sources: the API's documentation of `networking.k8s.io/v1`, and
//! <https://kubernetes.io/docs/concepts/services-networking/network-policies/>.

pub mod blocks;
mod chain;
pub mod cluster;
pub mod deciding;
pub mod gate;
pub mod inside;
pub mod layout;
mod messages;
pub mod model;
pub mod names;
mod peer_rules;
pub mod plan;
mod pod_rules;
mod router;
pub mod running;
pub mod slices;
mod uses;
pub(crate) mod view;

#[cfg(test)]
mod cluster_tests;
#[cfg(test)]
mod kernel_tests;
#[cfg(test)]
mod link_tests;
#[cfg(test)]
mod plan_tests;
#[cfg(test)]
mod unit_tests;

use std::sync::Arc;

use ipnetwork::IpNetwork;
use k8s_openapi::api::{
    core::v1::{Namespace, Node, Pod, Service},
    discovery::v1::EndpointSlice,
    networking::v1::{NetworkPolicy, ServiceCIDR},
};
use troupe_net::iptables::{Family, IpSets, Iptables};

pub use self::gate::{EveryGate, FreshGate, OpenGate, PodGate};
use self::{cluster::ClusterNetworkPolicy, router::PolicyRouter, running::RunningPods};
use crate::runtime::{cache::Lister, host::UnitAddr, system::System, unit::Policy};

/// What policies select and name here, followed only once there is a policy.
#[derive(Clone)]
pub struct Followed {
    /// The pods of this node.
    pub pods: Lister<Pod>,
    pub namespaces: Lister<Namespace>,
    pub slices: Lister<EndpointSlice>,
    /// These tell to which addresses no domain name leads.
    pub nodes: Lister<Node>,
    pub services: Lister<Service>,
    pub ranges: Lister<ServiceCIDR>,
}

/// What the units work with.
#[derive(Clone)]
pub struct NetworkPolicyOptions {
    pub policies: Lister<NetworkPolicy>,
    pub cluster_policies: Lister<ClusterNetworkPolicy>,
    /// Begins to follow the rest.
    pub follow: Arc<dyn Fn() -> Followed + Send + Sync>,
    /// The pods that ran before this daemon.
    pub running: Arc<dyn RunningPods>,
    pub iptables: Arc<dyn Iptables>,
    pub sets: Arc<dyn IpSets>,
    pub family: Family,
    /// The ranges of the cluster's pods: to these no domain name leads, as to other addresses of the cluster ([`inside`]).
    pub inside: Arc<[IpNetwork]>,
    /// Why this machine cannot enforce policies; then pods that one selects are not started.
    pub unable: Option<Arc<str>>,
}

/// The running units.
#[derive(Clone)]
pub struct NetworkPolicies {
    router: UnitAddr<PolicyRouter>,
}

impl NetworkPolicies {
    /// The path of the units.
    pub const PATH: &str = "network-policy";
    const PATH_IPV6: &str = "network-policy-ipv6";

    /// The path of the units of a family.
    pub fn path(family: Family) -> &'static str {
        match family {
            Family::V4 => NetworkPolicies::PATH,
            Family::V6 => NetworkPolicies::PATH_IPV6,
        }
    }

    /// Starts the units. They wait by themselves for their caches.
    pub fn start(options: NetworkPolicyOptions, system: &System) -> Self {
        let policy = Policy { mailbox: 4096, ..Policy::default() };
        NetworkPolicies { router: system.spawn(NetworkPolicies::path(options.family), policy, move |_| PolicyRouter::new(options.clone())) }
    }

    /// What the kubelet asks before it starts a pod.
    pub fn gate(&self) -> Arc<dyn PodGate> {
        Arc::new(gate::RouterGate::new(self.router.clone()))
    }
}
