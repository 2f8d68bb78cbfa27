//! Carries out the plan of a ReplicaSet or ReplicationController.

use k8s_openapi::api::core::v1::Pod;
use troupe_api::status::Status;

use super::{Replicated, plan::Action};
use crate::{
    controllers::{
        owners::Adopter,
        pod_control::{PodControl, pod_from_template},
        writes,
    },
    runtime::{
        cache::Cache,
        controller::{ReconcileContext, ReconcileError},
    },
};

/// Applies the actions. Says with which status creating pods failed, if it did; other failures are errors.
pub async fn apply<K: Replicated>(
    owner: &K,
    actions: &[Action],
    owners: &Cache<K>,
    pods: &Cache<Pod>,
    cx: &ReconcileContext,
) -> Result<Option<Status>, ReconcileError> {
    let adopter = Adopter::new(owner, pods, cx);
    let control = PodControl::new(owner, owners, pods, cx);
    let mut failure = None;
    for action in actions {
        match action {
            Action::Adopt { pod, uid } => adopter.adopt(pod, uid).await?,
            Action::Release { pod, uid } => adopter.release(pod, uid).await?,
            Action::Create { count } => {
                let template = owner.template();
                failure = control.create(*count, |_| pod_from_template(&template, owner)).await.err().map(|failed| failed.status);
            }
            Action::Delete { pod, uid } => control.delete(pod, uid).await?,
            Action::UpdateStatus(_) if failure.is_some() => {}
            Action::UpdateStatus(_) => write_status(owner, std::slice::from_ref(action), owners, cx).await?,
        }
    }
    Ok(failure)
}

/// Writes the status among the actions.
pub async fn write_status<K: Replicated>(owner: &K, actions: &[Action], owners: &Cache<K>, cx: &ReconcileContext) -> Result<(), ReconcileError> {
    let status = actions.iter().find_map(|action| if let Action::UpdateStatus(status) = action { Some(status) } else { None });
    let Some(status) = status else { return Ok(()) };
    Ok(writes::write_status(&owner.with_status((**status).clone()), owners, cx).await?)
}
