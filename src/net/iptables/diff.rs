//! What leads from one rule set, or from what stands, to another rule set.

use std::collections::{BTreeSet, HashMap};

use super::{ChainId, End, Line, Member, Observed, Patch, RuleSet};

impl RuleSet {
    /// The steps from `self`, which stands, to `wanted`.
    pub fn diff(&self, wanted: &RuleSet) -> Patch {
        let rewritten = wanted.chains.iter().filter(|(id, rules)| self.chains.get(*id) != Some(*rules));
        let gone = self.chains.keys().filter(|id| !wanted.chains.contains_key(*id)).chain(self.shared.difference(&wanted.shared));
        Patch {
            write: rewritten.map(|(id, rules)| (id.clone(), rules.clone())).collect(),
            create: wanted.shared.difference(&self.shared).cloned().collect(),
            remove: self.lines.difference(&wanted.lines).map(|line| (line.clone(), 1)).collect(),
            add: wanted.lines.difference(&self.lines).cloned().collect(),
            delete: gone.cloned().collect(),
            create_sets: wanted.sets.iter().filter(|(name, _)| !self.sets.contains_key(*name)).map(|(name, kind)| (name.clone(), *kind)).collect(),
            fill: wanted.members.difference(&self.members).cloned().collect(),
            drain: self.members.difference(&wanted.members).cloned().collect(),
            destroy_sets: self.sets.keys().filter(|name| !wanted.sets.contains_key(*name)).cloned().collect(),
        }
    }

    /// The steps from what the kernel has to `self`. Chains that `ours` accepts and nothing wants are deleted, and lines
    /// nothing wants are removed from our shared chains; foreign chains are left alone but for our own lines. A line that stands more than
    /// once, as two writers at the same time leave it, is put in anew: whoever removes it later removes one.
    pub fn reconcile(&self, observed: &Observed, ours: impl Fn(&ChainId) -> bool) -> Patch {
        let mut patch = Patch::default();
        for (id, rules) in &self.chains {
            if observed.rules(id) != Some(rules) {
                patch.write.insert(id.clone(), rules.clone());
            }
        }
        patch.create = self.shared.iter().filter(|id| observed.rules(id).is_none()).cloned().collect();
        let mut standing: Option<(&ChainId, HashMap<&str, usize>)> = None;
        // They come chain by chain.
        for line in &self.lines {
            let chain = match &standing {
                Some((id, _)) if *id == &line.chain => &standing,
                _ => {
                    standing = Some((&line.chain, counted(observed, &line.chain)));
                    &standing
                }
            };
            let times = chain.as_ref().and_then(|(_, rules)| rules.get(line.rule.as_str())).copied().unwrap_or(0);
            if times != 1 {
                patch.add.insert(line.clone());
            }
            if times > 1 {
                patch.remove.insert(line.clone(), times);
            }
        }
        for (id, rules) in observed.chains() {
            if self.shared.contains(id) {
                for rule in rules.iter().filter(|rule| !self.wants(id, rule)) {
                    *patch.remove.entry(Line { chain: id.clone(), rule: rule.clone(), end: End::Head }).or_default() += 1;
                }
            } else if !self.chains.contains_key(id) && ours(id) {
                patch.delete.insert(id.clone());
            }
        }
        patch
    }

    /// The same of sets: those that `ours` accepts and nothing wants are destroyed.
    pub fn reconcile_sets(&self, observed: &Observed, ours: impl Fn(&str) -> bool) -> Patch {
        let standing = |name: &String| observed.sets().get(name);
        let mut patch = Patch {
            create_sets: self.sets.iter().filter(|(name, _)| standing(name).is_none()).map(|(name, kind)| (name.clone(), *kind)).collect(),
            destroy_sets: observed.sets().keys().filter(|name| !self.sets.contains_key(*name) && ours(name)).cloned().collect(),
            ..Patch::default()
        };
        let there = observed.sets().iter().filter(|(name, _)| self.sets.contains_key(*name));
        let there: BTreeSet<Member> =
            there.flat_map(|(set, entries)| entries.iter().map(|entry| Member { set: set.clone(), entry: entry.clone() })).collect();
        patch.fill = self.members.difference(&there).cloned().collect();
        patch.drain = there.difference(&self.members).cloned().collect();
        patch
    }

    fn wants(&self, chain: &ChainId, rule: &str) -> bool {
        let at = |end| Line { chain: chain.clone(), rule: rule.to_owned(), end };
        self.lines.contains(&at(End::Head)) || self.lines.contains(&at(End::Tail))
    }
}

/// How many times each rule of a chain stands.
fn counted<'a>(observed: &'a Observed, chain: &ChainId) -> HashMap<&'a str, usize> {
    let mut counted = HashMap::new();
    for rule in observed.rules(chain).into_iter().flatten() {
        *counted.entry(rule.as_str()).or_default() += 1;
    }
    counted
}
