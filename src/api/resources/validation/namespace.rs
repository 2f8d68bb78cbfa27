//! Namespaces.

use serde_json::Value;

use super::Field;
use crate::{
    meta::{Object, names},
    status::FieldError,
};

fn finalizers(object: &Object) -> Field<'_> {
    Field::root("spec.finalizers", object.get(&["spec", "finalizers"]).unwrap_or(&Value::Null))
}

/// Checks a namespace. As upstream, errors name the list of finalizers.
pub fn namespace(object: &Object) -> Vec<FieldError> {
    let (list, mut errors) = (finalizers(object), Vec::new());
    for entry in list.items() {
        finalizer(&mut errors, &list.with(entry));
    }
    errors
}

/// Checks the finalizers that are left.
pub fn finalize(object: &Object) -> Vec<FieldError> {
    let (list, mut errors) = (finalizers(object), Vec::new());
    for entry in list.each() {
        finalizer(&mut errors, &entry);
    }
    errors
}

fn finalizer(errors: &mut Vec<FieldError>, finalizer: &Field<'_>) {
    finalizer.check_qualified(errors);
    if !names::is_finalizer(finalizer.text()) {
        errors.push(finalizer.invalid("name is neither a standard finalizer name nor is it fully qualified"));
    }
}

/// Checks that the phase tells what the metadata do.
pub fn namespace_status(object: &Object) -> Vec<FieldError> {
    let phase = object.str(&["status", "phase"]);
    let (wanted, detail) = if object.is_terminating() {
        ("Terminating", "may only be 'Terminating' if `deletionTimestamp` is not empty")
    } else {
        ("Active", "may only be 'Active' if `deletionTimestamp` is empty")
    };
    if phase == wanted { Vec::new() } else { vec![FieldError::invalid("status.Phase", phase, detail)] }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::validation::tests::texts;

    #[test]
    fn finalizers_are_kubernetes_own_or_have_a_domain() {
        let of = |names: Value| Object::from_value(json!({"spec": {"finalizers": names}})).expect("an object");
        assert_eq!(texts(namespace(&of(json!(["kubernetes", "example.com/mine"])))), Vec::<String>::new());
        assert_eq!(
            texts(namespace(&of(json!(["kubernetes", "mine"])))),
            ["spec.finalizers: Invalid value: \"mine\": name is neither a standard finalizer name nor is it fully qualified"]
        );
        assert_eq!(
            texts(finalize(&of(json!(["kubernetes", "mine"])))),
            ["spec.finalizers[1]: Invalid value: \"mine\": name is neither a standard finalizer name nor is it fully qualified"]
        );
    }

    #[test]
    fn a_phase_says_whether_a_namespace_goes() {
        let of = |phase: &str, deleted: Value| {
            let object = json!({"metadata": {"deletionTimestamp": deleted}, "status": {"phase": phase}});
            texts(namespace_status(&Object::from_value(object).expect("an object")))
        };
        assert_eq!(of("Active", Value::Null), Vec::<String>::new());
        assert_eq!(of("Gone", Value::Null), ["status.Phase: Invalid value: \"Gone\": may only be 'Active' if `deletionTimestamp` is empty"]);
        assert_eq!(
            of("Active", json!("2030-01-01T00:00:00Z")),
            ["status.Phase: Invalid value: \"Active\": may only be 'Terminating' if `deletionTimestamp` is not empty"]
        );
    }
}
