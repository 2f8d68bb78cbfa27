//! Conditions of the common form (`metav1.Condition`).

use std::collections::BTreeSet;

use super::Field;
use crate::{resources::tree::text, status::FieldError};

const STATUSES: [&str; 3] = ["False", "True", "Unknown"];
const LONGEST_REASON: usize = 1024;
const LONGEST_MESSAGE: usize = 32 * 1024;
const REASON: &str = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";

/// Checks conditions: one of each type.
pub fn conditions(errors: &mut Vec<FieldError>, conditions: &Field<'_>) {
    let mut seen = BTreeSet::new();
    for (condition, value) in conditions.each().zip(conditions.items()) {
        let kind = condition.child("type");
        if !seen.insert(text(value, &["type"])) {
            errors.push(kind.duplicate_as(kind.text()));
        }
        kind.check_qualified(errors);
        let status = condition.child("status");
        if !STATUSES.contains(&status.text()) {
            errors.push(status.with(&status.text().into()).not_supported(&STATUSES));
        }
        let generation = condition.child("observedGeneration");
        if generation.int() < 0 {
            errors.push(generation.invalid("must be greater than or equal to zero"));
        }
        condition.child("lastTransitionTime").check_required(errors);
        reason(errors, &condition.child("reason"));
        let message = condition.child("message");
        if message.text().len() > LONGEST_MESSAGE {
            errors.push(message.too_long(LONGEST_MESSAGE));
        }
    }
}

fn reason(errors: &mut Vec<FieldError>, reason: &Field<'_>) {
    let text = reason.text();
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if text.is_empty() {
        return errors.push(reason.required(""));
    }
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let ends = text.bytes().last().is_some_and(is_word);
    if !starts || !ends || !text.bytes().all(|byte| is_word(byte) || b",:".contains(&byte)) {
        errors.push(reason.invalid(REASON));
    }
    if text.len() > LONGEST_REASON {
        errors.push(reason.too_long(LONGEST_REASON));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_condition_says_what_and_since_when_and_why() {
        let good = json!({"type": "Ready", "status": "True", "reason": "Done", "lastTransitionTime": "2030-01-01T00:00:00Z"});
        let list = json!([good, good, {"type": "a b", "status": "Yes", "reason": "9", "observedGeneration": -1, "message": "m".repeat(40_000)}]);
        let mut errors = Vec::new();
        conditions(&mut errors, &Field::root("status.conditions", &list));
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let wanted = [
            "status.conditions[1].type: Duplicate value: \"Ready\"",
            "status.conditions[2].type: Invalid value: \"a b\": name part must consist of alphanumeric characters",
            "status.conditions[2].status: Unsupported value: \"Yes\": supported values: \"False\", \"True\", \"Unknown\"",
            "status.conditions[2].observedGeneration: Invalid value: -1: must be greater than or equal to zero",
            "status.conditions[2].lastTransitionTime: Required value",
            "status.conditions[2].reason: Invalid value: \"9\": a condition reason must start with alphabetic character",
            "status.conditions[2].message: Too long: may not be more than 32768 bytes",
        ];
        assert_eq!(texts.len(), wanted.len(), "{texts:#?}");
        assert!(texts.iter().zip(wanted).all(|(text, wanted)| text.starts_with(wanted)), "{texts:#?}");
    }
}
