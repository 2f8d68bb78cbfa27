//! When a pod has to go, how fast, and what stays of it.

use super::{Observed, PodFailure, PodMachine, Stopping, spec_grace};
use crate::kubelet::{eviction, status::Evicted};

impl PodMachine {
    /// Whether nobody decided about the pod yet: it lives, and has no end given.
    pub fn is_open(&self) -> bool {
        let phase = self.pod.as_ref().and_then(|pod| pod.status.as_ref()?.phase.as_deref());
        self.pod.is_some() && self.failure.is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
    }

    /// The kubelet ends the pod by itself. What it said first stands, but for the time that is left and what is to go.
    pub fn fail_pod(&mut self, failure: PodFailure) {
        let later = failure.evicted;
        let known = self.failure.get_or_insert(failure);
        if let Some(later) = later {
            // One that ended otherwise, such as after its deadline, was not disrupted, but has no more time either.
            let evicted = known.evicted.get_or_insert(Evicted { disruption: false, ..later });
            evicted.grace = evicted.grace.min(later.grace);
            evicted.stays &= later.stays;
        }
    }

    /// Whether the kubelet ended it before, with more time than now.
    pub fn is_hurried_by(&self, failure: &PodFailure) -> bool {
        let Some((known, now)) = self.failure.as_ref().zip(failure.evicted.map(|evicted| evicted.grace)) else { return false };
        !known.rejected && known.evicted.is_none_or(|before| now < before.grace)
    }

    /// Whether the pod is to be forgotten when nothing is left of it; an evicted one stays to be seen.
    pub(super) fn leaves_api(&self) -> bool {
        let deleted = self.pod.as_ref().is_none_or(|pod| pod.metadata.deletion_timestamp.is_some());
        self.stopping.is_some() && (deleted || self.removed)
    }

    /// How it ends if it was evicted: by this kubelet now, or as its status tells.
    fn evicted(&self) -> Option<Evicted> {
        let told = self.pod.as_ref().and_then(|pod| pod.status.as_ref()?.reason.as_deref()) == Some(eviction::REASON);
        match &self.failure {
            Some(failure) => failure.evicted,
            None => told.then_some(Evicted { disruption: false, grace: 0, stays: false }),
        }
    }

    /// Whether the pod has to go, and how fast. A shorter grace wins over a longer one.
    pub(super) fn decide_stop(&mut self, observed: &Observed) {
        let meta = self.pod.as_ref().map(|pod| &pod.metadata);
        let deleted = meta.is_some_and(|meta| meta.deletion_timestamp.is_some());
        let spec = self.pod.as_ref().and_then(|pod| pod.spec.as_ref());
        let from_spec = spec.map(spec_grace);
        let from_runtime = || observed.containers.iter().filter_map(|seen| seen.grace_seconds).map(|grace| grace.max(0).unsigned_abs()).max();
        let asked = meta.and_then(|meta| meta.deletion_grace_period_seconds).map(|grace| grace.max(1).unsigned_abs());
        let terminal =
            self.pod.as_ref().and_then(|pod| pod.status.as_ref()?.phase.as_deref()).is_some_and(|phase| phase == "Succeeded" || phase == "Failed");
        let terminal_or_failed = terminal || self.failure.is_some();
        let wanted = if deleted || self.removed || self.pod.is_none() {
            let grace = asked.or(from_spec).or_else(from_runtime).unwrap_or(30);
            Stopping { grace: self.evicted().map_or(grace, |evicted| evicted.grace.min(grace)), remove: true }
        } else if terminal_or_failed {
            match self.evicted() {
                Some(evicted) => Stopping { grace: evicted.grace, remove: !evicted.stays },
                None => Stopping { grace: from_spec.unwrap_or(30), remove: false },
            }
        } else {
            return;
        };
        self.begin_to_stop(wanted);
    }

    /// What could not be set up, and would be tried again later, holds up nothing of what is taken down.
    pub(super) fn begin_to_stop(&mut self, wanted: Stopping) {
        if self.stopping.is_none() {
            self.memory.failures.remove("");
        }
        if self.stopping.is_some_and(|old| wanted.grace < old.grace) {
            // The shorter time begins now.
            self.memory.stop_began = None;
        }
        self.stopping = Some(match self.stopping {
            Some(old) => Stopping { grace: old.grace.min(wanted.grace), remove: old.remove || wanted.remove },
            None => wanted,
        });
    }
}
