//! Notes on secrets on which day their tokens were used last.
//!
//! In: uses, from whoever authenticates in this process ([`NotedUses`]). Out: a label, written once a day at most.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use parking_lot::Mutex;
use serde_json::{Value, json};
use troupe_api::{
    auth::tokens::{
        TokenUses,
        usage::{LAST_USED, day_of, is_noted},
    },
    meta::{Cause, ObjectKey},
    service::PatchType,
};

use crate::{
    controllers::writes::is_gone,
    runtime::controller::{Controller, Outcome, ReconcileContext, ReconcileError, Waker, Watches},
};

/// Passes uses on to the controller that notes them, while there is one.
#[derive(Default)]
pub struct NotedUses(Mutex<Option<Waker>>);

impl TokenUses for NotedUses {
    fn used(&self, secret: &ObjectKey) {
        let waker = self.0.lock().clone();
        if let Some(waker) = waker {
            waker.wake(secret.clone(), Cause::default());
        }
    }
}

/// See the module. Keys are secrets whose tokens are used.
pub struct TokenUseController {
    uses: Arc<NotedUses>,
}

impl TokenUseController {
    pub fn new(uses: Arc<NotedUses>) -> Self {
        TokenUseController { uses }
    }
}

/// What to write on a secret whose token is used, if that is not noted yet.
fn plan(secret: &Secret, now: Timestamp) -> Option<Value> {
    let noted = secret.metadata.labels.as_ref().and_then(|labels| labels.get(LAST_USED));
    if is_noted(noted.map(String::as_str), now) {
        return None;
    }
    Some(json!({"metadata": {"uid": secret.metadata.uid, "labels": {LAST_USED: day_of(now)}}}))
}

impl Controller for TokenUseController {
    const NAME: &'static str = "legacy-token-uses";

    fn watches(&self, watches: &mut Watches<'_>) {
        *self.uses.0.lock() = Some(watches.waker());
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        // Read anew: it is once a day, and uses come while the first one is being noted.
        let api = cx.client().namespaced::<Secret>(key.namespace.clone());
        let Some(secret) = api.get_opt(&key.name).await? else { return Ok(Outcome::Done) };
        let Some(patch) = plan(&secret, cx.now()) else { return Ok(Outcome::Done) };
        match api.patch(&key.name, "", PatchType::Merge, &patch).await {
            // A secret that was made anew is noted when its own token is used.
            Err(status) if !is_gone(&status) && !status.is_conflict() => Err(status.into()),
            _ => Ok(Outcome::Done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_written_once_a_day() {
        let now = "2026-01-31T23:00:00Z".parse().expect("a time");
        let secret = |labels: Value| -> Secret { serde_json::from_value(json!({"metadata": {"uid": "u", "labels": labels}})).expect("a secret") };
        let noted = Some(json!({"metadata": {"uid": "u", "labels": {LAST_USED: "2026-01-31"}}}));
        assert_eq!(plan(&secret(json!({})), now), noted);
        assert_eq!(plan(&secret(json!({LAST_USED: "2026-01-30"})), now), noted);
        assert_eq!(plan(&secret(json!({LAST_USED: "2026-01-31"})), now), None);
    }
}
