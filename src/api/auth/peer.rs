//! Where a node's connection comes from: what is known of its addresses without its own word.
//!
//! The front door notes it in the caller's `extra`, as it notes which credential was shown. So it reaches admission, and stays in
//! `spec.extra` of certificate signing requests, which no client can write. Nodes in the API server's own process say so.

use std::{collections::BTreeMap, net::IpAddr};

use super::node::node_of;
use crate::service::UserInfo;

/// The key under which it is noted.
pub const PEER_ADDRESS: &str = "authentication.troupe.dev/peer-address";
const IN_PROCESS: &str = "in-process";

/// Where a caller's connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// There is none: it runs in the API server's own process.
    InProcess,
    At(IpAddr),
    /// Nobody noted it.
    Unknown,
}

impl Peer {
    /// What a caller's `extra` says.
    pub fn of(extra: Option<&BTreeMap<String, Vec<String>>>) -> Self {
        match extra.and_then(|extra| extra.get(PEER_ADDRESS)).map(Vec::as_slice) {
            Some([text]) if text == IN_PROCESS => Peer::InProcess,
            Some([text]) => text.parse().map_or(Peer::Unknown, Peer::At),
            _ => Peer::Unknown,
        }
    }

    /// The connection was opened by the machine that has this address; the process itself is on all of its own.
    pub fn proves(self, address: IpAddr) -> bool {
        match self {
            Peer::InProcess => true,
            Peer::At(ip) => ip == address,
            Peer::Unknown => false,
        }
    }

    /// The caller is on the API server's own machine.
    pub fn is_local(self) -> bool {
        match self {
            Peer::InProcess => true,
            Peer::At(ip) => ip.is_loopback(),
            Peer::Unknown => false,
        }
    }
}

/// Notes where the connection of a node comes from; nothing about anybody else.
pub fn note(user: &mut UserInfo, address: Option<IpAddr>) {
    user.extra.remove(PEER_ADDRESS);
    if let Some(address) = address.filter(|_| node_of(user).is_some()) {
        user.extra.insert(PEER_ADDRESS.to_owned(), vec![address.to_canonical().to_string()]);
    }
}

/// Notes that the user runs in the API server's own process.
pub fn note_in_process(user: &mut UserInfo) {
    user.extra.insert(PEER_ADDRESS.to_owned(), vec![IN_PROCESS.to_owned()]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_connection_proves_one_address() {
        let mut node = UserInfo { name: "system:node:one".into(), groups: vec!["system:nodes".into()], ..UserInfo::default() };
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(Peer::of(Some(&node.extra)), Peer::Unknown);
        note(&mut node, Some(ip("::ffff:10.0.0.7")));
        let peer = Peer::of(Some(&node.extra));
        assert_eq!(peer, Peer::At(ip("10.0.0.7")));
        assert!(peer.proves(ip("10.0.0.7")) && !peer.proves(ip("10.0.0.8")) && !peer.is_local());
        note_in_process(&mut node);
        assert!(Peer::of(Some(&node.extra)).is_local());
        note(&mut node, None);
        assert_eq!(Peer::of(Some(&node.extra)), Peer::Unknown, "what somebody else noted does not stay");
    }

    #[test]
    fn where_others_connect_from_is_noted_nowhere() {
        let mut user = UserInfo { name: "system:node:one".into(), ..UserInfo::default() };
        note(&mut user, Some("10.0.0.7".parse().expect("an address")));
        assert_eq!(user.extra, BTreeMap::new());
    }
}
