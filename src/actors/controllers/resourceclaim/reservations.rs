//! Takes from claims the pods that do not use them any more, then what the claims got, and in the end what keeps them.

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::Pod,
    resource::v1::{ResourceClaim, ResourceClaimConsumerReference},
};
use troupe_api::meta::ObjectKey;

use super::{
    plan::{is_done, is_pod, owned_by},
    pods_by_claim,
};
use crate::{
    controllers::writes::delete_with_uid,
    devices::{FINALIZER, allocation, names_of_claims, reserved_for},
    runtime::{
        cache::{Cache, Caches},
        controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
    },
};

/// See the module. Keys are claims.
pub struct ClaimReservationController {
    pods: Cache<Pod>,
    claims: Cache<ResourceClaim>,
}

impl ClaimReservationController {
    pub fn new(caches: &Caches) -> Self {
        ClaimReservationController { pods: pods_by_claim(caches), claims: caches.cache() }
    }

    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.pods.get(&ObjectKey::new(namespace, name)).map(|cached| cached.object)
    }

    /// Whether a claim's user may still use it. One that the cache does not show may be new: the API knows.
    async fn is_valid(&self, namespace: &str, consumer: &ResourceClaimConsumerReference, cx: &ReconcileContext) -> Result<bool, ReconcileError> {
        if !is_pod(consumer) {
            return Ok(true);
        }
        if let Some(pod) = self.pod(namespace, &consumer.name) {
            return Ok(pod.metadata.uid.as_deref() == Some(&consumer.uid) && !is_done(&pod));
        }
        let live = cx.client().namespaced::<Pod>(namespace).get_opt(&consumer.name).await?;
        Ok(live.is_some_and(|pod| pod.metadata.uid.as_deref() == Some(&consumer.uid)))
    }

    /// Takes away the finalizer of a claim without allocation.
    async fn let_go(&self, claim: &ResourceClaim, cx: &ReconcileContext) -> Result<(), ReconcileError> {
        let finalizers = claim.metadata.finalizers.as_deref().unwrap_or_default();
        if allocation(claim).is_some() || !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            return Ok(());
        }
        let mut claim = claim.clone();
        claim.metadata.finalizers.get_or_insert_default().retain(|finalizer| finalizer != FINALIZER);
        match cx.client().namespaced::<ResourceClaim>(claim.metadata.namespace.clone().unwrap_or_default()).update(&claim).await {
            Ok(written) => cx.wrote(&self.claims, &*written),
            Err(status) if status.is_not_found() => {}
            Err(status) => return Err(status.into()),
        }
        Ok(())
    }
}

impl Controller for ClaimReservationController {
    const NAME: &'static str = "resource-claim-reservations";
    const EVENT_SOURCE: Option<&'static str> = Some("resource_claim");

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<ResourceClaim>();
        watches.map::<Pod>(|change| {
            let pod = match (change.after(), change.before()) {
                (Some(pod), _) if !is_done(pod) => return Vec::new(),
                (Some(pod), _) | (None, Some(pod)) => pod,
                (None, None) => return Vec::new(),
            };
            names_of_claims(pod).map(|name| ObjectKey::new(change.key.namespace.clone(), name)).collect()
        });
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(mut claim) = self.claims.get(key).map(|cached| cached.object) else { return Ok(Outcome::Done) };
        let (before, mut remaining) = (reserved_for(&claim).len(), Vec::new());
        for consumer in reserved_for(&claim) {
            if self.is_valid(&key.namespace, consumer, cx).await? {
                remaining.push(consumer.clone());
            }
        }
        let is_free = remaining.is_empty();
        let is_protected = claim.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER);
        let is_unused = is_free && is_protected && claim.metadata.deletion_timestamp.is_some();
        if remaining.len() < before || is_unused && allocation(&claim).is_some() {
            let mut changed = ResourceClaim::clone(&claim);
            let status = changed.status.get_or_insert_default();
            status.reserved_for = Some(remaining).filter(|remaining| !remaining.is_empty());
            // What nobody uses any more others may get; only the scheduler's allocations have the finalizer.
            if is_free && is_protected {
                status.allocation = None;
            }
            claim = match cx.client().namespaced::<ResourceClaim>(key.namespace.clone()).update_status(&changed).await {
                Ok(written) => written,
                Err(status) if status.is_not_found() => return Ok(Outcome::Done),
                Err(status) => return Err(status.into()),
            };
            cx.wrote(&self.claims, &*claim);
            self.let_go(&claim, cx).await?;
        } else if is_unused {
            self.let_go(&claim, cx).await?;
        }
        if is_free && claim.metadata.deletion_timestamp.is_none() {
            self.delete_if_unwanted(&claim, key, cx).await?;
        }
        Ok(Outcome::Done)
    }
}

impl ClaimReservationController {
    /// A claim that was made for a pod that is done need not wait until the pod is removed.
    async fn delete_if_unwanted(&self, claim: &ResourceClaim, key: &ObjectKey, cx: &ReconcileContext) -> Result<(), ReconcileError> {
        let Some(owner) = owned_by(claim) else { return Ok(()) };
        // A pod that is not known may be new. If it is gone, the garbage collector sees to its claims.
        let Some(pod) = self.pod(&key.namespace, &owner.name) else { return Ok(()) };
        if pod.metadata.uid.as_deref() == Some(&owner.uid) && !is_done(&pod) {
            return Ok(());
        }
        let api = cx.client().namespaced::<ResourceClaim>(key.namespace.clone());
        let uid = claim.metadata.uid.as_deref().unwrap_or_default();
        delete_with_uid(&api, &key.name, uid).await?;
        cx.deleted(&self.claims, key.clone(), uid);
        Ok(())
    }
}
