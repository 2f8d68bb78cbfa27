//! Publishes the authorities of the API server's certificate as a ClusterTrustBundle, and takes away what was published before
//! (`pkg/controller/certificates/clustertrustbundlepublisher`).

pub(crate) mod metrics;
mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::api::certificates::v1beta1::ClusterTrustBundle;
use troupe_api::{
    meta::{Cause, FieldSelector, ObjectKey},
    service::{DeleteOptions, WatchOptions},
    status::Status,
};

use self::plan::{Action, SIGNER, plan};
use crate::runtime::{
    cache::{Cache, Caches},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

/// See the module. There is one key, the signer.
pub struct TrustBundlePublisher {
    bundles: Cache<ClusterTrustBundle>,
    ca_pem: Arc<str>,
}

impl TrustBundlePublisher {
    pub fn new(caches: &Caches, ca_pem: impl Into<Arc<str>>) -> Self {
        let fields = FieldSelector::parse(&format!("spec.signerName={SIGNER}")).expect("a valid selector");
        let bundles = caches.selected(" of the API server", WatchOptions { fields, ..WatchOptions::default() });
        TrustBundlePublisher { bundles, ca_pem: ca_pem.into() }
    }

    async fn apply(&self, action: Action, cx: &ReconcileContext) -> Result<(), Status> {
        let api = cx.client().all::<ClusterTrustBundle>();
        match action {
            Action::Create(bundle) => cx.wrote(&self.bundles, &*api.create(&bundle).await?),
            Action::Update(bundle) => cx.wrote(&self.bundles, &*api.update(&bundle).await?),
            Action::Delete { name, uid } => match api.delete(&name, DeleteOptions::default()).await {
                Ok(()) => cx.deleted(&self.bundles, ObjectKey::cluster(name), uid),
                Err(status) if status.is_not_found() => {}
                Err(status) => return Err(status),
            },
        }
        Ok(())
    }

    async fn sync(&self, cx: &ReconcileContext) -> Result<(), Status> {
        for action in plan(&self.bundles.list(""), &self.ca_pem) {
            self.apply(action, cx).await?;
        }
        Ok(())
    }
}

fn key() -> ObjectKey {
    ObjectKey::cluster(SIGNER)
}

impl Controller for TrustBundlePublisher {
    const NAME: &'static str = "kube-apiserver-serving-clustertrustbundle-publisher";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.map_of(&self.bundles, |_| vec![key()]);
        // At first there may be none that wakes it.
        watches.waker().wake(key(), Cause::default());
    }

    async fn reconcile(&self, _key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let began = cx.clock().instant();
        let synced = self.sync(cx).await;
        metrics::synced(&synced, cx.clock().instant().duration_since(began));
        synced?;
        Ok(Outcome::Done)
    }
}
