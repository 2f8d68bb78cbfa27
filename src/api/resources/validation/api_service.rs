//! API services: their name says what they serve, and whom the API server passes requests on to.

use serde_json::Value;

use super::{Field, webhook_client};
use crate::{
    meta::{Object, names},
    status::FieldError,
};

/// The group of API services themselves.
const GROUP: &str = "apiregistration.k8s.io";
const STATUSES: [&str; 3] = ["True", "False", "Unknown"];

/// Checks an API service, new or changed.
pub fn check(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::root("spec", object.get(&["spec"]).unwrap_or(&Value::Null));
    let (group, version) = (spec.child("group"), spec.child("version"));
    own_name(&mut errors, object, &format!("{}.{}", version.text(), group.text()));
    if group.text().is_empty() && version.text() != "v1" {
        errors.push(group.required("only v1 may have an empty group and it better be legacy kube"));
    }
    group.check_name(&mut errors, names::subdomain);
    version.judge(&mut errors, names::dns_1035_label(version.text(), false));
    for (name, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let priority = spec.child(name);
        if !(1..=most).contains(&priority.int()) {
            errors.push(priority.invalid_as(priority.int(), format!("must be positive and less than {most}")));
        }
    }
    if group.text() == GROUP && spec.child("service").is_set() {
        errors.push(spec.child("service").forbidden(format!("{GROUP} is always served by the API server itself")));
    }
    match spec.child("service").is_set() {
        true => remote(&mut errors, &spec),
        false => local(&mut errors, &spec),
    }
    errors
}

fn own_name(errors: &mut Vec<FieldError>, object: &Object, required: &str) {
    let detail = format!("must be `spec.version+\".\"+spec.group`: {required:?}");
    for (field, name) in [("metadata.generateName", object.str(&["metadata", "generateName"])), ("metadata.name", object.name())] {
        if !name.is_empty() && name != required && names::path_segment(name, false).is_empty() {
            errors.push(FieldError::invalid(field, name, &*detail));
        }
    }
}

fn local(errors: &mut Vec<FieldError>, spec: &Field<'_>) {
    let (bundle, insecure) = (spec.child("caBundle"), spec.child("insecureSkipTLSVerify"));
    if !bundle.text().is_empty() {
        errors.push(bundle.invalid_as(format!("{} bytes", decoded_length(bundle.text())), "local APIServices may not have a caBundle"));
    }
    if insecure.is_true() {
        errors.push(insecure.invalid("local APIServices may not have insecureSkipTLSVerify"));
    }
}

/// How many bytes a text in base64 stands for.
fn decoded_length(text: &str) -> usize {
    text.trim_end_matches('=').len() * 3 / 4
}

fn remote(errors: &mut Vec<FieldError>, spec: &Field<'_>) {
    let service = spec.child("service");
    service.child("namespace").check_required(errors);
    service.child("name").check_required(errors);
    webhook_client::port(errors, &service.child("port"));
    let insecure = spec.child("insecureSkipTLSVerify");
    if insecure.is_true() && !spec.child("caBundle").text().is_empty() {
        errors.push(insecure.invalid("may not be true if caBundle is present"));
    }
}

/// Checks the status of an API service.
pub fn status(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let conditions = Field::root("status.conditions", object.get(&["status", "conditions"]).unwrap_or(&Value::Null));
    for condition in conditions.each() {
        let status = condition.child("status");
        if !STATUSES.contains(&status.text()) {
            errors.push(FieldError::not_supported(status, status.text(), &STATUSES));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(change: Value) -> Object {
        let mut object = json!({"metadata": {"name": "v1.example.com"}, "spec": {
            "group": "example.com", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 15,
            "service": {"namespace": "n", "name": "s", "port": 443},
        }});
        for (field, value) in change.as_object().into_iter().flatten() {
            object["spec"][field] = value.clone();
        }
        Object::from_value(object).expect("an object")
    }

    fn said(object: &Object) -> Vec<String> {
        check(object).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_api_service_is_held_to_its_name_and_its_bounds() {
        assert!(said(&service(json!({}))).is_empty());
        let name =
            |required: &str| format!("metadata.name: Invalid value: \"v1.example.com\": must be `spec.version+\".\"+spec.group`: \"{required}\"");
        assert_eq!(said(&service(json!({"version": "v2"}))), [name("v2.example.com")]);
        assert_eq!(
            said(&service(json!({"group": "", "version": "v2"}))),
            [name("v2."), "spec.group: Required value: only v1 may have an empty group and it better be legacy kube".to_owned()]
        );
        for (field, value, most) in [("groupPriorityMinimum", 20_001, 20_000), ("versionPriority", 1001, 1000), ("versionPriority", 0, 1000)] {
            let want = format!("spec.{field}: Invalid value: {value}: must be positive and less than {most}");
            assert_eq!(said(&service(json!({field: value}))), [want]);
        }
    }

    #[test]
    fn whom_requests_are_passed_on_to_is_named_and_trusted_one_way() {
        assert_eq!(
            said(&service(json!({"service": {"port": 0}}))),
            [
                "spec.service.namespace: Required value",
                "spec.service.name: Required value",
                "spec.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive",
            ]
        );
        assert_eq!(
            said(&service(json!({"insecureSkipTLSVerify": true, "caBundle": "eA=="}))),
            ["spec.insecureSkipTLSVerify: Invalid value: true: may not be true if caBundle is present"]
        );
        assert_eq!(
            said(&service(json!({"service": null, "insecureSkipTLSVerify": true, "caBundle": "eA=="}))),
            [
                "spec.caBundle: Invalid value: \"1 bytes\": local APIServices may not have a caBundle",
                "spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify",
            ]
        );
    }

    #[test]
    fn the_group_of_api_services_is_handed_to_nobody() {
        let mut own = service(json!({"group": GROUP}));
        own.set(&["metadata", "name"], format!("v1.{GROUP}"));
        assert_eq!(said(&own), ["spec.service: Forbidden: apiregistration.k8s.io is always served by the API server itself"]);
        own.set(&["spec", "service"], Value::Null);
        assert!(said(&own).is_empty());
    }

    #[test]
    fn a_condition_is_true_false_or_unknown() {
        let mut object = service(json!({}));
        object.set(&["status"], json!({"conditions": [{"type": "Available", "status": "Yes"}]}));
        let errors = status(&object);
        assert_eq!(
            errors[0].to_string(),
            "status.conditions[0].status: Unsupported value: \"Yes\": supported values: \"True\", \"False\", \"Unknown\""
        );
    }
}
