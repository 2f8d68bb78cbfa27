//! Policies and pods as the planners see them. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnetwork::IpNetwork;
use k8s_openapi::{
    api::{
        core::v1::{Container, Pod},
        networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort},
    },
    apimachinery::pkg::{apis::meta::v1, util::intstr::IntOrString},
};
use troupe_api::meta::{LabelSelector, ObjectKey};
use troupe_net::{
    dns::domain_names::DomainName,
    hash,
    iptables::{Family, SetKind},
};

use super::blocks::without;

/// Labels by name.
pub type Labels = BTreeMap<String, String>;

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// As the API names it; TCP where nothing is said.
    pub fn parse(name: Option<&str>) -> Option<Self> {
        match name.unwrap_or("TCP") {
            "TCP" => Some(Protocol::Tcp),
            "UDP" => Some(Protocol::Udp),
            "SCTP" => Some(Protocol::Sctp),
            _ => None,
        }
    }

    /// As the packet filter names it.
    pub fn lower(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }

    /// As the API names it.
    pub fn upper(self) -> &'static str {
        match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        }
    }
}

/// The way of a packet as seen from the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    Ingress,
    Egress,
}

/// A port that a container has a name for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedPort {
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
}

/// What matters of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodView {
    pub key: ObjectKey,
    pub uid: Arc<str>,
    pub labels: Arc<Labels>,
    pub ips: Vec<IpAddr>,
    /// It has the node's addresses: no policy is about it.
    pub host_network: bool,
    /// Its containers run no more: its address may be another pod's.
    pub ended: bool,
    pub ports: Vec<NamedPort>,
}

impl PodView {
    pub fn of(pod: &Pod) -> Self {
        let (meta, spec, status) = (&pod.metadata, pod.spec.as_ref(), pod.status.as_ref());
        let ips = status.and_then(|status| status.pod_ips.as_ref()).into_iter().flatten().map(|ip| ip.ip.as_str());
        let first = status.and_then(|status| status.pod_ip.as_deref());
        let mut addresses: Vec<IpAddr> = first.into_iter().chain(ips).filter_map(|ip| ip.parse().ok()).collect();
        addresses.dedup();
        let phase = status.and_then(|status| status.phase.as_deref());
        PodView {
            key: ObjectKey::new(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default()),
            uid: meta.uid.as_deref().unwrap_or_default().into(),
            labels: Arc::new(meta.labels.clone().unwrap_or_default()),
            ips: addresses,
            host_network: spec.is_some_and(|spec| spec.host_network == Some(true)),
            ended: matches!(phase, Some("Succeeded" | "Failed")),
            ports: named_ports(pod),
        }
    }

    /// Whether policies can select it and name it.
    pub fn is_policed(&self) -> bool {
        !self.host_network && !self.ended
    }

    /// Its addresses of a family.
    pub fn ips_of(&self, family: Family) -> impl Iterator<Item = IpAddr> {
        self.ips.iter().copied().filter(move |ip| family.has(*ip))
    }

    /// The numbers of its ports with this name and protocol.
    pub fn numbers(&self, name: &str, protocol: Protocol) -> BTreeSet<u16> {
        self.ports.iter().filter(|port| port.name == name && port.protocol == protocol).map(|port| port.port).collect()
    }
}

/// The named ports of containers that run as long as the pod does.
fn named_ports(pod: &Pod) -> Vec<NamedPort> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let sidecars = spec.init_containers.iter().flatten().filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let of = |container: &Container| {
        let ports = container.ports.clone().unwrap_or_default();
        ports.into_iter().filter_map(|port| {
            Some(NamedPort {
                name: port.name.filter(|name| !name.is_empty())?,
                protocol: Protocol::parse(port.protocol.as_deref())?,
                port: u16::try_from(port.container_port).ok()?,
            })
        })
    };
    let mut ports: Vec<NamedPort> = spec.containers.iter().chain(sidecars).flat_map(of).collect();
    ports.sort();
    ports.dedup();
    ports
}

/// Pods by their labels and those of their namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSelector {
    /// The policy's namespace.
    pub home: Arc<str>,
    /// `None` for pods of the policy's own namespace.
    pub namespaces: Option<LabelSelector>,
    pub pods: LabelSelector,
}

impl PeerSelector {
    /// Whether it selects a pod whose namespace has these labels.
    pub fn selects(&self, pod: &PodView, namespace: Option<&Labels>) -> bool {
        let there = match &self.namespaces {
            None => pod.key.namespace == self.home,
            Some(selector) => namespace.is_some_and(|labels| selector.matches(labels)),
        };
        there && pod.is_policed() && self.pods.matches(&pod.labels)
    }

    /// The same for equal selectors, however they are written.
    fn text(&self) -> String {
        let namespaces = self.namespaces.as_ref().map_or("own".to_owned(), |selector| format!("with {}", sorted(selector)));
        format!("{} {namespaces} {}", self.home, sorted(&self.pods))
    }
}

fn sorted(selector: &LabelSelector) -> String {
    let mut requirements: Vec<String> = selector.requirements.iter().map(ToString::to_string).collect();
    requirements.sort();
    requirements.dedup();
    format!("[{}{}]", if selector.nothing { "nothing " } else { "" }, requirements.join(";"))
}

/// A set of addresses that rules of a policy allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerSet {
    /// The addresses of pods.
    Pods(PeerSelector),
    /// The addresses of pods, each with the numbers that it has for a port's name.
    Ports(PeerSelector, String, Protocol),
    /// Addresses of anybody.
    Blocks(Vec<IpNetwork>),
    /// The addresses of nodes by their labels.
    Nodes(LabelSelector),
    /// The addresses that the cluster's DNS gave a domain name.
    Domain(DomainName),
}

impl PeerSet {
    pub fn kind(&self) -> SetKind {
        match self {
            PeerSet::Ports(..) => SetKind::AddressPort,
            PeerSet::Pods(_) | PeerSet::Blocks(_) | PeerSet::Nodes(_) | PeerSet::Domain(_) => SetKind::Net,
        }
    }

    /// The pods it is about.
    pub fn selector(&self) -> Option<&PeerSelector> {
        match self {
            PeerSet::Pods(selector) | PeerSet::Ports(selector, ..) => Some(selector),
            PeerSet::Blocks(_) | PeerSet::Nodes(_) | PeerSet::Domain(_) => None,
        }
    }

    /// Whether slices tell its addresses.
    pub fn is_told(&self) -> bool {
        !matches!(self, PeerSet::Blocks(_))
    }

    /// What it is known by, on every node.
    pub fn id(&self) -> Arc<str> {
        let text = match self {
            PeerSet::Pods(selector) => format!("pods {}", selector.text()),
            PeerSet::Ports(selector, name, protocol) => format!("ports {} {name} {}", selector.text(), protocol.lower()),
            PeerSet::Blocks(blocks) => format!("blocks {blocks:?}"),
            PeerSet::Nodes(selector) => format!("nodes {}", sorted(selector)),
            PeerSet::Domain(name) => return name.id().into(),
        };
        hash::short(&[&text]).into()
    }
}

/// Ports that a rule allows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PortMatch {
    /// Every port of a protocol.
    All(Protocol),
    /// From the first to the last.
    Range(Protocol, u16, u16),
    /// As the pod names it that the packet is for.
    Named(Protocol, String),
}

/// Who a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peers {
    Everybody,
    Of { selectors: Vec<PeerSelector>, blocks: Vec<IpNetwork>, nodes: Vec<LabelSelector>, domains: Vec<DomainName> },
}

impl Peers {
    /// Whether it is about nobody at all.
    pub fn is_nobody(&self) -> bool {
        match self {
            Peers::Everybody => false,
            Peers::Of { selectors, blocks, nodes, domains } => selectors.is_empty() && blocks.is_empty() && nodes.is_empty() && domains.is_empty(),
        }
    }
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleView {
    pub peers: Peers,
    /// `None` allows everything, whatever the protocol.
    pub ports: Option<Vec<PortMatch>>,
}

/// What matters of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyView {
    pub key: ObjectKey,
    pub selector: LabelSelector,
    /// `None` where it does not isolate in that direction.
    pub ingress: Option<Vec<RuleView>>,
    pub egress: Option<Vec<RuleView>>,
}

impl PolicyView {
    pub fn of(policy: &NetworkPolicy) -> Self {
        let key = ObjectKey::new(policy.metadata.namespace.as_deref().unwrap_or_default(), policy.metadata.name.as_deref().unwrap_or_default());
        let spec = policy.spec.clone().unwrap_or_default();
        let home = key.namespace.clone();
        let rule = |peers: &[NetworkPolicyPeer], ports: &[NetworkPolicyPort]| RuleView { peers: peers_of(&home, peers), ports: ports_of(ports) };
        let ingress = spec.ingress.iter().flatten();
        let ingress = ingress.map(|each| rule(each.from.as_deref().unwrap_or_default(), each.ports.as_deref().unwrap_or_default())).collect();
        let egress = spec.egress.iter().flatten();
        let egress: Vec<RuleView> =
            egress.map(|each| rule(each.to.as_deref().unwrap_or_default(), each.ports.as_deref().unwrap_or_default())).collect();
        let types = spec.policy_types.unwrap_or_default();
        // Where no type is named, ingress is meant, and egress if there are rules for it.
        let has = |name: &str, otherwise: bool| if types.is_empty() { otherwise } else { types.iter().any(|kind| kind == name) };
        PolicyView {
            selector: spec.pod_selector.as_ref().map_or_else(LabelSelector::everything, LabelSelector::from),
            ingress: has("Ingress", true).then_some(ingress),
            egress: has("Egress", !egress.is_empty()).then_some(egress),
            key,
        }
    }

    /// Whether it selects a pod.
    pub fn selects(&self, pod: &PodView) -> bool {
        pod.key.namespace == self.key.namespace && pod.is_policed() && self.selector.matches(&pod.labels)
    }

    /// Its rules of a direction.
    pub fn rules(&self, direction: Direction) -> Option<&[RuleView]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }

    /// The sets of addresses that its rules refer to, by their ids.
    pub fn peer_sets(&self) -> BTreeMap<Arc<str>, PeerSet> {
        let both = [Direction::Ingress, Direction::Egress];
        let rules = both.into_iter().flat_map(|direction| self.rules(direction).unwrap_or_default().iter().map(move |rule| (direction, rule)));
        rules.flat_map(|(direction, rule)| rule.peer_sets(direction, &self.key.namespace)).map(|set| (set.id(), set)).collect()
    }
}

impl RuleView {
    /// The sets that the rule refers to. A port's name means a number of the pod that is asked, so going out it is matched with its pod.
    pub fn peer_sets(&self, direction: Direction, home: &Arc<str>) -> Vec<PeerSet> {
        let names = self.ports.iter().flatten().filter_map(|port| match port {
            PortMatch::Named(protocol, name) if direction == Direction::Egress => Some((*protocol, name.clone())),
            _ => None,
        });
        let whole =
            self.ports.as_ref().is_none_or(|ports| ports.iter().any(|port| direction == Direction::Ingress || !matches!(port, PortMatch::Named(..))));
        match &self.peers {
            Peers::Everybody => {
                let all = PeerSelector { home: home.clone(), namespaces: Some(LabelSelector::everything()), pods: LabelSelector::everything() };
                names.map(|(protocol, name)| PeerSet::Ports(all.clone(), name, protocol)).collect()
            }
            Peers::Of { selectors, blocks, nodes, domains } => {
                let named =
                    names.flat_map(|(protocol, name)| selectors.iter().map(move |selector| PeerSet::Ports(selector.clone(), name.clone(), protocol)));
                let mut sets: Vec<PeerSet> = named.collect();
                if whole {
                    sets.extend(selectors.iter().cloned().map(PeerSet::Pods));
                    sets.extend(Some(blocks).filter(|blocks| !blocks.is_empty()).cloned().map(PeerSet::Blocks));
                    sets.extend(nodes.iter().cloned().map(PeerSet::Nodes));
                    sets.extend(domains.iter().cloned().map(PeerSet::Domain));
                }
                sets
            }
        }
    }
}

fn peers_of(home: &Arc<str>, peers: &[NetworkPolicyPeer]) -> Peers {
    if peers.is_empty() {
        return Peers::Everybody;
    }
    let (mut selectors, mut blocks) = (Vec::new(), Vec::new());
    for peer in peers {
        if let Some(block) = &peer.ip_block {
            let parse = |text: &String| text.parse::<IpNetwork>().ok();
            let except: Vec<IpNetwork> = block.except.iter().flatten().filter_map(parse).collect();
            // A block that does not parse is refused on its way in.
            blocks.extend(parse(&block.cidr).map(|block| without(block, &except)).unwrap_or_default());
        } else if peer.namespace_selector.is_some() || peer.pod_selector.is_some() {
            let convert = |selector: &v1::LabelSelector| LabelSelector::from(selector);
            selectors.push(PeerSelector {
                home: home.clone(),
                namespaces: peer.namespace_selector.as_ref().map(convert),
                pods: peer.pod_selector.as_ref().map_or_else(LabelSelector::everything, convert),
            });
        }
    }
    blocks.sort();
    blocks.dedup();
    Peers::Of { selectors, blocks, nodes: Vec::new(), domains: Vec::new() }
}

fn ports_of(ports: &[NetworkPolicyPort]) -> Option<Vec<PortMatch>> {
    if ports.is_empty() {
        return None;
    }
    let matches = ports.iter().filter_map(|port| {
        let protocol = Protocol::parse(port.protocol.as_deref())?;
        match &port.port {
            None => Some(PortMatch::All(protocol)),
            Some(IntOrString::String(name)) => Some(PortMatch::Named(protocol, name.clone())),
            Some(IntOrString::Int(first)) => {
                let first = u16::try_from(*first).ok()?;
                let last = port.end_port.map_or(Some(first), |last| u16::try_from(last).ok())?;
                Some(PortMatch::Range(protocol, first, last))
            }
        }
    });
    Some(matches.collect())
}
