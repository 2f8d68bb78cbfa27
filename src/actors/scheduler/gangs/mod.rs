//! Groups of pods that get nodes together (KEP-4671): which pods are of which group, and how many of them have a node.
//!
//! The scheduler's unit writes what it takes in and where it places pods, and the plugin `GangScheduling` reads it.

pub mod condition;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use k8s_openapi::api::{core::v1::Pod, scheduling::v1alpha2::PodGroup};
use parking_lot::Mutex;
use troupe_api::meta::ObjectKey;

use crate::runtime::cache::{Cache, Caches};

/// All groups of which there is a pod or a PodGroup.
#[derive(Default)]
pub struct Gangs {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    groups: HashMap<ObjectKey, Gang>,
    /// The group of each pod.
    of_pod: HashMap<ObjectKey, ObjectKey>,
}

/// A group.
#[derive(Default)]
struct Gang {
    /// How many pods must have a node before one is bound, 0 if each may go alone; `None` as long as there is no PodGroup.
    least: Option<usize>,
    /// The pods that there are, and whether each has a node, by the API's word or by ours.
    members: BTreeMap<ObjectKey, bool>,
}

impl Gang {
    fn placed(&self) -> usize {
        self.members.values().filter(|placed| **placed).count()
    }
}

impl Gangs {
    /// A PodGroup is there with so many pods that must go together, or is gone.
    pub fn set_group(&self, group: ObjectKey, least: Option<usize>) {
        let mut known = self.known.lock();
        known.groups.entry(group.clone()).or_default().least = least;
        known.drop_if_empty(&group);
    }

    /// A pod of a group is there. Whether it is the one with which there are just enough of them.
    pub fn note(&self, pod: &ObjectKey, group: &ObjectKey, placed: bool) -> bool {
        let mut known = self.known.lock();
        if known.of_pod.get(pod).is_some_and(|before| before != group) {
            known.forget(pod);
        }
        known.of_pod.insert(pod.clone(), group.clone());
        let gang = known.groups.entry(group.clone()).or_default();
        let is_new = gang.members.insert(pod.clone(), placed).is_none();
        is_new && gang.least == Some(gang.members.len())
    }

    /// A pod is gone or has ended.
    pub fn forget(&self, pod: &ObjectKey) {
        self.known.lock().forget(pod);
    }

    /// A pod of some group, if it is of one, has a node now, or lost it.
    pub fn place(&self, pod: &ObjectKey, placed: bool) {
        let mut known = self.known.lock();
        let Some(group) = known.of_pod.get(pod).cloned() else { return };
        if let Some(member) = known.groups.get_mut(&group).and_then(|gang| gang.members.get_mut(pod)) {
            *member = placed;
        }
    }

    /// The group of a pod.
    pub fn group_of(&self, pod: &ObjectKey) -> Option<ObjectKey> {
        self.known.lock().of_pod.get(pod).cloned()
    }

    /// The pods of a group without a node, or those with one, in order.
    pub fn members(&self, group: &ObjectKey, placed: bool) -> Vec<ObjectKey> {
        let known = self.known.lock();
        let members = known.groups.get(group).into_iter().flat_map(|gang| &gang.members);
        members.filter(|(_, is_placed)| **is_placed == placed).map(|(pod, _)| pod.clone()).collect()
    }

    /// Whether pods of a group may be looked at.
    ///
    /// # Errors
    /// What they wait for, in upstream's words.
    pub fn admit(&self, group: &ObjectKey) -> Result<(), String> {
        let known = self.known.lock();
        let gang = known.groups.get(group);
        let Some(least) = gang.and_then(|gang| gang.least) else {
            return Err(format!("waiting for pods's pod group {:?} to appear in scheduling queue", &*group.name));
        };
        if gang.is_some_and(|gang| gang.members.len() >= least) || least == 0 {
            return Ok(());
        }
        Err("waiting for minCount pods from a gang to appear in scheduling queue".into())
    }

    /// Whether as many pods of a group have a node as must; `None` if there is no such PodGroup.
    pub fn is_enough(&self, group: &ObjectKey) -> Option<bool> {
        let known = self.known.lock();
        let gang = known.groups.get(group)?;
        Some(gang.placed() >= gang.least?)
    }
}

impl Known {
    fn forget(&mut self, pod: &ObjectKey) {
        let Some(group) = self.of_pod.remove(pod) else { return };
        if let Some(gang) = self.groups.get_mut(&group) {
            gang.members.remove(pod);
        }
        self.drop_if_empty(&group);
    }

    fn drop_if_empty(&mut self, group: &ObjectKey) {
        if self.groups.get(group).is_some_and(|gang| gang.least.is_none() && gang.members.is_empty()) {
            self.groups.remove(group);
        }
    }
}

/// What is known of groups, with the objects that it comes from.
#[derive(Clone)]
pub struct GangCaches {
    pub gangs: Arc<Gangs>,
    pub groups: Cache<PodGroup>,
}

impl GangCaches {
    /// Begins to watch PodGroups.
    pub fn new(caches: &Caches) -> Self {
        GangCaches { gangs: Arc::default(), groups: caches.cache() }
    }
}

/// The group that a pod names.
pub fn group_of(pod: &Pod) -> Option<ObjectKey> {
    let name = pod.spec.as_ref()?.scheduling_group.as_ref()?.pod_group_name.as_deref()?;
    Some(ObjectKey::new(pod.metadata.namespace.as_deref().unwrap_or_default(), name))
}

/// How many pods of a group must go together; 0 if each may go alone.
pub fn least_of(group: &PodGroup) -> usize {
    group.spec.scheduling_policy.gang.as_ref().map_or(0, |gang| usize::try_from(gang.min_count).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("n", name)
    }

    const NO_GROUP: &str = "waiting for pods's pod group \"g\" to appear in scheduling queue";
    const TOO_FEW: &str = "waiting for minCount pods from a gang to appear in scheduling queue";

    #[test]
    fn pods_wait_for_their_group_and_for_one_another() {
        let (gangs, group) = (Gangs::default(), key("g"));
        assert!(!gangs.note(&key("a"), &group, false));
        assert_eq!(gangs.admit(&group), Err(NO_GROUP.into()));
        gangs.set_group(group.clone(), Some(2));
        assert_eq!(gangs.admit(&group), Err(TOO_FEW.into()));
        assert!(!gangs.note(&key("a"), &group, false), "it was there before");
        assert!(gangs.note(&key("b"), &group, false), "with it there are enough");
        assert!(!gangs.note(&key("c"), &group, false));
        assert_eq!(gangs.admit(&group), Ok(()));
        gangs.forget(&key("a"));
        gangs.forget(&key("b"));
        assert_eq!(gangs.admit(&group), Err(TOO_FEW.into()));
        gangs.set_group(group.clone(), None);
        assert_eq!(gangs.admit(&group), Err(NO_GROUP.into()));
        gangs.set_group(group.clone(), Some(0));
        assert_eq!(gangs.admit(&group), Ok(()), "each may go alone");
    }

    #[test]
    fn those_with_a_node_count_until_they_lose_it() {
        let (gangs, group) = (Gangs::default(), key("g"));
        assert_eq!(gangs.is_enough(&group), None);
        gangs.set_group(group.clone(), Some(2));
        gangs.note(&key("a"), &group, true);
        gangs.note(&key("b"), &group, false);
        assert_eq!(gangs.is_enough(&group), Some(false));
        gangs.place(&key("b"), true);
        gangs.place(&key("stranger"), true);
        assert_eq!((gangs.is_enough(&group), gangs.members(&group, true)), (Some(true), vec![key("a"), key("b")]));
        gangs.place(&key("b"), false);
        assert_eq!((gangs.is_enough(&group), gangs.members(&group, false)), (Some(false), vec![key("b")]));
        assert_eq!((gangs.group_of(&key("b")), gangs.group_of(&key("stranger"))), (Some(group), None));
    }

    #[test]
    fn nothing_stays_of_what_is_gone() {
        let (gangs, group) = (Gangs::default(), key("g"));
        gangs.note(&key("a"), &group, false);
        gangs.set_group(group.clone(), Some(1));
        gangs.note(&key("a"), &key("other"), false);
        assert_eq!((gangs.members(&group, false), gangs.members(&key("other"), false)), (vec![], vec![key("a")]));
        gangs.forget(&key("a"));
        gangs.set_group(group, None);
        assert!(gangs.known.lock().groups.is_empty() && gangs.known.lock().of_pod.is_empty());
    }
}
