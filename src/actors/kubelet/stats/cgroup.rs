//! What the kernel tells of cgroups, of both versions: read where it lies, then parsed (pure). What it does not tell is `None`.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use troupe_cri::names::uid_of_cgroup;

use super::{open_files::OpenFiles, pressure::Pressures};
use crate::kubelet::cgroups;

/// Ticks of a second, in nanoseconds.
const TICK: u64 = 10_000_000;
/// Limits from here on are none.
pub const NO_LIMIT: u64 = 1 << 62;

/// Figures of one cgroup, with those below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupUsage {
    /// Nanoseconds of processor time.
    pub cpu: Option<u64>,
    pub user: Option<u64>,
    pub system: Option<u64>,
    /// Periods with a quota, those in which it did not suffice, and nanoseconds that were waited for more.
    pub periods: Option<u64>,
    pub throttled_periods: Option<u64>,
    pub throttled: Option<u64>,
    /// Microseconds.
    pub quota: Option<u64>,
    pub period: Option<u64>,
    pub shares: Option<u64>,
    /// Bytes.
    pub memory: Option<u64>,
    pub max_memory: Option<u64>,
    /// 0 where there is none.
    pub memory_limit: Option<u64>,
    pub failures: Option<u64>,
    pub rss: Option<u64>,
    pub cache: Option<u64>,
    pub mapped_file: Option<u64>,
    pub swap: Option<u64>,
    /// From [`NO_LIMIT`] on where there is none; of version 1 for memory and swap together.
    pub swap_limit: Option<u64>,
    /// What is kept for it when memory is short; 0 where nothing is.
    pub reservation: Option<u64>,
    pub inactive_file: Option<u64>,
    pub page_faults: Option<u64>,
    pub major_page_faults: Option<u64>,
    pub oom_kills: Option<u64>,
    pub processes: u64,
    pub threads: Option<u64>,
    /// 0 where there is no limit.
    pub threads_limit: Option<u64>,
    pub pressures: Pressures,
    /// Of its own processes, where somebody counted them.
    pub open_files: Option<OpenFiles>,
    /// By the device's numbers.
    pub disks: BTreeMap<String, DiskUsage>,
}

/// What a cgroup swaps, and how much it may where that has a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swap {
    pub used: u64,
    pub limit: Option<u64>,
}

/// What was read from and written to a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    pub read_bytes: u64,
    pub written_bytes: u64,
    pub reads: u64,
    pub writes: u64,
}

impl CgroupUsage {
    /// What could not be taken back without harm.
    pub fn working_set(&self) -> Option<u64> {
        Some(self.memory?.saturating_sub(self.inactive_file.unwrap_or(0)))
    }

    /// What it may have more of memory, where it has a limit.
    pub fn memory_available(&self) -> Option<u64> {
        let limit = self.memory_limit.filter(|limit| *limit > 0)?;
        Some(limit.saturating_sub(self.working_set()?))
    }

    /// What it may swap more, where it has a limit.
    pub fn swap_available(&self) -> Option<u64> {
        let limit = self.swap_limit.filter(|limit| *limit < NO_LIMIT)?;
        Some(limit.saturating_sub(self.swap?))
    }
}

/// The cgroups of a node's pods.
#[derive(Clone, Debug)]
pub struct Cgroups {
    hierarchies: Vec<PathBuf>,
    parent: PathBuf,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Below the hierarchy's root, such as `/kubepods/burstable/pod1234/5678`.
    pub path: String,
    /// The pod's uid, where it is one's.
    pub pod: Option<String>,
    /// The container's or the sandbox's id, where it is one's.
    pub container: Option<String>,
}

impl Cgroups {
    /// Those below `parent`.
    ///
    /// # Errors
    /// When the hierarchies cannot be read.
    pub fn of(parent: &str) -> io::Result<Self> {
        let mut hierarchies = cgroups::hierarchies()?;
        if hierarchies.len() > 1 {
            // Beside those of version 1 the one of version 2 has files of the same names that tell less.
            hierarchies.retain(|hierarchy| !hierarchy.ends_with("unified"));
        }
        Ok(Cgroups { hierarchies, parent: Path::new("/").join(parent.trim_matches('/')) })
    }

    /// The whole machine's, that of all pods, those of classes, of pods, and of their containers.
    pub fn list(&self) -> Vec<Group> {
        let root = Group { path: "/".into(), pod: None, container: None };
        let mut all: BTreeMap<String, Group> = BTreeMap::from([(root.path.clone(), root)]);
        for hierarchy in &self.hierarchies {
            self.walk(hierarchy, &self.parent, None, &mut all);
        }
        all.into_values().collect()
    }

    fn walk(&self, hierarchy: &Path, at: &Path, pod: Option<&str>, all: &mut BTreeMap<String, Group>) {
        let folder = hierarchy.join(at.strip_prefix("/").unwrap_or(at));
        let Ok(entries) = fs::read_dir(&folder) else { return };
        let name = at.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let container = pod.filter(|pod| uid_of_cgroup(name).as_deref() != Some(*pod)).map(|_| container_of(name).to_owned());
        let leaf = container.is_some();
        let path = at.to_string_lossy().into_owned();
        all.entry(path.clone()).or_insert(Group { path, pod: pod.map(str::to_owned), container });
        // What a container makes below its own is its own.
        for entry in entries.flatten().filter(|entry| !leaf && entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            let name = entry.file_name();
            let uid = name.to_str().and_then(uid_of_cgroup);
            self.walk(hierarchy, &at.join(&name), pod.or(uid.as_deref()), all);
        }
    }

    /// The figures of one.
    pub fn usage(&self, group: &Group) -> CgroupUsage {
        usage(self.files(group))
    }

    /// What one swaps, and how much it may.
    pub fn swap(&self, group: &Group) -> Option<Swap> {
        swap(self.files(group))
    }

    /// What lies in one's folders.
    fn files(&self, group: &Group) -> impl Fn(&str) -> Option<String> {
        let relative = group.path.trim_start_matches('/');
        move |file: &str| {
            let mut hierarchies = self.hierarchies.iter().filter(|hierarchy| self.may_have(hierarchy, file));
            hierarchies.find_map(|hierarchy| fs::read_to_string(hierarchy.join(relative).join(file)).ok())
        }
    }

    /// Whether a hierarchy may have such a file: of version 1 each has those of its controllers.
    fn may_have(&self, hierarchy: &Path, file: &str) -> bool {
        let controller = file.split('.').next().unwrap_or_default();
        let names = hierarchy.file_name().and_then(|names| names.to_str()).unwrap_or_default();
        self.hierarchies.len() == 1 || controller == "cgroup" || names.split(',').any(|name| name == controller)
    }

    /// The processes right in one.
    pub fn processes(&self, group: &Group) -> Vec<i32> {
        let relative = group.path.trim_start_matches('/');
        let lists = self.hierarchies.iter().filter_map(|hierarchy| fs::read_to_string(hierarchy.join(relative).join("cgroup.procs")).ok());
        let found = lists.map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>());
        found.max_by_key(Vec::len).unwrap_or_default()
    }
}

/// The cgroup of this process, unless it has none of its own.
pub fn own_group() -> Option<String> {
    group_of(&fs::read_to_string("/proc/self/cgroup").ok()?)
}

/// The one cgroup that processor time and memory of a process are counted in. Pure.
fn group_of(text: &str) -> Option<String> {
    let lines: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':')).collect();
    let of = |controller: &str| lines.iter().find(|(names, _)| names.split(',').any(|name| name == controller)).map(|(_, path)| *path);
    let group = match (of("cpu"), of("memory")) {
        (Some(cpu), Some(memory)) => Some(cpu).filter(|cpu| *cpu == memory),
        _ => of(""),
    };
    // From within a container what lies above it is not seen.
    group.filter(|path| *path != "/" && !path.contains("..")).map(str::to_owned)
}

/// The id in the name of a container's cgroup: runtimes with the systemd driver put words around it.
fn container_of(name: &str) -> &str {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    name.rsplit('-').next().unwrap_or(name)
}

/// The figures that a cgroup's files tell. Pure.
fn usage(file: impl Fn(&str) -> Option<String>) -> CgroupUsage {
    let number = |name: &str| file(name)?.trim().parse::<u64>().ok();
    let fields = |name: &str| file(name).map(|text| fields(&text)).unwrap_or_default();
    let (cpu, ticks, memory) = (fields("cpu.stat"), fields("cpuacct.stat"), fields("memory.stat"));
    let of = |all: &BTreeMap<String, u64>, name: &str| all.get(name).copied();
    let micros = |name: &str| of(&cpu, name).map(|micros| micros * 1000);
    let memory_of = |v1: &str, v2: &str| of(&memory, v1).or_else(|| of(&memory, v2));
    let (quota, period) = match file("cpu.max") {
        Some(text) => {
            let mut words = text.split_whitespace().map(|word| word.parse().ok());
            (words.next().flatten(), words.next().flatten())
        }
        None => (number("cpu.cfs_quota_us"), number("cpu.cfs_period_us")),
    };
    let bound = |name: &str| file(name).map(|text| text.trim().parse().unwrap_or(NO_LIMIT));
    let limit = |v1: &str, v2: &str| bound(v1).or_else(|| bound(v2)).map(|limit| if limit >= NO_LIMIT { 0 } else { limit });
    let threads = number("pids.current");
    CgroupUsage {
        cpu: number("cpuacct.usage").or_else(|| micros("usage_usec")),
        user: of(&ticks, "user").map(|ticks| ticks * TICK).or_else(|| micros("user_usec")),
        system: of(&ticks, "system").map(|ticks| ticks * TICK).or_else(|| micros("system_usec")),
        periods: of(&cpu, "nr_periods"),
        throttled_periods: of(&cpu, "nr_throttled"),
        throttled: of(&cpu, "throttled_time").or_else(|| micros("throttled_usec")),
        quota,
        period,
        shares: number("cpu.shares").or_else(|| number("cpu.weight").map(|weight| weight.saturating_sub(1) * 262_142 / 9999 + 2)),
        memory: number("memory.usage_in_bytes").or_else(|| number("memory.current")),
        max_memory: number("memory.max_usage_in_bytes").or_else(|| number("memory.peak")),
        memory_limit: limit("memory.limit_in_bytes", "memory.max"),
        failures: number("memory.failcnt").or_else(|| of(&fields("memory.events"), "max")),
        rss: memory_of("total_rss", "anon"),
        cache: memory_of("total_cache", "file"),
        mapped_file: memory_of("total_mapped_file", "file_mapped"),
        swap: of(&memory, "total_swap").or_else(|| number("memory.swap.current")),
        swap_limit: bound("memory.memsw.limit_in_bytes").or_else(|| bound("memory.swap.max")),
        reservation: limit("memory.soft_limit_in_bytes", "memory.low"),
        inactive_file: memory_of("total_inactive_file", "inactive_file"),
        page_faults: memory_of("total_pgfault", "pgfault"),
        major_page_faults: memory_of("total_pgmajfault", "pgmajfault"),
        oom_kills: of(&fields("memory.oom_control"), "oom_kill").or_else(|| of(&fields("memory.events"), "oom_kill")),
        processes: file("cgroup.procs").map_or(0, |text| text.lines().count() as u64),
        threads,
        threads_limit: limit("pids.max", "pids.max"),
        pressures: Pressures::parse(|resource| file(&format!("{resource}.pressure"))),
        open_files: None,
        disks: file("io.stat").map_or_else(
            || {
                let text = |name: &str| file(&format!("{name}_recursive")).or_else(|| file(name)).unwrap_or_default();
                disks_v1(&text("blkio.throttle.io_service_bytes"), &text("blkio.throttle.io_serviced"))
            },
            |text| disks_v2(&text),
        ),
    }
}

/// What its files tell of swap alone. Pure.
fn swap(file: impl Fn(&str) -> Option<String>) -> Option<Swap> {
    let current = file("memory.swap.current").and_then(|text| text.trim().parse::<u64>().ok());
    let used = current.or_else(|| fields(&file("memory.stat")?).get("total_swap").copied())?;
    let limit = file("memory.swap.max").or_else(|| file("memory.memsw.limit_in_bytes"));
    let limit = limit.and_then(|text| text.trim().parse::<u64>().ok()).filter(|limit| *limit < NO_LIMIT);
    Some(Swap { used, limit })
}

/// Lines of a name and a number.
fn fields(text: &str) -> BTreeMap<String, u64> {
    let pair = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

/// Lines such as `8:0 Read 4096`.
fn disks_v1(bytes: &str, operations: &str) -> BTreeMap<String, DiskUsage> {
    let mut disks: BTreeMap<String, DiskUsage> = BTreeMap::new();
    let mut each = |text: &str, take: fn(&mut DiskUsage, &str, u64)| {
        for line in text.lines() {
            let mut words = line.split_whitespace();
            if let (Some(device), Some(kind), Some(Ok(value))) = (words.next(), words.next(), words.next().map(str::parse)) {
                take(disks.entry(device.to_owned()).or_default(), kind, value);
            }
        }
    };
    each(bytes, |disk, kind, value| match kind {
        "Read" => disk.read_bytes = value,
        "Write" => disk.written_bytes = value,
        _ => {}
    });
    each(operations, |disk, kind, value| match kind {
        "Read" => disk.reads = value,
        "Write" => disk.writes = value,
        _ => {}
    });
    disks
}

/// Lines such as `8:0 rbytes=4096 wbytes=0 rios=1 wios=0`.
fn disks_v2(text: &str) -> BTreeMap<String, DiskUsage> {
    let disk = |line: &str| {
        let (device, rest) = line.split_once(' ')?;
        let value = |name: &str| rest.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok()).unwrap_or(0);
        let usage = DiskUsage { read_bytes: value("rbytes"), written_bytes: value("wbytes"), reads: value("rios"), writes: value("wios") };
        Some((device.to_owned(), usage))
    };
    text.lines().filter_map(disk).collect()
}

/// The file of a device with these numbers, as far as it is known.
pub fn device(numbers: &str) -> String {
    let told = fs::read_to_string(format!("/sys/dev/block/{numbers}/uevent")).unwrap_or_default();
    told.lines().find_map(|line| line.strip_prefix("DEVNAME=")).map_or_else(|| numbers.to_owned(), |name| format!("/dev/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)]) -> CgroupUsage {
        usage(|name| files.iter().find(|(file, _)| *file == name).map(|(_, text)| (*text).to_owned()))
    }

    #[test]
    fn a_process_is_in_one_group_or_not_counted_by_itself() {
        assert_eq!(group_of("0::/system.slice/troupe.service\n").as_deref(), Some("/system.slice/troupe.service"));
        let v1 = "5:memory:/troupe\n4:cpu,cpuacct:/troupe\n1:name=systemd:/user.slice\n0::/user.slice\n";
        assert_eq!(group_of(v1).as_deref(), Some("/troupe"));
        assert_eq!(group_of(&v1.replace("memory:/troupe", "memory:/")), None, "there is no one group");
        assert_eq!((group_of("0::/\n"), group_of("0::/../..\n"), group_of("")), (None, None, None));
    }

    #[test]
    fn no_swap_is_a_limit_too() {
        let told = |files: &'static [(&'static str, &'static str)]| {
            let of = |name: &str| files.iter().find(|(file, _)| *file == name).map(|(_, text)| (*text).to_owned());
            (swap(of), usage(of).swap_available())
        };
        let none = told(&[("memory.swap.current", "0\n"), ("memory.swap.max", "0\n")]);
        assert_eq!(none, (Some(Swap { used: 0, limit: Some(0) }), Some(0)));
        let any = told(&[("memory.swap.current", "7\n"), ("memory.swap.max", "max\n")]);
        assert_eq!(any, (Some(Swap { used: 7, limit: None }), None));
        let both = told(&[("memory.stat", "total_swap 7\n"), ("memory.memsw.limit_in_bytes", "100\n")]);
        assert_eq!(both, (Some(Swap { used: 7, limit: Some(100) }), Some(93)));
        assert_eq!(told(&[("memory.memsw.limit_in_bytes", "9223372036854771712\n"), ("memory.stat", "total_swap 0\n")]).1, None);
        assert_eq!(told(&[("memory.current", "1\n")]), (None, None));
    }

    #[test]
    fn both_versions_tell_the_same() {
        let v1 = read(&[
            ("cpuacct.usage", "5000000000\n"),
            ("cpuacct.stat", "user 300\nsystem 200\n"),
            ("cpu.stat", "nr_periods 10\nnr_throttled 4\nthrottled_time 7000000\n"),
            ("cpu.cfs_quota_us", "50000\n"),
            ("cpu.cfs_period_us", "100000\n"),
            ("cpu.shares", "1024\n"),
            ("memory.usage_in_bytes", "10000\n"),
            ("memory.max_usage_in_bytes", "12000\n"),
            ("memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory.failcnt", "3\n"),
            (
                "memory.stat",
                "rss 1\ntotal_rss 4000\ntotal_cache 5000\ntotal_mapped_file 600\ntotal_inactive_file 700\ntotal_pgfault 8\ntotal_pgmajfault 9\ntotal_swap 11\n",
            ),
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
            ("cgroup.procs", "1\n2\n"),
            ("pids.current", "5\n"),
            ("blkio.throttle.io_service_bytes_recursive", "8:0 Read 4096\n8:0 Write 512\nTotal 4608\n"),
            ("blkio.throttle.io_serviced", "8:0 Read 2\n8:0 Write 1\n"),
        ]);
        let v2 = read(&[
            ("cpu.stat", "usage_usec 5000000\nuser_usec 3000000\nsystem_usec 2000000\nnr_periods 10\nnr_throttled 4\nthrottled_usec 7000\n"),
            ("cpu.max", "50000 100000\n"),
            ("cpu.weight", "39\n"),
            ("memory.current", "10000\n"),
            ("memory.peak", "12000\n"),
            ("memory.max", "max\n"),
            ("memory.stat", "anon 4000\nfile 5000\nfile_mapped 600\ninactive_file 700\npgfault 8\npgmajfault 9\n"),
            ("memory.swap.current", "11\n"),
            ("memory.events", "low 0\nmax 3\noom 2\noom_kill 2\n"),
            ("cgroup.procs", "1\n2\n"),
            ("pids.current", "5\n"),
            ("io.stat", "8:0 rbytes=4096 wbytes=512 rios=2 wios=1 dbytes=0 dios=0\n"),
        ]);
        assert_eq!(CgroupUsage { shares: None, ..v1.clone() }, CgroupUsage { shares: None, ..v2 });
        assert_eq!((v1.cpu, v1.throttled, v1.memory_limit, v1.working_set()), (Some(5_000_000_000), Some(7_000_000), Some(0), Some(9300)));
        assert_eq!(v1.disks["8:0"], DiskUsage { read_bytes: 4096, written_bytes: 512, reads: 2, writes: 1 });
    }

    #[test]
    fn what_a_cgroup_does_not_tell_is_not_known() {
        assert_eq!(read(&[]), CgroupUsage::default());
        assert_eq!(read(&[("cpu.max", "max 100000\n")]).quota, None);
        assert_eq!(read(&[("cpu.cfs_quota_us", "-1\n")]).quota, None);
    }

    #[test]
    fn groups_are_known_by_pod_and_container() {
        let root = tempfile::tempdir().expect("a folder");
        for path in ["cpu/a/kubepods/burstable/pod12-3/c0ffee/own", "memory/a/kubepods/pod45/cri-containerd-beef.scope", "memory/a/other"] {
            fs::create_dir_all(root.path().join(path)).expect("made");
        }
        let hierarchies = ["cpu", "memory"].map(|name| root.path().join(name)).to_vec();
        let cgroups = Cgroups { hierarchies, parent: "/a/kubepods".into() };
        let shown = |group: &Group| format!("{} {} {}", group.path, group.pod.as_deref().unwrap_or("-"), group.container.as_deref().unwrap_or("-"));
        assert_eq!(
            cgroups.list().iter().map(shown).collect::<Vec<_>>(),
            [
                "/ - -",
                "/a/kubepods - -",
                "/a/kubepods/burstable - -",
                "/a/kubepods/burstable/pod12-3 12-3 -",
                "/a/kubepods/burstable/pod12-3/c0ffee 12-3 c0ffee",
                "/a/kubepods/pod45 45 -",
                "/a/kubepods/pod45/cri-containerd-beef.scope 45 beef",
            ]
        );
        let slice = "kubepods-burstable.slice/kubepods-burstable-pod67_8.slice/cri-containerd-feed.scope";
        fs::create_dir_all(root.path().join("memory/kubepods.slice").join(slice)).expect("made");
        let slices = Cgroups { hierarchies: cgroups.hierarchies.clone(), parent: "/kubepods.slice".into() };
        let known: Vec<_> = slices.list().into_iter().filter_map(|group| Some((group.pod?, group.container))).collect();
        assert_eq!(known, [("67-8".to_owned(), None), ("67-8".to_owned(), Some("feed".to_owned()))]);
        for (hierarchy, bytes) in [("cpu", "1\n"), ("memory", "7\n")] {
            let folder = root.path().join(hierarchy).join("a/kubepods/pod45");
            fs::create_dir_all(&folder).and_then(|()| fs::write(folder.join("memory.usage_in_bytes"), bytes)).expect("written");
        }
        let pod = Group { path: "/a/kubepods/pod45".into(), pod: Some("45".into()), container: None };
        assert_eq!(cgroups.usage(&pod).memory, Some(7), "a controller's files are looked for where it is");
    }
}
