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
use super::{by_controller, owners::controller_of};
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
        let (pods, revisions) = (by_controller::index(caches.cache()), by_controller::index(caches.cache()));
        StatefulSetController { sets: caches.cache(), pods, claims: caches.cache(), revisions }
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
        let selector = selector_of(&set);
        let pods = by_controller::related(&self.pods, &set.metadata, &selector);
        let revisions = by_controller::related(&self.revisions, &set.metadata, &selector);
        let claims = self.claims.select(&key.namespace, |meta| is_claim_of(&set, &meta.name)).into_iter();
        let claims = claims.filter_map(|claim| Some((claim.metadata.name.clone()?, claim))).collect();
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
    selector_of(set).matches(meta.labels.as_ref().unwrap_or(&Default::default()))
}

fn selector_of(set: &StatefulSet) -> LabelSelector {
    set.spec.as_ref().map_or_else(LabelSelector::nothing, |spec| LabelSelector::from(&spec.selector))
}
