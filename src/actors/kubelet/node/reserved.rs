//! What of the machine pods do not get: reservations, and what eviction keeps free. Pure (upstream's `node_container_manager_linux.go`).

use troupe_api::meta::Quantity;
use troupe_cri::resources::MachineSize;

use crate::kubelet::eviction::signals::{Signal, Threshold};

/// What is kept for others than pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    pub milli_cpus: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes of the node's disk.
    pub storage: i64,
    pub processes: i64,
}

impl Reserved {
    /// The same with what hard thresholds keep free of a machine with so many bytes of memory and of disk.
    pub fn with_thresholds(self, thresholds: &[Threshold], memory: i64, storage: i64) -> Self {
        let kept = |signal: Signal, capacity: i64| {
            let threshold = thresholds.iter().find(|threshold| threshold.signal == signal && threshold.is_hard());
            let bytes = threshold.map_or(0, |threshold| threshold.least.of(capacity.max(0).unsigned_abs()));
            i64::try_from(bytes).unwrap_or(i64::MAX)
        };
        Reserved {
            memory: self.memory.saturating_add(kept(Signal::MemoryAvailable, memory)),
            storage: self.storage.saturating_add(kept(Signal::NodefsAvailable, storage)),
            ..self
        }
    }

    /// Whether a machine with so many CPUs (in thousandths) and bytes of memory has what is kept of it.
    ///
    /// # Errors
    /// What it lacks, in upstream's words.
    pub fn check(&self, milli_cpus: i64, memory: i64) -> Result<(), String> {
        let all = [
            ("cpu", Quantity::from_milli(self.milli_cpus), Quantity::from_milli(milli_cpus), self.milli_cpus > milli_cpus),
            ("memory", Quantity::from_bytes(self.memory), Quantity::from_bytes(memory), self.memory > memory),
        ];
        let lacks = all.into_iter().filter(|(.., lacks)| *lacks).map(|(name, reserved, capacity, _)| {
            format!("Resource {name:?} has a reservation of {reserved} but capacity of {capacity}. Expected capacity >= reservation.")
        });
        let lacks: Vec<String> = lacks.collect();
        if lacks.is_empty() { Ok(()) } else { Err(format!("invalid Node Allocatable configuration. {}", lacks.join(" "))) }
    }

    /// What of a machine is not reserved: CPUs, begun ones whole, memory and disk.
    pub fn left_of(&self, machine: MachineSize) -> MachineSize {
        let cpus = left(machine.cpus.saturating_mul(1000), self.milli_cpus);
        MachineSize {
            cpus: cpus / 1000 + i64::from(cpus % 1000 > 0),
            memory_bytes: left(machine.memory_bytes, self.memory),
            storage_bytes: left(machine.storage_bytes, self.storage),
            ..machine
        }
    }
}

/// What of a capacity is left.
pub fn left(capacity: i64, reserved: i64) -> i64 {
    capacity.saturating_sub(reserved).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::eviction::settings::EvictionSettings;

    #[test]
    fn hard_thresholds_are_kept_free_beside_what_is_reserved() {
        let reserved = Reserved { milli_cpus: 500, memory: 1 << 30, ..Reserved::default() };
        let thresholds = EvictionSettings::default().thresholds().expect("upstream's");
        let all = reserved.with_thresholds(&thresholds, 8 << 30, 1000);
        assert_eq!(all, Reserved { milli_cpus: 500, memory: (1 << 30) + (100 << 20), storage: 100, processes: 0 });
        assert_eq!(reserved.with_thresholds(&[], 8 << 30, 1000), reserved);
        assert_eq!((left(5, 3), left(3, 5)), (2, 0));
        let machine = MachineSize { cpus: 4, memory_bytes: 8 << 30, storage_bytes: 1000, daemons_oom_score_adj: -1, ..MachineSize::default() };
        assert_eq!(reserved.left_of(machine), MachineSize { memory_bytes: 7 << 30, ..machine });
        assert_eq!(Reserved { milli_cpus: 1000, ..reserved }.left_of(machine).cpus, 3);
        let room = all.left_of(machine);
        assert_eq!((room.memory_bytes, room.storage_bytes), ((7 << 30) - (100 << 20), 900), "nor have pods what eviction keeps free");
    }

    #[test]
    fn more_than_there_is_cannot_be_reserved() {
        let reserved = Reserved { milli_cpus: 2500, memory: 1 << 30, ..Reserved::default() };
        assert_eq!(reserved.check(4000, 1 << 30), Ok(()));
        let why = "invalid Node Allocatable configuration. Resource \"cpu\" has a reservation of 2500m but capacity of 2. Expected capacity >= \
                   reservation.";
        assert_eq!(reserved.check(2000, 8 << 30), Err(why.into()));
    }
}
