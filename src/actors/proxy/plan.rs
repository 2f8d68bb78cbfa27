//! From a Service and its EndpointSlices to rules. Pure.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use ipnetwork::IpNetwork;
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use troupe_net::{
    conntrack::FlowDestination,
    iptables::{ChainId, End, Family, RuleSet, Table},
    overlay,
};

use super::{
    budget::{self, TooManyRules},
    endpoints::{Backends, Choice, EndpointView, Location},
    entrance::{self, Entrance, Shape, host},
    names::{EXTERNAL_SERVICES, MARK_MASQ, NODE_PORTS, endpoint_chain, firewall_chain, range_chain, shard},
    service::{PortView, Taken},
};
use crate::rules::{Contribution, layout::UdpFlows};

/// What the rules of every service depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    pub location: Location,
    /// The node's address of the family, if it has one.
    pub node_ip: Option<IpAddr>,
    /// Pods' addresses; traffic to services from elsewhere is masqueraded. Rules are of its family.
    pub cluster_range: IpNetwork,
    /// TCP ports at which the cluster's daemons listen on this machine.
    pub daemons: Arc<BTreeSet<u16>>,
}

impl NodeView {
    pub fn family(&self) -> Family {
        Family::of(self.cluster_range.ip())
    }

    /// The same node in another zone.
    pub fn in_zone(&self, zone: String) -> Self {
        let location = Location { zone, ..self.location.clone() };
        NodeView { location, ..self.clone() }
    }

    /// Whether a port of this machine is the cluster's own: no Service has it by an external address that is the machine's.
    fn listens(&self, protocol: &str, port: u16) -> bool {
        match protocol {
            "tcp" => self.daemons.contains(&port),
            "udp" => port == overlay::PORT,
            _ => false,
        }
    }

    fn unreachable(&self) -> &'static str {
        unreachable(self.family())
    }

    /// What the module that remembers clients compares of an address: all of it.
    fn mask(&self) -> &'static str {
        match self.family() {
            Family::V4 => "255.255.255.255",
            Family::V6 => "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        }
    }
}

/// How a family says that nobody listens.
pub fn unreachable(family: Family) -> &'static str {
    match family {
        Family::V4 => "icmp-port-unreachable",
        Family::V6 => "icmp6-port-unreachable",
    }
}

/// The ports of a range that has a chain of its own.
const RANGE: u16 = 256;

/// What one Service asks of the node.
pub type ServicePlan = Contribution;

/// Why a Service has no plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unplanned {
    #[error(transparent)]
    TooManyRules(#[from] TooManyRules),
    /// Nobody wants it any more.
    #[error("abandoned")]
    Abandoned,
}

/// The rules of one Service with all its slices; none when it may not have them.
pub fn plan(service: &Service, slices: &[Arc<EndpointSlice>], node: &NodeView) -> ServicePlan {
    plan_while(service, slices, node, &Taken::new(), &|| true).unwrap_or_default()
}

/// The same without what other Services have, or why there is none. It is asked before each port whether the plan is still wanted.
pub fn plan_while(
    service: &Service,
    slices: &[Arc<EndpointSlice>],
    node: &NodeView,
    taken: &Taken,
    is_wanted: &dyn Fn() -> bool,
) -> Result<ServicePlan, Unplanned> {
    let mut ports = PortView::of(service, node.family());
    let Some(shape) = Shape::of(&ports, node.node_ip, node.cluster_range) else { return Ok(ServicePlan::default()) };
    for port in &mut ports {
        port.external_ips = shape.external_ips.clone();
        port.leave(taken);
        port.apart |= node.listens(port.protocol, port.port) && !port.external_ips.is_empty();
    }
    let backends = Backends::of(slices, &node.location.node, node.family());
    budget::check(&shape, &ports, &backends)?;
    let mut rules = RuleSet::default();
    let mut flows = Flows::new(&shape, &ports);
    for port in ports {
        if !is_wanted() {
            return Err(Unplanned::Abandoned);
        }
        let choice = Choice::of(&port, &backends.endpoints(&port), &node.location);
        flows.add(&port, &choice);
        let mut rules = PortRules { port: &port, choice: &choice, node, shape: &shape, shared: shape.is_shared() && !port.apart, rules: &mut rules };
        rules.dispatch();
        rules.refusals();
        rules.internal();
        rules.external();
        rules.firewall();
        rules.balance(&port.chains.cluster, &choice.cluster);
        rules.balance(&port.chains.local, &choice.local);
        rules.endpoints();
    }
    entrance::lead(&shape, &mut rules);
    Ok(ServicePlan { rules: Arc::new(rules), udp: flows.all() })
}

/// Where UDP flows may go: by address and port, or for many of them by address alone.
struct Flows {
    addresses: Vec<IpAddr>,
    each: bool,
    found: UdpFlows,
    /// The endpoints of all ports, unless each stands for itself.
    together: BTreeSet<SocketAddr>,
}

impl Flows {
    fn new(shape: &Shape, ports: &[PortView]) -> Self {
        let udp = ports.iter().filter(|port| port.protocol == "udp");
        let cluster = udp.clone().next().map(|port| port.cluster_ip);
        let addresses =
            cluster.into_iter().flat_map(|ip| [ip].into_iter().chain(shape.external_ips.iter().copied()).chain(shape.balancer_ips.iter().copied()));
        Flows { addresses: addresses.collect(), each: shape.is_few(udp.count()), found: UdpFlows::new(), together: BTreeSet::new() }
    }

    fn add(&mut self, port: &PortView, choice: &Choice) {
        if port.protocol != "udp" {
            return;
        }
        let endpoints: Arc<BTreeSet<SocketAddr>> =
            Arc::new(choice.reachable().iter().map(|endpoint| SocketAddr::new(endpoint.ip, endpoint.port)).collect());
        if self.each {
            self.found.extend(self.addresses.iter().map(|ip| (FlowDestination::Address(*ip, port.port), endpoints.clone())));
        } else {
            self.together.extend(endpoints.iter().map(|endpoint| SocketAddr::new(endpoint.ip(), 0)));
        }
        self.found.extend(port.node_port.map(|number| (FlowDestination::NodePort(Family::of(port.cluster_ip), number), endpoints)));
    }

    fn all(mut self) -> UdpFlows {
        if !self.each {
            let ips = Arc::new(self.together);
            self.found.extend(self.addresses.iter().map(|ip| (FlowDestination::Host(*ip), ips.clone())));
        }
        self.found
    }
}

/// Writes the rules of one port.
struct PortRules<'a> {
    port: &'a PortView,
    choice: &'a Choice,
    node: &'a NodeView,
    shape: &'a Shape,
    /// The Service's addresses meet in chains of its own, in which this port is.
    shared: bool,
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
        self.choice.any && self.shape.is_guarded()
    }

    /// Matches packets to `ip` at the service's port.
    fn to(&self, ip: IpAddr, comment: &str) -> String {
        self.to_where(ip, comment, "")
    }

    fn to_where(&self, ip: IpAddr, comment: &str, place: &str) -> String {
        let PortView { protocol, port, .. } = self.port;
        format!("-d {} -p {protocol} -m comment --comment \"{comment}\" {place}-m {protocol} --dport {port}", host(ip))
    }

    /// Matches what is not for this machine, at external addresses of ports that are the cluster's own here: it may have addresses that no
    /// node tells.
    fn elsewhere(&self) -> &'static str {
        if self.node.listens(self.port.protocol, self.port.port) { "-m addrtype ! --dst-type LOCAL " } else { "" }
    }

    fn named(&self, what: &str) -> String {
        format!("{} {what}", self.port.full_name)
    }

    /// Matches packets to the service's port in a chain that others do not come to.
    fn here(&self, comment: &str) -> String {
        let PortView { protocol, port, .. } = self.port;
        format!("-p {protocol} -m comment --comment \"{comment}\" -m {protocol} --dport {port}")
    }

    /// The first port of the range that this one is in, and how the range is matched.
    fn range(&self) -> (u16, String) {
        let PortView { protocol, port, .. } = self.port;
        let first = port / RANGE * RANGE;
        let ports = format!("{first}:{}", first + (RANGE - 1));
        (first, format!("-p {protocol} -m comment --comment \"{}\" -m {protocol} --dport {ports}", self.shape.service))
    }

    /// Adds a rule for packets to the cluster address to a chain that others add to as well.
    fn lead(&mut self, table: Table, rule: String) {
        let ip = self.port.cluster_ip;
        let from = shard(ip);
        if !self.shape.is_wide() {
            return self.rules.line(table, &from, End::Head, rule);
        }
        let (first, range) = self.range();
        let chain = range_chain(&from, &self.shape.service, &ip.to_string(), self.port.protocol, first);
        self.rules.push(table, &chain, rule);
        self.rules.line(table, &from, End::Head, format!("-d {} {range} -j {chain}", host(ip)));
    }

    /// Adds what is done with packets to this port to a chain that the Service's addresses share.
    fn share(&mut self, entrance: Entrance, comment: &str, target: &str) {
        let (table, chain) = (entrance.table(), entrance.chain(&self.shape.service));
        let rule = format!("{} -j {target}", self.here(comment));
        if !self.shape.is_wide() {
            return self.rules.push(table, &chain, rule);
        }
        let (first, range) = self.range();
        let within = range_chain(&chain, &self.shape.service, "", self.port.protocol, first);
        if !self.rules.chains.contains_key(&ChainId::new(table, &within)) {
            self.rules.push(table, &chain, format!("{range} -j {within}"));
        }
        self.rules.push(table, &within, rule);
    }

    /// Adds the same for some of the Service's addresses, one by one, where packets match `place`.
    fn each(&mut self, entrance: Entrance, (ips, place): (&[IpAddr], &str), comment: &str, target: &str) {
        for ip in ips {
            let rule = format!("{} -j {target}", self.to_where(*ip, comment, place));
            self.rules.line(entrance.table(), &entrance.from(*ip), End::Head, rule);
        }
    }

    /// The lines that lead from addresses and node ports to the chains of this port.
    fn dispatch(&mut self) {
        if self.has_internal() {
            let rule = format!("{} -j {}", self.to(self.port.cluster_ip, &self.named("cluster IP")), self.internal_chain());
            self.lead(Table::Nat, rule);
        }
        if !self.choice.any {
            return;
        }
        let port = self.port;
        let external = &port.chains.external;
        if self.shared {
            self.share(Entrance::Ports, &self.named("external IP"), external);
        } else {
            let balanced = if self.has_firewall() { &port.chains.firewall } else { external };
            self.each(Entrance::Ports, (&port.external_ips, self.elsewhere()), &self.named("external IP"), external);
            self.each(Entrance::Ports, (&port.balancer_ips, ""), &self.named("loadbalancer IP"), balanced);
        }
        if let Some(node_port) = port.node_port {
            let PortView { protocol, full_name, .. } = port;
            let rule = format!("-p {protocol} -m comment --comment \"{full_name}\" -m {protocol} --dport {node_port} -j {external}");
            self.rules.line(Table::Nat, NODE_PORTS, End::Head, rule);
        }
    }

    /// The lines that refuse what has no endpoint to go to: loudly when there is none anywhere, silently when only the policy forbids.
    fn refusals(&mut self) {
        let reject = format!("REJECT --reject-with {}", self.node.unreachable());
        let (comment, verdict) = match self.choice.any {
            false => (self.named("has no endpoints"), reject.as_str()),
            true => (self.named("has no local endpoints"), "DROP"),
        };
        if !self.has_internal() {
            let rule = format!("{} -j {verdict}", self.to(self.port.cluster_ip, &comment));
            self.lead(Table::Filter, rule);
        }
        if !self.has_external() {
            let port = self.port;
            if self.shared {
                self.share(Entrance::Refusals, &comment, verdict);
            } else {
                self.each(Entrance::Refusals, (&port.external_ips, self.elsewhere()), &comment, verdict);
                self.each(Entrance::Refusals, (&port.balancer_ips, ""), &comment, verdict);
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
        let port = self.port;
        if self.shared {
            let comment = format!("{} traffic not accepted by {}", port.full_name, firewall_chain(&self.shape.service));
            return self.share(Entrance::Firewall, &comment, "DROP");
        }
        let comment = format!("-m comment --comment \"{} loadbalancer IP\"", port.full_name);
        for source in self.shape.sources() {
            self.rules.push(Table::Nat, &port.chains.firewall, format!("{source}{comment} -j {}", port.chains.external));
        }
        let rest = format!("-m comment --comment \"other traffic to {} will be dropped by KUBE-PROXY-FIREWALL\"", port.full_name);
        self.rules.push(Table::Nat, &port.chains.firewall, rest);
        let comment = format!("{} traffic not accepted by {}", port.full_name, port.chains.firewall);
        self.each(Entrance::Firewall, (&port.balancer_ips, ""), &comment, "DROP");
    }

    /// A chain that spreads connections evenly over `endpoints`, clients with affinity first to where they were.
    fn balance(&mut self, chain: &str, endpoints: &[EndpointView]) {
        let port = self.port;
        let target = |endpoint: &EndpointView| {
            let address = endpoint.address();
            let comment = format!("-m comment --comment \"{} -> {address}\"", port.full_name);
            (comment, endpoint_chain(&port.full_name, port.protocol, &address))
        };
        for endpoint in endpoints.iter().filter(|_| port.affinity.is_some()) {
            let (comment, to) = target(endpoint);
            let seconds = port.affinity.expect("filtered on it");
            let recent = format!("-m recent --rcheck --seconds {seconds} --reap --name {to} --mask {} --rsource", self.node.mask());
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
            let address = endpoint.address();
            let chain = endpoint_chain(full_name, protocol, &address);
            let comment = format!("-m comment --comment \"{full_name}\"");
            self.rules.push(Table::Nat, &chain, format!("-s {} {comment} -j {MARK_MASQ}", host(endpoint.ip)));
            let remember =
                if affinity.is_some() { format!(" -m recent --set --name {chain} --mask {} --rsource", self.node.mask()) } else { String::new() };
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
