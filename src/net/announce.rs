//! Addresses that this machine answers for on its links beside its own: each stands on a link for itself, known again by its label,
//! and neighbours are told whenever it comes.
//!
//! One that somebody else may take over ends by itself unless it is renewed: a machine whose daemon is gone no longer answers for it.

mod arp;
mod fake;
mod host;

use std::{net::Ipv4Addr, time::Duration};

use async_trait::async_trait;
use ipnetwork::Ipv4Network;

pub use self::{fake::FakeLinkAddresses, host::HostLinkAddresses};
use crate::netlink::NetlinkError;

/// A link that addresses can be announced on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkView {
    pub index: u32,
    /// Its own addresses, with their networks.
    pub own: Vec<Ipv4Network>,
    /// Those announced there.
    pub announced: Vec<Ipv4Addr>,
}

/// A change of what is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    Remove {
        link: u32,
        address: Ipv4Addr,
    },
    /// New there: neighbours are told.
    Add {
        link: u32,
        address: Ipv4Addr,
    },
    /// It stands, and stands on.
    Renew {
        link: u32,
        address: Ipv4Addr,
    },
}

/// The seam to the kernel.
#[async_trait]
pub trait LinkAddresses: Send + Sync + 'static {
    async fn links(&self) -> Result<Vec<LinkView>, NetlinkError>;

    /// Makes a change. What is added or renewed ends after `lifetime`, or never.
    async fn apply(&self, change: Change, lifetime: Option<Duration>) -> Result<(), NetlinkError>;
}

/// The changes after which just `wanted` is announced: on the link whose network an address is of, else on the one with the
/// machine's own address. Pure.
pub fn plan(links: &[LinkView], machine: Ipv4Addr, wanted: &[Ipv4Addr]) -> Vec<Change> {
    let place = |address: Ipv4Addr| {
        let near = links.iter().find(|link| link.own.iter().any(|network| network.contains(address)));
        near.or_else(|| links.iter().find(|link| link.own.iter().any(|network| network.ip() == machine))).map(|link| link.index)
    };
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

    const MACHINE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    fn link(index: u32, own: &str, announced: &[[u8; 4]]) -> LinkView {
        LinkView { index, own: vec![own.parse().expect("a network")], announced: announced.iter().map(|ip| (*ip).into()).collect() }
    }

    #[test]
    fn an_address_goes_to_the_link_of_its_network_else_to_the_machines() {
        let links = [link(2, "192.0.2.1/24", &[]), link(3, "198.51.100.1/24", &[])];
        let wanted = [[198, 51, 100, 9].into(), [203, 0, 113, 7].into(), MACHINE];
        assert_eq!(
            plan(&links, MACHINE, &wanted),
            [Change::Add { link: 3, address: wanted[0] }, Change::Add { link: 2, address: wanted[1] }],
            "what the machine has by itself needs nothing"
        );
    }

    #[test]
    fn what_stands_is_renewed_and_what_is_not_wanted_goes_first() {
        let links = [link(2, "192.0.2.1/24", &[[192, 0, 2, 9], [192, 0, 2, 8]]), link(3, "198.51.100.1/24", &[[192, 0, 2, 7]])];
        let changes = plan(&links, MACHINE, &[[192, 0, 2, 9].into(), [192, 0, 2, 7].into()]);
        assert_eq!(
            changes,
            [
                Change::Remove { link: 2, address: [192, 0, 2, 8].into() },
                Change::Remove { link: 3, address: [192, 0, 2, 7].into() },
                Change::Renew { link: 2, address: [192, 0, 2, 9].into() },
                Change::Add { link: 2, address: [192, 0, 2, 7].into() },
            ]
        );
    }
}
