//! How near this process is to the end of its memory.
//!
//! What is stored is held in memory, and whoever may create objects may create many. Before the kernel ends the process, and with
//! it everything else that runs in it, the API server takes in no more: see [`MemoryGauge`].

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// Says whether memory is short.
pub trait MemoryGauge: Send + Sync + fmt::Debug + 'static {
    fn is_short(&self) -> bool;
}

/// Never short: for tests, and processes that hold little.
#[derive(Clone, Copy, Debug, Default)]
pub struct AmpleMemory;

impl MemoryGauge for AmpleMemory {
    fn is_short(&self) -> bool {
        false
    }
}

/// Memory is short from this part of the limit on …
const SHORT_PERCENT: u64 = 80;
/// … until less than this part is used.
const ENOUGH_PERCENT: u64 = 75;
/// Where no cgroup sets a limit, the process may have this part of the machine: its pods need the rest.
const MACHINE_PERCENT: u64 = 60;
/// Measured no more often than this: it takes some microseconds.
const EVERY: Duration = Duration::from_millis(50);

/// This process's memory: its cgroup's where that has a limit, else its own part of the machine's.
#[derive(Debug)]
pub struct ProcessMemory {
    source: Source,
    limit: u64,
    begun: Instant,
    /// Milliseconds after `begun` of the last measurement, plus one.
    measured: AtomicU64,
    short: AtomicBool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    /// The cgroup at this directory, with the files of version 2.
    Unified(PathBuf),
    /// The same with the files of version 1.
    Legacy(PathBuf),
    /// The pages that the process itself has in memory.
    Process,
}

impl ProcessMemory {
    /// Finds out what limits this process.
    pub fn find() -> Self {
        let (source, limit) = limited();
        tracing::info!(?source, limit, "memory");
        ProcessMemory::new(source, limit)
    }

    fn new(source: Source, limit: u64) -> Self {
        ProcessMemory { source, limit, begun: Instant::now(), measured: AtomicU64::new(0), short: AtomicBool::new(false) }
    }

    /// What is used now; `None` where that cannot be told.
    fn used(&self) -> Option<u64> {
        let number = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
        // Pages of files go before anybody is killed.
        let files = |dir: &Path, fields: [&str; 2]| fields.into_iter().filter_map(|field| stat(dir, field)).sum();
        match &self.source {
            Source::Unified(dir) => Some(number(dir.join("memory.current"))?.saturating_sub(files(dir, ["active_file", "inactive_file"]))),
            Source::Legacy(dir) => {
                Some(number(dir.join("memory.usage_in_bytes"))?.saturating_sub(files(dir, ["total_active_file", "total_inactive_file"])))
            }
            Source::Process => {
                let pages: u64 = fs::read_to_string("/proc/self/statm").ok()?.split_whitespace().nth(1)?.parse().ok()?;
                Some(pages * page_size())
            }
        }
    }

    fn judge(&self, used: u64) -> bool {
        let percent = if self.short.load(Relaxed) { ENOUGH_PERCENT } else { SHORT_PERCENT };
        u128::from(used) * 100 >= u128::from(self.limit) * u128::from(percent)
    }
}

impl MemoryGauge for ProcessMemory {
    fn is_short(&self) -> bool {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1;
        let measured = self.measured.load(Relaxed);
        let due = measured == 0 || now.saturating_sub(measured) >= u64::try_from(EVERY.as_millis()).unwrap_or(u64::MAX);
        if due && self.measured.compare_exchange(measured, now, Relaxed, Relaxed).is_ok() {
            let used = self.used().unwrap_or(0);
            let (before, short) = (self.short.load(Relaxed), self.judge(used));
            self.short.store(short, Relaxed);
            if short != before {
                tracing::warn!(used, limit = self.limit, short, "memory: objects are {}", if short { "no longer created" } else { "created again" });
            }
        }
        self.short.load(Relaxed)
    }
}

fn limited() -> (Source, u64) {
    limited_cgroup(Path::new("/")).unwrap_or_else(|| (Source::Process, machine_limit(Path::new("/"))))
}

/// How many bytes this process may have.
pub fn process_limit() -> u64 {
    limited().1
}

fn page_size() -> u64 {
    // SAFETY: sysconf only reads.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// A line of a cgroup's `memory.stat`.
fn stat(dir: &Path, field: &str) -> Option<u64> {
    let text = fs::read_to_string(dir.join("memory.stat")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

/// The tightest limit of the cgroups that this process is in, in either version, below `root`.
fn limited_cgroup(root: &Path) -> Option<(Source, u64)> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mount = root.join("sys/fs/cgroup");
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        if controllers.split(',').any(|controller| controller == "memory") {
            found.extend(tightest(&mount.join("memory"), path, "memory.limit_in_bytes").map(|(dir, limit)| (Source::Legacy(dir), limit)));
        } else if controllers.is_empty() {
            found.extend(tightest(&mount, path, "memory.max").map(|(dir, limit)| (Source::Unified(dir), limit)));
        }
    }
    let machine = total_memory(root).unwrap_or(u64::MAX);
    found.into_iter().filter(|(_, limit)| *limit < machine).min_by_key(|(_, limit)| *limit)
}

/// The smallest number in `file` of a cgroup and those above it.
fn tightest(mount: &Path, path: &str, file: &str) -> Option<(PathBuf, u64)> {
    let mut dir = mount.join(path.trim_start_matches('/'));
    let mut tightest: Option<(PathBuf, u64)> = None;
    while dir.starts_with(mount) {
        let limit = fs::read_to_string(dir.join(file)).ok().and_then(|text| text.trim().parse().ok());
        if let Some(limit) = limit.filter(|limit| tightest.as_ref().is_none_or(|(_, known)| limit < known)) {
            tightest = Some((dir.clone(), limit));
        }
        if !dir.pop() {
            break;
        }
    }
    tightest
}

fn total_memory(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

fn machine_limit(root: &Path) -> u64 {
    total_memory(root).map_or(u64::MAX, |total| total / 100 * MACHINE_PERCENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a directory");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("has one")).expect("makes");
            fs::write(path, text).expect("writes");
        }
        root
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:       1000 kB\nMemFree: 1 kB\n");

    #[test]
    fn the_tightest_cgroup_above_the_process_limits_it() {
        let root = tree(&[
            MEMINFO,
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/memory.max", "300000\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/memory.current", "290000\n"),
            ("sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file 60000\nactive_file 7\n"),
        ]);
        let (source, limit) = limited_cgroup(root.path()).expect("is limited");
        assert_eq!((source.clone(), limit), (Source::Unified(root.path().join("sys/fs/cgroup/a")), 300_000));
        assert_eq!(ProcessMemory::new(source, limit).used(), Some(229_993));
    }

    #[test]
    fn a_limit_beyond_the_machine_is_none() {
        let root = tree(&[
            MEMINFO,
            ("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/x\n0::/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "9223372036854771712\n"),
        ]);
        assert_eq!(limited_cgroup(root.path()), None);
        assert_eq!(machine_limit(root.path()), 614_400);
        let legacy = tree(&[MEMINFO, ("proc/self/cgroup", "4:memory:/x\n"), ("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "5000\n")]);
        let (source, limit) = limited_cgroup(legacy.path()).expect("is limited");
        assert_eq!((source, limit), (Source::Legacy(legacy.path().join("sys/fs/cgroup/memory/x")), 5000));
    }

    #[test]
    fn memory_is_short_near_the_limit_and_until_well_below_it() {
        let memory = ProcessMemory::new(Source::Process, 1000);
        assert!(!memory.judge(799) && memory.judge(800));
        memory.short.store(true, Relaxed);
        assert!(memory.judge(799) && memory.judge(750) && !memory.judge(749));
        assert!(!ProcessMemory::new(Source::Process, u64::MAX).is_short());
        assert!(ProcessMemory::new(Source::Process, 1).is_short(), "this process takes more than a byte");
    }
}
