//! The kernel's links, over netlink.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use async_trait::async_trait;
use futures::TryStreamExt;
use ipnetwork::Ipv4Network;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, CacheInfo};

use super::{Change, LinkAddresses, LinkView, arp};
use crate::netlink::{Link, Netlink, NetlinkError, request};

/// The end of the labels of announced addresses.
const LABEL: &str = ":lb";
/// The longest label.
const LONGEST: usize = 15;
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
        link.up && link.controller.is_none() && link.name != "lo" && !self.except.contains(&link.name)
    }

    async fn set(&self, link: u32, address: Ipv4Addr, lifetime: Option<Duration>) -> Result<(), NetlinkError> {
        let name = self.netlink.links().await?.into_iter().find(|view| view.index == link).map(|view| view.name);
        let label = label(&name.unwrap_or_default());
        let seconds = lifetime.map_or(FOR_EVER, |lifetime| u32::try_from(lifetime.as_secs()).unwrap_or(FOR_EVER));
        let mut add = self.netlink.handle().address().add(link, IpAddr::V4(address), 32).replace();
        let mut cache = CacheInfo::default();
        cache.ifa_preferred = seconds;
        cache.ifa_valid = seconds;
        add.message_mut().attributes.extend([AddressAttribute::Label(label), AddressAttribute::CacheInfo(cache)]);
        add.execute().await.map_err(request("announcing an address"))
    }
}

/// A label that is known again, beginning with the link's name where there is room.
fn label(link: &str) -> String {
    let all = format!("{link}{LABEL}");
    if all.len() <= LONGEST { all } else { format!("troupe{LABEL}") }
}

/// The address of a message, and whether it is announced.
fn read(message: &AddressMessage) -> Option<(Ipv4Network, bool)> {
    let (mut address, mut announced) = (None, false);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(IpAddr::V4(local)) => address = Some(*local),
            AddressAttribute::Address(IpAddr::V4(found)) => address = address.or(Some(*found)),
            AddressAttribute::Label(label) => announced = label.ends_with(LABEL),
            _ => {}
        }
    }
    let prefix = message.header.prefix_len;
    Some((Ipv4Network::new(address?, prefix).ok()?, announced && prefix == 32))
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
            views.push(LinkView { index: link.index, own, announced: announced.into_iter().map(|(network, _)| network.ip()).collect() });
        }
        Ok(views)
    }

    async fn apply(&self, change: Change, lifetime: Option<Duration>) -> Result<(), NetlinkError> {
        match change {
            Change::Remove { link, address } => {
                let mut add = self.netlink.handle().address().add(link, IpAddr::V4(address), 32);
                let message = add.message_mut().clone();
                self.netlink.handle().address().del(message).execute().await.map_err(request("ending the announcement of an address"))
            }
            Change::Renew { link, address } => self.set(link, address, lifetime).await,
            Change::Add { link, address } => {
                self.set(link, address, lifetime).await?;
                if let Err(error) = arp::tell(link, address) {
                    // Neighbours ask again when they get no answer from who had it before.
                    tracing::debug!(%address, %error, "neighbours were not told of an address");
                }
                Ok(())
            }
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
}
