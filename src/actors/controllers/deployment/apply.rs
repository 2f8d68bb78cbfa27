//! Carries out the plan of a Deployment.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use troupe_api::meta::ObjectKey;
use troupe_api_client::Api;

use super::{history::REVISION, model::wanted, plan::Action, status::with_create_error, template::same_template};
use crate::{
    controllers::{
        owners::{Adopter, controller_of},
        writes::{delete_with_uid, is_namespace_terminating, write_status},
    },
    runtime::{
        cache::Cache,
        controller::{ReconcileContext, ReconcileError},
    },
};

/// Applies the actions in order.
pub async fn apply(
    deployment: &Deployment,
    actions: Vec<Action>,
    deployments: &Cache<Deployment>,
    sets: &Cache<ReplicaSet>,
    cx: &ReconcileContext,
) -> Result<(), ReconcileError> {
    let namespace = deployment.metadata.namespace.clone().unwrap_or_default();
    let api = cx.client().namespaced::<ReplicaSet>(namespace.as_str());
    let own = cx.client().namespaced::<Deployment>(namespace.as_str());
    let adopter = Adopter::new(deployment, sets, cx);
    // The newest version: a status update carries annotations along and must not bring back older ones.
    let mut current = deployment.clone();
    for action in actions {
        match action {
            Action::Adopt { set, uid } => adopter.adopt(&set, &uid).await?,
            Action::Release { set, uid } => adopter.release(&set, &uid).await?,
            Action::CreateReplicaSet(set) => create(deployment, &set, &api, &own, sets, cx).await?,
            Action::UpdateReplicaSet(set) => {
                announce_scaling(deployment, &set, sets, cx);
                let written = api.update(&set).await?;
                cx.wrote(sets, &*written);
            }
            Action::DeleteReplicaSet { name, uid } => {
                delete_with_uid(&api, &name, &uid).await?;
                cx.deleted(sets, ObjectKey::new(namespace.as_str(), name), uid);
            }
            Action::Annotate { revision } => {
                // A write of the status takes annotations along, and leaves the generation as it is.
                current.metadata.annotations.get_or_insert_default().insert(REVISION.into(), revision);
                let written = own.update_status(&current).await?;
                cx.wrote(deployments, &*written);
                current = (*written).clone();
            }
            Action::UpdateStatus(status) => write_status(&Deployment { status: Some(*status), ..current.clone() }, deployments, cx).await?,
        }
    }
    Ok(())
}

async fn create(
    deployment: &Deployment,
    set: &ReplicaSet,
    api: &Api<ReplicaSet>,
    own: &Api<Deployment>,
    sets: &Cache<ReplicaSet>,
    cx: &ReconcileContext,
) -> Result<(), ReconcileError> {
    match api.create(set).await {
        Ok(made) => {
            let name = made.metadata.name.clone().unwrap_or_default();
            if wanted(&made) > 0 {
                let message = format!("Scaled up replica set {name} from 0 to {}", wanted(&made));
                cx.events().normal(&ReconcileContext::reference(deployment), "ScalingReplicaSet", message);
            }
            cx.wrote(sets, &*made);
            Ok(())
        }
        Err(status) if status.is_already_exists() => collision(deployment, set, api, own).await,
        Err(status) if is_namespace_terminating(&status) => Ok(()),
        Err(status) => {
            let message = format!("Failed to create new replica set \"{}\": {status}", set.metadata.name.as_deref().unwrap_or_default());
            if let Some(failed) = with_create_error(deployment, &message, cx.now()) {
                // It is tried again with the set; that this one failed is what has to be told.
                let _ = own.update_status(&Deployment { status: Some(failed), ..deployment.clone() }).await;
            }
            cx.events().warning(&ReconcileContext::reference(deployment), "ReplicaSetCreateError", message);
            Err(status.into())
        }
    }
}

/// The name is taken: by this very set (made before, not yet seen), or by another template with the same hash.
async fn collision(deployment: &Deployment, set: &ReplicaSet, api: &Api<ReplicaSet>, own: &Api<Deployment>) -> Result<(), ReconcileError> {
    let name = set.metadata.name.clone().unwrap_or_default();
    let existing = api.get(&name).await?;
    let ours = controller_of(&existing.metadata).map(|owner| &owner.uid) == deployment.metadata.uid.as_ref();
    let template = |set: &ReplicaSet| set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
    if ours && same_template(&template(&existing), &template(set)) {
        return Ok(());
    }
    let mut updated = deployment.clone();
    let status = updated.status.get_or_insert_default();
    status.collision_count = Some(status.collision_count.unwrap_or(0).saturating_add(1));
    own.update_status(&updated).await?;
    Err(ReconcileError::Other(format!("the name {name} is taken by another replica set; another hash is tried")))
}

fn announce_scaling(deployment: &Deployment, set: &ReplicaSet, sets: &Cache<ReplicaSet>, cx: &ReconcileContext) {
    let key = ObjectKey::new(set.metadata.namespace.clone().unwrap_or_default(), set.metadata.name.clone().unwrap_or_default());
    let Some(before) = sets.get(&key).map(|cached| wanted(&cached.object)) else { return };
    let after = wanted(set);
    if before != after {
        let direction = if after > before { "up" } else { "down" };
        let message = format!("Scaled {direction} replica set {} from {before} to {after}", key.name);
        cx.events().normal(&ReconcileContext::reference(deployment), "ScalingReplicaSet", message);
    }
}
