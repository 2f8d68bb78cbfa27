//! The rules of all owners: what stands, and how a batch of changes gets in. Pure.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use troupe_net::iptables::{ChainId, Family, Observed, Patch, RuleSet};

use super::{Layout, packed::PackedRules};

/// Changes by owner: its rules now, or `None` when it is gone.
pub type Changes<O> = BTreeMap<O, Option<Arc<RuleSet>>>;

/// What every owner contributes, and what they share that follows from it.
#[derive(Debug)]
pub struct Ledger<L: Layout> {
    family: Family,
    base: RuleSet,
    owners: HashMap<L::Owner, PackedRules>,
    /// Lines per dispatch chain; a chain without lines does not stand.
    dispatch: HashMap<ChainId, usize>,
    /// Owners per set; a set that nobody declares does not stand.
    sets: HashMap<String, usize>,
}

impl<L: Layout> Clone for Ledger<L> {
    fn clone(&self) -> Self {
        Ledger { family: self.family, base: self.base.clone(), owners: self.owners.clone(), dispatch: self.dispatch.clone(), sets: self.sets.clone() }
    }
}

impl<L: Layout> Ledger<L> {
    /// `base` stands whoever is there.
    pub fn new(base: RuleSet, family: Family) -> Self {
        Ledger { family, base, owners: HashMap::new(), dispatch: HashMap::new(), sets: HashMap::new() }
    }

    pub fn len(&self) -> usize {
        self.owners.len()
    }

    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// The steps that a batch of changes takes from what stands. Its cost is that of the changes.
    pub fn patch(&self, changes: &Changes<L::Owner>) -> Patch {
        let nothing = RuleSet::default();
        let mut patch = Patch::default();
        let mut sets: BTreeMap<String, isize> = BTreeMap::new();
        for (owner, change) in changes {
            let old = self.owners.get(owner).map(PackedRules::unpack).unwrap_or_default();
            let new = change.as_deref().unwrap_or(&nothing);
            new.sets.keys().for_each(|set| *sets.entry(set.clone()).or_default() += 1);
            old.sets.keys().for_each(|set| *sets.entry(set.clone()).or_default() -= 1);
            patch.merge(old.diff(new));
        }
        self.share_chains(&mut patch);
        self.share_sets(&mut patch, &sets);
        patch
    }

    fn share_chains(&self, patch: &mut Patch) {
        let mut deltas: BTreeMap<&ChainId, isize> = BTreeMap::new();
        let lines = patch.add.iter().map(|line| (line, 1)).chain(patch.remove.keys().map(|line| (line, -1)));
        for (line, step) in lines.filter(|(line, _)| L::dispatch(&line.chain).is_some()) {
            *deltas.entry(&line.chain).or_default() += step;
        }
        let mut chains = Patch::default();
        for (chain, delta) in deltas {
            let before = self.dispatch.get(chain).copied().unwrap_or(0);
            match (before, before.saturating_add_signed(delta)) {
                (0, 1..) => {
                    chains.create.insert(chain.clone());
                    chains.add.extend(L::dispatch(chain));
                }
                (1.., 0) => {
                    chains.remove.extend(L::dispatch(chain).map(|line| (line, 1)));
                    chains.delete.insert(chain.clone());
                }
                _ => {}
            }
        }
        patch.merge(chains);
    }

    /// Sets come with the first who declares them and go with the last.
    fn share_sets(&self, patch: &mut Patch, deltas: &BTreeMap<String, isize>) {
        let before = |set: &str| self.sets.get(set).copied().unwrap_or(0);
        let after = |set: &str| before(set).saturating_add_signed(deltas.get(set).copied().unwrap_or(0));
        patch.create_sets.retain(|set, _| before(set) == 0 && after(set) > 0);
        patch.destroy_sets.retain(|set| before(set) > 0 && after(set) == 0);
        patch.fill.retain(|member| after(&member.set) > 0);
        patch.drain.retain(|member| after(&member.set) > 0);
    }

    /// Takes the changes as standing.
    pub fn commit(&mut self, changes: &Changes<L::Owner>) {
        for (owner, change) in changes {
            self.put(owner, change.as_deref().map(PackedRules::of));
        }
    }

    /// Takes one owner's rules as standing.
    pub fn put(&mut self, owner: &L::Owner, rules: Option<PackedRules>) {
        if let Some(old) = self.owners.remove(owner) {
            self.count(&old.unpack(), -1);
        }
        if let Some(rules) = rules {
            self.count(&rules.unpack(), 1);
            self.owners.insert(owner.clone(), rules);
        }
    }

    fn count(&mut self, rules: &RuleSet, step: isize) {
        for line in rules.lines.iter().filter(|line| L::dispatch(&line.chain).is_some()) {
            let count = self.dispatch.entry(line.chain.clone()).or_default();
            *count = count.saturating_add_signed(step);
            if *count == 0 {
                self.dispatch.remove(&line.chain);
            }
        }
        for set in rules.sets.keys() {
            let count = self.sets.entry(set.clone()).or_default();
            *count = count.saturating_add_signed(step);
            if *count == 0 {
                self.sets.remove(set);
            }
        }
    }

    /// Everything that should stand.
    pub fn wanted(&self) -> RuleSet {
        self.wanted_of(|_| true)
    }

    /// What all owners need, and the rules of some.
    fn wanted_of(&self, which: impl Fn(&PackedRules) -> bool) -> RuleSet {
        let mut wanted = self.base.clone();
        self.owners.values().filter(|rules| which(rules)).for_each(|rules| wanted.merge(rules.unpack()));
        for chain in self.dispatch.keys() {
            wanted.shared.insert(chain.clone());
            wanted.lines.extend(L::dispatch(chain));
        }
        wanted
    }

    /// The steps from what the kernel has to everything that should stand.
    pub fn reconcile(&self, observed: &Observed) -> Patch {
        let wanted = self.wanted();
        let mut patch = wanted.reconcile(observed, L::is_ours);
        if L::SETS {
            patch.merge(wanted.reconcile_sets(observed, |name| L::is_our_set(self.family, name)));
        }
        patch
    }

    /// The same in several transactions when it takes more than `most` steps: first what all owners need and the rules of those that have
    /// no more than that, then the others', both in pieces. `iptables-restore` walks a list of the chains that a transaction names for each
    /// of its rules: 70,000 steps at once take it five times as long as in pieces of 2000.
    pub fn reconcile_in_pieces(&self, observed: &Observed, most: usize) -> VecDeque<Patch> {
        let mut patch = self.reconcile(observed);
        if patch.size() <= most {
            return [patch].into();
        }
        let mut pieces = Vec::new();
        if self.owners.values().any(|rules| rules.size() > most) {
            pieces = patch.split_off(&self.wanted_of(|rules| rules.size() <= most)).pieces(most);
        }
        pieces.into_iter().chain(patch.pieces(most)).filter(|piece| !piece.is_empty()).collect()
    }

    /// How many rules and chains an owner has.
    pub fn size_of(&self, owner: &L::Owner) -> usize {
        self.owners.get(owner).map_or(0, PackedRules::size)
    }
}
