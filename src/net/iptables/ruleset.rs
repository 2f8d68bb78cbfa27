//! Sets of rules and the difference between two of them, as one restore transaction. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use super::{Observed, Table};

/// A chain of one table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId {
    pub table: Table,
    pub name: String,
}

impl ChainId {
    pub fn new(table: Table, name: impl Into<String>) -> Self {
        ChainId { table, name: name.into() }
    }
}

/// Where a line goes in a chain that others write to as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    Head,
    Tail,
}

/// One rule in a shared chain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    pub chain: ChainId,
    /// The rule in `iptables-save`'s form, without `-A CHAIN`.
    pub rule: String,
    pub end: End,
}

/// What should stand. Rules are spelled exactly as `iptables-save` prints them, so that text compares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleSet {
    /// Chains owned whole: rewritten when their content differs.
    pub chains: BTreeMap<ChainId, Vec<String>>,
    /// Chains that must exist and whose content is made of lines.
    pub shared: BTreeSet<ChainId>,
    /// Lines in shared and in built-in chains.
    pub lines: BTreeSet<Line>,
}

impl RuleSet {
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.shared.is_empty() && self.lines.is_empty()
    }

    /// Appends a rule to an owned chain, creating the chain.
    pub fn push(&mut self, table: Table, chain: &str, rule: impl Into<String>) {
        self.chains.entry(ChainId::new(table, chain)).or_default().push(rule.into());
    }

    /// Declares a shared chain.
    pub fn share(&mut self, table: Table, chain: &str) {
        self.shared.insert(ChainId::new(table, chain));
    }

    /// Adds a line to a shared or built-in chain.
    pub fn line(&mut self, table: Table, chain: &str, end: End, rule: impl Into<String>) {
        self.lines.insert(Line { chain: ChainId::new(table, chain), rule: rule.into(), end });
    }

    /// Adds everything of `other`.
    pub fn merge(&mut self, other: &RuleSet) {
        self.chains.extend(other.chains.iter().map(|(id, rules)| (id.clone(), rules.clone())));
        self.shared.extend(other.shared.iter().cloned());
        self.lines.extend(other.lines.iter().cloned());
    }

    /// The steps from `self`, which stands, to `wanted`.
    pub fn diff(&self, wanted: &RuleSet) -> Patch {
        let rewritten = wanted.chains.iter().filter(|(id, rules)| self.chains.get(*id) != Some(*rules));
        let gone = self.chains.keys().filter(|id| !wanted.chains.contains_key(*id)).chain(self.shared.difference(&wanted.shared));
        Patch {
            write: rewritten.map(|(id, rules)| (id.clone(), rules.clone())).collect(),
            create: wanted.shared.difference(&self.shared).cloned().collect(),
            remove: self.lines.difference(&wanted.lines).cloned().collect(),
            add: wanted.lines.difference(&self.lines).cloned().collect(),
            delete: gone.cloned().collect(),
        }
    }

    /// The steps from what the kernel has to `self`. Chains that `ours` accepts and nothing wants are deleted, and lines
    /// nothing wants are removed from our shared chains; foreign chains are left alone but for our own lines.
    pub fn reconcile(&self, observed: &Observed, ours: impl Fn(&ChainId) -> bool) -> Patch {
        let mut patch = Patch::default();
        for (id, rules) in &self.chains {
            if observed.rules(id) != Some(rules) {
                patch.write.insert(id.clone(), rules.clone());
            }
        }
        patch.create = self.shared.iter().filter(|id| observed.rules(id).is_none()).cloned().collect();
        for line in &self.lines {
            if !observed.has(line) {
                patch.add.insert(line.clone());
            }
        }
        for (id, rules) in observed.chains() {
            if self.shared.contains(id) {
                let stray = rules.iter().filter(|rule| !self.wants(id, rule));
                patch.remove.extend(stray.map(|rule| Line { chain: id.clone(), rule: rule.clone(), end: End::Head }));
            } else if !self.chains.contains_key(id) && ours(id) {
                patch.delete.insert(id.clone());
            }
        }
        patch
    }

    fn wants(&self, chain: &ChainId, rule: &str) -> bool {
        let at = |end| Line { chain: chain.clone(), rule: rule.to_owned(), end };
        self.lines.contains(&at(End::Head)) || self.lines.contains(&at(End::Tail))
    }
}

/// Steps that one transaction takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patch {
    /// Chains to create or to rewrite whole.
    pub write: BTreeMap<ChainId, Vec<String>>,
    /// Shared chains to create; they do not exist yet.
    pub create: BTreeSet<ChainId>,
    /// Lines to remove; they stand.
    pub remove: BTreeSet<Line>,
    /// Lines to add.
    pub add: BTreeSet<Line>,
    /// Chains to delete, with what is in them; nothing refers to them afterwards.
    pub delete: BTreeSet<ChainId>,
}

impl Patch {
    pub fn is_empty(&self) -> bool {
        self.write.is_empty() && self.create.is_empty() && self.remove.is_empty() && self.add.is_empty() && self.delete.is_empty()
    }

    /// Adds the steps of `other`, which touches other chains and lines.
    pub fn merge(&mut self, other: Patch) {
        self.write.extend(other.write);
        self.create.extend(other.create);
        self.remove.extend(other.remove);
        self.add.extend(other.add);
        self.delete.extend(other.delete);
    }

    /// The restore text of one table, empty when it is not touched. New lines go in before old ones leave.
    fn block(&self, table: Table, out: &mut String) {
        let start = out.len();
        let declared = self.write.keys().chain(&self.create).chain(&self.delete).filter(|id| id.table == table);
        for id in declared {
            put(out, format_args!(":{} - [0:0]", id.name));
        }
        for (id, rules) in self.write.iter().filter(|(id, _)| id.table == table) {
            rules.iter().for_each(|rule| put(out, format_args!("-A {} {rule}", id.name)));
        }
        let here = |line: &&Line| line.chain.table == table;
        for line in self.add.iter().filter(here) {
            let flag = if line.end == End::Head { "-I" } else { "-A" };
            put(out, format_args!("{flag} {} {}", line.chain.name, line.rule));
        }
        for line in self.remove.iter().filter(here).filter(|line| !self.delete.contains(&line.chain)) {
            put(out, format_args!("-D {} {}", line.chain.name, line.rule));
        }
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
        out
    }

    /// How many rules and chains it touches.
    pub fn size(&self) -> usize {
        self.write.values().map(|rules| rules.len() + 1).sum::<usize>() + self.create.len() + self.remove.len() + self.add.len() + self.delete.len()
    }
}

fn put(out: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(out, "{line}").expect("writing to a string never fails");
}
