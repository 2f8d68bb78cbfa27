//! The pods' bridge, as far as the plugins do not see to it.

use std::{fs, io};

use crate::netlink::{Netlink, NetlinkError};

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

/// Makes the bridge before the plugins give it an IPv6 address, which is usable at once then.
///
/// # Errors
/// When the kernel refuses.
pub async fn prepare(bridge: &str) -> Result<(), BridgeError> {
    Netlink::open()?.ensure_bridge(bridge).await?;
    for setting in SETTINGS {
        let path = format!("/proc/sys/net/ipv6/conf/{bridge}/{setting}");
        fs::write(&path, "0").map_err(|source| BridgeError::Write { path, source })?;
    }
    Ok(())
}
