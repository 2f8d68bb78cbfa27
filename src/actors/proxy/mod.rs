//! The service proxy: Services and EndpointSlices become packet filter rules on this node.
//!
//! ```text
//! caches ─► ServiceRouter ─► ServiceRules (one per Service): plan ─► RuleTable (`rules`): a transaction at a time ─► iptables
//! ```
//!
//! Rules outlive the daemon: at start nothing is flushed, the table reads what the kernel has and applies the difference
//! once every Service known at that time has reported. Afterwards the cost of a change is that of its own rules, and a Service with very many
//! rules changes in pieces.

pub mod base;
pub mod budget;
pub mod claims;
pub mod endpoints;
pub mod entrance;
pub mod health;
pub mod index;
pub mod layout;
pub mod metrics;
pub mod names;
pub mod plan;
pub mod ranges;
pub mod router;
pub mod service;
pub mod service_rules;
mod sync_state;

#[cfg(test)]
mod ipv6_tests;
#[cfg(test)]
pub(crate) mod kernel_tests;
#[cfg(test)]
mod spread_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod unit_tests;
#[cfg(test)]
mod wide_tests;

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use ipnetwork::IpNetwork;
use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
    networking::v1::ServiceCIDR,
};
use troupe_api::{meta::ObjectKey, projection::MetaProjection};
use troupe_net::{
    conntrack::Conntrack,
    conntrack_settings::{ConntrackFiles, ConntrackSettings},
    iptables::{Family, Iptables},
};

use self::{
    endpoints::{Location, ZONE},
    plan::NodeView,
    router::ServiceRouter,
};
use crate::runtime::{cache::Lister, events::EventRecorder, host::UnitAddr, system::System, unit::Policy};

/// The packet filter of a family.
pub type PacketFilters = Arc<dyn Fn(Family) -> Arc<dyn Iptables> + Send + Sync>;

/// What the proxy works with.
#[derive(Clone)]
pub struct ProxyOptions {
    pub node_name: String,
    pub node_ips: Vec<IpAddr>,
    /// Pods' addresses, a range of each family that is proxied; traffic to services from elsewhere is masqueraded.
    pub cluster_cidrs: Vec<IpNetwork>,
    /// TCP ports at which the cluster's daemons listen on this machine: no Service takes them at an external address that is the machine's.
    pub daemons: Arc<BTreeSet<u16>>,
    /// Let node ports answer on loopback addresses, as upstream does by default.
    pub localhost_node_ports: bool,
    pub iptables: PacketFilters,
    pub conntrack: Arc<dyn Conntrack>,
    /// What is asked of the kernel's connection tracking; `None` leaves all of it as it is.
    pub conntrack_settings: Option<ConntrackSettings>,
    pub services: Lister<Service>,
    pub slices: Lister<EndpointSlice>,
    /// Tell the zone of the node.
    pub nodes: Lister<Node>,
    /// Which addresses Services can have.
    pub ranges: Lister<ServiceCIDR>,
    /// Tells of Services that cannot be worked on; `None` tells nobody.
    pub events: Option<EventRecorder>,
}

/// The running proxy: each family of addresses has units and a table of its own, which do not wait for the other's.
#[derive(Clone)]
pub struct Proxy {
    routers: Vec<UnitAddr<ServiceRouter>>,
}

impl Proxy {
    /// The path of the proxy's units.
    pub const PATH: &str = "proxy";
    const PATH_IPV6: &str = "proxy-ipv6";

    /// The path of the units of a family.
    pub fn path(family: Family) -> &'static str {
        match family {
            Family::V4 => Proxy::PATH,
            Family::V6 => Proxy::PATH_IPV6,
        }
    }

    /// Starts the proxy. It waits by itself for its caches.
    pub fn start(options: ProxyOptions, system: &System) -> Self {
        if options.localhost_node_ports
            && options.cluster_cidrs.iter().any(IpNetwork::is_ipv4)
            && let Err(error) = std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1")
        {
            tracing::warn!(%error, "node ports will not answer on loopback addresses");
        }
        if let Some(settings) = options.conntrack_settings {
            set_up_conntrack(&settings);
        }
        let routers = options.cluster_cidrs.iter().map(|range| {
            let (options, range) = (options.clone(), *range);
            let policy = Policy { mailbox: 4096, ..Policy::default() };
            system.spawn(Proxy::path(Family::of(range.ip())), policy, move |_| ServiceRouter::new(options.clone(), range))
        });
        Proxy { routers: routers.collect() }
    }

    /// Stops the units; the rules stay, so that services go on working.
    pub fn stop(&self, system: &System) {
        self.routers.iter().for_each(|router| system.stop(router.path()));
    }
}

/// Nodes in network namespaces cannot set the machine's limit: what cannot be set is told, and the proxy goes on.
fn set_up_conntrack(settings: &ConntrackSettings) {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let files = ConntrackFiles::default();
    files.load();
    for (setting, error) in files.apply(&settings.plan(cores)) {
        tracing::debug!(setting, %error, "connection tracking stays as it is");
    }
}

/// The zone of a node; empty where nobody has told it.
fn zone_of(node: &MetaProjection) -> &str {
    node.labels.get(ZONE).unwrap_or_default()
}

impl ProxyOptions {
    fn node_key(&self) -> ObjectKey {
        ObjectKey::cluster(self.node_name.as_str())
    }

    /// The zone of this node as its object tells it now; empty where there is no such object.
    fn zone(&self) -> String {
        self.nodes.stored(&self.node_key()).map(|node| zone_of(node.meta()).to_owned()).unwrap_or_default()
    }

    fn node_view(&self, cluster_range: IpNetwork) -> NodeView {
        let location = Location { node: self.node_name.clone(), zone: self.zone() };
        let family = Family::of(cluster_range.ip());
        let node_ip = self.node_ips.iter().copied().find(|ip| family.has(*ip));
        NodeView { location, node_ip, cluster_range, daemons: self.daemons.clone() }
    }
}
