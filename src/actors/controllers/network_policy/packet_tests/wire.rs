//! Packets of both families that are put on a wire as they are, and those that arrive at its ends.

use std::{
    net::{IpAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, recvfrom, sendto, socket},
};
use troupe_net::iptables::Family;

use crate::rules::simulate::Packet;

/// An end of the wire, where packets are sent and arrive.
pub struct Wire {
    sending: OwnedFd,
    sending_v6: OwnedFd,
    arriving: OwnedFd,
}

/// What arrives at an end, of those that this module makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The packet with this number, with the addresses and the port that it has now.
    Packet { number: u16, source: IpAddr, destination: IpAddr, port: Option<u16> },
    /// Word to its sender that nobody takes it.
    Refusal { number: u16 },
}

/// Frames that are for this end and nobody else (`PACKET_HOST`).
const TO_THIS_END: u8 = 0;
/// Packets leave from the port behind this one by their number.
const FIRST_PORT: u16 = 1024;
/// Nobody asks what became of it.
const NO_NUMBER: u16 = u16::MAX;
/// The highest number of a packet.
pub const LAST_NUMBER: u16 = u16::MAX - FIRST_PORT - 1;

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
const SYN: u8 = 2;
const RST: u8 = 4;
const INIT: u8 = 1;

/// The ICMP of a family: its number, and those of two of its messages (RFC 792, RFC 4443).
struct Icmp {
    protocol: u8,
    echo: u8,
    unreachable: u8,
}

const fn icmp(family: Family) -> Icmp {
    match family {
        Family::V4 => Icmp { protocol: 1, echo: 8, unreachable: 3 },
        Family::V6 => Icmp { protocol: 58, echo: 128, unreachable: 1 },
    }
}

impl Wire {
    /// The end in this network namespace.
    pub fn open() -> Self {
        let raw = |family| socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw).expect("root may open it");
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let arriving = socket(AddressFamily::Packet, SockType::Datagram, flags, SockProtocol::EthAll).expect("root may open it");
        Wire { sending: raw(AddressFamily::Inet), sending_v6: raw(AddressFamily::Inet6), arriving }
    }

    /// Sends a packet that is known again by its number.
    pub fn send(&self, packet: &Packet, number: u16) {
        self.send_from(packet, number, port_of(number));
    }

    /// Sends the first packet of the connection that the packet with a number is of. It has no number itself.
    pub fn begin(&self, packet: &Packet, number: u16) {
        self.send_from(packet, NO_NUMBER, port_of(number));
    }

    /// Sends the answer to that. It has no number itself.
    pub fn answer(&self, packet: &Packet, number: u16) {
        let back = Packet { source: packet.destination, destination: packet.source, port: Some(port_of(number)), ..packet.clone() };
        self.send_from(&back, NO_NUMBER, packet.port.unwrap_or_default());
    }

    fn send_from(&self, packet: &Packet, number: u16, source_port: u16) {
        let bytes = bytes(packet, number, source_port);
        let sent = match packet.destination {
            IpAddr::V4(ip) => sendto(self.sending.as_raw_fd(), &bytes, &SockaddrIn::from(SocketAddrV4::new(ip, 0)), MsgFlags::empty()),
            IpAddr::V6(ip) => sendto(self.sending_v6.as_raw_fd(), &bytes, &SockaddrIn6::from(SocketAddrV6::new(ip, 0, 0, 0)), MsgFlags::empty()),
        };
        sent.unwrap_or_else(|error| panic!("{packet:?}: {error}"));
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

fn port_of(number: u16) -> u16 {
    FIRST_PORT + number
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// A packet as it is sent: of IPv4 with its number as identification, to which the kernel adds length and checksum (raw(7)), of IPv6 with it
/// as flow label.
fn bytes(packet: &Packet, number: u16, source_port: u16) -> Vec<u8> {
    let (source, destination) = (octets(packet.source), octets(packet.destination));
    let (protocol, body) = body(packet, source_port);
    let length = u16::try_from(body.len()).expect("a short packet").to_be_bytes();
    let [high, low] = number.to_be_bytes();
    let header = match Family::of(packet.destination) {
        Family::V4 => vec![0x45, 0, 0, 0, high, low, 0x40, 0, 64, protocol, 0, 0],
        Family::V6 => vec![0x60, 0, high, low, length[0], length[1], protocol, 64],
    };
    [header, source, destination, body].concat()
}

/// The protocol's number, and what follows the packet's header.
fn body(packet: &Packet, source_port: u16) -> (u8, Vec<u8>) {
    let (family, from) = (Family::of(packet.destination), source_port.to_be_bytes());
    let ports = [from, packet.port.unwrap_or_default().to_be_bytes()].concat();
    let icmp = icmp(family);
    // And where its checksum is.
    let (protocol, mut body, at) = match packet.protocol.as_str() {
        // SYN (RFC 9293).
        "tcp" => (TCP, [&ports[..], &[0, 0, 0, 1, 0, 0, 0, 0, 0x50, SYN, 0xff, 0xff, 0, 0, 0, 0]].concat(), 16),
        "udp" => (UDP, [&ports[..], &[0, 8, 0, 0]].concat(), 6),
        "icmp" | "ipv6-icmp" => (icmp.protocol, [&[icmp.echo, 0, 0, 0][..], &from, &[0, 1]].concat(), 2),
        "sctp" => {
            // INIT (RFC 9260). Who receives it does not look at the checksum.
            let init = [INIT, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 1];
            return (SCTP, [&ports[..], &[0; 8], &init].concat());
        }
        other => panic!("no packets of {other} are made here"),
    };
    let length = u16::try_from(body.len()).expect("a short packet").to_be_bytes();
    let addresses = [octets(packet.source), octets(packet.destination)].concat();
    let pseudo = if packet.protocol == "icmp" { Vec::new() } else { [&addresses[..], &length, &[0, protocol]].concat() };
    let sum = checksum(&[&pseudo[..], &body[..]].concat());
    body[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    (protocol, body)
}

/// The internet's checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("is folded")
}

/// What a packet's header says.
struct Header {
    family: Family,
    /// In bytes.
    length: usize,
    number: u16,
    protocol: u8,
    source: IpAddr,
    destination: IpAddr,
}

fn number_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

impl Header {
    fn read(bytes: &[u8]) -> Option<Self> {
        let v4 = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?));
        let v6 = |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok()?));
        match *bytes.first()? {
            // With options it is none of these.
            0x45 => Some(Header {
                family: Family::V4,
                length: 20,
                number: number_at(bytes, 4)?,
                protocol: *bytes.get(9)?,
                source: v4(12)?,
                destination: v4(16)?,
            }),
            0x60..=0x6f => Some(Header {
                family: Family::V6,
                length: 40,
                // The kernel's own labels are longer.
                number: if bytes.get(1)? & 0xf == 0 { number_at(bytes, 2)? } else { NO_NUMBER },
                protocol: *bytes.get(6)?,
                source: v6(8)?,
                destination: v6(24)?,
            }),
            _ => None,
        }
    }
}

/// What a packet is, if it is one of these or says something of one.
fn read(bytes: &[u8]) -> Option<Arrival> {
    let Header { family, length, number, protocol, source, destination } = Header::read(bytes)?;
    let (body, icmp) = (bytes.get(length..)?, icmp(family));
    let byte_at = |at: usize| body.get(at).copied();
    let port = number_at(body, 2);
    let (is_packet, port) = match protocol {
        TCP if byte_at(13)? & RST != 0 => return Some(Arrival::Refusal { number: port?.checked_sub(FIRST_PORT)? }),
        TCP => (byte_at(13)? == SYN, port),
        UDP => (true, port),
        SCTP => (byte_at(12)? == INIT, port),
        // What is refused follows.
        _ if protocol == icmp.protocol && byte_at(0)? == icmp.unreachable => {
            return Some(Arrival::Refusal { number: Header::read(body.get(8..)?)?.number });
        }
        _ if protocol == icmp.protocol => (byte_at(0)? == icmp.echo, None),
        _ => return None,
    };
    is_packet.then_some(Arrival::Packet { number, source, destination, port })
}

#[test]
fn what_is_sent_is_read_again() {
    let ip = |text: &str| text.parse().expect("an address");
    for (source, destination, echo) in [("10.244.0.1", "10.244.1.2", "icmp"), ("fd00:10:244::1", "fd00:10:244:1::2", "ipv6-icmp")] {
        let (source, destination): (IpAddr, IpAddr) = (ip(source), ip(destination));
        let packet = |protocol: &str, port| Packet { source, destination, protocol: protocol.into(), port, established: false };
        for (protocol, port) in [("tcp", Some(80)), ("udp", Some(53)), ("sctp", Some(81)), (echo, None)] {
            let sent = bytes(&packet(protocol, port), 7, port_of(7));
            assert_eq!(read(&sent), Some(Arrival::Packet { number: 7, source, destination, port }), "{protocol}");
            let (icmp, mut refusal) = (icmp(Family::of(source)), bytes(&packet(echo, None), 0, 0));
            let header = refusal.len() - 8;
            refusal[header] = icmp.unreachable;
            refusal.extend(sent);
            assert_eq!(read(&refusal), Some(Arrival::Refusal { number: 7 }), "{protocol}");
        }
        let mut reset = bytes(&packet("tcp", Some(FIRST_PORT + 9)), 0, 80);
        let flags = reset.len() - 7;
        reset[flags] = RST;
        assert_eq!(read(&reset), Some(Arrival::Refusal { number: 9 }));
    }
    assert_eq!(read(&[0x46; 60]), None);
    // The example of the RFC.
    assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
}
