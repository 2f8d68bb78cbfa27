//! Ephemeral containers: visitors that a pod does not rely on.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{super::Field, Facts, container};
use crate::{resources::tree, status::FieldError};

/// What such a container may not have.
const FORBIDDEN: [&str; 9] =
    ["ports", "resources", "resizePolicy", "restartPolicy", "restartPolicyRules", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle"];
const DETAIL: &str = "cannot be set for an Ephemeral Container";

/// Checks the ephemeral containers of a pod; `names` are those of the others.
pub fn containers<'a>(errors: &mut Vec<FieldError>, containers: &Field<'a>, facts: &Facts<'_>, names: &mut BTreeSet<&'a str>) {
    let others = names.clone();
    for (container, value) in containers.each().zip(containers.items()) {
        container::common(errors, &container, facts);
        container::image_of_pod(errors, &container);
        if !names.insert(tree::text(value, &["name"])) {
            errors.push(container.child("name").duplicate());
        }
        let target = container.child("targetContainerName");
        if !target.text().is_empty() && !others.contains(target.text()) {
            errors.push(target.not_found(""));
        }
        for name in FORBIDDEN {
            if !is_zero(container.child(name).value) {
                errors.push(container.child(name).forbidden(DETAIL));
            }
        }
        for mount in container.child("volumeMounts").each() {
            for name in ["subPath", "subPathExpr"] {
                if !mount.child(name).text().is_empty() {
                    errors.push(mount.child(name).forbidden(DETAIL));
                }
            }
        }
    }
}

/// Missing, or as empty as a missing one.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}
