//! Carries out the plan of a StatefulSet.

use std::sync::Arc;

use k8s_openapi::api::{
    apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus},
    core::v1::{PersistentVolumeClaim, Pod},
};
use troupe_api::{meta::ObjectKey, status::Status, stored::KubeObject};
use troupe_api_client::Api;

use super::{
    claims,
    identity::{corrected, new_pod, pod_name},
    model::{Action, Template},
};
use crate::{
    controllers::{
        owners::{Adopter, is_staying},
        revisions::RevisionKeeper,
        writes::{delete_with_uid, is_namespace_terminating, write_sole_status},
    },
    runtime::{
        cache::Cache,
        controller::{ReconcileContext, ReconcileError},
    },
};

/// What writing about one set needs.
pub struct Applier<'a> {
    pub set: &'a StatefulSet,
    pub sets: &'a Cache<StatefulSet>,
    pub pods: &'a Cache<Pod>,
    pub claims: &'a Cache<PersistentVolumeClaim>,
    pub revisions: &'a Cache<ControllerRevision>,
    pub cx: &'a ReconcileContext,
}

impl Applier<'_> {
    /// Applies the actions in order. After one that fails only the status is written, without the pods that were not made.
    pub async fn apply(&self, actions: Vec<Action>) -> Result<(), ReconcileError> {
        let (mut failure, mut missing) = (None, Vec::new());
        for action in actions {
            if !is_staying(self.sets, self.set) {
                return Ok(());
            }
            let pod = if let Action::CreatePod { template, .. } = &action { Some(template.clone()) } else { None };
            let result = match action {
                Action::UpdateStatus(status) => self.write_status(without(*status, &missing)).await,
                _ if failure.is_some() => {
                    missing.extend(pod);
                    continue;
                }
                action => self.step(action).await,
            };
            match result {
                Ok(()) => {}
                Err(ReconcileError::Api(status)) if is_namespace_terminating(&status) => return Ok(()),
                Err(error) => {
                    missing.extend(pod);
                    failure = failure.or(Some(error));
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }

    async fn step(&self, action: Action) -> Result<(), ReconcileError> {
        match action {
            Action::AdoptPod { pod, uid } => Adopter::new(self.set, self.pods, self.cx).adopt(&pod, &uid).await?,
            Action::ReleasePod { pod, uid } => Adopter::new(self.set, self.pods, self.cx).release(&pod, &uid).await?,
            Action::AdoptRevision { name, uid } => self.keeper().adopter().adopt(&name, &uid).await?,
            Action::CreateRevision(revision) => self.keeper().create(&revision).await?,
            Action::UpdateRevision(revision) => self.keeper().update(&revision).await?,
            Action::DeleteRevision { name, uid } => self.keeper().delete(&name, uid).await?,
            Action::CreateClaim { template, ordinal } => {
                let claim = claims::new_claim(self.set, template, ordinal).ok_or_else(|| ReconcileError::Other("no such claim template".into()))?;
                self.create_claim(&claim, &pod_name(self.set, ordinal)).await?;
            }
            Action::UpdateClaim { claim, owners, conflict } => self.update_claim(&claims::with_owners(&claim, owners), conflict).await?,
            Action::CreatePod { template, ordinal } => {
                self.create_pod(&new_pod(self.set, &template.template, &template.revision, ordinal)).await?;
            }
            Action::UpdatePod { pod, uid, ordinal } => {
                let there = self.pods.get_once(&self.key(&pod)).filter(|there| there.metadata.uid.as_ref() == Some(&uid));
                let Some(there) = there else { return Ok(()) };
                let result = self.api().update(&corrected(self.set, &there, ordinal)).await;
                self.announce("Update", &pod, result.as_ref().err());
                self.cx.wrote(self.pods, &*result?);
            }
            Action::DeletePod { pod, uid } => {
                let result = delete_with_uid(&self.api::<Pod>(), &pod, &uid).await;
                self.announce("Delete", &pod, result.as_ref().err());
                result?;
                self.cx.deleted(self.pods, self.key(&pod), uid);
            }
            Action::Wait { pod, why, announce } => {
                if announce {
                    self.announce("Create", &pod, Some(&why));
                }
                return Err(ReconcileError::Other(why));
            }
            Action::UpdateStatus(status) => self.write_status(*status).await?,
        }
        Ok(())
    }

    fn api<K: KubeObject>(&self) -> Api<K> {
        self.cx.client().namespaced(self.set.metadata.namespace.clone().unwrap_or_default())
    }

    fn key(&self, name: &str) -> ObjectKey {
        ObjectKey::new(self.set.metadata.namespace.clone().unwrap_or_default(), name)
    }

    fn keeper(&self) -> RevisionKeeper<'_, StatefulSet> {
        RevisionKeeper::new(self.set, self.sets, self.revisions, self.cx)
    }

    async fn create_claim(&self, claim: &PersistentVolumeClaim, pod: &str) -> Result<(), ReconcileError> {
        let set = name(self.set);
        let about = ReconcileContext::reference(self.set);
        match self.api().create(claim).await {
            Ok(made) => {
                self.cx.wrote(self.claims, &*made);
                let message = format!("Create Claim {} Pod {pod} in StatefulSet {set} success", name(claim));
                self.cx.events().normal(&about, "SuccessfulCreate", message);
                Ok(())
            }
            // Made before, and not seen yet.
            Err(status) if status.is_already_exists() => Err(status.into()),
            Err(status) if is_namespace_terminating(&status) || status.code == 429 => Err(status.into()),
            Err(status) => {
                let message = format!("Create Claim {} for Pod {pod} in StatefulSet {set} failed error: {status}", name(claim));
                self.cx.events().warning(&about, "FailedCreate", message);
                let error = format!("failed to create PVC {}: {status}", name(claim));
                self.announce("Create", pod, Some(&error));
                Err(ReconcileError::Other(error))
            }
        }
    }

    async fn update_claim(&self, claim: &PersistentVolumeClaim, conflict: bool) -> Result<(), ReconcileError> {
        if conflict {
            let message = format!(
                "PersistentVolumeClaim {} has a conflicting OwnerReference that acts as a manging controller, the retention policy is ignored for this claim",
                name(claim)
            );
            self.cx.events().warning(&ReconcileContext::reference(self.set), "ConflictingController", message);
        }
        self.cx.wrote(self.claims, &*self.api().update(claim).await?);
        Ok(())
    }

    async fn create_pod(&self, pod: &Pod) -> Result<(), ReconcileError> {
        match self.api().create(pod).await {
            Ok(made) => {
                self.cx.wrote(self.pods, &*made);
                self.announce("Create", name(pod), None::<&Status>);
                Ok(())
            }
            // Somebody else's pod has the name, or ours was made and not seen yet.
            Err(status) if status.is_already_exists() || is_namespace_terminating(&status) => Err(status.into()),
            Err(status) => {
                self.announce("Create", name(pod), Some(&status));
                Err(status.into())
            }
        }
    }

    fn announce(&self, verb: &str, pod: &str, error: Option<&impl std::fmt::Display>) {
        let (set, about) = (name(self.set), ReconcileContext::reference(self.set));
        match error {
            None => self.cx.events().normal(&about, &format!("Successful{verb}"), format!("{verb} Pod {pod} in StatefulSet {set} successful")),
            Some(error) => {
                self.cx.events().warning(&about, &format!("Failed{verb}"), format!("{verb} Pod {pod} in StatefulSet {set} failed error: {error}"));
            }
        }
    }

    async fn write_status(&self, status: StatefulSetStatus) -> Result<(), ReconcileError> {
        let give = |set: &mut StatefulSet| set.status = Some(status.clone());
        Ok(write_sole_status(self.set, give, self.sets, self.cx).await?)
    }
}

fn name<K: KubeObject>(object: &K) -> &str {
    object.metadata().name.as_deref().unwrap_or_default()
}

/// The status without pods that were planned and could not be made.
fn without(mut status: StatefulSetStatus, missing: &[Arc<Template>]) -> StatefulSetStatus {
    let less = |count: Option<i32>| count.map(|count| count - 1).filter(|count| *count > 0);
    for revision in missing.iter().map(|template| template.revision.as_str()) {
        status.replicas -= 1;
        if status.current_revision.as_deref() == Some(revision) {
            status.current_replicas = less(status.current_replicas);
        }
        if status.update_revision.as_deref() == Some(revision) {
            status.updated_replicas = less(status.updated_replicas);
        }
    }
    status
}
