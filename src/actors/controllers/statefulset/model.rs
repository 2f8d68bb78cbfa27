//! What a plan for a StatefulSet is made of: its actions, and the set with its pods in order.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus},
    core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec},
};

use crate::controllers::pods::is_available;

/// One step. Steps are applied in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    AdoptPod {
        pod: String,
        uid: String,
    },
    ReleasePod {
        pod: String,
        uid: String,
    },
    AdoptRevision {
        name: String,
        uid: String,
    },
    CreateRevision(Box<ControllerRevision>),
    UpdateRevision(Box<ControllerRevision>),
    DeleteRevision {
        name: String,
        uid: String,
    },
    /// Makes a claim for a pod.
    CreateClaim {
        claim: Box<PersistentVolumeClaim>,
        pod: String,
    },
    /// Gives a claim other owners; `conflict`: somebody else controls it.
    UpdateClaim {
        claim: Box<PersistentVolumeClaim>,
        conflict: bool,
    },
    CreatePod(Box<Pod>),
    UpdatePod(Box<Pod>),
    DeletePod {
        pod: String,
        uid: String,
    },
    /// A pod cannot be made yet; `announce` tells people.
    Wait {
        pod: String,
        why: String,
        announce: bool,
    },
    UpdateStatus(Box<StatefulSetStatus>),
}

/// The set with its pods in order. Ordinals without a pod are not held: there may be two thousand million of them.
pub struct View<'a> {
    pub set: &'a StatefulSet,
    pub claims: &'a Claims,
    pub history: &'a History,
    /// The ordinals that the set has.
    pub range: Range<i32>,
    /// The pods of these ordinals that there are.
    pub there: BTreeMap<i32, &'a Arc<Pod>>,
    /// Pods of ordinals that the set does not have (any more), highest first.
    pub condemned: Vec<(i32, &'a Arc<Pod>)>,
    pub min_ready: i32,
    /// One step at a time, each when the last one is done (`OrderedReady`).
    pub in_order: bool,
    /// No more pods than this are made now.
    pub room: usize,
    pub now: Timestamp,
}

impl<'a> View<'a> {
    /// Not available, or about to go.
    pub fn is_unavailable(&self, pod: &Pod) -> bool {
        pod.metadata.deletion_timestamp.is_some() || !is_available(pod, self.min_ready, self.now)
    }

    /// How many ordinals have no pod.
    pub fn missing_count(&self) -> usize {
        self.size().saturating_sub(self.there.len())
    }

    /// How many ordinals the set has.
    pub fn size(&self) -> usize {
        self.range.len()
    }

    /// The ordinals to look after now, lowest first: all that have a pod, and the lowest of those that lack one.
    pub fn due(&self) -> BTreeMap<i32, Option<&'a Arc<Pod>>> {
        let missing = self.range.clone().filter(|ordinal| !self.there.contains_key(ordinal)).take(self.room);
        let there = self.there.iter().map(|(ordinal, pod)| (*ordinal, Some(*pod)));
        there.chain(missing.map(|ordinal| (ordinal, None))).collect()
    }
}

/// Deletes a pod.
pub fn delete(pod: &Pod) -> Action {
    Action::DeletePod { pod: pod.metadata.name.clone().unwrap_or_default(), uid: pod.metadata.uid.clone().unwrap_or_default() }
}

/// Claims by name.
pub type Claims = BTreeMap<String, Arc<PersistentVolumeClaim>>;

/// A revision's name and what it records.
#[derive(Clone, Debug)]
pub struct Template {
    pub revision: String,
    pub template: PodTemplateSpec,
}

/// Where an update begins and ends. They are the same unless one is under way.
pub struct History {
    pub current: Template,
    pub update: Template,
    /// All there are, oldest first.
    pub(super) revisions: Vec<Arc<ControllerRevision>>,
}
