//! Sets of addresses that rules match against, as `ipset` keeps them. Pure.

use std::{collections::BTreeMap, net::IpAddr};

use ipnetwork::IpNetwork;

/// What a set's entries are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetKind {
    /// Networks and single addresses.
    Net,
    /// Addresses with a protocol and a port.
    AddressPort,
}

impl SetKind {
    /// As `ipset` calls it.
    pub fn type_name(self) -> &'static str {
        match self {
            SetKind::Net => "hash:net",
            SetKind::AddressPort => "hash:ip,port",
        }
    }
}

/// One entry of a set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    pub set: String,
    /// As `ipset save` prints it.
    pub entry: String,
}

/// The entries of a network in a set of networks. A set cannot hold all addresses at once, but both their halves.
pub fn net_entries(net: IpNetwork) -> Vec<String> {
    let whole = match net {
        IpNetwork::V4(_) => 32,
        IpNetwork::V6(_) => 128,
    };
    match net.prefix() {
        0 if whole == 32 => vec!["0.0.0.0/1".into(), "128.0.0.0/1".into()],
        0 => vec!["::/1".into(), "8000::/1".into()],
        prefix if prefix == whole => vec![net.ip().to_string()],
        prefix => vec![format!("{}/{prefix}", net.network())],
    }
}

/// The entry of a port at an address; `protocol` in lower case.
pub fn port_entry(ip: IpAddr, protocol: &str, port: u16) -> String {
    format!("{ip},{protocol}:{port}")
}

/// The sets that `ipset save` printed, with their entries.
pub(super) fn read(text: &str, into: &mut BTreeMap<String, Vec<String>>) {
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("create"), Some(name), _) => drop(into.entry(name.to_owned()).or_default()),
            (Some("add"), Some(name), Some(entry)) => into.entry(name.to_owned()).or_default().push(entry.to_owned()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_two_halves() {
        let entries = |text: &str| net_entries(text.parse().expect("a network"));
        assert_eq!(entries("0.0.0.0/0"), ["0.0.0.0/1", "128.0.0.0/1"]);
        assert_eq!(entries("10.0.0.7/32"), ["10.0.0.7"]);
        assert_eq!(entries("10.9.8.7/8"), ["10.0.0.0/8"]);
        assert_eq!(entries("::/0"), ["::/1", "8000::/1"]);
        assert_eq!(entries("fd00::1/128"), ["fd00::1"]);
    }
}
