//! Controller revisions.

use serde_json::Value;

use super::IMMUTABLE;
use crate::{meta::Object, status::FieldError};

/// Checks a new revision.
pub fn revision(object: &Object) -> Vec<FieldError> {
    let mut errors = number(object);
    match object.get(&["data"]) {
        Some(Value::Object(_)) => {}
        None | Some(Value::Null) => errors.push(FieldError::required("data", "data is mandatory")),
        Some(_) => errors.push(FieldError::required("data", "data must be a valid JSON object")),
    }
    errors
}

/// Checks the update of a revision. Its data stays whatever it is.
pub fn revision_update(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = number(new);
    let data = |object: &Object| object.get(&["data"]).cloned().unwrap_or_default();
    if data(new) != data(old) {
        errors.push(FieldError::invalid("data", data(new), IMMUTABLE));
    }
    errors
}

fn number(object: &Object) -> Vec<FieldError> {
    let number = object.int(&["revision"]).filter(|number| *number < 0);
    number.map(|number| FieldError::invalid("revision", number, "must be greater than or equal to 0")).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::validation::tests::{object, texts};

    #[test]
    fn a_revision_has_a_number_and_an_object() {
        let cases = [
            (json!({"revision": 1}), "data: Required value: data is mandatory"),
            (json!({"revision": 1, "data": "x"}), "data: Required value: data must be a valid JSON object"),
            (json!({"revision": -1, "data": {}}), "revision: Invalid value: -1: must be greater than or equal to 0"),
        ];
        for (value, want) in cases {
            assert_eq!(texts(revision(&object(value.clone()))), [want], "{value}");
        }
    }

    #[test]
    fn data_stays_and_the_number_may_change() {
        let old = object(json!({"revision": 1, "data": {"a": 1}}));
        assert!(revision_update(&object(json!({"revision": 2, "data": {"a": 1}})), &old).is_empty());
        assert_eq!(
            texts(revision_update(&object(json!({"revision": -2, "data": {"a": 2}})), &old)),
            ["revision: Invalid value: -2: must be greater than or equal to 0", "data: Invalid value: {\"a\":2}: field is immutable"]
        );
    }
}
