//! Addresses of network interfaces that devices give to pods.

use std::net::IpAddr;

use super::super::Field;
use crate::status::FieldError;

const NO_ADDRESS: &str = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";

/// The address of an interface with the length of its network, such as `10.9.8.7/24`, in the form everybody writes it in.
pub fn address(errors: &mut Vec<FieldError>, address: &Field<'_>) {
    let Some((ip, length)) = parse(address.text()) else {
        return errors.push(address.invalid_as(address.text(), NO_ADDRESS));
    };
    let canonical = match ip {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => format!("{}/{}", v6.to_canonical(), length - 96),
        _ => format!("{ip}/{length}"),
    };
    if address.text() != canonical {
        errors.push(address.invalid(format!("must be in canonical form ({canonical:?})")));
    }
}

/// As lenient as readers were that took leading zeros for nothing.
fn parse(text: &str) -> Option<(IpAddr, i32)> {
    let (address, length) = text.split_once('/')?;
    let ip: IpAddr = address.parse().ok().or_else(|| without_leading_zeros(address)?.parse().ok())?;
    let most = if ip.is_ipv4() { 32 } else { 128 };
    let is_number = length.bytes().all(|byte| byte.is_ascii_digit());
    let length = length.parse().ok().filter(|length| is_number && (0..=most).contains(length))?;
    Some((ip, length))
}

fn without_leading_zeros(address: &str) -> Option<String> {
    let plain = |octet: &str| octet.parse::<u8>().ok().map(|octet| octet.to_string());
    Some(address.split('.').map(plain).collect::<Option<Vec<_>>>()?.join("."))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn interfaces_have_an_address_and_the_length_of_their_network() {
        let of = |text: &str| {
            let (value, mut errors) = (Value::from(text), Vec::new());
            address(&mut errors, &Field::root("f", &value));
            errors.into_iter().map(|error| error.detail).collect::<Vec<_>>()
        };
        for good in ["10.9.8.7/24", "2001:db8::1/64", "0.0.0.0/0"] {
            assert!(of(good).is_empty(), "{good}");
        }
        for bad in ["10.9.8.7", "10.9.8.7/33", "10.9.8/24", "x/1", "10.9.8.7/+1", "10.9.8.7/24/1", "2001:db8::1/129", "10.9.8.7/"] {
            assert_eq!(of(bad), [NO_ADDRESS], "{bad}");
        }
        assert_eq!(of("010.9.8.7/24"), ["must be in canonical form (\"10.9.8.7/24\")"]);
        assert_eq!(of("2001:db8:0::1/64"), ["must be in canonical form (\"2001:db8::1/64\")"]);
        assert_eq!(of("::ffff:192.168.0.1/120"), ["must be in canonical form (\"192.168.0.1/24\")"]);
    }
}
