//! Formats of texts in schemas: those that upstream knows (`apiextensions-apiserver/pkg/apiserver/validation/formats.go`). Others say nothing.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::LazyLock,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use regex::Regex;

use crate::meta::names;

/// Whether a text is of a format.
pub type Format = fn(&str) -> bool;

const DURATION_UNITS: [&str; 22] = [
    "ns", "nano", "nanos", "us", "µs", "μs", "micro", "ms", "milli", "s", "sec", "m", "min", "h", "hr", "hour", "d", "day", "days", "w", "wk", "week",
];

/// The format of that name, hyphens left out; `None` where nothing is checked.
pub fn format(name: &str) -> Option<Format> {
    let check: Format = match &*name.replace('-', "") {
        "bsonobjectid" => |text| text.len() == 24 && is_hex(text),
        "uri" => is_uri,
        "email" => is_email,
        "hostname" => is_hostname,
        "ipv4" => |text| text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => |text| text.contains(':') && text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => is_cidr,
        "mac" => is_mac,
        "uuid" => |text| is_uuid(text, None),
        "uuid3" => |text| is_uuid(text, Some('3')),
        "uuid4" => |text| is_uuid(text, Some('4')),
        "uuid5" => |text| is_uuid(text, Some('5')),
        "isbn" => |text| is_isbn10(text) || is_isbn13(text),
        "isbn10" => is_isbn10,
        "isbn13" => is_isbn13,
        "creditcard" => is_credit_card,
        "ssn" => |text| SSN.is_match(text),
        "hexcolor" => |text| matches!(text.trim_start_matches('#').len(), 3 | 6) && is_hex(text.strip_prefix('#').unwrap_or(text)),
        "rgbcolor" => |text| RGB.is_match(text),
        "byte" => |text| STANDARD.decode(text.replace(['\r', '\n'], "")).is_ok(),
        "date" => |text| is_date(text),
        "datetime" => is_date_time,
        "duration" => is_duration,
        "k8sshortname" => |text| names::label(text, false).is_empty(),
        "k8slongname" => |text| names::subdomain(text, false).is_empty(),
        _ => return None,
    };
    Some(check)
}

static SSN: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}$").expect("a valid pattern"));
static RGB: LazyLock<Regex> = LazyLock::new(|| {
    let part = r"(0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5])";
    Regex::new(&format!(r"^rgb\(\s*{part}\s*,\s*{part}\s*,\s*{part}\s*\)$")).expect("a valid pattern")
});
static CREDIT_CARD: LazyLock<Regex> = LazyLock::new(|| {
    const CARDS: &str = r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35[0-9]{3})[0-9]{11})$";
    Regex::new(CARDS).expect("a valid pattern")
});
static HOSTNAME: LazyLock<Regex> = LazyLock::new(|| {
    const NAME: &str = r"^([a-zA-Z0-9\p{S}\p{L}]((-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?)|([a-zA-Z0-9\p{S}\p{L}](([a-zA-Z0-9\-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?)(\.)){1,}([a-zA-Z\p{L}]){2,63})$";
    Regex::new(NAME).expect("a valid pattern")
});
static DATE_TIME: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))$").expect("a valid pattern"));

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// An absolute URI or an absolute path.
fn is_uri(text: &str) -> bool {
    let clean = !text.bytes().any(|byte| byte.is_ascii_control() || byte == b' ');
    let scheme = |text: &str| text.split_once(':').is_some_and(|(scheme, rest)| is_scheme(scheme) && !rest.is_empty());
    clean && (text.starts_with('/') || scheme(text)) && is_escaped(text)
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// Every percent sign has two digits behind it.
fn is_escaped(text: &str) -> bool {
    text.split('%').skip(1).all(|part| part.len() >= 2 && part.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit))
}

fn is_email(text: &str) -> bool {
    let address = text.trim();
    let address = address.rsplit_once('<').map_or(address, |(_, inner)| inner.strip_suffix('>').unwrap_or(""));
    let Some((local, domain)) = address.rsplit_once('@') else { return false };
    let is_atom = |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || "()<>[]:;@\\,\"".contains(c));
    let dotted = |text: &str| text.split('.').all(is_atom);
    (dotted(local) || local.len() > 2 && local.starts_with('"') && local.ends_with('"')) && dotted(domain)
}

fn is_hostname(text: &str) -> bool {
    text.len() <= 255 && text.split('.').all(|label| label.len() <= 63) && HOSTNAME.is_match(text)
}

fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let is_length = |most: u8| !length.starts_with('+') && length.parse::<u8>().is_ok_and(|length| length <= most);
    address.parse::<Ipv4Addr>().is_ok() && is_length(32) || address.parse::<Ipv6Addr>().is_ok() && is_length(128)
}

/// Six, eight or twenty bytes, with colons or hyphens between them, or with dots between two at a time.
fn is_mac(text: &str) -> bool {
    let is_made_of = |separator: char, width: usize, counts: [usize; 3]| {
        let parts: Vec<&str> = text.split(separator).collect();
        counts.contains(&parts.len()) && parts.iter().all(|part| part.len() == width && is_hex(part))
    };
    is_made_of(':', 2, [6, 8, 20]) || is_made_of('-', 2, [6, 8, 20]) || is_made_of('.', 4, [3, 4, 10])
}

/// Digits in groups, of which hyphens may be left out.
fn is_uuid(text: &str, version: Option<char>) -> bool {
    let mut digits = String::with_capacity(32);
    for next in text.chars() {
        match next {
            '-' if matches!(digits.len(), 8 | 12 | 16 | 20) && !text.contains("--") => {}
            digit if digit.is_ascii_hexdigit() && digits.len() < 32 => digits.push(digit.to_ascii_lowercase()),
            _ => return false,
        }
    }
    let has = |at: usize, wanted: &str| digits[at..].starts_with(|digit: char| wanted.contains(digit));
    digits.len() == 32
        && match version {
            None => true,
            Some('3') => has(12, "3"),
            Some(version) => has(12, &version.to_string()) && has(16, "89ab"),
        }
}

fn isbn_digits(text: &str) -> Vec<u8> {
    text.bytes().filter(|byte| !b"- \n".contains(byte)).collect()
}

fn is_isbn10(text: &str) -> bool {
    let digits = isbn_digits(text);
    let value = |at: usize, byte: u8| match byte {
        b'0'..=b'9' => Some(u32::from(byte - b'0')),
        b'X' if at == 9 => Some(10),
        _ => None,
    };
    let sum: Option<u32> = digits.iter().zip(1..).enumerate().map(|(at, (byte, weight))| Some(value(at, *byte)? * weight)).sum();
    digits.len() == 10 && sum.is_some_and(|sum| sum.is_multiple_of(11))
}

fn is_isbn13(text: &str) -> bool {
    let digits = isbn_digits(text);
    let weighted =
        digits.iter().enumerate().map(|(at, byte)| byte.is_ascii_digit().then(|| u32::from(byte - b'0') * if at.is_multiple_of(2) { 1 } else { 3 }));
    let sum: Option<u32> = weighted.sum();
    digits.len() == 13 && sum.is_some_and(|sum| sum.is_multiple_of(10))
}

fn is_credit_card(text: &str) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let doubled = |at: usize, digit: u32| if at.is_multiple_of(2) { digit } else { digit * 2 / 10 + digit * 2 % 10 };
    let sum: u32 = digits.chars().rev().filter_map(|digit| digit.to_digit(10)).enumerate().map(|(at, digit)| doubled(at, digit)).sum();
    CREDIT_CARD.is_match(&digits) && sum.is_multiple_of(10)
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()
}

fn is_date_time(text: &str) -> bool {
    let lower = text.to_lowercase();
    let mut parts = lower.split('t');
    let (Some(date), Some(time)) = (parts.next(), parts.next()) else { return false };
    let Some(found) = DATE_TIME.captures(time) else { return false };
    is_date(date) && &found[1] <= "23" && &found[2] <= "59" && &found[3] <= "59"
}

/// Numbers with units, as Go and Scala write durations.
fn is_duration(text: &str) -> bool {
    let bare = text.strip_prefix(['+', '-']).unwrap_or(text);
    if bare == "0" {
        return true;
    }
    let (mut rest, mut found) = (bare, false);
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let number = rest[at..].trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let unit = number.trim_start();
        let end = unit.find(|c: char| !(c.is_ascii_alphabetic() || c == 'µ' || c == 'μ')).unwrap_or(unit.len());
        let name = unit[..end].to_lowercase();
        found |= DURATION_UNITS.contains(&&*name)
            || ["nano", "micro", "milli", "sec", "min", "hour", "day", "week"].iter().any(|long| name.starts_with(long));
        rest = &unit[end..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_take_what_upstream_takes() {
        for (name, good, bad) in [
            ("date-time", "2014-12-15T19:30:20.000Z", "2014-12-15 19:30"),
            ("date", "2006-01-02", "2006-13-02"),
            ("duration", "1h30m", "later"),
            ("duration", "22 ns", ""),
            ("duration", "3 weeks", "3 apples"),
            ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123e4567-e89b-12d3-a456"),
            ("uuid4", "123e4567e89b42d3a456426614174000", "123e4567-e89b-12d3-a456-426614174000"),
            ("ipv4", "10.0.0.1", "10.0.0.256"),
            ("ipv6", "fd00::1", "10.0.0.1"),
            ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
            ("mac", "00:00:5e:00:53:01", "00:00:5e"),
            ("email", "a.b@example.com", "a b@example.com"),
            ("uri", "https://example.com/a?b=c", "example com"),
            ("hostname", "a-b.example.com", "-a"),
            ("byte", "aGk=", "a?"),
            ("isbn", "978-0321751041", "978-0321751042"),
            ("isbn10", "0321751043", "0321751044"),
            ("hexcolor", "#FFFFFF", "#FF"),
            ("rgbcolor", "rgb(255, 0, 12)", "rgb(256,0,0)"),
            ("ssn", "111-11-1111", "1-1"),
            ("creditcard", "4111 1111 1111 1111", "4111 1111 1111 1112"),
            ("bson-objectid", "60f7b0c1e4b0a1b2c3d4e5f6", "60f7"),
            ("k8s-short-name", "a-b", "A"),
        ] {
            let format = format(name).expect(name);
            assert!(format(good), "{name} {good}");
            assert!(!format(bad), "{name} {bad}");
        }
        assert!(format("secret").is_none());
    }
}
