//! Events.

use crate::{meta::Object, status::FieldError};

/// Checks an event: it lives in the namespace of what it is about, cluster-scoped things in `default`.
pub fn event(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let about = object.str(&["involvedObject", "namespace"]);
    let cluster_scoped = about.is_empty() && matches!(object.namespace(), "" | "default" | "kube-system");
    if !cluster_scoped && about != object.namespace() {
        errors.push(FieldError::invalid("involvedObject.namespace", about, "does not match event.namespace"));
    }
    if object.get(&["eventTime"]).is_none_or(serde_json::Value::is_null) {
        return errors;
    }
    for (path, field) in
        [("reportingComponent", "reportingController"), ("reportingInstance", "reportingInstance"), ("action", "action"), ("reason", "reason")]
    {
        if object.str(&[path]).is_empty() {
            errors.push(FieldError::required(field, ""));
        }
    }
    for (path, limit) in [("reportingInstance", 128), ("action", 128), ("reason", 128), ("message", 1024)] {
        if object.str(&[path]).len() > limit {
            errors.push(FieldError::invalid(path, "", format!("can have at most {limit} characters")));
        }
    }
    errors
}
