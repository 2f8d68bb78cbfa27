//! Carries out the plan of a DaemonSet.

use std::sync::Arc;

use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet, DaemonSetStatus},
    core::v1::Pod,
};
use serde_json::json;
use troupe_api::{client::Api, meta::ObjectKey, service::PatchType, status::Status, stored::KubeObject};

use super::{
    plan::{Action, Why},
    template::{HASH_LABEL, pod_for_node},
};
use crate::{
    controllers::{
        owners::{adopt, controller_reference, release},
        pod_control::PodControl,
        revisions::{Recorded, record, taken},
        writes::{delete_with_uid, is_gone},
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
        let mut failure = None;
        for action in actions {
            match action {
                Action::AdoptPod { pod, uid } => self.shown(self.pods, adopt(&self.api(), &pod, &uid, controller_reference(self.set)).await?),
                Action::ReleasePod { pod, uid } => self.shown(self.pods, release(&self.api(), &pod, &uid, self.uid()).await?),
                Action::AdoptRevision { name, uid } => {
                    self.shown(self.revisions, adopt(&self.api(), &name, &uid, controller_reference(self.set)).await?);
                }
                Action::ReleaseRevision { name, uid } => self.shown(self.revisions, release(&self.api(), &name, &uid, self.uid()).await?),
                Action::CreateRevision(revision) => self.create_revision(&revision).await?,
                Action::UpdateRevision(revision) => self.cx.wrote(self.revisions, &*self.api().update(&*revision).await?),
                Action::DeleteRevision { name, uid } => {
                    delete_with_uid(&self.api::<ControllerRevision>(), &name, &uid).await?;
                    self.cx.deleted(self.revisions, self.key(&name), uid);
                }
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

    fn uid(&self) -> &str {
        self.set.metadata.uid.as_deref().unwrap_or_default()
    }

    fn key(&self, name: &str) -> ObjectKey {
        ObjectKey::new(self.namespace(), name)
    }

    fn shown<K: KubeObject>(&self, cache: &Cache<K>, written: Option<Arc<K>>) {
        if let Some(written) = written {
            self.cx.wrote(cache, &*written);
        }
    }

    async fn create_revision(&self, revision: &ControllerRevision) -> Result<(), ReconcileError> {
        match record(&self.api(), revision).await? {
            Recorded::Made(made) => self.cx.wrote(self.revisions, &*made),
            Recorded::Known => {}
            Recorded::Taken => {
                let mut updated = self.set.clone();
                let status = updated.status.get_or_insert_default();
                status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
                self.cx.wrote(self.sets, &*self.api().update_status(&updated).await?);
                return Err(ReconcileError::Other(taken(revision)));
            }
        }
        Ok(())
    }

    async fn create_pods(&self, nodes: &[String], hash: &str) -> Result<(), Status> {
        let pods: Vec<Pod> = nodes.iter().map(|node| pod_for_node(self.set, node, hash, controller_reference(self.set))).collect();
        self.control().create(&pods).await.map_err(|failed| failed.status)
    }

    fn control(&self) -> PodControl<'_> {
        PodControl::new(self.set, self.pods, self.cx)
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
        // No resourceVersion: this controller alone writes the status.
        let mut updated = self.set.clone();
        updated.metadata.resource_version = None;
        updated.status = Some(status);
        match self.api().update_status(&updated).await {
            Ok(written) => self.cx.wrote(self.sets, &*written),
            Err(status) if is_gone(&status) => {}
            Err(status) => return Err(status.into()),
        }
        Ok(())
    }
}
