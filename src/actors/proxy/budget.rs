//! What one Service may ask of a node. Counted before any rule is written, and from above. Pure.

use super::{endpoints::Backends, entrance::Shape, service::PortView};

/// The rules of one Service on a node: more than the largest object that the API server stores needs for ports with two endpoints each.
pub const MOST_RULES: usize = 120_000;
/// Its external and load balancer addresses: each is a rule that packets to others' addresses walk past.
pub const MOST_ADDRESSES: usize = 1000;
/// The ways from its addresses over its ports to its endpoints: kernels may walk them all for every change of any rule.
pub const MOST_WAYS: usize = 1_000_000;

/// The reason of the event about a Service that asks for more.
pub const REASON: &str = "TooManyRules";

/// A Service asks for more than it may have, and gets no rules at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooManyRules {
    #[error("{0} packet filter rules, and a Service may have {MOST_RULES}")]
    Rules(usize),
    #[error("{0} external and load balancer addresses, and a Service may have {MOST_ADDRESSES}")]
    Addresses(usize),
    #[error("{0} ways from addresses over ports to endpoints, and a Service may have {MOST_WAYS}")]
    Ways(usize),
}

impl TooManyRules {
    /// What the event says.
    pub fn message(self) -> String {
        format!("Not served on this node: it would need {self}. Give it fewer ports, addresses or source ranges, or divide it")
    }
}

/// What the rules of a Service come to, at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    pub rules: usize,
    pub ways: usize,
}

impl Cost {
    /// Its own cost is that of looking at ports and slices.
    pub fn of(shape: &Shape, ports: &[PortView], backends: &Backends<'_>) -> Cost {
        let mut cost = Cost { rules: of_service(shape), ways: 0 };
        for port in ports {
            let endpoints = backends.count(port);
            cost.rules = cost.rules.saturating_add(of_port(shape, port, endpoints));
            // Its cluster address and its node port are ways, too.
            cost.ways = cost.ways.saturating_add((shape.addresses() + 2).saturating_mul(endpoints + 1));
        }
        cost
    }
}

/// Whether a Service may have the rules that it would get.
pub fn check(shape: &Shape, ports: &[PortView], backends: &Backends<'_>) -> Result<(), TooManyRules> {
    if shape.addresses() > MOST_ADDRESSES {
        return Err(TooManyRules::Addresses(shape.addresses()));
    }
    let cost = Cost::of(shape, ports, backends);
    if cost.rules > MOST_RULES {
        return Err(TooManyRules::Rules(cost.rules));
    }
    if cost.ways > MOST_WAYS { Err(TooManyRules::Ways(cost.ways)) } else { Ok(()) }
}

/// The rules that its ports share.
fn of_service(shape: &Shape) -> usize {
    // Ranges of 256 ports for each of three protocols, at the cluster address and in three shared chains.
    let ranges = if shape.is_wide() { 4 * shape.ports.min(3 * 256) } else { 0 };
    if !shape.is_shared() {
        return ranges;
    }
    let guard = if shape.is_guarded() { shape.balancer_ips.len() + shape.source_rules() + 1 } else { 0 };
    ranges + 2 * shape.addresses() + guard
}

fn of_port(shape: &Shape, port: &PortView, endpoints: usize) -> usize {
    let is_shared = shape.is_shared() && !port.apart;
    // Traffic of the node may go on where that of others is refused.
    let each = if port.external_local { 2 } else { 1 };
    let at_addresses = each * if is_shared { 1 } else { shape.addresses() };
    let guard = match (shape.is_guarded(), is_shared) {
        (false, _) => 0,
        (true, true) => 1,
        (true, false) => shape.source_rules() + 1 + shape.balancer_ips.len(),
    };
    let external = if port.is_external() { 2 * each } else { 0 };
    let node_port = if port.node_port.is_some() { each } else { 0 };
    let lists = usize::from(port.uses_cluster_endpoints()) + usize::from(port.uses_local_endpoints());
    let each_endpoint = 2 + lists * if port.affinity.is_some() { 2 } else { 1 };
    let own = 2 + usize::from(port.health_port.is_some()) + at_addresses + guard + external + node_port;
    own.saturating_add(endpoints.saturating_mul(each_endpoint))
}
