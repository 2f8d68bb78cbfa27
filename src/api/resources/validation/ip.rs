//! IP addresses and ranges.
//!
//! Fields that are older than strict reading keep what they held before: an update names those values as [`Known`].

use std::{collections::HashSet, net::IpAddr};

use serde_json::Value;
use troupe_addresses::{Kind, is_mapped, kind};

use super::{
    Field,
    address::{address, canonical, parse},
};
use crate::status::FieldError;

const NO_RANGE: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// Addresses or ranges that the object had before, which may stay whatever is said of them today.
#[derive(Debug, Default)]
pub struct Known<'a>(HashSet<&'a str>);

impl<'a> Known<'a> {
    pub fn new(texts: impl IntoIterator<Item = &'a str>) -> Self {
        Known(texts.into_iter().collect())
    }

    /// The texts of lists.
    pub fn of_lists(lists: impl IntoIterator<Item = &'a [Value]>) -> Self {
        Known::new(lists.into_iter().flatten().filter_map(Value::as_str))
    }
}

/// An address that the object may have had before. Says whether it is good.
pub fn address_or_known(errors: &mut Vec<FieldError>, field: &Field<'_>, known: &Known<'_>) -> bool {
    known.0.contains(field.text()) || address(errors, &field.to_string(), field.text()).is_some()
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// As it was written, bits beyond the prefix and all.
    address: IpAddr,
    length: u8,
}

impl Range {
    /// Reads a range as the oldest clients could write it.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        let address = parse(address)?;
        if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let length = format!("0{}", length.trim_start_matches('0')).parse().ok()?;
        (length <= bits(address)).then_some(Range { address, length })
    }

    pub fn is_ipv6(self) -> bool {
        self.address.is_ipv6()
    }

    /// As everybody writes it, with nothing beyond the prefix.
    pub fn canonical(self) -> String {
        format!("{}/{}", self.first(), self.length)
    }

    /// The range of its one address, where it was written with bits beyond the prefix.
    pub fn single(self) -> Option<String> {
        (self.first() != self.address).then(|| format!("{}/{}", self.address, bits(self.address)))
    }

    fn first(self) -> IpAddr {
        match self.address {
            IpAddr::V4(ip) => IpAddr::V4((ip.to_bits() & mask(32, self.length) as u32).into()),
            IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() & mask(128, self.length)).into()),
        }
    }

    /// Whether it has addresses that no pod and no machine can have: of this machine or link alone, or of many at once.
    pub fn is_special(self) -> bool {
        let special = ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "::/127", "fe80::/10", "ff00::/8"];
        special.iter().filter_map(|text| Range::parse(text)).any(|other| self == other || self.is_wider(other) || other.is_wider(self))
    }

    /// Whether it holds the other and more.
    pub fn is_wider(self, other: Range) -> bool {
        let start = Range { address: other.first(), length: self.length };
        self.is_ipv6() == other.is_ipv6() && self.length < other.length && start.first() == self.first()
    }
}

/// How many bits an address has.
fn bits(ip: IpAddr) -> u8 {
    if ip.is_ipv6() { 128 } else { 32 }
}

/// The first `length` of so many bits.
fn mask(bits: u32, length: u8) -> u128 {
    let free = bits - u32::from(length);
    let all = u128::MAX >> (128 - bits);
    all.checked_shr(free).map_or(0, |kept| kept << free)
}

/// Whether a range is written without leading zeros.
fn is_plain(text: &str) -> bool {
    let parts = text.split_once('/');
    parts.is_some_and(|(address, length)| address.parse::<IpAddr>().is_ok() && (length == "0" || !length.starts_with('0')))
}

/// Whether everybody reads the addresses of a range alike.
pub fn is_strict_range(text: &str) -> bool {
    is_plain(text) && Range::parse(text).is_some_and(|range| !is_mapped(range.address))
}

/// A range that cannot be read, or that not everybody reads alike.
pub fn range(errors: &mut Vec<FieldError>, field: &str, text: &str) -> bool {
    let detail = match Range::parse(text) {
        None => NO_RANGE,
        Some(_) if !is_plain(text) => "must not have leading 0s in IP or prefix length",
        Some(range) if is_mapped(range.address) => "must not have an IPv4-mapped IPv6 address",
        Some(range) if range.first() != range.address => "must not have bits set beyond the prefix length",
        Some(_) => return true,
    };
    errors.push(FieldError::invalid(field, text, detail));
    false
}

/// A range that the object may have had before.
pub fn range_or_known(errors: &mut Vec<FieldError>, field: &Field<'_>, text: &str, known: &Known<'_>) {
    if !known.0.contains(text) {
        range(errors, &field.to_string(), text);
    }
}

/// A range that must also be written as everybody writes it.
pub fn canonical_range(errors: &mut Vec<FieldError>, field: &Field<'_>) {
    let text = field.text();
    if !range(errors, &field.to_string(), text) {
        return;
    }
    let Some(canonical) = Range::parse(text).map(Range::canonical) else { return };
    if canonical != text {
        errors.push(field.invalid(format!("must be in canonical form (\"{canonical}\")")));
    }
}

/// The address of an endpoint in a slice of one family.
pub fn endpoint_of_family(errors: &mut Vec<FieldError>, list: &Field<'_>, index: usize, v6: bool) {
    let field = list.index(index);
    let (path, text) = (field.to_string(), field.text());
    let read = if v6 { canonical } else { address };
    let Some(ip) = read(errors, &path, text) else { return };
    if ip.is_ipv6() != v6 {
        let family = if v6 { "IPv6" } else { "IPv4" };
        errors.push(list.invalid_as(text, format!("must be an {family} address")));
    }
    endpoint(errors, &path, text);
}

/// What an address may not be for a pod or a machine to have it, whatever form it is written in.
pub fn endpoint(errors: &mut Vec<FieldError>, field: &str, text: &str) {
    let detail = match parse(text).map(kind) {
        None => "must be a valid IP address".to_owned(),
        Some(Kind::Unspecified) => format!("may not be unspecified ({text})"),
        Some(Kind::Loopback) => "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned(),
        Some(Kind::LinkLocal) => "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned(),
        Some(Kind::LinkLocalMulticast) => "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned(),
        Some(Kind::Multicast | Kind::Broadcast | Kind::Unicast) => return,
    };
    errors.push(FieldError::invalid(field, text, detail));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn details(check: impl Fn(&mut Vec<FieldError>)) -> Vec<String> {
        let mut errors = Vec::new();
        check(&mut errors);
        errors.into_iter().map(|error| format!("{}: {}", error.field, error.detail)).collect()
    }

    fn judged<T>(rule: fn(&mut Vec<FieldError>, &str, &str) -> T, text: &str) -> String {
        let mut errors = Vec::new();
        rule(&mut errors, "f", text);
        errors.into_iter().map(|error| format!("{}: {}", error.field, error.detail)).collect()
    }

    #[test]
    fn an_address_that_not_everybody_reads_alike_is_none() {
        let cases = [
            ("10.0.0.1", ""),
            ("fd00::1", ""),
            ("::ffff:127.0.0.1", "f: must not be an IPv4-mapped IPv6 address"),
            ("010.0.0.1", "f: must not have leading 0s"),
            ("::ffff:010.0.0.1", "f: must not have leading 0s"),
            ("10.0.0.256", "f: must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
            ("10.0.0.1 -j ACCEPT", "f: must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
            ("fe80::1%eth0", "f: must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
            ("10.0..1", "f: must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
            ("", "f: must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
        ];
        for (text, detail) in cases {
            assert_eq!(judged(address, text), detail, "{text}");
        }
    }

    #[test]
    fn no_form_of_a_special_address_is_an_endpoint() {
        let loopback = "f: may not be in the loopback range (127.0.0.0/8, ::1/128)";
        let link = "f: may not be in the link-local range (169.254.0.0/16, fe80::/10)";
        let cases = [
            ("127.0.0.1", loopback),
            ("127.0.0.01", loopback),
            ("::1", loopback),
            ("::127.0.0.1", loopback),
            ("::ffff:127.0.0.1", loopback),
            ("64:ff9b::7f00:1", loopback),
            ("169.254.169.254", link),
            ("2002:a9fe:a9fe::", link),
            ("fe80::1", link),
            ("0.0.0.0", "f: may not be unspecified (0.0.0.0)"),
            ("224.0.0.1", "f: may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
            ("10.0.0.1\n", "f: must be a valid IP address"),
        ];
        for (ip, detail) in cases {
            assert_eq!(details(|errors| endpoint(errors, "f", ip)), [detail], "{ip}");
        }
        assert!(details(|errors| endpoint(errors, "f", "10.0.0.1")).is_empty());
    }

    #[test]
    fn slices_hold_one_family_in_canonical_form() {
        let of = |text: &str, v6| {
            let value = json!([text]);
            details(|errors| endpoint_of_family(errors, &Field::root("a", &value), 0, v6))
        };
        assert_eq!(of("fd00:0:0::1", true), ["a[0]: must be in canonical form (\"fd00::1\")"]);
        assert_eq!(of("fd00::1", false), ["a: must be an IPv4 address"]);
        assert_eq!(of("10.0.0.1", true), ["a: must be an IPv6 address"]);
        assert!(of("fd00::1", true).is_empty() && of("10.0.0.1", false).is_empty());
    }

    #[test]
    fn a_range_that_not_everybody_reads_alike_is_none() {
        let none = "f: must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
        let zeros = "f: must not have leading 0s in IP or prefix length";
        let cases = [
            ("10.0.0.0/8", ""),
            ("0.0.0.0/0", ""),
            ("fd00::/64", ""),
            ("10.0.0.1/32", ""),
            ("10.0.0.0", none),
            ("10.0.0.0/33", none),
            ("10.0.0.0/+8", none),
            ("10.0.0.0/8 -j ACCEPT", none),
            ("fd00::/129", none),
            ("10.0.0.0/", none),
            ("010.0.0.0/8", zeros),
            ("10.0.0.0/08", zeros),
            ("::ffff:10.0.0.0/104", "f: must not have an IPv4-mapped IPv6 address"),
            ("10.1.0.0/8", "f: must not have bits set beyond the prefix length"),
        ];
        for (text, detail) in cases {
            assert_eq!(judged(range, text), detail, "{text}");
        }
        let value = json!("fd00:0::/64");
        assert_eq!(details(|errors| canonical_range(errors, &Field::root("f", &value))), ["f: must be in canonical form (\"fd00::/64\")"]);
    }

    #[test]
    fn no_range_of_pods_touches_special_addresses() {
        let is_special = |text: &str| Range::parse(text).expect("a range").is_special();
        for text in
            ["0.0.0.0/0", "0.0.0.0/8", "126.0.0.0/7", "127.0.0.0/16", "169.254.1.0/24", "224.0.0.0/24", "::/0", "::1/128", "fe80::/64", "ff02::/16"]
        {
            assert!(is_special(text), "{text}");
        }
        assert!(!is_special("10.244.0.0/24") && !is_special("192.0.0.0/3") && !is_special("fd00::/64") && !is_special("1.0.0.0/8"));
    }

    #[test]
    fn a_wider_range_holds_another_and_more() {
        let wider = |one: &str, other: &str| Range::parse(one).expect("a range").is_wider(Range::parse(other).expect("a range"));
        assert!(wider("10.0.0.0/8", "10.1.0.0/16") && wider("0.0.0.0/0", "10.0.0.0/8") && wider("fd00::/8", "fd00:1::/64"));
        assert!(!wider("10.0.0.0/8", "10.0.0.0/8") && !wider("10.0.0.0/16", "10.1.0.0/24") && !wider("0.0.0.0/0", "::/1"));
    }
}
