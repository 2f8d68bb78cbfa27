//! The kernel's routes, tunnel and neighbour tables, over netlink.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use async_trait::async_trait;
use futures::TryStreamExt;
use ipnetwork::Ipv4Network;
use netlink_packet_route::{
    AddressFamily,
    link::{InfoData, InfoVxlan, LinkAttribute, LinkInfo, LinkMessage},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope},
};
use rtnetlink::{Handle, LinkUnspec, LinkVxlan, RouteMessageBuilder};

use super::{Mac, OVERHEAD, Observed, PORT, PROTOCOL, Routing, Step, TUNNEL, TunnelEnd, VNI, Via};
use crate::netlink::{Netlink, NetlinkError, request};

/// RT_TABLE_MAIN.
const MAIN_TABLE: u8 = 254;

/// This network namespace.
pub struct HostRouting {
    netlink: Netlink,
    /// The pods' bridge, whose network is no link to other nodes.
    bridge: String,
}

impl HostRouting {
    /// Must be opened within a tokio runtime.
    pub fn open(bridge: impl Into<String>) -> Result<Self, NetlinkError> {
        Ok(HostRouting { netlink: Netlink::open()?, bridge: bridge.into() })
    }

    fn handle(&self) -> &Handle {
        self.netlink.handle()
    }

    async fn tunnel_link(&self) -> Result<Option<LinkMessage>, NetlinkError> {
        let links: Vec<LinkMessage> = self.handle().link().get().execute().try_collect().await.map_err(request("listing links"))?;
        let ours = |link: &LinkMessage| link.attributes.iter().any(|attribute| matches!(attribute, LinkAttribute::IfName(name) if name == TUNNEL));
        Ok(links.into_iter().find(ours))
    }

    async fn tunnel_index(&self) -> Result<u32, NetlinkError> {
        let link = self.tunnel_link().await?;
        link.map(|link| link.header.index).ok_or(NetlinkError::Missing(TUNNEL))
    }

    async fn on_link(&self) -> Result<Vec<Ipv4Network>, NetlinkError> {
        let mut networks = Vec::new();
        for link in self.netlink.links().await? {
            // Also of a link that is down: a neighbour does not move behind a router then. Ports of bridges have no addresses.
            if link.controller.is_none() && link.name != self.bridge && link.name != TUNNEL && link.name != "lo" {
                networks.extend(self.netlink.addresses(link.index).await?);
            }
        }
        Ok(networks)
    }

    async fn routes(&self, tunnel: Option<u32>) -> Result<BTreeMap<Ipv4Network, Via>, NetlinkError> {
        let all = self.handle().route().get(RouteMessageBuilder::<Ipv4Addr>::new().build()).execute();
        let all: Vec<RouteMessage> = all.try_collect().await.map_err(request("listing routes"))?;
        let ours = |route: &&RouteMessage| route.header.table == MAIN_TABLE && route.header.protocol == RouteProtocol::from(PROTOCOL);
        Ok(all.iter().filter(ours).filter_map(|route| via(route, tunnel)).collect())
    }

    async fn neighbours(&self, family: AddressFamily, tunnel: u32) -> Result<Vec<(Ipv4Addr, Mac)>, NetlinkError> {
        let all = self.handle().neighbours().get().set_address_family(family).execute();
        let all: Vec<NeighbourMessage> = all.try_collect().await.map_err(request("listing neighbours"))?;
        let ours = |entry: &&NeighbourMessage| entry.header.ifindex == tunnel && entry.header.state == NeighbourState::Permanent;
        Ok(all.iter().filter(ours).filter_map(entry).collect())
    }

    async fn make_tunnel(&self, end: &TunnelEnd) -> Result<(), NetlinkError> {
        let mut parent = None;
        for link in self.netlink.links().await? {
            if self.netlink.addresses(link.index).await?.iter().any(|network| network.ip() == end.local) {
                parent = Some(link);
            }
        }
        let mut message = LinkVxlan::new(TUNNEL, VNI).local(end.local).port(PORT).learning(false).address(end.mac.to_vec()).up();
        if let Some(parent) = &parent {
            message = message.dev(parent.index).mtu(parent.mtu.saturating_sub(OVERHEAD));
        }
        self.handle().link().add(message.build()).execute().await.map_err(request("making the tunnel"))?;
        let index = self.tunnel_index().await?;
        self.handle().address().add(index, end.inner.into(), 32).replace().execute().await.map_err(request("giving the tunnel its address"))?;
        self.handle().link().change(LinkUnspec::new_with_index(index).up().build()).execute().await.map_err(request("setting the tunnel up"))
    }

    async fn set_route(&self, destination: Ipv4Network, via: Via) -> Result<(), NetlinkError> {
        let route = route_to(destination);
        let route = match via {
            Via::Link(gateway) => route.gateway(gateway),
            Via::Tunnel(inner) => route.gateway(inner).output_interface(self.tunnel_index().await?).onlink(),
        };
        self.handle().route().add(route.build()).replace().execute().await.map_err(request("adding a route"))
    }

    fn forwarding_entry(index: u32, mac: Mac, node: Ipv4Addr) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = index;
        message.header.state = NeighbourState::Permanent;
        message.header.flags = NeighbourFlags::Own;
        message.attributes = vec![NeighbourAttribute::LinkLayerAddress(mac.to_vec()), NeighbourAttribute::Destination(NeighbourAddress::Inet(node))];
        message
    }
}

#[async_trait]
impl Routing for HostRouting {
    async fn observe(&self) -> Result<Observed, NetlinkError> {
        let link = self.tunnel_link().await?;
        let index = link.as_ref().map(|link| link.header.index);
        let mut observed = Observed { on_link: self.on_link().await?, routes: self.routes(index).await?, ..Observed::default() };
        if let (Some(link), Some(index)) = (link, index) {
            let inner = self.netlink.addresses(index).await?.first().map(|network| network.ip());
            observed.tunnel = Some(tunnel_end(&link, inner.unwrap_or(Ipv4Addr::UNSPECIFIED)));
            observed.neighbours = self.neighbours(AddressFamily::Inet, index).await?.into_iter().collect();
            let forwarding = self.neighbours(AddressFamily::Bridge, index).await?;
            observed.forwarding = forwarding.into_iter().map(|(node, mac)| (mac, node)).collect::<BTreeSet<_>>();
        }
        Ok(observed)
    }

    async fn apply(&self, step: &Step) -> Result<(), NetlinkError> {
        match step {
            Step::MakeTunnel(end) => self.make_tunnel(end).await,
            Step::RemoveTunnel => self.netlink.remove_link(self.tunnel_index().await?).await,
            Step::SetForwarding(mac, node) => {
                let index = self.tunnel_index().await?;
                let mut add = self.handle().neighbours().add_bridge(index, mac).replace();
                *add.message_mut() = HostRouting::forwarding_entry(index, *mac, *node);
                add.execute().await.map_err(request("adding to the tunnel's forwarding table"))
            }
            Step::RemoveForwarding(mac, node) => {
                let entry = HostRouting::forwarding_entry(self.tunnel_index().await?, *mac, *node);
                self.handle().neighbours().del(entry).execute().await.map_err(request("removing from the tunnel's forwarding table"))
            }
            Step::SetNeighbour(inner, mac) => {
                let add = self.handle().neighbours().add(self.tunnel_index().await?, IpAddr::V4(*inner)).link_layer_address(mac).replace();
                add.execute().await.map_err(request("adding a neighbour of the tunnel"))
            }
            Step::RemoveNeighbour(inner) => {
                let mut add = self.handle().neighbours().add(self.tunnel_index().await?, IpAddr::V4(*inner));
                let entry = add.message_mut().clone();
                self.handle().neighbours().del(entry).execute().await.map_err(request("removing a neighbour of the tunnel"))
            }
            Step::SetRoute(destination, via) => self.set_route(*destination, *via).await,
            Step::RemoveRoute(destination) => {
                self.handle().route().del(route_to(*destination).build()).execute().await.map_err(request("removing a route"))
            }
        }
    }
}

/// A route of ours: the kernel removes one only by its own protocol number.
fn route_to(destination: Ipv4Network) -> RouteMessageBuilder<Ipv4Addr> {
    let route = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(destination.network(), destination.prefix());
    route.protocol(RouteProtocol::from(PROTOCOL)).scope(RouteScope::Universe)
}

/// The end of a tunnel as its interface shows it; of what is no VXLAN end, as far as it can be told.
fn tunnel_end(link: &LinkMessage, inner: Ipv4Addr) -> TunnelEnd {
    let (mut mac, mut local) = ([0; 6], Ipv4Addr::UNSPECIFIED);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::Address(bytes) => mac = Mac::try_from(bytes.as_slice()).unwrap_or_default(),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::Data(InfoData::Vxlan(parts)) = info {
                        local =
                            parts.iter().find_map(|part| if let InfoVxlan::Local(address) = part { Some(*address) } else { None }).unwrap_or(local);
                    }
                }
            }
            _ => {}
        }
    }
    TunnelEnd { local, mac, inner }
}

fn via(route: &RouteMessage, tunnel: Option<u32>) -> Option<(Ipv4Network, Via)> {
    let (mut destination, mut gateway, mut link) = (None, None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => destination = Some(*address),
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => gateway = Some(*address),
            RouteAttribute::Oif(index) => link = Some(*index),
            _ => {}
        }
    }
    let network = Ipv4Network::new(destination?, route.header.destination_prefix_length).ok()?;
    let gateway = gateway.unwrap_or(Ipv4Addr::UNSPECIFIED);
    Some((network, if link.is_some() && link == tunnel { Via::Tunnel(gateway) } else { Via::Link(gateway) }))
}

fn entry(message: &NeighbourMessage) -> Option<(Ipv4Addr, Mac)> {
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(found)) => address = Some(*found),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = Mac::try_from(bytes.as_slice()).ok(),
            // Bridge entries come with the address as bytes only.
            NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => {
                address = <[u8; 4]>::try_from(bytes.as_slice()).ok().map(Ipv4Addr::from);
            }
            _ => {}
        }
    }
    Some((address?, mac?))
}
