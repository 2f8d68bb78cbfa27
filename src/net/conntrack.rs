//! Connection tracking: UDP flows that still go to endpoints which have left are forgotten, so that the next
//! datagram is translated anew. TCP needs nothing of the kind: its connections end by themselves.
//!
//! Whoever gets an address that somebody else had must not get his connections, of any protocol: they were allowed once, and are not judged again.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::{
    conntrack_entries::{self, Entry},
    iptables::Family,
    netns,
};

/// As IP numbers it.
const UDP: u8 = 17;

/// Flows to forget: those that came for `destination` and, when `endpoint` is given, were translated to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StaleFlows {
    pub destination: FlowDestination,
    /// With port 0 for all ports of the address. `None` forgets every flow to the destination: it just gained its first endpoint.
    pub endpoint: Option<SocketAddr>,
}

/// What a client aimed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FlowDestination {
    /// A cluster, external or load balancer address with a port.
    Address(IpAddr, u16),
    NodePort(Family, u16),
    /// An address with all ports.
    Host(IpAddr),
}

impl FlowDestination {
    fn family(self) -> Family {
        match self {
            FlowDestination::Address(ip, _) | FlowDestination::Host(ip) => Family::of(ip),
            FlowDestination::NodePort(family, _) => family,
        }
    }
}

/// Flows to forget, by what their clients aimed at.
struct Stale(HashMap<FlowDestination, Vec<Option<SocketAddr>>>);

impl Stale {
    fn of(flows: &[StaleFlows]) -> Self {
        let mut stale: HashMap<FlowDestination, Vec<Option<SocketAddr>>> = HashMap::new();
        for flow in flows {
            stale.entry(flow.destination).or_default().push(flow.endpoint);
        }
        Stale(stale)
    }

    fn families(&self) -> BTreeSet<Family> {
        self.0.keys().copied().map(FlowDestination::family).collect()
    }

    fn has(&self, entry: &Entry) -> bool {
        let to = entry.original.destination;
        let (ip, port) = (to.ip(), to.port());
        let aims = [FlowDestination::Address(ip, port), FlowDestination::NodePort(Family::of(ip), port), FlowDestination::Host(ip)];
        // Answers come from where it was translated to.
        let went = entry.reply.source;
        let is_to = |endpoint: &Option<SocketAddr>| {
            endpoint.is_none_or(|endpoint| went != to && went.ip() == endpoint.ip() && [0, went.port()].contains(&endpoint.port()))
        };
        entry.original.protocol == UDP && aims.iter().filter_map(|aim| self.0.get(aim)).flatten().any(is_to)
    }
}

/// Why connections could not be forgotten.
#[derive(Debug, thiserror::Error)]
#[error("connections could not be removed: {0}")]
pub struct ConntrackError(io::Error);

/// The connection table.
#[async_trait]
pub trait Conntrack: Send + Sync + 'static {
    /// Forgets flows; having none to forget is success.
    async fn forget(&self, flows: &[StaleFlows]) -> Result<(), ConntrackError>;

    /// Forgets every connection from or to these addresses, as it began or as it was translated; having none to forget is success.
    async fn forget_addresses(&self, addresses: &[IpAddr]) -> Result<(), ConntrackError>;
}

/// The kernel's table.
#[derive(Clone, Debug, Default)]
pub struct HostConntrack {
    namespace: Option<PathBuf>,
}

impl HostConntrack {
    pub fn new() -> Self {
        HostConntrack::default()
    }

    /// Works inside the network namespace at `path`.
    pub fn within(path: impl Into<PathBuf>) -> Self {
        HostConntrack { namespace: Some(path.into()) }
    }

    /// Removes entries on a thread that may block.
    async fn remove(&self, families: BTreeSet<Family>, unwanted: impl Fn(&Entry) -> bool + Send + 'static) -> Result<(), ConntrackError> {
        let namespace = self.namespace.clone();
        let remove = move || conntrack_entries::remove(families, unwanted);
        let task = tokio::task::spawn_blocking(move || match namespace {
            None => remove(),
            Some(path) => netns::run(&path, remove).and_then(|removed| removed),
        });
        let removed = task.await.map_err(io::Error::from).and_then(|removed| removed).map_err(ConntrackError)?;
        tracing::debug!(removed, "forgot connections");
        Ok(())
    }
}

#[async_trait]
impl Conntrack for HostConntrack {
    async fn forget(&self, flows: &[StaleFlows]) -> Result<(), ConntrackError> {
        let stale = Stale::of(flows);
        self.remove(stale.families(), move |entry| stale.has(entry)).await
    }

    async fn forget_addresses(&self, addresses: &[IpAddr]) -> Result<(), ConntrackError> {
        let addresses = addresses.to_vec();
        let families = addresses.iter().map(|ip| Family::of(*ip)).collect();
        self.remove(families, move |entry| entry.ends().iter().any(|ip| addresses.contains(ip))).await
    }
}

/// Remembers what it was asked to forget.
#[derive(Debug, Default)]
pub struct FakeConntrack {
    forgotten: Mutex<Vec<StaleFlows>>,
    addresses: Mutex<Vec<IpAddr>>,
}

impl FakeConntrack {
    pub fn forgotten(&self) -> Vec<StaleFlows> {
        self.forgotten.lock().clone()
    }

    pub fn forgotten_addresses(&self) -> Vec<IpAddr> {
        self.addresses.lock().clone()
    }
}

#[async_trait]
impl Conntrack for FakeConntrack {
    async fn forget(&self, flows: &[StaleFlows]) -> Result<(), ConntrackError> {
        self.forgotten.lock().extend_from_slice(flows);
        Ok(())
    }

    async fn forget_addresses(&self, addresses: &[IpAddr]) -> Result<(), ConntrackError> {
        self.addresses.lock().extend(addresses);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conntrack_entries::Tuple;

    fn end(text: &str) -> SocketAddr {
        text.parse().expect("an end")
    }

    /// A client of one address asked `to`, and was translated to `went`.
    fn entry(protocol: u8, to: &str, went: &str) -> Entry {
        let client = end(if end(to).is_ipv4() { "192.0.2.1:4000" } else { "[fd02::1]:4000" });
        let tuple = |source, destination| Tuple { protocol, source, destination };
        Entry { original: tuple(client, end(to)), reply: tuple(end(went), client) }
    }

    #[test]
    fn a_departed_endpoint_is_known_by_its_translation() {
        let stale = |destination, endpoint: Option<&str>| Stale::of(&[StaleFlows { destination, endpoint: endpoint.map(end) }]);
        let service = FlowDestination::Address(end("10.96.0.10:53").ip(), 53);
        let (there, elsewhere) = (entry(UDP, "10.96.0.10:53", "10.244.0.3:54"), entry(UDP, "10.96.0.10:53", "10.244.0.3:55"));
        let exact = stale(service, Some("10.244.0.3:54"));
        assert!(exact.has(&there) && !exact.has(&elsewhere) && !exact.has(&entry(UDP, "10.96.0.11:53", "10.244.0.3:54")));
        assert!(!exact.has(&entry(6, "10.96.0.10:53", "10.244.0.3:54")), "TCP ends by itself");
        let all_ports = stale(service, Some("10.244.0.3:0"));
        assert!(all_ports.has(&there) && all_ports.has(&elsewhere) && !all_ports.has(&entry(UDP, "10.96.0.10:53", "10.244.0.4:54")));
        let every = stale(service, None);
        assert!(every.has(&there) && every.has(&entry(UDP, "10.96.0.10:53", "10.96.0.10:53")), "also what nobody translated");
    }

    #[test]
    fn node_ports_and_whole_addresses_are_aimed_at_too() {
        let both = [
            StaleFlows { destination: FlowDestination::NodePort(Family::V6, 9), endpoint: Some(end("[fd01::3]:0")) },
            StaleFlows { destination: FlowDestination::Host(end("192.0.2.9:0").ip()), endpoint: None },
        ];
        let stale = Stale::of(&both);
        assert_eq!(stale.families(), BTreeSet::from([Family::V4, Family::V6]));
        assert!(stale.has(&entry(UDP, "[fd00::1]:9", "[fd01::3]:1234")) && !stale.has(&entry(UDP, "10.0.0.1:9", "10.244.0.3:1234")));
        assert!(!stale.has(&entry(UDP, "[fd01::3]:9", "[fd01::3]:9")), "the pod itself was asked, not the node");
        assert!(stale.has(&entry(UDP, "192.0.2.9:7", "10.244.0.3:7")));
    }
}
