//! Claims that ask for more than their volume has: an external resizer makes volumes of CSI drivers larger, and the node what is on them.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use troupe_api::meta::{ObjectKey, Quantity};

use crate::{
    runtime::{
        cache::{Cache, Caches},
        controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
    },
    storage::{claim_phase, request, volume_name},
};

/// See the module. Keys are claims.
pub struct ExpandController {
    claims: Cache<PersistentVolumeClaim>,
    volumes: Cache<PersistentVolume>,
}

impl ExpandController {
    pub fn new(caches: &Caches) -> Self {
        ExpandController { claims: caches.cache(), volumes: caches.cache() }
    }
}

fn has(claim: &PersistentVolumeClaim) -> Quantity {
    let listed = claim.status.as_ref().and_then(|status| status.capacity.as_ref()?.get("storage"));
    listed.and_then(|amount| Quantity::parse(&amount.0).ok()).unwrap_or_default()
}

/// Whether a bound claim waits for its volume to grow.
fn waits(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let is_its_own = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()).is_some_and(|claimed| claimed.uid == claim.metadata.uid);
    claim_phase(claim) == "Bound" && is_its_own && request(claim) > has(claim)
}

impl Controller for ExpandController {
    const NAME: &'static str = "volume_expand";
    const EVENT_SOURCE: Option<&'static str> = Some("volume_expand");

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary_when::<PersistentVolumeClaim>(|change| match (change.before(), change.after()) {
            (Some(before), Some(after)) => request(after) > request(before),
            (None, Some(_)) => true,
            _ => false,
        });
        watches.reads::<PersistentVolume>();
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(claim) = self.claims.get(key).map(|cached| cached.object) else { return Ok(Outcome::Done) };
        let volume = self.volumes.get(&ObjectKey::cluster(volume_name(&claim))).map(|cached| cached.object);
        if volume.is_some_and(|volume| waits(&claim, &volume)) {
            cx.tell(&*claim, false, "ExternalExpanding", "waiting for an external controller to expand this PVC");
        }
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn a_claim_waits_for_what_its_volume_has_not() {
        let claim = |asked: &str, has: &str| -> PersistentVolumeClaim {
            from_value(json!({"metadata": {"name": "c", "uid": "u"}, "spec": {"resources": {"requests": {"storage": asked}}},
                "status": {"phase": "Bound", "capacity": {"storage": has}}}))
            .expect("a claim")
        };
        let volume = |uid: &str| from_value(json!({"spec": {"claimRef": {"uid": uid}}})).expect("a volume");
        assert!(waits(&claim("2Gi", "1Gi"), &volume("u")));
        assert!(!waits(&claim("1Gi", "1Gi"), &volume("u")) && !waits(&claim("2Gi", "1Gi"), &volume("v")));
    }
}
