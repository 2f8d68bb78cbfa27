//! StatefulSet: keeps pods with names, volumes and an order of their own.
//!
//! In: sets, their pods, claims and revisions. Out: pods by ordinal, the claims they mount, a ControllerRevision for each
//! template, the status.

mod apply;
pub mod claims;
pub mod history;
pub mod identity;
mod member;
pub mod model;
pub mod plan;
pub mod replicas;
pub mod rolling;
pub mod status;

#[cfg(test)]
mod tests;

use k8s_openapi::api::{
    apps::v1::{ControllerRevision, StatefulSet},
    core::v1::{PersistentVolumeClaim, Pod},
};
use troupe_api::meta::{LabelSelector, ObjectKey};

use self::{
    apply::Applier,
    claims::{Names, is_claim_of},
    identity::ordinal_in,
    member::MemberDigest,
    plan::Snapshot,
};
use super::{by_controller, by_selector, owners::orphaned, pace};
use crate::runtime::{
    cache::{Cache, Caches, Digests},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

/// See the module.
pub struct StatefulSetController {
    sets: Cache<StatefulSet>,
    pods: Cache<Pod>,
    digests: Digests<Pod, MemberDigest>,
    claims: Cache<PersistentVolumeClaim>,
    revisions: Cache<ControllerRevision>,
}

impl StatefulSetController {
    pub fn new(caches: &Caches) -> Self {
        let (pods, revisions) = (by_controller::index(caches.cache::<Pod>()), by_controller::index(caches.cache()));
        let sets = by_selector::index(caches.cache(), |set| Some(selector_of(set)));
        StatefulSetController { sets, digests: pods.digests(), pods, claims: caches.cache(), revisions }
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
            let Some(orphan) = orphaned(change) else { return Vec::new() };
            let mut selecting = by_selector::selecting(&sets, &change.key.namespace, std::iter::once(&orphan.labels));
            selecting.retain(|set| ordinal_in(&set.name, &change.key.name).is_some());
            selecting
        });
        let sets = self.sets.clone();
        // A claim that is gone lets its pod, or the next claim of that name, be made.
        watches.map::<PersistentVolumeClaim>(move |change| owners_of_claim(&sets, &change.key));
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(set) = self.sets.get(key).map(|cached| cached.object) else { return Ok(Outcome::Done) };
        let selector = selector_of(&set);
        let pods = self.digests.read(&by_controller::related_stored(&self.pods, &set.metadata, &selector)).await;
        let revisions = by_controller::related(&self.revisions, &set.metadata, &selector);
        let names = Names::of(&set);
        let claims = self.claims.select(&key.namespace, |meta| names.is_claim(&meta.name)).into_iter();
        let claims = claims.filter_map(|claim| Some((claim.metadata.name.clone()?, claim))).collect();
        let snapshot = Snapshot { set: &set, pods: &pods, claims: &claims, revisions: &revisions };
        let planned = plan::plan(&snapshot, cx.now());
        let applier = Applier { set: &set, sets: &self.sets, pods: &self.pods, claims: &self.claims, revisions: &self.revisions, cx };
        applier.apply(planned.actions).await?;
        if planned.held_back {
            cx.tell(&*set, true, pace::HELD_BACK, pace::held_back_message());
        }
        Ok(Outcome::of_look(pods.len(), planned.again_after))
    }
}

/// The sets that have such a claim.
fn owners_of_claim(sets: &Cache<StatefulSet>, claim: &ObjectKey) -> Vec<ObjectKey> {
    let owners = sets.select(&claim.namespace, |set| claim.name.contains(&format!("-{}-", set.name)));
    let owners = owners.into_iter().filter(|set| is_claim_of(set, &claim.name));
    owners.map(|set| ObjectKey::new(claim.namespace.clone(), set.metadata.name.clone().unwrap_or_default())).collect()
}

fn selector_of(set: &StatefulSet) -> LabelSelector {
    LabelSelector::from(set.spec.as_ref().map(|spec| &spec.selector))
}
