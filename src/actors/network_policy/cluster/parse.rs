//! From a policy as the API has it to what matters of it, and what of it cannot be held to. Pure.
//!
//! What is not understood fails closed, as the API's documentation asks: a rule that accepts then matches nothing, one that denies or passes
//! denies everything.

use std::sync::Arc;

use ipnetwork::IpNetwork;
use k8s_openapi::apimachinery::pkg::apis::meta::v1;
use troupe_api::meta::LabelSelector;
use troupe_net::dns::domain_names::DomainName;

use super::{
    types::{ClusterNetworkPolicy, EgressPeer, PodsPeer, PortNumbers, PortsOfProtocol, ProtocolMatch},
    view::{Action, ClusterPolicyView, ClusterRule, HOME, Subject, Tier},
};
use crate::network_policy::{
    blocks::normal,
    model::{PeerSelector, Peers, PortMatch, Protocol, RuleView},
};

/// A policy, and what of it has no effect or another one than it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// `None` for one that cannot be placed: it has no effect.
    pub policy: Option<ClusterPolicyView>,
    /// In words, each with the field that it is about.
    pub problems: Vec<String>,
}

/// Reads a policy.
pub fn parse(policy: &ClusterNetworkPolicy) -> Parsed {
    let spec = &policy.spec;
    let mut problems = Vec::new();
    let tier = match spec.tier.as_str() {
        "Admin" => Some(Tier::Admin),
        "Baseline" => Some(Tier::Baseline),
        other => {
            problems.push(format!("spec.tier {other:?} is not known here: the policy has no effect"));
            None
        }
    };
    let subject = pods(&spec.subject).map(|selector| Subject { namespaces: selector.0, pods: selector.1 });
    if subject.is_none() {
        problems.push("spec.subject selects in a way that is not known here: the policy has no effect".into());
    }
    let ingress = spec.ingress.iter().enumerate().filter_map(|(at, rule)| {
        let place = format!("spec.ingress[{at}]");
        let draft = Draft { place: &place, action: &rule.action, number: at + 1 };
        draft.rule(ingress_peers(&rule.from, &place), ports(&rule.protocols, &place), &mut problems)
    });
    let ingress: Vec<ClusterRule> = ingress.collect();
    let egress = spec.egress.iter().enumerate().filter_map(|(at, rule)| {
        let place = format!("spec.egress[{at}]");
        let draft = Draft { place: &place, action: &rule.action, number: at + 1 };
        draft.rule(egress_peers(&rule.to, rule.action == "Accept", &place), ports(&rule.protocols, &place), &mut problems)
    });
    let egress: Vec<ClusterRule> = egress.collect();
    let name: Arc<str> = policy.metadata.name.as_deref().unwrap_or_default().into();
    let placed = tier.zip(subject);
    let policy = placed.map(|(tier, subject)| ClusterPolicyView { name, tier, priority: spec.priority, subject, ingress, egress });
    Parsed { policy, problems }
}

/// What was understood of a part, and what was not.
struct Understood<T> {
    value: T,
    unknown: Vec<String>,
}

struct Draft<'a> {
    place: &'a str,
    action: &'a str,
    number: usize,
}

impl Draft<'_> {
    fn rule(&self, peers: Understood<Peers>, ports: Understood<Option<Vec<PortMatch>>>, problems: &mut Vec<String>) -> Option<ClusterRule> {
        let unknown: Vec<String> = peers.unknown.into_iter().chain(ports.unknown).collect();
        let whole = RuleView { peers: Peers::Everybody, ports: None };
        let understood = RuleView { peers: peers.value, ports: ports.value };
        let (action, rule, outcome) = match (self.action, unknown.is_empty()) {
            ("Accept", true) => (Action::Accept, understood, ""),
            // What it does name it may accept; an unknown protocol is none that anything has.
            ("Accept", false) => (Action::Accept, understood, "nothing is accepted by it"),
            ("Deny", true) => (Action::Deny, understood, ""),
            ("Pass", true) => (Action::Pass, understood, ""),
            _ => (Action::Deny, whole, "the rule denies everything"),
        };
        if !matches!(self.action, "Accept" | "Deny" | "Pass") {
            problems.push(format!("{}.action {:?} is not known here: {outcome}", self.place, self.action));
        }
        problems.extend(unknown.into_iter().map(|what| format!("{what}: {outcome}")));
        let matches_nothing = rule.peers.is_nobody() || rule.ports.as_ref().is_some_and(Vec::is_empty);
        (!matches_nothing).then_some(ClusterRule { action, rule, number: self.number })
    }
}

/// Selectors of namespaces and pods.
fn pods(peer: &PodsPeer) -> Option<(LabelSelector, LabelSelector)> {
    let convert = |selector: &v1::LabelSelector| LabelSelector::from(selector);
    match (&peer.namespaces, &peer.pods) {
        (Some(namespaces), None) => Some((convert(namespaces), LabelSelector::everything())),
        (None, Some(pods)) => Some((convert(&pods.namespace_selector), convert(&pods.pod_selector))),
        _ => None,
    }
}

fn selector(peer: &PodsPeer) -> Option<PeerSelector> {
    pods(peer).map(|(namespaces, pods)| PeerSelector { home: HOME.into(), namespaces: Some(namespaces), pods })
}

fn ingress_peers(peers: &[PodsPeer], place: &str) -> Understood<Peers> {
    let (mut selectors, mut unknown) = (Vec::new(), Vec::new());
    for (at, peer) in peers.iter().enumerate() {
        match selector(peer) {
            Some(selector) => selectors.push(selector),
            None => unknown.push(format!("{place}.from[{at}] is of a kind that is not known here")),
        }
    }
    Understood { value: Peers::Of { selectors, blocks: Vec::new(), nodes: Vec::new(), domains: Vec::new() }, unknown }
}

/// `accepts` says that the rule does: only such may name domains, of which nobody knows all addresses.
fn egress_peers(peers: &[EgressPeer], accepts: bool, place: &str) -> Understood<Peers> {
    let (mut selectors, mut blocks, mut nodes, mut unknown) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut domains = Vec::new();
    for (at, peer) in peers.iter().enumerate() {
        let place = format!("{place}.to[{at}]");
        if let Some(selector) = selector(&peer.pods) {
            selectors.push(selector);
        } else if let Some(selector) = &peer.nodes {
            nodes.push(LabelSelector::from(selector));
        } else if !peer.domain_names.is_empty() && !accepts {
            unknown.push(format!("{place}.domainNames are for rules that accept"));
        } else if !peer.domain_names.is_empty() {
            for (at, name) in peer.domain_names.iter().enumerate() {
                match DomainName::parse(name) {
                    Some(name) => domains.push(name),
                    None => unknown.push(format!("{place}.domainNames[{at}] is no domain name")),
                }
            }
        } else if peer.networks.is_empty() {
            unknown.push(format!("{place} is of a kind that is not known here"));
        }
        for (at, network) in peer.networks.iter().enumerate() {
            match network.parse::<IpNetwork>() {
                Ok(network) => blocks.push(normal(network)),
                Err(_) => unknown.push(format!("{place}.networks[{at}] is no range of addresses")),
            }
        }
    }
    blocks.sort();
    blocks.dedup();
    domains.sort();
    domains.dedup();
    Understood { value: Peers::Of { selectors, blocks, nodes, domains }, unknown }
}

/// `None` for everything, whatever the protocol.
fn ports(protocols: &[ProtocolMatch], place: &str) -> Understood<Option<Vec<PortMatch>>> {
    let mut unknown = Vec::new();
    if protocols.is_empty() {
        return Understood { value: None, unknown };
    }
    let mut matches = Vec::new();
    for (at, wanted) in protocols.iter().enumerate() {
        let named = Some(&wanted.destination_named_port).filter(|name| !name.is_empty());
        let by_number = [(Protocol::Tcp, &wanted.tcp), (Protocol::Udp, &wanted.udp), (Protocol::Sctp, &wanted.sctp)];
        let by_number: Vec<_> = by_number.into_iter().filter_map(|(protocol, ports)| Some((protocol, ports.as_ref()?))).collect();
        match (named, by_number.as_slice()) {
            (Some(name), []) => {
                matches.extend([Protocol::Tcp, Protocol::Udp, Protocol::Sctp].map(|protocol| PortMatch::Named(protocol, name.clone())))
            }
            (None, [(protocol, ports)]) => match numbers(*protocol, ports) {
                Some(port) => matches.push(port),
                None => unknown.push(format!("{place}.protocols[{at}] names no port that there is")),
            },
            _ => unknown.push(format!("{place}.protocols[{at}] is of a kind that is not known here")),
        }
    }
    Understood { value: Some(matches), unknown }
}

fn numbers(protocol: Protocol, ports: &PortsOfProtocol) -> Option<PortMatch> {
    let port = |number: i32| u16::try_from(number).ok().filter(|number| *number > 0);
    match &ports.destination_port {
        None => Some(PortMatch::All(protocol)),
        Some(PortNumbers { number, range: None }) => port(*number).map(|number| PortMatch::Range(protocol, number, number)),
        Some(PortNumbers { number: 0, range: Some(range) }) => {
            let (first, last) = (port(range.start)?, port(range.end)?);
            (first <= last).then_some(PortMatch::Range(protocol, first, last))
        }
        Some(_) => None,
    }
}
