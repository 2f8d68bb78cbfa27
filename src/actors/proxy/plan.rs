//! From a Service and its EndpointSlices to rules. Pure.

use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc};

use ipnetwork::Ipv4Network;
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use troupe_net::{
    conntrack::FlowDestination,
    iptables::{End, RuleSet, Table},
};

use super::{
    endpoints::{Backends, Choice, EndpointView, Location},
    names::{EXTERNAL_SERVICES, MARK_MASQ, NODE_PORTS, PROXY_FIREWALL, endpoint_chain, range_chain, shard},
    service::PortView,
};
use crate::rules::{Contribution, layout::UdpFlows};

/// What the rules of every service depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    pub location: Location,
    pub node_ip: Ipv4Addr,
    /// Pods' addresses; traffic to services from elsewhere is masqueraded.
    pub cluster_range: Ipv4Network,
}

/// From how many ports on a Service's addresses lead to chains of its own, one for each range of ports: neither packets to others nor
/// changes of others walk its rules then.
const WIDE: usize = 64;
/// The ports of such a range.
const RANGE: u16 = 256;

/// What one Service asks of the node.
pub type ServicePlan = Contribution;

/// The rules of one Service with all its slices.
pub fn plan(service: &Service, slices: &[Arc<EndpointSlice>], node: &NodeView) -> ServicePlan {
    let (mut rules, mut udp) = (RuleSet::default(), UdpFlows::new());
    let backends = Backends::of(slices, &node.location.node);
    let ports = PortView::of(service);
    let wide = ports.len() > WIDE;
    for mut port in ports {
        // Packets to a pod are the pod's.
        port.external_ips.retain(|ip| !node.cluster_range.contains(*ip));
        let choice = Choice::of(&port, &backends.endpoints(&port), &node.location);
        if port.protocol == "udp" {
            udp.extend(flows(&port, &choice));
        }
        let mut rules = PortRules { port: &port, choice: &choice, node, wide, rules: &mut rules };
        rules.dispatch();
        rules.refusals();
        rules.internal();
        rules.external();
        rules.firewall();
        rules.balance(&port.chains.cluster, &choice.cluster);
        rules.balance(&port.chains.local, &choice.local);
        rules.endpoints();
    }
    ServicePlan { rules: Arc::new(rules), udp }
}

fn flows(port: &PortView, choice: &Choice) -> UdpFlows {
    let ips: BTreeSet<Ipv4Addr> = choice.reachable().iter().map(|endpoint| endpoint.ip).collect();
    let addresses = [port.cluster_ip].into_iter().chain(port.external_ips.iter().copied()).chain(port.balancer_ips.iter().copied());
    let destinations = addresses.map(|ip| FlowDestination::Address(ip, port.port)).chain(port.node_port.map(FlowDestination::NodePort));
    destinations.map(|destination| (destination, ips.clone())).collect()
}

/// Writes the rules of one port.
struct PortRules<'a> {
    port: &'a PortView,
    choice: &'a Choice,
    node: &'a NodeView,
    /// Its Service has very many ports.
    wide: bool,
    rules: &'a mut RuleSet,
}

impl PortRules<'_> {
    fn internal_chain(&self) -> &str {
        if self.port.internal_local { &self.port.chains.local } else { &self.port.chains.cluster }
    }

    fn has_internal(&self) -> bool {
        if self.port.internal_local { !self.choice.local.is_empty() } else { self.choice.any }
    }

    fn has_external(&self) -> bool {
        if self.port.external_local { !self.choice.local.is_empty() } else { self.choice.any }
    }

    /// Balanced traffic passes a firewall chain when its sources are restricted.
    fn has_firewall(&self) -> bool {
        self.choice.any && !self.port.balancer_ips.is_empty() && !self.port.source_ranges.is_empty()
    }

    /// Matches packets to `ip` at the service's port.
    fn to(&self, ip: Ipv4Addr, comment: &str) -> String {
        let PortView { protocol, port, .. } = self.port;
        format!("-d {ip}/32 -p {protocol} -m comment --comment \"{comment}\" -m {protocol} --dport {port}")
    }

    fn named(&self, what: &str) -> String {
        format!("{} {what}", self.port.full_name)
    }

    /// Adds a rule for packets to `ip` to a chain that others add to as well.
    fn lead(&mut self, table: Table, from: &str, ip: Ipv4Addr, rule: String) {
        if !self.wide {
            return self.rules.line(table, from, End::Head, rule);
        }
        let PortView { protocol, port, full_name, .. } = self.port;
        let service = full_name.split(':').next().unwrap_or_default();
        let first = port / RANGE * RANGE;
        let chain = range_chain(from, service, ip, protocol, first);
        self.rules.push(table, &chain, rule);
        let ports = format!("{first}:{}", first + (RANGE - 1));
        let leads = format!("-d {ip}/32 -p {protocol} -m comment --comment \"{service}\" -m {protocol} --dport {ports} -j {chain}");
        self.rules.line(table, from, End::Head, leads);
    }

    /// The lines that lead from addresses and node ports to the chains of this port.
    fn dispatch(&mut self) {
        if self.has_internal() {
            let rule = format!("{} -j {}", self.to(self.port.cluster_ip, &self.named("cluster IP")), self.internal_chain());
            self.lead(Table::Nat, &shard(self.port.cluster_ip), self.port.cluster_ip, rule);
        }
        if !self.choice.any {
            return;
        }
        let port = self.port;
        let external = &port.chains.external;
        for ip in &port.external_ips {
            let rule = format!("{} -j {external}", self.to(*ip, &self.named("external IP")));
            self.lead(Table::Nat, &shard(*ip), *ip, rule);
        }
        let balanced = if self.has_firewall() { &port.chains.firewall } else { external };
        for ip in &port.balancer_ips {
            let rule = format!("{} -j {balanced}", self.to(*ip, &self.named("loadbalancer IP")));
            self.lead(Table::Nat, &shard(*ip), *ip, rule);
        }
        if let Some(node_port) = port.node_port {
            let PortView { protocol, full_name, .. } = port;
            let rule = format!("-p {protocol} -m comment --comment \"{full_name}\" -m {protocol} --dport {node_port} -j {external}");
            self.rules.line(Table::Nat, NODE_PORTS, End::Head, rule);
        }
    }

    /// The lines that refuse what has no endpoint to go to: loudly when there is none anywhere, silently when only the policy forbids.
    fn refusals(&mut self) {
        let (comment, verdict) = match self.choice.any {
            false => (self.named("has no endpoints"), "REJECT --reject-with icmp-port-unreachable"),
            true => (self.named("has no local endpoints"), "DROP"),
        };
        if !self.has_internal() {
            let rule = format!("{} -j {verdict}", self.to(self.port.cluster_ip, &comment));
            self.lead(Table::Filter, &shard(self.port.cluster_ip), self.port.cluster_ip, rule);
        }
        if !self.has_external() {
            let port = self.port;
            for ip in port.external_ips.iter().chain(&port.balancer_ips) {
                let rule = format!("{} -j {verdict}", self.to(*ip, &comment));
                self.lead(Table::Filter, EXTERNAL_SERVICES, *ip, rule);
            }
            if let Some(node_port) = self.port.node_port {
                let protocol = self.port.protocol;
                let local = format!("-p {protocol} -m comment --comment \"{comment}\" -m addrtype --dst-type LOCAL");
                self.rules.line(Table::Filter, EXTERNAL_SERVICES, End::Head, format!("{local} -m {protocol} --dport {node_port} -j {verdict}"));
            }
        }
        if let Some(health) = self.port.health_port {
            let comment = format!("{} health check node port", self.port.full_name);
            self.rules.line(
                Table::Filter,
                NODE_PORTS,
                End::Head,
                format!("-p tcp -m comment --comment \"{comment}\" -m tcp --dport {health} -j ACCEPT"),
            );
        }
    }

    /// Traffic to the cluster address from outside the cluster may be bridged by this node: it must come back here.
    fn internal(&mut self) {
        if self.has_internal() {
            let chain = self.internal_chain().to_owned();
            let rule = format!("! -s {} {} -j {MARK_MASQ}", self.node.cluster_range, self.to(self.port.cluster_ip, &self.named("cluster IP")));
            self.rules.push(Table::Nat, &chain, rule);
        }
    }

    /// The chain of external traffic: masquerade under the Cluster policy, short cuts for the node's own under Local.
    fn external(&mut self) {
        if !self.choice.any || !self.port.is_external() {
            return;
        }
        let chain = &self.port.chains.external;
        let cluster = &self.port.chains.cluster;
        let comment = |what: &str| format!("-m comment --comment \"{what} {} external destinations\"", self.port.full_name);
        let mut rules = Vec::new();
        if self.port.external_local {
            rules.push(format!("-s {} {} -j {cluster}", self.node.cluster_range, comment("pod traffic for")));
            rules.push(format!("{} -m addrtype --src-type LOCAL -j {MARK_MASQ}", comment("masquerade LOCAL traffic for")));
            rules.push(format!("{} -m addrtype --src-type LOCAL -j {cluster}", comment("route LOCAL traffic for")));
        } else {
            rules.push(format!("{} -j {MARK_MASQ}", comment("masquerade traffic for")));
        }
        if self.has_external() {
            rules.push(format!("-j {}", if self.port.external_local { &self.port.chains.local } else { cluster }));
        }
        rules.into_iter().for_each(|rule| self.rules.push(Table::Nat, chain, rule));
    }

    /// Source ranges of balanced traffic; what passes none of them is dropped in the filter table.
    fn firewall(&mut self) {
        if !self.has_firewall() {
            return;
        }
        let PortRules { port, node, .. } = *self;
        let comment = format!("-m comment --comment \"{} loadbalancer IP\"", port.full_name);
        let mut sources: Vec<String> = port.source_ranges.iter().map(|range| format!("{}/{}", range.network(), range.prefix())).collect();
        if port.source_ranges.iter().any(|range| range.contains(node.node_ip)) {
            // Packets of this node to a balancer's address loop back with that address as their source.
            sources.extend(port.balancer_ips.iter().map(|ip| format!("{ip}/32")));
        }
        for source in sources {
            // A match on everything is not printed back, and would look like a difference.
            let source = if source == "0.0.0.0/0" { String::new() } else { format!("-s {source} ") };
            self.rules.push(Table::Nat, &port.chains.firewall, format!("{source}{comment} -j {}", port.chains.external));
        }
        let rest = format!("-m comment --comment \"other traffic to {} will be dropped by KUBE-PROXY-FIREWALL\"", port.full_name);
        self.rules.push(Table::Nat, &port.chains.firewall, rest);
        for ip in &port.balancer_ips {
            let comment = format!("{} traffic not accepted by {}", port.full_name, port.chains.firewall);
            let rule = format!("{} -j DROP", self.to(*ip, &comment));
            self.lead(Table::Filter, PROXY_FIREWALL, *ip, rule);
        }
    }

    /// A chain that spreads connections evenly over `endpoints`, clients with affinity first to where they were.
    fn balance(&mut self, chain: &str, endpoints: &[EndpointView]) {
        let port = self.port;
        let target = |endpoint: &EndpointView| {
            let address = format!("{}:{}", endpoint.ip, endpoint.port);
            let comment = format!("-m comment --comment \"{} -> {address}\"", port.full_name);
            (comment, endpoint_chain(&port.full_name, port.protocol, &address))
        };
        for endpoint in endpoints.iter().filter(|_| port.affinity.is_some()) {
            let (comment, to) = target(endpoint);
            let seconds = port.affinity.expect("filtered on it");
            let recent = format!("-m recent --rcheck --seconds {seconds} --reap --name {to} --mask 255.255.255.255 --rsource");
            self.rules.push(Table::Nat, chain, format!("{comment} {recent} -j {to}"));
        }
        for (at, endpoint) in endpoints.iter().enumerate() {
            let (comment, to) = target(endpoint);
            let chance = match endpoints.len() - at {
                1 => String::new(),
                left => format!(" -m statistic --mode random --probability {}", probability(left)),
            };
            self.rules.push(Table::Nat, chain, format!("{comment}{chance} -j {to}"));
        }
    }

    /// A chain per endpoint: masquerade what would come back to its sender, then translate.
    fn endpoints(&mut self) {
        let PortView { full_name, protocol, affinity, .. } = self.port;
        for endpoint in self.choice.reachable() {
            let address = format!("{}:{}", endpoint.ip, endpoint.port);
            let chain = endpoint_chain(full_name, protocol, &address);
            let comment = format!("-m comment --comment \"{full_name}\"");
            self.rules.push(Table::Nat, &chain, format!("-s {}/32 {comment} -j {MARK_MASQ}", endpoint.ip));
            let remember =
                if affinity.is_some() { format!(" -m recent --set --name {chain} --mask 255.255.255.255 --rsource") } else { String::new() };
            let translate = format!("-p {protocol} {comment}{remember} -m {protocol} -j DNAT --to-destination {address}");
            self.rules.push(Table::Nat, &chain, translate);
        }
    }
}

/// One in `count`, rounded and printed as the kernel keeps it.
fn probability(count: usize) -> String {
    const ONE: f64 = 2_147_483_648.0;
    format!("{:.11}", (ONE / count as f64).round() / ONE)
}
