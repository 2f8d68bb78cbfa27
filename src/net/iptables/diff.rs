//! What leads from one rule set, or from what stands, to another rule set.

use std::collections::HashSet;

use super::{ChainId, End, Line, Observed, Patch, RuleSet};

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
