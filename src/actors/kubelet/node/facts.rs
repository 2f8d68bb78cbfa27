//! What the machine is and how full it is, from `/proc`, `/sys` and statfs.

use std::{fs, path::Path};

use nix::sys::statvfs::statvfs;

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

/// How full the machine is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub memory_available: u64,
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

/// The architecture as Go names it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

impl Usage {
    /// Measures the machine and the filesystem below `root`.
    pub fn measure(root: &Path) -> Self {
        let disk = statvfs(root).ok();
        let size = |blocks: u64, unit: u64| blocks * unit;
        let number = |path: &str| read(path).parse().unwrap_or(0);
        // The last word of loadavg's fourth field is the number of threads.
        let pids = read("/proc/loadavg").split(' ').nth(3).and_then(|field| field.split('/').nth(1)?.parse().ok()).unwrap_or(0);
        Usage {
            memory_available: meminfo(&read("/proc/meminfo"), "MemAvailable").unwrap_or(0),
            disk_size: disk.as_ref().map_or(0, |disk| size(disk.blocks(), disk.fragment_size())),
            disk_available: disk.as_ref().map_or(0, |disk| size(disk.blocks_available(), disk.fragment_size())),
            inodes: disk.as_ref().map_or(0, nix::sys::statvfs::Statvfs::files),
            inodes_free: disk.as_ref().map_or(0, nix::sys::statvfs::Statvfs::files_free),
            pids,
            pids_limit: number("/proc/sys/kernel/pid_max").min(number("/proc/sys/kernel/threads-max")),
        }
    }

    /// Less than 100 MiB of memory.
    pub fn memory_pressure(&self) -> bool {
        self.memory_available < 100 << 20
    }

    /// Less than 10 % of the disk, or 5 % of its inodes.
    pub fn disk_pressure(&self) -> bool {
        self.disk_size > 0 && (self.disk_available * 10 < self.disk_size || (self.inodes > 0 && self.inodes_free * 20 < self.inodes))
    }

    /// Less than 1 % of the process ids.
    pub fn pid_pressure(&self) -> bool {
        self.pids_limit > 0 && (self.pids_limit.saturating_sub(self.pids)) * 100 < self.pids_limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_knows_itself() {
        let facts = MachineFacts::read();
        assert!(facts.cpus > 0 && facts.memory_bytes > 1 << 20 && !facts.kernel.is_empty());
        let usage = Usage::measure(Path::new("/"));
        assert!(usage.disk_size > 0 && usage.pids > 0);
    }

    #[test]
    fn pressure_begins_at_upstreams_marks() {
        let roomy = Usage { memory_available: 1 << 30, disk_size: 100, disk_available: 10, inodes: 100, inodes_free: 5, pids: 1, pids_limit: 1000 };
        assert!(!roomy.memory_pressure() && !roomy.disk_pressure() && !roomy.pid_pressure());
        assert!(Usage { disk_available: 9, ..roomy }.disk_pressure());
        assert!(Usage { inodes_free: 4, ..roomy }.disk_pressure());
        assert!(Usage { memory_available: 1 << 20, ..roomy }.memory_pressure());
        assert!(Usage { pids: 995, ..roomy }.pid_pressure());
    }
}
