//! The cgroups of pods: the runtime makes them, the kubelet removes them when a pod is gone.
//!
//! `parent` is the cgroup that holds the pods of one node. Nothing outside of it is touched, and inside of it only what has
//! the name of a pod's cgroup. One whose name is that of a slice is systemd's, and so are all in it ([`slices`]).

pub mod driver;
pub mod limit;
pub mod slices;
pub mod usage;

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use troupe_cri::names::{pod_cgroup, uid_of_cgroup};

const HIERARCHIES: &str = "/sys/fs/cgroup";
const CLASSES: [&str; 3] = ["Guaranteed", "Burstable", "BestEffort"];

/// Removes all cgroups of a pod, in every hierarchy (v1) or the one (v2).
pub fn remove_pod(parent: &str, uid: &str) -> io::Result<()> {
    pod_groups(parent, uid)?.iter().try_for_each(|group| remove_tree(group))
}

/// Removes the cgroups of all pods, and `parent` itself with what lies above it unless something else lives there.
///
/// # Errors
/// When a cgroup resists; the others are gone.
pub fn remove_all(parent: &str) -> io::Result<()> {
    let mut outcome = Ok(());
    for uid in pods(parent)? {
        if let Err(error) = remove_pod(parent, &uid) {
            outcome = Err(error);
        }
    }
    outcome?;
    for hierarchy in hierarchies()? {
        for folder in class_folders(&hierarchy, parent) {
            remove_if_empty(&folder)?;
        }
        let top = hierarchy.join(parent.trim_matches('/'));
        for above in top.ancestors().skip(1).take_while(|above| *above != hierarchy) {
            // Others may live there, or it never existed.
            let _ = fs::remove_dir(above);
        }
    }
    Ok(())
}

/// Kills what lives in the cgroups of a pod; whether anything did.
pub fn kill_pod(parent: &str, uid: &str) -> io::Result<bool> {
    let mut alive = false;
    for group in pod_groups(parent, uid)? {
        alive |= kill_tree(&group)?;
    }
    Ok(alive)
}

/// The processes in the cgroups of a pod.
///
/// # Errors
/// When the hierarchies cannot be read.
pub fn processes_of_pod(parent: &str, uid: &str) -> io::Result<BTreeSet<i32>> {
    let mut all = BTreeSet::new();
    for group in pod_groups(parent, uid)? {
        all.extend(tree(&group)?.iter().flat_map(|group| processes(group)));
    }
    Ok(all)
}

/// The uids of pods that have cgroups here.
pub fn pods(parent: &str) -> io::Result<Vec<String>> {
    let mut all = BTreeSet::new();
    for hierarchy in hierarchies()? {
        for folder in class_folders(&hierarchy, parent) {
            let Ok(entries) = fs::read_dir(folder) else { continue };
            all.extend(entries.flatten().filter_map(|entry| entry.file_name().to_str().and_then(uid_of_cgroup)));
        }
    }
    Ok(all.into_iter().collect())
}

/// The uids of pods that have cgroups here with processes in them.
pub fn inhabited(parent: &str) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for uid in pods(parent)? {
        let groups = pod_groups(parent, &uid)?;
        let trees = groups.iter().map(|group| tree(group)).collect::<io::Result<Vec<_>>>()?;
        if trees.iter().flatten().any(|group| !processes(group).is_empty()) {
            found.push(uid);
        }
    }
    Ok(found)
}

/// Whether a cgroup is there.
pub fn exists(group: &str) -> io::Result<bool> {
    Ok(hierarchies()?.iter().any(|hierarchy| hierarchy.join(group.trim_matches('/')).is_dir()))
}

/// The folders that pods' cgroups lie in: those of the classes, then the parent.
fn class_folders(hierarchy: &Path, parent: &str) -> Vec<PathBuf> {
    let folder = |class: &str| Path::new(&pod_cgroup(parent, class, "")).parent().map(Path::to_owned).unwrap_or_default();
    let inside = |path: PathBuf| hierarchy.join(path.strip_prefix("/").unwrap_or(&path));
    CLASSES.iter().rev().map(|class| inside(folder(class))).collect()
}

/// Where the cgroups of a pod may be.
fn pod_groups(parent: &str, uid: &str) -> io::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for hierarchy in hierarchies()? {
        all.extend(CLASSES.map(|class| hierarchy.join(pod_cgroup(parent, class, uid).trim_start_matches('/'))));
    }
    Ok(all)
}

/// The roots of the hierarchies. Names that are links to a hierarchy (`cpu` to `cpu,cpuacct`) count once.
pub(super) fn hierarchies() -> io::Result<Vec<PathBuf>> {
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

/// A cgroup and all below it, parents before children; nothing if it does not exist.
fn tree(group: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut next = vec![group.to_owned()];
    while let Some(group) = next.pop() {
        let entries = match fs::read_dir(&group) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                next.push(entry.path());
            }
        }
        found.push(group);
    }
    Ok(found)
}

/// The processes right in a cgroup; one that vanished has none.
fn processes(group: &Path) -> Vec<i32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn kill_tree(group: &Path) -> io::Result<bool> {
    let mut alive = false;
    for pid in tree(group)?.iter().flat_map(|group| processes(group)) {
        alive = true;
        match kill(Pid::from_raw(pid), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(alive)
}

/// Cgroup directories go from the leaves up; their files cannot be removed and need not be.
fn remove_tree(group: &Path) -> io::Result<()> {
    tree(group)?.iter().rev().try_for_each(|group| remove_if_empty(group))
}

fn remove_if_empty(group: &Path) -> io::Result<()> {
    match fs::remove_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io::Error::new(error.kind(), format!("{}: {error}", group.display()))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_is_there_or_not() {
        assert!(exists("/").expect("is readable") && !exists("/troupe-nowhere.slice").expect("is readable"));
    }

    #[test]
    fn the_folders_of_the_classes_lie_in_the_parent_as_it_is_given() {
        let folders = class_folders(Path::new("/h"), "t2pods");
        assert_eq!(folders, ["/h/t2pods/besteffort", "/h/t2pods/burstable", "/h/t2pods"].map(PathBuf::from));
        let slices = class_folders(Path::new("/h"), "k.slice");
        assert_eq!(slices, ["/h/k.slice/k-besteffort.slice", "/h/k.slice/k-burstable.slice", "/h/k.slice"].map(PathBuf::from));
    }

    #[test]
    fn a_tree_is_listed_from_the_top_and_may_be_missing() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(dir.path().join("a/b")).expect("makes");
        let found = tree(dir.path()).expect("lists");
        assert_eq!(found, [dir.path().to_owned(), dir.path().join("a"), dir.path().join("a/b")]);
        assert_eq!(tree(&dir.path().join("none")).expect("lists"), Vec::<PathBuf>::new());
    }
}
