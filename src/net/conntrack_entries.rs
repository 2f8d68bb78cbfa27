//! Entries of the kernel's connection table, over netlink (`linux/netfilter/nfnetlink_conntrack.h`).
//!
//! One walk through a family's part of the table finds what is looked for, whichever end has an address and whatever translated it; each entry is
//! removed by its own tuple then, which costs no walk.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use crate::{
    iptables::Family,
    netfilter::{Netfilter, Topic, attributes, value},
};

/// `NFNL_SUBSYS_CTNETLINK`, with `IPCTNL_MSG_CT_GET` and `IPCTNL_MSG_CT_DELETE`.
const CONNECTIONS: u8 = 1;
const GET: u8 = 1;
const DELETE: u8 = 2;

const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
/// `CTA_TUPLE_IP`, and in it the addresses of either family: where it comes from, and where it goes.
const TUPLE_IP: u16 = 1;
const SOURCES: [u16; 2] = [1, 3];
const DESTINATIONS: [u16; 2] = [2, 4];
/// `CTA_TUPLE_PROTO`, and in it the protocol and its ports.
const TUPLE_PROTO: u16 = 2;
const PROTO_NUM: u16 = 1;
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;

/// A tracked connection: how it began, and how answers to it come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub original: Tuple,
    pub reply: Tuple,
}

/// One direction. Protocols without ports have 0 there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tuple {
    /// As IP numbers it.
    pub protocol: u8,
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

impl Entry {
    /// All addresses of both directions.
    pub fn ends(&self) -> [IpAddr; 4] {
        [self.original.source, self.original.destination, self.reply.source, self.reply.destination].map(|end| end.ip())
    }

    fn read(attributes: &[u8]) -> Option<Self> {
        let tuple = |kind| Tuple::read(value(attributes, kind)?);
        Some(Entry { original: tuple(TUPLE_ORIG)?, reply: tuple(TUPLE_REPLY)? })
    }
}

impl Tuple {
    fn read(tuple: &[u8]) -> Option<Self> {
        let (ips, protocol) = (value(tuple, TUPLE_IP)?, value(tuple, TUPLE_PROTO)?);
        let ip = |kinds: [u16; 2]| kinds.into_iter().find_map(|kind| address(value(ips, kind)?));
        let port = |kind| value(protocol, kind).and_then(|port| port.first_chunk::<2>()).map_or(0, |port| u16::from_be_bytes(*port));
        Some(Tuple {
            protocol: *value(protocol, PROTO_NUM)?.first()?,
            source: SocketAddr::new(ip(SOURCES)?, port(SOURCE_PORT)),
            destination: SocketAddr::new(ip(DESTINATIONS)?, port(DESTINATION_PORT)),
        })
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => bytes.first_chunk::<4>().map(|octets| IpAddr::from(*octets)),
        16 => bytes.first_chunk::<16>().map(|octets| IpAddr::from(*octets)),
        _ => None,
    }
}

/// Removes all entries of these families that are `unwanted`. It blocks. Gives how many there were.
///
/// # Errors
/// When the kernel does not answer, or refuses. Entries that it does not let go now keep none of the others.
pub(crate) fn remove(families: impl IntoIterator<Item = Family>, unwanted: impl Fn(&Entry) -> bool) -> io::Result<usize> {
    let netfilter = Netfilter::open()?;
    let mut found = Vec::new();
    for family in families {
        let family = match family {
            Family::V4 => libc::AF_INET,
            Family::V6 => libc::AF_INET6,
        };
        let topic = |kind| Topic { part: CONNECTIONS, kind, family: Some(family) };
        netfilter.list(topic(GET), &[], |attributes| {
            if Entry::read(attributes).is_some_and(|entry| unwanted(&entry)) {
                found.push((topic(DELETE), names(attributes)));
            }
        })?;
    }
    removed(found.iter().map(|(topic, names)| netfilter.order(*topic, names)))
}

/// How many of these were removed. One that is gone already was not, and one that a device forwards by itself (`EBUSY`) is told of at the end.
fn removed(outcomes: impl IntoIterator<Item = io::Result<()>>) -> io::Result<usize> {
    let (mut removed, mut busy) = (0, None);
    for outcome in outcomes {
        let Err(error) = outcome else {
            removed += 1;
            continue;
        };
        match error.raw_os_error() {
            Some(libc::ENOENT) => {}
            Some(libc::EBUSY) => busy = Some(error),
            _ => return Err(error),
        }
    }
    busy.map_or(Ok(removed), Err)
}

/// The attributes that name an entry: its original tuple, its zone and its number.
fn names(entry: &[u8]) -> Vec<u8> {
    let mut names = Vec::new();
    for attribute in attributes(entry).filter(|attribute| matches!(attribute.kind, TUPLE_ORIG | ZONE | ID)) {
        names.extend(attribute.whole);
        names.resize(names.len().next_multiple_of(4), 0);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netfilter::attribute;

    const NESTED: u16 = 0x8000;
    const UDP: u8 = 17;

    fn tuple(kind: u16, source: ([u8; 4], u16), destination: ([u8; 4], u16)) -> Vec<u8> {
        let ips = [attribute(1, &source.0), attribute(2, &destination.0)].concat();
        let ports = [attribute(2, &source.1.to_be_bytes()), attribute(3, &destination.1.to_be_bytes())].concat();
        let protocol = [attribute(1, &[UDP]), ports].concat();
        attribute(kind | NESTED, &[attribute(TUPLE_IP | NESTED, &ips), attribute(TUPLE_PROTO | NESTED, &protocol)].concat())
    }

    #[test]
    fn an_entry_has_the_ends_of_both_its_tuples_and_is_named_by_the_first() {
        // Somebody asked a Service, and was translated to a pod.
        let original = tuple(TUPLE_ORIG, ([10, 244, 0, 6], 4000), ([10, 96, 0, 9], 53));
        let reply = tuple(TUPLE_REPLY, ([10, 244, 0, 5], 1053), ([192, 0, 2, 1], 61_000));
        let told = [original.clone(), reply, attribute(3, &[0, 0, 0, 1]), attribute(ZONE, &[0, 7]), attribute(ID, &[1, 2, 3, 4])].concat();
        let end = |text: &str| text.parse::<SocketAddr>().expect("an end");
        let entry = Entry::read(&told).expect("an entry");
        assert_eq!(entry.original, Tuple { protocol: UDP, source: end("10.244.0.6:4000"), destination: end("10.96.0.9:53") });
        assert_eq!(entry.reply, Tuple { protocol: UDP, source: end("10.244.0.5:1053"), destination: end("192.0.2.1:61000") });
        assert_eq!(entry.ends().map(|ip| ip.to_string()), ["10.244.0.6", "10.96.0.9", "10.244.0.5", "192.0.2.1"]);
        assert_eq!(names(&told), [original, attribute(ZONE, &[0, 7]), attribute(ID, &[1, 2, 3, 4])].concat());
    }

    #[test]
    fn an_entry_that_cannot_go_keeps_none_of_the_others() {
        let told = |codes: [i32; 3]| {
            let (mut tried, outcome) = (0, |code: i32| if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) });
            let told = removed(codes.into_iter().map(outcome).inspect(|_| tried += 1));
            (told.map_err(|error| error.raw_os_error()), tried)
        };
        assert_eq!(told([0, libc::ENOENT, 0]), (Ok(2), 3));
        assert_eq!(told([libc::EBUSY, 0, 0]), (Err(Some(libc::EBUSY)), 3));
        assert_eq!(told([libc::EPERM, 0, 0]), (Err(Some(libc::EPERM)), 1), "nor will it take the others");
    }

    #[test]
    fn protocols_without_ports_have_none_and_half_an_entry_is_none() {
        let ips = [attribute(3, &[0xfd; 16]), attribute(4, &[0xfe; 16])].concat();
        let protocol = attribute(1, &[58]);
        let of = |kind: u16| attribute(kind | NESTED, &[attribute(TUPLE_IP | NESTED, &ips), attribute(TUPLE_PROTO | NESTED, &protocol)].concat());
        let entry = Entry::read(&[of(TUPLE_ORIG), of(TUPLE_REPLY)].concat()).expect("an entry");
        assert_eq!((entry.original.protocol, entry.original.source.port()), (58, 0));
        assert!(entry.original.source.ip().is_ipv6());
        assert_eq!(Entry::read(&of(TUPLE_ORIG)), None);
    }
}
