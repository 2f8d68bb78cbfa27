//! The cgroups of pods: the runtime makes them, the kubelet removes them when a pod is gone.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use troupe_cri::names::cgroup_parent;

const HIERARCHIES: &str = "/sys/fs/cgroup";
const CLASSES: [&str; 3] = ["Guaranteed", "Burstable", "BestEffort"];

/// Removes all cgroups of a pod, in every hierarchy (v1) or the one (v2).
pub fn remove_pod(cgroup_root: &str, uid: &str) -> io::Result<()> {
    for class in CLASSES {
        let group = cgroup_parent(cgroup_root, class, uid);
        for hierarchy in hierarchies()? {
            remove_tree(&hierarchy.join(group.trim_start_matches('/')))?;
        }
    }
    Ok(())
}

/// Removes the cgroups of all pods, and `cgroup_root` itself unless something else lives in it.
pub fn remove_all(cgroup_root: &str) -> io::Result<()> {
    for hierarchy in hierarchies()? {
        let root = hierarchy.join(cgroup_root.trim_matches('/'));
        remove_tree(&root.join("kubepods"))?;
        if root != hierarchy {
            // It may hold other things, or have never existed.
            let _ = fs::remove_dir(&root);
        }
    }
    Ok(())
}

/// Kills what lives in the cgroups of a pod; whether anything did.
pub fn kill_pod(cgroup_root: &str, uid: &str) -> io::Result<bool> {
    let mut alive = false;
    for class in CLASSES {
        let group = cgroup_parent(cgroup_root, class, uid);
        for hierarchy in hierarchies()? {
            alive |= kill_tree(&hierarchy.join(group.trim_start_matches('/')))?;
        }
    }
    Ok(alive)
}

/// The uids of pods that have cgroups here.
pub fn pods(cgroup_root: &str) -> io::Result<Vec<String>> {
    let mut all = std::collections::BTreeSet::new();
    for class in CLASSES {
        let group = cgroup_parent(cgroup_root, class, "x");
        let parent = Path::new(&group).parent().unwrap_or(Path::new("/")).to_owned();
        for hierarchy in hierarchies()? {
            let Ok(entries) = fs::read_dir(hierarchy.join(parent.strip_prefix("/").unwrap_or(&parent))) else { continue };
            let names = entries.flatten().filter_map(|entry| entry.file_name().to_str().and_then(|name| name.strip_prefix("pod")).map(str::to_owned));
            all.extend(names);
        }
    }
    Ok(all.into_iter().collect())
}

/// The roots of the hierarchies. Names that are links to a hierarchy (`cpu` to `cpu,cpuacct`) count once.
fn hierarchies() -> io::Result<Vec<PathBuf>> {
    let root = PathBuf::from(HIERARCHIES);
    if root.join("cgroup.controllers").exists() {
        return Ok(vec![root]);
    }
    let mut all = Vec::new();
    for entry in fs::read_dir(&root)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            all.push(entry.path());
        }
    }
    Ok(all)
}

fn kill_tree(group: &Path) -> io::Result<bool> {
    let entries = match fs::read_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    let mut alive = false;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            alive |= kill_tree(&entry.path())?;
        }
    }
    // A group that vanished meanwhile is empty.
    for pid in fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default().split_whitespace() {
        let Ok(pid) = pid.parse() else { continue };
        alive = true;
        match nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(alive)
}

/// Cgroup directories go from the leaves up; their files cannot be removed and need not be.
fn remove_tree(group: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
