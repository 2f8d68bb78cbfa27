//! Leases.

use serde_json::Value;

use super::Field;
use crate::{meta::Object, status::FieldError};

/// Checks a lease.
pub fn lease(object: &Object) -> Vec<FieldError> {
    let (spec, mut errors) = (Field::root("spec", object.get(&["spec"]).unwrap_or(&Value::Null)), Vec::new());
    let (duration, transitions) = (spec.child("leaseDurationSeconds"), spec.child("leaseTransitions"));
    if duration.number().is_some_and(|seconds| seconds <= 0) {
        errors.push(duration.invalid("must be greater than 0"));
    }
    transitions.check_non_negative(&mut errors);
    let (strategy, preferred) = (spec.child("strategy"), spec.child("preferredHolder"));
    if strategy.is_set() {
        check_strategy(&mut errors, &strategy);
    }
    if !preferred.text().is_empty() && strategy.text().is_empty() {
        errors.push(preferred.forbidden("may only be specified if `strategy` is defined"));
    }
    errors
}

/// How the holder is chosen among candidates. As upstream, the path names the field twice.
fn check_strategy(errors: &mut Vec<FieldError>, strategy: &Field<'_>) {
    let shown = strategy.child("strategy");
    let shown = shown.with(strategy.value);
    if strategy.text().contains('/') {
        shown.check_qualified(errors);
    } else {
        shown.check_supported(errors, &["OldestEmulationVersion"]);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_lease_lasts_and_counts_its_holders() {
        let spec = json!({"leaseDurationSeconds": 0, "leaseTransitions": -1, "strategy": "Mine", "preferredHolder": "b"});
        let errors = lease(&Object::from_value(json!({"spec": spec})).expect("an object"));
        assert_eq!(
            errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
                "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
                "spec.strategy.strategy: Unsupported value: \"Mine\": supported values: \"OldestEmulationVersion\"",
            ]
        );
        let errors = lease(&Object::from_value(json!({"spec": {"preferredHolder": "b"}})).expect("an object"));
        assert_eq!(errors[0].to_string(), "spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined");
    }
}
