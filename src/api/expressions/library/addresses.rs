//! IP addresses and ranges of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Context, Row};
use crate::expressions::{
    meter::Fault,
    values::{Named, Val, no_overload},
};

pub(super) const FUNCTIONS: &[Row] = &[
    ("ip", to_ip, &[("string_to_ip", "(string) -> ip"), ("cidr_ip", "cidr.() -> ip")]),
    ("isIP", is_ip, &[("is_ip", "(string) -> bool")]),
    ("ip.isCanonical", is_canonical, &[("ip_is_canonical", "(string) -> bool")]),
    ("family", family, &[("ip_family", "ip.() -> int")]),
    ("isUnspecified", is_unspecified, &[("ip_is_unspecified", "ip.() -> bool")]),
    ("isLoopback", is_loopback, &[("ip_is_loopback", "ip.() -> bool")]),
    ("isLinkLocalMulticast", is_link_local_multicast, &[("ip_is_link_local_multicast", "ip.() -> bool")]),
    ("isLinkLocalUnicast", is_link_local_unicast, &[("ip_is_link_local_unicast", "ip.() -> bool")]),
    ("isGlobalUnicast", is_global_unicast, &[("ip_is_global_unicast", "ip.() -> bool")]),
    ("cidr", to_cidr, &[("string_to_cidr", "(string) -> cidr")]),
    ("isCIDR", is_cidr, &[("is_cidr", "(string) -> bool")]),
    ("containsIP", contains_ip, &[("cidr_contains_ip_string", "cidr.(string) -> bool"), ("cidr_contains_ip_ip", "cidr.(ip) -> bool")]),
    ("containsCIDR", contains_cidr, &[("cidr_contains_cidr_string", "cidr.(string) -> bool"), ("cidr_contains_cidr", "cidr.(cidr) -> bool")]),
    ("prefixLength", prefix_length, &[("cidr_prefix_length", "cidr.() -> int")]),
    ("masked", masked, &[("cidr_masked", "cidr.() -> cidr")]),
];

type Ran<'a> = Result<Val<'a>, Fault>;

/// An address without a zone, that is no IPv4 address in an IPv6 one.
fn address(text: &str) -> Result<IpAddr, Fault> {
    if text.contains(':') && text.contains('%') {
        return Err(Fault::error(format!("IP address {text:?} with zone value is not allowed")));
    }
    let found: IpAddr = text.parse().map_err(|_| {
        Fault::error(format!("IP Address {text:?} parse error during conversion from string: ParseAddr({text:?}): unable to parse IP"))
    })?;
    mapped(found, text)?;
    Ok(found)
}

fn mapped(found: IpAddr, text: &str) -> Result<(), Fault> {
    match found {
        IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => Err(Fault::error(format!("IPv4-mapped IPv6 address {text:?} is not allowed"))),
        _ => Ok(()),
    }
}

fn range(text: &str) -> Result<(IpAddr, u8), Fault> {
    let fault = || Fault::error(format!("network address parse error during conversion from string: netip.ParsePrefix({text:?}): invalid"));
    let (address, bits) = text.split_once('/').ok_or_else(fault)?;
    let found: IpAddr = address.parse().map_err(|_| fault())?;
    let most = if found.is_ipv4() { 32 } else { 128 };
    let is_plain = bits.bytes().all(|byte| byte.is_ascii_digit()) && (bits == "0" || !bits.starts_with('0'));
    let bits: u8 = bits.parse().ok().filter(|bits| is_plain && *bits <= most).ok_or_else(fault)?;
    mapped(found, text)?;
    Ok((found, bits))
}

/// The address with all but its first bits cleared.
fn mask(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0))),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0))),
    }
}

fn text<'b>(args: &'b [Val<'_>]) -> Result<&'b str, Fault> {
    match args {
        [Val::String(text)] => Ok(text),
        _ => Err(no_overload()),
    }
}

fn to_ip<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    if let [Val::Named(named)] = args
        && let Named::Cidr(address, _) = **named
    {
        return Ok(Val::named(Named::Ip(address)));
    }
    address(text(args)?).map(|address| Val::named(Named::Ip(address)))
}

fn is_ip<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    text(args).map(|text| Val::Bool(address(text).is_ok()))
}

fn is_canonical<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    let text = text(args)?;
    Ok(Val::Bool(address(text)?.to_string() == text))
}

fn ip(value: Option<&Val<'_>>) -> Result<IpAddr, Fault> {
    match value {
        Some(Val::Named(named)) => match **named {
            Named::Ip(address) => Ok(address),
            _ => Err(no_overload()),
        },
        Some(Val::String(text)) => address(text),
        _ => Err(no_overload()),
    }
}

fn cidr(value: Option<&Val<'_>>) -> Result<(IpAddr, u8), Fault> {
    match value {
        Some(Val::Named(named)) => match **named {
            Named::Cidr(address, bits) => Ok((address, bits)),
            _ => Err(no_overload()),
        },
        Some(Val::String(text)) => range(text),
        _ => Err(no_overload()),
    }
}

fn family<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    ip(args.first()).map(|address| Val::Int(if address.is_ipv4() { 4 } else { 6 }))
}

fn is_unspecified<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    ip(args.first()).map(|address| Val::Bool(address.is_unspecified()))
}

fn is_loopback<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    ip(args.first()).map(|address| Val::Bool(address.is_loopback()))
}

fn link_local_multicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[..3] == [224, 0, 0],
        IpAddr::V6(address) => address.segments()[0] & 0xff0f == 0xff02,
    }
}

fn link_local_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn is_link_local_multicast<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    ip(args.first()).map(|address| Val::Bool(link_local_multicast(address)))
}

fn is_link_local_unicast<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    ip(args.first()).map(|address| Val::Bool(link_local_unicast(address)))
}

/// As Go's `net/netip` has it: private addresses are, too.
fn is_global_unicast<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    let address = ip(args.first())?;
    let is_broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    let special = is_broadcast || address.is_unspecified() || address.is_loopback() || address.is_multicast() || link_local_unicast(address);
    Ok(Val::Bool(!special))
}

fn to_cidr<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    range(text(args)?).map(|(address, bits)| Val::named(Named::Cidr(address, bits)))
}

fn is_cidr<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    text(args).map(|text| Val::Bool(range(text).is_ok()))
}

fn contains_ip<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    let ((network, bits), address) = (cidr(args.first())?, ip(args.get(1))?);
    Ok(Val::Bool(network.is_ipv4() == address.is_ipv4() && mask(network, bits) == mask(address, bits)))
}

fn contains_cidr<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    let ((network, bits), (other, length)) = (cidr(args.first())?, cidr(args.get(1))?);
    Ok(Val::Bool(network.is_ipv4() == other.is_ipv4() && bits <= length && mask(network, bits) == mask(other, bits)))
}

fn prefix_length<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    cidr(args.first()).map(|(_, bits)| Val::Int(i64::from(bits)))
}

fn masked<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    cidr(args.first()).map(|(address, bits)| Val::named(Named::Cidr(mask(address, bits), bits)))
}
