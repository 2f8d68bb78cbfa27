//! What kind of IP address an address is, in whatever form it is written.
//!
//! An IPv6 address can stand for an IPv4 one in several ways, so `::ffff:127.0.0.1` and `64:ff9b::7f00:1` are loopback as much
//! as `127.0.0.1` is. Everybody who decides by the kind of an address asks here: validation, proxies, the service proxy, DNS.
//! The crate depends on nothing, so that the smallest program can have it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where clouds serve the credentials of machines over IPv6; over IPv4 that is a link-local address.
const METADATA: [Ipv6Addr; 2] = [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

/// What an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// No address, or one of "this network", which Linux takes for this machine.
    Unspecified,
    Loopback,
    /// Of one link only; among them are the clouds' metadata servers.
    LinkLocal,
    LinkLocalMulticast,
    Multicast,
    Broadcast,
    /// A machine, a pod, a service.
    Unicast,
}

/// The kind of an address, or of the IPv4 address that it stands for.
pub fn kind(ip: IpAddr) -> Kind {
    match ip {
        IpAddr::V4(ip) => kind_of_v4(ip),
        IpAddr::V6(ip) => match (kind_of_v6(ip), embedded(ip)) {
            (Kind::Unicast, Some(inner)) => kind_of_v4(inner),
            (kind, _) => kind,
        },
    }
}

/// Whether it may be dialled or answered on behalf of somebody else: a pod, a service or a machine has such an address.
/// What serves this machine or this link alone trusts whoever can reach it.
pub fn is_unicast(ip: IpAddr) -> bool {
    kind(ip) == Kind::Unicast
}

/// Whether an IPv6 address only writes an IPv4 one (`::ffff:10.0.0.1`).
pub fn is_mapped(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some())
}

/// The IPv4 address that an address stands for, or itself.
pub fn stands_for(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(six) => embedded(six).map_or(ip, IpAddr::V4),
        IpAddr::V4(_) => ip,
    }
}

/// The IPv4 address to which packets for an IPv6 one are translated or tunnelled.
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = ip.octets();
    let at = |start: usize| Ipv4Addr::new(octets[start], octets[start + 1], octets[start + 2], octets[start + 3]);
    match ip.segments() {
        // No address and loopback are their own.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        // IPv4-compatible, IPv4-mapped and IPv4-translated.
        [0, 0, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0, 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => Some(at(12)),
        // NAT64: the well-known prefix, and the one for local use with /96 below it.
        [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0x64, 0xff9b, 1, ..] => Some(at(12)),
        // 6to4.
        [0x2002, ..] => Some(at(2)),
        // ISATAP.
        [_, _, _, _, 0 | 0x200, 0x5efe, ..] => Some(at(12)),
        _ => None,
    }
}

fn kind_of_v4(ip: Ipv4Addr) -> Kind {
    match ip.octets() {
        [0, ..] => Kind::Unspecified,
        [127, ..] => Kind::Loopback,
        [169, 254, ..] => Kind::LinkLocal,
        [224, 0, 0, _] => Kind::LinkLocalMulticast,
        [224..=239, ..] => Kind::Multicast,
        [255, 255, 255, 255] => Kind::Broadcast,
        _ => Kind::Unicast,
    }
}

fn kind_of_v6(ip: Ipv6Addr) -> Kind {
    let first = ip.segments()[0];
    if ip.is_unspecified() {
        Kind::Unspecified
    } else if ip.is_loopback() {
        Kind::Loopback
    } else if first & 0xffc0 == 0xfe80 || METADATA.contains(&ip) {
        Kind::LinkLocal
    } else if first & 0xff0f == 0xff02 {
        Kind::LinkLocalMulticast
    } else if first & 0xff00 == 0xff00 {
        Kind::Multicast
    } else {
        Kind::Unicast
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Kind {
        kind(text.parse().expect(text))
    }

    #[test]
    fn an_address_is_of_one_kind_however_it_is_written() {
        let forms = ["{}", "::ffff:{}", "::{}", "::ffff:0:{}", "64:ff9b::{}", "64:ff9b:1::{}", "2001:db8::5efe:{}"];
        let kinds = [
            ("127.0.0.1", Kind::Loopback),
            ("127.255.0.9", Kind::Loopback),
            ("169.254.169.254", Kind::LinkLocal),
            ("0.0.0.0", Kind::Unspecified),
            ("224.0.0.251", Kind::LinkLocalMulticast),
            ("239.1.2.3", Kind::Multicast),
            ("255.255.255.255", Kind::Broadcast),
            ("10.0.0.7", Kind::Unicast),
        ];
        for (ip, kind) in kinds {
            for form in forms {
                assert_eq!(of(&form.replace("{}", ip)), kind, "{ip} as {form}");
            }
        }
        assert_eq!(of("2002:7f00:1::"), Kind::Loopback);
        assert_eq!(of("2002:a9fe:a9fe::1"), Kind::LinkLocal);
    }

    #[test]
    fn ipv6_has_its_own_kinds() {
        let kinds = [
            ("::", Kind::Unspecified),
            ("::1", Kind::Loopback),
            ("fe80::1", Kind::LinkLocal),
            ("febf::1", Kind::LinkLocal),
            ("fe80::5efe:10.0.0.7", Kind::LinkLocal),
            ("fd00:ec2::254", Kind::LinkLocal),
            ("ff02::1", Kind::LinkLocalMulticast),
            ("ff32::1", Kind::LinkLocalMulticast),
            ("ff05::2", Kind::Multicast),
            ("fd00::7", Kind::Unicast),
            ("2001:db8::7", Kind::Unicast),
        ];
        for (ip, kind) in kinds {
            assert_eq!(of(ip), kind, "{ip}");
        }
    }

    #[test]
    fn a_translated_address_stands_for_an_ipv4_one_and_others_for_themselves() {
        let meant = |text: &str| stands_for(text.parse().expect("an address")).to_string();
        for form in ["10.96.0.1", "::ffff:10.96.0.1", "64:ff9b::a60:1", "64:ff9b:1::a60:1", "2002:a60:1::", "2001:db8::5efe:a60:1"] {
            assert_eq!(meant(form), "10.96.0.1", "{form}");
        }
        for ip in ["fd00::7", "::1", "::", "2001:db8::7"] {
            assert_eq!(meant(ip), ip);
        }
    }

    #[test]
    fn only_the_mapped_form_writes_an_ipv4_address() {
        assert!(is_mapped("::ffff:10.0.0.7".parse().expect("an address")));
        assert!(!is_mapped("::10.0.0.7".parse().expect("an address")));
    }
}
