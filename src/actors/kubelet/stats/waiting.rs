//! What the tasks of the machine, its pods and their containers wait for, for `/stats/summary`.

use std::collections::BTreeMap;

use super::{cgroup::Cgroups, pressure::Pressures};
use crate::files::blocking;

/// By the uid of the pod, the id of the container, and [`MACHINE`].
pub type PressuresByName = BTreeMap<String, Pressures>;

/// Under which the whole machine's stand.
pub const MACHINE: &str = "/";

/// Those of the cgroups below `parent`, as far as they are counted.
pub async fn pressures(parent: &str) -> PressuresByName {
    let parent = parent.to_owned();
    blocking(move || {
        let Ok(cgroups) = Cgroups::of(&parent) else { return PressuresByName::new() };
        let named = cgroups.list().into_iter().filter_map(|group| {
            let machine = (group.path == MACHINE).then(|| MACHINE.to_owned());
            let name = group.container.clone().or_else(|| group.pod.clone()).or(machine)?;
            Some((name, Pressures::of(|file| cgroups.file(&group, file))))
        });
        named.filter(|(_, pressures)| *pressures != Pressures::default()).collect()
    })
    .await
}
