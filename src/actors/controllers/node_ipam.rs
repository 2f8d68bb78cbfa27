//! Node IPAM: gives every node a range of pod addresses (`spec.podCIDR`) out of the cluster's.

use std::collections::BTreeSet;

use ipnetwork::Ipv4Network;
use k8s_openapi::api::core::v1::Node;
use serde_json::json;
use troupe_api::{meta::ObjectKey, service::PatchType};

use crate::runtime::{
    cache::{Cache, Caches},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

/// Each node gets a /24, as upstream's default.
const NODE_PREFIX: u8 = 24;

/// See the module.
pub struct NodeIpamController {
    nodes: Cache<Node>,
    cluster: Ipv4Network,
}

impl NodeIpamController {
    pub fn new(caches: &Caches, cluster: Ipv4Network) -> Self {
        NodeIpamController { nodes: caches.cache(), cluster }
    }
}

/// The first range of the cluster's addresses that overlaps no other; `None` when all are taken.
fn next_free(cluster: Ipv4Network, taken: &[Ipv4Network]) -> Option<Ipv4Network> {
    let prefix = NODE_PREFIX.max(cluster.prefix());
    let size = 1_u64 << (32 - prefix);
    let count = 1_u64 << (prefix - cluster.prefix());
    let first = u64::from(u32::from(cluster.network()));
    // Whoever names a node's range may have named another size than ours.
    let spans = taken.iter().map(|range| (u64::from(u32::from(range.network())), u64::from(u32::from(range.broadcast()))));
    let mut used = BTreeSet::new();
    for (start, end) in spans.filter(|(_, end)| *end >= first) {
        used.extend(start.saturating_sub(first) / size..count.min((end - first) / size + 1));
    }
    let free = (0..count).find(|number| !used.contains(number))?;
    Ipv4Network::new(u32::try_from(first + free * size).ok()?.into(), prefix).ok()
}

impl Controller for NodeIpamController {
    const NAME: &'static str = "node-ipam";
    // One at a time: two nodes must not be given the same range.
    const CONCURRENCY: usize = 1;

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<Node>();
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(node) = self.nodes.get(key) else { return Ok(Outcome::Done) };
        let range_of = |node: &Node| node.spec.as_ref()?.pod_cidr.as_ref()?.parse::<Ipv4Network>().ok();
        if range_of(&node.object).is_some() {
            return Ok(Outcome::Done);
        }
        let taken: Vec<_> = self.nodes.list("").iter().filter_map(|node| range_of(node)).collect();
        let Some(range) = next_free(self.cluster, &taken) else {
            cx.events().warning(
                &ReconcileContext::reference(&*node.object),
                "CIDRNotAvailable",
                format!("Node {key} status is now: CIDRNotAvailable"),
            );
            return Err(ReconcileError::Other(format!("{} has no free range for another node", self.cluster)));
        };
        let patch = json!({"metadata": {"uid": node.object.metadata.uid}, "spec": {"podCIDR": range.to_string(), "podCIDRs": [range.to_string()]}});
        let written = cx.client().all::<Node>().patch(&key.name, "", PatchType::StrategicMerge, &patch).await?;
        cx.wrote(&self.nodes, &*written);
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_given_in_order_and_never_twice() {
        let cluster: Ipv4Network = "10.244.0.0/22".parse().expect("a range");
        let mut taken = Vec::new();
        let given: Vec<String> = std::iter::from_fn(|| {
            let range = next_free(cluster, &taken)?;
            taken.push(range);
            Some(range.to_string())
        })
        .collect();
        assert_eq!(given, ["10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24", "10.244.3.0/24"]);
        taken.remove(1);
        assert_eq!(next_free(cluster, &taken).map(|range| range.to_string()), Some("10.244.1.0/24".into()));
    }

    #[test]
    fn a_range_of_another_size_keeps_all_of_its_addresses() {
        let cluster: Ipv4Network = "10.244.0.0/22".parse().expect("a range");
        let free = |taken: &[&str]| {
            let taken: Vec<Ipv4Network> = taken.iter().map(|range| range.parse().expect("a range")).collect();
            next_free(cluster, &taken).map(|range| range.to_string())
        };
        assert_eq!(free(&["10.244.0.0/23"]).as_deref(), Some("10.244.2.0/24"));
        assert_eq!(free(&["10.244.1.128/25", "10.244.0.7/32"]).as_deref(), Some("10.244.2.0/24"));
        assert_eq!(free(&["192.168.0.0/16", "10.0.0.0/16"]).as_deref(), Some("10.244.0.0/24"));
        assert_eq!(free(&["0.0.0.0/0"]), None);
    }
}
