//! A node as it would be without some of its pods.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::scheduler::{
    footprint::Footprint,
    framework::{Filters, Reasons},
    node_info::{NodeInfo, Taken},
    placed_pod::PlacedPod,
    resources::Resources,
};

/// See the module.
pub trait EmptiedNode {
    /// A pod is thought to be gone.
    fn remove(&mut self, pod: &Footprint);

    /// A pod is thought to be back.
    fn add(&mut self, pod: &Footprint);

    /// Whether the pod that wants the node can run there as it is now.
    ///
    /// # Errors
    /// Why not.
    fn ask(&mut self) -> Result<(), Reasons>;

    /// The same after pods came back to a node where it could run, without saying why not.
    fn still_fits(&mut self) -> bool;
}

/// A node where it matters which pods it has.
pub struct ByPods<'a, 'b> {
    filters: &'b mut Filters<'a>,
    node: NodeInfo,
}

impl<'a, 'b> ByPods<'a, 'b> {
    /// The node with all of its pods.
    pub fn new(filters: &'b mut Filters<'a>, node: &NodeInfo) -> Self {
        ByPods { filters, node: node.clone() }
    }
}

impl EmptiedNode for ByPods<'_, '_> {
    fn remove(&mut self, pod: &Footprint) {
        self.filters.remove_pod(&pod.pod, &mut self.node);
    }

    fn add(&mut self, pod: &Footprint) {
        self.filters.add_pod(&pod.pod, &mut self.node);
    }

    fn ask(&mut self) -> Result<(), Reasons> {
        self.filters.ask_with_nominated(&self.node).map_err(|(_, rejection)| rejection.reasons)
    }

    fn still_fits(&mut self) -> bool {
        self.ask().is_ok()
    }
}

/// A node where it matters only what its pods take together: nothing is copied, and a pod is a few numbers.
pub struct ByTaken<'a, 'b> {
    filters: &'b Filters<'a>,
    node: &'b NodeInfo,
    /// What is taken together with the pods nominated to the node, if there are such, and what without.
    totals: SmallVec<[Total; 2]>,
}

impl<'a, 'b> ByTaken<'a, 'b> {
    /// The node with all of its pods; `None` where sums do not tell.
    pub fn of(filters: &'b Filters<'a>, node: &'b NodeInfo) -> Option<Self> {
        if !filters.are_by_taken() {
            return None;
        }
        let nominated = filters.nominated(node);
        if nominated.iter().any(|other| node.pods.contains_key(other.key())) {
            return None;
        }
        let mut totals: SmallVec<[Total; 2]> = SmallVec::new();
        if !nominated.is_empty() {
            totals.push(Total::of(node, &nominated));
        }
        totals.push(Total::of(node, &[]));
        // From a sum that reached the largest number nothing can be taken away.
        let is_full = totals.iter().any(|total| total.requested.is_full());
        (!is_full).then_some(ByTaken { filters, node, totals })
    }
}

impl EmptiedNode for ByTaken<'_, '_> {
    fn remove(&mut self, pod: &Footprint) {
        self.totals.iter_mut().for_each(|total| total.remove(pod));
    }

    fn add(&mut self, pod: &Footprint) {
        self.totals.iter_mut().for_each(|total| total.add(pod));
    }

    fn ask(&mut self) -> Result<(), Reasons> {
        self.totals.iter().try_for_each(|total| self.filters.ask_taken(self.node, total.taken())).map_err(|(_, rejection)| rejection.reasons)
    }

    fn still_fits(&mut self) -> bool {
        self.totals.iter().all(|total| self.filters.still_fits(self.node, total.taken()))
    }
}

/// What pods take together. None asks for less than nothing, and all together for less than the largest number.
struct Total {
    requested: Resources,
    pods: usize,
}

impl Total {
    fn of(node: &NodeInfo, more: &[Arc<PlacedPod>]) -> Self {
        let mut requested = node.requested.clone();
        more.iter().for_each(|pod| requested.add(&pod.demand.requests));
        Total { requested, pods: node.pods.len() + more.len() }
    }

    fn taken(&self) -> Taken<'_> {
        Taken { requested: &self.requested, pods: self.pods }
    }

    fn add(&mut self, pod: &Footprint) {
        self.pods += 1;
        if pod.has_scalars {
            self.requested.add(&pod.pod.demand.requests);
        } else {
            let sum = &mut self.requested;
            sum.cpu = sum.cpu.saturating_add(pod.cpu);
            sum.memory = sum.memory.saturating_add(pod.memory);
            sum.ephemeral = sum.ephemeral.saturating_add(pod.ephemeral);
        }
    }

    fn remove(&mut self, pod: &Footprint) {
        self.pods -= 1;
        if pod.has_scalars {
            self.requested.subtract(&pod.pod.demand.requests);
        } else {
            let sum = &mut self.requested;
            sum.cpu = sum.cpu.saturating_sub(pod.cpu);
            sum.memory = sum.memory.saturating_sub(pod.memory);
            sum.ephemeral = sum.ephemeral.saturating_sub(pod.ephemeral);
        }
    }
}
