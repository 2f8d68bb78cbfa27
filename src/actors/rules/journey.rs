//! What becomes of a packet that a node is sent, or sends itself: by Services' translation, policies, filters and masquerade, hook by hook. Pure.

use std::{collections::BTreeSet, net::IpAddr};

use troupe_net::iptables::{RuleSet, Table};

use super::{
    matching::{Packet, Passing},
    walk::{Ending, Hit, SimulationError, Walk},
};

/// What may become of a packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It goes on to this address and port, under an address of the node when it is masqueraded.
    Forwarded {
        destination: IpAddr,
        port: Option<u16>,
        is_masqueraded: bool,
    },
    /// The node itself takes it.
    TakenIn,
    Dropped(Hit),
    /// Dropped, and its sender is told.
    Refused(Hit),
}

/// A way that a packet may take.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Journey {
    pub fate: Fate,
    /// Where it was on its way to when its fate was decided.
    pub destination: IpAddr,
    pub port: Option<u16>,
    /// It was sent elsewhere.
    pub is_translated: bool,
    /// The rules that let it through, if any had to.
    pub passed: Vec<Hit>,
}

type Hook = (Table, &'static str);

const TRANSLATION: Hook = (Table::Nat, "PREROUTING");
/// Of what the node sends itself.
const OWN_TRANSLATION: Hook = (Table::Nat, "OUTPUT");
const SENT: &[Hook] = &[(Table::Filter, "OUTPUT")];
const TAKEN_IN: &[Hook] = &[(Table::Mangle, "INPUT"), (Table::Filter, "INPUT")];
const FORWARDED: &[Hook] = &[(Table::Mangle, "FORWARD"), (Table::Filter, "FORWARD")];
const MASQUERADE: Hook = (Table::Nat, "POSTROUTING");

/// Everything that may become of a packet: where chance decides, or who came before, each way that is open. `rules` are those of Services and
/// of policies together, `node` are the node's own addresses. A packet of an established connection is taken as one that nothing translates.
///
/// # Errors
/// When a rule is not understood.
pub fn fates(rules: &RuleSet, node: &[IpAddr], packet: &Packet) -> Result<BTreeSet<Fate>, SimulationError> {
    Ok(journeys(rules, node, packet)?.into_iter().map(|journey| journey.fate).collect())
}

/// The same, with how it came to that.
///
/// # Errors
/// When a rule is not understood.
pub fn journeys(rules: &RuleSet, node: &[IpAddr], packet: &Packet) -> Result<BTreeSet<Journey>, SimulationError> {
    let (mut journeys, mut ways) = (BTreeSet::new(), Ways::default());
    loop {
        journeys.insert(journey(rules, node, packet, &mut ways)?);
        if !ways.turn() {
            return Ok(journeys);
        }
    }
}

fn journey(rules: &RuleSet, node: &[IpAddr], packet: &Packet, ways: &mut Ways) -> Result<Journey, SimulationError> {
    let mut chance = || Some(ways.choose());
    let mut walk = Walk::new(rules, Passing::new(packet, node), &mut chance);
    let fate = travel(&mut walk)?;
    let Walk { passing, passed, .. } = walk;
    Ok(Journey { fate, destination: passing.packet.destination, port: passing.packet.port, is_translated: passing.is_translated, passed })
}

fn travel(walk: &mut Walk<'_>) -> Result<Fate, SimulationError> {
    let is_own = walk.passing.is_nodes(walk.passing.packet.source);
    // The kernel remembers what it translated: rules are asked once a connection.
    let is_new = !walk.passing.packet.established;
    if is_new {
        let (table, chain) = if is_own { OWN_TRANSLATION } else { TRANSLATION };
        walk.chain(table, chain)?;
    }
    let is_taken_in = walk.passing.is_nodes(walk.passing.packet.destination);
    let leaves: &[Hook] = if is_own { SENT } else { &[] };
    let arrives: &[Hook] = match (is_own, is_taken_in) {
        (_, true) => TAKEN_IN,
        (true, false) => &[],
        (false, false) => FORWARDED,
    };
    for (table, chain) in leaves.iter().chain(arrives) {
        match walk.chain(*table, chain)? {
            Ending::Returned | Ending::Accepted => {}
            Ending::Dropped(hit) => return Ok(Fate::Dropped(hit)),
            Ending::Refused(hit) => return Ok(Fate::Refused(hit)),
        }
    }
    if is_taken_in {
        return Ok(Fate::TakenIn);
    }
    if is_new {
        walk.chain(MASQUERADE.0, MASQUERADE.1)?;
    }
    let (packet, is_masqueraded) = (&walk.passing.packet, walk.passing.is_masqueraded);
    Ok(Fate::Forwarded { destination: packet.destination, port: packet.port, is_masqueraded })
}

/// Goes through all answers that a series of questions may get; which question comes next may depend on the answers before.
#[derive(Debug, Default)]
struct Ways {
    answers: Vec<bool>,
    asked: usize,
}

impl Ways {
    fn choose(&mut self) -> bool {
        if self.asked == self.answers.len() {
            self.answers.push(false);
        }
        self.asked += 1;
        self.answers[self.asked - 1]
    }

    /// Goes back to the first question, with other answers; false when all were given.
    fn turn(&mut self) -> bool {
        self.asked = 0;
        while self.answers.last() == Some(&true) {
            self.answers.pop();
        }
        let last = self.answers.last_mut();
        last.map(|answer| *answer = true).is_some()
    }
}

#[cfg(test)]
mod tests {
    use troupe_net::iptables::End;

    use super::*;

    const NODE: &str = "192.168.0.1";

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// A Service with two endpoints of which one is isolated, and one without any.
    fn rules() -> RuleSet {
        let mut rules = RuleSet::default();
        rules.line(Table::Nat, "PREROUTING", End::Head, "-j SERVICES");
        rules.line(Table::Nat, "OUTPUT", End::Head, "-j SERVICES");
        rules.line(Table::Nat, "SERVICES", End::Head, "-d 10.96.0.1/32 -p tcp -m tcp --dport 80 -j SVC");
        rules.push(Table::Nat, "SVC", "! -s 10.244.0.0/16 -j MARK --set-xmark 0x4000/0x4000");
        rules.push(Table::Nat, "SVC", "-m statistic --mode random --probability 0.50000000000 -j ONE");
        rules.push(Table::Nat, "SVC", "-j TWO");
        rules.push(Table::Nat, "ONE", "-p tcp -m tcp -j DNAT --to-destination 10.244.0.5:8080");
        rules.push(Table::Nat, "TWO", "-p tcp -m tcp -j DNAT --to-destination 10.244.0.6:8080");
        rules.line(Table::Nat, "POSTROUTING", End::Head, "-j MASQ");
        rules.push(Table::Nat, "MASQ", "-m mark ! --mark 0x4000/0x4000 -j RETURN");
        rules.push(Table::Nat, "MASQ", "-j MARK --set-xmark 0x4000/0x0");
        rules.push(Table::Nat, "MASQ", "-j MASQUERADE --random-fully");
        rules.line(Table::Mangle, "FORWARD", End::Head, "-d 10.244.0.6/32 -m comment --comment \"isolated\" -j DROP");
        rules.line(Table::Mangle, "INPUT", End::Head, "-s 10.244.0.9/32 -m comment --comment \"kept from its node\" -j DROP");
        rules.line(Table::Filter, "FORWARD", End::Head, "-d 10.96.0.2/32 -m comment --comment \"no endpoints\" -j REJECT --reject-with tcp-reset");
        rules.line(Table::Filter, "INPUT", End::Head, "-p tcp -m tcp --dport 30080 -j ACCEPT");
        rules.line(Table::Filter, "OUTPUT", End::Head, "-d 10.96.0.3/32 -m comment --comment \"no local endpoints\" -j DROP");
        rules
    }

    fn ask(source: &str, destination: &str, port: u16) -> Vec<Fate> {
        let packet = Packet { source: ip(source), destination: ip(destination), protocol: "tcp".into(), port: Some(port), established: false };
        fates(&rules(), &[ip(NODE)], &packet).expect("knows the rules").into_iter().collect()
    }

    fn forwarded(destination: &str, port: u16, is_masqueraded: bool) -> Fate {
        Fate::Forwarded { destination: ip(destination), port: Some(port), is_masqueraded }
    }

    fn hit(chain: &str, comment: &str) -> Hit {
        Hit { chain: chain.into(), comment: comment.into() }
    }

    #[test]
    fn every_way_that_chance_leaves_open_is_told() {
        let dropped = Fate::Dropped(hit("FORWARD", "isolated"));
        assert_eq!(ask("10.244.0.7", "10.96.0.1", 80), [forwarded("10.244.0.5", 8080, false), dropped.clone()]);
        assert_eq!(ask("192.0.2.7", "10.96.0.1", 80), [forwarded("10.244.0.5", 8080, true), dropped]);
    }

    #[test]
    fn what_is_not_translated_goes_its_way() {
        assert_eq!(ask("10.244.0.7", "10.96.0.1", 81), [forwarded("10.96.0.1", 81, false)]);
        assert_eq!(ask("10.244.0.7", "10.96.0.2", 80), [Fate::Refused(hit("FORWARD", "no endpoints"))]);
        assert_eq!(ask("10.244.0.7", NODE, 30080), [Fate::TakenIn]);
        assert_eq!(ask("10.244.0.9", NODE, 30080), [Fate::Dropped(hit("INPUT", "kept from its node"))]);
    }

    #[test]
    fn what_the_node_sends_itself_is_translated_and_meets_no_policy() {
        assert_eq!(ask(NODE, "10.96.0.1", 80), [forwarded("10.244.0.5", 8080, true), forwarded("10.244.0.6", 8080, true)]);
        assert_eq!(ask(NODE, "10.96.0.3", 80), [Fate::Dropped(hit("OUTPUT", "no local endpoints"))]);
        assert_eq!(ask(NODE, NODE, 30080), [Fate::TakenIn]);
    }

    #[test]
    fn a_journey_tells_where_a_packet_was_when_it_was_dropped() {
        let packet = Packet { source: ip("10.244.0.7"), destination: ip("10.96.0.1"), protocol: "tcp".into(), port: Some(80), established: false };
        let told = journeys(&rules(), &[ip(NODE)], &packet).expect("knows the rules");
        let dropped = told.iter().find(|journey| matches!(journey.fate, Fate::Dropped(_))).expect("one way is closed");
        assert_eq!((dropped.destination, dropped.port, dropped.is_translated), (ip("10.244.0.6"), Some(8080), true));
    }

    #[test]
    fn all_answers_are_given_once() {
        let (mut ways, mut seen) = (Ways::default(), Vec::new());
        loop {
            // Who says yes to the first question is asked no second one.
            let first = ways.choose();
            seen.push((first, (!first).then(|| ways.choose())));
            if !ways.turn() {
                break;
            }
        }
        assert_eq!(seen, [(false, Some(false)), (false, Some(true)), (true, None)]);
    }
}
