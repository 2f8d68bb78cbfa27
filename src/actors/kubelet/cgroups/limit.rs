//! What a whole pod may use, and what all pods may: written into their cgroups before anything runs in them, so that it binds
//! all containers together, the memory of volumes included.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use troupe_cri::{names::pod_cgroup, proto::LinuxContainerResources};

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
    /// Processes and threads; `None` for all there are.
    pub processes: Option<u32>,
}

impl Limits {
    /// A pod's, as the runtime is told them, and of its processes.
    pub fn of_pod(resources: &LinuxContainerResources, processes: Option<u32>) -> Self {
        let LinuxContainerResources { memory_limit_in_bytes: memory, cpu_quota, cpu_period, .. } = *resources;
        Limits { memory, cpu_quota, cpu_period, processes }
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
pub fn limit_pods(parent: &str, memory: i64, processes: Option<u32>) -> io::Result<()> {
    limit(Path::new(parent.trim_matches('/')), &Limits { memory, processes, ..Limits::default() })
}

fn limit(group: &Path, limits: &Limits) -> io::Result<()> {
    let hierarchies = super::hierarchies()?;
    match hierarchies.as_slice() {
        [whole] if whole.join("cgroup.controllers").exists() => {
            let settings = unified(limits);
            if !settings.is_empty() {
                enable(whole, group)?;
            }
            settings.iter().try_for_each(|setting| write(&whole.join(group), setting))
        }
        _ => legacy(limits).iter().try_for_each(|setting| {
            let name = |path: &&PathBuf| path.file_name().is_some_and(|name| name.to_str().is_some_and(|name| has(name, setting.controller)));
            let hierarchy = hierarchies.iter().find(name);
            let hierarchy = hierarchy.ok_or_else(|| io::Error::other(format!("this machine has no cgroups for {}", setting.controller)))?;
            write(&hierarchy.join(group), setting)
        }),
    }
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
    all
}

fn write(group: &Path, setting: &Setting) -> io::Result<()> {
    fs::create_dir_all(group)?;
    let file = group.join(setting.file);
    fs::write(&file, &setting.value).map_err(|error| io::Error::new(error.kind(), format!("write {} to {}: {error}", setting.value, file.display())))
}

/// Hands the controllers down to a group of the unified hierarchy.
fn enable(root: &Path, group: &Path) -> io::Result<()> {
    fs::create_dir_all(root.join(group))?;
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
        let limits = Limits { memory: 1 << 20, cpu_quota: 50_000, cpu_period: 100_000, processes: Some(9) };
        assert_eq!(written(&unified(&limits)), ["pids.max=9", "memory.max=1048576", "cpu.max=50000 100000"]);
        let legacy_ones = ["pids.max=9", "memory.limit_in_bytes=1048576", "cpu.cfs_period_us=100000", "cpu.cfs_quota_us=50000"];
        assert_eq!(written(&legacy(&limits)), legacy_ones);
        assert!(unified(&Limits::default()).is_empty() && legacy(&Limits::default()).is_empty());
        assert!(has("cpu,cpuacct", "cpu") && !has("cpuset", "cpu"));
    }
}
