//! Which pods wait for a size that is not allocated to them, and who of them comes first.

use std::{cmp::Reverse, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use troupe_cri::resources::qos_class;

use super::allocation::PodAllocation;
use crate::scheduler::resources::specified_requests;

/// The condition that says so.
pub const PENDING: &str = "PodResizePending";
/// The condition of a resize that is being carried out.
pub const IN_PROGRESS: &str = "PodResizeInProgress";

/// A pod that asks for another size.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// As its spec is.
    pub pod: Arc<Pod>,
    pub allocation: Arc<PodAllocation>,
}

impl Candidate {
    /// Whether it asks for more CPU or memory than it has.
    fn grows(&self) -> bool {
        let (wanted, has) = (specified_requests(&self.pod), specified_requests(&self.allocation.allocated.applied_to(&self.pod)));
        wanted.cpu > has.cpu || wanted.memory > has.memory
    }

    /// Since when it waits.
    fn since(&self) -> Option<Timestamp> {
        let conditions = self.pod.status.as_ref()?.conditions.as_ref()?;
        conditions.iter().find(|condition| condition.type_ == PENDING)?.last_transition_time.as_ref().map(|time| time.0)
    }
}

/// Who comes first: those that ask for no more, then by priority, by QoS class, and by how long they wait.
pub fn sort(candidates: &mut [Candidate]) {
    candidates.sort_by_cached_key(|candidate| {
        let priority = candidate.pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
        let guaranteed = qos_class(&candidate.pod) == "Guaranteed";
        let since = candidate.since();
        (candidate.grows(), Reverse(priority), Reverse(guaranteed), since.is_none(), since)
    });
}
