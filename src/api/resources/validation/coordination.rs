//! Leases.

use serde_json::Value;

use crate::{meta::Object, resources::tree::at, status::FieldError};

/// Checks a lease.
pub fn lease(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = object.get(&["spec"]).unwrap_or(&Value::Null);
    if let Some(seconds) = at(spec, &["leaseDurationSeconds"]).as_i64().filter(|seconds| *seconds <= 0) {
        errors.push(FieldError::invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0"));
    }
    if let Some(count) = at(spec, &["leaseTransitions"]).as_i64().filter(|count| *count < 0) {
        errors.push(FieldError::invalid("spec.leaseTransitions", count, "must be greater than or equal to 0"));
    }
    errors
}
