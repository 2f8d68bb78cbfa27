//! The pod network between nodes: routes to other nodes' pods, through a VXLAN tunnel where a node is not on a shared link.
//! Every node with others takes what comes through the tunnel: two nodes need not see alike whether a router is between them.
//! Each family of addresses has its own routes between nodes' addresses of that family, and its own tunnel.
//!
//! In: this node, the other nodes, and what the kernel has. Out: steps on routes, the tunnel and its tables. Only routes of
//! our own protocol number and entries of our own tunnel are looked at; nothing else is touched. Nodes need not tell each
//! other anything but their address: the hardware address of a node's tunnel end follows from it ([`mac_of`]).

mod fake;
mod host;
mod plan;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use async_trait::async_trait;
use ipnetwork::IpNetwork;

pub use fake::FakeRouting;
pub use host::HostRouting;
pub use plan::plan;

use crate::{iptables::Family, netlink::NetlinkError};

/// The interfaces of the tunnels.
pub const TUNNELS: [&str; 2] = ["troupe-vxlan", "troupe-vxlan6"];
/// The tunnel's VXLAN network identifier.
pub const VNI: u32 = 61;
/// The tunnel's UDP port, Linux's traditional one.
pub const PORT: u16 = 8472;
/// What VXLAN adds to a packet, over IPv4 and over IPv6.
pub const OVERHEADS: [u32; 2] = [50, 70];
/// By this number our routes are told from others'.
pub const PROTOCOL: u8 = 161;

/// The tunnel's interface of a family.
pub fn tunnel_of(family: Family) -> &'static str {
    TUNNELS[usize::from(family == Family::V6)]
}

/// A hardware address.
pub type Mac = [u8; 6];

/// A node: where it is, and which addresses its pods have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub address: IpAddr,
    pub pods: IpNetwork,
}

/// How a packet gets to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Via {
    /// Over a shared link, to this address.
    Link(IpAddr),
    /// Through the tunnel, to this address within it.
    Tunnel(IpAddr),
}

/// This node's end of the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelEnd {
    /// The node's address, from which encapsulated packets are sent.
    pub local: IpAddr,
    pub mac: Mac,
    /// The address inside: the first of the node's pod range, which no pod has.
    pub inner: IpAddr,
}

/// What the kernel has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Networks on links of this machine, bridges of pods aside.
    pub on_link: Vec<IpNetwork>,
    /// Our routes, by destination.
    pub routes: BTreeMap<IpNetwork, Via>,
    pub tunnel: Option<TunnelEnd>,
    /// Whether the tunnel refuses packets whose answers leave by another link (`rp_filter` 1, RFC 3704's strict way).
    pub strict: bool,
    /// Inner addresses and the hardware addresses behind them.
    pub neighbours: BTreeMap<IpAddr, Mac>,
    /// Hardware addresses and the nodes behind them.
    pub forwarding: BTreeSet<(Mac, IpAddr)>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    MakeTunnel(TunnelEnd),
    /// Lets the tunnel take packets whose answers leave by another link (`rp_filter` 2).
    LoosenTunnel,
    RemoveTunnel,
    SetForwarding(Mac, IpAddr),
    RemoveForwarding(Mac, IpAddr),
    SetNeighbour(IpAddr, Mac),
    RemoveNeighbour(IpAddr),
    SetRoute(IpNetwork, Via),
    RemoveRoute(IpNetwork),
}

/// The kernel's side.
#[async_trait]
pub trait Routing: Send + Sync + 'static {
    async fn observe(&self) -> Result<Observed, NetlinkError>;

    /// Makes one change. Making it again changes nothing.
    async fn apply(&self, step: &Step) -> Result<(), NetlinkError>;
}

/// The hardware address of a node's end of the tunnel.
pub fn mac_of(address: IpAddr) -> Mac {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [0x0a, 0x58, a, b, c, d]
        }
        // FNV-1a over the address, as wide as there is room for.
        IpAddr::V6(address) => {
            let hash = address.octets().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
            let [a, b, c, d, e, ..] = hash.to_be_bytes();
            [0x0e, a, b, c, d, e]
        }
    }
}
