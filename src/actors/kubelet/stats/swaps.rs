//! One look at what containers and pods swap, for `/metrics/resource`.

use std::collections::BTreeMap;

use super::cgroup::{Cgroups, Group, Swap};
use crate::files::blocking;

/// What is swapped, by ids of containers and by uids of pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swaps {
    pub containers: BTreeMap<String, Swap>,
    pub pods: BTreeMap<String, u64>,
}

/// That of the cgroups below `parent`.
pub async fn swaps(parent: &str) -> Swaps {
    let parent = parent.to_owned();
    blocking(move || match Cgroups::of(&parent) {
        Ok(cgroups) => gather(cgroups.list(), |group| cgroups.swap(group)),
        Err(_) => Swaps::default(),
    })
    .await
}

fn gather(groups: Vec<Group>, swap: impl Fn(&Group) -> Option<Swap>) -> Swaps {
    let mut all = Swaps::default();
    for group in groups {
        let Some(swap) = swap(&group) else { continue };
        if let Some(id) = group.container {
            all.containers.insert(id, swap);
        } else if let Some(uid) = group.pod {
            all.pods.insert(uid, swap.used);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_containers_are_theirs_and_not_their_pods() {
        let group = |pod: Option<&str>, container: Option<&str>| Group {
            path: String::new(),
            pod: pod.map(Into::into),
            container: container.map(Into::into),
        };
        let groups = vec![group(None, None), group(Some("u1"), None), group(Some("u1"), Some("id-a")), group(Some("u1"), Some("gone"))];
        let told = gather(groups, |group| (group.container.as_deref() != Some("gone")).then_some(Swap { used: 7, limit: Some(9) }));
        assert_eq!(told.pods, BTreeMap::from([("u1".to_owned(), 7)]));
        assert_eq!(told.containers, BTreeMap::from([("id-a".to_owned(), Swap { used: 7, limit: Some(9) })]));
    }
}
