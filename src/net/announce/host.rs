//! The kernel's links, over netlink.

use std::{net::IpAddr, time::Duration};

use async_trait::async_trait;
use futures::TryStreamExt;
use ipnetwork::IpNetwork;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, CacheInfo};

use super::{Change, LinkAddresses, LinkView, foreign_holder, tell};
use crate::{
    iptables::Family,
    netlink::{Link, Netlink, NetlinkError, request},
    overlay::PROTOCOL,
};

/// The end of the labels of announced addresses, where these have labels: those of IPv4.
const LABEL: &str = ":lb";
/// The longest label.
const LONGEST: usize = 15;
/// The metric of the route to an announced address of IPv6: it is known again by that where the kernel keeps no protocols of addresses (before
/// Linux 5.18).
const METRIC: u32 = 0x00a1_6c62;
/// For ever, as the kernel counts seconds.
const FOR_EVER: u32 = u32::MAX;

/// This network namespace.
pub struct HostLinkAddresses {
    netlink: Netlink,
    /// Links of pods and tunnels, which nobody outside sees.
    except: Vec<String>,
}

impl HostLinkAddresses {
    /// Must be opened within a tokio runtime.
    ///
    /// # Errors
    /// When there is no netlink socket.
    pub fn open(except: Vec<String>) -> Result<Self, NetlinkError> {
        Ok(HostLinkAddresses { netlink: Netlink::open()?, except })
    }

    fn is_outward(&self, link: &Link) -> bool {
        link.up && link.controller.is_none() && !link.is_of_pod() && link.name != "lo" && !self.except.contains(&link.name)
    }

    async fn set(&self, link: u32, address: IpAddr, lifetime: Option<Duration>) -> Result<(), NetlinkError> {
        let seconds = lifetime.map_or(FOR_EVER, |lifetime| u32::try_from(lifetime.as_secs()).unwrap_or(FOR_EVER));
        let mut add = self.netlink.handle().address().add(link, address, alone(address)).replace();
        let mut cache = CacheInfo::default();
        // The machine speaks as itself: nothing it sends begins from an address of IPv6 that is not preferred.
        cache.ifa_preferred = if address.is_ipv4() { seconds } else { 0 };
        cache.ifa_valid = seconds;
        let attributes = &mut add.message_mut().attributes;
        attributes.push(AddressAttribute::CacheInfo(cache));
        match address {
            IpAddr::V4(_) => {
                let name = self.netlink.links().await?.into_iter().find(|view| view.index == link).map(|view| view.name);
                attributes.push(AddressAttribute::Label(label(&name.unwrap_or_default())));
            }
            // Whoever had it before may still answer for it: nobody waits until nobody does.
            IpAddr::V6(_) => {
                attributes.extend([
                    AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL)),
                    AddressAttribute::RoutePriority(METRIC),
                    AddressAttribute::Flags(AddressFlags::Nodad),
                ]);
            }
        }
        add.execute().await.map_err(request("announcing an address"))
    }
}

/// The prefix of an address that stands for itself.
fn alone(address: IpAddr) -> u8 {
    Family::of(address).host_prefix()
}

/// A label that is known again, beginning with the link's name where there is room.
fn label(link: &str) -> String {
    let all = format!("{link}{LABEL}");
    if all.len() <= LONGEST { all } else { format!("troupe{LABEL}") }
}

/// The address of a message, and whether it is announced.
fn read(message: &AddressMessage) -> Option<(IpNetwork, bool)> {
    let (mut address, mut announced) = (None, false);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(local) => address = Some(*local),
            AddressAttribute::Address(found) => address = address.or(Some(*found)),
            AddressAttribute::Label(label) => announced |= label.ends_with(LABEL),
            AddressAttribute::Protocol(protocol) => announced |= u8::from(*protocol) == PROTOCOL,
            AddressAttribute::RoutePriority(metric) => announced |= *metric == METRIC,
            _ => {}
        }
    }
    let (address, prefix) = (address?, message.header.prefix_len);
    Some((IpNetwork::new(address, prefix).ok()?, announced && prefix == alone(address)))
}

#[async_trait]
impl LinkAddresses for HostLinkAddresses {
    async fn links(&self) -> Result<Vec<LinkView>, NetlinkError> {
        let mut views = Vec::new();
        for link in self.netlink.links().await?.into_iter().filter(|link| self.is_outward(link)) {
            let found = self.netlink.handle().address().get().set_link_index_filter(link.index).execute();
            let found: Vec<AddressMessage> = found.try_collect().await.map_err(request("listing addresses"))?;
            let (announced, own): (Vec<_>, Vec<_>) = found.iter().filter_map(read).partition(|(_, announced)| *announced);
            let own = own.into_iter().map(|(network, _)| network).collect();
            let announced = announced.into_iter().map(|(network, _)| network.ip()).collect();
            views.push(LinkView { index: link.index, name: link.name, own, announced });
        }
        Ok(views)
    }

    async fn apply(&self, change: Change, lifetime: Option<Duration>) -> Result<(), NetlinkError> {
        match change {
            Change::Remove { link, address } => {
                let mut add = self.netlink.handle().address().add(link, address, alone(address));
                let message = add.message_mut().clone();
                self.netlink.handle().address().del(message).execute().await.map_err(request("ending the announcement of an address"))
            }
            Change::Renew { link, address } => self.set(link, address, lifetime).await,
            Change::Add { link, address } => {
                self.set(link, address, lifetime).await?;
                if let Err(error) = tell(link, address) {
                    // Neighbours ask again when they get no answer from who had it before.
                    tracing::debug!(%address, %error, "neighbours were not told of an address");
                }
                Ok(())
            }
        }
    }

    async fn stranger(&self, link: u32, address: IpAddr, ours: &[IpAddr]) -> Option<String> {
        let ours = ours.to_vec();
        let asked = tokio::task::spawn_blocking(move || foreign_holder(link, address, &ours)).await;
        match asked {
            Ok(Ok(holder)) => holder.map(|hardware| hardware.map(|byte| format!("{byte:02x}")).join(":")),
            Ok(Err(error)) => {
                tracing::debug!(%address, %error, "nobody was asked whether an address is somebody else's");
                None
            }
            // The runtime ends.
            Err(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_fit_whatever_a_link_is_called() {
        assert_eq!((label("eth0").as_str(), label("averylonglink0").as_str()), ("eth0:lb", "troupe:lb"));
    }

    #[test]
    fn announced_addresses_are_known_again_by_what_the_kernel_keeps() {
        let shown = |prefix: u8, attribute: AddressAttribute| {
            let mut message = AddressMessage::default();
            message.header.prefix_len = prefix;
            message.attributes = vec![AddressAttribute::Address(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 7])), attribute];
            read(&message).map(|(_, announced)| announced)
        };
        let metric = AddressAttribute::RoutePriority;
        assert_eq!(shown(128, AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL))), Some(true));
        assert_eq!(shown(128, metric(METRIC)), Some(true));
        assert_eq!((shown(64, metric(METRIC)), shown(128, metric(1024))), (Some(false), Some(false)));
    }
}
