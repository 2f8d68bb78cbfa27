//! What a StatefulSet plans on: of each pod so little that thousands are planned on at each look.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use troupe_api::projection::MetaProjection;

use crate::{controllers::pods::PodStanding, runtime::cache::Digest};

/// Names the ControllerRevision that a pod was made from.
pub const REVISION_LABEL: &str = "controller-revision-hash";

/// See the module.
#[derive(Debug)]
pub struct MemberDigest {
    pub meta: Arc<MetaProjection>,
    pub standing: PodStanding,
    pub claims: VolumeClaims,
}

impl Digest<Pod> for MemberDigest {
    fn of(meta: &Arc<MetaProjection>, pod: &Pod) -> Self {
        MemberDigest { meta: meta.clone(), standing: PodStanding::of(pod), claims: VolumeClaims::of(pod) }
    }
}

impl MemberDigest {
    /// The revision that the pod says it was made from, or "".
    pub fn revision(&self) -> &str {
        self.meta.labels.get(REVISION_LABEL).unwrap_or_default()
    }

    pub fn is_running_and_ready(&self) -> bool {
        self.standing.phase == "Running" && self.standing.is_ready
    }

    /// Ready for at least `min_ready_seconds`.
    pub fn is_available(&self, min_ready_seconds: i32, now: Timestamp) -> bool {
        self.standing.is_available(min_ready_seconds, now)
    }
}

/// The claims that a pod's volumes are, by the names of the volumes.
#[derive(Debug, PartialEq, Eq)]
pub struct VolumeClaims(Box<[(Box<str>, Box<str>)]>);

impl VolumeClaims {
    pub fn of(pod: &Pod) -> Self {
        let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let claims = volumes.filter_map(|volume| {
            let claim = volume.persistent_volume_claim.as_ref()?;
            Some((volume.name.as_str().into(), claim.claim_name.as_str().into()))
        });
        let mut claims: Box<[(Box<str>, Box<str>)]> = claims.collect();
        claims.sort_unstable();
        VolumeClaims(claims)
    }

    /// The name of the claim that is the volume of this name.
    pub fn get(&self, volume: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(known, _)| (**known).cmp(volume)).ok()?;
        Some(&self.0[at].1)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::runtime::cache::digest_of;

    #[test]
    fn a_digest_says_what_its_pod_says() {
        let volumes = json!([
            {"name": "logs", "persistentVolumeClaim": {"claimName": "logs-db-0"}},
            {"name": "scratch", "emptyDir": {}},
            {"name": "data", "persistentVolumeClaim": {"claimName": "data-db-0"}},
        ]);
        let since = "2026-01-01T00:00:00Z";
        let conditions = json!([{"type": "Ready", "status": "True", "lastTransitionTime": since}]);
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "db-0", "namespace": "n", "uid": "u", "labels": {"controller-revision-hash": "db-7"}},
            "spec": {"containers": [], "volumes": volumes}, "status": {"phase": "Running", "conditions": conditions},
        }))
        .expect("a pod");
        let digest = digest_of::<Pod, MemberDigest>(&pod);
        let claims = ["data", "logs", "scratch", "none"].map(|volume| digest.claims.get(volume));
        assert_eq!(claims, [Some("data-db-0"), Some("logs-db-0"), None, None]);
        assert_eq!((digest.revision(), digest.is_running_and_ready()), ("db-7", true));
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        assert!(digest.is_available(10, at("2026-01-01T00:00:10Z")) && !digest.is_available(10, at("2026-01-01T00:00:09Z")));
    }
}
