//! Nodes.

use serde_json::Value;

use super::{invalid_each, ip, names};
use crate::{
    meta::Object,
    resources::tree::text,
    status::{FieldError, FieldErrorKind},
};

/// Checks a new node.
pub fn node(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    taints(&mut errors, object.list(&["spec", "taints"]), "metadata.taints");
    let cidrs = object.list(&["spec", "podCIDRs"]);
    for (index, cidr) in cidrs.iter().filter_map(Value::as_str).enumerate() {
        ip::cidr(&mut errors, &format!("spec.podCIDRs[{index}]"), cidr);
    }
    errors
}

/// Checks what an update does to a node.
pub fn node_update(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = node(new);
    let addresses = new.list(&["status", "addresses"]);
    for (index, address) in addresses.iter().enumerate() {
        if addresses[..index].contains(address) {
            errors.push(FieldError::duplicate(format!("status.addresses[{index}]"), address.clone()));
        }
    }
    let before = old.list(&["spec", "podCIDRs"]);
    if !before.is_empty() && before != new.list(&["spec", "podCIDRs"]) {
        errors.push(FieldError::forbidden("spec.podCIDRs", "node updates may not change podCIDR except from \"\" to valid"));
    }
    let provider = |object: &Object| object.str(&["spec", "providerID"]).to_owned();
    if !provider(old).is_empty() && provider(old) != provider(new) {
        errors.push(FieldError::forbidden("spec.providerID", "node updates may not change providerID except from \"\" to valid"));
    }
    errors
}

fn taints(errors: &mut Vec<FieldError>, taints: &[Value], path: &str) {
    for (index, taint) in taints.iter().enumerate() {
        let field = format!("{path}[{index}]");
        let (key, value, effect) = (text(taint, &["key"]), text(taint, &["value"]), text(taint, &["effect"]));
        invalid_each(errors, &format!("{field}.key"), key, names::qualified(key));
        let messages = names::label_value(value);
        if !messages.is_empty() {
            errors.push(FieldError::invalid(format!("{field}.value"), value, messages.join(";")));
        }
        super::one_of(errors, &format!("{field}.effect"), effect, &["NoSchedule", "PreferNoSchedule", "NoExecute"]);
        let same = |other: &Value| text(other, &["key"]) == key && text(other, &["effect"]) == effect;
        if taints[..index].iter().any(same) {
            errors.push(FieldError {
                kind: FieldErrorKind::Duplicate,
                field,
                value: Some(taint.to_string()),
                detail: "taints must be unique by key and effect pair".to_owned(),
            });
        }
    }
}
