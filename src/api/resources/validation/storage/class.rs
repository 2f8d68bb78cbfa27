//! Storage classes, and classes of attributes.

use super::{super::Field, root, topologies};
use crate::{
    meta::{Object, names},
    status::FieldError,
};

const MOST_PARAMETERS: usize = 512;
/// Of all parameters with their names, in bytes.
const LARGEST_PARAMETERS: usize = 256 * 1024;

/// Checks a new storage class.
pub fn class(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    provisioner(&mut errors, &root(object, "provisioner"));
    parameters(&mut errors, &root(object, "parameters"));
    let (policy, mode) = (root(object, "reclaimPolicy"), root(object, "volumeBindingMode"));
    if !policy.text().is_empty() {
        policy.check_supported(&mut errors, &["Delete", "Retain"]);
    }
    if !mode.is_set() {
        errors.push(mode.required(""));
    }
    mode.check_supported(&mut errors, &["Immediate", "WaitForFirstConsumer"]);
    topologies::allowed(&mut errors, &root(object, "allowedTopologies"));
    errors
}

/// Checks the update of a storage class.
pub fn class_update(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = class(new);
    for name in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
        root(new, name).check_unchanged(&mut errors, root(old, name).value);
    }
    errors
}

/// Checks a new class of attributes.
pub fn attributes_class(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    provisioner(&mut errors, &root(object, "driverName"));
    let parameters = root(object, "parameters");
    self::parameters(&mut errors, &parameters);
    if parameters.entries().next().is_none() {
        errors.push(parameters.required("must contain at least one key/value pair"));
    }
    errors
}

/// Checks the update of a class of attributes.
pub fn attributes_class_update(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for name in ["driverName", "parameters"] {
        if root(new, name).value != root(old, name).value {
            errors.push(FieldError::forbidden(name, format!("updates to {name} are forbidden.")));
        }
    }
    errors.extend(attributes_class(new));
    errors
}

/// Who makes volumes of a class: a qualified name in any case of letters.
fn provisioner(errors: &mut Vec<FieldError>, provisioner: &Field<'_>) {
    let name = provisioner.text().to_lowercase();
    if name.is_empty() {
        errors.push(provisioner.required(""));
    } else {
        errors.extend(names::qualified(&name).into_iter().map(|message| provisioner.invalid_as(name.as_str(), message)));
    }
}

fn parameters(errors: &mut Vec<FieldError>, parameters: &Field<'_>) {
    if parameters.entries().count() > MOST_PARAMETERS {
        return errors.push(parameters.too_long(MOST_PARAMETERS));
    }
    if parameters.entries().any(|(name, _)| name.is_empty()) {
        errors.push(parameters.invalid_as("", "field can not be empty."));
    }
    let size: usize = parameters.entries().map(|(name, value)| name.len() + value.text().len()).sum();
    if size > LARGEST_PARAMETERS {
        errors.push(parameters.too_long(LARGEST_PARAMETERS));
    }
}
