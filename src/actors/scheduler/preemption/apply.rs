//! Effects of preemption: pods are removed through the API.

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use troupe_api::{
    meta::GroupResource,
    service::{DeleteOptions, PatchType},
    status::Status,
};
use troupe_api_client::Client;

use crate::{
    pod_conditions,
    scheduler::{framework::Victim, placed_pod::PREEMPTED},
};

/// Removes pods, and returns those that were removed just now; such as go already are left alone.
///
/// # Errors
/// The first call that failed, other than for a pod that is gone.
pub async fn remove(client: &Client, victims: &[Victim], scheduler: &str, now: &str) -> (Vec<Victim>, Result<(), Status>) {
    let going = victims.iter().filter(|victim| !victim.is_terminating);
    let removed = join_all(going.map(|victim| async move { (victim, remove_one(client, victim, scheduler, now).await) })).await;
    let (mut gone, mut outcome) = (Vec::new(), Ok(()));
    for (victim, result) in removed {
        match result {
            Ok(()) => gone.push(victim.clone()),
            Err(error) if error.is_not_found() => {}
            Err(error) => outcome = outcome.and(Err(error)),
        }
    }
    (gone, outcome)
}

async fn remove_one(client: &Client, victim: &Victim, scheduler: &str, now: &str) -> Result<(), Status> {
    let condition = json!({
        "type": "DisruptionTarget", "status": "True", "reason": PREEMPTED,
        "message": format!("{scheduler}: preempting to accommodate a higher priority pod"),
        "lastTransitionTime": now, "observedGeneration": victim.generation,
    });
    let pods = client.namespaced::<Pod>(victim.key.namespace.clone());
    // Which conditions it has says where this one comes.
    let pod = pods.get(&victim.key.name).await?;
    if pod.metadata.uid.as_deref() != Some(&*victim.uid) {
        return Err(Status::not_found(&GroupResource::new("", "pods"), &victim.key.name));
    }
    let patch = json!({"metadata": {"uid": &*victim.uid}, "status": pod_conditions::setting(&pod, &condition)});
    pods.patch(&victim.key.name, "status", PatchType::StrategicMerge, &patch).await?;
    let options = DeleteOptions { precondition_uid: Some(victim.uid.to_string()), ..DeleteOptions::default() };
    pods.delete(&victim.key.name, options).await
}
