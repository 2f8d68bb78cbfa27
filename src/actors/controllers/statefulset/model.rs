//! What a plan for a StatefulSet is made of: its actions, and the set with its pods in order.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus},
        core::v1::{PersistentVolumeClaim, PodTemplateSpec},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};

use super::{identity::Ordinal, member::MemberDigest};
use crate::controllers::{owners::Named, pace};

/// One step. Steps are applied in order. What a step makes is as large as the set's templates, and there are many steps: a step says what it
/// makes, and makes it when its turn comes.
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
    /// Makes the claim of an ordinal from the template of this place among the set's.
    CreateClaim {
        template: usize,
        ordinal: Ordinal,
    },
    /// Gives a claim other owners; `conflict`: somebody else controls it.
    UpdateClaim {
        claim: Arc<PersistentVolumeClaim>,
        owners: Vec<OwnerReference>,
        conflict: bool,
    },
    /// Makes the pod of an ordinal.
    CreatePod {
        template: Arc<Template>,
        ordinal: Ordinal,
    },
    /// Makes a pod what its ordinal wants it to be.
    UpdatePod {
        pod: String,
        uid: String,
        ordinal: Ordinal,
    },
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
    pub range: Range<Ordinal>,
    /// The pods of these ordinals that there are.
    pub there: BTreeMap<Ordinal, &'a MemberDigest>,
    /// Pods of ordinals that the set does not have (any more), highest first.
    pub condemned: Vec<(Ordinal, &'a MemberDigest)>,
    pub min_ready: i32,
    /// One step at a time, each when the last one is done (`OrderedReady`).
    pub in_order: bool,
    /// No more pods than this are made now.
    pub room: usize,
    pub now: Timestamp,
}

impl<'a> View<'a> {
    /// Not available, or about to go.
    pub fn is_unavailable(&self, pod: &MemberDigest) -> bool {
        pod.standing.is_deleted || !pod.is_available(self.min_ready, self.now)
    }

    /// How many ordinals have no pod.
    pub fn missing_count(&self) -> usize {
        self.size().saturating_sub(self.there.len())
    }

    /// How many ordinals the set has.
    pub fn size(&self) -> usize {
        usize::try_from(self.range.end - self.range.start).unwrap_or(0)
    }

    /// The ordinals to look after now, lowest first: all that have a pod, and the lowest of those that lack one.
    pub fn due(&self) -> BTreeMap<Ordinal, Option<&'a MemberDigest>> {
        let missing = self.range.clone().filter(|ordinal| !self.there.contains_key(ordinal)).take(self.room);
        let there = self.there.iter().map(|(ordinal, pod)| (*ordinal, Some(*pod)));
        there.chain(missing.map(|ordinal| (ordinal, None))).collect()
    }
}

/// No more steps than these are planned in one go: each of them writes an object, and a set's pods times their claims are as many as its
/// author likes. The next plan goes on from what was done.
pub fn is_full(actions: &[Action]) -> bool {
    actions.len() >= pace::BURST
}

/// Deletes a pod.
pub fn delete(pod: &MemberDigest) -> Action {
    let Named { name, uid } = Named::by_meta(&pod.meta);
    Action::DeletePod { pod: name, uid }
}

/// Claims by name.
pub type Claims = BTreeMap<String, Arc<PersistentVolumeClaim>>;

/// A revision's name and what it records.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    pub revision: String,
    pub template: PodTemplateSpec,
}

/// Where an update begins and ends. They are the same unless one is under way.
pub struct History {
    pub current: Arc<Template>,
    pub update: Arc<Template>,
    /// All there are, oldest first.
    pub(super) revisions: Vec<Arc<ControllerRevision>>,
}
