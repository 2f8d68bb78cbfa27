//! Sets of rules and the difference between two of them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{ChainId, End, Line, Member, SetKind, Table};

/// What should stand. Rules are spelled exactly as `iptables-save` prints them, so that text compares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleSet {
    /// Chains owned whole: rewritten when their content differs.
    pub chains: BTreeMap<ChainId, Vec<String>>,
    /// Chains that must exist and whose content is made of lines.
    pub shared: BTreeSet<ChainId>,
    /// Lines in shared and in built-in chains.
    pub lines: BTreeSet<Line>,
    /// Sets that must exist.
    pub sets: BTreeMap<String, SetKind>,
    /// Entries of sets.
    pub members: BTreeSet<Member>,
}

impl RuleSet {
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.shared.is_empty() && self.lines.is_empty() && self.sets.is_empty() && self.members.is_empty()
    }

    /// How many rules and chains it has; entries of sets cost next to nothing.
    pub fn size(&self) -> usize {
        self.chains.values().map(|rules| rules.len() + 1).sum::<usize>() + self.shared.len() + self.lines.len()
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

    /// Declares a set.
    pub fn set(&mut self, name: &str, kind: SetKind) {
        self.sets.insert(name.to_owned(), kind);
    }

    /// Adds an entry to a set.
    pub fn member(&mut self, set: &str, entry: impl Into<String>) {
        self.members.insert(Member { set: set.to_owned(), entry: entry.into() });
    }

    /// Adds everything of `other`.
    pub fn merge(&mut self, other: RuleSet) {
        self.chains.extend(other.chains);
        self.shared.extend(other.shared);
        self.lines.extend(other.lines);
        self.sets.extend(other.sets);
        self.members.extend(other.members);
    }
}
