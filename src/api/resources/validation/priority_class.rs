//! Priority classes.

use serde_json::Value;

use super::Field;
use crate::{meta::Object, status::FieldError};

const SYSTEM_PREFIX: &str = "system-";
const HIGHEST_USER_PRIORITY: i64 = 1_000_000_000;
const SYSTEM: [(&str, i64); 2] = [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

/// Checks a new class.
pub fn class(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let value = object.int(&["value"]).unwrap_or(0);
    if object.name().starts_with(SYSTEM_PREFIX) {
        if let Err(why) = known(object, value) {
            let detail = format!("priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {why}");
            errors.push(FieldError::forbidden("metadata.name", detail));
        }
    } else if value > HIGHEST_USER_PRIORITY {
        errors.push(FieldError::forbidden("value", format!("maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}")));
    }
    let policy = Field::root("preemptionPolicy", object.get(&["preemptionPolicy"]).unwrap_or(&Value::Null));
    if policy.is_set() {
        policy.check_one_of(&mut errors, &["PreemptLowerPriority", "Never"]);
    }
    errors
}

/// Whether a class is one of the system's own.
fn known(object: &Object, value: i64) -> Result<(), String> {
    let name = object.name();
    let Some((_, wanted)) = SYSTEM.iter().find(|(known, _)| *known == name) else {
        return Err(format!("{name} is not a known system priority class"));
    };
    if value != *wanted {
        return Err(format!("value of {name} PriorityClass must be {wanted}"));
    }
    if object.get(&["globalDefault"]) == Some(&Value::Bool(true)) {
        return Err(format!("globalDefault of {name} PriorityClass must be false"));
    }
    Ok(())
}

/// Whether a name is that of one of the system's own classes.
pub fn is_system(name: &str) -> bool {
    SYSTEM.iter().any(|(known, _)| *known == name)
}

/// Checks the update of a class.
pub fn class_update(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if new.int(&["value"]) != old.int(&["value"]) {
        errors.push(FieldError::forbidden("value", "may not be changed in an update."));
    }
    let policy = |object: &Object| object.get(&["preemptionPolicy"]).cloned().unwrap_or_default();
    if policy(new) != policy(old) {
        errors.push(FieldError::invalid("preemptionPolicy", policy(new), super::IMMUTABLE));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::validation::tests::{object, texts};

    #[test]
    fn what_upstream_refuses_is_refused_in_its_words() {
        let reserved = "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: ";
        let cases = [
            (json!({"metadata": {"name": "system-mine"}, "value": 1}), format!("{reserved}system-mine is not a known system priority class")),
            (
                json!({"metadata": {"name": "system-node-critical"}, "value": 1}),
                format!("{reserved}value of system-node-critical PriorityClass must be 2000001000"),
            ),
            (
                json!({"metadata": {"name": "system-cluster-critical"}, "value": 2_000_000_000, "globalDefault": true}),
                format!("{reserved}globalDefault of system-cluster-critical PriorityClass must be false"),
            ),
            (
                json!({"metadata": {"name": "a"}, "value": 1_000_000_001}),
                "value: Forbidden: maximum allowed value of a user defined priority is 1000000000".to_owned(),
            ),
            (json!({"metadata": {"name": "a"}, "preemptionPolicy": ""}), "preemptionPolicy: Required value".to_owned()),
            (
                json!({"metadata": {"name": "a"}, "preemptionPolicy": "Sometimes"}),
                "preemptionPolicy: Unsupported value: \"Sometimes\": supported values: \"PreemptLowerPriority\", \"Never\"".to_owned(),
            ),
        ];
        for (class, want) in cases {
            assert_eq!(texts(super::class(&object(class.clone()))), [want], "{class}");
        }
        assert!(super::class(&object(json!({"metadata": {"name": "system-node-critical"}, "value": 2_000_001_000}))).is_empty());
    }

    #[test]
    fn neither_value_nor_policy_changes() {
        let old = object(json!({"value": 1, "preemptionPolicy": "Never"}));
        let new = object(json!({"value": 2, "preemptionPolicy": "PreemptLowerPriority"}));
        assert_eq!(
            texts(class_update(&new, &old)),
            ["value: Forbidden: may not be changed in an update.", "preemptionPolicy: Invalid value: \"PreemptLowerPriority\": field is immutable"]
        );
        assert!(class_update(&old, &old).is_empty());
    }
}
