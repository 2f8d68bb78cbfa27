//! Finding the pods that use a claim.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use troupe_api::meta::ObjectKey;

use super::claims_of;
use crate::runtime::cache::Cache;

/// Files pods under `namespace/name` of the claims that they use.
const BY_CLAIM: &str = "claim";

/// The pods, filed by their claims.
pub fn index_by_claim(pods: Cache<Pod>) -> Cache<Pod> {
    pods.add_index(BY_CLAIM, |pod| {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        claims_of(pod).map(|claim| format!("{namespace}/{}", claim.name).into()).collect()
    });
    pods
}

/// The pods that use a claim.
pub fn users_of(pods: &Cache<Pod>, claim: &ObjectKey) -> Vec<Arc<Pod>> {
    pods.by_index(BY_CLAIM, &claim.to_string())
}

/// Their keys; nothing is decoded.
pub fn user_keys(pods: &Cache<Pod>, claim: &ObjectKey) -> Vec<ObjectKey> {
    let claim = claim.to_string();
    pods.index_keys_where(BY_CLAIM, &claim, |filed| filed == claim)
}
