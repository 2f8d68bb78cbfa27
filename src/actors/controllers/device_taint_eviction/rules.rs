//! Has pods looked at when rules change, and says in the rules what comes of them: at once, and then every ten seconds as long as pods go.

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::Pod,
    resource::{
        v1::{ResourceClaim, ResourceSlice},
        v1beta2::DeviceTaintRule,
    },
};
use serde_json::json;
use troupe_api::{meta::ObjectKey, service::PatchType};

use super::{
    condition::{PERIOD, condition, rest},
    seen::Seen,
};
use crate::runtime::{
    cache::Cache,
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

/// See the module. Keys are rules.
pub struct DeviceTaintRuleController {
    seen: Arc<Seen>,
    rules: Cache<DeviceTaintRule>,
}

impl DeviceTaintRuleController {
    pub(super) fn new(seen: Arc<Seen>, rules: Cache<DeviceTaintRule>) -> Self {
        DeviceTaintRuleController { seen, rules }
    }
}

impl Controller for DeviceTaintRuleController {
    const NAME: &'static str = "device-taint-rules";
    const EVENT_SOURCE: Option<&'static str> = Some("device-taint-eviction-controller");

    fn watches(&self, watches: &mut Watches<'_>) {
        self.seen.rules_are_woken_by(watches.waker());
        // What a rule means is counted once, in some cases.
        watches.reads::<Pod>();
        watches.reads::<ResourceClaim>();
        watches.reads::<ResourceSlice>();
        let seen = self.seen.clone();
        watches.primary_when::<DeviceTaintRule>(move |change| {
            // What is said of a rule changes nothing of it.
            let is_same = change.before().map(|rule| &rule.spec) == change.after().map(|rule| &rule.spec);
            if !is_same {
                let rules: Vec<&DeviceTaintRule> = change.versions().map(|rule| &**rule).collect();
                seen.wake_pods(seen.users_of_rules(&rules), &change.cause);
            }
            !is_same
        });
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(rule) = self.rules.get(key).map(|cached| cached.object) else {
            self.seen.forget(&key.name);
            return Ok(Outcome::Done);
        };
        // Before pods are counted, which may cost something.
        if let Some(rest) = rest(&rule, cx.now()) {
            return Ok(Outcome::RequeueAfter(rest));
        }
        let counts = self.seen.counts(&rule);
        if let Some(condition) = condition(&rule, &counts, cx.now()) {
            let patch = json!({"metadata": {"uid": rule.metadata.uid}, "status": {"conditions": [condition]}});
            let api = cx.client().all::<DeviceTaintRule>();
            match api.patch(&key.name, "status", PatchType::StrategicMerge, &patch).await {
                Ok(written) => cx.wrote(&self.rules, &*written),
                Err(status) if status.is_not_found() => return Ok(Outcome::Done),
                Err(status) => return Err(status.into()),
            }
        }
        let goes_on = rule.spec.taint.effect == super::plan::EFFECT && counts.pods > 0;
        Ok(if goes_on { Outcome::RequeueAfter(PERIOD) } else { Outcome::Done })
    }
}
