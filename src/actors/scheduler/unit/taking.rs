//! Taking changes in: what they mean to the queue and the snapshot.

use std::{
    cmp::Reverse,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use k8s_openapi::api::core::v1::Pod;
use troupe_api::meta::ObjectKey;

use super::{NAME, SchedulerUnit};
use crate::{
    runtime::{cache::Cache, host::UnitContext, panics::panic_text, system::System, turn::Turn},
    scheduler::{
        framework::{ClusterChange, Profiles},
        gangs::group_of,
        intake::{News, Nominated, is_same_to_plugins},
        object_lookup::CachedObjects,
        placed_pod::{PlacedPod, place_of},
        pod_info::PodInfo,
        queue::HintContext,
    },
};

/// Bytes of a pod's JSON. Ordinary ones have a few thousand.
const LARGE: usize = 32 << 10;

impl SchedulerUnit {
    /// Takes changes in until the turn is over; `true` when none is left.
    pub(super) fn take_in(&mut self, cx: &UnitContext<'_, Self>) -> bool {
        let now = cx.system().instant();
        self.unread.extend(self.intake.take());
        let mut turn = Turn::default();
        while let Some(news) = self.unread.pop_front() {
            let subject = news.subject();
            // What one object is counted for may then be wrong; the others must be scheduled all the same.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.take(news, now, cx.system()))) {
                tracing::error!(subject, panic = panic_text(panic.as_ref()), "taking a change in panicked");
            }
            if turn.count() {
                break;
            }
        }
        self.unread.is_empty()
    }

    fn take(&mut self, news: News, now: Instant, system: &System) {
        match news {
            News::Pending { key, priority, may_wait, group, nominated, cause, only_status, update } => {
                self.nominate(&key, nominated);
                // Such as the condition that this very unit wrote: it makes no other decision.
                let is_known = only_status && self.pending.contains_key(&key);
                // The watch may still show a pod without the node that it was just given.
                if is_known || self.assumed.contains_key(&key) {
                    return;
                }
                let released = self.is_released(&key);
                self.pending.insert(key.clone(), cause);
                let completed = group.as_ref().filter(|group| self.note_member(&key, group, false));
                let gate = if may_wait { self.gate_of(&key) } else { None };
                if let Some((profile, plugin)) = gate {
                    self.rejections.set(key.clone(), profile, vec![plugin]);
                    self.queue.gate(key, priority, Some(plugin), now);
                } else {
                    match update {
                        Some(change) => self.pod_updated(&key, priority, change, now),
                        None => self.queue.upsert(key.clone(), priority, now),
                    }
                    if released {
                        self.queue.release(&key);
                        system.work().forget(NAME, &key);
                    }
                }
                if let Some(group) = completed {
                    self.group_changed(group, now);
                }
            }
            News::Assigned { key } => self.take_assigned(&key, now),
            News::Gone { key } => {
                let nominated = self.snapshot.nominations().pod(&key).cloned();
                self.forget(&key);
                if let Some(known) = &self.gangs {
                    known.gangs.forget(&key);
                }
                // What was kept free for a pod is as good as what it had.
                if let Some(pod) = self.snapshot.remove_pod(&key).or(nominated) {
                    self.cluster_changed(ClusterChange::PodRemoved(pod), now);
                }
                self.victim_is_gone(&key, now);
            }
            News::Node { node } => {
                let name = node.metadata.name.as_deref().unwrap_or_default();
                let before = self.snapshot.node(name).map(|known| known.node.clone());
                self.snapshot.set_node(node.clone());
                match before {
                    None => self.cluster_changed(ClusterChange::NodeAdded(node), now),
                    Some(old) if is_same_to_plugins(&old, &node) => {}
                    Some(old) => self.cluster_changed(ClusterChange::NodeUpdated { old, new: node }, now),
                }
            }
            News::NodeGone { name } => {
                if let Some(node) = self.snapshot.remove_node(&name) {
                    self.cluster_changed(ClusterChange::NodeRemoved(node), now);
                }
            }
            News::Group { key, least } => {
                if let Some(known) = &self.gangs {
                    known.gangs.set_group(key.clone(), least);
                }
                self.group_changed(&key, now);
            }
            News::Storage => self.cluster_changed(ClusterChange::StorageChanged, now),
            News::Claim { old, new } => self.cluster_changed(ClusterChange::ClaimChanged { old, new }, now),
            News::Devices => self.cluster_changed(ClusterChange::DevicesChanged, now),
            News::Class { old, new } => self.cluster_changed(ClusterChange::ClassChanged { old, new }, now),
        }
    }

    fn take_assigned(&mut self, key: &ObjectKey, now: Instant) {
        let was_assumed = self.assumed.contains_key(key);
        self.forget(key);
        // One that is gone or finished by now is news that comes.
        let Some(cached) = self.pods.get(key) else { return };
        let pod = cached.object;
        let Some(node) = place_of(&pod) else { return };
        if let Some(group) = group_of(&pod)
            && self.note_member(key, &group, true)
        {
            self.group_changed(&group, now);
        }
        let mut placed = PlacedPod::of(&pod);
        // The cache has the same texts.
        placed.demand.key = key.clone();
        placed.uid = cached.stored.meta().uid.clone();
        let before = self.snapshot.set_placed(node, placed).filter(|_| !was_assumed);
        let Some(new) = self.snapshot.pod(key).cloned() else { return };
        match before {
            None => self.cluster_changed(ClusterChange::PodAdded(new), now),
            Some(old) if old.labels != new.labels || old.demand.requests != new.demand.requests => {
                self.cluster_changed(ClusterChange::PodUpdated { old, new }, now);
            }
            Some(_) => {}
        }
    }

    /// Notes for which node a pod waits. What the API does not show yet was noted when it was decided.
    fn nominate(&mut self, key: &ObjectKey, nominated: Nominated) {
        match nominated {
            Nominated::Same => {}
            Nominated::Cleared => self.snapshot.nominations_mut().remove(key),
            Nominated::Set(node) => {
                if let Some(pod) = self.pods.get(key).filter(|_| !self.assumed.contains_key(key)) {
                    self.snapshot.nominations_mut().set(Arc::new(PlacedPod::of(&pod.object)), &node);
                }
            }
        }
    }

    pub(super) fn cluster_changed(&mut self, change: ClusterChange, now: Instant) {
        let (pods, around, profiles) = (&self.pods, &self.around, &self.profiles);
        let whole = |key: &ObjectKey| pod_info(pods, around, profiles, key);
        let pod = |key: &ObjectKey| if is_large(pods, key) { None } else { whole(key) };
        self.queue.cluster_changed(change, &HintContext { profiles, pod: &pod, whole: &whole }, now);
    }

    /// A pod that waits is another one.
    fn pod_updated(&mut self, key: &ObjectKey, priority: i32, change: ClusterChange, now: Instant) {
        let (pods, around, profiles) = (&self.pods, &self.around, &self.profiles);
        let whole = |key: &ObjectKey| pod_info(pods, around, profiles, key);
        self.queue.updated(key, priority, change, &HintContext { profiles, pod: &whole, whole: &whole }, now);
    }

    /// Notes a pod of a group, with a node or without. Whether with it there are just enough of them.
    fn note_member(&self, key: &ObjectKey, group: &ObjectKey, placed: bool) -> bool {
        self.gangs.as_ref().is_some_and(|known| known.gangs.note(key, group, placed))
    }

    /// The plugin that does not let a pod be looked at, with the name of its profile.
    fn gate_of(&self, key: &ObjectKey) -> Option<(Arc<str>, &'static str)> {
        let pod = self.pods.get(key)?.object;
        let profile = self.profiles.of(&pod)?;
        Some((profile.name.clone(), profile.gate_of(&pod)?))
    }

    /// There are enough pods of a group, or its PodGroup is another one: those that waited for that are looked at.
    fn group_changed(&mut self, group: &ObjectKey, now: Instant) {
        let Some(known) = &self.gangs else { return };
        if known.gangs.admit(group).is_err() {
            return;
        }
        for key in known.gangs.members(group, false) {
            let priority = self.queue.rank(&key).map(|(Reverse(priority), _)| priority);
            if let Some(priority) = priority.filter(|_| self.gate_of(&key).is_none()) {
                self.queue.upsert(key, priority, now);
            }
        }
    }

    /// Whether a pod that was set aside has changed since.
    fn is_released(&mut self, key: &ObjectKey) -> bool {
        self.quarantine.holds(key) && self.pods.get(key).is_some_and(|cached| self.quarantine.is_released_by(key, &cached.object))
    }

    fn forget(&mut self, key: &ObjectKey) {
        self.pending.remove(key);
        self.rejections.remove(key);
        self.searching.remove(key);
        self.waiting.forget(key);
        self.release(key);
        self.queue.remove(key);
        self.quarantine.forget(key);
        self.snapshot.nominations_mut().remove(key);
    }
}

/// Whether a pod is so large that each change would cost much if it were read to find out whether that helps.
pub(super) fn is_large(pods: &Cache<Pod>, key: &ObjectKey) -> bool {
    pods.stored(key).is_some_and(|stored| stored.encoded_length() > LARGE)
}

/// A pod as it is now. One on which this panics is as if it were not known: it is tried, and set aside if that panics, too.
pub(super) fn pod_info(pods: &Cache<Pod>, around: &CachedObjects, profiles: &Profiles, key: &ObjectKey) -> Option<PodInfo> {
    let pod = pods.get(key)?.object;
    let profile = profiles.of(&pod)?.clone();
    catch_unwind(AssertUnwindSafe(|| profile.info(pod, around))).ok()
}
