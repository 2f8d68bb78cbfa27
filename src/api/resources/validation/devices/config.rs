//! What selects devices, and what their drivers are told.

use serde_json::Value;

use super::{
    super::{Field, pod::volume_sources::driver_name},
    MOST, fits,
};
use crate::{device_selectors::DeviceSelector, status::FieldError};

const LONGEST_EXPRESSION: usize = 10 * 1024;
/// In bytes of JSON.
pub const LONGEST_PARAMETERS: usize = 10 * 1024;

/// Selectors of devices.
pub fn selectors(errors: &mut Vec<FieldError>, selectors: &Field<'_>) {
    if !fits(errors, selectors, MOST) {
        return;
    }
    for selector in selectors.each() {
        let cel = selector.child("cel");
        if !cel.is_set() {
            errors.push(cel.required(""));
            continue;
        }
        let expression = cel.child("expression");
        if expression.text().len() > LONGEST_EXPRESSION {
            errors.push(expression.too_long(LONGEST_EXPRESSION));
            continue;
        }
        match DeviceSelector::compile(expression.text()) {
            Err(why) => errors.push(expression.invalid_as(expression.text(), why)),
            Ok(selector) if selector.is_too_complex() => errors.push(FieldError::forbidden(expression, "too complex, exceeds cost limit")),
            Ok(_) => {}
        }
    }
}

/// A configuration for a driver. The parameters of one that is stored may be longer.
pub fn configuration(errors: &mut Vec<FieldError>, config: &Field<'_>, stored: bool) {
    let opaque = config.child("opaque");
    if !opaque.is_set() {
        return errors.push(opaque.required(""));
    }
    driver_name(errors, &opaque.child("driver"));
    raw(errors, &opaque.child("parameters"), if stored { usize::MAX } else { LONGEST_PARAMETERS });
}

/// An object that only a driver understands.
pub fn raw(errors: &mut Vec<FieldError>, object: &Field<'_>, most: usize) {
    if !object.is_set() {
        errors.push(object.required(""));
    } else if most < usize::MAX && object.value.to_string().len() > most {
        errors.push(object.too_long(most));
    } else if !matches!(object.value, Value::Object(_)) {
        errors.push(FieldError { value: Some("\"<value omitted>\"".to_owned()), ..object.invalid_as("", "must be a valid JSON object") });
    }
}
