//! What leads from one rule set, or from what stands, to another rule set.

use std::collections::{BTreeSet, HashSet};

use super::{ChainId, End, Line, Member, Observed, Patch, RuleSet};

impl RuleSet {
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
            create_sets: wanted.sets.iter().filter(|(name, _)| !self.sets.contains_key(*name)).map(|(name, kind)| (name.clone(), *kind)).collect(),
            fill: wanted.members.difference(&self.members).cloned().collect(),
            drain: self.members.difference(&wanted.members).cloned().collect(),
            destroy_sets: self.sets.keys().filter(|name| !wanted.sets.contains_key(*name)).cloned().collect(),
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
