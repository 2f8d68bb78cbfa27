//! What the rules of one table do with a packet. Pure: it walks planned rules as the kernel would, so that tests and explanations can ask them.

use troupe_net::iptables::{RuleSet, Table};

pub use super::{
    matching::Packet,
    walk::{Hit, SimulationError},
};
use super::{
    matching::Passing,
    walk::{Ending, Walk},
};

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on. The rules that let it through, if any had to.
    Passes(Vec<Hit>),
    Dropped(Hit),
}

/// Walks a table's rules from a chain on.
///
/// # Errors
/// When a rule is not understood, or leaves the packet to chance.
pub fn simulate(rules: &RuleSet, table: Table, chain: &str, packet: &Packet) -> Result<Verdict, SimulationError> {
    let mut certain = || None;
    let mut walk = Walk::new(rules, Passing::new(packet, &[]), &mut certain);
    Ok(match walk.chain(table, chain)? {
        Ending::Returned | Ending::Accepted => Verdict::Passes(walk.passed),
        Ending::Dropped(hit) | Ending::Refused(hit) => Verdict::Dropped(hit),
    })
}

#[cfg(test)]
mod tests {
    use troupe_net::iptables::{ChainId, End, SetKind};

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
