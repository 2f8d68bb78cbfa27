//! Features of the scheduler that may be off.

/// Which are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Tolerations compare numbers (`TaintTolerationComparisonOperators`).
    pub compares_tolerations: bool,
    /// Nodes score by how much room their storage has (`StorageCapacityScoring`).
    pub scores_capacity: bool,
    /// Drivers may have their volumes' pods kept from nodes without them (`VolumeLimitScaling`).
    pub requires_drivers: bool,
    /// Pods that changes may have helped are tried before their backoff ends when no other waits (`SchedulerPopFromBackoffQ`).
    pub cuts_backoffs_short: bool,
}

impl Default for Features {
    /// As upstream has them.
    fn default() -> Self {
        Features { compares_tolerations: false, scores_capacity: false, requires_drivers: false, cuts_backoffs_short: true }
    }
}
