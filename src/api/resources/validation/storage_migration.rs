//! Storage version migrations (`pkg/apis/storagemigration/validation`).

use serde_json::Value;

use super::{Field, conditions::conditions};
use crate::{
    meta::{
        Object,
        names::{dns_1035_label, subdomain},
    },
    resources::tree::{at, items, text},
    status::FieldError,
};

/// Checks a new migration.
pub fn migration(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::root("spec", object.get(&["spec"]).unwrap_or(&Value::Null));
    let resource = spec.child("resource");
    let plural = resource.child("resource");
    if plural.text().is_empty() {
        errors.push(plural.required("resource is required to be set"));
    }
    plural.check_name(&mut errors, dns_1035_label);
    resource.child("group").check_name(&mut errors, subdomain);
    errors
}

/// Checks an update of a migration.
pub fn update(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = migration(new);
    let [spec, before] = [new, old].map(|object| object.get(&["spec"]).unwrap_or(&Value::Null));
    Field::root("spec", spec).check_unchanged(&mut errors, before);
    errors
}

/// Checks an update of a migration's status.
pub fn status(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let [status, before] = [new, old].map(|object| object.get(&["status"]).unwrap_or(&Value::Null));
    let status = Field::root("status", status);
    let version = status.child("resourceVersion");
    if !version.text().is_empty() && !is_version(version.text()) {
        errors.push(version.invalid(format!("resource version is not well formed: {}", version.text())));
    }
    let list = status.child("conditions");
    conditions(&mut errors, &list);
    let known = text(before, &["resourceVersion"]);
    if !known.is_empty() && known != version.text() {
        errors.push(version.invalid_as(version.text(), "field is immutable"));
    }
    let is =
        |status: &Value, kind: &str| items(status, &["conditions"]).iter().any(|one| text(one, &["type"]) == kind && at(one, &["status"]) == "True");
    if is(status.value, "Succeeded") && is(status.value, "Failed") {
        errors.push(list.invalid("Both success and failed conditions cannot be true at the same time"));
    }
    for (kind, word) in [("Succeeded", "Success"), ("Failed", "Failed")] {
        if is(before, kind) && !is(status.value, kind) {
            errors.push(list.invalid(format!("{word} condition cannot be set to false once it is true")));
        }
    }
    errors
}

fn is_version(text: &str) -> bool {
    !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    fn object(spec: &Value, status: &Value) -> Object {
        Object::from_value(json!({"metadata": {"name": "m"}, "spec": spec, "status": status})).expect("an object")
    }

    #[test]
    fn a_migration_names_a_resource_for_good() {
        let of = |group: &str, plural: &str| object(&json!({"resource": {"group": group, "resource": plural}}), &json!({}));
        assert_eq!(said(&migration(&of("example.com", "widgets"))), Vec::<String>::new());
        assert_eq!(said(&migration(&of("", ""))), ["spec.resource.resource: Required value: resource is required to be set"]);
        let wrong = said(&migration(&of("A", "1")));
        assert!(wrong.len() == 2 && wrong[0].starts_with("spec.resource.resource: Invalid value: \"1\": a DNS-1035 label"), "{wrong:?}");
        let changed = said(&update(&of("", "pods"), &of("", "secrets")));
        assert!(changed.len() == 1 && changed[0].ends_with("field is immutable"), "{changed:?}");
    }

    #[test]
    fn what_was_said_of_its_end_stays() {
        let condition =
            |kind: &str, status: &str| json!({"type": kind, "status": status, "reason": "R", "lastTransitionTime": "2030-01-01T00:00:00Z"});
        let with = |version: &str, conditions: &[Value]| object(&json!({}), &json!({"resourceVersion": version, "conditions": conditions}));
        let ended = with("7", &[condition("Succeeded", "True")]);
        assert_eq!(said(&status(&ended, &with("7", &[]))), Vec::<String>::new());
        assert_eq!(
            said(&status(&with("07", &[]), &with("", &[]))),
            ["status.resourceVersion: Invalid value: \"07\": resource version is not well formed: 07"]
        );
        let back = said(&status(&with("8", &[condition("Succeeded", "False")]), &ended));
        assert!(
            back.len() == 2 && back[0].ends_with("field is immutable") && back[1].ends_with("cannot be set to false once it is true"),
            "{back:?}"
        );
        let both = said(&status(&with("7", &[condition("Succeeded", "True"), condition("Failed", "True")]), &ended));
        assert!(both.len() == 1 && both[0].ends_with("cannot be true at the same time"), "{both:?}");
    }
}
