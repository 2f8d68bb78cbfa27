//! Addresses that this machine answers for on its links beside its own: each stands on a link for itself, known again by its label (IPv4)
//! or its protocol and metric (IPv6), and neighbours are told whenever it comes.
//!
//! One that somebody else may take over ends by itself unless it is renewed: a machine whose daemon is gone no longer answers for it. Whether
//! a stranger answers for it already can be asked before.

mod arp;
mod ethernet;
mod fake;
mod host;
mod ndp;
mod probe;

use std::{io, net::IpAddr, time::Duration};

use async_trait::async_trait;
use ipnetwork::IpNetwork;

pub use self::{fake::FakeLinkAddresses, host::HostLinkAddresses, probe::foreign_holder};
use crate::netlink::NetlinkError;

/// A link that addresses can be announced on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkView {
    pub index: u32,
    pub name: String,
    /// Its own addresses, with their networks.
    pub own: Vec<IpNetwork>,
    /// Those announced there.
    pub announced: Vec<IpAddr>,
}

/// A change of what is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    Remove {
        link: u32,
        address: IpAddr,
    },
    /// New there: neighbours are told.
    Add {
        link: u32,
        address: IpAddr,
    },
    /// It stands, and stands on.
    Renew {
        link: u32,
        address: IpAddr,
    },
}

impl Change {
    pub fn link(self) -> u32 {
        match self {
            Change::Remove { link, .. } | Change::Add { link, .. } | Change::Renew { link, .. } => link,
        }
    }

    pub fn address(self) -> IpAddr {
        match self {
            Change::Remove { address, .. } | Change::Add { address, .. } | Change::Renew { address, .. } => address,
        }
    }
}

/// The seam to the kernel.
#[async_trait]
pub trait LinkAddresses: Send + Sync + 'static {
    async fn links(&self) -> Result<Vec<LinkView>, NetlinkError>;

    /// Makes a change. What is added or renewed ends after `lifetime`, or never.
    async fn apply(&self, change: Change, lifetime: Option<Duration>) -> Result<(), NetlinkError>;

    /// The hardware address of who answers for an address on a link and is none of the machines with the addresses `ours`; `None` also where
    /// nobody can be asked.
    async fn stranger(&self, link: u32, address: IpAddr, ours: &[IpAddr]) -> Option<String>;
}

/// Tells the neighbours on a link of this network namespace that `address` is here now: those that had it elsewhere take it from there.
///
/// # Errors
/// When the link is no Ethernet or is down, or packets may not be sent by hand.
pub(crate) fn tell(link: u32, address: IpAddr) -> io::Result<()> {
    match address {
        IpAddr::V4(address) => arp::tell(link, address),
        IpAddr::V6(address) => ndp::tell(link, address),
    }
}

/// The link that an address is announced on: the one whose network it is of, else the one with the machine's own address of its family. Pure.
pub fn place(links: &[LinkView], machine: &[IpAddr], address: IpAddr) -> Option<u32> {
    let near = links.iter().find(|link| link.own.iter().any(|network| network.contains(address)));
    let own = machine.iter().find(|own| own.is_ipv4() == address.is_ipv4());
    let main = || links.iter().find(|link| link.own.iter().any(|network| Some(&network.ip()) == own));
    near.or_else(main).map(|link| link.index)
}

/// The changes after which just `wanted` is announced, each where it has its [`place`]. Pure.
pub fn plan(links: &[LinkView], machine: &[IpAddr], wanted: &[IpAddr]) -> Vec<Change> {
    let place = |address: IpAddr| place(links, machine, address);
    let mut changes = Vec::new();
    for link in links {
        let gone = link.announced.iter().filter(|address| !wanted.contains(address) || place(**address) != Some(link.index));
        changes.extend(gone.map(|address| Change::Remove { link: link.index, address: *address }));
    }
    for address in wanted {
        let Some(link) = place(*address) else { continue };
        let stands = links.iter().any(|view| view.index == link && view.announced.contains(address));
        // An address that the machine has by itself needs nothing.
        let is_own = links.iter().any(|view| view.own.iter().any(|network| network.ip() == *address));
        if stands {
            changes.push(Change::Renew { link, address: *address });
        } else if !is_own {
            changes.push(Change::Add { link, address: *address });
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: [&str; 2] = ["192.0.2.1", "2001:db8::1"];

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    fn link(index: u32, own: &[&str], announced: &[&str]) -> LinkView {
        LinkView {
            index,
            name: format!("eth{index}"),
            own: own.iter().map(|own| own.parse().expect("a network")).collect(),
            announced: ips(announced),
        }
    }

    #[test]
    fn an_address_goes_to_the_link_of_its_network_else_to_the_machines() {
        let links = [link(2, &["192.0.2.1/24", "2001:db8::1/64"], &[]), link(3, &["198.51.100.1/24", "2001:db8:1::1/64"], &[])];
        let wanted = ips(&["198.51.100.9", "203.0.113.7", "2001:db8:1::9", "2001:db8:2::7", MACHINE[0], MACHINE[1]]);
        assert_eq!(
            plan(&links, &ips(&MACHINE), &wanted),
            [3, 2, 3, 2].into_iter().zip(wanted).map(|(link, address)| Change::Add { link, address }).collect::<Vec<_>>(),
            "what the machine has by itself needs nothing"
        );
    }

    #[test]
    fn what_stands_is_renewed_and_what_is_not_wanted_goes_first() {
        let links = [link(2, &["192.0.2.1/24"], &["192.0.2.9", "192.0.2.8"]), link(3, &["198.51.100.1/24"], &["192.0.2.7", "2001:db8::9"])];
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(
            plan(&links, &ips(&MACHINE[..1]), &ips(&["192.0.2.9", "192.0.2.7", "2001:db8::9"])),
            [
                Change::Remove { link: 2, address: ip("192.0.2.8") },
                Change::Remove { link: 3, address: ip("192.0.2.7") },
                Change::Remove { link: 3, address: ip("2001:db8::9") },
                Change::Renew { link: 2, address: ip("192.0.2.9") },
                Change::Add { link: 2, address: ip("192.0.2.7") },
            ],
            "without an address of a family it has no place"
        );
    }
}
