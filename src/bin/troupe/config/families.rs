//! Addresses and ranges by family: one of each, the one that comes first is the cluster's usual one (KEP-563).

use std::{fmt, net::IpAddr, str::FromStr};

use anyhow::{Context, Result, bail, ensure};
use ipnetwork::IpNetwork;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use troupe_net::iptables::Family;

use super::check;

/// What a family is told of.
pub trait OfFamily: Copy + fmt::Display {
    fn family(&self) -> Family;
}

impl OfFamily for IpAddr {
    fn family(&self) -> Family {
        Family::of(*self)
    }
}

impl OfFamily for IpNetwork {
    fn family(&self) -> Family {
        Family::of(self.ip())
    }
}

/// One or two of different families, written with a comma in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerFamily<T> {
    first: T,
    second: Option<T>,
}

impl<T: OfFamily> PerFamily<T> {
    /// # Errors
    /// When they are not one or two of different families.
    pub fn new(all: &[T]) -> Result<Self> {
        match all {
            [first] => Ok(PerFamily { first: *first, second: None }),
            [first, second] if first.family() != second.family() => Ok(PerFamily { first: *first, second: Some(*second) }),
            [first, second] => bail!("{first} and {second} are of the same family: name one of IPv4 and one of IPv6"),
            _ => bail!("{} are given, and there can be one of IPv4 and one of IPv6", all.len()),
        }
    }

    /// That of the usual family.
    pub fn first(&self) -> T {
        self.first
    }

    pub fn iter(&self) -> impl Iterator<Item = T> + use<T> {
        [Some(self.first), self.second].into_iter().flatten()
    }

    pub fn all(&self) -> Vec<T> {
        self.iter().collect()
    }

    pub fn of(&self, family: Family) -> Option<T> {
        self.iter().find(|one| one.family() == family)
    }

    /// In the order in which they are named.
    pub fn families(&self) -> Vec<Family> {
        self.iter().map(|one| one.family()).collect()
    }
}

impl<T: OfFamily> From<T> for PerFamily<T> {
    fn from(first: T) -> Self {
        PerFamily { first, second: None }
    }
}

impl<T: OfFamily> fmt::Display for PerFamily<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.iter().map(|one| one.to_string()).collect();
        f.write_str(&texts.join(","))
    }
}

impl<T: OfFamily + FromStr> FromStr for PerFamily<T> {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let one = |text: &str| text.trim().parse().map_err(|_| anyhow::anyhow!("{text:?} cannot be read"));
        PerFamily::new(&text.split(',').map(one).collect::<Result<Vec<T>>>()?)
    }
}

impl<T: OfFamily> Serialize for PerFamily<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, T: OfFamily + FromStr> Deserialize<'de> for PerFamily<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The address so far into a range.
pub fn nth(range: IpNetwork, number: u32) -> Option<IpAddr> {
    match range {
        IpNetwork::V4(range) => range.nth(number).map(IpAddr::V4),
        IpNetwork::V6(range) => range.nth(number.into()).map(IpAddr::V6),
    }
}

/// Ranges where none are given.
#[derive(Clone, Copy, Debug)]
pub struct Usual {
    v4: &'static str,
    v6: &'static str,
}

pub const SERVICES: Usual = Usual { v4: "10.96.0.0/16", v6: "fd00:10:96::/112" };
pub const PODS: Usual = Usual { v4: "10.244.0.0/16", v6: "fd00:10:244::/56" };

impl Usual {
    fn of(self, family: Family) -> &'static str {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }
}

/// The ranges that a cluster has, and behind them the usual one of a further family; `None` where these families do not begin with its own.
pub fn grown(known: PerFamily<IpNetwork>, families: &[Family], usual: Usual) -> Option<PerFamily<IpNetwork>> {
    if !families.starts_with(&known.families()) {
        return None;
    }
    let range = |family: &Family| known.of(*family).or_else(|| usual.of(*family).parse().ok());
    PerFamily::new(&families.iter().map(range).collect::<Option<Vec<IpNetwork>>>()?).ok()
}

/// Ranges of Services and pods: where only one is given the other has the same families.
pub fn ranges(services: Option<PerFamily<IpNetwork>>, pods: Option<PerFamily<IpNetwork>>) -> Result<(PerFamily<IpNetwork>, PerFamily<IpNetwork>)> {
    let families = services.or(pods).map_or_else(|| vec![Family::V4], |given| given.families());
    let usual = |usual: Usual| families.iter().map(|family| usual.of(*family)).collect::<Vec<_>>().join(",").parse().context("the default parses");
    let services = services.map_or_else(|| usual(SERVICES), Ok)?;
    let pods = pods.map_or_else(|| usual(PODS), Ok)?;
    ensure!(services.families() == pods.families(), "--service-cidr {services} and --pod-cidr {pods} must name the same families in the same order");
    for (services, pods) in services.iter().zip(pods.iter()) {
        check::ranges(services, pods)?;
    }
    Ok((services, pods))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn per(text: &str) -> Result<PerFamily<IpNetwork>> {
        text.parse()
    }

    #[test]
    fn one_or_two_of_different_families_are_read_and_written() {
        for text in ["10.96.0.0/16", "fd00::/112", "10.96.0.0/16,fd00::/112", "fd00::/112,10.96.0.0/16"] {
            assert_eq!(per(text).expect("reads").to_string(), text);
        }
        let why = |text| per(text).expect_err("refused").to_string();
        assert!(why("10.96.0.0/16,10.97.0.0/16").contains("same family"));
        assert!(why("10.96.0.0/16,fd00::/112,fd01::/112").contains("3 are given"));
        assert!(why("x").contains("cannot be read"));
        let both = per("fd00::/112,10.96.0.0/16").expect("reads");
        assert_eq!((both.families(), both.of(Family::V4)), (vec![Family::V6, Family::V4], "10.96.0.0/16".parse().ok()));
    }

    #[test]
    fn what_is_not_given_has_the_families_of_what_is() {
        let both = |services: &str, pods: &str| {
            let given = |text: &str| (!text.is_empty()).then(|| per(text).expect("reads"));
            ranges(given(services), given(pods)).map(|(services, pods)| format!("{services} {pods}")).map_err(|error| error.to_string())
        };
        assert_eq!(both("", "").as_deref(), Ok("10.96.0.0/16 10.244.0.0/16"));
        assert_eq!(both("fd01::/112", "").as_deref(), Ok("fd01::/112 fd00:10:244::/56"));
        assert_eq!(both("", "fd01::/56,10.1.0.0/16").as_deref(), Ok("fd00:10:96::/112,10.96.0.0/16 fd01::/56,10.1.0.0/16"));
        assert!(both("fd01::/112", "10.1.0.0/16").is_err_and(|why| why.contains("same families")));
        assert!(both("10.1.0.0/16,fd01::/112", "10.2.0.0/16,fd01::/56").is_err_and(|why| why.contains("overlap")));
        assert!(both("fd00::/32", "").is_err_and(|why| why.contains("too large")));
    }
}
