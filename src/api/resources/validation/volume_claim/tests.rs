use serde_json::json;

use super::*;
use crate::resources::validation::tests::texts;

fn claim_of(changes: Value) -> Object {
    let mut spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}, "volumeMode": "Filesystem"});
    for (name, value) in changes.as_object().expect("changes") {
        spec[name] = value.clone();
    }
    Object::from_value(json!({"metadata": {"name": "c", "namespace": "n"}, "spec": spec})).expect("an object")
}

fn size(amount: &str) -> Value {
    json!({"requests": {"storage": amount}})
}

fn bound(mut claim: Object, capacity: &str) -> Object {
    claim.set(&["status"], json!({"phase": "Bound", "capacity": {"storage": capacity}}));
    claim
}

#[test]
fn what_a_claim_may_not_be() {
    let cases: &[(Value, &[&str])] = &[
        (json!({}), &[]),
        (json!({"accessModes": []}), &["spec.accessModes: Required value: at least 1 access mode is required"]),
        (json!({"resources": {}}), &["spec.resources[storage]: Required value"]),
        (json!({"resources": size("-1")}), &["spec.resources[storage]: Invalid value: \"-1\": must be greater than zero"]),
        (
            json!({"selector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}),
            &["spec.selector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"],
        ),
        (
            json!({"dataSource": {"kind": "Pod"}}),
            &[
                "spec.dataSource.name: Required value",
                "spec.dataSource: Invalid value: \"Pod\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
            ],
        ),
        (
            json!({"dataSource": {"kind": "PersistentVolumeClaim", "name": "a"}, "dataSourceRef": {"kind": "PersistentVolumeClaim", "name": "b"}}),
            &["spec: Invalid value: \"spec.dataSource\": must match dataSourceRef"],
        ),
        (
            json!({
                "dataSource": {"kind": "PersistentVolumeClaim", "name": "a"},
                "dataSourceRef": {"kind": "PersistentVolumeClaim", "name": "a", "namespace": "m"},
            }),
            &["spec: Invalid value: \"spec.dataSource\": may not be specified when dataSourceRef.namespace is specified"],
        ),
    ];
    for (changes, wanted) in cases {
        assert_eq!(texts(claim(&claim_of(changes.clone()))), *wanted, "{changes}");
    }
    let errors = texts(claim(&claim_of(
        json!({"storageClassName": "A", "volumeAttributesClassName": "B", "dataSourceRef": {"apiGroup": "C", "kind": "k", "name": "n"}}),
    )));
    for (error, field) in errors.iter().zip([
        "storageClassName: Invalid value: \"A\"",
        "dataSourceRef.apiGroup: Invalid value: \"C\"",
        "volumeAttributesClassName: Invalid value: \"B\"",
    ]) {
        assert!(error.starts_with(&format!("spec.{field}: a lowercase RFC 1123 subdomain must consist of")), "{error}");
    }
    assert_eq!(errors.len(), 3);
}

#[test]
fn only_a_bound_claim_changes_its_size_and_its_attributes() {
    let fixed = format!("spec: Forbidden: {FIXED}");
    let old = claim_of(json!({"volumeAttributesClassName": "a"}));
    let grown = claim_of(json!({"resources": size("3Gi"), "volumeAttributesClassName": "b"}));
    assert_eq!(texts(claim_update(&grown, &old)), [fixed.as_str()]);
    assert_eq!(texts(claim_update(&bound(grown, "2Gi"), &bound(old.clone(), "2Gi"))), Vec::<String>::new());
    let other = claim_of(json!({"volumeName": "v", "accessModes": ["ReadOnlyMany"], "volumeAttributesClassName": "a"}));
    assert_eq!(texts(claim_update(&other, &old)), [fixed.as_str()]);
    let named = claim_of(json!({"volumeName": "v", "storageClassName": "s", "volumeAttributesClassName": "a"}));
    assert_eq!(texts(claim_update(&named, &old)), Vec::<String>::new(), "a name and a class may come once");
    assert_eq!(texts(claim_update(&old, &named)), [fixed.as_str()]);
}

#[test]
fn a_claim_shrinks_no_further_than_what_it_has() {
    let of = |amount: &str, capacity: &str| bound(claim_of(json!({"resources": size(amount)})), capacity);
    let less = ["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"];
    assert_eq!(texts(claim_update(&of("3Gi", "2Gi"), &of("5Gi", "2Gi"))), Vec::<String>::new());
    assert_eq!(texts(claim_update(&of("2Gi", "2Gi"), &of("5Gi", "2Gi"))), less);
    assert_eq!(texts(claim_update(&of("1Gi", "2Gi"), &of("2Gi", "2Gi"))), less);
}

#[test]
fn attributes_that_are_applied_are_not_taken_away() {
    let mut old = bound(claim_of(json!({"volumeAttributesClassName": "a"})), "2Gi");
    old.set(&["status", "currentVolumeAttributesClassName"], "a");
    let path = "spec.volumeAttributesClassName: Forbidden: update to";
    let rest = "is forbidden when status.currentVolumeAttributesClassName is not nil";
    assert_eq!(texts(claim_update(&bound(claim_of(json!({})), "2Gi"), &old)), [format!("{path} nil {rest}")]);
    let empty = bound(claim_of(json!({"volumeAttributesClassName": ""})), "2Gi");
    assert_eq!(texts(claim_update(&empty, &old)), [format!("{path} empty string {rest}")]);
}

#[test]
fn a_class_may_move_from_the_annotation_into_the_spec() {
    let annotated = |class: &str, changes: Value| {
        let mut claim = claim_of(changes);
        claim.set(&["metadata", "annotations"], json!({CLASS_ANNOTATION: class}));
        claim
    };
    let old = annotated("s", json!({}));
    assert_eq!(texts(claim_update(&claim_of(json!({"storageClassName": "s"})), &old)), Vec::<String>::new());
    assert_eq!(
        texts(claim_update(&annotated("t", json!({})), &old)),
        ["metadata.annotations.volume.beta.kubernetes.io/storage-class: Invalid value: \"t\": field is immutable"]
    );
    assert_eq!(texts(claim_update(&annotated("s", json!({"storageClassName": "t"})), &old)), [format!("spec: Forbidden: {FIXED}")]);
}

#[test]
fn a_claims_status_tells_amounts_of_storage() {
    let status = json!({
        "capacity": {"storage": "-1"},
        "allocatedResources": {"cpu": "1", "storage": "-1", "example.com/x": "1"},
        "allocatedResourceStatuses": {"storage": "Growing", "example.com/x": "NodeResizePending"},
    });
    assert_eq!(
        texts(claim_status(&Object::from_value(json!({"status": status})).expect("an object"))),
        [
            "status.capacity[storage]: Invalid value: -1: must be a valid resource quantity",
            "status.allocatedResourceStatuses: Unsupported value: \"storage\": supported values: \"ControllerResizeInProgress\", \"ControllerResizeInfeasible\", \"NodeResizeInProgress\", \"NodeResizeInfeasible\", \"NodeResizePending\"",
            "status.allocatedResources: Unsupported value: \"cpu\": supported values: \"storage\"",
            "status.allocatedResources[storage]: Invalid value: -1: must be a valid resource quantity",
        ]
    );
}

#[test]
fn both_fields_for_a_source_say_the_same() {
    let aligned = |spec: Value| {
        let mut spec = spec.as_object().cloned().expect("a spec");
        align_data_sources(&mut spec);
        Value::from(spec)
    };
    let source = json!({"kind": "PersistentVolumeClaim", "name": "a"});
    let both = json!({"dataSource": source, "dataSourceRef": source});
    assert_eq!(aligned(json!({"dataSource": source})), both);
    assert_eq!(aligned(json!({"dataSourceRef": source})), both);
    let foreign = json!({"dataSourceRef": {"kind": "PersistentVolumeClaim", "name": "a", "namespace": "m"}});
    assert_eq!(aligned(foreign.clone()), foreign);
}
