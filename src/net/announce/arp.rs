//! Gratuitous ARP (RFC 5227): tells neighbours where an address is now, and asks whether somebody has it.

use std::{io, net::Ipv4Addr};

use super::ethernet::{Ethernet, HEADER, Hardware};

const BROADCAST: Hardware = [0xff; 6];
pub const ARP: u16 = 0x0806;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// Tells them, as a request and as a reply: some take only the one, some only the other.
pub fn tell(link: u32, address: Ipv4Addr) -> io::Result<()> {
    let ethernet = Ethernet::open(link, ARP)?;
    [REQUEST, REPLY].into_iter().try_for_each(|operation| ethernet.send(BROADCAST, &packet(ethernet.own(), address, operation)))
}

/// Asks who has an address, as one who has none itself: nobody notes anything of it.
pub fn probe(ethernet: &Ethernet, address: Ipv4Addr) -> io::Result<()> {
    ethernet.send(BROADCAST, &probing(ethernet.own(), address))
}

fn probing(own: Hardware, address: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4];
    packet.extend(REQUEST.to_be_bytes());
    packet.extend(own);
    packet.extend([0; 4]);
    packet.extend([0; 6]);
    packet.extend(address.octets());
    packet
}

/// Who says in a frame that it has an address, and which.
pub fn claim(frame: &[u8]) -> Option<(Ipv4Addr, Hardware)> {
    let packet = frame.get(HEADER..HEADER + 28)?;
    let address = <[u8; 4]>::try_from(&packet[14..18]).ok()?;
    // One that only asks says of no address that it has it.
    (packet[..6] == [0, 1, 8, 0, 6, 4] && address != [0; 4]).then_some((address.into(), packet[8..14].try_into().ok()?))
}

/// What says to all that `address` is at `own`.
fn packet(own: Hardware, address: Ipv4Addr, operation: u16) -> Vec<u8> {
    let mut packet = Vec::with_capacity(28);
    // Ethernet and IPv4, with addresses of six and four bytes.
    packet.extend([0, 1, 8, 0, 6, 4]);
    packet.extend(operation.to_be_bytes());
    packet.extend(own);
    packet.extend(address.octets());
    packet.extend(BROADCAST);
    packet.extend(address.octets());
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_names_the_address_as_its_senders_and_its_own() {
        let packet = packet([2, 0, 0, 0, 0, 9], Ipv4Addr::new(192, 0, 2, 7), REPLY);
        assert_eq!(packet.len(), 28);
        assert_eq!(packet[6..18], [0, 2, 2, 0, 0, 0, 0, 9, 192, 0, 2, 7]);
        assert_eq!(packet[24..], [192, 0, 2, 7]);
    }

    #[test]
    fn who_only_asks_has_no_address() {
        let address = Ipv4Addr::new(192, 0, 2, 7);
        let frame = |packet: Vec<u8>| [vec![0; HEADER], packet].concat();
        assert_eq!(claim(&frame(probing([2, 0, 0, 0, 0, 9], address))), None);
        assert_eq!(claim(&frame(packet([2, 0, 0, 0, 0, 9], address, REPLY))), Some((address, [2, 0, 0, 0, 0, 9])));
        assert_eq!(claim(&[0; HEADER + 27]), None, "it is cut");
    }
}
