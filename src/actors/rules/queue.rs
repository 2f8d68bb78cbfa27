//! What waits to be applied, and what of it goes into the next transaction. Pure.
//!
//! An owner may have tens of thousands of rules. Its change is taken in pieces, and whatever else changes meanwhile goes in with the next
//! piece, so that nobody waits for others' width.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use troupe_net::iptables::Patch;

use super::{
    layout::Layout,
    ledger::{Changes, Ledger},
    packed::Packed,
};

/// About how many steps one transaction takes. Owners with more rules change in pieces.
pub const MOST_STEPS: usize = 2000;

/// Plans by owner; `None` for one that is gone.
pub type Plans<O> = BTreeMap<O, Option<Arc<Packed>>>;

/// The waiting changes.
#[derive(Debug)]
pub struct Queue<L: Layout> {
    pending: Plans<L::Owner>,
    /// What is left of a change that the ledger has already.
    rest: VecDeque<Patch>,
    /// An owner with many rules waited for others, which wait for it now.
    passed_over: bool,
}

/// What is to be done now. The ledger has it already.
#[derive(Debug)]
pub struct Taken<L: Layout> {
    pub patch: Patch,
    pub plans: Plans<L::Owner>,
    /// What has begun: these stand when no piece is left.
    pub begun: Plans<L::Owner>,
}

impl<L: Layout> Default for Queue<L> {
    fn default() -> Self {
        Queue { pending: Plans::new(), rest: VecDeque::new(), passed_over: false }
    }
}

impl<L: Layout> Default for Taken<L> {
    fn default() -> Self {
        Taken { patch: Patch::default(), plans: Plans::new(), begun: Plans::new() }
    }
}

impl<L: Layout> Queue<L> {
    /// An owner's newest plan.
    pub fn insert(&mut self, owner: L::Owner, plan: Option<Arc<Packed>>) {
        self.pending.insert(owner, plan);
    }

    pub fn has(&self, owner: &L::Owner) -> bool {
        self.pending.contains_key(owner)
    }

    /// How many owners wait.
    pub fn waiting(&self) -> usize {
        self.pending.len()
    }

    /// How many pieces are left of what has begun.
    pub fn pieces(&self) -> usize {
        self.rest.len()
    }

    pub fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.rest.is_empty()
    }

    /// Everything, for a comparison with what the kernel has.
    pub fn take_all(&mut self, ledger: &mut Ledger<L>) -> Plans<L::Owner> {
        self.rest.clear();
        let plans = std::mem::take(&mut self.pending);
        commit(&plans, ledger);
        plans
    }

    /// These pieces come next.
    pub fn go_on_with(&mut self, pieces: VecDeque<Patch>) {
        self.rest = pieces;
    }

    /// What was under way did not succeed: the ledger's state is not the kernel's.
    pub fn give_up(&mut self) {
        self.rest.clear();
    }

    /// The next transaction. Its patch may be empty although something waits.
    pub fn next(&mut self, ledger: &mut Ledger<L>) -> Taken<L> {
        let mut taken = if self.passed_over { Taken::default() } else { self.take_narrow(ledger) };
        self.passed_over = self.rest.is_empty() && !self.begin_wide(ledger, &mut taken);
        if let Some(piece) = self.rest.pop_front() {
            taken.patch.merge(piece);
        }
        taken
    }

    /// The changes of all owners that have few rules, unless what is under way comes into their way.
    fn take_narrow(&mut self, ledger: &mut Ledger<L>) -> Taken<L> {
        let (narrow, wide): (Plans<L::Owner>, Plans<L::Owner>) =
            std::mem::take(&mut self.pending).into_iter().partition(|(key, plan)| !is_wide::<L>(key, plan.as_deref(), ledger));
        self.pending = wide;
        if narrow.is_empty() {
            return Taken::default();
        }
        let patch = ledger.patch(&changes(&narrow));
        if self.rest.iter().any(|piece| piece.touches(&patch)) {
            self.pending.extend(narrow);
            return Taken::default();
        }
        commit(&narrow, ledger);
        Taken { patch, plans: narrow, begun: Plans::new() }
    }

    /// Begins with the next owner that has many rules. False where it must wait for what is taken already.
    fn begin_wide(&mut self, ledger: &mut Ledger<L>, taken: &mut Taken<L>) -> bool {
        let wide = self.pending.iter().find(|(key, plan)| is_wide::<L>(key, plan.as_deref(), ledger));
        let Some(key) = wide.map(|(key, _)| key.clone()) else { return true };
        let plans: Plans<L::Owner> = self.pending.remove_entry(&key).into_iter().collect();
        let pieces: VecDeque<Patch> = ledger.patch(&changes(&plans)).pieces(MOST_STEPS).into_iter().filter(|piece| !piece.is_empty()).collect();
        if pieces.iter().any(|piece| piece.touches(&taken.patch)) {
            self.pending.extend(plans);
            return false;
        }
        commit(&plans, ledger);
        self.rest = pieces;
        taken.begun = plans;
        true
    }
}

fn is_wide<L: Layout>(key: &L::Owner, plan: Option<&Packed>, ledger: &Ledger<L>) -> bool {
    ledger.size_of(key).max(plan.map_or(0, |plan| plan.rules.size())) > MOST_STEPS
}

fn changes<O: Clone + Ord>(plans: &Plans<O>) -> Changes<O> {
    let rules = |plan: &Option<Arc<Packed>>| plan.as_ref().filter(|plan| !plan.rules.is_empty()).map(|plan| Arc::new(plan.rules.unpack()));
    plans.iter().map(|(key, plan)| (key.clone(), rules(plan))).collect()
}

/// Takes the plans as standing; they are shared with who made them.
fn commit<L: Layout>(plans: &Plans<L::Owner>, ledger: &mut Ledger<L>) {
    for (key, plan) in plans {
        ledger.put(key, plan.as_ref().map(|plan| plan.rules.clone()).filter(|rules| !rules.is_empty()));
    }
}
