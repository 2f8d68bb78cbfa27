//! The pool of addresses. Pure.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ipnetwork::IpNetwork;
use thiserror::Error;
use troupe_addresses::is_unicast;
use troupe_net::iptables::Family;

/// Why a text is no range.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PoolError {
    #[error("{0:?} is neither a range such as 192.0.2.0/28 nor one such as 192.0.2.10-192.0.2.20")]
    Unreadable(String),
    #[error("{0} begins with an address of one family and ends with one of the other")]
    Mixed(String),
    #[error("{0} begins behind its end")]
    Reversed(String),
    #[error("{0} has addresses that no machine may have")]
    NotUnicast(String),
}

/// Addresses of a family from one to another, both included, as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    family: Family,
    first: u128,
    last: u128,
}

/// Addresses that Services may be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    spans: Vec<Span>,
    text: String,
}

impl Pool {
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.spans.iter().any(|span| span.family == Family::of(ip) && (span.first..=span.last).contains(&number(ip)))
    }

    /// Whether there are addresses of a family.
    pub fn has(&self, family: Family) -> bool {
        self.spans.iter().any(|span| span.family == family)
    }

    /// The first address of a family that nobody has.
    pub fn first_free(&self, family: Family, taken: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        let spans = self.spans.iter().filter(|span| span.family == family);
        spans.flat_map(|span| (span.first..=span.last).map(|number| span.address(number))).find(|ip| !taken(*ip))
    }
}

impl Span {
    fn address(self, number: u128) -> IpAddr {
        match self.family {
            Family::V4 => IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX))),
            Family::V6 => IpAddr::V6(Ipv6Addr::from(number)),
        }
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Pool {
    type Err = PoolError;

    /// Ranges between commas.
    fn from_str(text: &str) -> Result<Self, PoolError> {
        let spans: Vec<Span> = text.split(',').map(|part| span(part.trim())).collect::<Result<_, _>>()?;
        Ok(Pool { spans, text: text.to_owned() })
    }
}

fn span(text: &str) -> Result<Span, PoolError> {
    let unreadable = || PoolError::Unreadable(text.to_owned());
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => {
            let address = |text: &str| text.trim().parse::<IpAddr>().map_err(|_| unreadable());
            (address(first)?, address(last)?)
        }
        None => {
            let range: IpNetwork = text.parse().map_err(|_| unreadable())?;
            (range.network(), range.broadcast())
        }
    };
    let family = Family::of(first);
    if !family.has(last) {
        return Err(PoolError::Mixed(text.to_owned()));
    }
    let mut span = Span { family, first: number(first), last: number(last) };
    // Neither a link's network and broadcast address nor its routers' (RFC 4291, section 2.6.1) are one machine's.
    if !text.contains('-') && span.last - span.first > 1 {
        span.first += 1;
        span.last -= u128::from(family == Family::V4);
    }
    if span.first > span.last {
        return Err(PoolError::Reversed(text.to_owned()));
    }
    if ![span.first, span.last].into_iter().all(|end| is_unicast(span.address(end))) {
        return Err(PoolError::NotUnicast(text.to_owned()));
    }
    Ok(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn ranges_are_read_in_both_forms_and_given_in_order() {
        let pool: Pool = "192.0.2.0/30, 198.51.100.7-198.51.100.8,2001:db8::/126,2001:db8:1::f-2001:db8:1::10".parse().expect("a pool");
        let all = |family| {
            let mut given = Vec::new();
            while let Some(ip) = pool.first_free(family, |ip| given.contains(&ip)) {
                given.push(ip);
            }
            given.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(all(Family::V4), ["192.0.2.1", "192.0.2.2", "198.51.100.7", "198.51.100.8"]);
        assert_eq!(all(Family::V6), ["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:1::f", "2001:db8:1::10"]);
        assert!(pool.contains(ip("192.0.2.2")) && !pool.contains(ip("192.0.2.3")) && pool.contains(ip("2001:db8::2")));
        let one: Pool = "203.0.113.9/32".parse().expect("a pool");
        assert_eq!(one.first_free(Family::V4, |_| false), Some(ip("203.0.113.9")));
        assert!(one.has(Family::V4) && !one.has(Family::V6));
        let most: Pool = "2001:db8::/32".parse().expect("a pool");
        assert_eq!(most.first_free(Family::V6, |ip| ip == self::ip("2001:db8::1")), Some(ip("2001:db8::2")));
    }

    #[test]
    fn what_is_no_range_is_refused_by_name() {
        let refused = |text: &str| text.parse::<Pool>().expect_err("refused").to_string();
        assert!(refused("").contains("neither") && refused("192.0.2.0/33").contains("192.0.2.0/33") && refused("a-b").contains("neither"));
        assert!(refused("192.0.2.9-192.0.2.1").contains("behind") && refused("192.0.2.9-2001:db8::1").contains("other"));
        assert!(refused("127.0.0.0/24").contains("no machine") && refused("224.0.0.0/28").contains("no machine"));
    }
}
