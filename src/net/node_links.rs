//! Network namespaces that stand for machines, and the links between them and this one.
//!
//! In between is one more namespace, so that no packet filter rule of a machine meets what passes between others. *Shared*: it has a
//! bridge that all are on. *Routed*: each is on a link of its own to it, and it routes. All names have a mark, so that several
//! groups do not touch each other.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use ipnetwork::{Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};

use crate::{
    netlink::{Netlink, NetlinkError},
    netns,
};

/// What a machine's link is called inside.
pub const UPLINK: &str = "eth0";
/// What a bridge is called in the namespace in between.
const BRIDGE: &str = "nodes";
/// Each link of a routed topology has so many addresses: a prefix of 29.
const LINK_SIZE: u32 = 8;
const LINK_PREFIX: u8 = 29;
/// The machine here is the first.
pub const FIRST: u8 = 1;

/// How machines are joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Topology {
    #[default]
    Shared,
    Routed,
}

/// Why a namespace or a link could not be made.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("the network namespace {name} cannot be {step}")]
    Namespace { name: String, step: &'static str, source: io::Error },
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// The links of one group of machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLinks {
    /// At most eight letters and digits.
    pub mark: String,
    pub topology: Topology,
    /// A range of 24 bits or wider.
    pub range: Ipv4Network,
    /// Machines have IPv6 addresses as well, which follow from the others.
    pub ipv6: bool,
}

/// What an IPv6 address of a machine begins with; it ends with the IPv4 address.
const IPV6: Ipv6Addr = Ipv6Addr::new(0xfd54, 0x726f, 0x7570, 0, 0, 0, 0, 0);

impl NodeLinks {
    /// How many machines there is room for.
    pub fn room(topology: Topology) -> u8 {
        match topology {
            Topology::Shared => 250,
            Topology::Routed => 31,
        }
    }

    /// A machine's address, with the prefix of its link.
    pub fn address(&self, number: u8) -> Ipv4Network {
        let (offset, prefix) = match self.topology {
            Topology::Shared => (u32::from(number), self.range.prefix()),
            Topology::Routed => (u32::from(number - FIRST) * LINK_SIZE + 2, LINK_PREFIX),
        };
        at(self.range, offset, prefix)
    }

    /// The range of machines' IPv6 addresses.
    pub fn ipv6_range(&self) -> Ipv6Network {
        ipv6_of(self.range)
    }

    /// A machine's IPv6 address, with the prefix of its link.
    pub fn ipv6_address(&self, number: u8) -> Ipv6Network {
        ipv6_of(self.address(number))
    }

    /// Where a machine sends what is not for its link.
    pub fn gateway(&self, number: u8) -> Ipv4Addr {
        match self.topology {
            Topology::Shared => self.address(FIRST).ip(),
            Topology::Routed => self.router_address(number).ip(),
        }
    }

    fn router_address(&self, number: u8) -> Ipv4Network {
        at(self.range, u32::from(number - FIRST) * LINK_SIZE + 1, LINK_PREFIX)
    }

    /// A machine's namespace.
    pub fn namespace(&self, number: u8) -> String {
        format!("troupe-{}-{number}", self.mark)
    }

    /// The namespace in between.
    pub fn between(&self) -> String {
        format!("troupe-{}-links", self.mark)
    }

    /// The link of the machine here.
    fn link(&self) -> String {
        format!("tl-{}", self.mark)
    }

    /// The end of a machine's link that is not in it.
    fn port(&self, number: u8) -> String {
        format!("tn{number}-{}", self.mark)
    }

    /// Who has the ports.
    fn switch(&self) -> Result<Netlink, NetlinkError> {
        Netlink::within(&netns::path(&self.between()))
    }

    /// What all machines are joined by, with the address of the one here.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn ensure_base(&self) -> Result<(), LinkError> {
        let here = Netlink::open()?;
        let (link, port) = (self.link(), self.port(FIRST));
        let path = make(&self.between())?;
        let switch = Netlink::within(&path)?;
        switch.set_link("lo", true).await?;
        here.ensure_pair(&link, &switch, &path, &port).await?;
        self.plug(&switch, FIRST).await?;
        self.give_address(&here, &link, self.address(FIRST)).await?;
        here.set_link(&link, true).await?;
        if self.topology == Topology::Routed {
            self.make_router(&path).map_err(|source| LinkError::Namespace { name: self.between(), step: "made a router", source })?;
            let (router, own) = (self.router_address(FIRST), self.address(FIRST));
            here.ensure_route(self.range, router.ip().into()).await?;
            switch.ensure_route(everywhere(), own.ip().into()).await?;
            if self.ipv6 {
                here.ensure_route(ipv6_of(self.range), ipv6_of(router).ip().into()).await?;
                switch.ensure_route(everywhere_ipv6(), ipv6_of(own).ip().into()).await?;
            }
        }
        Ok(())
    }

    fn make_router(&self, path: &std::path::Path) -> io::Result<()> {
        let ipv6 = self.ipv6;
        netns::run(path, move || {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
            if ipv6 { std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1") } else { Ok(()) }
        })
        .and_then(|written| written)
    }

    async fn give_address(&self, place: &Netlink, link: &str, address: Ipv4Network) -> Result<(), NetlinkError> {
        place.ensure_address(link, address).await?;
        if self.ipv6 { place.ensure_address(link, ipv6_of(address)).await } else { Ok(()) }
    }

    /// Puts a new port where it belongs.
    async fn plug(&self, switch: &Netlink, number: u8) -> Result<(), NetlinkError> {
        let port = self.port(number);
        match self.topology {
            Topology::Shared => {
                let bridge = switch.ensure_bridge(BRIDGE).await?;
                switch.set_link(BRIDGE, true).await?;
                switch.join_bridge(&port, bridge).await?;
            }
            Topology::Routed => self.give_address(switch, &port, self.router_address(number)).await?,
        }
        switch.set_link(&port, true).await
    }

    /// A machine's namespace with its link. One that is cut off stays so.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn ensure(&self, number: u8) -> Result<(), LinkError> {
        let path = make(&self.namespace(number))?;
        let (switch, machine) = (self.switch()?, Netlink::within(&path)?);
        machine.set_link("lo", true).await?;
        let port = self.port(number);
        if switch.link(&port).await?.is_none() || machine.link(UPLINK).await?.is_none() {
            switch.ensure_pair(&port, &machine, &path, UPLINK).await?;
            self.plug(&switch, number).await?;
        }
        self.give_address(&machine, UPLINK, self.address(number)).await?;
        machine.set_link(UPLINK, true).await?;
        let gateway = Ipv4Network::from(self.gateway(number));
        machine.ensure_route(everywhere(), gateway.ip().into()).await?;
        if self.ipv6 {
            machine.ensure_route(everywhere_ipv6(), ipv6_of(gateway).ip().into()).await?;
        }
        Ok(())
    }

    /// Cuts a machine off, as a pulled cable does, or joins it again. It keeps its addresses and routes.
    ///
    /// # Errors
    /// When there is no such machine.
    pub async fn connect(&self, number: u8, connected: bool) -> Result<(), LinkError> {
        Ok(self.switch()?.set_link(&self.port(number), connected).await?)
    }

    /// Removes a machine's link and namespace.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn remove(&self, number: u8) -> Result<(), LinkError> {
        // Without its switch it has no link any more.
        if let Ok(switch) = self.switch()
            && let Some(port) = switch.link(&self.port(number)).await?
        {
            switch.remove_link(port.index).await?;
        }
        unmake(&self.namespace(number))
    }

    /// Removes what joined the machines.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn remove_base(&self) -> Result<(), LinkError> {
        let here = Netlink::open()?;
        if let Some(link) = here.link(&self.link()).await? {
            here.remove_link(link.index).await?;
        }
        unmake(&self.between())
    }
}

/// The first range of 24 bits in `within` that overlaps none of those in use.
pub fn free_range(within: Ipv4Network, used: &[Ipv4Network]) -> Option<Ipv4Network> {
    let count = 1_u32 << 24_u8.saturating_sub(within.prefix());
    // What everything matches is no use of it.
    let used: Vec<&Ipv4Network> = used.iter().filter(|range| range.prefix() > 0).collect();
    (0..count).map(|number| at(within, number * 256, 24)).find(|range| !used.iter().any(|used| used.overlaps(*range)))
}

fn at(range: Ipv4Network, offset: u32, prefix: u8) -> Ipv4Network {
    Ipv4Network::new(Ipv4Addr::from(u32::from(range.network()) + offset), prefix).expect("a prefix of at most 32")
}

/// The IPv6 network that stands beside an IPv4 one.
fn ipv6_of(network: Ipv4Network) -> Ipv6Network {
    let address = Ipv6Addr::from(u128::from(IPV6) | u128::from(u32::from(network.ip())));
    Ipv6Network::new(address, 96 + network.prefix()).expect("a prefix of at most 128")
}

fn everywhere_ipv6() -> Ipv6Network {
    Ipv6Network::new(Ipv6Addr::UNSPECIFIED, 0).expect("a prefix of 0")
}

fn everywhere() -> Ipv4Network {
    Ipv4Network::new(Ipv4Addr::UNSPECIFIED, 0).expect("a prefix of 0")
}

fn make(name: &str) -> Result<PathBuf, LinkError> {
    netns::create(name).map_err(|source| LinkError::Namespace { name: name.to_owned(), step: "made", source })?;
    Ok(netns::path(name))
}

fn unmake(name: &str) -> Result<(), LinkError> {
    netns::delete(name).map_err(|source| LinkError::Namespace { name: name.to_owned(), step: "removed", source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(topology: Topology) -> NodeLinks {
        NodeLinks { mark: "01234567".into(), topology, range: "172.30.4.0/24".parse().expect("a range"), ipv6: true }
    }

    #[test]
    fn on_a_shared_link_all_have_one_network_and_the_first_is_the_gateway() {
        let links = links(Topology::Shared);
        assert_eq!(links.address(1).to_string(), "172.30.4.1/24");
        assert_eq!((links.address(3).to_string(), links.gateway(3)), ("172.30.4.3/24".into(), Ipv4Addr::new(172, 30, 4, 1)));
        assert!(links.address(NodeLinks::room(Topology::Shared)).ip() < links.range.broadcast());
    }

    #[test]
    fn with_a_router_no_two_are_on_one_link() {
        let links = links(Topology::Routed);
        let addresses: Vec<Ipv4Network> = (1..=NodeLinks::room(Topology::Routed)).map(|number| links.address(number)).collect();
        for (at, address) in addresses.iter().enumerate() {
            assert!(address.contains(links.gateway(u8::try_from(at + 1).expect("small"))) && links.range.contains(address.ip()));
            assert!(addresses.iter().enumerate().all(|(other, range)| other == at || !range.overlaps(*address)));
        }
    }

    #[test]
    fn names_of_interfaces_are_short_enough() {
        let links = links(Topology::Shared);
        // A letter is added while a link is on its way.
        assert!(links.port(250).len() < 15 && links.link().len() <= 15, "{}", links.port(250));
    }

    #[test]
    fn a_range_is_chosen_that_nobody_has() {
        let range = |text: &str| text.parse::<Ipv4Network>().expect("a range");
        let used = [range("0.0.0.0/0"), range("172.30.0.0/24"), range("172.30.1.128/25")];
        assert_eq!(free_range(range("172.30.0.0/16"), &used), Some(range("172.30.2.0/24")));
        assert_eq!(free_range(range("172.30.0.0/16"), &[range("172.16.0.0/12")]), None);
    }
}
