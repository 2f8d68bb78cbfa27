//! Taints of devices, and what tolerates them.

use super::{super::Field, fits};
use crate::{meta::names, status::FieldError};

const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];
const MOST: usize = 16;

/// The taints of a device.
pub fn taints(errors: &mut Vec<FieldError>, taints: &Field<'_>) {
    if !fits(errors, taints, MOST) {
        return;
    }
    for entry in taints.each() {
        taint(errors, &entry, true);
    }
}

/// A taint; an effect that stands is not judged again.
pub fn taint(errors: &mut Vec<FieldError>, taint: &Field<'_>, effect_is_new: bool) {
    let (key, value) = (taint.child("key"), taint.child("value"));
    key.check_qualified(errors);
    value.judge(errors, names::label_value(value.text()));
    if effect_is_new {
        taint.child("effect").check_one_of(errors, &EFFECTS);
    }
}

/// What a request tolerates.
pub fn tolerations(errors: &mut Vec<FieldError>, tolerations: &Field<'_>) {
    for toleration in tolerations.each() {
        let (key, operator, value) = (toleration.child("key"), toleration.child("operator"), toleration.child("value"));
        key.check_name(errors, |key, _| names::qualified(key));
        match operator.text() {
            "Exists" if !value.text().is_empty() => errors.push(value.invalid("must be empty for operator `Exists`")),
            "Equal" => value.judge(errors, names::label_value(value.text())),
            _ => operator.check_one_of(errors, &["Equal", "Exists"]),
        }
        let effect = toleration.child("effect");
        if !effect.text().is_empty() {
            effect.check_supported(errors, &EFFECTS);
        }
    }
}
