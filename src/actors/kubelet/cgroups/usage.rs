//! What pods use, as their cgroups count it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    hierarchies,
    limit::{hierarchy_of, is_unified},
    pod_groups, processes_of_pod,
};

/// The bytes of memory that all pods together use and that could not be taken back without harm.
///
/// # Errors
/// When their cgroup does not tell.
pub fn working_set(parent: &str) -> io::Result<u64> {
    let parent = parent.trim_matches('/');
    let hierarchies = hierarchies()?;
    let (group, used, inactive): (PathBuf, _, _) = match hierarchies.as_slice() {
        [whole] if is_unified(whole) => (whole.join(parent), "memory.current", "inactive_file"),
        _ => (hierarchy_of(&hierarchies, "memory")?.join(parent), "memory.usage_in_bytes", "total_inactive_file"),
    };
    let used = number(&group.join(used))?;
    let stat = fs::read_to_string(group.join("memory.stat"))?;
    Ok(used.saturating_sub(figure(&stat, inactive).unwrap_or(0)))
}

/// The processes and threads of a pod; `None` for one without cgroups.
///
/// # Errors
/// When the hierarchies cannot be read.
pub fn processes(parent: &str, uid: &str) -> io::Result<Option<u64>> {
    let groups: Vec<PathBuf> = pod_groups(parent, uid)?.into_iter().filter(|group| group.exists()).collect();
    let counted = groups.iter().filter_map(|group| number(&group.join("pids.current")).ok()).max();
    match counted {
        None if groups.is_empty() => Ok(None),
        // Without the controller nobody counts threads.
        None => Ok(u64::try_from(processes_of_pod(parent, uid)?.len()).ok()),
        counted => Ok(counted),
    }
}

fn number(file: &Path) -> io::Result<u64> {
    fs::read_to_string(file)?.trim().parse().map_err(io::Error::other)
}

/// A line of `memory.stat`.
fn figure(stat: &str, name: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_told_apart_by_their_whole_names() {
        let stat = "inactive_file 5\ntotal_inactive_file 7\ntotal_inactive_file_more 9\n";
        assert_eq!((figure(stat, "inactive_file"), figure(stat, "total_inactive_file"), figure(stat, "file")), (Some(5), Some(7), None));
    }
}
