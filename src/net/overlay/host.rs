//! The kernel's routes, tunnel and neighbour tables, over netlink.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use async_trait::async_trait;
use futures::TryStreamExt;
use ipnetwork::IpNetwork;
use netlink_packet_route::{
    AddressFamily,
    address::AddressHeaderFlags,
    link::{InfoData, InfoVxlan, LinkAttribute, LinkInfo, LinkMessage},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope},
};
use rtnetlink::{Handle, LinkUnspec, LinkVxlan, RouteMessageBuilder};

use super::{Mac, OVERHEADS, Observed, PORT, PROTOCOL, Routing, Step, TUNNELS, TunnelEnd, VNI, Via, tunnel_of};
use crate::{
    iptables::Family,
    netlink::{Netlink, NetlinkError, request},
};

/// RT_TABLE_MAIN.
const MAIN_TABLE: u8 = 254;

/// This network namespace.
pub struct HostRouting {
    netlink: Netlink,
    /// The pods' bridge, whose network is no link to other nodes.
    bridge: String,
    family: Family,
}

impl HostRouting {
    /// Must be opened within a tokio runtime.
    pub fn open(bridge: impl Into<String>, family: Family) -> Result<Self, NetlinkError> {
        Ok(HostRouting { netlink: Netlink::open()?, bridge: bridge.into(), family })
    }

    fn tunnel(&self) -> &'static str {
        tunnel_of(self.family)
    }

    fn handle(&self) -> &Handle {
        self.netlink.handle()
    }

    async fn tunnel_link(&self) -> Result<Option<LinkMessage>, NetlinkError> {
        let links: Vec<LinkMessage> = self.handle().link().get().execute().try_collect().await.map_err(request("listing links"))?;
        let tunnel = self.tunnel();
        let ours = |link: &LinkMessage| link.attributes.iter().any(|attribute| matches!(attribute, LinkAttribute::IfName(name) if name == tunnel));
        Ok(links.into_iter().find(ours))
    }

    async fn tunnel_index(&self) -> Result<u32, NetlinkError> {
        let link = self.tunnel_link().await?;
        link.map(|link| link.header.index).ok_or(NetlinkError::Missing(self.tunnel()))
    }

    async fn on_link(&self) -> Result<Vec<IpNetwork>, NetlinkError> {
        let mut networks = Vec::new();
        for link in self.netlink.links().await? {
            // Also of a link that is down: a neighbour does not move behind a router then. Ports of bridges have no addresses.
            let is_ours = link.is_of_pod() || link.name == self.bridge || TUNNELS.contains(&link.name.as_str());
            if link.controller.is_none() && !is_ours && link.name != "lo" {
                let found = self.netlink.addresses_of(link.index, self.family).await?;
                // Every link has the same link-local network: it tells nothing of where a node is.
                networks.extend(found.into_iter().filter(|network| troupe_addresses::is_unicast(network.ip())));
            }
        }
        Ok(networks)
    }

    async fn routes(&self, tunnel: Option<u32>) -> Result<BTreeMap<IpNetwork, Via>, NetlinkError> {
        let question = match self.family {
            Family::V4 => RouteMessageBuilder::<Ipv4Addr>::new().build(),
            Family::V6 => RouteMessageBuilder::<Ipv6Addr>::new().build(),
        };
        let all = self.handle().route().get(question).execute();
        let all: Vec<RouteMessage> = all.try_collect().await.map_err(request("listing routes"))?;
        let ours = |route: &&RouteMessage| route.header.table == MAIN_TABLE && route.header.protocol == RouteProtocol::from(PROTOCOL);
        Ok(all.iter().filter(ours).filter_map(|route| via(route, tunnel)).collect())
    }

    async fn neighbours(&self, family: AddressFamily, tunnel: u32) -> Result<Vec<(IpAddr, Mac)>, NetlinkError> {
        let all = self.handle().neighbours().get().set_address_family(family).execute();
        let all: Vec<NeighbourMessage> = all.try_collect().await.map_err(request("listing neighbours"))?;
        let ours = |entry: &&NeighbourMessage| entry.header.ifindex == tunnel && entry.header.state == NeighbourState::Permanent;
        Ok(all.iter().filter(ours).filter_map(entry).collect())
    }

    async fn make_tunnel(&self, end: &TunnelEnd) -> Result<(), NetlinkError> {
        let mut parent = None;
        for link in self.netlink.links().await? {
            if self.netlink.addresses_of(link.index, self.family).await?.iter().any(|network| network.ip() == end.local) {
                parent = Some(link);
            }
        }
        let mut message = LinkVxlan::new(self.tunnel(), VNI).port(PORT).learning(false).address(end.mac.to_vec()).up();
        message = match end.local {
            IpAddr::V4(local) => message.local(local),
            IpAddr::V6(local) => message.local6(local),
        };
        if let Some(parent) = &parent {
            message = message.dev(parent.index).mtu(parent.mtu.saturating_sub(OVERHEADS[usize::from(self.family == Family::V6)]));
        }
        self.handle().link().add(message.build()).execute().await.map_err(request("making the tunnel"))?;
        let index = self.tunnel_index().await?;
        let mut address = self.handle().address().add(index, end.inner, self.family.host_prefix()).replace();
        if self.family == Family::V6 {
            // Nobody else can have it: it is to be used at once.
            address.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        address.execute().await.map_err(request("giving the tunnel its address"))?;
        self.handle().link().change(LinkUnspec::new_with_index(index).up().build()).execute().await.map_err(request("setting the tunnel up"))?;
        if self.is_strict() { self.loosen() } else { Ok(()) }
    }

    /// The larger setting of all links and of the tunnel counts (the kernel's `ip-sysctl`); IPv6 has none. One that cannot be read refuses nothing.
    fn is_strict(&self) -> bool {
        let of = |link: &str| fs::read_to_string(reverse_path_filter(link)).ok().and_then(|text| text.trim().parse::<u8>().ok());
        self.family == Family::V4 && of("all").max(of(self.tunnel())) == Some(1)
    }

    fn loosen(&self) -> Result<(), NetlinkError> {
        let path = reverse_path_filter(self.tunnel());
        fs::write(&path, "2").map_err(|source| NetlinkError::Setting(path, source))
    }

    async fn set_route(&self, destination: IpNetwork, via: Via) -> Result<(), NetlinkError> {
        let tunnel = match via {
            Via::Link(_) => None,
            Via::Tunnel(_) => Some(self.tunnel_index().await?),
        };
        self.handle().route().add(route_to(destination, Some((via, tunnel)))).replace().execute().await.map_err(request("adding a route"))
    }

    fn forwarding_entry(index: u32, mac: Mac, node: IpAddr) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = index;
        message.header.state = NeighbourState::Permanent;
        message.header.flags = NeighbourFlags::Own;
        message.attributes = vec![NeighbourAttribute::LinkLayerAddress(mac.to_vec()), NeighbourAttribute::Destination(node.into())];
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
            let inner = self.netlink.addresses_of(index, self.family).await?;
            observed.strict = self.is_strict();
            let inner = inner.iter().map(IpNetwork::ip).find(|ip| troupe_addresses::is_unicast(*ip));
            observed.tunnel = Some(tunnel_end(&link, inner.unwrap_or(Ipv4Addr::UNSPECIFIED.into())));
            let family = if self.family == Family::V4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
            observed.neighbours = self.neighbours(family, index).await?.into_iter().collect();
            let forwarding = self.neighbours(AddressFamily::Bridge, index).await?;
            observed.forwarding = forwarding.into_iter().map(|(node, mac)| (mac, node)).collect::<BTreeSet<_>>();
        }
        Ok(observed)
    }

    async fn apply(&self, step: &Step) -> Result<(), NetlinkError> {
        match step {
            Step::MakeTunnel(end) => self.make_tunnel(end).await,
            Step::LoosenTunnel => self.loosen(),
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
                let add = self.handle().neighbours().add(self.tunnel_index().await?, *inner).link_layer_address(mac).replace();
                add.execute().await.map_err(request("adding a neighbour of the tunnel"))
            }
            Step::RemoveNeighbour(inner) => {
                let mut add = self.handle().neighbours().add(self.tunnel_index().await?, *inner);
                let entry = add.message_mut().clone();
                self.handle().neighbours().del(entry).execute().await.map_err(request("removing a neighbour of the tunnel"))
            }
            Step::SetRoute(destination, via) => self.set_route(*destination, *via).await,
            Step::RemoveRoute(destination) => {
                self.handle().route().del(route_to(*destination, None)).execute().await.map_err(request("removing a route"))
            }
        }
    }
}

/// The setting of a link that says whether packets are refused by the way their answers would take.
fn reverse_path_filter(link: &str) -> String {
    format!("/proc/sys/net/ipv4/conf/{link}/rp_filter")
}

/// A route of ours: the kernel removes one only by its own protocol number.
fn route_to(destination: IpNetwork, way: Option<(Via, Option<u32>)>) -> RouteMessage {
    let own = RouteProtocol::from(PROTOCOL);
    let gateway = way.map(|(Via::Link(gateway) | Via::Tunnel(gateway), _)| gateway);
    let tunnel = way.and_then(|(_, tunnel)| tunnel);
    // The builder's methods are by family.
    match destination {
        IpNetwork::V4(to) => {
            let mut route = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(to.network(), to.prefix());
            if let Some(IpAddr::V4(gateway)) = gateway {
                route = route.gateway(gateway);
            }
            if let Some(tunnel) = tunnel {
                route = route.output_interface(tunnel).onlink();
            }
            route.protocol(own).scope(RouteScope::Universe).build()
        }
        IpNetwork::V6(to) => {
            let mut route = RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(to.network(), to.prefix());
            if let Some(IpAddr::V6(gateway)) = gateway {
                route = route.gateway(gateway);
            }
            if let Some(tunnel) = tunnel {
                route = route.output_interface(tunnel).onlink();
            }
            route.protocol(own).scope(RouteScope::Universe).build()
        }
    }
}

/// The end of a tunnel as its interface shows it; of what is no VXLAN end, as far as it can be told.
fn tunnel_end(link: &LinkMessage, inner: IpAddr) -> TunnelEnd {
    let (mut mac, mut local) = ([0; 6], IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::Address(bytes) => mac = Mac::try_from(bytes.as_slice()).unwrap_or_default(),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::Data(InfoData::Vxlan(parts)) = info {
                        let own = parts.iter().find_map(|part| match part {
                            InfoVxlan::Local(address) => Some(IpAddr::V4(*address)),
                            InfoVxlan::Local6(address) => Some(IpAddr::V6(*address)),
                            _ => None,
                        });
                        local = own.unwrap_or(local);
                    }
                }
            }
            _ => {}
        }
    }
    TunnelEnd { local, mac, inner }
}

fn via(route: &RouteMessage, tunnel: Option<u32>) -> Option<(IpNetwork, Via)> {
    let (mut destination, mut gateway, mut link) = (None, None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address),
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::Oif(index) => link = Some(*index),
            _ => {}
        }
    }
    let network = IpNetwork::new(destination?, route.header.destination_prefix_length).ok()?;
    let gateway = gateway.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    Some((network, if link.is_some() && link == tunnel { Via::Tunnel(gateway) } else { Via::Link(gateway) }))
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

fn entry(message: &NeighbourMessage) -> Option<(IpAddr, Mac)> {
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(found)) => address = Some(IpAddr::V4(*found)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(found)) => address = Some(IpAddr::V6(*found)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = Mac::try_from(bytes.as_slice()).ok(),
            // Bridge entries come with the address as bytes only.
            NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => {
                let four = <[u8; 4]>::try_from(bytes.as_slice()).ok().map(IpAddr::from);
                address = four.or_else(|| <[u8; 16]>::try_from(bytes.as_slice()).ok().map(IpAddr::from));
            }
            _ => {}
        }
    }
    Some((address?, mac?))
}
