//! Allocation of devices to claims by what drivers publish ("structured parameters", KEP-4381). Pure, but for `bind` and `caches`.
//!
//! `published` has what drivers publish with the taints of rules, and `slices` keeps it so that looking at a node costs what that node has;
//! `pools` makes of it the pools that a node can reach; `wanted` is what claims ask for, with classes looked up;
//! `selectors` keeps what their expressions were compiled to, and `verdicts` what these said; `search` goes through the candidates of each request
//! in order and takes the first solution; `outcome` writes it down as an allocation. Besides whole devices there are parts of them, which share
//! counters (`counters`), and devices that several claims share by capacity (`capacity`).

pub mod assumed;
pub mod bind;
pub mod caches;
mod capacity;
mod constraints;
mod counters;
pub mod extended;
mod outcome;
mod pools;
mod published;
pub mod readiness;
mod search;
mod selectors;
mod slices;
#[cfg(test)]
mod tests;
mod verdicts;
mod wanted;

use std::{
    cell::RefCell,
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::api::{
    core::v1::Node,
    resource::v1::{AllocationResult, DeviceClass, ResourceClaim},
};

use self::wanted::WantedClaim;
pub use self::{selectors::Selectors, slices::Slices};
use crate::devices::{DeviceId, key_of};

/// How many devices a claim may get (`AllocationResultsMaxSize`).
const MOST_DEVICES: usize = 32;
/// What a selector costs that is told as the one that takes long: a millisecond.
const MUCH: u64 = 10_000;

/// Amounts of capacity, in billionths, by their names.
pub type Amounts = BTreeMap<String, i128>;

/// Which devices are taken already.
pub trait InUse {
    /// Somebody has the device alone.
    fn is_taken(&self, device: &DeviceId) -> bool;
    /// What is taken of a device that is shared; `None` if nobody shares it.
    fn shares(&self, device: &DeviceId) -> Option<Amounts>;
}

/// Why nothing was allocated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The node has not what is asked for.
    Nothing,
    /// The search was over before it came to an end.
    Unfinished,
    /// Something is wrong on this node.
    OnNode(String),
    /// Something is wrong with what is asked for, or with what is published: nobody can tell what the claims get.
    Error(String),
}

/// What bounds a search.
pub struct Bounds<'a> {
    /// Whether it is over after so many steps. A unit of what an expression costs counts as one: both take about a tenth of a microsecond.
    pub is_over: &'a dyn Fn(usize) -> bool,
    /// What an expression may cost for one device here, or to be compiled: one that would cost more ends the search.
    pub most_cost: u64,
    /// The names of the only devices that may be chosen where not all are asked for; any if `None`.
    pub among: Option<&'a HashSet<String>>,
}

/// Whether a request selects a device, or why nobody can tell.
type Selected = Result<bool, String>;

/// Allocates the claims of one pod on one node after another.
pub struct Allocator {
    slices: Slices,
    in_use: Box<dyn InUse>,
    claims: Vec<WantedClaim>,
    /// Which devices requests select, by slice, place in it and request: that is the same for all nodes.
    selected: RefCell<HashMap<(usize, usize, usize), Selected>>,
    /// What selectors cost so far, by request and place in it.
    costs: RefCell<HashMap<(usize, usize), u64>>,
    /// Programs, and what single selectors said of devices, whoever asked.
    programs: Arc<Selectors>,
}

impl Allocator {
    /// Gets ready to allocate claims.
    ///
    /// # Errors
    /// A class is not there, or a claim is not understood.
    pub fn new(
        claims: &[Arc<ResourceClaim>],
        class: &dyn Fn(&str) -> Option<Arc<DeviceClass>>,
        programs: &Arc<Selectors>,
        slices: Slices,
        in_use: Box<dyn InUse>,
    ) -> Result<Self, String> {
        let mut requests = 0;
        let claims = claims.iter().map(|claim| WantedClaim::of(claim, class, &mut requests)).collect::<Result<_, _>>()?;
        Ok(Allocator { slices, in_use, claims, selected: RefCell::default(), costs: RefCell::default(), programs: programs.clone() })
    }

    /// What the claims would get on a node, in their order. `share_id` makes the name of a share, by claim and result.
    ///
    /// # Errors
    /// Why nothing.
    pub fn allocate(&self, node: &Node, bounds: &Bounds<'_>, share_id: &dyn Fn(usize, usize) -> String) -> Result<Vec<AllocationResult>, Failure> {
        let pools = pools::gather(&self.slices, node);
        search::Search::new(self, node, &pools, bounds)?.run()?.into_results(share_id)
    }

    /// The selector that cost most so far, with its claim and request; `None` if none cost much.
    pub fn costliest(&self) -> Option<String> {
        let costs = self.costs.borrow();
        let costly = costs.iter().filter(|(_, cost)| **cost >= MUCH);
        let ((id, at), _) = costly.max_by_key(|(of, cost)| (**cost, Reverse(**of)))?;
        self.claims.iter().find_map(|claim| {
            let mut all = claim.requests.iter().flat_map(|request| &request.alternatives);
            let wanted = all.find(|wanted| wanted.id == *id)?;
            let (named, _) = wanted.selectors.get(*at)?;
            Some(format!("claim {}, request {}, {named}", key_of(&claim.claim.metadata), wanted.full_name()))
        })
    }
}
