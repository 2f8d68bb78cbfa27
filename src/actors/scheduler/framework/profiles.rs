//! The profiles of a scheduler, each with the name by which pods choose it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::core::v1::Pod;

use super::{
    change::{ClusterChange, Event},
    profile::Profile,
};
use crate::scheduler::{DEFAULT_SCHEDULER, pod_info::PodInfo};

/// At least one profile. Cheap to clone.
#[derive(Clone)]
pub struct Profiles {
    by_name: Arc<BTreeMap<Arc<str>, Arc<Profile>>>,
}

impl Profiles {
    pub fn new(profiles: impl IntoIterator<Item = Profile>) -> Self {
        let by_name = profiles.into_iter().map(|profile| (profile.name.clone(), Arc::new(profile)));
        Profiles { by_name: Arc::new(by_name.collect()) }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Profile>> {
        self.by_name.values()
    }

    /// The profile that schedules a pod; `None` if that is somebody else's work.
    pub fn of(&self, pod: &Pod) -> Option<&Arc<Profile>> {
        let name = pod.spec.as_ref().and_then(|spec| spec.scheduler_name.as_deref()).unwrap_or(DEFAULT_SCHEDULER);
        self.by_name.get(name)
    }

    /// The plugins that look at such changes.
    pub fn looking_at(&self, event: Event) -> BTreeSet<&'static str> {
        let plugins = self.iter().flat_map(|profile| profile.plugins());
        plugins.filter(|plugin| plugin.events().contains(&event)).map(|plugin| plugin.name()).collect()
    }

    /// Whether `change` may let a pod pass that these plugins of its profile rejected. Whether every pod is helped, or none, each profile
    /// that has the plugins knows.
    pub fn may_help(&self, rejected_by: &[&'static str], change: &ClusterChange, pod: impl Fn() -> Option<PodInfo>) -> bool {
        let mut interested = self.iter().filter(|profile| profile.interested(rejected_by, change).next().is_some());
        let (Some(first), second) = (interested.next(), interested.next()) else { return false };
        if second.is_none() {
            return first.may_help(rejected_by, change, pod);
        }
        let pod = pod();
        let own = pod.as_ref().and_then(|pod| self.of(&pod.pod)).unwrap_or(first);
        own.may_help(rejected_by, change, || pod.clone())
    }
}

impl From<Profile> for Profiles {
    fn from(profile: Profile) -> Self {
        Profiles::new([profile])
    }
}
