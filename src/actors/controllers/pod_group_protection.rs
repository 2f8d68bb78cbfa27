//! PodGroup protection (KEP-4671): a group that is deleted stays until no pod is of it that has not ended. Admission gives groups their
//! finalizer (`PodGroupProtection`); this takes it away.

use std::sync::Arc;

use k8s_openapi::{
    api::{core::v1::Pod, scheduling::v1alpha2::PodGroup},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use troupe_api::meta::ObjectKey;
use troupe_api_server::admission::POD_GROUP_FINALIZER;

use super::pods::is_finished;
use crate::runtime::{
    cache::{Cache, Caches},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

/// Files pods that have not ended under their groups (`namespace/name`).
const BY_GROUP: &str = "pod group";

/// See the module. Keys are groups.
pub struct PodGroupProtectionController {
    groups: Cache<PodGroup>,
    pods: Cache<Pod>,
}

impl PodGroupProtectionController {
    pub fn new(caches: &Caches) -> Self {
        let pods: Cache<Pod> = caches.cache();
        pods.add_index(BY_GROUP, |pod| kept_by(pod).map(|key| Arc::from(key.to_string())).into_iter().collect());
        PodGroupProtectionController { groups: caches.cache(), pods }
    }
}

/// The group that a pod names.
fn group_of(pod: &Pod) -> Option<ObjectKey> {
    let name = pod.spec.as_ref()?.scheduling_group.as_ref()?.pod_group_name.as_deref()?;
    Some(ObjectKey::new(pod.metadata.namespace.as_deref().unwrap_or_default(), name))
}

/// The group that a pod holds back.
fn kept_by(pod: &Pod) -> Option<ObjectKey> {
    group_of(pod).filter(|_| !is_finished(pod))
}

/// Whether a group waits for its pods.
fn is_held(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some() && meta.finalizers.iter().flatten().any(|held| held == POD_GROUP_FINALIZER)
}

impl Controller for PodGroupProtectionController {
    const NAME: &'static str = "podgroup-protection-controller";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<PodGroup>();
        // Who has ended or is gone may have been the last.
        watches.map::<Pod>(|change| change.before().and_then(|pod| group_of(pod)).into_iter().collect());
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(group) = self.groups.get(key).map(|cached| cached.object) else { return Ok(Outcome::Done) };
        if !is_held(&group.metadata) || !self.pods.by_index(BY_GROUP, &key.to_string()).is_empty() {
            return Ok(Outcome::Done);
        }
        let mut released = (*group).clone();
        released.metadata.finalizers.get_or_insert_default().retain(|held| held != POD_GROUP_FINALIZER);
        match cx.client().namespaced::<PodGroup>(key.namespace.clone()).update(&released).await {
            Ok(written) => cx.wrote(&self.groups, &*written),
            Err(status) if status.is_not_found() => {}
            Err(status) => return Err(status.into()),
        }
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    #[test]
    fn pods_keep_their_group_until_they_end() {
        let pod = |spec: Value, phase: &str| -> Pod {
            from_value(json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec, "status": {"phase": phase}})).expect("a pod")
        };
        let of = |group: Value| json!({"containers": [], "schedulingGroup": group});
        assert_eq!(kept_by(&pod(of(json!({"podGroupName": "g"})), "Pending")), Some(ObjectKey::new("n", "g")));
        assert_eq!(kept_by(&pod(of(json!({"podGroupName": "g"})), "Failed")), None);
        assert_eq!(kept_by(&pod(of(json!(null)), "Running")), None);
    }

    #[test]
    fn only_a_group_that_goes_waits_for_its_pods() {
        let meta = |value: Value| -> ObjectMeta { from_value(value).expect("metadata") };
        assert!(is_held(&meta(json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [POD_GROUP_FINALIZER]}))));
        assert!(!is_held(&meta(json!({"finalizers": [POD_GROUP_FINALIZER]}))));
        assert!(!is_held(&meta(json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["other"]}))));
    }
}
