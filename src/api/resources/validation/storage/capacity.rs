//! How much room a driver has left somewhere.

use super::{super::labels, root};
use crate::{
    meta::{Object, names, quantity},
    resources::int_or_string::display,
    status::FieldError,
};

/// Checks a new capacity.
pub fn capacity(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    labels::selector(&mut errors, "nodeTopology", root(object, "nodeTopology").value);
    let class = root(object, "storageClassName");
    class.judge(&mut errors, names::subdomain(class.text(), false));
    let capacity = root(object, "capacity");
    if quantity::value_nanos(capacity.value).is_some_and(|nanos| nanos < 0) {
        errors.push(capacity.invalid_as(display(capacity.value), "must be greater than or equal to 0"));
    }
    errors
}

/// Checks the update of a capacity: what was measured stays.
pub fn capacity_update(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = capacity(new);
    for name in ["nodeTopology", "storageClassName"] {
        root(new, name).check_unchanged(&mut errors, root(old, name).value);
    }
    errors
}
