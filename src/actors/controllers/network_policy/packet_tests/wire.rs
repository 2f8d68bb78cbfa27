//! Packets that are put on a wire as they are, and those that arrive at its ends.

use std::{
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recvfrom, sendto, socket},
};

use crate::rules::simulate::Packet;

/// An end of the wire, where packets of IPv4 are sent and arrive.
pub struct Wire {
    sending: OwnedFd,
    arriving: OwnedFd,
}

/// What arrives at an end, of those that this module makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The packet with this number, at an end with the address `destination`.
    Packet { number: u16, source: IpAddr, destination: IpAddr, port: Option<u16> },
    /// Word to its sender that nobody takes it.
    Refusal { number: u16 },
}

/// Frames that are for this end and nobody else (`PACKET_HOST`).
const TO_THIS_END: u8 = 0;
/// Packets leave from the port behind this one by their number.
const FIRST_PORT: u16 = 1024;
const HEADER: usize = 20;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

impl Wire {
    /// The end in this network namespace.
    pub fn open() -> Self {
        let sending = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw).expect("root may open it");
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let arriving = socket(AddressFamily::Packet, SockType::Datagram, flags, SockProtocol::EthAll).expect("root may open it");
        Wire { sending, arriving }
    }

    /// Sends a packet that is known again by its number.
    pub fn send(&self, packet: &Packet, number: u16) {
        self.send_from(packet, number, port_of(number));
    }

    /// Sends the answer to the packet with a number. It has no number itself.
    pub fn answer(&self, packet: &Packet, number: u16) {
        let back = Packet { source: packet.destination, destination: packet.source, port: Some(port_of(number)), ..packet.clone() };
        self.send_from(&back, NO_NUMBER, packet.port.unwrap_or_default());
    }

    /// Sends the first packet of the connection that the packet with a number is of. It has no number itself.
    pub fn begin(&self, packet: &Packet, number: u16) {
        self.send_from(packet, NO_NUMBER, port_of(number));
    }

    fn send_from(&self, packet: &Packet, number: u16, source_port: u16) {
        let [a, b, c, d] = v4(packet.destination).octets();
        let bytes = bytes(packet, number, source_port);
        sendto(self.sending.as_raw_fd(), &bytes, &SockaddrIn::new(a, b, c, d, 0), MsgFlags::empty())
            .unwrap_or_else(|error| panic!("{packet:?}: {error}"));
    }

    /// What has arrived since it was asked last.
    pub fn arrived(&self) -> Vec<Arrival> {
        let (mut buffer, mut all) = ([0; 2048], Vec::new());
        loop {
            match recvfrom::<LinkAddr>(self.arriving.as_raw_fd(), &mut buffer) {
                Ok((length, from)) if from.is_some_and(|from| from.pkttype() == TO_THIS_END) => all.extend(read(&buffer[..length])),
                Ok(_) => {}
                Err(Errno::EAGAIN) => return all,
                Err(error) => panic!("what arrives cannot be read: {error}"),
            }
        }
    }
}

/// Nobody asks what became of it.
const NO_NUMBER: u16 = u16::MAX;

/// The highest number of a packet.
pub const LAST_NUMBER: u16 = u16::MAX - FIRST_PORT - 1;

fn port_of(number: u16) -> u16 {
    FIRST_PORT + number
}

fn v4(ip: IpAddr) -> Ipv4Addr {
    match ip {
        IpAddr::V4(ip) => ip,
        IpAddr::V6(_) => panic!("{ip} is none of IPv4"),
    }
}

/// A packet as it is sent. The kernel adds length and checksum of its header (raw(7)).
fn bytes(packet: &Packet, number: u16, source_port: u16) -> Vec<u8> {
    let (source, destination) = (v4(packet.source).octets(), v4(packet.destination).octets());
    let ports = [source_port.to_be_bytes(), packet.port.unwrap_or_default().to_be_bytes()].concat();
    // The protocol's number, what follows its ports, and where its checksum is.
    let (protocol, mut body, at) = match packet.protocol.as_str() {
        // SYN (RFC 9293).
        "tcp" => (TCP, [&ports[..], &[0, 0, 0, 1, 0, 0, 0, 0, 0x50, SYN, 0xff, 0xff, 0, 0, 0, 0]].concat(), Some(16)),
        "udp" => (UDP, [&ports[..], &[0, 8, 0, 0]].concat(), Some(6)),
        // Echo (RFC 792).
        "icmp" => (ICMP, [&[ECHO, 0, 0, 0][..], &source_port.to_be_bytes(), &[0, 1]].concat(), Some(2)),
        // INIT (RFC 9260). Who receives it does not look at the checksum.
        "sctp" => (SCTP, [&ports[..], &[0; 8], &[INIT, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 1]].concat(), None),
        other => panic!("no packets of {other} are made here"),
    };
    if let Some(at) = at {
        let length = u16::try_from(body.len()).expect("a short packet").to_be_bytes();
        let pseudo = [&source[..], &destination, &[0, protocol], &length].concat();
        let sum = checksum(&if protocol == ICMP { body.clone() } else { [pseudo, body.clone()].concat() });
        body[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
    let [high, low] = number.to_be_bytes();
    [&[0x45, 0, 0, 0, high, low, 0x40, 0, 64, protocol, 0, 0][..], &source, &destination, &body].concat()
}

const SYN: u8 = 2;
const RST: u8 = 4;
const ECHO: u8 = 8;
const UNREACHABLE: u8 = 3;
const INIT: u8 = 1;

/// The internet's checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("is folded")
}

/// What a packet is, if it is one of these or says something of one.
fn read(bytes: &[u8]) -> Option<Arrival> {
    let number_at = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let byte_at = |at: usize| bytes.get(at).copied();
    let ip_at = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?));
    // Not IPv4, or with options: none of these.
    (byte_at(0)? == 0x45).then_some(())?;
    let (is_packet, port) = match byte_at(9)? {
        TCP if byte_at(HEADER + 13)? & RST != 0 => {
            let number = number_at(HEADER + 2)?.checked_sub(FIRST_PORT)?;
            return Some(Arrival::Refusal { number });
        }
        // The header of what is refused follows.
        ICMP if byte_at(HEADER)? == UNREACHABLE => return Some(Arrival::Refusal { number: number_at(HEADER + 8 + 4)? }),
        TCP => (byte_at(HEADER + 13)? == SYN, number_at(HEADER + 2)),
        UDP => (true, number_at(HEADER + 2)),
        SCTP => (byte_at(HEADER + 12)? == INIT, number_at(HEADER + 2)),
        ICMP => (byte_at(HEADER)? == ECHO, None),
        _ => return None,
    };
    let arrival = Arrival::Packet { number: number_at(4)?, source: ip_at(12)?, destination: ip_at(16)?, port };
    is_packet.then_some(arrival)
}

#[test]
fn what_is_sent_is_read_again() {
    let ip = |text: &str| text.parse().expect("an address");
    let (source, destination) = (ip("10.244.0.1"), ip("10.244.1.2"));
    for (protocol, port) in [("tcp", Some(80)), ("udp", Some(53)), ("sctp", Some(81)), ("icmp", None)] {
        let packet = Packet { source, destination, protocol: protocol.into(), port, established: false };
        let sent = bytes(&packet, 7, port_of(7));
        assert_eq!(read(&sent), Some(Arrival::Packet { number: 7, source, destination, port }), "{protocol}");
        let refusal = [&sent[..9], &[ICMP], &sent[10..HEADER], &[UNREACHABLE, 3, 0, 0, 0, 0, 0, 0], &sent[..]].concat();
        assert_eq!(read(&refusal), Some(Arrival::Refusal { number: 7 }), "{protocol}");
    }
    // An example of the RFC.
    assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    let mut reset = bytes(&Packet { source, destination, protocol: "tcp".into(), port: Some(FIRST_PORT + 9), established: false }, 0, 80);
    reset[HEADER + 13] = RST;
    assert_eq!(read(&reset), Some(Arrival::Refusal { number: 9 }));
    assert_eq!(read(&[0x60; 40]), None);
}
