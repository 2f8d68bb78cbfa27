//! Node IPAM: gives every node a range of pod addresses of each family (`spec.podCIDRs`) out of the cluster's.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};
use troupe_api::{Status, meta::ObjectKey, service::PatchType};

use super::{managed::Managed, writes::is_gone};
use crate::runtime::{
    cache::{Cache, Caches},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

/// How large the ranges of nodes are, as upstream's default.
const NODE_PREFIX: u8 = 24;
const NODE_PREFIX_IPV6: u8 = 64;
/// A cluster has so many ranges for nodes at most (two to this), as upstream: each is looked at.
pub const MOST_BITS: u8 = 16;
/// Attempts to write a node's ranges before an event tells that they failed.
const TRIES: usize = 3;

/// A range of pods' addresses, and how large the parts for nodes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterRange {
    pub network: IpNetwork,
    pub node_prefix: u8,
}

impl ClusterRange {
    /// With the default size of its family.
    pub fn new(network: IpNetwork) -> Self {
        let node_prefix = if network.is_ipv4() { NODE_PREFIX } else { NODE_PREFIX_IPV6 };
        ClusterRange { network, node_prefix: node_prefix.max(network.prefix()) }
    }

    /// The first part that overlaps none of those taken; `None` when there is none.
    fn next_free(self, taken: &[IpNetwork]) -> Option<IpNetwork> {
        let width = if self.network.is_ipv4() { 32 } else { 128 };
        let size = 1_u128.checked_shl(u32::from(width - self.node_prefix))?;
        let count = 1_u128 << (self.node_prefix - self.network.prefix()).min(MOST_BITS);
        let first = number(self.network.network());
        // Whoever names a node's range may have named another size than ours.
        let same = taken.iter().filter(|range| range.is_ipv4() == self.network.is_ipv4());
        let spans = same.map(|range| (number(range.network()), number(range.broadcast())));
        let mut used = BTreeSet::new();
        for (start, end) in spans.filter(|(_, end)| *end >= first) {
            used.extend(start.saturating_sub(first) / size..count.min((end - first) / size + 1));
        }
        let free = first + (0..count).find(|number| !used.contains(number))? * size;
        let address = if self.network.is_ipv4() { IpAddr::V4(u32::try_from(free).ok()?.into()) } else { IpAddr::V6(free.into()) };
        IpNetwork::new(address, self.node_prefix).ok()
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

/// The ranges that a node has.
fn ranges_of(node: &Node) -> Vec<IpNetwork> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let all: BTreeSet<&String> = spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr).collect();
    all.into_iter().filter_map(|range| range.parse().ok()).collect()
}

/// Files each node under its ranges.
const BY_RANGE: &str = "podCIDR";

/// See the module.
pub struct NodeIpamController {
    nodes: Cache<Node>,
    cluster: Vec<ClusterRange>,
    _managed: Managed,
}

fn index(nodes: Cache<Node>) -> Cache<Node> {
    nodes.add_index(BY_RANGE, |node| ranges_of(node).iter().map(|range| range.to_string().into()).collect());
    nodes
}

impl NodeIpamController {
    /// Gives every node a part of each of the cluster's ranges.
    pub fn new(caches: &Caches, cluster: Vec<ClusterRange>) -> Self {
        NodeIpamController { nodes: index(caches.cache()), cluster, _managed: Managed::begin("nodeipam") }
    }

    /// The ranges that any node has. Thousands may wait for one at the same time: no node is decoded for another one.
    fn taken(&self) -> Vec<IpNetwork> {
        self.nodes.index_values(BY_RANGE).iter().filter_map(|range| range.parse().ok()).collect()
    }
}

/// Writes a node's ranges, in as many attempts as upstream.
async fn write(node: &str, patch: &Value, cx: &ReconcileContext) -> Result<Arc<Node>, Status> {
    let api = cx.client().all::<Node>();
    for _ in 1..TRIES {
        match api.patch(node, "", PatchType::StrategicMerge, patch).await {
            Err(status) if !is_gone(&status) => tracing::debug!(node, %status, "cannot give a node its ranges, will try again at once"),
            done => return done,
        }
    }
    api.patch(node, "", PatchType::StrategicMerge, patch).await
}

fn tell(node: &Node, reason: &str, cx: &ReconcileContext) {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    cx.tell(node, false, reason, format!("Node {name} status is now: {reason}"));
}

impl Controller for NodeIpamController {
    const NAME: &'static str = "node-ipam";
    const EVENT_SOURCE: Option<&'static str> = Some("cidrAllocator");
    // One at a time: two nodes must not be given the same range.
    const CONCURRENCY: usize = 1;

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<Node>();
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(node) = self.nodes.get(key) else { return Ok(Outcome::Done) };
        if !ranges_of(&node.object).is_empty() {
            return Ok(Outcome::Done);
        }
        let taken = self.taken();
        let mut ranges = Vec::new();
        for cluster in &self.cluster {
            let Some(range) = cluster.next_free(&taken) else {
                tell(&node.object, "CIDRNotAvailable", cx);
                return Err(ReconcileError::Other(format!("{} has no free range for another node", cluster.network)));
            };
            ranges.push(range.to_string());
        }
        let patch = json!({"metadata": {"uid": node.object.metadata.uid}, "spec": {"podCIDR": ranges.first(), "podCIDRs": ranges}});
        match write(&key.name, &patch, cx).await {
            Ok(written) => cx.wrote(&self.nodes, &*written),
            Err(status) if is_gone(&status) => {}
            Err(status) => {
                tell(&node.object, "CIDRAssignmentFailed", cx);
                return Err(status.into());
            }
        }
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use troupe_api::{
        decoding::decoded_here,
        meta::{Object, Revision},
        stored::StoredObject,
    };

    use super::*;

    #[test]
    fn what_is_taken_is_known_without_decoding_nodes() {
        let node = |name: &str, spec: Value| {
            let tree = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec});
            let stored = StoredObject::from_object(&Object::from_value(tree).expect("an object")).expect("well formed");
            (stored.key.clone(), Arc::new(stored))
        };
        let dual = node("dual", json!({"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24", "fd00:10:244::/64"]}));
        let nodes = [dual, node("named", json!({"podCIDR": "10.244.7.0/24"})), node("waits", json!({}))];
        let controller = NodeIpamController { nodes: index(Cache::default()), cluster: Vec::new(), _managed: Managed::begin("nodeipam") };
        controller.nodes.replace_now(nodes.into_iter().collect(), Revision(1));
        let before = decoded_here().objects;
        let mut taken: Vec<String> = controller.taken().iter().map(ToString::to_string).collect();
        assert_eq!(decoded_here().objects, before);
        taken.sort();
        assert_eq!(taken, ["10.244.0.0/24", "10.244.7.0/24", "fd00:10:244::/64"]);
    }

    #[test]
    fn ranges_are_given_in_order_and_never_twice() {
        let cluster = ClusterRange::new("10.244.0.0/22".parse().expect("a range"));
        let mut taken = Vec::new();
        let given: Vec<String> = std::iter::from_fn(|| {
            let range = cluster.next_free(&taken)?;
            taken.push(range);
            Some(range.to_string())
        })
        .collect();
        assert_eq!(given, ["10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24", "10.244.3.0/24"]);
        taken.remove(1);
        assert_eq!(cluster.next_free(&taken).map(|range| range.to_string()), Some("10.244.1.0/24".into()));
    }

    #[test]
    fn a_range_of_another_size_keeps_all_of_its_addresses() {
        let cluster = ClusterRange::new("10.244.0.0/22".parse().expect("a range"));
        let free = |taken: &[&str]| {
            let taken: Vec<IpNetwork> = taken.iter().map(|range| range.parse().expect("a range")).collect();
            cluster.next_free(&taken).map(|range| range.to_string())
        };
        assert_eq!(free(&["10.244.0.0/23"]).as_deref(), Some("10.244.2.0/24"));
        assert_eq!(free(&["10.244.1.128/25", "10.244.0.7/32"]).as_deref(), Some("10.244.2.0/24"));
        assert_eq!(free(&["192.168.0.0/16", "10.0.0.0/16"]).as_deref(), Some("10.244.0.0/24"));
        assert_eq!(free(&["0.0.0.0/0"]), None);
    }

    #[test]
    fn ranges_of_each_family_are_given_by_their_own_size() {
        let cluster = ClusterRange::new("fd00:10:244::/56".parse().expect("a range"));
        let taken: Vec<IpNetwork> = ["10.244.0.0/24", "fd00:10:244::/64"].map(|range| range.parse().expect("a range")).to_vec();
        assert_eq!(cluster.next_free(&taken).map(|range| range.to_string()).as_deref(), Some("fd00:10:244:1::/64"));
        let small = ClusterRange { network: "fd00::/112".parse().expect("a range"), node_prefix: 120 };
        assert_eq!(small.next_free(&["fd00::/120".parse().expect("a range")]).map(|range| range.to_string()).as_deref(), Some("fd00::100/120"));
        let whole = ClusterRange::new("fd00::/120".parse().expect("a range"));
        assert_eq!(whole.next_free(&[]).map(|range| range.to_string()).as_deref(), Some("fd00::/120"));
        assert_eq!(whole.next_free(&[whole.network]), None);
    }
}
