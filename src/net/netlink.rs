//! Links, addresses and routes of this network namespace, over netlink.

mod changes;
mod pod_links;

use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use futures::TryStreamExt;
use ipnetwork::{IpNetwork, Ipv4Network};
use netlink_packet_route::{
    address::AddressAttribute,
    link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
    route::{RouteAddress, RouteAttribute, RouteMessage},
};
use rtnetlink::{Handle, RouteMessageBuilder};

pub use pod_links::POD_LINKS;

use crate::{iptables::Family, netns};

/// No such device, as Linux numbers it.
const ENODEV: i32 = 19;

/// Why a netlink request failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    #[error("no netlink socket")]
    Socket(#[source] std::io::Error),
    #[error("{step} failed")]
    Request { step: &'static str, source: rtnetlink::Error },
    #[error("there is no interface {0}")]
    Missing(&'static str),
    #[error("there is no interface {0}")]
    Gone(String),
    #[error("{gateway} leads nowhere to {to}: it is of the other family")]
    Families { gateway: IpAddr, to: IpNetwork },
    #[error("the network namespace {0} cannot be opened")]
    Namespace(String, #[source] std::io::Error),
    #[error("{0} cannot be written")]
    Setting(String, #[source] std::io::Error),
}

pub(crate) fn request(step: &'static str) -> impl FnOnce(rtnetlink::Error) -> NetlinkError {
    move |source| NetlinkError::Request { step, source }
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub up: bool,
    pub mtu: u32,
    /// The bridge this link is a port of.
    pub controller: Option<u32>,
    pub is_bridge: bool,
    pub is_veth: bool,
    /// Its hardware address.
    pub mac: Vec<u8>,
    pub group: u32,
}

impl Link {
    /// Whether a pod is at its other end, see [`Netlink::set_pod_link`].
    pub fn is_of_pod(&self) -> bool {
        self.is_veth && self.group == POD_LINKS
    }
}

/// An IPv4 route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub destination: Ipv4Network,
    pub gateway: Option<Ipv4Addr>,
    pub link: Option<u32>,
    /// The address this machine uses on that route.
    pub source: Option<Ipv4Addr>,
}

/// A netlink conversation. It must be opened within a tokio runtime.
#[derive(Clone, Debug)]
pub struct Netlink {
    handle: Handle,
}

impl Netlink {
    pub fn open() -> Result<Self, NetlinkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(NetlinkError::Socket)?;
        tokio::spawn(connection);
        Ok(Netlink { handle })
    }

    /// One about the network namespace at `path`.
    pub fn within(path: &Path) -> Result<Self, NetlinkError> {
        let runtime = tokio::runtime::Handle::current();
        let open = || {
            let _runtime = runtime.enter();
            rtnetlink::new_connection()
        };
        let (connection, handle, _) = netns::run(path, open).and_then(|opened| opened).map_err(NetlinkError::Socket)?;
        tokio::spawn(connection);
        Ok(Netlink { handle })
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    pub async fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        let links: Vec<LinkMessage> = self.handle.link().get().execute().try_collect().await.map_err(request("listing links"))?;
        Ok(links.iter().map(link_of).collect())
    }

    pub async fn link(&self, name: &str) -> Result<Option<Link>, NetlinkError> {
        Ok(self.links().await?.into_iter().find(|link| link.name == name))
    }

    /// Removes a link; for a bridge its ports are set free, for a veth its peer goes too. One that is gone already is no failure.
    pub async fn remove_link(&self, index: u32) -> Result<(), NetlinkError> {
        match self.handle.link().del(index).execute().await {
            Err(rtnetlink::Error::NetlinkError(refusal)) if refusal.raw_code() == -ENODEV => Ok(()),
            removed => removed.map_err(request("removing a link")),
        }
    }

    /// The IPv4 addresses of a link.
    pub async fn addresses(&self, index: u32) -> Result<Vec<Ipv4Network>, NetlinkError> {
        let found = self.addresses_of(index, Family::V4).await?;
        Ok(found.into_iter().filter_map(|network| if let IpNetwork::V4(network) = network { Some(network) } else { None }).collect())
    }

    /// The addresses of a link of one family.
    pub async fn addresses_of(&self, index: u32, family: Family) -> Result<Vec<IpNetwork>, NetlinkError> {
        let found = self.handle.address().get().set_link_index_filter(index).execute();
        let found: Vec<_> = found.try_collect().await.map_err(request("listing addresses"))?;
        let address = |message: &netlink_packet_route::address::AddressMessage| {
            let prefix = message.header.prefix_len;
            message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(address) if family.has(*address) => IpNetwork::new(*address, prefix).ok(),
                _ => None,
            })
        };
        Ok(found.iter().filter_map(address).collect())
    }

    /// The IPv4 routes of the main table.
    pub async fn routes(&self) -> Result<Vec<Route>, NetlinkError> {
        let all = self.handle.route().get(RouteMessageBuilder::<Ipv4Addr>::new().build()).execute();
        let all: Vec<RouteMessage> = all.try_collect().await.map_err(request("listing routes"))?;
        Ok(all.iter().filter(|route| route.header.table == MAIN_TABLE).filter_map(route_of).collect())
    }

    /// The address this machine is known by: that of its default route, else of any link that is up but the loopback.
    pub async fn primary_address(&self) -> Result<Option<Ipv4Addr>, NetlinkError> {
        let default = self.routes().await?.into_iter().find(|route| route.destination.prefix() == 0);
        if let Some(source) = default.as_ref().and_then(|route| route.source) {
            return Ok(Some(source));
        }
        if let Some(index) = default.and_then(|route| route.link)
            && let Some(address) = self.addresses(index).await?.first()
        {
            return Ok(Some(address.ip()));
        }
        for link in self.links().await?.iter().filter(|link| link.up && !link.is_bridge && !link.is_of_pod() && link.name != "lo") {
            if let Some(address) = self.addresses(link.index).await?.first() {
                return Ok(Some(address.ip()));
            }
        }
        Ok(None)
    }
}

/// RT_TABLE_MAIN.
const MAIN_TABLE: u8 = 254;

fn link_of(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        up: message.header.flags.contains(LinkFlags::Up),
        mtu: 0,
        controller: None,
        is_bridge: false,
        is_veth: false,
        mac: Vec::new(),
        group: 0,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Controller(index) => link.controller = Some(*index),
            LinkAttribute::Address(mac) => link.mac.clone_from(mac),
            LinkAttribute::Group(group) => link.group = *group,
            LinkAttribute::LinkInfo(infos) => {
                link.is_bridge = infos.contains(&LinkInfo::Kind(InfoKind::Bridge));
                link.is_veth = infos.contains(&LinkInfo::Kind(InfoKind::Veth));
            }
            _ => {}
        }
    }
    link
}

fn route_of(message: &RouteMessage) -> Option<Route> {
    let mut destination = Ipv4Addr::UNSPECIFIED;
    let (mut gateway, mut link, mut source) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => destination = *address,
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => gateway = Some(*address),
            RouteAttribute::PrefSource(RouteAddress::Inet(address)) => source = Some(*address),
            RouteAttribute::Oif(index) => link = Some(*index),
            _ => {}
        }
    }
    let destination = Ipv4Network::new(destination, message.header.destination_prefix_length).ok()?;
    Some(Route { destination, gateway, link, source })
}
