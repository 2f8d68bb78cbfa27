//! Controller references: whose object is it, and may it be adopted.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::json;
use troupe_api::{client::Api, meta::LabelSelector, service::PatchType, status::Status, stored::KubeObject};

/// What a controller should do about an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is ours and matches.
    Owned,
    /// It is ours but no longer matches.
    Release,
    /// It matches and has no controller.
    Adopt,
    /// Somebody else's, or of no interest.
    Ignore,
}

/// `PodControllerRefManager.ClaimObject`: by controller reference (uid) and selector.
pub fn claim(owner: &ObjectMeta, object: &ObjectMeta, selector: &LabelSelector) -> Claim {
    claim_if(owner, object, selector.matches(object.labels.as_ref().unwrap_or(&Default::default())))
}

/// The same where more than the selector says whether an object `matches`.
pub fn claim_if(owner: &ObjectMeta, object: &ObjectMeta, matches: bool) -> Claim {
    match controller_of(object) {
        Some(reference) if Some(&reference.uid) == owner.uid.as_ref() => {
            if matches {
                Claim::Owned
            } else {
                Claim::Release
            }
        }
        Some(_) => Claim::Ignore,
        None if matches && object.deletion_timestamp.is_none() && owner.deletion_timestamp.is_none() => Claim::Adopt,
        None => Claim::Ignore,
    }
}

/// The owner reference that is marked as controller.
pub fn controller_of(object: &ObjectMeta) -> Option<&OwnerReference> {
    object.owner_references.iter().flatten().find(|reference| reference.controller == Some(true))
}

/// The reference that makes `owner` the controller of an object; the owner's deletion waits for it in foreground.
pub fn controller_reference<K: KubeObject>(owner: &K) -> OwnerReference {
    let meta = owner.metadata();
    OwnerReference {
        api_version: K::API_VERSION.to_owned(),
        kind: K::KIND.to_owned(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Makes `owner` the controller of an object that has this UID. `None` when it is gone or another's.
pub async fn adopt<K: KubeObject>(api: &Api<K>, name: &str, uid: &str, owner: OwnerReference) -> Result<Option<Arc<K>>, Status> {
    // The UID in the patch keeps it from hitting a namesake.
    let patch = json!({"metadata": {"uid": uid, "ownerReferences": [owner]}});
    skip_gone(api.patch(name, "", PatchType::StrategicMerge, &patch).await)
}

/// The same, and gives the object a finalizer.
pub async fn adopt_with_finalizer<K: KubeObject>(
    api: &Api<K>,
    name: &str,
    uid: &str,
    owner: OwnerReference,
    finalizer: &str,
) -> Result<Option<Arc<K>>, Status> {
    let patch = json!({"metadata": {"uid": uid, "ownerReferences": [owner], "finalizers": [finalizer]}});
    skip_gone(api.patch(name, "", PatchType::StrategicMerge, &patch).await)
}

/// Takes `owner_uid` out of an object's owners.
pub async fn release<K: KubeObject>(api: &Api<K>, name: &str, uid: &str, owner_uid: &str) -> Result<Option<Arc<K>>, Status> {
    let patch = json!({"metadata": {"uid": uid, "ownerReferences": [{"$patch": "delete", "uid": owner_uid}]}});
    skip_gone(api.patch(name, "", PatchType::StrategicMerge, &patch).await)
}

/// The same, and takes a finalizer of `owner_uid`'s away.
pub async fn release_with_finalizer<K: KubeObject>(
    api: &Api<K>,
    name: &str,
    uid: &str,
    owner_uid: &str,
    finalizer: &str,
) -> Result<Option<Arc<K>>, Status> {
    let owners = json!([{"$patch": "delete", "uid": owner_uid}]);
    let patch = json!({"metadata": {"uid": uid, "ownerReferences": owners, "$deleteFromPrimitiveList/finalizers": [finalizer]}});
    skip_gone(api.patch(name, "", PatchType::StrategicMerge, &patch).await)
}

/// Takes a finalizer away.
pub async fn remove_finalizer<K: KubeObject>(api: &Api<K>, name: &str, uid: &str, finalizer: &str) -> Result<Option<Arc<K>>, Status> {
    let patch = json!({"metadata": {"uid": uid, "$deleteFromPrimitiveList/finalizers": [finalizer]}});
    skip_gone(api.patch(name, "", PatchType::StrategicMerge, &patch).await)
}

fn skip_gone<K>(result: Result<Arc<K>, Status>) -> Result<Option<Arc<K>>, Status> {
    match result {
        Ok(object) => Ok(Some(object)),
        Err(status) if status.is_not_found() || status.is_conflict() || status.code == 422 => Ok(None),
        Err(status) => Err(status),
    }
}
