//! DaemonSet: keeps one pod on each node that fits.
//!
//! In: sets, their pods and revisions, and nodes. Out: pods pinned to nodes by affinity (the scheduler binds them),
//! a ControllerRevision for each template, the status. A node wakes a set only when what it is to that set changed.

mod apply;
pub mod backoff;
pub mod eligibility;
pub mod history;
pub mod model;
pub mod placement;
pub mod plan;
pub mod rolling;
pub mod status;
pub mod template;

#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet},
    core::v1::{Node, Pod},
};
use parking_lot::Mutex;
use troupe_api::{
    meta::{LabelSelector, ObjectKey},
    stored::KubeObject,
};

use self::{
    apply::Applier,
    backoff::Backoff,
    eligibility::{Judge, Place},
    model::{Action, Why},
    plan::{Plan, Snapshot},
};
use super::{by_controller, by_selector, owners::orphaned, pod_digest::PodDigest};
use crate::runtime::{
    cache::{Cache, Caches, Change, Digests},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

/// See the module.
pub struct DaemonSetController {
    sets: Cache<DaemonSet>,
    nodes: Cache<Node>,
    places: Digests<Node, Place>,
    pods: Cache<Pod>,
    digests: Digests<Pod, PodDigest>,
    revisions: Cache<ControllerRevision>,
    compares_tolerations: bool,
    /// By UID. Losing it only makes failed pods come back sooner.
    backoffs: Mutex<HashMap<String, Backoff>>,
}

impl DaemonSetController {
    pub fn new(caches: &Caches) -> Self {
        let (nodes, pods) = (caches.cache::<Node>(), by_controller::index(caches.cache::<Pod>()));
        DaemonSetController {
            sets: by_selector::index(caches.cache(), |set| Some(selector_of(set))),
            places: nodes.digests(),
            nodes,
            digests: pods.digests(),
            pods,
            revisions: by_controller::index(caches.cache()),
            compares_tolerations: false,
            backoffs: Mutex::default(),
        }
    }

    /// The same where tolerations compare numbers, or not.
    #[must_use]
    pub fn comparing_tolerations(self, compares: bool) -> Self {
        DaemonSetController { compares_tolerations: compares, ..self }
    }

    fn backoff_of(&self, set: &DaemonSet) -> Backoff {
        let observed = set.status.as_ref().and_then(|status| status.observed_generation);
        let mut backoffs = self.backoffs.lock();
        backoffs.get_mut(uid_of(set)).map(|backoff| backoff.of_generation(observed).clone()).unwrap_or_default()
    }

    fn note_replacements(&self, set: &DaemonSet, plan: &Plan, cx: &ReconcileContext) {
        let observed = set.status.as_ref().and_then(|status| status.observed_generation);
        for action in &plan.actions {
            if let Action::DeletePod { why: Why::Failed { node }, .. } = action {
                let mut backoffs = self.backoffs.lock();
                backoffs.entry(uid_of(set).to_owned()).or_default().of_generation(observed).replaced(node, cx.now());
            }
        }
    }

    /// Backoffs of sets that are gone go too.
    fn forget_gone(&self) {
        let mut backoffs = self.backoffs.lock();
        if !backoffs.is_empty() {
            let sets = self.sets.uids();
            backoffs.retain(|uid, _| sets.contains(uid.as_str()));
        }
    }
}

impl Controller for DaemonSetController {
    const NAME: &'static str = "daemonset";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<DaemonSet>();
        watches.owned::<Pod>("DaemonSet");
        // One that appears wakes nobody, as upstream: whoever makes one beside ours finds it there until something else changes.
        watches.owned_when::<ControllerRevision>("DaemonSet", |change| change.meta_before().is_some());
        let sets = self.sets.clone();
        watches.map::<Pod>(move |change| adopters(&sets, change));
        let sets = self.sets.clone();
        watches.map::<ControllerRevision>(move |change| adopters(&sets, change));
        let (sets, compares) = (self.sets.clone(), self.compares_tolerations);
        watches.map::<Node>(move |change| {
            if !is_another_place(change) {
                return Vec::new();
            }
            let concerned = sets.list("").into_iter().filter(|set| concerns(set, change, compares));
            concerned
                .map(|set| ObjectKey::new(set.metadata.namespace.clone().unwrap_or_default(), set.metadata.name.clone().unwrap_or_default()))
                .collect()
        });
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(set) = self.sets.get(key).map(|cached| cached.object) else {
            self.forget_gone();
            return Ok(Outcome::Done);
        };
        let places = self.places.read(&self.nodes.select_stored("", |_| true)).await;
        let nodes: Vec<Arc<Node>> = places.iter().map(|place| place.node.clone()).collect();
        let selector = selector_of(&set);
        let pods = self.digests.read(&by_controller::related_stored(&self.pods, &set.metadata, &selector)).await;
        let revisions = by_controller::related(&self.revisions, &set.metadata, &selector);
        let backoff = self.backoff_of(&set);
        let compares_tolerations = self.compares_tolerations;
        let snapshot = Snapshot { set: &set, nodes: &nodes, pods: &pods, revisions: &revisions, backoff: &backoff, compares_tolerations };
        let planned = plan::plan(&snapshot, cx.now());
        self.note_replacements(&set, &planned, cx);
        let applier = Applier { set: &set, sets: &self.sets, pods: &self.pods, revisions: &self.revisions, cx };
        applier.apply(planned.actions).await?;
        Ok(Outcome::of_look(pods.len(), planned.again_after))
    }
}

fn uid_of(set: &DaemonSet) -> &str {
    set.metadata.uid.as_deref().unwrap_or_default()
}

fn selector_of(set: &DaemonSet) -> LabelSelector {
    LabelSelector::from(set.spec.as_ref().map(|spec| &spec.selector))
}

/// Sets that may adopt an object without controller.
fn adopters<K: KubeObject>(sets: &Cache<DaemonSet>, change: &Change<K>) -> Vec<ObjectKey> {
    let Some(orphan) = orphaned(change) else { return Vec::new() };
    by_selector::selecting(sets, &change.key.namespace, std::iter::once(&orphan.labels))
}

/// Whether a change of a node may mean something to any set; heartbeats never do.
fn is_another_place(change: &Change<Node>) -> bool {
    let (Some(old), Some(new)) = (change.before(), change.after()) else { return true };
    let taints = |node: &Node| node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    old.metadata.labels != new.metadata.labels || taints(old) != taints(new)
}

/// Whether the change of a node means something to the set: the node is gone, or is now something else to it.
fn concerns(set: &DaemonSet, change: &Change<Node>, compares: bool) -> bool {
    let (Some(old), Some(new)) = (change.before(), change.after()) else { return true };
    let judge = Judge::new(set, compares);
    judge.judge(old) != judge.judge(new)
}
