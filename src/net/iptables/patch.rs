//! The steps from one set of rules to another, as restore transactions. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt::Write,
};

use super::{ChainId, End, Line, Member, RuleSet, SetKind, Table};

/// Steps that one transaction takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patch {
    /// Chains to create or to rewrite whole.
    pub write: BTreeMap<ChainId, Vec<String>>,
    /// Shared chains to create; they do not exist yet.
    pub create: BTreeSet<ChainId>,
    /// Lines to remove, and how many times each stands. One that is to be added, too, is put in anew.
    pub remove: BTreeMap<Line, usize>,
    /// Lines to add.
    pub add: BTreeSet<Line>,
    /// Chains to delete, with what is in them; nothing refers to them afterwards.
    pub delete: BTreeSet<ChainId>,
    /// Sets to create before any rule changes.
    pub create_sets: BTreeMap<String, SetKind>,
    /// Entries to add before any rule changes.
    pub fill: BTreeSet<Member>,
    /// Entries to remove behind all rules.
    pub drain: BTreeSet<Member>,
    /// Sets to remove behind all rules.
    pub destroy_sets: BTreeSet<String>,
}

impl Patch {
    pub fn is_empty(&self) -> bool {
        self.write.is_empty() && self.create.is_empty() && self.remove.is_empty() && self.add.is_empty() && self.delete.is_empty() && !self.has_sets()
    }

    /// Whether it has steps on sets.
    pub fn has_sets(&self) -> bool {
        !(self.create_sets.is_empty() && self.fill.is_empty() && self.drain.is_empty() && self.destroy_sets.is_empty())
    }

    /// Adds the steps of `other`, which touches other chains and lines.
    pub fn merge(&mut self, other: Patch) {
        self.write.extend(other.write);
        self.create.extend(other.create);
        self.remove.extend(other.remove);
        self.add.extend(other.add);
        self.delete.extend(other.delete);
        self.create_sets.extend(other.create_sets);
        self.fill.extend(other.fill);
        self.drain.extend(other.drain);
        self.destroy_sets.extend(other.destroy_sets);
    }

    /// The same in several transactions of about `most` steps, to be taken in this order. In between rules of other patches may change
    /// that do not [touch](Patch::touches) these. A chain is written whole at once.
    pub fn pieces(mut self, most: usize) -> Vec<Patch> {
        self.remove.retain(|line, _| !self.delete.contains(&line.chain));
        if self.size() <= most {
            return vec![self];
        }
        // Chains are there before anything leads to them, and are emptied before they go: one may lead to another.
        let first = Patch { create: self.create, create_sets: self.create_sets, fill: self.fill, ..Patch::default() };
        let mut pieces = Pieces { done: Vec::new(), open: first, size: 0, most };
        for id in targets_first(&self.write) {
            let (id, rules) = self.write.remove_entry(&id).expect("each comes once");
            pieces.put(rules.len() + 1, |open| drop(open.write.insert(id, rules)));
        }
        // As within one transaction: translation is set up before anything refuses it.
        let (translating, others): (Vec<Line>, Vec<Line>) = self.add.into_iter().partition(|line| line.chain.table == Table::Nat);
        for line in translating.into_iter().chain(others) {
            // What is put in anew goes and comes at once.
            let before = self.remove.remove_entry(&line);
            let size = 1 + before.as_ref().map_or(0, |(_, times)| *times);
            pieces.put(size, |open| {
                open.remove.extend(before);
                open.add.insert(line);
            });
        }
        self.remove.into_iter().for_each(|(line, times)| pieces.put(times, |open| _ = open.remove.insert(line, times)));
        for id in &self.delete {
            pieces.put(1, |open| drop(open.write.insert(id.clone(), Vec::new())));
        }
        pieces.close();
        self.delete.into_iter().for_each(|id| pieces.put(1, |open| _ = open.delete.insert(id)));
        pieces.close();
        let last = Patch { drain: self.drain, destroy_sets: self.destroy_sets, ..Patch::default() };
        match pieces.done.last_mut() {
            Some(piece) => piece.merge(last),
            None => pieces.done.push(last),
        }
        pieces.done
    }

    /// Takes the steps out that are for `first` and need none of the others: chains and lines that are to be there, and lines that go.
    pub fn split_off(&mut self, first: &RuleSet) -> Patch {
        let (write, rest) = std::mem::take(&mut self.write).into_iter().partition(|(id, _)| first.chains.contains_key(id));
        self.write = rest;
        let (add, rest) = std::mem::take(&mut self.add).into_iter().partition(|line| first.lines.contains(line));
        self.add = rest;
        // What is put in anew goes where it comes.
        let (anew, remove) = std::mem::take(&mut self.remove).into_iter().partition(|(line, _)| self.add.contains(line));
        self.remove = anew;
        Patch {
            write,
            add,
            create: std::mem::take(&mut self.create),
            remove,
            create_sets: std::mem::take(&mut self.create_sets),
            fill: std::mem::take(&mut self.fill),
            ..Patch::default()
        }
    }

    /// Whether it matters which of the two comes first.
    pub fn touches(&self, other: &Patch) -> bool {
        let whole = |patch: &Patch, id: &ChainId| patch.write.contains_key(id) || patch.create.contains(id) || patch.delete.contains(id);
        if self.sets_of().any(|set| other.sets_of().any(|others| others == set)) {
            return true;
        }
        let lines = |patch: &Patch| patch.add.iter().chain(patch.remove.keys()).map(|line| line.chain.clone()).collect::<BTreeSet<_>>();
        let (mine, others) = (lines(self), lines(other));
        let own = self.write.keys().chain(&self.create).chain(&self.delete);
        own.clone().any(|id| whole(other, id) || others.contains(id)) || mine.iter().any(|id| whole(other, id))
    }

    /// The sets that it has steps on.
    fn sets_of(&self) -> impl Iterator<Item = &String> + Clone {
        let members = self.fill.iter().chain(&self.drain).map(|member| &member.set);
        self.create_sets.keys().chain(&self.destroy_sets).chain(members)
    }

    /// The restore text of one table, empty when it is not touched. New lines go in before old ones leave, those put in anew behind themselves.
    fn block(&self, table: Table, out: &mut String) {
        let start = out.len();
        let declared = self.write.keys().chain(&self.create).chain(&self.delete).filter(|id| id.table == table);
        for id in declared {
            put(out, format_args!(":{} - [0:0]", id.name));
        }
        for (id, rules) in self.write.iter().filter(|(id, _)| id.table == table) {
            rules.iter().for_each(|rule| put(out, format_args!("-A {} {rule}", id.name)));
        }
        let leaving = self.remove.iter().filter(|(line, _)| line.chain.table == table && !self.delete.contains(&line.chain));
        let (anew, leaving): (Vec<_>, Vec<_>) = leaving.partition(|(line, _)| self.add.contains(*line));
        anew.into_iter().for_each(|(line, times)| put_removal(out, line, *times));
        for line in self.add.iter().filter(|line| line.chain.table == table) {
            let flag = if line.end == End::Head { "-I" } else { "-A" };
            put(out, format_args!("{flag} {} {}", line.chain.name, line.rule));
        }
        leaving.into_iter().for_each(|(line, times)| put_removal(out, line, *times));
        for id in self.delete.iter().filter(|id| id.table == table) {
            put(out, format_args!("-X {}", id.name));
        }
        if out.len() > start {
            out.insert_str(start, &format!("*{}\n", table.name()));
            out.push_str("COMMIT\n");
        }
    }

    /// The restore text of the whole patch.
    pub fn to_restore(&self) -> String {
        let mut out = String::new();
        // Translation is set up before anything refuses it, and torn down after: a service that gains its first
        // endpoint is never both translated and rejected for long.
        self.block(Table::Nat, &mut out);
        self.block(Table::Filter, &mut out);
        self.block(Table::Mangle, &mut out);
        self.block(Table::Raw, &mut out);
        out
    }

    /// How many rules and chains it touches.
    pub fn size(&self) -> usize {
        self.write.values().map(|rules| rules.len() + 1).sum::<usize>()
            + self.create.len()
            + self.remove.values().sum::<usize>()
            + self.add.len()
            + self.delete.len()
    }
}

/// Pieces of a patch in the making.
struct Pieces {
    done: Vec<Patch>,
    open: Patch,
    size: usize,
    most: usize,
}

impl Pieces {
    fn put(&mut self, size: usize, step: impl FnOnce(&mut Patch)) {
        if self.size + size > self.most {
            self.close();
        }
        step(&mut self.open);
        self.size += size;
    }

    fn close(&mut self) {
        self.size = 0;
        let piece = std::mem::take(&mut self.open);
        self.done.extend(Some(piece).filter(|piece| !piece.is_empty()));
    }
}

/// The chains, each behind those that its rules lead to.
fn targets_first(chains: &BTreeMap<ChainId, Vec<String>>) -> Vec<ChainId> {
    let mut ordered = Vec::with_capacity(chains.len());
    let mut seen: HashSet<&ChainId> = HashSet::new();
    for id in chains.keys() {
        // Entered once to look at its targets, and once behind them.
        let mut stack = vec![(id, false)];
        while let Some((id, behind)) = stack.pop() {
            if behind {
                ordered.push(id.clone());
            } else if seen.insert(id) {
                stack.push((id, true));
                let targets = chains[id].iter().filter_map(|rule| Some(ChainId::new(id.table, target(rule)?)));
                stack.extend(targets.filter_map(|target| chains.get_key_value(&target)).map(|(target, _)| (target, false)));
            }
        }
    }
    ordered
}

/// Where a rule leads.
fn target(rule: &str) -> Option<&str> {
    rule.rsplit_once(" -j ")
        .or_else(|| rule.rsplit_once(" -g "))
        .or_else(|| rule.split_once("-j "))
        .or_else(|| rule.split_once("-g "))?
        .1
        .split(' ')
        .next()
}

/// Each removes the first that it finds.
fn put_removal(out: &mut String, line: &Line, times: usize) {
    (0..times).for_each(|_| put(out, format_args!("-D {} {}", line.chain.name, line.rule)));
}

fn put(out: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(out, "{line}").expect("writing to a string never fails");
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::iptables::{FakeIptables, Iptables, Observed};

    /// Services, each a line that leads over one chain to several, as wide as asked for.
    fn rules(name: &str, ports: usize) -> RuleSet {
        let mut rules = RuleSet::default();
        rules.share(Table::Nat, "ALL");
        for port in 0..ports {
            let (service, endpoint) = (format!("A-{name}-{port}"), format!("B-{name}-{port}"));
            rules.line(Table::Nat, "ALL", End::Head, format!("--dport {port} -m comment --comment \"{name}\" -j {service}"));
            rules.push(Table::Nat, &service, format!("-j {endpoint}"));
            rules.push(Table::Nat, &endpoint, "-j DNAT --to-destination 1.2.3.4");
        }
        rules
    }

    #[tokio::test]
    async fn a_large_patch_goes_in_and_out_in_pieces_while_others_change() {
        let fake = FakeIptables::default();
        let base = RuleSet { chains: BTreeMap::new(), lines: BTreeSet::new(), ..rules("any", 0) };
        fake.restore(RuleSet::default().diff(&base).to_restore()).await.expect("applies");
        let (wide, less, small) = (rules("wide", 50), rules("wide", 20), rules("small", 1));
        for (from, to) in [(&base, &wide), (&wide, &less), (&less, &wide), (&wide, &base)] {
            let pieces = from.diff(to).pieces(20);
            assert!(pieces.len() > 3, "{}", pieces.len());
            for (at, piece) in pieces.iter().enumerate() {
                assert!(piece.size() <= 20, "{}", piece.size());
                for others in [base.diff(&small), small.diff(&base)] {
                    assert!(pieces[at..].iter().all(|piece| !piece.touches(&others)));
                    fake.restore(others.to_restore()).await.expect("others change in between");
                }
                fake.restore(piece.to_restore()).await.unwrap_or_else(|error| panic!("{error}\n{}", piece.to_restore()));
            }
            let mut observed = Observed::default();
            observed.read(&fake.save(Table::Nat).await.expect("saves"));
            let left = to.reconcile(&observed, |id| id.name.starts_with(['A', 'B']));
            assert!(left.is_empty(), "{}", left.to_restore());
        }
    }

    #[tokio::test]
    async fn lines_that_stand_twice_go_and_come_as_often_also_in_pieces() {
        let fake = FakeIptables::default();
        let (wide, less) = (rules("wide", 50), rules("wide", 20));
        fake.restore(RuleSet::default().diff(&wide).to_restore()).await.expect("applies");
        let twice: Vec<String> = fake.rules(Table::Nat, "ALL").expect("stands").iter().map(|rule| format!("-A ALL {rule}\n")).collect();
        let standing = async || {
            let mut observed = Observed::default();
            observed.read(&fake.save(Table::Nat).await.expect("saves"));
            observed
        };
        let is_ours = |id: &ChainId| id.name.starts_with(['A', 'B']);
        for most in [20, 1000] {
            fake.restore(format!("*nat\n{}COMMIT\n", twice.concat())).await.expect("somebody else adds them again");
            let mut patch = less.reconcile(&standing().await, is_ours);
            assert_eq!((patch.add.len(), patch.remove.values().sum::<usize>()), (20, 100), "20 are put in anew, 30 go altogether");
            let first = patch.split_off(&rules("wide", 5));
            assert!(first.add.iter().all(|line| first.remove.contains_key(line)), "what comes anew goes in the same part");
            for piece in first.pieces(most).into_iter().chain(patch.pieces(most)) {
                fake.restore(piece.to_restore()).await.unwrap_or_else(|error| panic!("{error}\n{}", piece.to_restore()));
                let left = fake.rules(Table::Nat, "ALL").expect("stands");
                assert!(less.lines.iter().all(|line| left.contains(&line.rule)), "none is missing in between");
            }
            assert_eq!(fake.rules(Table::Nat, "ALL").expect("stands").len(), 20);
            let left = less.reconcile(&standing().await, is_ours);
            assert!(left.is_empty(), "{}", left.to_restore());
            fake.restore(less.diff(&wide).to_restore()).await.expect("applies");
        }
    }

    #[test]
    fn patches_that_share_more_than_a_standing_chain_touch_each_other() {
        let nothing = RuleSet::default();
        let (one, other) = (rules("one", 1), rules("other", 1));
        let standing = RuleSet { chains: BTreeMap::new(), lines: BTreeSet::new(), ..one.clone() };
        assert!(!standing.diff(&one).touches(&standing.diff(&other)));
        assert!(standing.diff(&one).touches(&one.diff(&standing)), "the same chains");
        assert!(nothing.diff(&one).touches(&standing.diff(&other)), "it makes the chain of the other's line");
        assert!(standing.diff(&other).touches(&one.diff(&nothing)), "that chain goes");
    }
}
