//! Controller references: whose object is it, and may it be adopted.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use troupe_api::{meta::LabelSelector, stored::KubeObject};

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
    let matches = selector.matches(object.labels.as_ref().unwrap_or(&Default::default()));
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
