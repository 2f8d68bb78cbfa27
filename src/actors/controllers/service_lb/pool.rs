//! The pool of addresses. Pure.

use std::{collections::BTreeSet, fmt, net::Ipv4Addr, str::FromStr};

use ipnetwork::Ipv4Network;
use thiserror::Error;
use troupe_addresses::is_unicast;

/// Why a text is no range.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PoolError {
    #[error("{0:?} is neither a range such as 192.0.2.0/28 nor one such as 192.0.2.10-192.0.2.20")]
    Unreadable(String),
    #[error("{0} begins behind its end")]
    Reversed(String),
    #[error("{0} has addresses that no machine may have")]
    NotUnicast(String),
}

/// Addresses from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    first: u32,
    last: u32,
}

/// Addresses that Services may be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    spans: Vec<Span>,
    text: String,
}

impl Pool {
    pub fn contains(&self, ip: Ipv4Addr) -> bool {
        let number = u32::from(ip);
        self.spans.iter().any(|span| (span.first..=span.last).contains(&number))
    }

    /// The first address that nobody has.
    pub fn first_free(&self, taken: impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
        self.spans.iter().flat_map(|span| span.first..=span.last).map(Ipv4Addr::from).find(|ip| !taken(*ip))
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
    let span = match text.split_once('-') {
        Some((first, last)) => {
            let address = |text: &str| text.trim().parse::<Ipv4Addr>().map(u32::from).map_err(|_| unreadable());
            Span { first: address(first)?, last: address(last)? }
        }
        None => {
            let range: Ipv4Network = text.parse().map_err(|_| unreadable())?;
            let (network, broadcast) = (u32::from(range.network()), u32::from(range.broadcast()));
            // A link's network and broadcast address are no machine's.
            if range.prefix() < 31 { Span { first: network + 1, last: broadcast - 1 } } else { Span { first: network, last: broadcast } }
        }
    };
    if span.first > span.last {
        return Err(PoolError::Reversed(text.to_owned()));
    }
    let ends: BTreeSet<u32> = [span.first, span.last].into();
    if !ends.into_iter().all(|end| is_unicast(Ipv4Addr::from(end).into())) {
        return Err(PoolError::NotUnicast(text.to_owned()));
    }
    Ok(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_in_both_forms_and_given_in_order() {
        let pool: Pool = "192.0.2.0/30, 198.51.100.7-198.51.100.8".parse().expect("a pool");
        let mut given = Vec::new();
        while let Some(ip) = pool.first_free(|ip| given.contains(&ip)) {
            given.push(ip);
        }
        assert_eq!(given.iter().map(ToString::to_string).collect::<Vec<_>>(), ["192.0.2.1", "192.0.2.2", "198.51.100.7", "198.51.100.8"]);
        assert!(pool.contains([192, 0, 2, 2].into()) && !pool.contains([192, 0, 2, 3].into()));
        let one: Pool = "203.0.113.9/32".parse().expect("a pool");
        assert_eq!(one.first_free(|_| false), Some([203, 0, 113, 9].into()));
    }

    #[test]
    fn what_is_no_range_is_refused_by_name() {
        let refused = |text: &str| text.parse::<Pool>().expect_err("refused").to_string();
        assert!(refused("").contains("neither") && refused("192.0.2.0/33").contains("192.0.2.0/33") && refused("a-b").contains("neither"));
        assert!(refused("192.0.2.9-192.0.2.1").contains("behind"));
        assert!(refused("127.0.0.0/24").contains("no machine") && refused("224.0.0.0/28").contains("no machine"));
    }
}
