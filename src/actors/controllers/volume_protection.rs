//! PVC and PV protection: a claim that is deleted stays until no pod uses it, a volume until it is bound no more.
//!
//! Admission gives both their finalizer (`StorageObjectInUseProtection`); these controllers take it away, and add it to
//! objects that were made without.

use k8s_openapi::{
    api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use troupe_api::{meta::ObjectKey, service::ListOptions, stored::KubeObject};
use troupe_api_client::Api;
use troupe_api_server::admission::{PV_FINALIZER, PVC_FINALIZER};

use crate::{
    runtime::{
        cache::{Cache, Caches},
        controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
    },
    storage::{
        PodClaim, claims_of, is_for_pod,
        users::{index_by_claim, users_of},
    },
};

/// Keys are claims.
pub struct PvcProtectionController {
    claims: Cache<PersistentVolumeClaim>,
    pods: Cache<Pod>,
}

/// Keys are volumes.
pub struct PvProtectionController {
    volumes: Cache<PersistentVolume>,
}

impl PvcProtectionController {
    pub fn new(caches: &Caches) -> Self {
        PvcProtectionController { claims: caches.cache(), pods: index_by_claim(caches.cache()) }
    }

    /// Asks the API as well when the cache knows of no pod: it may be behind.
    async fn is_used(&self, claim: &PersistentVolumeClaim, key: &ObjectKey, cx: &ReconcileContext) -> Result<bool, ReconcileError> {
        if users_of(&self.pods, key).iter().any(|pod| keeps(pod, claim)) {
            return Ok(true);
        }
        let live = cx.client().namespaced::<Pod>(key.namespace.clone()).list(ListOptions::default()).await?;
        Ok(live.items.iter().any(|pod| keeps(pod, claim)))
    }
}

impl PvProtectionController {
    pub fn new(caches: &Caches) -> Self {
        PvProtectionController { volumes: caches.cache() }
    }
}

/// What to do about an object's finalizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Keep,
    Add,
    /// Only when nobody uses the object.
    Release,
}

fn plan(meta: &ObjectMeta, finalizer: &str) -> Action {
    let has = meta.finalizers.iter().flatten().any(|held| held == finalizer);
    match (meta.deletion_timestamp.is_some(), has) {
        (true, true) => Action::Release,
        (false, false) => Action::Add,
        _ => Action::Keep,
    }
}

/// Whether `pod` holds the claim back: it runs or may run, with the claim in a volume. Pods that were never scheduled hold nothing, nor does one
/// that its node is done with hold a claim that was made for it: a foreground deletion of the pod waits for that claim.
fn keeps(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let scheduled = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_some_and(|node| !node.is_empty());
    let uses = |used: &PodClaim| !used.ephemeral || (!is_shut_down(pod) && is_for_pod(claim, pod).is_ok());
    scheduled && claims_of(pod).any(|used| Some(&used.name) == claim.metadata.name.as_ref() && uses(&used))
}

/// Whether a pod waits for nothing but finalizers: its node has said that its volumes are gone, or it was deleted by force.
fn is_shut_down(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some() && pod.metadata.deletion_grace_period_seconds == Some(0)
}

/// Writes the object with or without the finalizer; that it is gone or newer already is for the next reconcile.
async fn write<K: KubeObject>(api: &Api<K>, object: &K, finalizer: &str, action: Action) -> Result<Option<std::sync::Arc<K>>, ReconcileError> {
    let mut changed = object.clone();
    let finalizers = changed.metadata_mut().finalizers.get_or_insert_default();
    finalizers.retain(|held| held != finalizer);
    if action == Action::Add {
        finalizers.push(finalizer.to_owned());
    }
    match api.update(&changed).await {
        Ok(written) => Ok(Some(written)),
        Err(status) if status.is_not_found() => Ok(None),
        Err(status) => Err(status.into()),
    }
}

impl Controller for PvcProtectionController {
    const NAME: &'static str = "persistentvolumeclaim-protection-controller";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<PersistentVolumeClaim>();
        watches.map::<Pod>(|change| {
            let names = change.versions().flat_map(|pod| claims_of(pod));
            names.map(|claim| ObjectKey::new(change.key.namespace.clone(), claim.name)).collect()
        });
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(claim) = self.claims.get(key) else { return Ok(Outcome::Done) };
        let action = plan(&claim.object.metadata, PVC_FINALIZER);
        if action == Action::Keep || (action == Action::Release && self.is_used(&claim.object, key, cx).await?) {
            return Ok(Outcome::Done);
        }
        let api = cx.client().namespaced::<PersistentVolumeClaim>(key.namespace.clone());
        if let Some(written) = write(&api, &*claim.object, PVC_FINALIZER, action).await? {
            cx.wrote(&self.claims, &*written);
        }
        Ok(Outcome::Done)
    }
}

impl Controller for PvProtectionController {
    const NAME: &'static str = "persistentvolume-protection-controller";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<PersistentVolume>();
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(volume) = self.volumes.get(key) else { return Ok(Outcome::Done) };
        let action = plan(&volume.object.metadata, PV_FINALIZER);
        let bound = volume.object.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
        if action == Action::Keep || (action == Action::Release && bound) {
            return Ok(Outcome::Done);
        }
        if let Some(written) = write(&cx.client().all::<PersistentVolume>(), &*volume.object, PV_FINALIZER, action).await? {
            cx.wrote(&self.volumes, &*written);
        }
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    fn pod(volume: serde_json::Value, node: &str) -> Pod {
        from_value(json!({"metadata": {"name": "p", "uid": "u"}, "spec": {"containers": [], "nodeName": node, "volumes": [volume]}})).expect("a pod")
    }

    fn claim(name: &str, owner: Option<&str>) -> PersistentVolumeClaim {
        let owners: Vec<_> =
            owner.iter().map(|uid| json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid, "controller": true})).collect();
        from_value(json!({"metadata": {"name": name, "ownerReferences": owners}})).expect("a claim")
    }

    #[test]
    fn a_scheduled_pod_keeps_the_claims_it_names_and_those_made_for_it() {
        let named = json!({"name": "v", "persistentVolumeClaim": {"claimName": "c"}});
        assert!(keeps(&pod(named.clone(), "n"), &claim("c", None)));
        assert!(!keeps(&pod(named.clone(), "n"), &claim("d", None)));
        assert!(!keeps(&pod(named, ""), &claim("c", None)), "it was never scheduled");
        let ephemeral = json!({"name": "v", "ephemeral": {}});
        assert!(keeps(&pod(ephemeral.clone(), "n"), &claim("p-v", Some("u"))));
        assert!(!keeps(&pod(ephemeral, "n"), &claim("p-v", Some("other"))), "the claim is another pod's");
    }

    #[test]
    fn a_pod_that_waits_for_its_own_claim_to_go_does_not_keep_it() {
        let deleted = |volume: serde_json::Value, grace: i64| {
            let mut pod = pod(volume, "n");
            pod.metadata.deletion_timestamp = from_value(json!("2026-01-01T00:00:00Z")).expect("a time");
            pod.metadata.deletion_grace_period_seconds = Some(grace);
            pod
        };
        let ephemeral = json!({"name": "v", "ephemeral": {}});
        assert!(keeps(&deleted(ephemeral.clone(), 30), &claim("p-v", Some("u"))), "its node may use it yet");
        assert!(!keeps(&deleted(ephemeral, 0), &claim("p-v", Some("u"))));
        let named = json!({"name": "v", "persistentVolumeClaim": {"claimName": "c"}});
        assert!(keeps(&deleted(named, 0), &claim("c", None)), "others may have it next");
    }

    #[test]
    fn the_finalizer_is_added_to_the_living_and_taken_from_the_deleted() {
        let mut meta = ObjectMeta::default();
        assert_eq!(plan(&meta, PV_FINALIZER), Action::Add);
        meta.finalizers = Some(vec![PV_FINALIZER.into()]);
        assert_eq!(plan(&meta, PV_FINALIZER), Action::Keep);
        meta.deletion_timestamp = from_value(json!("2026-01-01T00:00:00Z")).expect("a time");
        assert_eq!(plan(&meta, PV_FINALIZER), Action::Release);
        meta.finalizers = None;
        assert_eq!(plan(&meta, PV_FINALIZER), Action::Keep);
    }
}
