//! What is available of memory: the machine's, and what pods may have of it together. Pure but for one reading of cgroups.

use crate::kubelet::{cgroups, eviction::signals::Observation};

/// The machine's, in bytes, from `/proc/meminfo`. As upstream, what is not the working set is available: free memory, and the pages of files
/// that nobody used lately.
pub fn of_machine(meminfo: &str) -> Option<Observation> {
    let bytes = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
    };
    Some(Observation { capacity: bytes("MemTotal")?, available: bytes("MemFree")?.saturating_add(bytes("Inactive(file)")?) })
}

/// What pods leave of the `allocatable` bytes that they may have together; `None` where their cgroup does not tell.
pub fn of_pods(cgroup_parent: &str, allocatable: u64) -> Option<Observation> {
    let used = cgroups::usage::working_set(cgroup_parent).ok()?;
    Some(Observation { capacity: allocatable, available: allocatable.saturating_sub(used) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_memory_and_files_that_nobody_used_lately_are_available() {
        let meminfo = "MemTotal:       1000 kB\nMemFree:         100 kB\nInactive:        999 kB\nInactive(file):   50 kB\n";
        assert_eq!(of_machine(meminfo), Some(Observation { capacity: 1000 << 10, available: 150 << 10 }));
        assert_eq!(of_machine("MemTotal: 1 kB"), None);
    }
}
