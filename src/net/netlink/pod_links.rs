//! Links between the node and its pods: each is a wire of its own that the node routes over, and no port of a bridge.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use futures::TryStreamExt;
use ipnetwork::IpNetwork;
use netlink_packet_route::{
    link::LinkAttribute,
    neighbour::NeighbourState,
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteScope},
};
use rtnetlink::{LinkUnspec, RouteMessageBuilder};

use super::{MAIN_TABLE, Netlink, NetlinkError, request};
use crate::iptables::Family;

/// The group of links that pods are at the other end of (`ip link show group 29808`): what looks for the machine's own links passes them over.
pub const POD_LINKS: u32 = 0x7470;

/// No such process, which is how Linux says that there is no such route.
const ESRCH: i32 = 3;

impl Netlink {
    /// Takes a link from the bridge that the plugins made it a port of, gives it a hardware address, and marks it as a pod's.
    pub async fn set_pod_link(&self, index: u32, mac: Option<Vec<u8>>) -> Result<(), NetlinkError> {
        let mut link = LinkUnspec::new_with_index(index).nocontroller().append_extra_attribute(LinkAttribute::Group(POD_LINKS));
        if let Some(mac) = mac {
            link = link.address(mac);
        }
        self.handle().link().change(link.build()).execute().await.map_err(request("taking a link from its bridge"))
    }

    /// A route to one address that is at the other end of a link; what the machine itself sends there comes from `source`, which is an address of it.
    pub async fn ensure_host_route(&self, index: u32, address: IpAddr, source: Option<IpAddr>) -> Result<(), NetlinkError> {
        let prefix = Family::of(address).host_prefix();
        // The builder's methods are by family.
        let route = match address {
            IpAddr::V4(address) => {
                let route = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(address, prefix).output_interface(index);
                let route = if let Some(IpAddr::V4(source)) = source { route.pref_source(source) } else { route };
                route.scope(RouteScope::Link).build()
            }
            IpAddr::V6(address) => {
                let route = RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(address, prefix).output_interface(index);
                let route = if let Some(IpAddr::V6(source)) = source { route.pref_source(source) } else { route };
                route.build()
            }
        };
        self.handle().route().add(route).replace().execute().await.map_err(request("adding a route to one address"))
    }

    /// Removes the route that says that a whole network is on a link.
    pub async fn remove_connected_route(&self, index: u32, network: IpNetwork) -> Result<(), NetlinkError> {
        let wanted = (network.network(), network.prefix());
        for route in self.all_routes(Family::of(network.ip())).await? {
            if destination(&route) != Some(wanted) || output(&route) != Some(index) || has_gateway(&route) {
                continue;
            }
            match self.handle().route().del(route).execute().await {
                Err(rtnetlink::Error::NetlinkError(refusal)) if refusal.raw_code() == -ESRCH => {}
                removed => removed.map_err(request("removing a route to a link"))?,
            }
        }
        Ok(())
    }

    /// The single addresses that routes lead to, with the index of the link.
    pub async fn host_routes(&self, family: Family) -> Result<BTreeSet<(IpAddr, u32)>, NetlinkError> {
        let all = self.all_routes(family).await?;
        let single = |route: &RouteMessage| {
            let (address, prefix) = destination(route)?;
            Some((address, output(route)?)).filter(|_| prefix == family.host_prefix())
        };
        Ok(all.iter().filter_map(single).collect())
    }

    /// Notes who has an address at the other end of a link, as if it had just said so.
    pub async fn note_neighbour(&self, index: u32, address: IpAddr, mac: &[u8]) -> Result<(), NetlinkError> {
        let add = self.handle().neighbours().add(index, address).link_layer_address(mac).state(NeighbourState::Reachable).replace();
        add.execute().await.map_err(request("noting a neighbour"))
    }

    /// The routes of the main table.
    async fn all_routes(&self, family: Family) -> Result<Vec<RouteMessage>, NetlinkError> {
        let question = match family {
            Family::V4 => RouteMessageBuilder::<Ipv4Addr>::new().build(),
            Family::V6 => RouteMessageBuilder::<Ipv6Addr>::new().build(),
        };
        let all: Vec<RouteMessage> = self.handle().route().get(question).execute().try_collect().await.map_err(request("listing routes"))?;
        Ok(all.into_iter().filter(|route| route.header.table == MAIN_TABLE).collect())
    }
}

fn destination(route: &RouteMessage) -> Option<(IpAddr, u8)> {
    let address = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    })?;
    Some((address, route.header.destination_prefix_length))
}

fn output(route: &RouteMessage) -> Option<u32> {
    route.attributes.iter().find_map(|attribute| if let RouteAttribute::Oif(index) = attribute { Some(*index) } else { None })
}

fn has_gateway(route: &RouteMessage) -> bool {
    route.attributes.iter().any(|attribute| matches!(attribute, RouteAttribute::Gateway(_)))
}
