//! What controller and nodes agree on about addresses of load-balanced Services.

use std::{collections::BTreeSet, net::IpAddr};

use k8s_openapi::api::core::v1::{Node, Service};

/// Upstream's: a Service with it is kept until its load balancer is gone.
pub const FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";
/// On Services whose address nodes announce on their links.
pub const ANNOUNCED: &str = "troupe.dev/announced-on-link";

/// On Nodes: the addresses of the pool that somebody else on a link of the node answers for, with commas between.
pub const ANSWERED_BY_OTHERS: &str = "troupe.dev/answered-by-others";

/// Upstream's: a node with it gets no traffic of load balancers.
pub const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// The cluster autoscaler's, before it removes a node.
pub const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// Whether a node may announce addresses, and its word about them counts: it is Ready, stays, and nobody excluded it.
pub fn may_announce(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let excluded = node.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(EXCLUDED));
    ready && !excluded && node.metadata.deletion_timestamp.is_none() && !taints.into_iter().any(|taint| taint.key == TO_BE_DELETED)
}

/// The addresses of [`ANSWERED_BY_OTHERS`].
pub fn answered_by_others(node: &Node) -> BTreeSet<IpAddr> {
    let text = node.metadata.annotations.as_ref().and_then(|annotations| annotations.get(ANSWERED_BY_OTHERS));
    text.into_iter().flat_map(|text| text.split(',')).filter_map(|address| address.parse().ok()).take(MOST_ANSWERED).collect()
}

/// More addresses a node does not name.
pub const MOST_ANSWERED: usize = 256;

/// Whether a Service asks for an address from here: with a class it asks somebody else.
pub fn wants(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| spec.type_.as_deref() == Some("LoadBalancer") && spec.load_balancer_class.is_none())
}

/// Whether a Service's address is announced by nodes here.
pub fn is_announced(service: &Service) -> bool {
    service.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(ANNOUNCED))
}

/// The addresses that a Service was given here.
pub fn assigned(service: &Service) -> Vec<IpAddr> {
    if !is_announced(service) {
        return Vec::new();
    }
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_ref()).into_iter().flatten();
    ingress.filter_map(|ingress| ingress.ip.as_ref()?.parse().ok()).collect()
}

/// Likewise, for who announces them: a Service that is going has none any more.
pub fn assigned_here(service: &Service) -> Vec<IpAddr> {
    if wants(service) && service.metadata.deletion_timestamp.is_none() { assigned(service) } else { Vec::new() }
}
