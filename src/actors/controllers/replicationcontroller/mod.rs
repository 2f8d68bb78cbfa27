//! ReplicationController: the older form of a ReplicaSet. It is planned as the ReplicaSet it amounts to.

pub mod plan;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::ReplicaSetStatus,
    core::v1::{PodTemplateSpec, ReplicationController},
};
use troupe_api::meta::LabelSelector;

use super::{
    pod_digest::PodDigest,
    replicaset::{ReplicasController, Replicated, plan::Plan},
};

/// See the module.
pub type ReplicationControllerController = ReplicasController<ReplicationController>;

impl Replicated for ReplicationController {
    const CONTROLLER: &'static str = "replicationcontroller";
    const EVENT_SOURCE: Option<&'static str> = Some("replication-controller");

    fn selector(&self) -> Option<LabelSelector> {
        // An empty one, which the API does not let in, would select every pod.
        let labels = self.spec.as_ref()?.selector.as_ref().filter(|labels| !labels.is_empty())?;
        Some(LabelSelector::from_map(labels))
    }

    fn template(&self) -> PodTemplateSpec {
        self.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default()
    }

    fn wanted(&self) -> usize {
        self.spec.as_ref().map_or(0, |spec| usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0))
    }

    fn plan(&self, pods: &[Arc<PodDigest>], related: &[Arc<PodDigest>], failure: Option<&str>, now: Timestamp) -> Plan {
        plan::plan(self, pods, related, failure, now)
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        ReplicationController { status: Some(plan::from_set_status(status)), ..self.clone() }
    }
}
