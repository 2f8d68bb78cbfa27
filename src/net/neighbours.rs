//! Who has an address on a link (ARP): what the kernel remembers of a pod that has gone keeps the next one with its address from being
//! reached, for up to half a minute.

use std::net::IpAddr;

use async_trait::async_trait;
use futures::TryStreamExt;
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use parking_lot::Mutex;

use crate::netlink::{Netlink, NetlinkError, request};

/// No such file or directory, as Linux numbers it: the entry is gone already.
const ENOENT: i32 = 2;

/// What is remembered of neighbours.
#[async_trait]
pub trait Neighbours: Send + Sync + 'static {
    /// Forgets who has these addresses; the next packet to one of them asks anew.
    async fn forget(&self, addresses: &[IpAddr]) -> Result<(), NetlinkError>;
}

#[async_trait]
impl Neighbours for Netlink {
    async fn forget(&self, addresses: &[IpAddr]) -> Result<(), NetlinkError> {
        let known: Vec<NeighbourMessage> = self.handle().neighbours().get().execute().try_collect().await.map_err(request("listing neighbours"))?;
        for entry in known.into_iter().filter(|entry| address(entry).is_some_and(|ip| addresses.contains(&ip))) {
            match self.handle().neighbours().del(entry).execute().await {
                Err(rtnetlink::Error::NetlinkError(refusal)) if refusal.raw_code() == -ENOENT => {}
                removed => removed.map_err(request("removing a neighbour"))?,
            }
        }
        Ok(())
    }
}

fn address(entry: &NeighbourMessage) -> Option<IpAddr> {
    entry.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
        _ => None,
    })
}

/// Remembers what it was asked to forget.
#[derive(Debug, Default)]
pub struct FakeNeighbours {
    forgotten: Mutex<Vec<IpAddr>>,
}

impl FakeNeighbours {
    pub fn forgotten(&self) -> Vec<IpAddr> {
        self.forgotten.lock().clone()
    }
}

#[async_trait]
impl Neighbours for FakeNeighbours {
    async fn forget(&self, addresses: &[IpAddr]) -> Result<(), NetlinkError> {
        self.forgotten.lock().extend(addresses);
        Ok(())
    }
}
