//! Deployment: keeps a ReplicaSet per pod template and moves pods from the old ones to the new one.

mod apply;
pub mod history;
pub mod model;
pub mod plan;
pub mod rolling;
pub mod status;
pub mod template;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::Pod,
};
use troupe_api::meta::{LabelSelector, ObjectKey};

use self::{plan::Snapshot, template::same_template};
use super::{
    by_controller, by_selector,
    owners::{controller_of, orphaned},
    pod_digest::PodDigest,
};
use crate::runtime::{
    cache::{Cache, Caches, Digests},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

/// See the module.
pub struct DeploymentController {
    deployments: Cache<Deployment>,
    sets: Cache<ReplicaSet>,
    pods: Cache<Pod>,
    digests: Digests<Pod, PodDigest>,
}

impl DeploymentController {
    pub fn new(caches: &Caches) -> Self {
        let (sets, pods) = (by_controller::index(caches.cache()), by_controller::index(caches.cache::<Pod>()));
        let deployments = by_selector::index(caches.cache(), |deployment| Some(selector_of(deployment)));
        DeploymentController { deployments, sets, digests: pods.digests(), pods }
    }

    /// Recreate waits until no pod of another template is left.
    fn old_pods_exist(&self, deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> bool {
        let Some(spec) = &deployment.spec else { return false };
        if spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) != Some("Recreate") {
            return false;
        }
        let owned = sets.iter().filter(|set| controller_of(&set.metadata).map(|owner| &owner.uid) == deployment.metadata.uid.as_ref());
        let is_old = |set: &&Arc<ReplicaSet>| !set.spec.as_ref().and_then(|s| s.template.as_ref()).is_some_and(|t| same_template(t, &spec.template));
        let mut pods = owned.filter(is_old).flat_map(|set| by_controller::owned_stored(&self.pods, &set.metadata));
        pods.any(|pod| self.digests.of(&pod).is_some_and(|pod| !pod.standing.is_finished()))
    }
}

impl Controller for DeploymentController {
    const NAME: &'static str = "deployment";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<Deployment>();
        watches.owned::<ReplicaSet>("Deployment");
        let deployments = self.deployments.clone();
        // A set without controller may be adopted by any Deployment that selects it.
        watches.map::<ReplicaSet>(move |change| {
            let Some(set) = orphaned(change) else { return Vec::new() };
            by_selector::selecting(&deployments, &change.key.namespace, std::iter::once(&set.labels))
        });
        let sets = self.sets.clone();
        // The last old pod gone lets a Recreate go on.
        watches.map::<Pod>(move |change| {
            let Some(gone) = change.meta_before().filter(|_| change.is_removal()) else { return Vec::new() };
            let Some(owner) = gone.controller().filter(|owner| &*owner.kind == "ReplicaSet") else { return Vec::new() };
            let set = sets.stored(&ObjectKey::new(change.key.namespace.clone(), owner.name.clone()));
            let deployment = set.and_then(|set| set.meta().controller().map(|owner| owner.name.clone()));
            deployment.map(|name| ObjectKey::new(change.key.namespace.clone(), name)).into_iter().collect()
        });
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(deployment) = self.deployments.get(key) else { return Ok(Outcome::Done) };
        let deployment = deployment.object;
        let selector = selector_of(&deployment);
        let sets = by_controller::related(&self.sets, &deployment.metadata, &selector);
        let old_pods_exist = self.old_pods_exist(&deployment, &sets);
        let planned = plan::plan(Snapshot { deployment: &deployment, sets: &sets, old_pods_exist }, cx.now());
        apply::apply(&deployment, planned.actions, &self.deployments, &self.sets, cx).await?;
        Ok(planned.again_after.map_or(Outcome::Done, Outcome::RequeueAfter))
    }
}

fn selector_of(deployment: &Deployment) -> LabelSelector {
    LabelSelector::from(deployment.spec.as_ref().map(|spec| &spec.selector))
}
