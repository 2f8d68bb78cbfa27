//! Unsolicited neighbour advertisements (RFC 4861, section 7.2.6): tell neighbours where an address is now.

use std::{io, net::Ipv6Addr};

use super::ethernet::{Ethernet, HEADER, Hardware};

pub const IPV6: u16 = 0x86dd;
pub const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
pub const ADVERTISEMENT: u8 = 136;
/// Whoever has another link-layer address for it takes this one.
const OVERRIDE: u8 = 0x20;
const TARGET_ADDRESS: u8 = 2;
/// Neighbours take no packet that a router passed on.
const HOP_LIMIT: u8 = 255;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_HARDWARE: Hardware = [0x33, 0x33, 0, 0, 0, 1];

/// Tells them.
pub fn tell(link: u32, address: Ipv6Addr) -> io::Result<()> {
    let ethernet = Ethernet::open(link, IPV6)?;
    ethernet.send(ALL_NODES_HARDWARE, &packet(ethernet.own(), address))
}

/// Asks who has an address, as one who has none itself (RFC 4862, section 5.4.2).
pub fn probe(ethernet: &Ethernet, address: Ipv6Addr) -> io::Result<()> {
    let [.., high, middle, low] = address.octets();
    ethernet.send([0x33, 0x33, 0xff, high, middle, low], &probing(address))
}

fn probing(address: Ipv6Addr) -> Vec<u8> {
    let [.., high, middle, low] = address.octets();
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, high, middle, low]);
    let mut message = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    message.extend(address.octets());
    packet_of(Ipv6Addr::UNSPECIFIED, group, message)
}

/// Who says in a frame that it has an address, and which.
pub fn claim(frame: &[u8]) -> Option<(Ipv6Addr, Hardware)> {
    let packet = frame.get(HEADER..HEADER + 64)?;
    let target = <[u8; 16]>::try_from(&packet[48..64]).ok()?;
    let is_told = packet[6] == ICMPV6 && packet[7] == HOP_LIMIT && packet[40] == ADVERTISEMENT;
    is_told.then_some((target.into(), frame[6..12].try_into().ok()?))
}

/// What says to all that `address` is at `own`.
fn packet(own: Hardware, address: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0];
    message.extend(address.octets());
    // An option's length counts eight bytes each.
    message.extend([TARGET_ADDRESS, 1]);
    message.extend(own);
    packet_of(address, ALL_NODES, message)
}

/// The packet of a message, whose sum it gets.
fn packet_of(from: Ipv6Addr, to: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
    let sum = checksum(from, to, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let length = u16::try_from(message.len()).expect("is short");
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([ICMPV6, HOP_LIMIT]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(message);
    packet
}

/// The sum over a message and the addresses it goes between (RFC 8200, section 8.1).
fn checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let length = u32::try_from(message.len()).expect("is short");
    let pseudo = [&from.octets()[..], &to.octets(), &length.to_be_bytes(), &[0, 0, 0, ICMPV6]].concat();
    let words = pseudo.chunks(2).chain(message.chunks(2));
    let mut sum: u32 = words.map(|word| u32::from(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("was folded")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_names_the_address_and_where_it_is() {
        let address: Ipv6Addr = "2001:db8::7".parse().expect("an address");
        let packet = packet([2, 0, 0, 0, 0, 9], address);
        assert_eq!(packet.len(), 40 + 32);
        assert_eq!(packet[4..8], [0, 32, ICMPV6, 255]);
        assert_eq!(packet[8..24], address.octets());
        assert_eq!((packet[40], packet[44]), (ADVERTISEMENT, OVERRIDE));
        assert_eq!(packet[48..64], address.octets());
        assert_eq!(packet[64..], [2, 1, 2, 0, 0, 0, 0, 9]);
        // A sum over a message with its right checksum is nothing.
        assert_eq!(checksum(address, ALL_NODES, &packet[40..]), 0);
    }

    #[test]
    fn who_has_an_address_is_asked_by_its_group_and_read_from_what_it_says() {
        let address: Ipv6Addr = "2001:db8::1:2:3".parse().expect("an address");
        let asked = probing(address);
        assert_eq!(asked[8..24], [0; 16]);
        assert_eq!(asked[24..40], "ff02::1:ff02:3".parse::<Ipv6Addr>().expect("an address").octets());
        assert_eq!(checksum(Ipv6Addr::UNSPECIFIED, "ff02::1:ff02:3".parse().expect("an address"), &asked[40..]), 0);
        let frame = |packet: Vec<u8>| [vec![0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 9, 0x86, 0xdd], packet].concat();
        assert_eq!(claim(&frame(asked)), None);
        assert_eq!(claim(&frame(packet([2, 0, 0, 0, 0, 9], address))), Some((address, [2, 0, 0, 0, 0, 9])));
    }
}
