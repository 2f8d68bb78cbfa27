//! How much there is of a device, and in which amounts it is given away.

use std::collections::HashSet;

use serde_json::Value;

use super::{
    super::Field,
    fits,
    identifiers::{self, LONGEST_QUALIFIED},
    map, quoted,
};
use crate::{
    meta::Quantity,
    status::{FieldError, FieldErrorKind},
};

const MOST_VALUES: usize = 10;

/// Checks `capacity`. Only of a device that may be shared can parts be asked for.
pub fn capacity(errors: &mut Vec<FieldError>, capacity: &Field<'_>, is_shared: bool) {
    for (name, shown, value) in map(errors, capacity, usize::MAX, LONGEST_QUALIFIED) {
        identifiers::qualified(errors, capacity, name);
        let part = capacity.key(&shown);
        let part = part.with(value);
        let policy = part.child("requestPolicy");
        if !policy.is_set() {
            continue;
        }
        if !is_shared {
            errors.push(policy.forbidden("allowMultipleAllocations must be true"));
        } else if let Some(most) = amount(&part.child("value")) {
            request_policy(errors, &policy, most);
        }
    }
}

/// The amount in a field; none where there is no readable one.
fn amount(field: &Field<'_>) -> Option<Quantity> {
    match field.value {
        Value::String(text) => Quantity::parse(text).ok(),
        Value::Number(number) => Quantity::parse(&number.to_string()).ok(),
        _ => None,
    }
}

fn wrong(field: &Field<'_>, shown: Quantity, detail: impl Into<String>) -> FieldError {
    field.invalid_as(shown.to_string(), detail)
}

fn request_policy(errors: &mut Vec<FieldError>, policy: &Field<'_>, most: Quantity) {
    let (values, range, default) = (policy.child("validValues"), policy.child("validRange"), policy.child("default"));
    match (!values.items().is_empty(), range.is_set()) {
        (true, true) => {
            let detail = r#"exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time"#;
            errors.push(policy.forbidden(detail));
        }
        (false, false) => {}
        (true, false) => match amount(&default) {
            None => errors.push(default.required("required when validValues is defined")),
            Some(default) => valid_values(errors, &values, default, most),
        },
        (false, true) => match amount(&default) {
            None => errors.push(default.required("required when validRange is defined")),
            Some(default) => valid_range(errors, &range, default, most),
        },
    }
}

/// Amounts that can be asked for: in order, each once, the default among them.
fn valid_values(errors: &mut Vec<FieldError>, list: &Field<'_>, default: Quantity, most: Quantity) {
    let amounts: Vec<Quantity> = list.each().map(|value| amount(&value).unwrap_or_default()).collect();
    for (index, pair) in amounts.windows(2).enumerate().filter(|(_, pair)| pair[0] > pair[1]) {
        errors.push(wrong(&list.index(index + 1), pair[1], "values must be sorted in ascending order"));
    }
    let fits = fits(errors, list, MOST_VALUES);
    if fits {
        for (index, amount) in amounts.iter().enumerate().filter(|(_, amount)| **amount > most) {
            errors.push(wrong(&list.index(index), *amount, format!("option is larger than capacity value: {most}")));
        }
        let mut seen = HashSet::new();
        for (index, amount) in amounts.iter().enumerate() {
            if !seen.insert(amount.value()) {
                let (field, value) = (list.index(index).into(), Some(quoted(&amount.value().to_string())));
                errors.push(FieldError { kind: FieldErrorKind::Duplicate, field, value, detail: String::new() });
            }
        }
    }
    if !fits || !amounts.contains(&default) {
        errors.push(wrong(list, default, "default value is not valid according to the requestPolicy"));
    }
}

fn valid_range(errors: &mut Vec<FieldError>, range: &Field<'_>, default: Quantity, most: Quantity) {
    let (low, high, step) = (range.child("min"), range.child("max"), range.child("step"));
    let Some(min) = amount(&low) else {
        return errors.push(low.required("required when validRange is defined"));
    };
    if min > most {
        errors.push(wrong(&low, min, format!("min is larger than capacity value: {most}")));
    }
    if default < min {
        errors.push(wrong(&low, default, format!("default is less than min: {min}")));
    }
    let max = amount(&high);
    if let Some(max) = max {
        if min > max {
            errors.push(wrong(&high, min, format!("min is larger than max: {max}")));
        }
        if max > most {
            errors.push(wrong(&high, max, format!("max is larger than capacity value: {most}")));
        }
        if default > max {
            errors.push(wrong(&high, default, format!("default is more than max: {max}")));
        }
    }
    if let Some(size) = amount(&step) {
        let mut first = min;
        first += size;
        if first > most {
            errors.push(wrong(&step, size, format!("one step {first} is larger than capacity value: {most}")));
        }
        for value in [Some(default), max].into_iter().flatten() {
            on_step(errors, &step, value, min, size);
        }
    }
}

/// An amount that is some steps above the least one. No amount is a multiple of no step.
fn on_step(errors: &mut Vec<FieldError>, field: &Field<'_>, value: Quantity, min: Quantity, step: Quantity) {
    let above = value.value().wrapping_sub(min.value());
    if above.checked_rem(step.value()).unwrap_or(if step.is_zero() { 1 } else { 0 }) != 0 {
        errors.push(wrong(field, value, format!("value is not a multiple of a given step ({step}) from ({min})")));
    }
}
