//! Rules as they are kept while nothing is done with them: one block of bytes for all that an owner has, squeezed. As a tree the few rules of a
//! Service with one endpoint take more than ten times as much, and there are as many trees as Services. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use troupe_net::iptables::{ChainId, End, Line, Member, RuleSet, SetKind, Table};

use super::{
    layout::{Contribution, UdpFlows},
    squeeze::{expand, put_number, squeeze, take_number},
};

/// The rules of one owner. Two are equal when the sets of rules are. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackedRules {
    /// [`RuleSet::size`].
    size: usize,
    /// Numbers as LEB128, texts behind their length, all of it squeezed; empty for no rules at all.
    bytes: Arc<[u8]>,
}

/// What one owner wants, packed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    pub rules: PackedRules,
    /// Tracked flows that follow the rules.
    pub udp: UdpFlows,
}

impl From<Contribution> for Packed {
    fn from(contribution: Contribution) -> Self {
        Packed { rules: PackedRules::of(&contribution.rules), udp: contribution.udp }
    }
}

impl PackedRules {
    pub fn of(rules: &RuleSet) -> Self {
        if rules.is_empty() {
            return PackedRules::default();
        }
        let mut out = Writer::default();
        out.number(rules.chains.len());
        for (id, lines) in &rules.chains {
            out.chain(id);
            out.number(lines.len());
            lines.iter().for_each(|line| out.text(line));
        }
        out.number(rules.shared.len());
        rules.shared.iter().for_each(|id| out.chain(id));
        out.number(rules.lines.len());
        for line in &rules.lines {
            out.chain(&line.chain);
            out.text(&line.rule);
            out.number(usize::from(line.end == End::Tail));
        }
        out.number(rules.sets.len());
        for (name, kind) in &rules.sets {
            out.text(name);
            out.number(usize::from(*kind == SetKind::AddressPort));
        }
        out.number(rules.members.len());
        for member in &rules.members {
            out.text(&member.set);
            out.text(&member.entry);
        }
        PackedRules { size: rules.size(), bytes: squeeze(&out.0).into() }
    }

    /// How many rules and chains it has.
    pub fn size(&self) -> usize {
        self.size
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The rules as a tree.
    pub fn unpack(&self) -> RuleSet {
        if self.is_empty() {
            return RuleSet::default();
        }
        let bytes = expand(&self.bytes);
        let mut from = Reader(&bytes);
        let chains: BTreeMap<ChainId, Vec<String>> = from.many(|from| {
            let id = from.chain();
            (id, from.many(Reader::text))
        });
        let shared: BTreeSet<ChainId> = from.many(Reader::chain);
        let lines: BTreeSet<Line> = from.many(|from| {
            let (chain, rule) = (from.chain(), from.text());
            Line { chain, rule, end: if from.number() == 0 { End::Head } else { End::Tail } }
        });
        let sets: BTreeMap<String, SetKind> = from.many(|from| {
            let name = from.text();
            (name, if from.number() == 0 { SetKind::Net } else { SetKind::AddressPort })
        });
        let members: BTreeSet<Member> = from.many(|from| {
            let set = from.text();
            Member { set, entry: from.text() }
        });
        RuleSet { chains, shared, lines, sets, members }
    }
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, number: usize) {
        put_number(&mut self.0, number);
    }

    fn text(&mut self, text: &str) {
        self.number(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }

    fn chain(&mut self, id: &ChainId) {
        self.number(Table::ALL.iter().position(|table| *table == id.table).expect("all tables are there"));
        self.text(&id.name);
    }
}

/// Reads what [`Writer`] wrote, and nothing else.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> usize {
        take_number(&mut self.0)
    }

    fn text(&mut self) -> String {
        let length = self.number();
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        String::from_utf8(text.to_vec()).expect("a text was written")
    }

    fn chain(&mut self) -> ChainId {
        let table = Table::ALL[self.number()];
        ChainId::new(table, self.text())
    }

    fn many<T, C: FromIterator<T>>(&mut self, mut one: impl FnMut(&mut Self) -> T) -> C {
        let count = self.number();
        (0..count).map(|_| one(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text() -> impl Strategy<Value = String> {
        prop_oneof!["[ -~]{0,12}", "[a-z]{120,140}", "\\PC{0,4}"]
    }

    fn chain() -> impl Strategy<Value = ChainId> {
        (prop::sample::select(Table::ALL.to_vec()), text()).prop_map(|(table, name)| ChainId::new(table, name))
    }

    fn rules() -> impl Strategy<Value = RuleSet> {
        let end = prop::sample::select(vec![End::Head, End::Tail]);
        let line = (chain(), text(), end).prop_map(|(chain, rule, end)| Line { chain, rule, end });
        let kind = prop::sample::select(vec![SetKind::Net, SetKind::AddressPort]);
        let member = (text(), text()).prop_map(|(set, entry)| Member { set, entry });
        let chains = prop::collection::btree_map(chain(), prop::collection::vec(text(), 0..4), 0..4);
        let (shared, lines) = (prop::collection::btree_set(chain(), 0..4), prop::collection::btree_set(line, 0..4));
        let (sets, members) = (prop::collection::btree_map(text(), kind, 0..4), prop::collection::btree_set(member, 0..4));
        (chains, shared, lines, sets, members).prop_map(|(chains, shared, lines, sets, members)| RuleSet { chains, shared, lines, sets, members })
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_back_and_is_equal_where_the_rules_are(one in rules(), other in rules()) {
            let (packed, others) = (PackedRules::of(&one), PackedRules::of(&other));
            prop_assert_eq!(packed.unpack(), one.clone());
            prop_assert_eq!((packed.size(), packed.is_empty()), (one.size(), one.is_empty()));
            prop_assert_eq!(packed == others, one == other);
        }
    }

    #[test]
    fn a_long_chain_comes_back_whole() {
        let mut rules = RuleSet::default();
        (0..300).for_each(|at| rules.push(Table::Nat, "LONG", format!("-j A{at}")));
        assert_eq!(PackedRules::of(&rules).unpack(), rules);
    }

    #[test]
    fn the_rules_of_a_service_with_one_endpoint_take_few_bytes() {
        let mut rules = RuleSet::default();
        let (service, endpoint) = ("KUBE-SVC-NPX46M4PTMTKRN6Y", "KUBE-SEP-TCOU7JCQXEZGVUNU");
        let at = "-d 10.96.39.221/32 -p tcp -m comment --comment \"services/s09970:http cluster IP\" -m tcp --dport 80";
        rules.line(Table::Nat, "KUBE-NET-10.96.39.0", End::Head, format!("{at} -j {service}"));
        rules.push(Table::Nat, service, format!("! -s 10.244.0.0/16 {at} -j KUBE-MARK-MASQ"));
        rules.push(Table::Nat, service, format!("-m comment --comment \"services/s09970:http -> 10.200.39.221:8080\" -j {endpoint}"));
        rules.push(Table::Nat, endpoint, "-s 10.200.39.221/32 -m comment --comment \"services/s09970:http\" -j KUBE-MARK-MASQ");
        let translate = "-p tcp -m comment --comment \"services/s09970:http\" -m tcp -j DNAT --to-destination 10.200.39.221:8080";
        rules.push(Table::Nat, endpoint, translate);
        let packed = PackedRules::of(&rules);
        assert!(packed.bytes.len() <= 200, "{}", packed.bytes.len());
        assert_eq!(packed.unpack(), rules);
    }
}
