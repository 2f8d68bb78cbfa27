//! ReplicaSet: keeps as many pods as it says.

mod apply;
pub mod plan;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::api::{apps::v1::ReplicaSet, core::v1::Pod};
use troupe_api::meta::{LabelSelector, ObjectKey};

use super::owners::controller_of;
use crate::runtime::{
    cache::{Cache, Caches},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

/// See the module.
pub struct ReplicaSetController {
    sets: Cache<ReplicaSet>,
    pods: Cache<Pod>,
}

impl ReplicaSetController {
    pub fn new(caches: &Caches) -> Self {
        ReplicaSetController { sets: caches.cache(), pods: caches.cache() }
    }
}

impl Controller for ReplicaSetController {
    const NAME: &'static str = "replicaset";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<ReplicaSet>();
        watches.owned::<Pod>("ReplicaSet");
        let sets = self.sets.clone();
        // A pod without controller may be adopted by any set that selects it.
        watches.map::<Pod>(move |change| {
            let Some(pod) = change.new.as_ref().filter(|pod| controller_of(&pod.metadata).is_none()) else { return Vec::new() };
            let labels = pod.metadata.labels.clone().unwrap_or_default();
            let selecting =
                sets.list(&change.key.namespace).into_iter().filter(|set| selector_of(set).is_some_and(|selector| selector.matches(&labels)));
            selecting.map(|set| ObjectKey::new(change.key.namespace.clone(), set.metadata.name.clone().unwrap_or_default())).collect()
        });
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(set) = self.sets.get(key) else { return Ok(Outcome::Done) };
        let set = set.object;
        let pods = related_pods(&set, &self.pods.list(&key.namespace));
        let planned = plan::plan(&set, &pods, None, cx.now());
        let failure = apply::apply(&set, &planned.actions, &self.sets, &self.pods, cx).await?;
        if let Some(message) = failure {
            // What went wrong belongs in the status before the next attempt.
            let again = plan::plan(&set, &pods, Some(&message), cx.now());
            apply::write_status(&set, &again.actions, &self.sets, cx).await?;
            return Err(ReconcileError::Other(message));
        }
        Ok(planned.again_after.map_or(Outcome::Done, Outcome::RequeueAfter))
    }
}

fn selector_of(set: &ReplicaSet) -> Option<LabelSelector> {
    set.spec.as_ref().map(|spec| LabelSelector::from(&spec.selector))
}

/// Pods that the set controls or could: its own, and matching ones.
fn related_pods(set: &ReplicaSet, pods: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
    let Some(selector) = selector_of(set) else { return Vec::new() };
    let empty = Default::default();
    let related = pods.iter().filter(|pod| {
        let owned = controller_of(&pod.metadata).is_some_and(|owner| Some(&owner.uid) == set.metadata.uid.as_ref());
        owned || selector.matches(pod.metadata.labels.as_ref().unwrap_or(&empty))
    });
    related.cloned().collect()
}
