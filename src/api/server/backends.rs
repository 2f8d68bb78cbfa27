//! Where the backends of requests are that this server passes on, and which of them it may reach.

pub(crate) mod locate;
pub mod place;

use std::net::IpAddr;

/// Whether an API server may go there for a client. What this machine or this link serves only itself trusts whoever comes.
pub fn may_reach(ip: IpAddr, loopback: bool) -> bool {
    troupe_addresses::is_unicast(ip) || loopback && ip.is_loopback()
}
