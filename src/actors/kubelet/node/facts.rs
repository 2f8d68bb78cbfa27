//! What the machine is and how full it is, from `/proc`, `/sys` and statfs.

use std::{fs, path::Path};

use nix::sys::statvfs::statvfs;
use troupe_cri::memory_rules::{MemoryRules, Swap};

use super::reserved::{Reserved, left};

/// What does not change while the daemon runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineFacts {
    pub cpus: i64,
    pub memory_bytes: i64,
    pub machine_id: String,
    pub system_uuid: String,
    pub boot_id: String,
    pub kernel: String,
    pub os_image: String,
    pub architecture: String,
    pub swap_bytes: Option<i64>,
}

/// How the kernel is to treat containers' memory, with the cgroups below `root`. Where it does not count swap nothing is said of that.
pub fn memory_rules(root: &Path, limited_swap: bool, kills_group: bool, swap_bytes: Option<i64>) -> MemoryRules {
    let is_unified = root.join("cgroup.controllers").exists();
    // The root's cgroup has no limits: of the second version it is one's own that tells.
    let own = read("/proc/self/cgroup").lines().find_map(|line| Some(line.strip_prefix("0::")?.trim_start_matches('/').to_owned()));
    let counted =
        if is_unified { root.join(own.unwrap_or_default()).join("memory.swap.max") } else { root.join("memory/memory.memsw.limit_in_bytes") };
    let swap = if limited_swap { Swap::Limited(swap_bytes.unwrap_or(0)) } else { Swap::Nobody };
    MemoryRules { is_unified, kills_group, swap: counted.exists().then_some(swap) }
}

/// What pods leave of the memory; upstream's mark for eviction.
const KEPT_MEMORY: i64 = 100 << 20;

/// How full the machine is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub memory_available: u64,
    pub swap_size: u64,
    pub swap_free: u64,
    pub disk_size: u64,
    pub disk_available: u64,
    pub inodes: u64,
    pub inodes_free: u64,
    pub pids: u64,
    pub pids_limit: u64,
}

fn read(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// A field of `/proc/meminfo` in bytes.
fn meminfo(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// How readily the kernel kills this process for memory, from -1000 (never) to 1000.
pub fn own_oom_score_adj() -> i64 {
    fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

impl MachineFacts {
    /// Reads them from the running system.
    pub fn read() -> Self {
        let memory = read("/proc/meminfo");
        let os = read("/etc/os-release");
        let pretty = os.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux");
        let machine_id = read("/etc/machine-id");
        let system_uuid = read("/sys/class/dmi/id/product_uuid");
        MachineFacts {
            cpus: std::thread::available_parallelism().map_or(1, |count| i64::try_from(count.get()).unwrap_or(1)),
            memory_bytes: meminfo(&memory, "MemTotal").unwrap_or(0).cast_signed(),
            system_uuid: if system_uuid.is_empty() { machine_id.clone() } else { system_uuid },
            machine_id,
            boot_id: read("/proc/sys/kernel/random/boot_id"),
            kernel: read("/proc/sys/kernel/osrelease"),
            os_image: pretty.trim_matches('"').to_owned(),
            architecture: architecture().to_owned(),
            swap_bytes: meminfo(&memory, "SwapTotal").map(u64::cast_signed).filter(|bytes| *bytes > 0),
        }
    }
}

impl MachineFacts {
    /// The CPUs, in thousandths, the memory and the processes that pods may have together: all but what is reserved, and what keeps the
    /// machine's daemons going in any case.
    pub fn for_pods(&self, reserved: &Reserved) -> (i64, i64, Option<u32>) {
        let cpus = left(self.cpus.saturating_mul(1000), reserved.milli_cpus);
        let memory = left(self.memory_bytes, reserved.memory).min(memory_for_pods(self.memory_bytes));
        let unreserved = u32::try_from(left(i64::try_from(process_ids()).unwrap_or(i64::MAX), reserved.processes)).unwrap_or(u32::MAX);
        (cpus, memory, processes_for_pods().map(|processes| processes.min(unreserved.max(1))))
    }
}

/// What a machine of so much memory has for pods.
fn memory_for_pods(memory_bytes: i64) -> i64 {
    (memory_bytes - KEPT_MEMORY).max(0)
}

/// The process ids that the kernel has.
fn process_ids() -> u64 {
    let number = |path: &str| read(path).parse().unwrap_or(0);
    number("/proc/sys/kernel/pid_max").min(number("/proc/sys/kernel/threads-max"))
}

/// The process ids that the kernel has, and how many of them processes and threads have.
pub fn process_ids_in_use() -> (u64, u64) {
    // The last word of loadavg's fourth field is the number of threads.
    let used = read("/proc/loadavg").split(' ').nth(3).and_then(|field| field.split('/').nth(1)?.parse().ok()).unwrap_or(0);
    (process_ids(), used)
}

/// The processes and threads that pods may have together: four fifths, so that the machine's daemons can start some in any case.
pub fn processes_for_pods() -> Option<u32> {
    u32::try_from(process_ids() / 5 * 4).ok().filter(|processes| *processes > 0)
}

/// The architecture as Go names it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// The sizes of huge pages that the kernel has, as cgroups name them: `2MB`, `1GB`.
pub fn hugepage_sizes() -> Vec<String> {
    let entries = fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    let mut sizes: Vec<_> = entries.filter_map(|entry| hugepage_size(entry.file_name().to_str()?)).collect();
    sizes.sort();
    sizes
}

/// The counters of processors that got hot, which tell what others on the machine do.
pub fn thermal_paths() -> Vec<String> {
    let processors = fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten();
    let mut paths: Vec<_> = processors.map(|entry| entry.path().join("thermal_throttle")).filter(|path| path.exists()).collect();
    paths.sort();
    paths.iter().map(|path| path.display().to_string()).collect()
}

/// `hugepages-2048kB` as `2MB`.
fn hugepage_size(folder: &str) -> Option<String> {
    let kib: u64 = folder.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    Some(match kib {
        0..1024 => format!("{kib}KB"),
        1024..0x10_0000 => format!("{}MB", kib >> 10),
        _ => format!("{}GB", kib >> 20),
    })
}

impl Usage {
    /// Measures the machine and the filesystem below `root`.
    pub fn measure(root: &Path) -> Self {
        let disk = statvfs(root).ok();
        let size = |blocks: u64, unit: u64| blocks * unit;
        let (pids_limit, pids) = process_ids_in_use();
        let memory = read("/proc/meminfo");
        let of_memory = |field: &str| meminfo(&memory, field).unwrap_or(0);
        Usage {
            memory_available: of_memory("MemAvailable"),
            swap_size: of_memory("SwapTotal"),
            swap_free: of_memory("SwapFree"),
            disk_size: disk.as_ref().map_or(0, |disk| size(disk.blocks(), disk.fragment_size())),
            disk_available: disk.as_ref().map_or(0, |disk| size(disk.blocks_available(), disk.fragment_size())),
            inodes: disk.as_ref().map_or(0, nix::sys::statvfs::Statvfs::files),
            inodes_free: disk.as_ref().map_or(0, nix::sys::statvfs::Statvfs::files_free),
            pids,
            pids_limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_huge_pages_are_named_as_cgroups_name_them() {
        let named = ["hugepages-64kB", "hugepages-2048kB", "hugepages-1048576kB", "other"].map(hugepage_size);
        assert_eq!(named, [Some("64KB".into()), Some("2MB".into()), Some("1GB".into()), None]);
    }

    #[test]
    fn swap_is_ruled_where_the_kernel_counts_it() {
        let place = tempfile::tempdir().expect("a directory");
        assert_eq!(memory_rules(place.path(), true, true, None), MemoryRules { is_unified: false, kills_group: true, swap: None });
        fs::create_dir(place.path().join("memory")).expect("makes it");
        fs::write(place.path().join("memory/memory.memsw.limit_in_bytes"), "0").expect("writes");
        assert_eq!(memory_rules(place.path(), true, true, Some(7)).swap, Some(Swap::Limited(7)));
        assert_eq!(memory_rules(place.path(), false, true, Some(7)).swap, Some(Swap::Nobody));
        fs::write(place.path().join("cgroup.controllers"), "memory").expect("writes");
        let unified = memory_rules(place.path(), true, false, Some(7));
        assert_eq!((unified.is_unified, unified.kills_group, unified.swap), (true, false, None), "its files have other names");
    }

    #[test]
    fn the_machine_knows_itself() {
        let facts = MachineFacts::read();
        assert!(facts.cpus > 0 && facts.memory_bytes > 1 << 20 && !facts.kernel.is_empty());
        let usage = Usage::measure(Path::new("/"));
        assert!(usage.disk_size > 0 && usage.pids > 0);
        let of_pods = processes_for_pods().expect("the kernel tells");
        assert!(u64::from(of_pods) > usage.pids_limit / 2 && u64::from(of_pods) < usage.pids_limit);
    }

    #[test]
    fn pods_get_what_is_not_reserved_and_leave_the_daemons_something_in_any_case() {
        let facts = MachineFacts { cpus: 4, memory_bytes: 8 << 30, ..MachineFacts::default() };
        let (cpus, memory, processes) = facts.for_pods(&Reserved::default());
        assert_eq!((cpus, memory, processes), (4000, (8 << 30) - KEPT_MEMORY, processes_for_pods()));
        let reserved = Reserved { milli_cpus: 1500, memory: 1 << 30, storage: 0, processes: i64::MAX };
        assert_eq!(facts.for_pods(&reserved), (2500, 7 << 30, Some(1)));
        assert_eq!(facts.for_pods(&Reserved { memory: 1 << 20, ..Reserved::default() }).1, (8 << 30) - KEPT_MEMORY);
    }
}
