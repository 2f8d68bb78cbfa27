//! EndpointSliceMirroring: mirrors Endpoints that people or other programs keep for Services without a selector to EndpointSlices, which is
//! what the service proxy and DNS read.

pub mod plan;

#[cfg(test)]
mod tests;

use k8s_openapi::api::{
    core::v1::{Endpoints, Service},
    discovery::v1::EndpointSlice,
};
use troupe_api::meta::ObjectKey;

use self::plan::{MANAGER, MAX_ADDRESSES, is_mirrored, plan, removals};
use super::endpointslice::{
    apply,
    plan::{MANAGED_BY, SERVICE_NAME},
    service_of,
};
use crate::runtime::{
    cache::{Cache, Caches},
    controller::{Backoff, Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

/// See the module.
pub struct EndpointSliceMirroringController {
    services: Cache<Service>,
    endpoints: Cache<Endpoints>,
    slices: Cache<EndpointSlice>,
}

const BY_ENDPOINTS: &str = "endpointslice/endpoints";

impl EndpointSliceMirroringController {
    pub fn new(caches: &Caches) -> Self {
        let slices: Cache<EndpointSlice> = caches.cache();
        slices.add_meta_index(BY_ENDPOINTS, |slice| service_of(slice, MANAGER));
        EndpointSliceMirroringController { services: caches.cache(), endpoints: caches.cache(), slices }
    }
}

impl Controller for EndpointSliceMirroringController {
    const NAME: &'static str = "endpointslicemirroring";
    const EVENT_SOURCE: Option<&'static str> = Some("endpoint-slice-mirroring-controller");
    const BACKOFF: Backoff = Backoff::new(1_000, 100);

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<Endpoints>();
        watches.map::<Service>(|change| vec![change.key.clone()]);
        watches.map::<EndpointSlice>(|change| {
            let slice = change.meta_after().or(change.meta_before());
            let ours = slice.filter(|meta| meta.labels.get(MANAGED_BY).is_some_and(|manager| manager == MANAGER));
            let name = ours.and_then(|meta| meta.labels.get(SERVICE_NAME));
            name.map(|name| ObjectKey::new(change.key.namespace.clone(), name)).into_iter().collect()
        });
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let slices = self.slices.by_index(BY_ENDPOINTS, &key.to_string());
        let (service, endpoints) = (self.services.get(key), self.endpoints.get(key));
        let mirrored = endpoints.filter(|endpoints| is_mirrored(service.as_ref().map(|service| &*service.object), &endpoints.object));
        let Some(endpoints) = mirrored else {
            apply(removals(&slices), &self.slices, &key.namespace, cx).await?;
            return Ok(Outcome::Done);
        };
        let plan = plan(&endpoints.object, &slices);
        if plan.invalid > 0 {
            let message = format!("Skipped {} invalid IP addresses when mirroring to EndpointSlices", plan.invalid);
            cx.tell(&*endpoints.object, true, "InvalidIPAddress", message);
        }
        if plan.skipped > 0 {
            let message = format!(
                "A max of {MAX_ADDRESSES} addresses can be mirrored to EndpointSlices per Endpoints subset. {} addresses were skipped",
                plan.skipped
            );
            cx.tell(&*endpoints.object, true, "TooManyAddressesToMirror", message);
        }
        if endpoints.object.metadata.deletion_timestamp.is_none() {
            apply(plan.actions, &self.slices, &key.namespace, cx).await?;
        }
        Ok(Outcome::Done)
    }
}
