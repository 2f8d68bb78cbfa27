//! Claims for devices (resource.k8s.io): makes those that pods have templates for, and takes from claims what nobody uses any more.

mod metrics;
mod plan;
mod reservations;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{
    core::v1::Pod,
    resource::v1::{ResourceClaim, ResourceClaimTemplate},
};
use serde_json::json;
use troupe_api::{meta::ObjectKey, service::PatchType};

use self::plan::{Lacking, is_done, lacking, owned_by, reservations_of};
pub use self::{metrics::COLLECTORS, reservations::ClaimReservationController};
use super::writes::{is_namespace_terminating, write_status};
use crate::{
    devices::{claims_of, consumer, names_of_claims},
    runtime::{
        cache::{Cache, Caches},
        controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
    },
};

/// Files pods under the claims that they use.
const BY_CLAIM: &str = "using resource claim";
/// Files pods under the templates that their claims are made of.
const BY_TEMPLATE: &str = "using resource claim template";
/// Files claims under the pods that own them.
const BY_OWNER: &str = "owned by pod";

/// Makes claims of templates and says in pods which they are. Keys are pods.
pub struct ResourceClaimController {
    pods: Cache<Pod>,
    claims: Cache<ResourceClaim>,
    templates: Cache<ResourceClaimTemplate>,
}

fn pods_by_claim(caches: &Caches) -> Cache<Pod> {
    let pods: Cache<Pod> = caches.cache();
    pods.add_index(BY_CLAIM, |pod| {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        names_of_claims(pod).map(|name| format!("{namespace}/{name}").into()).collect()
    });
    pods
}

fn keys(pods: &Cache<Pod>, index: &str, of: &ObjectKey) -> Vec<ObjectKey> {
    pods.by_index(index, &of.to_string()).iter().map(|pod| crate::devices::key_of(&pod.metadata)).collect()
}

impl ResourceClaimController {
    pub fn new(caches: &Caches) -> Self {
        let pods = pods_by_claim(caches);
        pods.add_index(BY_TEMPLATE, |pod| {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let templates = claims_of(pod).iter().filter_map(|claim| claim.resource_claim_template_name.as_deref());
            templates.map(|name| format!("{namespace}/{name}").into()).collect()
        });
        let claims: Cache<ResourceClaim> = caches.cache();
        claims.add_index(BY_OWNER, |claim| owned_by(claim).map(|owner| owner.uid.as_str().into()).into_iter().collect());
        ResourceClaimController { pods, claims, templates: caches.cache() }
    }

    fn claim(&self, namespace: &str, name: &str) -> Option<Arc<ResourceClaim>> {
        self.claims.get(&ObjectKey::new(namespace, name)).map(|cached| cached.object)
    }

    /// Makes what a pod lacks, and returns the names by the pod's own.
    async fn make(&self, pod: &Pod, cx: &ReconcileContext) -> Result<BTreeMap<String, String>, (String, ReconcileError)> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let owned = self.claims.by_index(BY_OWNER, pod.metadata.uid.as_deref().unwrap_or_default());
        let api = cx.client().namespaced::<ResourceClaim>(namespace);
        let mut names = BTreeMap::new();
        for asked in claims_of(pod) {
            let template = |name: &str| self.templates.get(&ObjectKey::new(namespace, name)).map(|cached| cached.object);
            let found = lacking(pod, asked, &|name| self.claim(namespace, name), &owned, &template);
            match found.map_err(|why| (asked.name.clone(), ReconcileError::Other(why)))? {
                Lacking::Nothing => {}
                Lacking::Name(name) => drop(names.insert(asked.name.clone(), name)),
                Lacking::Claim(claim) => {
                    let made = api.create(&claim).await;
                    metrics::created(&claim, made.is_ok());
                    let made = made.map_err(|status| (asked.name.clone(), status.into()))?;
                    cx.wrote(&self.claims, &*made);
                    names.insert(asked.name.clone(), made.metadata.name.clone().unwrap_or_default());
                }
            }
        }
        Ok(names)
    }
}

impl Controller for ResourceClaimController {
    const NAME: &'static str = "resource-claim-controller";
    const EVENT_SOURCE: Option<&'static str> = Some("resource_claim");

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary_when::<Pod>(|change| change.after().is_some_and(|pod| !claims_of(pod).is_empty()));
        let pods = self.pods.clone();
        watches.map::<ResourceClaim>(move |change| keys(&pods, BY_CLAIM, &change.key));
        let pods = self.pods.clone();
        watches.map::<ResourceClaimTemplate>(move |change| keys(&pods, BY_TEMPLATE, &change.key));
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(pod) = self.pods.get(key).map(|cached| cached.object) else { return Ok(Outcome::Done) };
        // The claims of a pod that is done are taken away, and not to be made again.
        if pod.metadata.deletion_timestamp.is_some() || is_done(&pod) || claims_of(&pod).is_empty() {
            return Ok(Outcome::Done);
        }
        let names = match self.make(&pod, cx).await {
            Ok(names) => names,
            Err((_, ReconcileError::Api(status))) if is_namespace_terminating(&status) => return Ok(Outcome::Done),
            Err((claim, why)) => {
                cx.tell(&*pod, true, "FailedResourceClaimCreation", format!("PodResourceClaim {claim}: {why}"));
                return Err(why);
            }
        };
        if !names.is_empty() {
            let statuses: Vec<_> = names.iter().map(|(name, claim)| json!({"name": name, "resourceClaimName": claim})).collect();
            let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"resourceClaimStatuses": statuses}});
            let api = cx.client().namespaced::<Pod>(key.namespace.clone());
            match api.patch(&key.name, "status", PatchType::StrategicMerge, &patch).await {
                Ok(written) => cx.wrote(&self.pods, &*written),
                Err(status) if status.is_not_found() => {}
                Err(status) => return Err(status.into()),
            }
            return Ok(Outcome::Done);
        }
        // A pod that was put on a node past the scheduler uses its claims all the same.
        for claim in reservations_of(&pod, &|name| self.claim(&key.namespace, name)) {
            let mut claim = ResourceClaim::clone(&claim);
            claim.status.get_or_insert_default().reserved_for.get_or_insert_default().push(consumer(&pod));
            write_status(&claim, &self.claims, cx).await?;
        }
        Ok(Outcome::Done)
    }
}
