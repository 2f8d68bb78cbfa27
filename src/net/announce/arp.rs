//! Gratuitous ARP (RFC 5227): tells neighbours where an address is now.

use std::{io, net::Ipv4Addr};

use super::ethernet::{Ethernet, Hardware};

const BROADCAST: Hardware = [0xff; 6];
const ARP: u16 = 0x0806;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// Tells them, as a request and as a reply: some take only the one, some only the other.
pub fn tell(link: u32, address: Ipv4Addr) -> io::Result<()> {
    let ethernet = Ethernet::open(link, ARP)?;
    [REQUEST, REPLY].into_iter().try_for_each(|operation| ethernet.send(BROADCAST, &packet(ethernet.own(), address, operation)))
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
}
