//! Answers questions about pools of devices (`ResourcePoolStatusRequest`, KEP-5677), where the feature `DRAResourcePoolStatus` is on.
//!
//! In: requests, and what is known of slices and claims when they come. Out: the status of a request, once; and requests that are old are removed.

mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::api::resource::{
    v1::{ResourceClaim, ResourceSlice},
    v1alpha3::ResourcePoolStatusRequest,
};
use troupe_api::meta::ObjectKey;

use self::plan::{Action, plan};
use super::writes::delete_with_uid;
use crate::{
    devices::results,
    runtime::{
        cache::{Cache, Caches},
        controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
    },
};

/// Files slices under their drivers.
const OF_DRIVER: &str = "driver";
/// Files claims under the drivers that they have devices of.
const BY_DRIVER: &str = "with devices of driver";

/// See the module. Keys are requests.
pub struct ResourcePoolStatusController {
    requests: Cache<ResourcePoolStatusRequest>,
    slices: Cache<ResourceSlice>,
    claims: Cache<ResourceClaim>,
}

impl ResourcePoolStatusController {
    pub fn new(caches: &Caches) -> Self {
        let slices: Cache<ResourceSlice> = caches.cache();
        slices.add_index(OF_DRIVER, |slice| vec![slice.spec.driver.as_str().into()]);
        let claims: Cache<ResourceClaim> = caches.cache();
        claims.add_index(BY_DRIVER, |claim| {
            let mut drivers: Vec<Arc<str>> = results(claim).map(|result| result.driver.as_str().into()).collect();
            drivers.sort();
            drivers.dedup();
            drivers
        });
        ResourcePoolStatusController { requests: caches.cache(), slices, claims }
    }
}

impl Controller for ResourcePoolStatusController {
    const NAME: &'static str = "resourcepoolstatusrequest-controller";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<ResourcePoolStatusRequest>();
        watches.reads::<ResourceSlice>();
        watches.reads::<ResourceClaim>();
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(request) = self.requests.get(key).map(|cached| cached.object) else { return Ok(Outcome::Done) };
        let driver = request.spec.driver.as_str();
        let known = || (self.slices.by_index(OF_DRIVER, driver), self.claims.by_index(BY_DRIVER, driver));
        let api = cx.client().all::<ResourcePoolStatusRequest>();
        match plan(&request, &known, cx.now()) {
            Action::Wait(time) => Ok(Outcome::RequeueAfter(time)),
            Action::Remove => {
                let uid = request.metadata.uid.as_deref().unwrap_or_default();
                delete_with_uid(&api, &key.name, uid).await?;
                cx.deleted(&self.requests, key.clone(), uid);
                Ok(Outcome::Done)
            }
            Action::Tell(status) => {
                let answered = ResourcePoolStatusRequest { status: Some(status), ..(*request).clone() };
                match api.update_status(&answered).await {
                    Ok(written) => cx.wrote(&self.requests, &*written),
                    Err(status) if status.is_not_found() => {}
                    Err(status) => return Err(status.into()),
                }
                // It runs again when the cache shows that, and knows then how long the answer stays.
                Ok(Outcome::RequeueAfter(plan::ANSWERED))
            }
        }
    }
}
