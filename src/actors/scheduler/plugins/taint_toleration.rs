//! TaintToleration: nodes with taints that the pod does not tolerate are out, or less liked (`PreferNoSchedule`).

use k8s_openapi::api::core::v1::{Taint, Toleration};

use crate::scheduler::{
    framework::{ClusterChange, Plugin, Rejection, normalize_to_largest},
    node_info::{NodeInfo, PodInfo},
};

/// See the module.
pub struct TaintToleration;

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let hard = taints(node).iter().filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"));
        if hard.into_iter().all(|taint| tolerated(pod, taint)) { Ok(()) } else { Err(Rejection::unresolvable("node(s) had untolerated taint(s)")) }
    }

    fn score(&self, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let soft = taints(node).iter().filter(|taint| taint.effect == "PreferNoSchedule" && !tolerated(pod, taint));
        i64::try_from(soft.count()).unwrap_or(i64::MAX)
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize_to_largest(scores, true);
    }

    fn weight(&self) -> i64 {
        3
    }

    fn may_help(&self, change: ClusterChange) -> bool {
        matches!(change, ClusterChange::NodeAdded | ClusterChange::NodeUpdated | ClusterChange::PodUpdated)
    }
}

fn taints(node: &NodeInfo) -> &[Taint] {
    node.node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
}

/// Whether one of the pod's tolerations covers the taint.
pub fn tolerated(pod: &PodInfo, taint: &Taint) -> bool {
    let tolerations = pod.pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    tolerations.iter().any(|toleration| tolerates(toleration, taint))
}

/// `v1.Toleration.ToleratesTaint`.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let same_or_unset = |wanted: Option<&str>, actual: &str| wanted.is_none_or(|wanted| wanted.is_empty() || wanted == actual);
    if !same_or_unset(toleration.effect.as_deref(), &taint.effect) || !same_or_unset(toleration.key.as_deref(), &taint.key) {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or("Equal") {
        "Exists" => true,
        "Equal" | "" => toleration.value.as_deref().unwrap_or("") == taint.value.as_deref().unwrap_or(""),
        _ => false,
    }
}
