//! What is kept of a pod that has a node.

use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use troupe_api::meta::ObjectKey;

use super::{
    demand::Demand,
    terms::{Labels, PodQuery, Terms},
};
use crate::{pod_phase::is_finished, storage::claims_of};

/// Reason of the condition `DisruptionTarget` of pods that the scheduler removes for others.
pub const PREEMPTED: &str = "PreemptionByScheduler";

static NO_TERMS: LazyLock<Arc<Terms>> = LazyLock::new(Arc::default);
static NO_CLAIMS: LazyLock<Arc<[String]>> = LazyLock::new(Arc::default);

/// A pod as others see it: all that is kept of it once it has a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedPod {
    pub demand: Demand,
    pub uid: Arc<str>,
    pub generation: i64,
    pub labels: Arc<Labels>,
    pub priority: i32,
    /// When its kubelet took it in.
    pub started: Option<Timestamp>,
    /// It is being deleted.
    pub is_terminating: bool,
    /// It is being deleted because the scheduler preempted it.
    pub is_preempted: bool,
    pub terms: Arc<Terms>,
    /// Names of the claims that it uses.
    pub claims: Arc<[String]>,
}

impl PlacedPod {
    pub fn of(pod: &Pod) -> Self {
        let terms = Terms::of(pod);
        let claims: Vec<String> = claims_of(pod).map(|claim| claim.name).collect();
        let is_terminating = pod.metadata.deletion_timestamp.is_some();
        PlacedPod {
            demand: Demand::of(pod),
            uid: pod.metadata.uid.as_deref().unwrap_or_default().into(),
            generation: pod.metadata.generation.unwrap_or(0),
            labels: Arc::new(pod.metadata.labels.clone().unwrap_or_default()),
            priority: pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0),
            started: pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0),
            is_terminating,
            is_preempted: is_terminating && is_disrupted_by_scheduler(pod),
            terms: if terms.is_empty() { NO_TERMS.clone() } else { Arc::new(terms) },
            claims: if claims.is_empty() { NO_CLAIMS.clone() } else { claims.into() },
        }
    }

    pub fn key(&self) -> &ObjectKey {
        &self.demand.key
    }

    /// Whether a query counts it.
    pub fn is_counted_by(&self, query: &PodQuery) -> bool {
        query.counts(self.namespace(), &self.labels, self.is_terminating)
    }

    pub fn namespace(&self) -> &str {
        &self.demand.key.namespace
    }
}

fn is_disrupted_by_scheduler(pod: &Pod) -> bool {
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions
        .find(|condition| condition.type_ == "DisruptionTarget")
        .is_some_and(|condition| condition.status == "True" && condition.reason.as_deref() == Some(PREEMPTED))
}

/// The node that a pod counts on.
pub fn place_of(pod: &Pod) -> Option<&str> {
    node_of(pod).filter(|_| !is_finished(pod))
}

/// The node that a pod has or had.
pub fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|node| !node.is_empty())
}

/// The node that was made free for a pod, by its status.
pub fn nominated_node(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.nominated_node_name.as_deref().filter(|name| !name.is_empty())
}
