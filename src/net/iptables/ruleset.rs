//! Sets of rules and the difference between two of them. Pure.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{Observed, Patch, Table};

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

    /// How many rules and chains it has.
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
        let mut standing: Option<(&ChainId, HashSet<&str>)> = None;
        // They come chain by chain.
        for line in &self.lines {
            let chain = match &standing {
                Some((id, _)) if *id == &line.chain => &standing,
                _ => {
                    let rules = observed.rules(&line.chain).into_iter().flatten().map(String::as_str).collect();
                    standing = Some((&line.chain, rules));
                    &standing
                }
            };
            if chain.as_ref().is_none_or(|(_, rules)| !rules.contains(line.rule.as_str())) {
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
