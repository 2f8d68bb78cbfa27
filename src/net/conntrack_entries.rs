//! Entries of the kernel's connection table that are about an address, over netlink (`linux/netfilter/nfnetlink_conntrack.h`).
//!
//! One walk through a family's part of the table finds them, whichever end has the address and whatever translated it; each is removed by its
//! own tuple then, which costs no walk.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::{
        socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt},
        time::TimeVal,
    },
};

use crate::iptables::Family;

/// `IPCTNL_MSG_CT_GET` and `IPCTNL_MSG_CT_DELETE` of `NFNL_SUBSYS_CTNETLINK`.
const GET: u16 = 0x101;
const DELETE: u16 = 0x102;
/// `NLM_F_REQUEST`, with `NLM_F_DUMP` or `NLM_F_ACK`.
const DUMP: u16 = 0x301;
const ACKNOWLEDGED: u16 = 0x005;
/// `NLMSG_ERROR`, which is an acknowledgement too, and `NLMSG_DONE`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// Sizes of `nlmsghdr`, and of `nfgenmsg` behind it.
const HEADER: usize = 16;
const GENERIC: usize = 4;

const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
/// `CTA_TUPLE_IP`.
const TUPLE_IP: u16 = 1;
/// Without the flags `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
const KIND: u16 = 0x3fff;

/// How long the kernel may take to answer.
const PATIENCE: TimeVal = TimeVal::new(5, 0);

/// Removes all entries from or to one of the addresses, in either direction, before or after translation. It blocks. Gives how many there were.
///
/// # Errors
/// When the kernel does not answer, or refuses.
pub(crate) fn remove(addresses: &[IpAddr]) -> io::Result<usize> {
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &PATIENCE)?;
    let mut removed = 0;
    for family in Family::ALL {
        let addresses: Vec<IpAddr> = addresses.iter().copied().filter(|ip| family.has(*ip)).collect();
        if addresses.is_empty() {
            continue;
        }
        for names in find(&socket, family, &addresses)? {
            removed += usize::from(delete(&socket, family, &names)?);
        }
    }
    Ok(removed)
}

/// The attributes that name each entry which is about one of the addresses.
fn find(socket: &OwnedFd, family: Family, addresses: &[IpAddr]) -> io::Result<Vec<Vec<u8>>> {
    tell(socket, &message(GET, DUMP, family, &[]))?;
    let (mut found, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        for (kind, body) in messages(&buffer[..length]) {
            match kind {
                DONE | ERROR => return refusal(body).map_or(Ok(found), |errno| Err(errno.into())),
                _ => found.extend(named(body, addresses)),
            }
        }
    }
}

/// False for one that is gone already.
fn delete(socket: &OwnedFd, family: Family, names: &[u8]) -> io::Result<bool> {
    tell(socket, &message(DELETE, ACKNOWLEDGED, family, names))?;
    let mut buffer = [0; 4096];
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let answer = messages(&buffer[..length]).find(|(kind, _)| *kind == ERROR);
        match answer.map(|(_, body)| refusal(body)) {
            None => {}
            Some(None) => return Ok(true),
            Some(Some(Errno::ENOENT)) => return Ok(false),
            Some(Some(errno)) => return Err(errno.into()),
        }
    }
}

fn tell(socket: &OwnedFd, message: &[u8]) -> io::Result<()> {
    send(socket.as_raw_fd(), message, MsgFlags::empty())?;
    Ok(())
}

fn message(kind: u16, flags: u16, family: Family, attributes: &[u8]) -> Vec<u8> {
    let family = match family {
        Family::V4 => libc::AF_INET,
        Family::V6 => libc::AF_INET6,
    };
    let length = u32::try_from(HEADER + GENERIC + attributes.len()).expect("an entry's names are short");
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    // The number of the message and its sender: one is under way at a time.
    message.extend([0_u8; 8]);
    // `nfgenmsg`: no version, no resource.
    message.extend([u8::try_from(family).expect("families have small numbers"), 0, 0, 0]);
    message.extend(attributes);
    message
}

/// The messages of an answer, each its kind and what comes behind its header.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
        let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
        let body = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// What the kernel refused with, if it did.
fn refusal(body: &[u8]) -> Option<Errno> {
    let code = i32::from_ne_bytes(*body.first_chunk()?);
    (code < 0).then(|| Errno::from_raw(-code))
}

struct Attribute<'a> {
    kind: u16,
    whole: &'a [u8],
    value: &'a [u8],
}

fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?) & KIND;
        let (whole, value) = (bytes.get(..length)?, bytes.get(4..length)?);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Attribute { kind, whole, value })
    })
}

/// What names an entry that is about one of the addresses: its original tuple, its zone and its number.
fn named(body: &[u8], addresses: &[IpAddr]) -> Option<Vec<u8>> {
    let body = body.get(GENERIC..)?;
    let mut tuples = attributes(body).filter(|attribute| matches!(attribute.kind, TUPLE_ORIG | TUPLE_REPLY));
    if !tuples.any(|tuple| ends(tuple.value).any(|ip| addresses.contains(&ip))) {
        return None;
    }
    let mut names = Vec::new();
    for attribute in attributes(body).filter(|attribute| matches!(attribute.kind, TUPLE_ORIG | ZONE | ID)) {
        names.extend(attribute.whole);
        names.resize(names.len().next_multiple_of(4), 0);
    }
    Some(names)
}

/// The addresses of a tuple: where it comes from and where it goes.
fn ends(tuple: &[u8]) -> impl Iterator<Item = IpAddr> {
    let ips = attributes(tuple).filter(|attribute| attribute.kind == TUPLE_IP).flat_map(|ips| attributes(ips.value));
    ips.filter_map(|ip| match ip.value.len() {
        4 => ip.value.first_chunk::<4>().map(|octets| IpAddr::from(*octets)),
        16 => ip.value.first_chunk::<16>().map(|octets| IpAddr::from(*octets)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).expect("is short");
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn tuple(kind: u16, source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
        const NESTED: u16 = 0x8000;
        let ips = [attribute(1, &source), attribute(2, &destination)].concat();
        let ports = attribute(2 | NESTED, &attribute(1, &[17]));
        attribute(kind | NESTED, &[attribute(TUPLE_IP | NESTED, &ips), ports].concat())
    }

    /// Somebody asked a Service, and was translated to a pod.
    fn entry() -> Vec<u8> {
        let original = tuple(TUPLE_ORIG, [10, 244, 0, 6], [10, 96, 0, 9]);
        let reply = tuple(TUPLE_REPLY, [10, 244, 0, 5], [192, 0, 2, 1]);
        [vec![2, 0, 0, 0], original, reply, attribute(3, &[0, 0, 0, 1]), attribute(ZONE, &[0, 7]), attribute(ID, &[1, 2, 3, 4])].concat()
    }

    #[test]
    fn an_entry_is_about_all_ends_of_both_its_tuples() {
        let about = |ip: [u8; 4]| named(&entry(), &[IpAddr::from([192, 0, 2, 99]), IpAddr::from(ip)]);
        let names = [tuple(TUPLE_ORIG, [10, 244, 0, 6], [10, 96, 0, 9]), attribute(ZONE, &[0, 7]), attribute(ID, &[1, 2, 3, 4])].concat();
        for ip in [[10, 244, 0, 6], [10, 96, 0, 9], [10, 244, 0, 5], [192, 0, 2, 1]] {
            assert_eq!(about(ip).as_ref(), Some(&names), "{ip:?}");
        }
        assert_eq!(about([10, 244, 0, 7]), None);
    }

    #[test]
    fn answers_are_read_message_by_message_and_broken_ones_end_them() {
        let mut answer = message(GET, 0, Family::V4, &attribute(ZONE, &[0, 7]));
        let refused = [20_u32.to_ne_bytes().to_vec(), ERROR.to_ne_bytes().to_vec(), vec![0; 10], (-libc::EPERM).to_ne_bytes().to_vec()].concat();
        answer.extend(&refused);
        let read: Vec<_> = messages(&answer).collect();
        assert_eq!(read.iter().map(|(kind, body)| (*kind, body.len())).collect::<Vec<_>>(), [(GET, 12), (ERROR, 4)]);
        assert_eq!(refusal(read[1].1), Some(Errno::EPERM));
        assert_eq!(refusal(&0_i32.to_ne_bytes()), None);
        for length in [0, 3, 15, 19] {
            assert_eq!(messages(&refused[..length]).count(), 0, "{length}");
        }
        // A length that would lead nowhere.
        assert_eq!(attributes(&[0; 8]).count(), 0);
    }
}
