//! Carries out the plan of a DaemonSet.

use std::sync::Arc;

use futures::future::join_all;
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet, DaemonSetStatus},
    core::v1::Pod,
};
use serde_json::json;
use troupe_api::{client::Api, meta::ObjectKey, service::PatchType, status::Status, stored::KubeObject};

use super::{
    history::records_template_of,
    plan::{Action, Why},
    template::{HASH_LABEL, pod_for_node},
};
use crate::{
    controllers::{
        owners::{adopt, controller_of, controller_reference, release},
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
                Action::DeletePod { pod, uid, why } => self.delete_pod(&pod, uid, &why).await?,
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
        match self.api().create(revision).await {
            Ok(made) => self.cx.wrote(self.revisions, &*made),
            Err(status) if status.is_already_exists() => return self.collision(revision).await,
            Err(status) => return Err(status.into()),
        }
        Ok(())
    }

    /// The name is taken: by this very revision (made before, not yet seen), or by another template with the same hash.
    async fn collision(&self, revision: &ControllerRevision) -> Result<(), ReconcileError> {
        let name = revision.metadata.name.clone().unwrap_or_default();
        let existing = self.api::<ControllerRevision>().get(&name).await?;
        let ours = controller_of(&existing.metadata).is_some_and(|owner| owner.uid == self.uid());
        if ours && records_template_of(&existing, self.set) {
            return Ok(());
        }
        let mut updated = self.set.clone();
        let status = updated.status.get_or_insert_default();
        status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
        self.cx.wrote(self.sets, &*self.api().update_status(&updated).await?);
        Err(ReconcileError::Other(format!("the name {name} is taken by another controller revision; another hash is tried")))
    }

    /// Creates pods in growing batches (1, 2, 4, …), so that a quota or a bad template costs one failed call and not hundreds.
    async fn create_pods(&self, nodes: &[String], hash: &str) -> Result<(), Status> {
        let api = self.api::<Pod>();
        let about = ReconcileContext::reference(self.set);
        let (mut left, mut batch) = (nodes, 1);
        while !left.is_empty() {
            let (now, later) = left.split_at(batch.min(left.len()));
            let pods: Vec<Pod> = now.iter().map(|node| pod_for_node(self.set, node, hash, controller_reference(self.set))).collect();
            let mut failure = None;
            for result in join_all(pods.iter().map(|pod| api.create(pod))).await {
                match result {
                    Ok(made) => {
                        self.cx.wrote(self.pods, &*made);
                        let name = made.metadata.name.as_deref().unwrap_or_default();
                        self.cx.events().normal(&about, "SuccessfulCreate", format!("Created pod: {name}"));
                    }
                    // The namespace goes away: nothing can be made in it, and nobody needs it.
                    Err(status) if status.message.contains("because it is being terminated") => return Ok(()),
                    Err(status) => {
                        self.cx.events().warning(&about, "FailedCreate", format!("Error creating: {status}"));
                        failure = Some(status);
                    }
                }
            }
            if let Some(status) = failure {
                return Err(status);
            }
            (left, batch) = (later, batch * 2);
        }
        Ok(())
    }

    async fn delete_pod(&self, pod: &str, uid: String, why: &Why) -> Result<(), ReconcileError> {
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
        match delete_with_uid(&self.api::<Pod>(), pod, &uid).await {
            Ok(()) => self.cx.events().normal(&about, "SuccessfulDelete", format!("Deleted pod: {pod}")),
            Err(status) => {
                self.cx.events().warning(&about, "FailedDelete", format!("Error deleting: {status}"));
                return Err(status.into());
            }
        }
        self.cx.deleted(self.pods, self.key(pod), uid);
        Ok(())
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
