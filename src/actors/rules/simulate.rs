//! What rules do with a packet. Pure: it walks planned rules as the kernel would, so that tests and explanations can ask them.
//!
//! It knows the matches that rules of policies are made of. Others are an error: a verdict that ignored one would be a guess.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use troupe_net::iptables::{ChainId, RuleSet, Table};

/// What begins to pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// As the packet filter names it.
    pub protocol: String,
    /// The destination's port, where the protocol has ports.
    pub port: Option<u16>,
    /// It belongs to a connection that passed before.
    pub established: bool,
}

/// The rule that decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    pub chain: String,
    /// What the rule says of itself.
    pub comment: String,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on. The rules that let it through, if any had to.
    Passes(Vec<Hit>),
    Dropped(Hit),
}

/// Why nothing can be said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SimulationError {
    #[error("the rule {0:?} has a match that is not known here")]
    Match(String),
    #[error("there is no chain {0}")]
    Chain(String),
    #[error("chains lead in a circle")]
    Circle,
}

/// Rules that lead to rules.
const DEEPEST: usize = 16;

/// Walks a table's rules from a chain on.
pub fn simulate(rules: &RuleSet, table: Table, chain: &str, packet: &Packet) -> Result<Verdict, SimulationError> {
    let mut walk = Walk { rules, table, packet, passed: Vec::new() };
    let dropped = walk.chain(chain, 0)?;
    Ok(dropped.map_or(Verdict::Passes(walk.passed), Verdict::Dropped))
}

/// Where a rule leads.
struct Target<'r> {
    name: &'r str,
    is_goto: bool,
}

struct Walk<'a> {
    rules: &'a RuleSet,
    table: Table,
    packet: &'a Packet,
    passed: Vec<Hit>,
}

impl<'a> Walk<'a> {
    /// The rule that drops the packet, if one does.
    fn chain(&mut self, name: &str, depth: usize) -> Result<Option<Hit>, SimulationError> {
        if depth > DEEPEST {
            return Err(SimulationError::Circle);
        }
        for rule in self.content(name)? {
            let Some((target, comment)) = self.matches(rule)? else { continue };
            match target.name {
                "RETURN" if comment.is_empty() => return Ok(None),
                "RETURN" => {
                    self.passed.push(Hit { chain: name.to_owned(), comment: comment.to_owned() });
                    return Ok(None);
                }
                "DROP" => return Ok(Some(Hit { chain: name.to_owned(), comment: comment.to_owned() })),
                "ACCEPT" => return Ok(None),
                // Who returns from there returns from here.
                next if target.is_goto => return self.chain(next, depth + 1),
                next => {
                    if let Some(hit) = self.chain(next, depth + 1)? {
                        return Ok(Some(hit));
                    }
                }
            }
        }
        Ok(None)
    }

    fn content(&self, name: &str) -> Result<Vec<&'a str>, SimulationError> {
        let (id, all) = (ChainId::new(self.table, name), self.rules);
        if let Some(rules) = all.chains.get(&id) {
            return Ok(rules.iter().map(String::as_str).collect());
        }
        let lines: Vec<&str> = all.lines.iter().filter(|line| line.chain == id).map(|line| line.rule.as_str()).collect();
        if lines.is_empty() && !all.shared.contains(&id) { Err(SimulationError::Chain(name.to_owned())) } else { Ok(lines) }
    }

    /// The target and the comment of a rule that matches.
    fn matches<'r>(&self, rule: &'r str) -> Result<Option<(Target<'r>, &'r str)>, SimulationError> {
        let unknown = || SimulationError::Match(rule.to_owned());
        let (head, comment, tail) = match rule.split_once("--comment \"") {
            Some((head, rest)) => {
                let (comment, tail) = rest.split_once('"').ok_or_else(unknown)?;
                (head, comment, tail)
            }
            None => (rule, "", ""),
        };
        let mut words = head.split_whitespace().chain(tail.split_whitespace());
        let (mut all, mut target) = (true, None);
        while let Some(word) = words.next() {
            let mut next = || words.next().ok_or_else(unknown);
            all &= match word {
                // Names the module of what follows.
                "-m" => next().map(|_| true)?,
                "-s" => within(next()?, self.packet.source).ok_or_else(unknown)?,
                "-d" => within(next()?, self.packet.destination).ok_or_else(unknown)?,
                "-p" => next()? == self.packet.protocol,
                "--dport" => self.packet.port.is_some_and(|port| in_range(next().unwrap_or_default(), port)),
                "--ctstate" => next().map(|states| self.packet.established == states.contains("ESTABLISHED"))?,
                "--match-set" => {
                    let (set, ends) = (next()?, next()?);
                    self.is_member(set, ends).ok_or_else(unknown)?
                }
                "-j" | "-g" => {
                    target = Some(Target { name: next()?, is_goto: word == "-g" });
                    true
                }
                _ => return Err(unknown()),
            };
            if !all {
                return Ok(None);
            }
        }
        Ok(Some((target.ok_or_else(unknown)?, comment)))
    }

    fn is_member(&self, set: &str, ends: &str) -> Option<bool> {
        let mut entries = self.rules.members.iter().filter(|member| member.set == set).map(|member| member.entry.as_str());
        let packet = self.packet;
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

fn within(network: &str, ip: IpAddr) -> Option<bool> {
    network.parse::<IpNetwork>().ok().map(|network| network.contains(ip))
}

fn in_range(numbers: &str, port: u16) -> bool {
    let (first, last) = numbers.split_once(':').unwrap_or((numbers, numbers));
    first.parse().is_ok_and(|first: u16| first <= port) && last.parse().is_ok_and(|last: u16| port <= last)
}

#[cfg(test)]
mod tests {
    use troupe_net::iptables::{End, SetKind};

    use super::*;

    fn packet(source: &str, destination: &str, port: u16) -> Packet {
        let ip = |text: &str| text.parse().expect("an address");
        Packet { source: ip(source), destination: ip(destination), protocol: "tcp".into(), port: Some(port), established: false }
    }

    fn rules() -> RuleSet {
        let mut rules = RuleSet::default();
        rules.line(Table::Mangle, "FORWARD", End::Head, "-j A");
        rules.push(Table::Mangle, "A", "-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN");
        rules.push(Table::Mangle, "A", "-d 10.0.0.9/32 -j B");
        rules.push(Table::Mangle, "B", "-p tcp -m set --match-set S src -m comment --comment \"ns/p\" -m tcp --dport 80:90 -j RETURN");
        rules.push(Table::Mangle, "B", "-m comment --comment \"ns/pod is isolated\" -j DROP");
        rules.set("S", SetKind::Net);
        rules.member("S", "10.1.0.0/16");
        rules
    }

    #[test]
    fn a_packet_goes_the_way_the_rules_lead() {
        let rules = rules();
        let ask = |packet: &Packet| simulate(&rules, Table::Mangle, "FORWARD", packet).expect("knows the rules");
        let hit = |comment: &str| Hit { chain: "B".into(), comment: comment.into() };
        assert_eq!(ask(&packet("10.1.2.3", "10.0.0.9", 85)), Verdict::Passes(vec![hit("ns/p")]));
        assert_eq!(ask(&packet("10.1.2.3", "10.0.0.9", 91)), Verdict::Dropped(hit("ns/pod is isolated")));
        assert_eq!(ask(&packet("10.2.2.3", "10.0.0.9", 85)), Verdict::Dropped(hit("ns/pod is isolated")));
        assert_eq!(ask(&packet("10.2.2.3", "10.0.0.8", 85)), Verdict::Passes(Vec::new()));
        assert_eq!(ask(&Packet { established: true, ..packet("10.2.2.3", "10.0.0.9", 1) }), Verdict::Passes(Vec::new()));
    }

    #[test]
    fn who_went_to_a_chain_does_not_come_back() {
        let mut rules = rules();
        rules.push(Table::Mangle, "A", "-d 10.0.0.7/32 -g C");
        rules.push(Table::Mangle, "A", "-d 10.0.0.7/32 -j DROP");
        rules.push(Table::Mangle, "C", "-s 10.1.0.0/16 -j RETURN");
        rules.push(Table::Mangle, "C", "-s 10.2.0.0/16 -m comment --comment \"two\" -j DROP");
        let ask = |source: &str| simulate(&rules, Table::Mangle, "A", &packet(source, "10.0.0.7", 85)).expect("knows the rules");
        assert_eq!(ask("10.1.2.3"), Verdict::Passes(Vec::new()));
        assert_eq!(ask("10.3.2.3"), Verdict::Passes(Vec::new()));
        assert_eq!(ask("10.2.2.3"), Verdict::Dropped(Hit { chain: "C".into(), comment: "two".into() }));
    }

    #[test]
    fn what_is_not_known_is_no_verdict() {
        let mut rules = rules();
        rules.push(Table::Mangle, "B", "-m statistic --mode random -j DROP");
        rules.chains.get_mut(&ChainId::new(Table::Mangle, "B")).expect("is there").rotate_right(1);
        let told = simulate(&rules, Table::Mangle, "FORWARD", &packet("10.1.2.3", "10.0.0.9", 85));
        assert!(matches!(told, Err(SimulationError::Match(_))), "{told:?}");
        rules.push(Table::Mangle, "A", "-j NOWHERE");
        let told = simulate(&rules, Table::Mangle, "A", &packet("10.1.2.3", "10.0.0.8", 85));
        assert_eq!(told, Err(SimulationError::Chain("NOWHERE".into())));
    }
}
