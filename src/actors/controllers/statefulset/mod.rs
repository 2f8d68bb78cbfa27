//! StatefulSet: keeps pods with names, volumes and an order of their own.
//!
//! In: sets, their pods, claims and revisions. Out: pods by ordinal, the claims they mount, a ControllerRevision for each
//! template, the status.

mod apply;
pub mod claims;
pub mod history;
pub mod identity;
pub mod plan;
pub mod replicas;
pub mod rolling;
pub mod status;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::{
    api::{
        apps::v1::{ControllerRevision, StatefulSet},
        core::v1::{PersistentVolumeClaim, Pod},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use troupe_api::meta::{LabelSelector, ObjectKey};

use self::{apply::Applier, claims::is_claim_of, identity::is_member, plan::Snapshot};
use super::owners::controller_of;
use crate::runtime::{
    cache::{Cache, Caches},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

/// See the module.
pub struct StatefulSetController {
    sets: Cache<StatefulSet>,
    pods: Cache<Pod>,
    claims: Cache<PersistentVolumeClaim>,
    revisions: Cache<ControllerRevision>,
}

impl StatefulSetController {
    pub fn new(caches: &Caches) -> Self {
        StatefulSetController { sets: caches.cache(), pods: caches.cache(), claims: caches.cache(), revisions: caches.cache() }
    }
}

impl Controller for StatefulSetController {
    const NAME: &'static str = "statefulset";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<StatefulSet>();
        watches.owned::<Pod>("StatefulSet");
        watches.owned::<ControllerRevision>("StatefulSet");
        let sets = self.sets.clone();
        watches.map::<Pod>(move |change| {
            let Some(orphan) = change.new.as_ref().filter(|pod| controller_of(&pod.metadata).is_none()) else { return Vec::new() };
            keys(&sets, &change.key.namespace, |set| is_member(set, orphan) && selects(set, &orphan.metadata))
        });
        let sets = self.sets.clone();
        // A claim that is gone lets its pod, or the next claim of that name, be made.
        watches.map::<PersistentVolumeClaim>(move |change| keys(&sets, &change.key.namespace, |set| is_claim_of(set, &change.key.name)));
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(set) = self.sets.get(key).map(|cached| cached.object) else { return Ok(Outcome::Done) };
        let ours = |meta: &ObjectMeta| match controller_of(meta) {
            Some(owner) => Some(&owner.uid) == set.metadata.uid.as_ref(),
            None => selects(&set, meta),
        };
        let pods: Vec<Arc<Pod>> = self.pods.list(&key.namespace).into_iter().filter(|pod| ours(&pod.metadata)).collect();
        let revisions: Vec<_> = self.revisions.list(&key.namespace).into_iter().filter(|revision| ours(&revision.metadata)).collect();
        let claims = self.claims.list(&key.namespace).into_iter().filter_map(|claim| Some((claim.metadata.name.clone()?, claim)));
        let claims = claims.filter(|(name, _)| is_claim_of(&set, name)).collect();
        let snapshot = Snapshot { set: &set, pods: &pods, claims: &claims, revisions: &revisions };
        let planned = plan::plan(&snapshot, cx.now());
        let applier = Applier { set: &set, sets: &self.sets, pods: &self.pods, claims: &self.claims, revisions: &self.revisions, cx };
        applier.apply(planned.actions).await?;
        Ok(planned.again_after.map_or(Outcome::Done, Outcome::RequeueAfter))
    }
}

fn keys(sets: &Cache<StatefulSet>, namespace: &Arc<str>, concerned: impl Fn(&StatefulSet) -> bool) -> Vec<ObjectKey> {
    let concerned = sets.list(namespace).into_iter().filter(|set| concerned(set));
    concerned.map(|set| ObjectKey::new(namespace.clone(), set.metadata.name.clone().unwrap_or_default())).collect()
}

fn selects(set: &StatefulSet, meta: &ObjectMeta) -> bool {
    let empty = Default::default();
    set.spec.as_ref().is_some_and(|spec| LabelSelector::from(&spec.selector).matches(meta.labels.as_ref().unwrap_or(&empty)))
}
