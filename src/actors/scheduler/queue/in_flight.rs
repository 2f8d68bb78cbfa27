//! What came while a pod was in flight.

use std::sync::Arc;

use crate::scheduler::framework::ClusterChange;

/// Changes that are remembered for a pod in flight.
const REMEMBERED: usize = 256;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct InFlightEvents {
    pub changes: Vec<Arc<ClusterChange>>,
    /// So much changed that it is tried again in any case, or it is wanted so.
    pub retry: bool,
}

impl InFlightEvents {
    pub fn note(&mut self, change: Arc<ClusterChange>) {
        match self.changes.len() {
            REMEMBERED.. => self.retry = true,
            _ => self.changes.push(change),
        }
    }
}
