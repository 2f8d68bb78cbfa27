//! How long evicted pods may take to end. Pure.

use k8s_openapi::api::core::v1::Pod;

use super::signals::Met;

/// How long the processes of evicted pods may take to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GracePeriods {
    /// Seconds for soft thresholds at most (upstream's `evictionMaxPodGracePeriod`); negative for as many as pods ask for.
    pub most: i32,
}

impl GracePeriods {
    /// Seconds for a pod that goes for a threshold; 0 for none at all.
    pub fn of(self, pod: &Pod, met: &Met) -> u64 {
        let own = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
        match u64::try_from(self.most) {
            _ if met.hard => 0,
            Ok(most) => own.map_or(most, |own| most.min(own.max(0).unsigned_abs())).max(1),
            Err(_) => own.unwrap_or(30).max(1).unsigned_abs(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kubelet::eviction::signals::Signal;

    #[test]
    fn soft_thresholds_grant_what_pods_ask_for_within_bounds() {
        let pod = |seconds: Option<i64>| -> Pod {
            let spec = json!({"containers": [], "terminationGracePeriodSeconds": seconds});
            serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).expect("a pod")
        };
        let met = |hard| Met { signal: Signal::NodefsAvailable, threshold: 2, available: 1, hard };
        let soft = |most, own| GracePeriods { most }.of(&pod(own), &met(false));
        assert_eq!((soft(20, Some(60)), soft(90, Some(60)), soft(20, None)), (20, 60, 20));
        assert_eq!((soft(0, Some(60)), soft(20, Some(0))), (1, 1), "upstream always grants a second");
        assert_eq!((soft(-1, Some(60)), soft(-1, None)), (60, 30), "pods' own count");
        assert_eq!(GracePeriods { most: 20 }.of(&pod(Some(60)), &met(true)), 0);
    }
}
