//! What of an object people change: everything but its status and what the server keeps about versions.
//!
//! Whoever set an object aside because work on it panicked tries again when this changed. A status that the failing work
//! itself wrote does not count, or it would try without end.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;
use troupe_api::stored::KubeObject;

/// A number that two versions of an object share that differ in nothing but what is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(u64);

impl Fingerprint {
    pub fn of<K: KubeObject>(object: &K) -> Self {
        let mut tree = serde_json::to_value(object).unwrap_or_default();
        if let Value::Object(fields) = &mut tree {
            fields.remove("status");
            if let Some(Value::Object(meta)) = fields.get_mut("metadata") {
                meta.remove("resourceVersion");
                meta.remove("managedFields");
            }
        }
        let mut hasher = DefaultHasher::new();
        tree.hash(&mut hasher);
        Fingerprint(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus};

    use super::*;

    #[test]
    fn a_status_is_not_of_the_essence_and_an_annotation_is() {
        let mut pod = Pod { spec: Some(PodSpec { node_name: Some("n".into()), ..PodSpec::default() }), ..Pod::default() };
        let before = Fingerprint::of(&pod);
        pod.status = Some(PodStatus { phase: Some("Running".into()), ..PodStatus::default() });
        pod.metadata.resource_version = Some("7".into());
        assert_eq!(Fingerprint::of(&pod), before);
        pod.metadata.annotations = Some([("try".to_owned(), "again".to_owned())].into());
        assert_ne!(Fingerprint::of(&pod), before);
    }
}
