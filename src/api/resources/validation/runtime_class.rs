//! Runtime classes.

use std::collections::HashSet;

use serde_json::Value;

use super::{Field, IMMUTABLE, labels, pod};
use crate::{
    meta::{Object, names},
    resources::tree::text,
    status::FieldError,
};

fn field<'a>(object: &'a Object, name: &'a str) -> Field<'a> {
    Field::root(name, object.get(&[name]).unwrap_or(&Value::Null))
}

/// Checks a new class.
pub fn class(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    field(object, "handler").check_required_name(&mut errors, names::label);
    let overhead = field(object, "overhead");
    if overhead.is_set() {
        pod::resources::overhead(&mut errors, &overhead.with(overhead.child("podFixed").value));
    }
    let scheduling = field(object, "scheduling");
    let selector = scheduling.child("nodeSelector");
    labels::labels(&mut errors, &selector.to_string(), selector.value);
    tolerations(&mut errors, &scheduling.child("tolerations"));
    errors
}

/// Checks the update of a class.
pub fn class_update(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = class(new);
    if new.str(&["handler"]) != old.str(&["handler"]) {
        errors.push(FieldError::invalid("handler", new.str(&["handler"]), IMMUTABLE));
    }
    errors
}

/// Those of a pod, but for comparisons, and each once, however long it tolerates.
fn tolerations(errors: &mut Vec<FieldError>, tolerations: &Field<'_>) {
    pod::tolerations(errors, tolerations);
    pod::refuse_comparisons(errors, tolerations);
    let mut seen = HashSet::new();
    for (toleration, value) in tolerations.each().zip(tolerations.items()) {
        if !seen.insert(["key", "operator", "value", "effect"].map(|part| text(value, &[part]))) {
            errors.push(duplicate(&toleration));
        }
    }
}

/// Shown with all of its fields.
fn duplicate(toleration: &Field<'_>) -> FieldError {
    let text = |name| Value::from(toleration.child(name).text());
    let seconds = toleration.child("tolerationSeconds").value.clone();
    let fields = [("Key", text("key")), ("Operator", text("operator")), ("Value", text("value")), ("Effect", text("effect"))];
    toleration.duplicate_shown(&[&fields[..], &[("TolerationSeconds", seconds)]].concat())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::validation::tests::{object, texts};

    #[test]
    fn what_upstream_refuses_is_refused_in_its_words() {
        let toleration = json!({"key": "a", "operator": "Exists"});
        let cases = [
            (json!({}), "handler: Required value"),
            (json!({"handler": "a.b"}), "handler: Invalid value: \"a.b\": must not contain dots"),
            (json!({"handler": "../runc"}), "handler: Invalid value: \"../runc\": a lowercase RFC 1123 label must consist of"),
            (
                json!({"handler": "a", "overhead": {"podFixed": {"cpu": "-1"}}}),
                "overhead.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
            ),
            (
                json!({"handler": "a", "overhead": {"podFixed": {"gold": "1"}}}),
                "overhead.limits[gold]: Invalid value: \"gold\": must be a standard resource for containers",
            ),
            (
                json!({"handler": "a", "scheduling": {"nodeSelector": {"a": "b c"}}}),
                "scheduling.nodeSelector: Invalid value: \"b c\": a valid label must be an empty string or consist of",
            ),
            (
                json!({"handler": "a", "scheduling": {"tolerations": [toleration, toleration]}}),
                "scheduling.tolerations[1]: Duplicate value: {\"Key\":\"a\",\"Operator\":\"Exists\",\"Value\":\"\",\"Effect\":\"\",\"TolerationSeconds\":null}",
            ),
            (
                json!({"handler": "a", "scheduling": {"tolerations": [{"operator": "Exists", "effect": "Never"}]}}),
                "scheduling.tolerations[0].effect: Unsupported value: \"Never\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
            ),
            (
                json!({"handler": "a", "scheduling": {"tolerations": [{"key": "k", "operator": "Gt", "value": "1"}]}}),
                "scheduling.tolerations[0].operator: Unsupported value: \"Gt\": supported values: \"Equal\", \"Exists\", \"Lt\", \"Gt\"",
            ),
        ];
        for (class, want) in cases {
            let got = texts(super::class(&object(class.clone())));
            assert!(got.iter().any(|error| error.starts_with(want)), "{class}: {got:?}");
        }
    }

    #[test]
    fn the_handler_stays() {
        let (old, new) = (object(json!({"handler": "a"})), object(json!({"handler": "b"})));
        assert_eq!(texts(class_update(&new, &old)), ["handler: Invalid value: \"b\": field is immutable"]);
    }
}
