//! Generic ephemeral volumes: makes the claim that a pod's volume is a template for, owned by the pod, so that it goes with it.

use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, Pod, Volume},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use troupe_api::meta::ObjectKey;

use super::{owners::controller_reference, writes::is_namespace_terminating};
use crate::{
    runtime::{
        cache::{Cache, Caches},
        controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
    },
    storage::{
        claim_of, is_for_pod,
        users::{index_by_claim, user_keys},
    },
};

/// See the module. Keys are pods.
pub struct EphemeralVolumeController {
    pods: Cache<Pod>,
    claims: Cache<PersistentVolumeClaim>,
}

impl EphemeralVolumeController {
    pub fn new(caches: &Caches) -> Self {
        EphemeralVolumeController { pods: index_by_claim(caches.cache()), claims: caches.cache() }
    }
}

fn ephemeral(pod: &Pod) -> impl Iterator<Item = &Volume> {
    pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()).filter(|volume| volume.ephemeral.is_some())
}

/// The claims that a pod lacks, by volume.
///
/// # Errors
/// The first volume whose claim is somebody else's, with why.
fn plan(
    pod: &Pod,
    known: impl Fn(&str) -> Option<std::sync::Arc<PersistentVolumeClaim>>,
) -> Result<Vec<(String, PersistentVolumeClaim)>, (String, String)> {
    let mut lacking = Vec::new();
    if pod.metadata.deletion_timestamp.is_some() {
        return Ok(lacking);
    }
    for volume in ephemeral(pod) {
        let Some(wanted) = claim_of(pod, volume) else { continue };
        match known(&wanted.name) {
            Some(claim) => is_for_pod(&claim, pod).map_err(|why| (volume.name.clone(), why))?,
            None => lacking.push((volume.name.clone(), made(pod, volume, wanted.name))),
        }
    }
    Ok(lacking)
}

fn made(pod: &Pod, volume: &Volume, name: String) -> PersistentVolumeClaim {
    let template = volume.ephemeral.as_ref().and_then(|source| source.volume_claim_template.as_ref());
    let meta = template.and_then(|template| template.metadata.as_ref());
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: pod.metadata.namespace.clone(),
            owner_references: Some(vec![controller_reference(pod)]),
            annotations: meta.and_then(|meta| meta.annotations.clone()),
            labels: meta.and_then(|meta| meta.labels.clone()),
            ..ObjectMeta::default()
        },
        spec: template.map(|template| template.spec.clone()),
        status: None,
    }
}

impl Controller for EphemeralVolumeController {
    const NAME: &'static str = "ephemeral-volume-controller";
    const EVENT_SOURCE: Option<&'static str> = Some("ephemeral_volume");

    fn watches(&self, watches: &mut Watches<'_>) {
        // A pod's volumes never change.
        watches.primary_when::<Pod>(|change| change.is_addition() && change.after().is_some_and(|pod| ephemeral(pod).next().is_some()));
        let pods = self.pods.clone();
        watches.map::<PersistentVolumeClaim>(move |change| if change.is_removal() { user_keys(&pods, &change.key) } else { Vec::new() });
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(pod) = self.pods.get(key).map(|cached| cached.object) else { return Ok(Outcome::Done) };
        let told = |volume: &str, why: String| cx.tell(&*pod, true, "FailedBinding", format!("ephemeral volume {volume}: {why}"));
        let known = |name: &str| self.claims.get(&ObjectKey::new(key.namespace.clone(), name)).map(|cached| cached.object);
        let lacking = match plan(&pod, known) {
            Ok(lacking) => lacking,
            // It goes on when that claim is gone.
            Err((volume, why)) => {
                told(&volume, why);
                return Ok(Outcome::Done);
            }
        };
        let api = cx.client().namespaced::<PersistentVolumeClaim>(key.namespace.clone());
        for (volume, claim) in lacking {
            match api.create(&claim).await {
                Ok(made) => cx.wrote(&self.claims, &*made),
                Err(status) if is_namespace_terminating(&status) => return Ok(Outcome::Done),
                Err(status) => {
                    told(&volume, format!("create PVC {}: {}", claim.metadata.name.as_deref().unwrap_or_default(), status.message));
                    return Err(status.into());
                }
            }
        }
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{from_value, json};

    use super::*;

    fn pod() -> Pod {
        let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
        let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": spec});
        let volumes = json!([{"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}, {"name": "other", "emptyDir": {}}]);
        from_value(json!({"metadata": {"name": "web", "namespace": "n", "uid": "u"}, "spec": {"containers": [], "volumes": volumes}})).expect("a pod")
    }

    #[test]
    fn a_pod_gets_the_claims_that_it_has_templates_for_once() {
        let planned = plan(&pod(), |_| None).expect("nothing is in the way");
        let [(volume, claim)] = &planned[..] else { panic!("{planned:?}") };
        assert_eq!((volume.as_str(), claim.metadata.name.as_deref()), ("scratch", Some("web-scratch")));
        let owner = &claim.metadata.owner_references.as_ref().expect("an owner")[0];
        assert_eq!((owner.uid.as_str(), owner.controller, owner.block_owner_deletion), ("u", Some(true), Some(true)));
        assert_eq!(claim.metadata.labels.as_ref().and_then(|labels| labels.get("app")).map(String::as_str), Some("web"));
        let made = Arc::new(claim.clone());
        assert_eq!(plan(&pod(), |_| Some(made.clone())), Ok(Vec::new()), "planning again gives nothing");
    }

    #[test]
    fn a_claim_of_that_name_that_is_somebody_elses_is_not_taken() {
        let foreign: PersistentVolumeClaim = from_value(json!({"metadata": {"name": "web-scratch", "namespace": "n"}})).expect("a claim");
        let (volume, why) = plan(&pod(), |_| Some(Arc::new(foreign.clone()))).expect_err("it is in the way");
        assert_eq!((volume.as_str(), why.as_str()), ("scratch", "PVC n/web-scratch was not created for pod n/web (pod is not owner)"));
        let mut going = pod();
        going.metadata.deletion_timestamp = from_value(json!("2026-01-01T00:00:00Z")).expect("a time");
        assert_eq!(plan(&going, |_| None), Ok(Vec::new()));
    }
}
