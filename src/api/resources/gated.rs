//! Fields, and values of fields, of features that may be off.

use super::tree::Fields;
use crate::status::FieldError;

/// The fields that one feature brought to a kind, or to the spec of a pod.
#[derive(Clone, Copy, Debug)]
pub struct Gated {
    pub feature: &'static str,
    /// Whether an object, or a pod's spec, has one of them.
    pub is_used: fn(&Fields) -> bool,
    pub drop: fn(&mut Fields),
}

impl Gated {
    /// Drops them from `new` while the feature is off, unless `old` has some already.
    pub fn settle(&self, new: &mut Fields, old: Option<&Fields>, is_on: &dyn Fn(&str) -> bool) {
        if !is_on(self.feature) && !old.is_some_and(self.is_used) {
            (self.drop)(new);
        }
    }
}

/// Values that a field has only with a feature. The kind's rules take them; these say what is wrong with them without it.
#[derive(Clone, Copy, Debug)]
pub struct Withheld {
    pub feature: &'static str,
    /// Whether an object has such a value.
    pub is_used: fn(&Fields) -> bool,
    /// What is wrong with an object whose feature is off, as it is new or changed from another.
    pub faults: fn(&Fields, Option<&Fields>) -> Vec<FieldError>,
    /// They are told before what is wrong below this field, such as `spec.`; after all else if `None`.
    pub ahead_of: Option<&'static str>,
}

impl Withheld {
    /// Adds what is wrong with `new` while the feature is off, unless `old` has such a value already.
    pub fn judge(&self, errors: &mut Vec<FieldError>, new: &Fields, old: Option<&Fields>, is_on: &dyn Fn(&str) -> bool) {
        if !is_on(self.feature) && !old.is_some_and(self.is_used) {
            replace_faults(errors, (self.faults)(new, old), self.ahead_of);
        }
    }
}

/// Adds `faults`, each in the place of what was said of its field before, or ahead of what is said of fields that begin so.
fn replace_faults(errors: &mut Vec<FieldError>, faults: Vec<FieldError>, ahead_of: Option<&str>) {
    for fault in faults {
        match errors.iter().position(|error| error.field == fault.field) {
            Some(at) => errors[at] = fault,
            None => {
                let next = ahead_of.and_then(|start| errors.iter().position(|error| error.field.starts_with(start)));
                errors.insert(next.unwrap_or(errors.len()), fault);
            }
        }
    }
}
