//! The pods that are bound to hollow nodes.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use k8s_openapi::api::core::v1::Pod;
use troupe_api::{
    meta::ObjectKey,
    service::{DeleteOptions, PatchType},
};

use super::{
    HollowOptions,
    plan::{Plan, address, plan},
};
use crate::runtime::{
    cache::{Cache, Caches},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

/// See the module.
pub struct HollowPods {
    options: Arc<HollowOptions>,
    pods: Cache<Pod>,
    given: AtomicU32,
}

impl HollowPods {
    pub fn new(options: Arc<HollowOptions>, caches: &Caches) -> Self {
        HollowPods { options, pods: caches.cache(), given: AtomicU32::new(0) }
    }
}

fn is_here(options: &HollowOptions, pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_some_and(|node| options.has(node))
}

impl Controller for HollowPods {
    const NAME: &'static str = "hollow-pods";
    const CONCURRENCY: usize = 32;

    fn watches(&self, watches: &mut Watches<'_>) {
        let options = self.options.clone();
        watches.primary_when::<Pod>(move |change| change.after().is_some_and(|pod| is_here(&options, pod)));
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(cached) = self.pods.get(key).filter(|pod| is_here(&self.options, &pod.object)) else { return Ok(Outcome::Done) };
        let api = cx.client().namespaced::<Pod>(key.namespace.clone());
        let uid = cached.object.metadata.uid.clone();
        match plan(&cached.object, || address(self.given.fetch_add(1, Ordering::Relaxed)), cx.now()) {
            Plan::Keep => {}
            Plan::Delete => {
                let options = DeleteOptions { grace_period_seconds: Some(0), precondition_uid: uid.clone(), ..DeleteOptions::default() };
                match api.delete(&key.name, options).await {
                    Ok(()) => cx.deleted(&self.pods, key.clone(), uid.unwrap_or_default()),
                    Err(status) if status.is_not_found() || status.is_conflict() => {}
                    Err(status) => return Err(status.into()),
                }
            }
            Plan::Report(mut report) => {
                report["metadata"] = serde_json::json!({"uid": uid});
                match api.patch(&key.name, "status", PatchType::StrategicMerge, &report).await {
                    Ok(written) => cx.wrote(&self.pods, &*written),
                    Err(status) if status.is_not_found() => {}
                    Err(status) => return Err(status.into()),
                }
            }
        }
        Ok(Outcome::Done)
    }
}
