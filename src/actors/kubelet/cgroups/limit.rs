//! What a whole pod may use, and what all pods may: written into their cgroups before anything runs in them, so that it binds
//! all containers together, the memory of volumes included.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use troupe_cri::{
    names::pod_cgroup,
    resources::{CpuTime, cpu_shares},
};

use crate::kubelet::resize::PodAmounts;

/// A file of a cgroup and what is written into it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Setting {
    /// The controller: in version 1 the name of its hierarchy.
    controller: &'static str,
    file: &'static str,
    value: String,
}

fn setting(controller: &'static str, file: &'static str, value: impl ToString) -> Setting {
    Setting { controller, file, value: value.to_string() }
}

/// What a group may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes; 0 for all there are.
    pub memory: i64,
    /// Microseconds in each period; 0 for all there are.
    pub cpu_quota: i64,
    pub cpu_period: i64,
    /// The weight beside other groups, as version 1 counts it; 0 for the kernel's own.
    pub cpu_shares: i64,
    /// Processes and threads; `None` for all there are.
    pub processes: Option<u32>,
}

impl Limits {
    /// A pod's, and of its processes.
    pub fn of_pod(amounts: PodAmounts, cpu_time: CpuTime, processes: Option<u32>) -> Self {
        let PodAmounts { memory, cpu_quota, cpu_shares } = amounts;
        Limits { memory, cpu_quota: cpu_time.quota_of(cpu_quota), cpu_period: cpu_time.period, cpu_shares, processes }
    }

    /// Those of all pods together, which weigh as many CPUs, in thousandths, as they may have.
    pub fn of_pods(milli_cpus: i64, memory: i64, processes: Option<u32>) -> Self {
        Limits { memory, processes, cpu_shares: cpu_shares(milli_cpus), ..Limits::default() }
    }

    /// The weight of a class of pods.
    pub fn of_class(cpu_shares: i64) -> Self {
        Limits { cpu_shares, ..Limits::default() }
    }

    /// What is other than before.
    pub fn changed_from(self, before: Limits) -> Self {
        let other = |new: i64, old: i64| if new == old { 0 } else { new };
        Limits {
            memory: other(self.memory, before.memory),
            cpu_quota: other(self.cpu_quota, before.cpu_quota),
            cpu_shares: other(self.cpu_shares, before.cpu_shares),
            processes: self.processes.filter(|_| self.processes != before.processes),
            ..self
        }
    }
}

/// Makes the pod's cgroup with the pod's limits. Where there are none the runtime makes it.
///
/// # Errors
/// When the kernel does not take a limit.
pub fn limit_pod(parent: &str, qos_class: &str, uid: &str, limits: &Limits) -> io::Result<()> {
    limit(Path::new(pod_cgroup(parent, qos_class, uid).trim_start_matches('/')), limits)
}

/// Leaves so much memory and so many processes of the machine to all pods together, and what is beyond to its daemons.
///
/// # Errors
/// When the kernel does not take the limits.
pub fn limit_pods(parent: &str, limits: &Limits) -> io::Result<()> {
    limit(Path::new(parent.trim_matches('/')), limits)
}

/// How much CPU time all pods of a class have together where time is short: as much as they ask for. Guaranteed pods each have a place of
/// their own beside the classes.
///
/// # Errors
/// When the kernel does not take it.
pub fn weigh_class(parent: &str, qos_class: &str, cpu_shares: i64) -> io::Result<()> {
    limit(Path::new(class_cgroup(parent, qos_class).trim_start_matches('/')), &Limits::of_class(cpu_shares))
}

/// The cgroup of a class of pods.
pub fn class_cgroup(parent: &str, qos_class: &str) -> String {
    let mut group = pod_cgroup(parent, qos_class, "");
    group.truncate(group.rfind('/').unwrap_or(group.len()));
    group
}

/// The bytes of memory that a pod takes.
///
/// # Errors
/// When its cgroup does not tell.
pub fn memory_of_pod(parent: &str, qos_class: &str, uid: &str) -> io::Result<u64> {
    let group = pod_cgroup(parent, qos_class, uid);
    let group = group.trim_start_matches('/');
    let hierarchies = super::hierarchies()?;
    let file = match hierarchies.as_slice() {
        [whole] if is_unified(whole) => whole.join(group).join("memory.current"),
        _ => hierarchy_of(&hierarchies, "memory")?.join(group).join("memory.usage_in_bytes"),
    };
    fs::read_to_string(&file)?.trim().parse().map_err(io::Error::other)
}

fn limit(group: &Path, limits: &Limits) -> io::Result<()> {
    let hierarchies = super::hierarchies()?;
    match hierarchies.as_slice() {
        [whole] if is_unified(whole) => {
            let settings = unified(limits);
            if !settings.is_empty() {
                enable(whole, group)?;
            }
            settings.iter().try_for_each(|setting| write(&whole.join(group), setting))
        }
        _ => legacy(limits).iter().try_for_each(|setting| write(&hierarchy_of(&hierarchies, setting.controller)?.join(group), setting)),
    }
}

pub(super) fn is_unified(hierarchy: &Path) -> bool {
    hierarchy.join("cgroup.controllers").exists()
}

/// The hierarchy of version 1 that has a controller.
pub(super) fn hierarchy_of<'a>(hierarchies: &'a [PathBuf], controller: &str) -> io::Result<&'a PathBuf> {
    let name = |path: &&PathBuf| path.file_name().is_some_and(|name| name.to_str().is_some_and(|name| has(name, controller)));
    hierarchies.iter().find(name).ok_or_else(|| io::Error::other(format!("this machine has no cgroups for {controller}")))
}

/// Whether a hierarchy (`cpu,cpuacct`) has a controller.
fn has(hierarchy: &str, controller: &str) -> bool {
    hierarchy.split(',').any(|name| name == controller)
}

/// The limits in the terms of cgroups version 2.
fn unified(limits: &Limits) -> Vec<Setting> {
    let mut all: Vec<_> = limits.processes.iter().map(|limit| setting("pids", "pids.max", limit)).collect();
    if limits.memory > 0 {
        all.push(setting("memory", "memory.max", limits.memory));
    }
    if limits.cpu_quota > 0 {
        all.push(setting("cpu", "cpu.max", format!("{} {}", limits.cpu_quota, limits.cpu_period)));
    }
    if limits.cpu_shares > 0 {
        all.push(setting("cpu", "cpu.weight", weight(limits.cpu_shares)));
    }
    all
}

/// The limits in the terms of cgroups version 1.
fn legacy(limits: &Limits) -> Vec<Setting> {
    let mut all: Vec<_> = limits.processes.iter().map(|limit| setting("pids", "pids.max", limit)).collect();
    if limits.memory > 0 {
        all.push(setting("memory", "memory.limit_in_bytes", limits.memory));
    }
    if limits.cpu_quota > 0 {
        all.push(setting("cpu", "cpu.cfs_period_us", limits.cpu_period));
        all.push(setting("cpu", "cpu.cfs_quota_us", limits.cpu_quota));
    }
    if limits.cpu_shares > 0 {
        all.push(setting("cpu", "cpu.shares", limits.cpu_shares));
    }
    all
}

/// Shares of version 1 as the weight of version 2: least, default and most of one are those of the other (as runtimes convert them).
pub(super) fn weight(shares: i64) -> u32 {
    const LEAST: i64 = 2;
    const MOST: i64 = 262_144;
    if shares <= LEAST {
        return 1;
    }
    let log = (shares.min(MOST) as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    (10_f64.powf(exponent).ceil() as u32).clamp(1, 10_000)
}

fn write(group: &Path, setting: &Setting) -> io::Result<()> {
    make(group)?;
    let file = group.join(setting.file);
    fs::write(&file, &setting.value).map_err(|error| io::Error::new(error.kind(), format!("write {} to {}: {error}", setting.value, file.display())))
}

/// Makes a group and those above it. Others may look into it, as into the groups that runtimes make, however private this process is otherwise:
/// a container whose users are its own looks for its group as one of them.
fn make(group: &Path) -> io::Result<()> {
    const OTHERS: u32 = 0o055;
    if let Ok(known) = fs::metadata(group) {
        let mode = known.permissions().mode();
        return if mode & OTHERS == OTHERS { Ok(()) } else { fs::set_permissions(group, Permissions::from_mode(mode | OTHERS)) };
    }
    if let Some(above) = group.parent().filter(|above| !above.exists()) {
        make(above)?;
    }
    match fs::create_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => fs::set_permissions(group, Permissions::from_mode(0o755)),
    }
}

/// Hands the controllers down to a group of the unified hierarchy.
fn enable(root: &Path, group: &Path) -> io::Result<()> {
    make(&root.join(group))?;
    let parents: Vec<_> = group.ancestors().skip(1).collect();
    for parent in parents.iter().rev() {
        let file = root.join(parent).join("cgroup.subtree_control");
        fs::write(&file, "+cpu +memory +pids").map_err(|error| io::Error::new(error.kind(), format!("write {}: {error}", file.display())))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(settings: &[Setting]) -> Vec<String> {
        settings.iter().map(|setting| format!("{}={}", setting.file, setting.value)).collect()
    }

    #[test]
    fn limits_are_written_in_the_words_of_each_version() {
        let limits = Limits { memory: 1 << 20, cpu_quota: 50_000, cpu_period: 100_000, cpu_shares: 512, processes: Some(9) };
        assert_eq!(written(&unified(&limits)), ["pids.max=9", "memory.max=1048576", "cpu.max=50000 100000", "cpu.weight=59"]);
        let legacy_ones = ["pids.max=9", "memory.limit_in_bytes=1048576", "cpu.cfs_period_us=100000", "cpu.cfs_quota_us=50000", "cpu.shares=512"];
        assert_eq!(written(&legacy(&limits)), legacy_ones);
        assert!(unified(&Limits::default()).is_empty() && legacy(&Limits::default()).is_empty());
        assert!(has("cpu,cpuacct", "cpu") && !has("cpuset", "cpu"));
    }

    #[test]
    fn a_pods_quota_is_that_of_the_nodes_period_if_there_is_any() {
        let amounts = PodAmounts { memory: 0, cpu_quota: 50_000, cpu_shares: 512 };
        let of = |cpu_time: CpuTime| written(&unified(&Limits::of_pod(amounts, cpu_time, None)));
        assert_eq!(of(CpuTime { period: 5000, ..CpuTime::default() }), ["cpu.max=2500 5000", "cpu.weight=59"]);
        assert_eq!(of(CpuTime { is_limited: false, ..CpuTime::default() }), ["cpu.weight=59"]);
    }

    #[test]
    fn shares_and_weights_have_the_same_least_default_and_most() {
        assert_eq!([0, 2, 1024, 262_144, i64::MAX].map(weight), [1, 1, 100, 10_000, 10_000]);
    }

    #[test]
    fn the_cgroup_of_a_class_is_where_its_pods_are() {
        assert_eq!((class_cgroup("k", "Burstable"), class_cgroup("k", "Guaranteed")), ("/k/burstable".into(), "/k".into()));
        assert_eq!(class_cgroup("k.slice", "BestEffort"), "/k.slice/k-besteffort.slice");
    }

    #[test]
    fn others_may_look_into_groups_whoever_made_them() {
        let dir = tempfile::tempdir().expect("a directory");
        let mode = |group: &str| fs::metadata(dir.path().join(group)).expect("is there").permissions().mode() & 0o777;
        fs::create_dir(dir.path().join("old")).expect("makes");
        fs::set_permissions(dir.path().join("old"), Permissions::from_mode(0o700)).expect("sets");
        make(&dir.path().join("new/kubepods/podu")).expect("makes");
        make(&dir.path().join("old")).expect("is there");
        assert_eq!(["new", "new/kubepods", "new/kubepods/podu", "old"].map(mode), [0o755; 4]);
    }

    #[test]
    fn only_what_changed_is_written_again() {
        let before = Limits { memory: 1 << 20, cpu_quota: 50_000, cpu_period: 100_000, cpu_shares: 512, processes: Some(9) };
        let after = Limits { memory: 2 << 20, ..before };
        assert_eq!(written(&legacy(&after.changed_from(before))), ["memory.limit_in_bytes=2097152"]);
    }
}
