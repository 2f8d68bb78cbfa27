//! Carries out the plan of a ReplicaSet.

use futures::future::join_all;
use k8s_openapi::api::{
    apps::v1::ReplicaSet,
    core::v1::{Pod, PodTemplateSpec},
};
use troupe_api::{meta::ObjectKey, status::Status};

use super::plan::Action;
use crate::{
    controllers::{
        owners::{adopt, controller_reference, release},
        writes::{delete_with_uid, is_gone},
    },
    runtime::{
        cache::Cache,
        controller::{ReconcileContext, ReconcileError},
    },
};

/// Applies the actions. Says what creating pods failed with, if it did; other failures are errors.
pub async fn apply(
    set: &ReplicaSet,
    actions: &[Action],
    sets: &Cache<ReplicaSet>,
    pods: &Cache<Pod>,
    cx: &ReconcileContext,
) -> Result<Option<String>, ReconcileError> {
    let namespace = set.metadata.namespace.clone().unwrap_or_default();
    let api = cx.client().namespaced::<Pod>(namespace.as_str());
    let mut failure = None;
    for action in actions {
        match action {
            Action::Adopt { pod, uid } => {
                if let Some(adopted) = adopt(&api, pod, uid, controller_reference(set)).await? {
                    cx.wrote(pods, &*adopted);
                }
            }
            Action::Release { pod, uid } => {
                if let Some(released) = release(&api, pod, uid, set.metadata.uid.as_deref().unwrap_or_default()).await? {
                    cx.wrote(pods, &*released);
                }
            }
            Action::Create { count } => failure = create(set, *count, pods, cx).await.err().map(|status| status.message),
            Action::Delete { pod, uid } => {
                delete_with_uid(&api, pod, uid).await?;
                cx.deleted(pods, ObjectKey::new(namespace.as_str(), pod.as_str()), uid.as_str());
                cx.events().normal(&ReconcileContext::reference(set), "SuccessfulDelete", format!("Deleted pod: {pod}"));
            }
            Action::UpdateStatus(_) if failure.is_some() => {}
            Action::UpdateStatus(_) => write_status(set, std::slice::from_ref(action), sets, cx).await?,
        }
    }
    Ok(failure)
}

/// Writes the status among the actions.
pub async fn write_status(set: &ReplicaSet, actions: &[Action], sets: &Cache<ReplicaSet>, cx: &ReconcileContext) -> Result<(), ReconcileError> {
    let status = actions.iter().find_map(|action| if let Action::UpdateStatus(status) = action { Some(status) } else { None });
    let Some(status) = status else { return Ok(()) };
    let mut updated = set.clone();
    updated.status = Some((**status).clone());
    let api = cx.client().namespaced::<ReplicaSet>(set.metadata.namespace.clone().unwrap_or_default());
    match api.update_status(&updated).await {
        Ok(written) => cx.wrote(sets, &*written),
        Err(status) if is_gone(&status) => {}
        Err(status) => return Err(status.into()),
    }
    Ok(())
}

/// Creates pods in growing batches (1, 2, 4, …), so that a quota or a bad template costs one failed call and not hundreds.
async fn create(set: &ReplicaSet, count: usize, pods: &Cache<Pod>, cx: &ReconcileContext) -> Result<(), Status> {
    let template = set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
    let pod = pod_from_template(&template, set);
    let api = cx.client().namespaced::<Pod>(set.metadata.namespace.clone().unwrap_or_default());
    let about = ReconcileContext::reference(set);
    let (mut left, mut batch) = (count, 1);
    while left > 0 {
        let size = batch.min(left);
        let made = join_all((0..size).map(|_| api.create(&pod))).await;
        for result in made {
            match result {
                Ok(made) => {
                    cx.wrote(pods, &*made);
                    cx.events().normal(&about, "SuccessfulCreate", format!("Created pod: {}", made.metadata.name.as_deref().unwrap_or_default()));
                }
                // The namespace goes away: nothing can be made in it, and nobody needs it.
                Err(status) if status.message.contains("because it is being terminated") => return Ok(()),
                Err(status) => {
                    cx.events().warning(&about, "FailedCreate", format!("Error creating: {status}"));
                    return Err(status);
                }
            }
        }
        left -= size;
        batch *= 2;
    }
    Ok(())
}

/// The pod that a template of `owner` makes.
fn pod_from_template(template: &PodTemplateSpec, owner: &ReplicaSet) -> Pod {
    let mut pod = Pod { spec: template.spec.clone(), ..Pod::default() };
    if let Some(meta) = &template.metadata {
        pod.metadata.labels = meta.labels.clone();
        pod.metadata.annotations = meta.annotations.clone();
        pod.metadata.finalizers = meta.finalizers.clone();
    }
    pod.metadata.namespace = owner.metadata.namespace.clone();
    pod.metadata.generate_name = Some(format!("{}-", owner.metadata.name.as_deref().unwrap_or_default()));
    pod.metadata.owner_references = Some(vec![controller_reference(owner)]);
    pod
}
