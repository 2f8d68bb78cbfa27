//! How packets to a Service's addresses beside its cluster address find its ports. Pure.
//!
//! Few addresses and ports get a rule for each pair, as upstream's proxy lays it out. Many would be their product, so every address leads once
//! to a chain of the Service then, where the ports are told apart, and allowed sources are asked for before: the rules are the sum.

use std::{net::IpAddr, sync::Arc};

use ipnetwork::IpNetwork;
use troupe_net::iptables::{ChainId, End, Family, RuleSet, Table};

use super::{
    names::{EXTERNAL_SERVICES, PROXY_FIREWALL, address_chain, firewall_chain, shard},
    service::PortView,
};

/// Up to how many pairs of addresses (or allowed sources) and ports get rules of their own.
const FEW: usize = 64;
/// From how many ports on they are told apart by ranges first: neither packets to others nor changes of others walk its rules then.
const WIDE: usize = 64;

/// What the layout of a Service's rules follows from.
#[derive(Clone, Debug)]
pub struct Shape {
    /// `namespace/service`.
    pub service: String,
    pub ports: usize,
    pub external_ips: Arc<[IpAddr]>,
    pub balancer_ips: Arc<[IpAddr]>,
    /// Who may come to the balancer's addresses; none for everybody.
    sources: Arc<[IpNetwork]>,
    /// This node may: its packets to a balancer's address loop back with that address as their source.
    node_may: bool,
}

impl Shape {
    /// Of the ports of one Service, on the node with this address; `None` when it has none.
    pub fn of(ports: &[PortView], node_ip: Option<IpAddr>, cluster_range: IpNetwork) -> Option<Shape> {
        let first = ports.first()?;
        // Packets to a pod are the pod's.
        let external_ips = first.external_ips.iter().copied().filter(|ip| !cluster_range.contains(*ip)).collect();
        let sources = if first.balancer_ips.is_empty() { Arc::default() } else { first.source_ranges.clone() };
        Some(Shape {
            service: first.full_name.split(':').next().unwrap_or_default().to_owned(),
            ports: ports.len(),
            external_ips,
            balancer_ips: first.balancer_ips.clone(),
            node_may: node_ip.is_some_and(|node_ip| sources.iter().any(|range| range.contains(node_ip))),
            sources,
        })
    }

    /// How many addresses it has beside its cluster address.
    pub fn addresses(&self) -> usize {
        self.external_ips.len() + self.balancer_ips.len()
    }

    /// How many rules tell allowed sources.
    pub fn source_rules(&self) -> usize {
        self.sources.len() + if self.node_may { self.balancer_ips.len() } else { 0 }
    }

    pub fn is_guarded(&self) -> bool {
        !self.sources.is_empty()
    }

    /// Its ports are told apart by ranges first.
    pub fn is_wide(&self) -> bool {
        self.ports > WIDE
    }

    /// Its addresses meet in chains of its own.
    pub fn is_shared(&self) -> bool {
        self.ports > 1 && self.ports.saturating_mul(self.addresses().max(self.source_rules())) > FEW
    }

    /// Whether so many ports of its are few enough, with its addresses, to treat each pair by itself.
    pub fn is_few(&self, ports: usize) -> bool {
        ports.saturating_mul(self.addresses() + 1) <= FEW
    }

    /// The matches of the allowed sources, as a rule begins with them.
    pub fn sources(&self) -> impl Iterator<Item = String> + '_ {
        let own = self.balancer_ips.iter().filter(|_| self.node_may).map(|ip| format!("-s {} ", host(*ip)));
        let spelled = |range: &IpNetwork| match range.prefix() {
            // A match on everything is not printed back, and would look like a difference.
            0 => String::new(),
            prefix => format!("-s {}/{prefix} ", range.network()),
        };
        self.sources.iter().map(spelled).chain(own)
    }
}

/// What the addresses of a Service share a chain for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entrance {
    /// To the endpoints.
    Ports,
    /// Refusal of ports without endpoints.
    Refusals,
    /// What no allowed source sent to a balancer's address.
    Firewall,
}

impl Entrance {
    pub fn table(self) -> Table {
        if self == Entrance::Ports { Table::Nat } else { Table::Filter }
    }

    /// The chain of a Service.
    pub fn chain(self, service: &str) -> String {
        let purpose = match self {
            Entrance::Ports => "external",
            Entrance::Refusals => "refused",
            Entrance::Firewall => "guarded",
        };
        address_chain(service, purpose)
    }

    /// The chain from which an address leads there.
    pub fn from(self, ip: IpAddr) -> String {
        match self {
            Entrance::Ports => shard(ip),
            Entrance::Refusals => EXTERNAL_SERVICES.to_owned(),
            Entrance::Firewall => PROXY_FIREWALL.to_owned(),
        }
    }
}

/// An address alone, as rules are printed back.
pub fn host(ip: IpAddr) -> String {
    format!("{ip}/{}", Family::of(ip).host_prefix())
}

/// Adds what leads from the addresses of a Service to the chains that they share, where its ports have put something in these.
pub fn lead(shape: &Shape, rules: &mut RuleSet) {
    for entrance in [Entrance::Ports, Entrance::Refusals, Entrance::Firewall] {
        let chain = entrance.chain(&shape.service);
        if !rules.chains.contains_key(&ChainId::new(entrance.table(), &chain)) {
            continue;
        }
        let guarded = entrance == Entrance::Ports && shape.is_guarded();
        let balanced = if guarded { guard(shape, &chain, rules) } else { chain.clone() };
        let mut line = |ip: &IpAddr, what: &str, to: &str| {
            let rule = format!("-d {} -m comment --comment \"{} {what}\" -j {to}", host(*ip), shape.service);
            rules.line(entrance.table(), &entrance.from(*ip), End::Head, rule);
        };
        if entrance != Entrance::Firewall {
            shape.external_ips.iter().for_each(|ip| line(ip, "external IP", &chain));
        }
        shape.balancer_ips.iter().for_each(|ip| line(ip, "loadbalancer IP", &balanced));
    }
}

/// Writes the chain that lets allowed sources on to `ports`, and names it. It goes there for good: ports are looked through once, however many
/// of the ranges a source is in.
fn guard(shape: &Shape, ports: &str, rules: &mut RuleSet) -> String {
    let (chain, service) = (firewall_chain(&shape.service), &shape.service);
    for source in shape.sources() {
        rules.push(Table::Nat, &chain, format!("{source}-m comment --comment \"{service} loadbalancer IP\" -g {ports}"));
    }
    let rest = format!("-m comment --comment \"other traffic to {service} will be dropped by KUBE-PROXY-FIREWALL\"");
    rules.push(Table::Nat, &chain, rest);
    chain
}
