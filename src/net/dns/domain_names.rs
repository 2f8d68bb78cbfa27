//! Domain names that policies of the whole cluster let pods reach, and the addresses that replies give them. Pure.
//!
//! The cluster's DNS servers see what pods ask for; what they are answered for a name that a policy has goes to all nodes in EndpointSlices of
//! [`NAMESPACE`], each for the addresses of one family of one name ([`SLICE_MANAGER`]). The source of what a name means is the API's documentation
//! of ClusterNetworkPolicy (`domainNames`).

use std::{borrow::Borrow, collections::HashSet, fmt, net::IpAddr, sync::Arc};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{
        Name, RData,
        rdata::{A, AAAA},
    },
};
use troupe_addresses::{is_mapped, is_unicast};

use crate::{hash, iptables::Family};

/// Where the slices are. Nothing else is there: whoever may write them tells nodes addresses of domain names, and no more.
pub const NAMESPACE: &str = "troupe-domain-names";
/// Names the writer of a slice.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// The name of the writer of these slices.
pub const SLICE_MANAGER: &str = "dns.troupe.dev";
/// The label that names the set of peers a slice is a part of, by [`DomainName::id`].
pub const PEERS_LABEL: &str = "networkpolicy.troupe.dev/peers";
/// The annotation with the name that a slice is about.
pub const NAME_ANNOTATION: &str = "networkpolicy.troupe.dev/domain-name";
/// The annotation that says until when each address of a slice counts: a JSON object, seconds since 1970 by address.
pub const UNTIL_ANNOTATION: &str = "networkpolicy.troupe.dev/until";
/// The annotation that says who asked for what, so that all servers agree which addresses stay where there is not room for all.
pub const ASKED_ANNOTATION: &str = "networkpolicy.troupe.dev/asked";

/// Names of all policies together, of which replies are looked at; who makes more has the first in the order of the alphabet.
pub const MOST_NAMES: usize = 1024;
/// Addresses of one family that a name has at once.
pub const MOST_ADDRESSES: usize = 256;
/// And of them what one reply brings at most.
pub const MOST_OF_REPLY: usize = 32;
/// Bytes of a name (RFC 1035, section 3.1, written with dots).
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;
/// Aliases that are followed to an address, and records that are looked at: what upstream sends is anybody's.
const MOST_ALIASES: usize = 16;
const MOST_RECORDS: usize = 512;

/// A domain name as policies have it: a name, or `*.` and a name for all that are below it. In small letters, without a dot at its end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomainName(Arc<str>);

impl DomainName {
    /// `None` for what is no such name.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let name = text.strip_prefix("*.").unwrap_or(&text);
        let fits = name.len() <= LONGEST_NAME && name.contains('.') && name.split('.').all(is_label);
        fits.then(|| DomainName(text.as_str().into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the set of its addresses is known by, on every node.
    pub fn id(&self) -> String {
        hash::short(&["domain ", &self.0])
    }

    /// The name of the slice of its addresses of a family.
    pub fn slice(&self, family: Family) -> String {
        format!("{}-{}", self.id().to_ascii_lowercase(), family.name().to_ascii_lowercase())
    }
}

impl Borrow<str> for DomainName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_label(label: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=LONGEST_LABEL).contains(&label.len()) && label.bytes().all(inside) && !label.starts_with('-') && !label.ends_with('-')
}

/// Domain names, found by what somebody asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainNames(HashSet<DomainName>);

impl DomainNames {
    /// Of more than [`MOST_NAMES`] the first ones.
    pub fn new(names: impl IntoIterator<Item = DomainName>) -> Self {
        let mut names: Vec<DomainName> = names.into_iter().collect();
        names.sort();
        names.dedup();
        names.truncate(MOST_NAMES);
        DomainNames(names.into_iter().collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this very name is among them.
    pub fn has(&self, name: &DomainName) -> bool {
        self.0.contains(name)
    }

    /// Those that cover a name in small letters, without a dot at its end. One that is written with escapes is covered by none.
    pub fn of(&self, asked: &str) -> Vec<DomainName> {
        if self.0.is_empty() || asked.contains('\\') {
            return Vec::new();
        }
        let above = asked.match_indices('.').map(|(at, _)| format!("*{}", &asked[at..]));
        std::iter::once(asked.to_owned()).chain(above).filter_map(|name| self.0.get(name.as_str()).cloned()).collect()
    }
}

/// A name as [`DomainNames::of`] takes it.
pub fn asked_for(name: &Name) -> String {
    let text = name.to_lowercase().to_ascii();
    text.strip_suffix('.').unwrap_or(&text).to_owned()
}

/// The addresses that a reply gives to the name that a query asks for, over aliases if need be, with the seconds that they may be kept. What leads
/// whoever asks to itself or its link is left out.
pub fn addresses(query: &Message, reply: &Message) -> Vec<(IpAddr, u32)> {
    let ([question], [answered]) = (query.queries.as_slice(), reply.queries.as_slice()) else { return Vec::new() };
    let mut owner = question.name().to_lowercase();
    if reply.metadata.response_code != ResponseCode::NoError || answered.name().to_lowercase() != owner {
        return Vec::new();
    }
    let records: Vec<_> = reply.answers.iter().take(MOST_RECORDS).map(|record| (record.name.to_lowercase(), record)).collect();
    let mut lasts = u32::MAX;
    for _ in 0..MOST_ALIASES {
        let alias = records.iter().filter(|(name, _)| *name == owner).find_map(|(_, record)| match &record.data {
            RData::CNAME(target) => Some((target.0.to_lowercase(), record.ttl)),
            _ => None,
        });
        let Some((target, ttl)) = alias else { break };
        (owner, lasts) = (target, lasts.min(ttl));
    }
    let found = records.iter().filter(|(name, _)| *name == owner).filter_map(|(_, record)| {
        let ip = match record.data {
            RData::A(A(ip)) => IpAddr::V4(ip),
            RData::AAAA(AAAA(ip)) => IpAddr::V6(ip),
            _ => return None,
        };
        (is_unicast(ip) && !is_mapped(ip)).then_some((ip, lasts.min(record.ttl)))
    });
    found.take(MOST_OF_REPLY).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::{
        op::{MessageType, OpCode, Query},
        rr::{Record, RecordType, rdata::CNAME},
    };

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).expect("a name")
    }

    fn reply(asked: &str, answers: Vec<Record>) -> (Message, Message) {
        let mut query = Message::new(1, MessageType::Query, OpCode::Query);
        query.add_query(Query::query(name(asked), RecordType::A));
        let mut reply = Message::response(1, OpCode::Query);
        reply.add_queries(query.queries.clone());
        reply.add_answers(answers);
        (query, reply)
    }

    fn address(owner: &str, ttl: u32, ip: [u8; 4]) -> Record {
        Record::from_rdata(name(owner), ttl, RData::A(A(Ipv4Addr::from(ip))))
    }

    fn alias(owner: &str, ttl: u32, target: &str) -> Record {
        Record::from_rdata(name(owner), ttl, RData::CNAME(CNAME(name(target))))
    }

    #[test]
    fn names_are_read_as_policies_may_write_them() {
        let read = |text: &str| DomainName::parse(text).map(|name| name.to_string());
        assert_eq!(read("Kubernetes.IO."), Some("kubernetes.io".to_owned()));
        assert_eq!(read("*.my_blog.kubernetes.io"), Some("*.my_blog.kubernetes.io".to_owned()));
        let long = format!("{}.io", "a".repeat(64));
        for bad in ["", "io", "*", "*.io", "a.*.io", "w*.kubernetes.io", "a..io", "-a.io", "a b.io", "a\\.b.io", &long, &"a.".repeat(200)] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_star_stands_for_one_label_or_more() {
        let names = DomainNames::new(["kubernetes.io", "*.kubernetes.io", "*.blog.kubernetes.io"].iter().filter_map(|text| DomainName::parse(text)));
        let of = |asked: &str| {
            let mut found: Vec<String> = names.of(asked).iter().map(ToString::to_string).collect();
            found.sort();
            found
        };
        assert_eq!(of("kubernetes.io"), ["kubernetes.io"]);
        assert_eq!(of("www.kubernetes.io"), ["*.kubernetes.io"]);
        assert_eq!(of("latest.blog.kubernetes.io"), ["*.blog.kubernetes.io", "*.kubernetes.io"]);
        for other in ["my-kubernetes.io", "wikipedia.org", "io", "", "evil\\.kubernetes.io"] {
            assert_eq!(of(other), [] as [&str; 0], "{other}");
        }
    }

    #[test]
    fn addresses_are_those_that_the_name_leads_to_and_last_as_long_as_the_way_there() {
        let answers = vec![
            alias("www.example.com.", 20, "Cdn.example.net."),
            alias("cdn.example.net.", 60, "a.example.net."),
            address("A.example.net.", 300, [203, 0, 113, 1]),
            address("a.example.net.", 5, [203, 0, 113, 2]),
            address("other.example.net.", 300, [203, 0, 113, 3]),
            address("a.example.net.", 300, [127, 0, 0, 1]),
            address("a.example.net.", 300, [169, 254, 169, 254]),
        ];
        let (query, good) = reply("WWW.example.com.", answers);
        let expected = [([203, 0, 113, 1], 20_u32), ([203, 0, 113, 2], 5)].map(|(ip, ttl)| (IpAddr::from(ip), ttl));
        assert_eq!(addresses(&query, &good), expected);
        assert_eq!(asked_for(query.queries[0].name()), "www.example.com");
        let (_, foreign) = reply("www.example.org.", vec![address("www.example.com.", 20, [203, 0, 113, 1])]);
        assert!(addresses(&query, &foreign).is_empty(), "it answers another question");
        let mut failed = good;
        failed.metadata.response_code = ResponseCode::ServFail;
        assert!(addresses(&query, &failed).is_empty());
    }

    #[test]
    fn replies_without_end_are_followed_to_an_end() {
        let (query, round) =
            reply("a.example.com.", vec![alias("a.example.com.", 9, "b.example.com."), alias("b.example.com.", 9, "a.example.com.")]);
        assert!(addresses(&query, &round).is_empty());
        let many = (0..2000u16).map(|at| address("a.example.com.", 9, [203, 0, (at >> 8) as u8, at as u8])).collect();
        let (query, many) = reply("a.example.com.", many);
        assert_eq!(addresses(&query, &many).len(), MOST_OF_REPLY);
    }
}
