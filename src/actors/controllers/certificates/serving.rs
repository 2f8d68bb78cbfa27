//! `kubelet-serving-approver`: approves serving certificates of our own nodes.
//!
//! Upstream leaves these to administrators, because it cannot tell whose the addresses are. Here a node's certificate is
//! approved when the node itself asks for it, for its own name and for the address from which it asks, which the API server noted
//! and the node could not. What the node says of itself, in its Node object, is not enough: that may only delay the approval. Names
//! and addresses of the cluster's own, and of other nodes, are never approved here.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use k8s_openapi::api::{
    certificates::v1::CertificateSigningRequest,
    core::v1::{Endpoints, Node},
    networking::v1::ServiceCIDR,
};
use troupe_api::{
    auth::{node::ClusterIdentity, peer::Peer},
    certificates::{KUBELET_SERVING_SIGNER, SigningRequest, kubelet_serving},
    meta::ObjectKey,
    projection::MetaProjection,
};

use super::{is_pending, parse, put, usages, with_condition, with_ranges};
use crate::runtime::{
    cache::{Cache, Caches, Digest, Digests},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

const MESSAGE: &str = "Auto approving kubelet serving certificate: the node asks for it, for its name and the address that it asks from.";

/// See the module.
pub struct KubeletServingApprover {
    requests: Cache<CertificateSigningRequest>,
    nodes: Cache<Node>,
    addresses: Digests<Node, NodeAddresses>,
    endpoints: Cache<Endpoints>,
    ranges: Cache<ServiceCIDR>,
    cluster: ClusterIdentity,
}

impl KubeletServingApprover {
    /// `cluster` is what is known of the cluster's names and addresses; API servers that come later tell theirs in `default/kubernetes`.
    pub fn new(caches: &Caches, cluster: ClusterIdentity) -> Self {
        let nodes: Cache<Node> = caches.cache();
        let (requests, endpoints, ranges) = (caches.cache(), caches.cache(), caches.cache());
        KubeletServingApprover { requests, addresses: nodes.digests(), nodes, endpoints, ranges, cluster }
    }

    fn cluster(&self) -> ClusterIdentity {
        let mut cluster = with_ranges(&self.cluster, &self.ranges);
        let servers = self.endpoints.get(&ObjectKey::new("default", "kubernetes"));
        let subsets = servers.iter().flat_map(|servers| servers.object.subsets.iter().flatten());
        let addresses = subsets.flat_map(|subset| subset.addresses.iter().flatten());
        cluster.servers.extend(addresses.filter_map(|address| address.ip.parse::<IpAddr>().ok()));
        cluster
    }
}

/// The addresses that a node shows, in order. Thousands of nodes may ask at the same time, and each is compared with all others.
#[derive(Debug)]
pub(super) struct NodeAddresses {
    meta: Arc<MetaProjection>,
    ips: Box<[IpAddr]>,
}

impl Digest<Node> for NodeAddresses {
    fn of(meta: &Arc<MetaProjection>, node: &Node) -> Self {
        let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
        let ips: BTreeSet<IpAddr> = addresses.filter_map(|address| address.address.parse::<IpAddr>().ok()).map(|ip| ip.to_canonical()).collect();
        NodeAddresses { meta: meta.clone(), ips: ips.into_iter().collect() }
    }
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is no business of this controller.
    Foreign,
    /// Not yet, or not without an administrator; for this reason.
    Wait(String),
    Approve,
}

/// The name of the node whose serving certificate is asked for by itself.
pub(super) fn own_node<'a>(request: &'a CertificateSigningRequest, asked: &SigningRequest) -> Option<&'a str> {
    let spec = &request.spec;
    let fits = spec.signer_name == KUBELET_SERVING_SIGNER && kubelet_serving(asked, usages(request)).is_ok();
    let username = spec.username.as_deref().filter(|name| fits && *name == asked.common_name)?;
    let is_node = spec.groups.iter().flatten().any(|group| group == "system:nodes");
    username.strip_prefix("system:node:").filter(|name| is_node && !name.is_empty())
}

pub(super) fn judge(request: &CertificateSigningRequest, asked: &SigningRequest, nodes: &[Arc<NodeAddresses>], cluster: &ClusterIdentity) -> Verdict {
    let Some(name) = own_node(request, asked) else { return Verdict::Foreign };
    let why = wrong_name(asked, name, cluster).or_else(|| wrong_address(request, asked, cluster)).or_else(|| contradiction(asked, name, nodes));
    why.map_or(Verdict::Approve, Verdict::Wait)
}

/// A name in the request that is not the node's, or that no node may have.
fn wrong_name(asked: &SigningRequest, node: &str, cluster: &ClusterIdentity) -> Option<String> {
    let mut names = asked.dns_names.iter();
    let wrong = names.find(|name| *name != node || cluster.name(name).is_some())?;
    Some(format!("{wrong:?} is not a name of the node alone"))
}

/// An address in the request that the node has not proven to be its own, or that no node may have.
fn wrong_address(request: &CertificateSigningRequest, asked: &SigningRequest, cluster: &ClusterIdentity) -> Option<String> {
    let peer = Peer::of(request.spec.extra.as_ref());
    asked.ips.iter().map(IpAddr::to_canonical).find_map(|ip| match cluster.address(ip) {
        Some(reserved) => Some(format!("{ip} is {}", reserved.what())),
        None => (!peer.proves(ip)).then(|| format!("the request does not come from {ip}")),
    })
}

/// What the Node objects say against it: the node does not show an address yet, or another one does.
fn contradiction(asked: &SigningRequest, name: &str, nodes: &[Arc<NodeAddresses>]) -> Option<String> {
    let ips: BTreeSet<IpAddr> = asked.ips.iter().map(IpAddr::to_canonical).collect();
    let (mut missing, mut known) = (ips.clone(), false);
    for NodeAddresses { meta, ips: shown } in nodes.iter().map(|node| &**node) {
        if *meta.name == *name {
            known = true;
            missing.retain(|ip| !shown.contains(ip));
        } else if let Some(ip) = shown.iter().find(|ip| ips.contains(ip)) {
            return Some(format!("{ip} is node {:?}'s", meta.name));
        }
    }
    if !known {
        return Some("the node is not registered".into());
    }
    missing.first().map(|ip| format!("the node does not show the address {ip}"))
}

impl Controller for KubeletServingApprover {
    const NAME: &'static str = "kubelet-serving-approver";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<CertificateSigningRequest>();
        watches.reads::<Endpoints>();
        watches.reads::<ServiceCIDR>();
        let requests = self.requests.clone();
        // A node that registers, or shows another address, may make a waiting request right.
        watches.map::<Node>(move |change| {
            let addresses = |node: Option<&Arc<Node>>| node.and_then(|node| node.status.as_ref()?.addresses.clone());
            if addresses(change.before()) == addresses(change.after()) {
                return Vec::new();
            }
            let user = format!("system:node:{}", change.key.name);
            let waits = |request: &CertificateSigningRequest| request.spec.username.as_deref() == Some(&*user) && is_pending(request);
            let names = requests.list("").into_iter().filter(|request| waits(request)).filter_map(|request| request.metadata.name.clone());
            names.map(ObjectKey::cluster).collect()
        });
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(request) = self.requests.get(key).filter(|request| is_pending(&request.object)) else { return Ok(Outcome::Done) };
        let request = &request.object;
        let Ok(asked) = parse(request) else { return Ok(Outcome::Done) };
        if own_node(request, &asked).is_none() {
            return Ok(Outcome::Done);
        }
        let nodes = self.addresses.read(&self.nodes.select_stored("", |_| true)).await;
        match judge(request, &asked, &nodes, &self.cluster()) {
            Verdict::Foreign => Ok(Outcome::Done),
            Verdict::Wait(why) => {
                tracing::info!(request = %key, node = asked.common_name, why, "serving certificate is not approved automatically");
                Ok(Outcome::Done)
            }
            Verdict::Approve => {
                tracing::info!(request = %key, node = asked.common_name, "serving certificate approved");
                put(cx, &self.requests, "approval", &with_condition(request, "Approved", "AutoApproved", MESSAGE.into())).await
            }
        }
    }
}
