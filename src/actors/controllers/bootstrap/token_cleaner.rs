//! `tokencleaner`: removes bootstrap tokens whose time is over.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use troupe_api::{
    auth::bootstrap_tokens::{self, NAMESPACE},
    meta::ObjectKey,
    service::DeleteOptions,
};

use crate::runtime::{
    cache::{Cache, Caches},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

/// Looked at again after this time at the latest.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// See the module.
pub struct TokenCleaner {
    secrets: Cache<Secret>,
}

impl TokenCleaner {
    pub fn new(caches: &Caches) -> Self {
        TokenCleaner { secrets: super::tokens(caches) }
    }
}

impl Controller for TokenCleaner {
    const NAME: &'static str = "tokencleaner";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.map_of(&self.secrets, |change| {
            let token = change.after().is_some_and(|secret| bootstrap_tokens::is_token(secret));
            (token && &*change.key.namespace == NAMESPACE).then(|| change.key.clone()).into_iter().collect()
        });
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(secret) = self.secrets.get(key) else { return Ok(Outcome::Done) };
        let Some(end) = bootstrap_tokens::expires(&secret.object) else { return Ok(Outcome::Done) };
        if end > cx.now() {
            return Ok(Outcome::RequeueAfter(Duration::try_from(end.duration_since(cx.now())).unwrap_or(LONGEST).min(LONGEST)));
        }
        let uid = secret.object.metadata.uid.clone();
        let options = DeleteOptions { precondition_uid: uid.clone(), ..DeleteOptions::default() };
        match cx.client().namespaced::<Secret>(NAMESPACE).delete(&key.name, options).await {
            Ok(()) => {
                tracing::info!(secret = %key, "expired bootstrap token removed");
                cx.deleted(&self.secrets, key.clone(), uid.unwrap_or_default());
            }
            Err(status) if status.is_not_found() || status.is_conflict() => {}
            Err(status) => return Err(status.into()),
        }
        Ok(Outcome::Done)
    }
}
