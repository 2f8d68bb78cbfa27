//! The pods' bridge, as far as the plugins do not see to it, or not in time.

use std::{fs, io};

use ipnetwork::IpNetwork;

use super::gateway;
use crate::{
    iptables::Family,
    netlink::{Netlink, NetlinkError},
    overlay::mac_of,
};

/// Why the bridge is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error("writing {path} failed")]
    Write { path: String, source: io::Error },
}

/// Settings of a bridge with IPv6 addresses. Its first address is the node's own: waiting for somebody else to claim it would only keep the first
/// pods from their gateway. And no pod tells the node where its routes lead.
const SETTINGS: [&str; 2] = ["accept_dad", "accept_ra"];

/// Makes the bridge with its addresses before the plugins do: other nodes look for this one there (see [`crate::echo`]) also while no pod runs
/// on it, and an IPv6 address is usable at once. The plugins find it as they would have made it.
///
/// # Errors
/// When the kernel refuses.
pub async fn prepare(bridge: &str, ranges: &[IpNetwork]) -> Result<(), BridgeError> {
    let own = |range: &IpNetwork| gateway(*range).and_then(|address| IpNetwork::new(address, range.prefix()).ok());
    let addresses: Vec<IpNetwork> = ranges.iter().filter_map(own).collect();
    let Some(first) = addresses.first() else { return Ok(()) };
    let netlink = Netlink::open()?;
    // One that follows from the lowest of its ports would change as pods come and go, and pods would lose their gateway.
    let index = netlink.ensure_bridge_at(bridge, mac_of(first.ip())).await?;
    if addresses.iter().any(IpNetwork::is_ipv6) {
        for setting in SETTINGS {
            let path = format!("/proc/sys/net/ipv6/conf/{bridge}/{setting}");
            fs::write(&path, "0").map_err(|source| BridgeError::Write { path, source })?;
        }
    }
    for address in addresses {
        if !netlink.addresses_of(index, Family::of(address.ip())).await?.contains(&address) {
            netlink.ensure_address(bridge, address).await?;
        }
    }
    Ok(())
}
