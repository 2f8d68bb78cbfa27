//! IP addresses and ranges.

use std::net::IpAddr;

use crate::status::FieldError;

/// An address that cannot be read.
pub fn address(errors: &mut Vec<FieldError>, field: &str, text: &str) -> Option<IpAddr> {
    let parsed = text.parse().ok();
    if parsed.is_none() {
        errors.push(FieldError::invalid(field, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"));
    }
    parsed
}

/// A range that cannot be read.
pub fn cidr(errors: &mut Vec<FieldError>, field: &str, text: &str) {
    if text.parse::<ipnetwork::IpNetwork>().is_err() || !text.contains('/') {
        errors.push(FieldError::invalid(field, text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"));
    }
}

/// An address that traffic of a service cannot go to.
pub fn endpoint(errors: &mut Vec<FieldError>, field: &str, text: &str) {
    let Some(ip) = address(errors, field, text) else { return };
    let mut add = |detail: String| errors.push(FieldError::invalid(field, text, detail));
    if ip.is_unspecified() {
        add(format!("may not be unspecified ({text})"));
    }
    if ip.is_loopback() {
        add("may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned());
    }
    if is_link_local(ip) {
        add("may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned());
    }
    if is_link_local_multicast(ip) {
        add("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned());
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

fn is_link_local_multicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[..3] == [224, 0, 0],
        IpAddr::V6(ip) => ip.segments()[0] & 0xff0f == 0xff02,
    }
}
