//! What the controllers of workloads plan on: of each pod so little that thousands are planned on at each look.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use troupe_api::projection::MetaProjection;

use super::pods::{PodStanding, target_node};
use crate::runtime::cache::Digest;

/// See the module.
#[derive(Debug)]
pub struct PodDigest {
    pub meta: Arc<MetaProjection>,
    pub standing: PodStanding,
    target: Option<Box<str>>,
}

impl Digest<Pod> for PodDigest {
    fn of(meta: &Arc<MetaProjection>, pod: &Pod) -> Self {
        PodDigest { meta: meta.clone(), standing: PodStanding::of(pod), target: target_node(pod).map(Into::into) }
    }
}

impl PodDigest {
    /// The node that it is bound to.
    pub fn node(&self) -> Option<&str> {
        self.target().filter(|_| self.standing.is_assigned)
    }

    /// See [`target_node`].
    pub fn target(&self) -> Option<&str> {
        self.target.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::runtime::cache::digest_of;

    #[test]
    fn a_digest_says_what_its_pod_says() {
        let pod = |spec: serde_json::Value| {
            let metadata = json!({"name": "p", "namespace": "n", "uid": "u", "labels": {"app": "web"}});
            let object = json!({"metadata": metadata, "spec": spec, "status": {"phase": "Running"}});
            serde_json::from_value::<Pod>(object).expect("a pod")
        };
        let term = json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]});
        let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}});
        let waiting = digest_of::<Pod, PodDigest>(&pod(json!({"containers": [], "affinity": affinity})));
        assert_eq!((waiting.node(), waiting.target(), waiting.standing.phase), (None, Some("a"), "Running"));
        let bound = pod(json!({"containers": [], "nodeName": "b"}));
        let digest = digest_of::<Pod, PodDigest>(&bound);
        assert_eq!((digest.node(), digest.standing), (Some("b"), PodStanding::of(&bound)));
        assert_eq!((&*digest.meta.uid, digest.meta.labels.get("app")), ("u", Some("web")));
    }
}
