//! Carries out the plan of a DaemonSet.

use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet, DaemonSetStatus},
    core::v1::Pod,
};
use serde_json::json;
use troupe_api::{service::PatchType, status::Status, stored::KubeObject};
use troupe_api_client::Api;

use super::{
    model::{Action, Why},
    template::{HASH_LABEL, pod_for_node},
};
use crate::{
    controllers::{
        owners::{Adopter, controller_reference},
        pod_control::PodControl,
        revisions::RevisionKeeper,
        writes::write_sole_status,
    },
    runtime::{
        cache::Cache,
        controller::{ReconcileContext, ReconcileError},
    },
};

/// What writing about one set needs.
pub struct Applier<'a> {
    pub set: &'a DaemonSet,
    pub sets: &'a Cache<DaemonSet>,
    pub pods: &'a Cache<Pod>,
    pub revisions: &'a Cache<ControllerRevision>,
    pub cx: &'a ReconcileContext,
}

impl Applier<'_> {
    /// Applies the actions in order. That pods cannot be made keeps no other action back, and is told at the end.
    pub async fn apply(&self, actions: Vec<Action>) -> Result<(), ReconcileError> {
        let adopter = Adopter::new(self.set, self.pods, self.cx);
        let keeper = RevisionKeeper::new(self.set, self.sets, self.revisions, self.cx);
        let mut failure = None;
        for action in actions {
            match action {
                Action::AdoptPod { pod, uid } => adopter.adopt(&pod, &uid).await?,
                Action::ReleasePod { pod, uid } => adopter.release(&pod, &uid).await?,
                Action::AdoptRevision { name, uid } => keeper.adopter().adopt(&name, &uid).await?,
                Action::ReleaseRevision { name, uid } => keeper.adopter().release(&name, &uid).await?,
                Action::CreateRevision(revision) => keeper.create(&revision).await?,
                Action::UpdateRevision(revision) => keeper.update(&revision).await?,
                Action::DeleteRevision { name, uid } => keeper.delete(&name, uid).await?,
                Action::RelabelPod { pod, uid, hash } => {
                    let patch = json!({"metadata": {"uid": uid, "labels": {HASH_LABEL: hash}}});
                    self.cx.wrote(self.pods, &*self.api().patch(&pod, "", PatchType::Merge, &patch).await?);
                }
                Action::CreatePods { nodes, hash } => failure = self.create_pods(&nodes, &hash).await.err(),
                Action::DeletePod { pod, uid, why } => self.delete_pod(&pod, &uid, &why).await?,
                Action::UpdateStatus(status) => self.write_status(*status).await?,
            }
        }
        failure.map_or(Ok(()), |status| Err(status.into()))
    }

    fn api<K: KubeObject>(&self) -> Api<K> {
        self.cx.client().namespaced(self.namespace())
    }

    fn namespace(&self) -> &str {
        self.set.metadata.namespace.as_deref().unwrap_or_default()
    }

    async fn create_pods(&self, nodes: &[String], hash: &str) -> Result<(), Status> {
        let make = |at: usize| pod_for_node(self.set, &nodes[at], hash, controller_reference(self.set));
        self.control().create(nodes.len(), make).await.map_err(|failed| failed.status)
    }

    fn control(&self) -> PodControl<'_, DaemonSet> {
        PodControl::new(self.set, self.sets, self.pods, self.cx)
    }

    async fn delete_pod(&self, pod: &str, uid: &str, why: &Why) -> Result<(), ReconcileError> {
        let about = ReconcileContext::reference(self.set);
        let namespace = self.namespace();
        match why {
            Why::Surplus => {}
            Why::Failed { node } => {
                let message = format!("Found failed daemon pod {namespace}/{pod} on node {node}, will try to kill it");
                self.cx.events().warning(&about, "FailedDaemonPod", message);
            }
            Why::Succeeded { node } => {
                let message = format!("Found succeeded daemon pod {namespace}/{pod} on node {node}, will try to delete it");
                self.cx.events().normal(&about, "SucceededDaemonPod", message);
            }
        }
        Ok(self.control().delete(pod, uid).await?)
    }

    async fn write_status(&self, status: DaemonSetStatus) -> Result<(), ReconcileError> {
        let give = |set: &mut DaemonSet| set.status = Some(status.clone());
        Ok(write_sole_status(self.set, give, self.sets, self.cx).await?)
    }
}
