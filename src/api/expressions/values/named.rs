//! Values of libraries: quantities, addresses, versions and the like.

use std::{cmp::Ordering, net::IpAddr};

use crate::expressions::{
    permissions::{Answer, Inquiry},
    url::Url,
};

/// A value of a type that a library has.
#[derive(Clone, Debug)]
pub enum Named {
    /// In billionths.
    Quantity(i128),
    Url(Url),
    Ip(IpAddr),
    /// An address and how many of its bits count.
    Cidr(IpAddr, u8),
    Semver(Version),
    Format(&'static Format),
    /// Somebody whose permissions can be asked for.
    Authorizer(Inquiry),
    PathCheck(Inquiry),
    GroupCheck(Inquiry),
    ResourceCheck(Inquiry),
    Decision(Answer),
}

/// A format of texts that has a name.
#[derive(Debug)]
pub struct Format {
    pub name: &'static str,
    /// What is wrong with a text.
    pub check: fn(&str) -> Vec<String>,
    /// How long its pattern is, for costs.
    pub pattern_length: u64,
}

/// A semantic version (<https://semver.org>).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub major: u64,
    pub minor: u64,
    pub patch: u64,
    pub pre: Vec<String>,
}

impl Named {
    pub fn type_name(&self) -> &'static str {
        match self {
            Named::Quantity(_) => "kubernetes.Quantity",
            Named::Url(_) => "kubernetes.URL",
            Named::Ip(_) => "net.IP",
            Named::Cidr(..) => "net.CIDR",
            Named::Semver(_) => "kubernetes.Semver",
            Named::Format(_) => "kubernetes.NamedFormat",
            Named::Authorizer(_) => "kubernetes.authorization.Authorizer",
            Named::PathCheck(_) => "kubernetes.authorization.PathCheck",
            Named::GroupCheck(_) => "kubernetes.authorization.GroupCheck",
            Named::ResourceCheck(_) => "kubernetes.authorization.ResourceCheck",
            Named::Decision(_) => "kubernetes.authorization.Decision",
        }
    }

    /// In bytes, of addresses.
    pub fn size(&self) -> u64 {
        match self {
            Named::Ip(IpAddr::V4(_)) => 4,
            Named::Ip(IpAddr::V6(_)) => 16,
            Named::Cidr(_, bits) => u64::from(bits.div_ceil(8)),
            _ => 1,
        }
    }
}

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Named::Quantity(a), Named::Quantity(b)) => a == b,
            (Named::Url(a), Named::Url(b)) => a.text == b.text,
            (Named::Ip(a), Named::Ip(b)) => a == b,
            (Named::Cidr(a, n), Named::Cidr(b, m)) => a == b && n == m,
            (Named::Semver(a), Named::Semver(b)) => a.cmp(b) == Ordering::Equal,
            (Named::Format(a), Named::Format(b)) => a.name == b.name,
            _ => false,
        }
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let numbers = |version: &Version| (version.major, version.minor, version.patch);
        numbers(self).cmp(&numbers(other)).then_with(|| match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            _ => pre_releases(&self.pre, &other.pre),
        })
    }
}

fn pre_releases(one: &[String], other: &[String]) -> Ordering {
    for (a, b) in one.iter().zip(other) {
        let order = match (a.parse::<u64>(), b.parse::<u64>()) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            (Ok(_), Err(_)) => Ordering::Less,
            (Err(_), Ok(_)) => Ordering::Greater,
            _ => a.cmp(b),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    one.len().cmp(&other.len())
}
