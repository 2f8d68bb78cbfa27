//! ServiceCIDRs: makes ranges of Service addresses Ready, and keeps one that is deleted until no address is left in it alone
//! (KEP-1880). API servers give out addresses of ranges that are Ready.

mod plan;

use std::{net::IpAddr, time::Duration};

use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use serde_json::{Value, json};
use troupe_api::{
    meta::{ObjectKey, time::format_time},
    service::PatchType,
};

pub use self::plan::ranges;
use self::plan::{FINALIZER, Plan, overlap, plan};
use crate::runtime::{
    cache::{Cache, Caches},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

/// Upstream's, on addresses that the API server gave out.
const MANAGED_BY: (&str, &str) = ("ipaddress.kubernetes.io/managed-by", "ipallocator.k8s.io");

/// See the module.
pub struct ServiceCidrController {
    ranges: Cache<ServiceCIDR>,
    addresses: Cache<IPAddress>,
}

impl ServiceCidrController {
    pub fn new(caches: &Caches) -> Self {
        ServiceCidrController { ranges: caches.cache(), addresses: caches.cache() }
    }

    fn all(&self) -> Vec<ServiceCIDR> {
        self.ranges.list("").iter().map(|range| (**range).clone()).collect()
    }

    fn given(&self) -> Vec<IpAddr> {
        let given = self.addresses.select("", |meta| meta.labels.get(MANAGED_BY.0) == Some(MANAGED_BY.1));
        given.iter().filter_map(|address| address.metadata.name.as_ref()?.parse().ok()).collect()
    }

    async fn patch(&self, range: &ServiceCIDR, subresource: &str, mut patch: Value, cx: &ReconcileContext) -> Result<(), ReconcileError> {
        patch["metadata"]["uid"] = json!(range.metadata.uid);
        patch["metadata"]["resourceVersion"] = json!(range.metadata.resource_version);
        let name = range.metadata.name.as_deref().unwrap_or_default();
        match cx.client().all::<ServiceCIDR>().patch(name, subresource, PatchType::Merge, &patch).await {
            Ok(written) => cx.wrote(&self.ranges, &*written),
            Err(status) if status.is_not_found() => {}
            Err(status) => return Err(status.into()),
        }
        Ok(())
    }
}

/// The finalizers of a range with or without ours.
fn finalizers(range: &ServiceCIDR, with: bool) -> Value {
    let mut all: Vec<&str> = range.metadata.finalizers.iter().flatten().map(String::as_str).filter(|held| *held != FINALIZER).collect();
    if with {
        all.push(FINALIZER);
    }
    json!({"metadata": {"finalizers": all}})
}

impl Controller for ServiceCidrController {
    const NAME: &'static str = "service-cidr-controller";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<ServiceCIDR>();
        let known = self.ranges.clone();
        // A range that comes or goes may free another, or be what another waits for.
        watches.map::<ServiceCIDR>(move |change| {
            let touched = |other: &&std::sync::Arc<ServiceCIDR>| change.versions().any(|range| overlap(range, other));
            known.list("").iter().filter(touched).filter_map(|other| Some(ObjectKey::cluster(other.metadata.name.as_deref()?))).collect()
        });
        let known = self.ranges.clone();
        watches.map::<IPAddress>(move |change| {
            let Ok(address) = change.key.name.parse::<IpAddr>() else { return Vec::new() };
            // Addresses matter for ranges that are being deleted.
            let going = known.select("", |meta| meta.deletion_timestamp.is_some());
            let holds = |range: &&std::sync::Arc<ServiceCIDR>| ranges(range).any(|range| range.contains(address));
            going.iter().filter(holds).filter_map(|range| Some(ObjectKey::cluster(range.metadata.name.as_deref()?))).collect()
        });
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(cached) = self.ranges.get(key) else { return Ok(Outcome::Done) };
        let range = &*cached.object;
        match plan(range, &self.all(), || self.given(), cx.now()) {
            Plan::Keep => {}
            Plan::AddFinalizer => self.patch(range, "", finalizers(range, true), cx).await?,
            Plan::RemoveFinalizer => self.patch(range, "", finalizers(range, false), cx).await?,
            Plan::Tell((status, reason, message)) => {
                let condition = json!({"type": "Ready", "status": status, "reason": reason, "message": message,
                    "lastTransitionTime": format_time(cx.now())});
                let told = self.patch(range, "status", json!({"status": {"conditions": [condition]}}), cx).await;
                if told.is_err() && status == "True" {
                    cx.tell(range, true, "KubernetesServiceCIDRError", "The ServiceCIDR Status can not be set to Ready=True");
                }
                told?;
            }
            Plan::Wait(left) => return Ok(Outcome::RequeueAfter(Duration::try_from(left).unwrap_or_default())),
        }
        Ok(Outcome::Done)
    }
}
