//! Connection tracking: UDP flows that still go to endpoints which have left are forgotten, so that the next
//! datagram is translated anew. TCP needs nothing of the kind: its connections end by themselves.
//!
//! Whoever gets an address that somebody else had must not get his connections, of any protocol: they were allowed once, and are not judged again.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::Stdio,
};

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::{conntrack_entries, iptables::Family, netns};

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

impl StaleFlows {
    /// The arguments of the `conntrack` tool.
    fn arguments(&self) -> Vec<String> {
        let family = self.destination.family().name().to_lowercase();
        let mut arguments = vec!["-D".to_owned(), "-f".into(), family, "-p".into(), "udp".into()];
        match self.destination {
            FlowDestination::Address(address, port) => {
                arguments.extend(["--orig-dst".into(), address.to_string(), "--orig-port-dst".into(), port.to_string()]);
            }
            FlowDestination::Host(address) => arguments.extend(["--orig-dst".into(), address.to_string()]),
            FlowDestination::NodePort(_, port) => arguments.extend(["--orig-port-dst".into(), port.to_string()]),
        }
        if let Some(endpoint) = self.endpoint {
            arguments.extend(["--dst-nat".into(), endpoint.ip().to_string()]);
            if endpoint.port() != 0 {
                arguments.extend(["--reply-port-src".into(), endpoint.port().to_string()]);
            }
        }
        arguments
    }
}

/// Why flows could not be forgotten.
#[derive(Debug, thiserror::Error)]
pub enum ConntrackError {
    #[error("conntrack could not be started")]
    Start(#[source] std::io::Error),
    #[error("conntrack failed: {0}")]
    Failed(String),
    #[error("the connections of an address could not be removed: {0}")]
    Remove(std::io::Error),
}

/// The connection table.
#[async_trait]
pub trait Conntrack: Send + Sync + 'static {
    /// Forgets flows; having none to forget is success.
    async fn forget(&self, flows: &StaleFlows) -> Result<(), ConntrackError>;

    /// Forgets every connection from or to these addresses, as it began or as it was translated; having none to forget is success.
    async fn forget_addresses(&self, addresses: &[IpAddr]) -> Result<(), ConntrackError>;
}

/// The kernel's table, through the `conntrack` tool.
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
}

#[async_trait]
impl Conntrack for HostConntrack {
    async fn forget(&self, flows: &StaleFlows) -> Result<(), ConntrackError> {
        let arguments = flows.arguments();
        let namespace = self.namespace.clone();
        let run = move || std::process::Command::new("conntrack").args(arguments).stdin(Stdio::null()).output();
        let task = tokio::task::spawn_blocking(move || match namespace {
            None => run(),
            Some(path) => netns::run(&path, run).and_then(|output| output),
        });
        let output = task.await.map_err(|error| ConntrackError::Start(error.into()))?.map_err(ConntrackError::Start)?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        // The tool exits 1 when nothing matched, and says so.
        if output.status.success() || stderr.contains("0 flow entries") {
            return Ok(());
        }
        Err(ConntrackError::Failed(stderr.trim().to_owned()))
    }

    async fn forget_addresses(&self, addresses: &[IpAddr]) -> Result<(), ConntrackError> {
        let (addresses, namespace) = (addresses.to_vec(), self.namespace.clone());
        let remove = move || conntrack_entries::remove(&addresses);
        let task = tokio::task::spawn_blocking(move || match namespace {
            None => remove(),
            Some(path) => netns::run(&path, remove).and_then(|removed| removed),
        });
        let removed = task.await.map_err(|error| ConntrackError::Remove(error.into()))?.map_err(ConntrackError::Remove)?;
        tracing::debug!(removed, "forgot the connections of addresses");
        Ok(())
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
    async fn forget(&self, flows: &StaleFlows) -> Result<(), ConntrackError> {
        self.forgotten.lock().push(flows.clone());
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

    #[test]
    fn a_departed_endpoint_is_named_by_its_translation() {
        let told =
            |destination, endpoint: &str| StaleFlows { destination, endpoint: Some(endpoint.parse().expect("an address")) }.arguments().join(" ");
        let address = |text: &str| FlowDestination::Address(text.parse().expect("an address"), 53);
        assert_eq!(
            told(address("10.96.0.10"), "10.244.0.3:54"),
            "-D -f ipv4 -p udp --orig-dst 10.96.0.10 --orig-port-dst 53 --dst-nat 10.244.0.3 --reply-port-src 54"
        );
        assert_eq!(told(address("fd00::a"), "[fd01::3]:0"), "-D -f ipv6 -p udp --orig-dst fd00::a --orig-port-dst 53 --dst-nat fd01::3");
        assert_eq!(told(FlowDestination::NodePort(Family::V6, 9), "[fd01::3]:0"), "-D -f ipv6 -p udp --orig-port-dst 9 --dst-nat fd01::3");
    }
}
