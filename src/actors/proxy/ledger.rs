//! The rules of all services: what stands, and how a batch of changes gets in. Pure.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use troupe_api::meta::ObjectKey;
use troupe_net::iptables::{ChainId, End, Line, Observed, Patch, RuleSet};

use super::names::{self, SERVICES};

/// Changes by service: its rules now, or `None` when it is gone.
pub type Changes = BTreeMap<ObjectKey, Option<Arc<RuleSet>>>;

/// What every service contributes, and the dispatch chains that follow from it.
#[derive(Clone, Debug)]
pub struct Ledger {
    base: RuleSet,
    services: HashMap<ObjectKey, Arc<RuleSet>>,
    /// Lines per dispatch chain; a chain without lines does not stand.
    shards: HashMap<ChainId, usize>,
}

impl Ledger {
    pub fn new(base: RuleSet) -> Self {
        Ledger { base, services: HashMap::new(), shards: HashMap::new() }
    }

    pub fn len(&self) -> usize {
        self.services.len()
    }

    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// The steps that a batch of changes takes from what stands. Its cost is that of the changes.
    pub fn patch(&self, changes: &Changes) -> Patch {
        let nothing = RuleSet::default();
        let mut patch = Patch::default();
        for (key, change) in changes {
            let old = self.services.get(key).map_or(&nothing, Arc::as_ref);
            patch.merge(old.diff(change.as_deref().unwrap_or(&nothing)));
        }
        let mut deltas: BTreeMap<&ChainId, isize> = BTreeMap::new();
        let lines = patch.add.iter().map(|line| (line, 1)).chain(patch.remove.iter().map(|line| (line, -1)));
        for (line, step) in lines.filter(|(line, _)| names::shard_range(&line.chain.name).is_some()) {
            *deltas.entry(&line.chain).or_default() += step;
        }
        let mut shards = Patch::default();
        for (chain, delta) in deltas {
            let before = self.shards.get(chain).copied().unwrap_or(0);
            match (before, before.saturating_add_signed(delta)) {
                (0, 1..) => {
                    shards.create.insert(chain.clone());
                    shards.add.insert(dispatch(chain));
                }
                (1.., 0) => {
                    shards.remove.insert(dispatch(chain));
                    shards.delete.insert(chain.clone());
                }
                _ => {}
            }
        }
        patch.merge(shards);
        patch
    }

    /// Takes the changes as standing.
    pub fn commit(&mut self, changes: &Changes) {
        for (key, change) in changes {
            if let Some(old) = self.services.remove(key) {
                self.count(&old, -1);
            }
            if let Some(rules) = change {
                self.count(rules, 1);
                self.services.insert(key.clone(), rules.clone());
            }
        }
    }

    fn count(&mut self, rules: &RuleSet, step: isize) {
        for line in rules.lines.iter().filter(|line| names::shard_range(&line.chain.name).is_some()) {
            let count = self.shards.entry(line.chain.clone()).or_default();
            *count = count.saturating_add_signed(step);
            if *count == 0 {
                self.shards.remove(&line.chain);
            }
        }
    }

    /// Everything that should stand.
    pub fn wanted(&self) -> RuleSet {
        self.wanted_of(|_| true)
    }

    /// What all services need, and the rules of some.
    fn wanted_of(&self, which: impl Fn(&RuleSet) -> bool) -> RuleSet {
        let mut wanted = self.base.clone();
        self.services.values().filter(|rules| which(rules)).for_each(|rules| wanted.merge(rules));
        for chain in self.shards.keys() {
            wanted.shared.insert(chain.clone());
            wanted.lines.insert(dispatch(chain));
        }
        wanted
    }

    /// The steps from what the kernel has to everything that should stand.
    pub fn reconcile(&self, observed: &Observed) -> Patch {
        self.wanted().reconcile(observed, |id| names::is_ours(&id.name))
    }

    /// The same in several transactions when it takes more than `most` steps: first what all services need and the rules of those that have
    /// no more than that, then the others' in pieces.
    pub fn reconcile_in_pieces(&self, observed: &Observed, most: usize) -> VecDeque<Patch> {
        let mut patch = self.reconcile(observed);
        if patch.size() <= most {
            return [patch].into();
        }
        let first = patch.split_off(&self.wanted_of(|rules| rules.size() <= most));
        [first].into_iter().chain(patch.pieces(most)).filter(|piece| !piece.is_empty()).collect()
    }

    /// How many rules and chains a service has.
    pub fn size_of(&self, service: &ObjectKey) -> usize {
        self.services.get(service).map_or(0, |rules| rules.size())
    }
}

/// The line that leads to a dispatch chain.
fn dispatch(chain: &ChainId) -> Line {
    let range = names::shard_range(&chain.name).expect("only dispatch chains are counted");
    Line { chain: ChainId::new(chain.table, SERVICES), rule: format!("-d {range} -j {}", chain.name), end: End::Head }
}
