//! Requests and limits.

use serde_json::Value;

use super::names;
use crate::{
    resources::{int_or_string::display, quantity, tree::at},
    status::FieldError,
};

/// Whether more of a resource may be promised than there is.
fn may_overcommit(name: &str) -> bool {
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    native && !name.starts_with("hugepages-")
}

/// Checks a container's resources.
pub fn requirements(errors: &mut Vec<FieldError>, resources: &Value, field: &str) {
    let limits = at(resources, &["limits"]);
    for kind in ["limits", "requests"] {
        for (name, amount) in at(resources, &[kind]).as_object().into_iter().flatten() {
            let path = format!("{field}.{kind}[{name}]");
            resource_name(errors, name, &path);
            let Some(nanos) = quantity::value_nanos(amount) else { continue };
            if nanos < 0 {
                errors.push(FieldError::invalid(path.clone(), display(amount), "must be greater than or equal to 0"));
            }
            if name.contains('/') && nanos % 1_000_000_000 != 0 {
                errors.push(FieldError::invalid(path, display(amount), "must be an integer"));
            }
            if kind == "requests" {
                within_limit(errors, name, amount, nanos, limits, field);
            }
        }
    }
}

fn within_limit(errors: &mut Vec<FieldError>, name: &str, amount: &Value, nanos: i128, limits: &Value, field: &str) {
    let Some((limit, limit_nanos)) = limits.get(name).and_then(|limit| Some((limit, quantity::value_nanos(limit)?))) else {
        if !may_overcommit(name) {
            errors.push(FieldError::required(format!("{field}.limits"), "Limit must be set for non overcommitable resources"));
        }
        return;
    };
    let relation = match (may_overcommit(name), nanos.cmp(&limit_nanos)) {
        (_, std::cmp::Ordering::Equal) | (true, std::cmp::Ordering::Less) => return,
        (false, _) => "must be equal to",
        (true, std::cmp::Ordering::Greater) => "must be less than or equal to",
    };
    let detail = format!("{relation} {name} limit of {}", display(limit));
    errors.push(FieldError::invalid(format!("{field}.requests"), display(amount), detail));
}

fn resource_name(errors: &mut Vec<FieldError>, name: &str, path: &str) {
    let messages = names::qualified(name);
    if !messages.is_empty() {
        super::invalid_each(errors, path, name, messages);
        return;
    }
    let standard = ["cpu", "memory", "ephemeral-storage"].contains(&name) || name.starts_with("hugepages-");
    if !name.contains('/') && !standard {
        errors.push(FieldError::invalid(path, name, "must be a standard resource for containers"));
    }
}
