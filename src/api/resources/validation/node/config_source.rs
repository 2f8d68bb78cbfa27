//! Where a node once took its configuration from. Nothing reads it any more; what is stored keeps its rules.

use super::super::Field;
use crate::{meta::names, status::FieldError};

/// Checks `spec.configSource`.
pub fn of_spec(errors: &mut Vec<FieldError>, source: &Field<'_>) {
    check(errors, source, |errors, map| {
        for name in ["uid", "resourceVersion"] {
            if !map.child(name).text().is_empty() {
                errors.push(map.child(name).forbidden(format!("{name} must not be set in spec")));
            }
        }
    });
}

/// Checks `status.config`.
pub fn of_status(errors: &mut Vec<FieldError>, config: &Field<'_>) {
    for name in ["assigned", "active", "lastKnownGood"] {
        check(errors, &config.child(name), |errors, map| {
            map.child("uid").check_required(errors);
            map.child("resourceVersion").check_required(errors);
        });
    }
}

fn check(errors: &mut Vec<FieldError>, source: &Field<'_>, rule: impl Fn(&mut Vec<FieldError>, &Field<'_>)) {
    if !source.is_set() {
        return;
    }
    let map = source.child("configMap");
    if !map.is_set() {
        return errors.push(source.invalid("exactly one reference subfield must be non-nil"));
    }
    rule(errors, &map);
    map.child("namespace").check_required_name(errors, names::label);
    map.child("name").check_required_name(errors, names::subdomain);
    map.child("kubeletConfigKey").check_required_name(errors, |key, _| names::config_key(key));
}
