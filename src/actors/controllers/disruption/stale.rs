//! Pods that were to be evicted and stayed: their condition `DisruptionTarget` is taken back after a while.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::{Pod, PodCondition},
    apimachinery::pkg::apis::meta::v1::Time,
};
use troupe_api::meta::ObjectKey;

use crate::{
    controllers::{pods::phase, writes::write_status},
    runtime::{
        cache::{Cache, Caches},
        controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
    },
};

const KIND: &str = "DisruptionTarget";
const STALE_AFTER: SignedDuration = SignedDuration::from_mins(2);

/// See the module. Keys are pods.
pub struct StaleDisruptionController {
    pods: Cache<Pod>,
}

impl StaleDisruptionController {
    pub fn new(caches: &Caches) -> Self {
        StaleDisruptionController { pods: caches.cache() }
    }
}

/// The condition of a pod that is to go and does not. What the kubelet began may take long.
fn pending(pod: &Pod) -> Option<&PodCondition> {
    if pod.metadata.deletion_timestamp.is_some() || matches!(phase(pod), "Succeeded" | "Failed") {
        return None;
    }
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|condition| condition.type_ == KIND)?;
    (found.status == "True" && found.reason.as_deref() != Some("TerminationByKubelet")).then_some(found)
}

/// How long to wait before the condition is stale; zero when it is.
fn wait(condition: &PodCondition, now: Timestamp) -> Duration {
    let since = condition.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    Duration::try_from(STALE_AFTER.saturating_sub(now.duration_since(since))).unwrap_or_default()
}

/// The pod with its condition taken back.
fn reset(pod: &Pod, now: Timestamp) -> Pod {
    let mut updated = pod.clone();
    let conditions = updated.status.iter_mut().filter_map(|status| status.conditions.as_mut()).flatten();
    for condition in conditions.filter(|condition| condition.type_ == KIND) {
        *condition = PodCondition { type_: KIND.into(), status: "False".into(), last_transition_time: Some(Time(now)), ..PodCondition::default() };
    }
    updated
}

impl Controller for StaleDisruptionController {
    const NAME: &'static str = "stale-disruption";
    const EVENT_SOURCE: Option<&'static str> = Some("controllermanager");

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary_when::<Pod>(|change| change.after().is_some_and(|pod| pending(pod).is_some()));
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(pod) = self.pods.get(key) else { return Ok(Outcome::Done) };
        let Some(condition) = pending(&pod.object) else { return Ok(Outcome::Done) };
        let left = wait(condition, cx.now());
        if !left.is_zero() {
            return Ok(Outcome::RequeueAfter(left));
        }
        write_status(&reset(&pod.object, cx.now()), &self.pods, cx).await?;
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_condition_is_taken_back_two_minutes_after_nothing_came_of_it() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "status": {"phase": "Running", "conditions": [
            {"type": KIND, "status": "True", "reason": "EvictionByEvictionAPI", "lastTransitionTime": "2026-01-01T00:00:00Z"},
        ]}}))
        .expect("a pod");
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let condition = pending(&pod).expect("pending");
        assert_eq!(wait(condition, at("2026-01-01T00:01:30Z")), Duration::from_secs(30));
        assert_eq!(wait(condition, at("2026-01-01T00:02:00Z")), Duration::ZERO);
        assert_eq!(pending(&reset(&pod, at("2026-01-01T00:02:00Z"))), None);
    }
}
