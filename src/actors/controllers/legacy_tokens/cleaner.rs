//! The cleaner: once a day it looks for tokens that nobody uses.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use serde_json::json;
use troupe_api::{
    auth::{
        node::references,
        tokens::usage::{INVALID_SINCE, TRACKED_SINCE, TRACKING, read_day},
    },
    meta::{Cause, ObjectKey},
    service::{DeleteOptions, PatchType},
};

use super::plan::{Action, Limits, key_of, plan, unused};
use crate::{
    controllers::{token_secrets, writes::is_gone},
    runtime::{
        cache::{Cache, Caches},
        controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
        turn::Turn,
    },
};

/// Tokens that nobody used for so long go, where nothing is said (upstream's `--legacy-service-account-token-clean-up-period`).
pub const UNUSED: SignedDuration = SignedDuration::from_hours(8760);
const EVERY: Duration = Duration::from_secs(24 * 3600);

/// See the module. Its only key is `all`.
pub struct LegacyTokenCleaner {
    secrets: Cache<Secret>,
    accounts: Cache<ServiceAccount>,
    pods: Cache<Pod>,
    unused: SignedDuration,
}

impl LegacyTokenCleaner {
    /// `unused` is how long nobody used the tokens that go.
    pub fn new(caches: &Caches, unused: SignedDuration) -> Self {
        LegacyTokenCleaner { secrets: token_secrets::secrets(caches), accounts: caches.cache(), pods: caches.cache(), unused }
    }

    /// The secrets that pods mention, by the namespaces of these.
    async fn mentioned(&self, secrets: &[Arc<Secret>]) -> BTreeMap<String, BTreeSet<String>> {
        let mut mentioned = BTreeMap::new();
        let mut turn = Turn::default();
        for namespace in secrets.iter().filter_map(|secret| secret.metadata.namespace.as_deref()).collect::<BTreeSet<&str>>() {
            let mut names = BTreeSet::new();
            for pod in self.pods.select_stored(namespace, |_| true) {
                references::secret_names(&pod.to_object(), &mut |name| _ = names.insert(name.to_owned()));
                turn.step().await;
            }
            mentioned.insert(namespace.to_owned(), names);
        }
        mentioned
    }
}

/// Does one thing. What changed meanwhile is looked at the next day.
async fn apply(action: Action, cx: &ReconcileContext) -> Result<(), ReconcileError> {
    let api = |key: &ObjectKey| cx.client().namespaced::<Secret>(key.namespace.clone());
    let done = match action {
        Action::MarkInvalid { secret, uid, since } => {
            tracing::info!(%secret, since, "nobody uses this token: marked as invalid");
            let patch = json!({"metadata": {"uid": uid, "labels": {INVALID_SINCE: since}}});
            api(&secret).patch(&secret.name, "", PatchType::Merge, &patch).await.map(drop)
        }
        Action::Delete { secret, revision } => {
            tracing::info!(%secret, "nobody missed this token: deleted");
            let options = DeleteOptions { precondition_revision: revision, ..DeleteOptions::default() };
            api(&secret).delete(&secret.name, options).await
        }
    };
    match done {
        Err(status) if !is_gone(&status) && !status.is_conflict() => Err(status.into()),
        _ => Ok(()),
    }
}

impl Controller for LegacyTokenCleaner {
    const NAME: &'static str = "legacy-service-account-token-cleaner";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.map_of(&self.secrets, |_| Vec::new());
        watches.reads::<ServiceAccount>();
        watches.reads::<Pod>();
        watches.waker().wake(ObjectKey::cluster("all"), Cause::default());
    }

    async fn reconcile(&self, _key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let tracking = cx.client().namespaced::<ConfigMap>("kube-system").get_opt(TRACKING).await?;
        let tracked = tracking.as_ref().and_then(|map| map.data.as_ref()?.get(TRACKED_SINCE)).and_then(|day| read_day(day));
        let limits = tracked.and_then(|tracked| Limits::of(cx.now(), self.unused, tracked));
        let Some(limits) = limits else { return Ok(Outcome::RequeueAfter(EVERY)) };
        let unused = unused(&self.secrets.list(""), &limits, |key| self.accounts.get_once(key));
        let mentioned = self.mentioned(&unused).await;
        for action in plan(&unused, &mentioned, &limits) {
            apply(action, cx).await?;
        }
        tracing::debug!(unused = ?unused.iter().map(|secret| key_of(secret).to_string()).collect::<Vec<_>>(), "looked for tokens that nobody uses");
        Ok(Outcome::RequeueAfter(EVERY))
    }
}
