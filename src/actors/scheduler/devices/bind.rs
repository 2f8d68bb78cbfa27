//! Effects: what was decided for a pod's claims is written, and devices that have to be made ready are waited for.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::{
        core::v1::Pod,
        resource::v1::{AllocationResult, ResourceClaim},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::json;
use troupe_api::{
    meta::ObjectKey,
    service::{DeleteOptions, PatchType},
    status::Status,
};
use troupe_api_client::Client;

use super::{
    assumed::Choice,
    caches::DeviceCaches,
    extended::{self, Requests},
    readiness::{Readiness, has_timed_out, has_to_wait, readiness},
};
use crate::devices::{FINALIZER, allocation, consumer, is_reserved_for, key_of, reserved_for};

/// How often a claim that others change meanwhile is written anew.
const TRIES: usize = 5;
/// How long a cache may take to show what was written.
const LAG: Duration = Duration::from_secs(30);
/// Between two looks at devices that are made ready.
const INTERVAL: Duration = Duration::from_millis(200);

/// Writes what a pod's claims get, and that the pod may use them; then waits for what has to be made ready.
///
/// # Errors
/// When somebody else was faster, or devices do not become ready. The pod is to be scheduled again.
pub async fn bind(client: &Client, caches: &DeviceCaches, pod: &Pod, choice: Option<Arc<Choice>>, patience: Duration) -> Result<(), Status> {
    let claims = caches.claims_of(pod).map_err(Status::internal)?;
    let mut waits = Vec::new();
    for claim in claims {
        let got = choice.as_ref().and_then(|choice| choice.results.get(claim.metadata.uid.as_deref()?));
        let claim = if is_reserved_for(pod, &claim) { claim } else { bind_claim(client, caches, pod, claim, got).await? };
        if has_to_wait(&claim) {
            waits.push(key_of(&claim.metadata));
        }
    }
    if let Some((requests, got)) = choice.as_ref().and_then(|choice| choice.extended.as_ref()) {
        let claim = make_extended(client, caches, pod, requests, got).await?;
        if has_to_wait(&claim) {
            waits.push(key_of(&claim.metadata));
        }
    }
    loop {
        let mut all_ready = true;
        for key in &waits {
            all_ready &= is_ready(caches, key, patience)?;
        }
        if all_ready {
            return Ok(());
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Makes the claim for a pod's extended resources, and says in the pod which it is.
async fn make_extended(
    client: &Client,
    caches: &DeviceCaches,
    pod: &Pod,
    requests: &Requests,
    got: &AllocationResult,
) -> Result<Arc<ResourceClaim>, Status> {
    let pod_key = key_of(&pod.metadata);
    let made = client.namespaced::<ResourceClaim>(pod_key.namespace.clone()).create(&extended::asking(pod, requests)).await?;
    let claim = bind_claim(client, caches, pod, made, Some(got)).await?;
    let told = json!({"resourceClaimName": claim.metadata.name, "requestMappings": requests.mappings});
    let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"extendedResourceClaimStatus": told}});
    client.namespaced::<Pod>(pod_key.namespace.clone()).patch(&pod_key.name, "status", PatchType::StrategicMerge, &patch).await?;
    Ok(claim)
}

/// Deletes a claim that was made for a pod that did not get its node.
///
/// # Errors
/// When somebody else changed it meanwhile.
pub async fn delete(client: &Client, claim: &ResourceClaim) -> Result<(), Status> {
    let key = key_of(&claim.metadata);
    let api = client.namespaced::<ResourceClaim>(key.namespace.clone());
    let mut freed = claim.clone();
    freed.metadata.finalizers.get_or_insert_default().retain(|finalizer| finalizer != FINALIZER);
    api.update(&freed).await?;
    api.delete(&key.name, DeleteOptions { precondition_uid: claim.metadata.uid.clone(), ..DeleteOptions::default() }).await
}

fn is_ready(caches: &DeviceCaches, key: &ObjectKey, patience: Duration) -> Result<bool, Status> {
    let claim = caches.claim(&key.namespace, &key.name).ok_or_else(|| Status::internal(format!("resourceclaim {:?} not found", key.name)))?;
    match readiness(&claim) {
        Readiness::Ready => Ok(true),
        Readiness::Failed(why) => Err(Status::internal(why)),
        Readiness::Waiting if has_timed_out(&claim, patience, caches.clock.now()) => {
            Err(Status::internal(format!("device binding timeout: claim={}", key.name)))
        }
        Readiness::Waiting => Ok(false),
    }
}

/// Writes one claim, and waits until the cache shows it.
async fn bind_claim(
    client: &Client,
    caches: &DeviceCaches,
    pod: &Pod,
    claim: Arc<ResourceClaim>,
    got: Option<&AllocationResult>,
) -> Result<Arc<ResourceClaim>, Status> {
    let key = key_of(&claim.metadata);
    let api = client.namespaced::<ResourceClaim>(key.namespace.clone());
    let mut claim = claim;
    for attempt in 1.. {
        match write(&api, caches, pod, &claim, got).await {
            Ok(written) => {
                if let Some(revision) = written.metadata.resource_version.as_deref().and_then(|text| text.parse().ok()) {
                    caches.claims.wait_for(revision, LAG).await;
                }
                return Ok(written);
            }
            Err(status) if status.is_conflict() && attempt < TRIES => claim = api.get(&key.name).await?,
            Err(status) => return Err(status),
        }
    }
    Ok(claim)
}

async fn write(
    api: &troupe_api_client::Api<ResourceClaim>,
    caches: &DeviceCaches,
    pod: &Pod,
    claim: &ResourceClaim,
    got: Option<&AllocationResult>,
) -> Result<Arc<ResourceClaim>, Status> {
    let key = key_of(&claim.metadata);
    let lost = |what: &str| Status::internal(format!("claim {key} got {what} in the meantime"));
    if claim.metadata.deletion_timestamp.is_some() {
        return Err(lost("deleted"));
    }
    if is_reserved_for(pod, claim) {
        return Ok(Arc::new(claim.clone()));
    }
    let mut claim = claim.clone();
    if let Some(got) = got {
        if allocation(&claim).is_some() {
            return Err(lost("allocated elsewhere"));
        }
        // Finalizers are no part of the status.
        if !claim.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER) {
            claim.metadata.finalizers.get_or_insert_default().push(FINALIZER.to_owned());
            claim = api.update(&claim).await.map(Arc::unwrap_or_clone)?;
        }
        claim.status.get_or_insert_default().allocation = Some(got.clone());
    }
    let status = claim.status.get_or_insert_default();
    let Some(allocation) = &mut status.allocation else { return Err(lost("deallocated elsewhere")) };
    allocation.allocation_timestamp.get_or_insert(Time(caches.clock.now()));
    // Whether there is room for one more the API knows best.
    status.reserved_for.get_or_insert_default().push(consumer(pod));
    api.update_status(&claim).await
}

/// Takes from a claim what it got, because the only pod that wants it cannot use it there.
///
/// # Errors
/// When somebody else changed it meanwhile.
pub async fn deallocate(client: &Client, claim: &ResourceClaim) -> Result<(), Status> {
    let mut claim = claim.clone();
    let status = claim.status.get_or_insert_default();
    (status.allocation, status.devices, status.reserved_for) = (None, None, None);
    let api = client.namespaced::<ResourceClaim>(claim.metadata.namespace.clone().unwrap_or_default());
    api.update_status(&claim).await.map(drop)
}

/// Whether nobody but a pod uses a claim.
pub fn is_used_by_none_but(pod: &Pod, claim: &ResourceClaim) -> bool {
    match reserved_for(claim) {
        [] => true,
        [only] => Some(&only.uid) == pod.metadata.uid.as_ref(),
        _ => false,
    }
}
