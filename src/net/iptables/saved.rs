//! What the kernel has, read from `iptables-save` and `ipset save` text. Pure.

use std::collections::BTreeMap;

use super::{ChainId, Table, sets};

/// The chains of one or more tables with their rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    chains: BTreeMap<ChainId, Vec<String>>,
    policies: BTreeMap<ChainId, String>,
    sets: BTreeMap<String, Vec<String>>,
}

impl Observed {
    /// Adds the tables found in `text`. Lines that are neither chains nor rules are skipped.
    pub fn read(&mut self, text: &str) {
        let mut table = None;
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('*') {
                table = Table::ALL.into_iter().find(|table| table.name() == name.trim());
            }
            let Some(table) = table else { continue };
            if let Some(rest) = line.strip_prefix(':') {
                let mut words = rest.split_whitespace();
                let id = ChainId::new(table, words.next().unwrap_or_default());
                if let Some(policy) = words.next().filter(|policy| *policy != "-") {
                    self.policies.insert(id.clone(), policy.to_owned());
                }
                self.chains.entry(id).or_default();
            } else if let Some(rest) = rule_of(line) {
                let (chain, rule) = rest.split_once(' ').unwrap_or((rest, ""));
                self.chains.entry(ChainId::new(table, chain)).or_default().push(rule.to_owned());
            }
        }
    }

    /// Adds the sets found in the text of `ipset save`.
    pub fn read_sets(&mut self, text: &str) {
        sets::read(text, &mut self.sets);
    }

    /// The sets with their entries.
    pub fn sets(&self) -> &BTreeMap<String, Vec<String>> {
        &self.sets
    }

    /// The chain's rules; `None` when it does not exist.
    pub fn rules(&self, id: &ChainId) -> Option<&Vec<String>> {
        self.chains.get(id)
    }

    pub fn chains(&self) -> impl Iterator<Item = (&ChainId, &Vec<String>)> {
        self.chains.iter()
    }

    /// The policy of a built-in chain.
    pub fn policy(&self, id: &ChainId) -> Option<&str> {
        self.policies.get(id).map(String::as_str)
    }
}

/// The part of an append line behind `-A`, counters in front skipped.
fn rule_of(line: &str) -> Option<&str> {
    let line = match line.strip_prefix('[') {
        Some(counted) => counted.split_once("] ")?.1,
        None => line,
    };
    line.strip_prefix("-A ")
}
