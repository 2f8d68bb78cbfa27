//! The pod network between nodes: routes to other nodes' pods, through a VXLAN tunnel where a node is not on a shared link.
//!
//! In: this node, the other nodes, and what the kernel has. Out: steps on routes, the tunnel and its tables. Only routes of
//! our own protocol number and entries of our own tunnel are looked at; nothing else is touched. Nodes need not tell each
//! other anything but their address: the hardware address of a node's tunnel end follows from it ([`mac_of`]).

mod fake;
mod host;
mod plan;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use async_trait::async_trait;
use ipnetwork::Ipv4Network;

pub use fake::FakeRouting;
pub use host::HostRouting;
pub use plan::plan;

use crate::netlink::NetlinkError;

/// The tunnel's interface.
pub const TUNNEL: &str = "troupe-vxlan";
/// The tunnel's VXLAN network identifier.
pub const VNI: u32 = 61;
/// The tunnel's UDP port, Linux's traditional one.
pub const PORT: u16 = 8472;
/// What VXLAN adds to a packet.
pub const OVERHEAD: u32 = 50;
/// By this number our routes are told from others'.
pub const PROTOCOL: u8 = 161;

/// A hardware address.
pub type Mac = [u8; 6];

/// A node: where it is, and which addresses its pods have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub address: Ipv4Addr,
    pub pods: Ipv4Network,
}

/// How a packet gets to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Via {
    /// Over a shared link, to this address.
    Link(Ipv4Addr),
    /// Through the tunnel, to this address within it.
    Tunnel(Ipv4Addr),
}

/// This node's end of the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelEnd {
    /// The node's address, from which encapsulated packets are sent.
    pub local: Ipv4Addr,
    pub mac: Mac,
    /// The address inside: the first of the node's pod range, which no pod has.
    pub inner: Ipv4Addr,
}

/// What the kernel has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Networks on links of this machine, bridges of pods aside.
    pub on_link: Vec<Ipv4Network>,
    /// Our routes, by destination.
    pub routes: BTreeMap<Ipv4Network, Via>,
    pub tunnel: Option<TunnelEnd>,
    /// Inner addresses and the hardware addresses behind them.
    pub neighbours: BTreeMap<Ipv4Addr, Mac>,
    /// Hardware addresses and the nodes behind them.
    pub forwarding: BTreeSet<(Mac, Ipv4Addr)>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    MakeTunnel(TunnelEnd),
    RemoveTunnel,
    SetForwarding(Mac, Ipv4Addr),
    RemoveForwarding(Mac, Ipv4Addr),
    SetNeighbour(Ipv4Addr, Mac),
    RemoveNeighbour(Ipv4Addr),
    SetRoute(Ipv4Network, Via),
    RemoveRoute(Ipv4Network),
}

/// The kernel's side.
#[async_trait]
pub trait Routing: Send + Sync + 'static {
    async fn observe(&self) -> Result<Observed, NetlinkError>;

    /// Makes one change. Making it again changes nothing.
    async fn apply(&self, step: &Step) -> Result<(), NetlinkError>;
}

/// The hardware address of a node's end of the tunnel.
pub fn mac_of(address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = address.octets();
    [0x0a, 0x58, a, b, c, d]
}
