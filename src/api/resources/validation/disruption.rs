//! Pod disruption budgets.

use serde_json::Value;

use super::{
    Field,
    conditions::conditions,
    labels,
    workload::{at_most_all, int_or_percent},
};
use crate::{meta::Object, status::FieldError};

/// Checks a budget.
pub fn disruption_budget(object: &Object) -> Vec<FieldError> {
    let (spec, mut errors) = (Field::root("spec", object.get(&["spec"]).unwrap_or(&Value::Null)), Vec::new());
    let bounds = [spec.child("minAvailable"), spec.child("maxUnavailable")];
    if bounds.iter().all(Field::is_set) {
        errors.push(spec.invalid("minAvailable and maxUnavailable cannot be both set"));
    }
    for bound in bounds.iter().filter(|bound| bound.is_set()) {
        int_or_percent(&mut errors, &bound.to_string(), bound.value);
        at_most_all(&mut errors, &bound.to_string(), bound.value);
    }
    let selector = spec.child("selector");
    labels::selector(&mut errors, &selector.to_string(), selector.value);
    spec.child("unhealthyPodEvictionPolicy").check_supported(&mut errors, &["AlwaysAllow", "IfHealthyBudget"]);
    errors
}

/// Checks the status of a budget.
pub fn disruption_budget_status(object: &Object) -> Vec<FieldError> {
    let (status, mut errors) = (Field::root("status", object.get(&["status"]).unwrap_or(&Value::Null)), Vec::new());
    conditions(&mut errors, &status.child("conditions"));
    for count in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
        status.child(count).check_non_negative(&mut errors);
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::validation::tests::texts;

    #[test]
    fn a_budget_is_a_number_or_a_part_of_all() {
        let of = |spec: Value| texts(disruption_budget(&Object::from_value(json!({"spec": spec})).expect("an object")));
        assert_eq!(of(json!({"minAvailable": "50%", "selector": {}, "unhealthyPodEvictionPolicy": "AlwaysAllow"})), Vec::<String>::new());
        assert_eq!(
            of(json!({"minAvailable": -1, "maxUnavailable": "101%", "unhealthyPodEvictionPolicy": "Never"})),
            [
                "spec: Invalid value: {\"maxUnavailable\":\"101%\",\"minAvailable\":-1,\"unhealthyPodEvictionPolicy\":\"Never\"}: minAvailable and maxUnavailable cannot be both set",
                "spec.minAvailable: Invalid value: -1: must be greater than or equal to 0",
                "spec.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
                "spec.unhealthyPodEvictionPolicy: Unsupported value: \"Never\": supported values: \"AlwaysAllow\", \"IfHealthyBudget\"",
            ]
        );
    }

    #[test]
    fn a_budgets_status_counts_from_nothing_up() {
        let status = json!({"disruptionsAllowed": -1, "currentHealthy": 0, "desiredHealthy": -2, "expectedPods": 1});
        assert_eq!(
            texts(disruption_budget_status(&Object::from_value(json!({"status": status})).expect("an object"))),
            [
                "status.disruptionsAllowed: Invalid value: -1: must be greater than or equal to 0",
                "status.desiredHealthy: Invalid value: -2: must be greater than or equal to 0",
            ]
        );
    }
}
