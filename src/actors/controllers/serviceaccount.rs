//! ServiceAccount: every active namespace has one called `default`.

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use troupe_api::meta::ObjectKey;

use super::{namespace::is_active, writes::is_namespace_terminating};
use crate::runtime::{
    cache::{Cache, Caches},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

/// See the module. Keys are namespaces.
pub struct ServiceAccountController {
    namespaces: Cache<Namespace>,
    accounts: Cache<ServiceAccount>,
}

impl ServiceAccountController {
    pub fn new(caches: &Caches) -> Self {
        ServiceAccountController { namespaces: caches.cache(), accounts: caches.cache() }
    }
}

/// Whether the namespace lacks its account.
fn plan(namespace: &Namespace, has_account: bool) -> bool {
    is_active(namespace) && !has_account
}

impl Controller for ServiceAccountController {
    const NAME: &'static str = "serviceaccount";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<Namespace>();
        watches.map::<ServiceAccount>(|change| {
            let lost = change.is_removal() && &*change.key.name == "default";
            lost.then(|| ObjectKey::cluster(change.key.namespace.clone())).into_iter().collect()
        });
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(namespace) = self.namespaces.get(key) else { return Ok(Outcome::Done) };
        let has_account = self.accounts.get(&ObjectKey::new(key.name.clone(), "default")).is_some();
        if plan(&namespace.object, has_account) {
            let mut account = ServiceAccount::default();
            account.metadata.name = Some("default".into());
            account.metadata.namespace = Some(key.name.to_string());
            match cx.client().namespaced::<ServiceAccount>(key.name.clone()).create(&account).await {
                Ok(made) => cx.wrote(&self.accounts, &*made),
                Err(status) if status.is_already_exists() || status.is_not_found() => {}
                // The namespace began to terminate in between.
                Err(status) if is_namespace_terminating(&status) => {}
                Err(status) => return Err(status.into()),
            }
        }
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_active_namespaces_without_an_account_get_one() {
        let mut namespace = Namespace::default();
        namespace.status.get_or_insert_default().phase = Some("Active".into());
        assert!(plan(&namespace, false) && !plan(&namespace, true));
        namespace.status.get_or_insert_default().phase = Some("Terminating".into());
        assert!(!plan(&namespace, false));
    }
}
