//! Who announces which address. Pure: all nodes that see the same choose the same.

use std::{cmp::Reverse, collections::BTreeSet, net::IpAddr, sync::Arc};

use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
};
use sha2::{Digest, Sha256};
use troupe_api::{
    load_balancing::{answered_by_others, may_announce},
    projection::MetaProjection,
};

use crate::runtime::cache;

/// What is asked about each node, of which there may be thousands.
#[derive(Debug)]
pub struct Announcing {
    /// See [`may_announce`].
    pub is_allowed: bool,
    /// Its addresses.
    pub ips: Box<[IpAddr]>,
    /// Those that it says others answer for.
    pub answered: BTreeSet<IpAddr>,
}

impl cache::Digest<Node> for Announcing {
    fn of(_: &Arc<MetaProjection>, node: &Node) -> Self {
        let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
        Announcing {
            is_allowed: may_announce(node),
            ips: addresses.filter_map(|address| address.address.parse().ok()).collect(),
            answered: answered_by_others(node),
        }
    }
}

/// The nodes among `ready` that may announce a Service: under the Local policy those with endpoints of it.
pub fn candidates<'a>(service: &Service, slices: &[Arc<EndpointSlice>], ready: &'a BTreeSet<String>) -> Vec<&'a str> {
    let local = service.spec.as_ref().is_some_and(|spec| spec.external_traffic_policy.as_deref() == Some("Local"));
    if !local {
        return ready.iter().map(String::as_str).collect();
    }
    let endpoints = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
    let usable = endpoints.filter(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true));
    let nodes: BTreeSet<&str> = usable.filter_map(|endpoint| endpoint.node_name.as_deref()).collect();
    ready.iter().map(String::as_str).filter(|node| nodes.contains(node)).collect()
}

/// Those of the candidates that do not say themselves that others answer for the address; all of them where there is no such one.
pub fn willing<'a>(candidates: &[&'a str], says: impl Fn(&str) -> bool) -> Vec<&'a str> {
    let willing: Vec<&str> = candidates.iter().copied().filter(|node| !says(node)).collect();
    if willing.is_empty() { candidates.to_vec() } else { willing }
}

/// The one of them that announces an address: by the highest hash of both, so that little moves when a node comes or goes.
pub fn elect<'a>(address: IpAddr, candidates: &[&'a str]) -> Option<&'a str> {
    let octets = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let weight = |node: &str| Sha256::new().chain_update(&octets).chain_update(node).finalize();
    candidates.iter().copied().max_by_key(|node| (weight(node), Reverse(*node)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use troupe_api::load_balancing::{EXCLUDED, TO_BE_DELETED};

    use super::*;

    fn names(all: &[&str]) -> BTreeSet<String> {
        all.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn addresses_are_spread_and_only_those_of_a_lost_node_move() {
        let (all, without) = (["a", "b", "c"], ["a", "c"]);
        let mut load = [0; 3];
        for last in 0..=255 {
            let address = IpAddr::from([192, 0, 2, last]);
            let before = elect(address, &all).expect("somebody");
            load[all.iter().position(|node| *node == before).expect("one of them")] += 1;
            let after = elect(address, &without).expect("somebody");
            assert!(before == after || before == "b", "{address} moved from {before} to {after}");
        }
        assert!(load.iter().all(|count| *count > 50), "{load:?}");
        assert_eq!(elect(IpAddr::from([192, 0, 2, 1]), &[]), None);
    }

    #[test]
    fn under_the_local_policy_nodes_with_ready_endpoints_announce() {
        let service =
            |policy: &str| serde_json::from_value::<Service>(json!({"metadata": {}, "spec": {"externalTrafficPolicy": policy}})).expect("one");
        let endpoints = json!([
            {"addresses": ["10.0.0.1"], "nodeName": "a"},
            {"addresses": ["10.0.0.2"], "nodeName": "b", "conditions": {"ready": false}},
            {"addresses": ["10.0.0.3"], "nodeName": "lost"},
        ]);
        let slice = Arc::new(serde_json::from_value::<EndpointSlice>(json!({"addressType": "IPv4", "endpoints": endpoints})).expect("a slice"));
        let ready = names(&["a", "b"]);
        assert_eq!(candidates(&service("Local"), std::slice::from_ref(&slice), &ready), ["a"]);
        assert_eq!(candidates(&service("Cluster"), &[slice], &ready), ["a", "b"]);
    }

    #[test]
    fn who_says_that_others_answer_is_passed_over_unless_all_say_so() {
        assert_eq!(willing(&["a", "b", "c"], |node| node == "b"), ["a", "c"]);
        assert_eq!(willing(&["a", "b"], |_| true), ["a", "b"]);
        assert_eq!(willing(&[], |_| false), Vec::<&str>::new());
    }

    #[test]
    fn a_node_announces_while_it_is_ready_and_wanted() {
        let node = |more: serde_json::Value| {
            let mut all = json!({"metadata": {}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
            for (name, value) in more.as_object().into_iter().flatten() {
                all[name] = value.clone();
            }
            let node: Node = serde_json::from_value(all).expect("a node");
            let kept: Arc<Announcing> = cache::digest_of(&node);
            assert_eq!(kept.is_allowed, may_announce(&node), "what is kept says the same");
            kept.is_allowed
        };
        assert!(node(json!({})));
        assert!(!node(json!({"metadata": {"labels": {EXCLUDED: ""}}})));
        assert!(!node(json!({"spec": {"taints": [{"key": TO_BE_DELETED, "effect": "NoSchedule"}]}})));
        assert!(!node(json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}})));
    }
}
