//! Names of what pods and namespaces use of a cluster, and their amounts.

use super::Field;
use crate::{
    meta::{Quantity, amounts::quantity, names},
    status::FieldError,
};

const OF_QUOTAS: [&str; 19] = [
    "configmaps",
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];
const WHOLE_NUMBERS: [&str; 9] = [
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];

/// Whether a name is Kubernetes' own.
pub fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

pub fn is_huge(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// Whether more of a resource may be promised than there is.
pub fn may_overcommit(name: &str) -> bool {
    is_native(name) && !is_huge(name)
}

/// Whether a name stands for devices that somebody else added.
pub fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && names::qualified(&format!("requests.{name}")).is_empty()
}

/// Whether a quota knows the name.
pub fn is_of_quotas(name: &str) -> bool {
    OF_QUOTAS.contains(&name) || is_huge(name.strip_prefix("requests.").unwrap_or(name))
}

/// A name that stands for a resource anywhere in the API, at the place of its amount.
pub fn known(errors: &mut Vec<FieldError>, amount: &Field<'_>, name: &str) {
    let messages = names::qualified(name);
    if messages.is_empty() && !name.contains('/') && !is_of_quotas(name) && name != "storage" {
        errors.push(amount.invalid_as(name, "must be a standard resource type or fully qualified"));
    }
    errors.extend(messages.into_iter().map(|message| amount.invalid_as(name, message)));
}

/// A name that a quota may limit.
pub fn in_quota(errors: &mut Vec<FieldError>, amount: &Field<'_>, name: &str) {
    known(errors, amount, name);
    if !name.contains('/') && !is_of_quotas(name) {
        errors.push(amount.invalid_as(name, "must be a standard resource for quota"));
    }
}

/// A name that a container may ask for.
pub fn in_container(errors: &mut Vec<FieldError>, amount: &Field<'_>, name: &str) {
    known(errors, amount, name);
    in_container_by_its_name(errors, amount, name);
}

fn in_container_by_its_name(errors: &mut Vec<FieldError>, amount: &Field<'_>, name: &str) {
    let is_standard = ["cpu", "memory", "ephemeral-storage"].contains(&name) || is_huge(name);
    if !name.contains('/') && !is_standard {
        errors.push(amount.invalid_as(name, "must be a standard resource for containers"));
    } else if !is_native(name) && !is_extended(name) {
        errors.push(amount.invalid_as(name, "doesn't follow extended resource name standard"));
    }
}

/// A container's resource that is measured. Upstream judges its name by a rule of its own (`ValidateContainerResourceName` of core/v1),
/// which tells each fault once.
pub fn measured(errors: &mut Vec<FieldError>, field: &Field<'_>, name: &str) {
    let messages = names::qualified(name);
    if messages.is_empty() {
        return in_container_by_its_name(errors, field, name);
    }
    errors.extend(messages.into_iter().map(|message| field.invalid_as(name, message)));
}

/// An amount below zero, or a part of what comes only whole.
pub fn amount(errors: &mut Vec<FieldError>, amount: &Field<'_>, name: &str) {
    let Some(quantity) = quantity(amount.value) else { return };
    if quantity.sign() < 0 {
        errors.push(shown(amount, quantity, "must be greater than or equal to 0"));
    }
    if (WHOLE_NUMBERS.contains(&name) || is_extended(name)) && quantity.milli_value() % 1000 != 0 {
        errors.push(shown(amount, quantity, "must be an integer"));
    }
}

/// An amount that must be more than nothing.
pub fn positive(errors: &mut Vec<FieldError>, amount: &Field<'_>) {
    if let Some(quantity) = quantity(amount.value).filter(|quantity| quantity.sign() <= 0) {
        errors.push(shown(amount, quantity, "must be greater than zero"));
    }
}

/// An amount in units below zero: of what only has to be an amount.
pub fn basic(errors: &mut Vec<FieldError>, amount: &Field<'_>) {
    if let Some(quantity) = quantity(amount.value).filter(|quantity| quantity.value() < 0) {
        errors.push(amount.invalid_as(quantity.value(), "must be a valid resource quantity"));
    }
}

fn shown(amount: &Field<'_>, quantity: Quantity, detail: &str) -> FieldError {
    amount.invalid_as(quantity.to_string(), detail)
}
