//! Comparing and hashing pod templates.

use k8s_openapi::api::core::v1::PodTemplateSpec;

use crate::controllers::name_hash::{START, fnv1a, safe_encode};

/// The label that tells the pods of one template from another's.
pub const HASH_LABEL: &str = "pod-template-hash";

/// Equal but for the hash label (`EqualIgnoreHash`).
pub fn same_template(one: &PodTemplateSpec, other: &PodTemplateSpec) -> bool {
    without_hash(one) == without_hash(other)
}

fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    if let Some(meta) = &mut template.metadata {
        if let Some(labels) = &mut meta.labels {
            labels.remove(HASH_LABEL);
        }
        meta.labels = meta.labels.take().filter(|labels| !labels.is_empty());
        // The API server fills it in as null; it says nothing.
        meta.creation_timestamp = None;
    }
    template
}

/// A short, stable hash of a template that is safe in names, different for each collision count.
pub fn template_hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    let encoded = serde_json::to_vec(&without_hash(template)).expect("a template always encodes");
    let mut hash = fnv1a(&encoded, START);
    if let Some(count) = collisions {
        hash = fnv1a(&count.to_le_bytes(), hash);
    }
    safe_encode(&hash.to_string())
}
