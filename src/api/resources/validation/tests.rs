use serde_json::json;

use super::{metadata, metadata_update, names};
use crate::{meta::Object, status::FieldError};

fn object(value: serde_json::Value) -> Object {
    Object::from_value(value).expect("a JSON object")
}

fn texts(errors: &[FieldError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn a_bad_name_is_rejected_with_the_rule_it_breaks() {
    let bad = object(json!({"metadata": {"name": "Web_1", "namespace": "default"}}));
    let errors = texts(&metadata(&bad, true, names::subdomain));
    assert_eq!(
        errors,
        [
            "metadata.name: Invalid value: \"Web_1\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
        ]
    );
}

#[test]
fn names_and_namespaces_are_required_where_the_kind_has_them() {
    let nameless = object(json!({"metadata": {}}));
    assert_eq!(
        texts(&metadata(&nameless, true, names::subdomain)),
        ["metadata.name: Required value: name or generateName is required", "metadata.namespace: Required value"]
    );
    let misplaced = object(json!({"metadata": {"name": "n", "namespace": "x"}}));
    assert_eq!(texts(&metadata(&misplaced, false, names::subdomain)), ["metadata.namespace: Forbidden: not allowed on this type"]);
}

#[test]
fn a_generate_name_may_end_in_a_dash() {
    let generated = object(json!({"metadata": {"name": "web-x1", "generateName": "web-", "namespace": "d"}}));
    assert!(metadata(&generated, true, names::label).is_empty());
}

#[test]
fn labels_and_annotations_need_qualified_keys() {
    let bad = object(json!({"metadata": {"name": "n", "namespace": "d", "labels": {"a/b/c": "x y"}, "annotations": {"/x": "1"}}}));
    let errors = texts(&metadata(&bad, true, names::subdomain));
    assert_eq!(errors.len(), 3, "{errors:?}");
    assert!(errors[0].contains("a valid label key must consist of"), "{}", errors[0]);
    assert!(errors[1].contains("metadata.labels: Invalid value: \"x y\": a valid label must be an empty string"), "{}", errors[1]);
    assert!(errors[2].contains("metadata.annotations: Invalid value: \"/x\": prefix part must be non-empty"), "{}", errors[2]);
}

#[test]
fn two_controllers_are_one_too_many() {
    let owner = |name: &str| json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": "u", "controller": true});
    let owned = object(json!({"metadata": {"name": "n", "namespace": "d", "ownerReferences": [owner("a"), owner("b")]}}));
    let errors = texts(&metadata(&owned, true, names::subdomain));
    assert!(errors[0].ends_with("Found \"true\" in references for ReplicaSet/a and ReplicaSet/b"), "{errors:?}");
}

#[test]
fn what_is_being_deleted_gets_no_new_finalizers_and_keeps_its_uid() {
    let old = object(json!({"metadata": {"name": "n", "uid": "1", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a.b/c"]}}));
    let new = object(json!({"metadata": {"name": "n", "uid": "2", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a.b/c", "x.y/z"]}}));
    assert_eq!(
        texts(&metadata_update(&new, &old)),
        [
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"x.y/z\"}",
            "metadata.uid: Invalid value: \"2\": field is immutable"
        ]
    );
}

#[test]
fn name_rules_differ_in_dots_digits_and_slashes() {
    assert_eq!(names::label("a.b", false), ["must not contain dots"]);
    assert!(names::dns_1035_label("1a", false)[0].starts_with("a DNS-1035 label"));
    assert!(names::label("1a", false).is_empty());
    assert_eq!(names::path_segment("a/b", false), ["may not contain '/'"]);
    assert!(names::path_segment("system:node", false).is_empty());
    assert!(names::config_key("..data")[0].starts_with("must not start with"));
    assert!(names::qualified("example.com/name").is_empty());
}
