//! From policies to rules. Pure.

use troupe_net::iptables::{Family, RuleSet, net_entries};

use super::{
    chain::PodChain,
    deciding::Deciding,
    model::{Direction, PeerSet, PodView},
    names,
};

/// The rules of a pod of this node. A pod that no policy is about has none.
pub fn pod_rules(pod: &PodView, deciding: &Deciding, family: Family) -> RuleSet {
    let mut rules = RuleSet::default();
    if !pod.is_policed() {
        return rules;
    }
    if deciding.is_uncertain() {
        return closed(pod, family);
    }
    for direction in [Direction::Egress, Direction::Ingress] {
        PodChain::new(pod, direction, family, &mut rules).write(&deciding.tiers(pod, direction));
    }
    rules
}

/// The rules of a pod about which nothing is known but that it must not be open: only its own node reaches it.
pub fn closed(pod: &PodView, family: Family) -> RuleSet {
    let mut rules = RuleSet::default();
    for direction in [Direction::Egress, Direction::Ingress] {
        PodChain::new(pod, direction, family, &mut rules).close();
    }
    rules
}

/// A set with its entries. Those of pods, nodes and domain names come from the slices that tell of them.
pub fn peer_rules(set: &PeerSet, told: impl IntoIterator<Item = String>, family: Family) -> RuleSet {
    let name = names::set(family, &set.id());
    let mut rules = RuleSet::default();
    rules.set(&name, set.kind());
    match set {
        PeerSet::Blocks(blocks) => {
            let ours = blocks.iter().filter(|block| family.has(block.ip()));
            ours.flat_map(|block| net_entries(*block)).for_each(|entry| rules.member(&name, entry));
        }
        PeerSet::Pods(_) | PeerSet::Ports(..) | PeerSet::Nodes(_) | PeerSet::Domain(_) => {
            told.into_iter().for_each(|entry| rules.member(&name, entry))
        }
    }
    rules
}
