//! Whether somebody on a link answers for an address already (RFC 5227, section 2.1; RFC 4862, section 5.4).

use std::{
    collections::BTreeSet,
    io,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{
    arp,
    ethernet::{Ethernet, Hardware},
    ndp,
};

/// How often it is asked, and how long answers are waited for each time. Whoever takes an address over must not be long in coming.
const PROBES: usize = 2;
const WAIT: Duration = Duration::from_millis(200);
/// How many addresses are asked for before answers are taken in, and for how long then: the kernel keeps few for a socket that nobody reads.
const AT_ONCE: usize = 64;
const PAUSE: Duration = Duration::from_millis(25);
/// Machines of ours that are asked for their addresses.
const MOST_MACHINES: usize = 1000;

/// What the packet filter of a socket lets through: everything, which is little of ARP.
const ALL: [libc::sock_filter; 1] = [statement(0x06, 0, 0, 0xffff)];
/// Of IPv6 what tells of neighbours' addresses: the kernel need not copy the rest.
const ADVERTISEMENTS: [libc::sock_filter; 6] = [
    statement(0x30, 0, 0, 20),
    statement(0x15, 0, 3, ndp::ICMPV6 as u32),
    statement(0x30, 0, 0, 54),
    statement(0x15, 0, 1, ndp::ADVERTISEMENT as u32),
    statement(0x06, 0, 0, 0xffff),
    statement(0x06, 0, 0, 0),
];

/// A statement: load a byte (0x30), skip so many if it is equal or not (0x15), take so many bytes of the frame (0x06).
const fn statement(code: u16, equal: u8, other: u8, operand: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt: equal, jf: other, k: operand }
}

/// Who on a link of this network namespace answers for an address and is none of the machines with the addresses `ours`. Takes as long as answers
/// are waited for.
///
/// # Errors
/// When the link is no Ethernet or is down, or packets may not be sent by hand.
pub fn foreign_holder(link: u32, address: IpAddr, ours: &[IpAddr]) -> io::Result<Option<Hardware>> {
    let holders = claims(link, &[address])?;
    if holders.is_empty() {
        return Ok(None);
    }
    let near: Vec<IpAddr> = ours.iter().copied().filter(|other| other.is_ipv4() == address.is_ipv4()).take(MOST_MACHINES).collect();
    let machines = if near.is_empty() { BTreeSet::new() } else { claims(link, &near)? };
    Ok(holders.difference(&machines).next().copied())
}

/// Who answers for any of these addresses, which are of one family.
fn claims(link: u32, addresses: &[IpAddr]) -> io::Result<BTreeSet<Hardware>> {
    let is_ipv4 = addresses.iter().all(IpAddr::is_ipv4);
    let ethernet = Ethernet::open(link, if is_ipv4 { arp::ARP } else { ndp::IPV6 })?;
    ethernet.listen(if is_ipv4 { &ALL[..] } else { &ADVERTISEMENTS[..] })?;
    let mut holders = BTreeSet::new();
    for _ in 0..PROBES {
        let mut parts = addresses.chunks(AT_ONCE).peekable();
        while let Some(part) = parts.next() {
            for address in part {
                match address {
                    IpAddr::V4(address) => arp::probe(&ethernet, *address)?,
                    IpAddr::V6(address) => ndp::probe(&ethernet, *address)?,
                }
            }
            let until = Instant::now() + if parts.peek().is_some() { PAUSE } else { WAIT };
            while let Some(frame) = ethernet.receive(until)? {
                let claim = if is_ipv4 {
                    arp::claim(&frame).map(|(address, hardware)| (IpAddr::V4(address), hardware))
                } else {
                    ndp::claim(&frame).map(|(address, hardware)| (IpAddr::V6(address), hardware))
                };
                holders.extend(claim.filter(|(address, _)| addresses.contains(address)).map(|(_, hardware)| hardware));
            }
        }
    }
    Ok(holders)
}
