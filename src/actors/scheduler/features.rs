//! Features of the scheduler that may be off.

/// Which are on; by default none is, as upstream's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Tolerations compare numbers (`TaintTolerationComparisonOperators`).
    pub compares_tolerations: bool,
    /// Nodes score by how much room their storage has (`StorageCapacityScoring`).
    pub scores_capacity: bool,
    /// Drivers may have their volumes' pods kept from nodes without them (`VolumeLimitScaling`).
    pub requires_drivers: bool,
}
