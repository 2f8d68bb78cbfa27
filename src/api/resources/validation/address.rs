//! IP addresses, read strictly.

use std::net::IpAddr;

use troupe_addresses::is_mapped;

use crate::status::FieldError;

const NO_ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

/// An address as the oldest clients could write it: leading zeros say nothing.
pub fn parse(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.parse() {
        return Some(ip);
    }
    let (start, octets) = text.rsplit_once(':').map_or(("", text), |(start, octets)| (&text[..=start.len()], octets));
    let trimmed = |octet: &str| match octet.trim_start_matches('0') {
        "" if octet.is_empty() => None,
        "" => Some("0".to_owned()),
        rest => Some(rest.to_owned()),
    };
    let octets: Vec<String> = octets.split('.').map(trimmed).collect::<Option<_>>()?;
    format!("{start}{}", octets.join(".")).parse().ok().filter(|_| octets.len() == 4)
}

/// An address that cannot be read, or that not everybody reads alike: leading zeros, IPv4 written as IPv6.
pub fn address(errors: &mut Vec<FieldError>, field: &str, text: &str) -> Option<IpAddr> {
    let strict = text.parse().ok();
    match (strict, parse(text)) {
        (Some(ip), _) if is_mapped(ip) => errors.push(FieldError::invalid(field, text, "must not be an IPv4-mapped IPv6 address")),
        (None, Some(_)) => errors.push(FieldError::invalid(field, text, "must not have leading 0s")),
        (None, None) => errors.push(FieldError::invalid(field, text, NO_ADDRESS)),
        (Some(_), _) => {}
    }
    strict.filter(|ip| !is_mapped(*ip))
}

/// An IPv6 address must also be written as everybody writes it.
pub fn canonical(errors: &mut Vec<FieldError>, field: &str, text: &str) -> Option<IpAddr> {
    let ip = address(errors, field, text)?;
    if ip.to_string() != text {
        errors.push(FieldError::invalid(field, text, format!("must be in canonical form (\"{ip}\")")));
        return None;
    }
    Some(ip)
}

/// An IP address in its shortest form: the objects that record allocated addresses.
pub fn canonical_ip(name: &str, _prefix: bool) -> Vec<String> {
    let mut errors = Vec::new();
    crate::resources::validation::address::canonical(&mut errors, "", name);
    errors.into_iter().map(|error| error.detail).collect()
}
