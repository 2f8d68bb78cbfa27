//! ReplicaSet: keeps as many pods as it says.
//!
//! The shell serves every [`Replicated`] kind: ReplicationControllers are planned as the ReplicaSets they amount to.

mod apply;
pub mod plan;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSet, ReplicaSetStatus},
        core::v1::{Pod, PodTemplateSpec},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use troupe_api::{
    meta::{LabelSelector, ObjectKey},
    stored::KubeObject,
};

use self::plan::Plan;
use super::{
    by_controller, by_selector,
    owners::{controller_of, orphaned},
    pace,
    pod_digest::PodDigest,
};
use crate::runtime::{
    cache::{Cache, Caches, Digests},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

/// A kind that keeps a number of pods made from one template.
pub trait Replicated: KubeObject {
    /// The controller's place in the tree.
    const CONTROLLER: &'static str;
    /// See [`Controller::EVENT_SOURCE`].
    const EVENT_SOURCE: Option<&'static str> = None;

    fn selector(&self) -> Option<LabelSelector>;

    fn template(&self) -> PodTemplateSpec;

    /// How many pods it wants.
    fn wanted(&self) -> usize;

    /// Plans for the object; see [`plan::plan`].
    fn plan(&self, pods: &[Arc<PodDigest>], related: &[Arc<PodDigest>], failure: Option<&str>, now: Timestamp) -> Plan;

    /// The object with this status.
    fn with_status(&self, status: ReplicaSetStatus) -> Self;
}

impl Replicated for ReplicaSet {
    const CONTROLLER: &'static str = "replicaset";

    fn selector(&self) -> Option<LabelSelector> {
        self.spec.as_ref().map(|spec| LabelSelector::from(&spec.selector))
    }

    fn template(&self) -> PodTemplateSpec {
        self.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default()
    }

    fn wanted(&self) -> usize {
        self.spec.as_ref().map_or(0, |spec| usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0))
    }

    fn plan(&self, pods: &[Arc<PodDigest>], related: &[Arc<PodDigest>], failure: Option<&str>, now: Timestamp) -> Plan {
        plan::plan(self, pods, related, failure, now)
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        ReplicaSet { status: Some(status), ..self.clone() }
    }
}

/// See the module.
pub type ReplicaSetController = ReplicasController<ReplicaSet>;

/// Keeps the pods of all objects of one kind.
pub struct ReplicasController<K: Replicated> {
    owners: Cache<K>,
    pods: Cache<Pod>,
    digests: Digests<Pod, PodDigest>,
}

impl<K: Replicated> ReplicasController<K> {
    pub fn new(caches: &Caches) -> Self {
        let pods = by_controller::index(caches.cache::<Pod>());
        let owners = by_controller::index(by_selector::index(caches.cache(), K::selector));
        ReplicasController { owners, digests: pods.digests(), pods }
    }

    /// The pods of all owners that have the same controller as this one, as those of all revisions of a Deployment: they crowd nodes together.
    /// An owner without controller is related to nothing.
    async fn related(&self, owner: &K) -> Vec<Arc<PodDigest>> {
        let Some(controller) = controller_of(owner.metadata()) else { return Vec::new() };
        let of = |uid: &str| ObjectMeta { uid: Some(uid.to_owned()), ..ObjectMeta::default() };
        let siblings = by_controller::owned_stored(&self.owners, &of(&controller.uid));
        let pods: Vec<_> = siblings.iter().flat_map(|sibling| by_controller::owned_stored(&self.pods, &of(&sibling.meta().uid))).collect();
        self.digests.read(&pods).await
    }
}

impl<K: Replicated> Controller for ReplicasController<K> {
    const NAME: &'static str = K::CONTROLLER;
    const EVENT_SOURCE: Option<&'static str> = K::EVENT_SOURCE;

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<K>();
        watches.owned::<Pod>(K::KIND);
        let owners = self.owners.clone();
        // A pod without controller may be adopted by any object that selects it.
        watches.map::<Pod>(move |change| {
            let Some(pod) = orphaned(change) else { return Vec::new() };
            by_selector::selecting(&owners, &change.key.namespace, std::iter::once(&pod.labels))
        });
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(owner) = self.owners.get(key) else { return Ok(Outcome::Done) };
        let owner = owner.object;
        let pods = owner.selector().map(|selector| by_controller::related_stored(&self.pods, owner.metadata(), &selector)).unwrap_or_default();
        let pods = self.digests.read(&pods).await;
        // They matter where pods go.
        let related = if pods.len() > owner.wanted() { self.related(&owner).await } else { Vec::new() };
        let planned = owner.plan(&pods, &related, None, cx.now());
        let failure = apply::apply(&*owner, &planned.actions, &self.owners, &self.pods, cx).await?;
        if let Some(status) = failure {
            // What went wrong belongs in the status before the next attempt.
            let again = owner.plan(&pods, &related, Some(&status.message), cx.now());
            apply::write_status(&*owner, &again.actions, &self.owners, cx).await?;
            return Err(status.into());
        }
        if planned.held_back {
            cx.tell(&*owner, true, pace::HELD_BACK, pace::held_back_message());
        }
        Ok(Outcome::of_look(pods.len(), planned.again_after))
    }
}
