//! The way of a packet from node to node, by the rules that each has of Services, policies and the pod network. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::IpAddr,
    rc::Rc,
};

use anyhow::Result;
use troupe_actors::{
    controllers::network_policy::planned::Planned,
    proxy::{
        base,
        layout::{Changes, Ledger},
        names,
        plan::plan_while,
        ranges,
    },
    rules::{
        journey::{Fate, Journey, journeys},
        simulate::{Hit, Packet},
    },
};
use troupe_net::{
    iptables::{Family, RuleSet},
    podnet,
};

use super::{
    facts::{Facts, text},
    services::{Served, Translated, claim, taken},
};

/// From a pod to a node's port, from there to an endpoint's node, and one more.
const MOST_HOPS: usize = 3;

/// What may become of a packet in the end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Outcome {
    pub destination: IpAddr,
    pub port: Option<u16>,
    /// A Service led there.
    pub is_translated: bool,
    pub fate: Fate,
    /// What let it through, on all nodes.
    pub passed: Vec<Hit>,
    /// The node that it last came by sent it itself.
    pub is_nodes_own: bool,
}

impl Outcome {
    fn new(journey: Journey, is_nodes_own: bool) -> Self {
        let Journey { fate, destination, port, is_translated, passed } = journey;
        Outcome { destination, port, is_translated, fate, passed, is_nodes_own }
    }

    /// What rules of Services did with it, without leading it anywhere.
    pub fn refusal(&self) -> Option<&Hit> {
        match &self.fate {
            Fate::Dropped(hit) | Fate::Refused(hit) if !self.is_translated && names::is_ours(&hit.chain) => Some(hit),
            _ => None,
        }
    }
}

/// The rules of nodes, as far as they are about packets to one address and port.
pub struct Nodes<'a> {
    facts: &'a Facts,
    planned: Planned,
    services: Vec<Served>,
    rules: BTreeMap<(String, Family), Rc<RuleSet>>,
}

impl<'a> Nodes<'a> {
    pub fn new(facts: &'a Facts, ip: IpAddr, port: u16) -> Self {
        Nodes { facts, planned: facts.planned(), services: Served::asked(facts, ip, port), rules: BTreeMap::new() }
    }

    /// Some Service may have the address.
    pub fn has_services(&self) -> bool {
        !self.services.is_empty()
    }

    /// Everything that may become of a packet that `node` is sent, or sends.
    ///
    /// # Errors
    /// When a rule is not understood.
    pub fn follow(&mut self, node: &str, packet: &Packet) -> Result<BTreeSet<Outcome>> {
        self.hop(node, packet, 0)
    }

    fn hop(&mut self, node: &str, packet: &Packet, hops: usize) -> Result<BTreeSet<Outcome>> {
        let (own, rules) = (self.facts.addresses_of(node), self.rules(node, Family::of(packet.destination)));
        let is_nodes_own = own.contains(&packet.source);
        let mut outcomes = BTreeSet::new();
        for journey in journeys(&rules, &own, packet)? {
            let Fate::Forwarded { destination, port, is_masqueraded } = journey.fate else {
                outcomes.insert(Outcome::new(journey, is_nodes_own));
                continue;
            };
            let next = self.facts.at(destination).node.filter(|next| next != node && hops < MOST_HOPS);
            let Some(next) = next else {
                outcomes.insert(Outcome::new(journey, is_nodes_own));
                continue;
            };
            let hidden = own.iter().copied().find(|ip| is_masqueraded && ip.is_ipv4() == destination.is_ipv4());
            let onward = Packet { source: hidden.unwrap_or(packet.source), destination, port, ..packet.clone() };
            for mut outcome in self.hop(&next, &onward, hops + 1)? {
                outcome.is_translated |= journey.is_translated;
                outcome.passed = journey.passed.iter().cloned().chain(outcome.passed).collect();
                outcomes.insert(outcome);
            }
        }
        Ok(outcomes)
    }

    fn rules(&mut self, node: &str, family: Family) -> Rc<RuleSet> {
        let key = (node.to_owned(), family);
        if let Some(known) = self.rules.get(&key) {
            return known.clone();
        }
        let mut rules = self.rules_of_services(node, family);
        let here: HashSet<&str> = self.facts.pods.iter().filter(|pod| text(&pod["spec"]["nodeName"]) == node).map(uid).collect();
        rules.merge(self.planned.rules(family, |pod| here.contains(&*pod.uid)));
        let cluster = self.facts.cluster_range(family);
        let pods = self.facts.pod_ranges(node).into_iter().find(|range| family.has(range.ip()));
        if let (Some(cluster), Some(pods)) = (cluster, pods) {
            rules.merge(podnet::rules(cluster, pods, &self.facts.non_masquerade_cidrs));
        }
        let rules = Rc::new(rules);
        self.rules.insert(key, rules.clone());
        rules
    }

    fn rules_of_services(&self, node: &str, family: Family) -> RuleSet {
        let mut changes = Changes::from([(ranges::owner(), Some(ranges::plan(&self.facts.service_ranges(family), family).rules))]);
        if let Some(view) = self.facts.view(node, family) {
            for (served, taken) in self.services.iter().zip(taken(&self.services, family)) {
                // One that asks for too much has no rules.
                let planned = plan_while(&served.service, &served.slices, &view, &taken, &|| true).unwrap_or_default();
                changes.insert(served.key.clone(), Some(planned.rules));
            }
        }
        let mut ledger = Ledger::new(base::rules(true, family), family);
        ledger.commit(&changes);
        ledger.wanted()
    }

    /// What the Service that a packet is for makes of it; `None` where it is for none, or something else decided before. `node` has it first.
    pub fn say(&self, node: &str, packet: &Packet, outcomes: &BTreeSet<Outcome>) -> Option<String> {
        let owner = self.facts.node_with(packet.destination);
        let claim = claim(&self.services, packet.destination, packet.port?, &packet.protocol, owner.is_some())?;
        let led = outcomes.iter().filter(|outcome| outcome.is_translated);
        let translated: Translated = led.filter_map(|outcome| Some((outcome.destination, outcome.port?))).collect();
        if !translated.is_empty() {
            // Rules of node ports are those of the node.
            let view = self.facts.view(owner.as_deref().unwrap_or(node), Family::of(packet.destination))?;
            return Some(claim.leads(&view, &translated));
        }
        let refusal = outcomes.iter().find_map(Outcome::refusal)?;
        let service = &claim.served.key;
        match refusal.comment.as_str() {
            why if why.ends_with("has no endpoints") => Some(format!("service {service} has no ready endpoint: refused on the node")),
            why if why.ends_with("has no local endpoints") => {
                Some(format!("service {service} has no endpoint on the node, and its {} is Local: dropped", claim.policy()))
            }
            why if why.contains("traffic not accepted by") => {
                Some(format!("service {service} lets its loadBalancerSourceRanges in, which {} is not of: dropped", packet.source))
            }
            _ => None,
        }
    }
}

fn uid(pod: &serde_json::Value) -> &str {
    text(&pod["metadata"]["uid"])
}
