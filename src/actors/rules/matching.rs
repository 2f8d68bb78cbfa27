//! Whether a rule is about a packet: reads rules as `iptables-save` prints them. Pure.
//!
//! It knows the matches that rules of Services and policies are made of. Others are an error: a verdict that ignored one would be a guess.

use std::{
    net::{IpAddr, Ipv6Addr},
    str::SplitWhitespace,
};

use ipnetwork::IpNetwork;
use troupe_net::iptables::RuleSet;

/// What begins to pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// As the packet filter names it.
    pub protocol: String,
    /// The destination's port, where the protocol has ports. What has none and is of ICMP asks for an echo.
    pub port: Option<u16>,
    /// It belongs to a connection that passed before.
    pub established: bool,
}

/// A packet on its way through a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passing<'a> {
    pub packet: Packet,
    pub mark: u32,
    /// It was sent elsewhere than where it goes now.
    pub is_translated: bool,
    /// It leaves under an address of the node.
    pub is_masqueraded: bool,
    /// The node's own addresses, beside those of the loopback network.
    node: &'a [IpAddr],
}

/// A match or a target that nothing is known of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the rule {0:?} has a match that is not known here")]
pub struct UnknownMatch(pub String);

/// What a rule that is about a packet does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matched<'r> {
    pub target: Target<'r>,
    /// What the rule says of itself.
    pub comment: &'r str,
    /// Chance decides, or who came before.
    pub by_chance: bool,
}

/// Where a rule leads, or what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'r> {
    pub name: &'r str,
    /// Who returns from there returns from here.
    pub is_goto: bool,
    /// The value of the target's first option; empty without one.
    pub argument: &'r str,
}

impl<'a> Passing<'a> {
    pub fn new(packet: &Packet, node: &'a [IpAddr]) -> Self {
        Passing { packet: packet.clone(), mark: 0, is_translated: false, is_masqueraded: false, node }
    }

    /// Whether an address is the node's.
    pub fn is_nodes(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.node.contains(&ip)
    }

    /// Whether the packet is in a state of connection tracking; `None` for a state that is not known here.
    fn is_in(&self, state: &str) -> Option<bool> {
        match state {
            "NEW" => Some(!self.packet.established),
            "ESTABLISHED" => Some(self.packet.established),
            "RELATED" | "INVALID" => Some(false),
            "DNAT" => Some(self.is_translated),
            _ => None,
        }
    }

    fn is_member(&self, rules: &RuleSet, set: &str, ends: &str) -> Option<bool> {
        let mut entries = rules.members.iter().filter(|member| member.set == set).map(|member| member.entry.as_str());
        let packet = &self.packet;
        match ends {
            "src" => Some(entries.any(|entry| within(entry, packet.source) == Some(true))),
            "dst" => Some(entries.any(|entry| within(entry, packet.destination) == Some(true))),
            "dst,dst" => {
                let wanted = packet.port.map(|port| format!("{},{}:{port}", packet.destination, packet.protocol));
                Some(wanted.is_some_and(|wanted| entries.any(|entry| entry == wanted)))
            }
            _ => None,
        }
    }
}

/// As rules of IPv6 name it.
const ECHO_REQUEST: &str = "128";

/// What a rule does with a packet; `None` when it is not about it, or does nothing. `rules` have the sets that it may refer to.
///
/// # Errors
/// When the rule has a match that is not known here.
pub fn matched<'r>(rule: &'r str, passing: &Passing<'_>, rules: &RuleSet) -> Result<Option<Matched<'r>>, UnknownMatch> {
    read(rule, passing, rules).ok_or_else(|| UnknownMatch(rule.to_owned()))
}

fn read<'r>(rule: &'r str, passing: &Passing<'_>, rules: &RuleSet) -> Option<Option<Matched<'r>>> {
    let (head, comment, tail) = match rule.split_once("--comment \"") {
        Some((head, rest)) => {
            let (comment, tail) = rest.split_once('"')?;
            (head, comment, tail)
        }
        None => (rule, "", ""),
    };
    let mut by_chance = false;
    for part in [head, tail] {
        let mut words = part.split_whitespace();
        let mut is_negated = false;
        while let Some(word) = words.next() {
            match word {
                "!" => is_negated = true,
                "-j" | "-g" => {
                    let target = Target { name: words.next()?, is_goto: word == "-g", argument: words.nth(1).unwrap_or_default() };
                    return Some(Some(Matched { target, comment, by_chance }));
                }
                // One in so many, and who was here before.
                "--mode" | "--probability" => {
                    words.next()?;
                    by_chance = true;
                }
                "--rcheck" => by_chance = true,
                _ if holds(word, &mut words, passing, rules)? == is_negated => return Some(None),
                _ => is_negated = false,
            }
        }
    }
    // It counts packets.
    Some(None)
}

/// Whether one match holds; takes its value from `words`.
fn holds(word: &str, words: &mut SplitWhitespace<'_>, passing: &Passing<'_>, rules: &RuleSet) -> Option<bool> {
    let packet = &passing.packet;
    match word {
        // The module of what follows, and settings of modules.
        "-m" | "--seconds" | "--name" | "--mask" => words.next().map(|_| true),
        "--reap" | "--rsource" | "--set" => Some(true),
        "-s" => within(words.next()?, packet.source),
        "-d" => within(words.next()?, packet.destination),
        "-p" => Some(words.next()? == packet.protocol),
        "--dport" => {
            let numbers = words.next()?;
            Some(packet.port.is_some_and(|port| in_range(numbers, port)))
        }
        "--ctstate" => words.next()?.split(',').map(|state| passing.is_in(state)).try_fold(false, |any, state| Some(any | state?)),
        "--mark" => masked(words.next()?).map(|(value, mask)| passing.mark & mask == value),
        "--src-type" => (words.next()? == "LOCAL").then(|| passing.is_nodes(packet.source)),
        "--dst-type" => (words.next()? == "LOCAL").then(|| passing.is_nodes(packet.destination)),
        "--icmpv6-type" => words.next().map(|kind| kind == ECHO_REQUEST),
        "--match-set" => passing.is_member(rules, words.next()?, words.next()?),
        _ => None,
    }
}

/// A value and its mask, as in `0x4000/0x4000`.
pub fn masked(text: &str) -> Option<(u32, u32)> {
    let number = |text: &str| u32::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    let (value, mask) = text.split_once('/')?;
    Some((number(value)?, number(mask)?))
}

/// A network, or what addresses of IPv6 have in common where a mask has bits, as in `::50/::ff0`.
fn within(network: &str, ip: IpAddr) -> Option<bool> {
    if let Some((value, mask)) = network.split_once('/')
        && let (Ok(value), Ok(mask)) = (value.parse::<Ipv6Addr>(), mask.parse::<Ipv6Addr>())
    {
        return Some(matches!(ip, IpAddr::V6(ip) if u128::from(ip) & u128::from(mask) == u128::from(value)));
    }
    network.parse::<IpNetwork>().ok().map(|network| network.contains(ip))
}

fn in_range(numbers: &str, port: u16) -> bool {
    let (first, last) = numbers.split_once(':').unwrap_or((numbers, numbers));
    first.parse().is_ok_and(|first: u16| first <= port) && last.parse().is_ok_and(|last: u16| port <= last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(port: u16) -> Packet {
        let ip = |text: &str| text.parse().expect("an address");
        Packet { source: ip("10.1.2.3"), destination: ip("192.168.0.1"), protocol: "tcp".into(), port: Some(port), established: false }
    }

    #[test]
    fn matches_of_services_rules_are_read() {
        let node = ["192.168.0.1".parse().expect("an address")];
        let mut passing = Passing::new(&packet(80), &node);
        passing.mark = 0x4000;
        let rules = RuleSet::default();
        let target = |rule: &str| matched(rule, &passing, &rules).map(|found| found.map(|found| (found.target.name.to_owned(), found.by_chance)));
        let is = |name: &str, by_chance: bool| Ok(Some((name.to_owned(), by_chance)));
        assert_eq!(target("-m mark ! --mark 0x4000/0x4000 -j RETURN"), Ok(None));
        assert_eq!(target("-m comment --comment \"x y\" -m mark --mark 0x4000/0x4000 -j ACCEPT"), is("ACCEPT", false));
        assert_eq!(target("! -s 10.1.0.0/16 -d 192.168.0.1/32 -p tcp -j A"), Ok(None));
        assert_eq!(target("! -s 10.2.0.0/16 -d 192.168.0.1/32 ! -p udp -j A"), is("A", false));
        assert_eq!(target("-m comment --comment \"x\" -m addrtype --dst-type LOCAL -m tcp --dport 80 -g A"), is("A", false));
        assert_eq!(target("-m addrtype --src-type LOCAL -j A"), Ok(None));
        assert_eq!(target("-m conntrack --ctstate NEW -j A"), is("A", false));
        assert_eq!(target("-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j A"), is("A", false));
        assert_eq!(target("-m statistic --mode random --probability 0.50000000000 -j A"), is("A", true));
        assert_eq!(target("-m recent --rcheck --seconds 9 --reap --name N --mask 255.255.255.255 --rsource -j A"), is("A", true));
        assert_eq!(target("-m comment --comment \"says nothing more\""), Ok(None));
        assert_eq!(target("-p tcp -m icmp6 --icmpv6-type 135 -j A"), Ok(None));
        for unknown in ["-m conntrack --ctstate UNTRACKED -j A", "-m limit --limit 1/sec -j A", "-s 10.1.2/33 -j A"] {
            assert_eq!(target(unknown), Err(UnknownMatch(unknown.to_owned())));
        }
        let six = Passing::new(&Packet { source: "fd00::15".parse().expect("an address"), ..packet(80) }, &node);
        for (rule, expected) in [("-s ::10/::ff0 -j A", true), ("-s ::20/::ff0 -j A", false), ("-s fd00::/64 -j A", true)] {
            assert_eq!(matched(rule, &six, &rules).map(|found| found.is_some()), Ok(expected), "{rule}");
        }
        assert_eq!(target("-s ::10/::ff0 -j A"), Ok(None), "it is of IPv4");
        let found = matched("-j DNAT --to-destination 10.0.0.1:80", &passing, &rules).expect("is known").expect("matches");
        assert_eq!((found.target.argument, found.target.is_goto), ("10.0.0.1:80", false));
    }
}
