//! `kubelet-serving-approver`: approves serving certificates of our own nodes.
//!
//! Upstream leaves these to administrators, because it cannot tell whose the addresses are. Here a node's certificate is
//! approved when the node itself asks for it and every name in it is one of the addresses that its Node object shows.
//! What the API server reaches under such an address is then that node or nobody.

use std::{collections::BTreeSet, net::IpAddr};

use k8s_openapi::api::{certificates::v1::CertificateSigningRequest, core::v1::Node};
use troupe_api::{
    auth::certificates::{KUBELET_SERVING_SIGNER, SigningRequest, kubelet_serving},
    meta::ObjectKey,
};

use super::{is_pending, parse, put, usages, with_condition};
use crate::runtime::{
    cache::{Cache, Caches},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

const MESSAGE: &str = "Auto approving kubelet serving certificate: the node asks for it, and all its names are registered addresses of the node.";

/// See the module.
pub struct KubeletServingApprover {
    requests: Cache<CertificateSigningRequest>,
    nodes: Cache<Node>,
}

impl KubeletServingApprover {
    pub fn new(caches: &Caches) -> Self {
        KubeletServingApprover { requests: caches.cache(), nodes: caches.cache() }
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is no business of this controller.
    Foreign,
    /// The node does not show these addresses, yet.
    Wait,
    Approve,
}

/// The name of the node whose serving certificate is asked for by itself.
pub(super) fn own_node<'a>(request: &'a CertificateSigningRequest, asked: &SigningRequest) -> Option<&'a str> {
    let spec = &request.spec;
    let fits = spec.signer_name == KUBELET_SERVING_SIGNER && kubelet_serving(asked, usages(request)).is_ok();
    let username = spec.username.as_deref().filter(|name| fits && *name == asked.common_name)?;
    let is_node = spec.groups.iter().flatten().any(|group| group == "system:nodes");
    username.strip_prefix("system:node:").filter(|_| is_node)
}

pub(super) fn judge(request: &CertificateSigningRequest, asked: &SigningRequest, node: Option<&Node>) -> Verdict {
    let Some(name) = own_node(request, asked) else { return Verdict::Foreign };
    let Some(node) = node.filter(|node| node.metadata.name.as_deref() == Some(name)) else { return Verdict::Wait };
    let addresses: Vec<_> = node.status.iter().flat_map(|status| status.addresses.iter().flatten()).collect();
    let of = |ip: bool| addresses.iter().filter(move |address| address.type_.ends_with("IP") == ip).map(|address| address.address.as_str());
    let ips: BTreeSet<IpAddr> = of(true).filter_map(|address| address.parse().ok()).collect();
    let names: BTreeSet<&str> = of(false).collect();
    let all_known = asked.ips.iter().all(|ip| ips.contains(ip)) && asked.dns_names.iter().all(|name| names.contains(name.as_str()));
    if all_known { Verdict::Approve } else { Verdict::Wait }
}

impl Controller for KubeletServingApprover {
    const NAME: &'static str = "kubelet-serving-approver";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<CertificateSigningRequest>();
        let requests = self.requests.clone();
        // A node that registers, or shows another address, may make a waiting request right.
        watches.map::<Node>(move |change| {
            let addresses = |node: &Option<std::sync::Arc<Node>>| node.as_ref().and_then(|node| node.status.as_ref()?.addresses.clone());
            if addresses(&change.old) == addresses(&change.new) {
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
        let node = own_node(request, &asked).and_then(|name| self.nodes.get(&ObjectKey::cluster(name)));
        match judge(request, &asked, node.as_ref().map(|cached| &*cached.object)) {
            Verdict::Foreign => Ok(Outcome::Done),
            Verdict::Wait => {
                tracing::info!(request = %key, node = asked.common_name, "serving certificate waits for the node to show its addresses");
                Ok(Outcome::Done)
            }
            Verdict::Approve => {
                tracing::info!(request = %key, node = asked.common_name, "serving certificate approved");
                put(cx, &self.requests, "approval", &with_condition(request, "Approved", "AutoApproved", MESSAGE.into())).await
            }
        }
    }
}
