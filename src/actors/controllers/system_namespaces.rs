//! The namespaces that every cluster has: one that somebody deleted is made anew, or nodes could not keep their leases.

use k8s_openapi::{api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use troupe_api::meta::{Cause, ObjectKey};

use crate::runtime::{
    cache::{Cache, Caches},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

/// The first start makes them.
const NAMES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// See the module. Keys are these namespaces.
pub struct SystemNamespacesController {
    namespaces: Cache<Namespace>,
}

impl SystemNamespacesController {
    pub fn new(caches: &Caches) -> Self {
        SystemNamespacesController { namespaces: caches.cache() }
    }
}

impl Controller for SystemNamespacesController {
    const NAME: &'static str = "system-namespaces";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary_when::<Namespace>(|change| change.is_removal() && NAMES.contains(&&*change.key.name));
        // One may have gone while nobody looked.
        for name in NAMES {
            watches.waker().wake(ObjectKey::cluster(name), Cause::default());
        }
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        if self.namespaces.contains(key) {
            return Ok(Outcome::Done);
        }
        let metadata = ObjectMeta { name: Some(key.name.to_string()), ..ObjectMeta::default() };
        match cx.client().all::<Namespace>().create(&Namespace { metadata, ..Namespace::default() }).await {
            Ok(made) => cx.wrote(&self.namespaces, &*made),
            // Another server was faster.
            Err(status) if status.is_already_exists() => {}
            Err(status) => return Err(status.into()),
        }
        Ok(Outcome::Done)
    }
}
