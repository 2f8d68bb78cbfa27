//! Whom a node asks. Pure.

use std::{
    cmp::Reverse,
    hash::{DefaultHasher, Hash, Hasher},
    net::IpAddr,
    sync::Arc,
};

use k8s_openapi::api::core::v1::Node;
use troupe_net::{cni::gateway, iptables::Family, overlay::Place};

use crate::overlay::{NodePlaces, place};

/// Another node, by one family of addresses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    pub name: Arc<str>,
    pub family: Family,
    pub place: Place,
    /// Its bridge's address, which answers.
    pub target: IpAddr,
}

/// What a node sees of the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// How many others there are with a part in the pod network, Ready or not.
    pub others: usize,
    /// Our own bridge's address of each family.
    pub sources: Vec<IpAddr>,
    /// Those that are asked, in order.
    pub peers: Vec<Peer>,
}

impl Sight {
    /// What is asked: from which address whom. A family of which we have no addresses is left out.
    pub fn questions(&self) -> Vec<(IpAddr, Vec<IpAddr>)> {
        let targets = |source: IpAddr| -> Vec<IpAddr> {
            self.peers.iter().map(|peer| peer.target).filter(|target| target.is_ipv4() == source.is_ipv4()).collect()
        };
        self.sources.iter().map(|source| (*source, targets(*source))).filter(|(_, targets)| !targets.is_empty()).collect()
    }
}

/// Where a node is by each of these families.
pub fn places(node: &Node, families: &[Family]) -> Vec<Option<Place>> {
    families.iter().map(|family| place(node, *family)).collect()
}

/// Whom the node `own` asks: up to `most` nodes of those that are Ready, by each family that both have.
pub fn sight(nodes: &[Arc<NodePlaces>], own: &str, families: &[Family], most: usize) -> Sight {
    let Some(me) = nodes.iter().find(|node| *node.name == *own) else { return Sight::default() };
    let sources = families.iter().filter_map(|family| gateway(me.place(*family)?.pods)).collect();
    let has_part = |node: &&Arc<NodePlaces>| *node.name != *own && families.iter().any(|family| node.place(*family).is_some());
    let others: Vec<&Arc<NodePlaces>> = nodes.iter().filter(has_part).collect();
    let mut ready: Vec<&Arc<NodePlaces>> = others.iter().copied().filter(|node| node.is_ready).collect();
    if ready.len() > most {
        ready.sort_by_cached_key(|node| Reverse(weight(own, &node.name)));
        ready.truncate(most);
    }
    let mut peers: Vec<Peer> = ready.iter().copied().flat_map(|node| families.iter().filter_map(move |family| peer(node, *family))).collect();
    peers.sort_unstable();
    Sight { others: others.len(), sources, peers }
}

fn peer(node: &NodePlaces, family: Family) -> Option<Peer> {
    let place = node.place(family)?;
    Some(Peer { name: node.name.clone(), family, place, target: gateway(place.pods)? })
}

/// By which weight a node chooses others: differently for each, so that all are chosen by some, and the same while nodes come and go.
fn weight(own: &str, other: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (own, other).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
pub mod testing {
    use serde_json::json;

    use super::*;
    use crate::runtime::cache::digest_of;

    /// A node whose pods have addresses of 10.244.NUMBER.0/24.
    pub fn node(number: u8, ready: &str) -> Arc<NodePlaces> {
        let object = json!({
            "metadata": {"name": format!("n{number}")}, "spec": {"podCIDR": format!("10.244.{number}.0/24")},
            "status": {"addresses": [{"type": "InternalIP", "address": format!("192.0.2.{number}")}], "conditions": [{"type": "Ready", "status": ready}]},
        });
        digest_of(&serde_json::from_value::<Node>(object).expect("a node"))
    }

    /// What the first of so many nodes that are Ready sees.
    pub fn sight_of(count: u8) -> Sight {
        let nodes: Vec<_> = (1..=count).map(|number| node(number, "True")).collect();
        sight(&nodes, "n1", &[Family::V4], 16)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{
        testing::{node, sight_of},
        *,
    };

    #[test]
    fn a_node_asks_the_bridges_of_others_that_are_ready() {
        let nodes = [node(1, "True"), node(2, "True"), node(3, "Unknown"), node(4, "True")];
        let sight = sight(&nodes, "n1", &Family::ALL, 16);
        let ip = |number: u8| IpAddr::from([10, 244, number, 1]);
        assert_eq!((sight.others, sight.questions()), (3, vec![(ip(1), vec![ip(2), ip(4)])]));
        assert!(sight_of(1).questions().is_empty());
        assert_eq!(super::sight(&nodes, "n9", &Family::ALL, 16), Sight::default(), "it is not registered");
    }

    #[test]
    fn of_many_nodes_each_asks_few_and_is_asked_by_some() {
        let nodes: Vec<_> = (0..=255).map(|number| node(number, "True")).collect();
        let mut asked = BTreeSet::new();
        for number in 0..=255_u8 {
            let sight = sight(&nodes, &format!("n{number}"), &[Family::V4], 16);
            assert_eq!((sight.others, sight.peers.len()), (255, 16));
            asked.extend(sight.peers.into_iter().map(|peer| peer.name));
        }
        assert_eq!(asked.len(), 256);
        // Whom it asks stays when somebody else goes.
        let asked_by = |nodes: &[Arc<NodePlaces>]| sight(nodes, "n0", &[Family::V4], 16).peers;
        let before = asked_by(&nodes);
        let matters = |node: &Arc<NodePlaces>| *node.name == *"n0" || before.iter().any(|peer| peer.name == node.name);
        let fewer: Vec<_> =
            nodes.iter().enumerate().filter(|(at, node)| at.is_multiple_of(2) || matters(node)).map(|(_, node)| node.clone()).collect();
        assert!(fewer.len() < 150);
        assert_eq!(asked_by(&fewer), before);
    }
}
