//! What makes a pod valid.

use serde_json::Value;

use crate::{meta::Object, resources::validation::pod_spec::pod_spec, status::FieldError};

/// The spec of a pod, on create and update alike.
pub fn spec(pod: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    pod_spec(&mut errors, pod.get(&["spec"]).unwrap_or(&Value::Null), "spec", true);
    errors
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
    errors
}
