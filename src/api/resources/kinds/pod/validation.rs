//! What makes a pod valid.

use serde_json::Value;

use crate::{
    meta::Object,
    resources::validation::{
        Field,
        pod::{annotations, only_for_pods, pod_spec},
    },
    status::FieldError,
};

const NONE: &Value = &Value::Null;

/// The annotations and the spec of a pod, on create and update alike.
pub fn spec(pod: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::root("spec", pod.get(&["spec"]).unwrap_or(NONE));
    annotations::annotations(&mut errors, &annotations_of(pod), &spec);
    pod_spec(&mut errors, &spec, Some(pod.get(&["metadata"]).unwrap_or(NONE)));
    only_for_pods(&mut errors, &spec);
    errors
}

/// The annotations of a pod, where they stand.
pub fn annotations_of(pod: &Object) -> Field<'_> {
    Field::root("metadata.annotations", pod.get(&["metadata", "annotations"]).unwrap_or(NONE))
}

/// A new pod.
pub fn create(pod: &Object) -> Vec<FieldError> {
    let mut errors = spec(pod);
    if !pod.list(&["spec", "ephemeralContainers"]).is_empty() {
        errors.push(FieldError::forbidden("spec.ephemeralContainers", "cannot be set on create"));
    }
    if !pod.str(&["spec", "nodeName"]).is_empty() && !pod.list(&["spec", "schedulingGates"]).is_empty() {
        errors.push(FieldError::forbidden("spec.nodeName", "cannot be set until all schedulingGates have been cleared"));
    }
    annotations::match_fields(&mut errors, &annotations_of(pod), &Field::root("spec", pod.get(&["spec"]).unwrap_or(NONE)));
    errors
}
