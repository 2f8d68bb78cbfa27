//! Links, addresses and routes that are made. What stands already is no failure.

use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsRawFd,
    path::Path,
};

use ipnetwork::{IpNetwork, Ipv4Network};
use netlink_packet_route::{address::AddressHeaderFlags, link::LinkMessage};
use rtnetlink::{LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::{Netlink, NetlinkError, request};

impl Netlink {
    /// The index of a link that must be there.
    pub async fn index(&self, name: &str) -> Result<u32, NetlinkError> {
        self.link(name).await?.map(|link| link.index).ok_or_else(|| NetlinkError::Gone(name.to_owned()))
    }

    /// A bridge of this name.
    pub async fn ensure_bridge(&self, name: &str) -> Result<u32, NetlinkError> {
        self.bridge(name, LinkBridge::new(name).build()).await
    }

    /// The same, made with a hardware address that stays whatever its ports are. One that is there keeps its own.
    pub async fn ensure_bridge_at(&self, name: &str, mac: [u8; 6]) -> Result<u32, NetlinkError> {
        self.bridge(name, LinkBridge::new(name).address(mac.to_vec()).build()).await
    }

    async fn bridge(&self, name: &str, wanted: LinkMessage) -> Result<u32, NetlinkError> {
        if let Some(link) = self.link(name).await? {
            return Ok(link.index);
        }
        self.handle().link().add(wanted).execute().await.map_err(request("making a bridge"))?;
        self.index(name).await
    }

    /// A pair of links that are one wire: `name` here, `peer` in the namespace at `path`, where `there` talks to.
    pub async fn ensure_pair(&self, name: &str, there: &Netlink, path: &Path, peer: &str) -> Result<(), NetlinkError> {
        let whole = there.link(peer).await?.is_some();
        match self.link(name).await? {
            Some(_) if whole => return Ok(()),
            // Whoever made it was killed before the other end was where it belongs.
            Some(half) => self.remove_link(half.index).await?,
            None if whole => there.remove_link(there.index(peer).await?).await?,
            None => {}
        }
        let passing = format!("{name}p");
        self.handle().link().add(LinkVeth::new(name, &passing).build()).execute().await.map_err(request("making a pair of links"))?;
        let namespace = File::open(path).map_err(|source| NetlinkError::Namespace(path.display().to_string(), source))?;
        let moved = LinkUnspec::new_with_index(self.index(&passing).await?).setns_by_fd(namespace.as_raw_fd()).build();
        self.handle().link().change(moved).execute().await.map_err(request("moving a link"))?;
        let named = LinkUnspec::new_with_index(there.index(&passing).await?).name(peer).build();
        there.handle().link().change(named).execute().await.map_err(request("naming a link"))
    }

    /// Makes a link a port of a bridge.
    pub async fn join_bridge(&self, name: &str, bridge: u32) -> Result<(), NetlinkError> {
        let joined = LinkUnspec::new_with_index(self.index(name).await?).controller(bridge).build();
        self.handle().link().change(joined).execute().await.map_err(request("joining a bridge"))
    }

    /// Sets a link up or down.
    pub async fn set_link(&self, name: &str, up: bool) -> Result<(), NetlinkError> {
        let link = LinkUnspec::new_with_index(self.index(name).await?);
        let link = if up { link.up() } else { link.down() };
        self.handle().link().change(link.build()).execute().await.map_err(request("setting a link up or down"))
    }

    /// Gives a link an address.
    pub async fn ensure_address(&self, name: &str, address: impl Into<IpNetwork>) -> Result<(), NetlinkError> {
        let (index, address) = (self.index(name).await?, address.into());
        let mut add = self.handle().address().add(index, address.ip(), address.prefix()).replace();
        if address.is_ipv6() {
            // Who gives it out knows that nobody else has it: it is to be used at once.
            add.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        add.execute().await.map_err(request("giving a link its address"))
    }

    /// Takes an address from a link; one that it has not is no failure.
    pub async fn remove_address(&self, name: &str, address: Ipv4Network) -> Result<(), NetlinkError> {
        let Some(link) = self.link(name).await? else { return Ok(()) };
        if !self.addresses(link.index).await?.contains(&address) {
            return Ok(());
        }
        let mut add = self.handle().address().add(link.index, address.ip().into(), address.prefix());
        let message = add.message_mut().clone();
        self.handle().address().del(message).execute().await.map_err(request("taking a link its address"))
    }

    /// A route through a gateway that is on a link.
    pub async fn ensure_route(&self, destination: impl Into<IpNetwork>, gateway: IpAddr) -> Result<(), NetlinkError> {
        let route = match (destination.into(), gateway) {
            (IpNetwork::V4(to), IpAddr::V4(gateway)) => {
                RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(to.network(), to.prefix()).gateway(gateway).build()
            }
            (IpNetwork::V6(to), IpAddr::V6(gateway)) => {
                RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(to.network(), to.prefix()).gateway(gateway).build()
            }
            (to, _) => return Err(NetlinkError::Families { gateway, to }),
        };
        self.handle().route().add(route).replace().execute().await.map_err(request("adding a route"))
    }
}
