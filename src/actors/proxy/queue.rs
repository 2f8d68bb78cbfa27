//! What waits to be applied, and what of it goes into the next transaction. Pure.
//!
//! A Service may have tens of thousands of rules. Its change is taken in pieces, and whatever else changes meanwhile goes in with the next
//! piece, so that nobody waits for others' width.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use troupe_api::meta::ObjectKey;
use troupe_net::iptables::Patch;

use super::{
    ledger::{Changes, Ledger},
    plan::ServicePlan,
};

/// About how many steps one transaction takes. Services with more rules change in pieces.
pub const MOST_STEPS: usize = 2000;

/// Plans by service; `None` for one that is gone.
pub type Plans = BTreeMap<ObjectKey, Option<Arc<ServicePlan>>>;

/// The waiting changes.
#[derive(Debug, Default)]
pub struct Queue {
    pending: Plans,
    /// What is left of a change that the ledger has already.
    rest: VecDeque<Patch>,
    /// A service with many rules waited for others, which wait for it now.
    passed_over: bool,
}

/// What is to be done now. The ledger has it already.
#[derive(Debug, Default, PartialEq)]
pub struct Taken {
    pub patch: Patch,
    pub plans: Plans,
    /// What has begun: these stand when no piece is left.
    pub begun: Plans,
}

impl Queue {
    /// A Service's newest plan.
    pub fn insert(&mut self, service: ObjectKey, plan: Option<Arc<ServicePlan>>) {
        self.pending.insert(service, plan);
    }

    pub fn has(&self, service: &ObjectKey) -> bool {
        self.pending.contains_key(service)
    }

    /// How many services wait.
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
    pub fn take_all(&mut self, ledger: &mut Ledger) -> Plans {
        self.rest.clear();
        let plans = std::mem::take(&mut self.pending);
        ledger.commit(&changes(&plans));
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
    pub fn next(&mut self, ledger: &mut Ledger) -> Taken {
        let mut taken = if self.passed_over { Taken::default() } else { self.take_narrow(ledger) };
        self.passed_over = self.rest.is_empty() && !self.begin_wide(ledger, &mut taken);
        if let Some(piece) = self.rest.pop_front() {
            taken.patch.merge(piece);
        }
        taken
    }

    /// The changes of all services that have few rules, unless what is under way comes into their way.
    fn take_narrow(&mut self, ledger: &mut Ledger) -> Taken {
        let (narrow, wide): (Plans, Plans) =
            std::mem::take(&mut self.pending).into_iter().partition(|(key, plan)| !is_wide(key, plan.as_deref(), ledger));
        self.pending = wide;
        let changes = changes(&narrow);
        let patch = ledger.patch(&changes);
        if self.rest.iter().any(|piece| piece.touches(&patch)) {
            self.pending.extend(narrow);
            return Taken::default();
        }
        ledger.commit(&changes);
        Taken { patch, plans: narrow, begun: Plans::new() }
    }

    /// Begins with the next service that has many rules. False where it must wait for what is taken already.
    fn begin_wide(&mut self, ledger: &mut Ledger, taken: &mut Taken) -> bool {
        let wide = self.pending.iter().find(|(key, plan)| is_wide(key, plan.as_deref(), ledger));
        let Some(key) = wide.map(|(key, _)| key.clone()) else { return true };
        let plans: Plans = self.pending.remove_entry(&key).into_iter().collect();
        let changes = changes(&plans);
        let pieces: VecDeque<Patch> = ledger.patch(&changes).pieces(MOST_STEPS).into_iter().filter(|piece| !piece.is_empty()).collect();
        if pieces.iter().any(|piece| piece.touches(&taken.patch)) {
            self.pending.extend(plans);
            return false;
        }
        ledger.commit(&changes);
        self.rest = pieces;
        taken.begun = plans;
        true
    }
}

fn is_wide(key: &ObjectKey, plan: Option<&ServicePlan>, ledger: &Ledger) -> bool {
    ledger.size_of(key).max(plan.map_or(0, |plan| plan.rules.size())) > MOST_STEPS
}

fn changes(plans: &Plans) -> Changes {
    let rules = |plan: &Option<Arc<ServicePlan>>| plan.as_ref().filter(|plan| !plan.rules.is_empty()).map(|plan| plan.rules.clone());
    plans.iter().map(|(key, plan)| (key.clone(), rules(plan))).collect()
}
