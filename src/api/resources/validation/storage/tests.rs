use serde_json::{Value, json};

use super::*;
use crate::resources::validation::tests::{object, texts};
use crate::{meta::Object, status::FieldError};

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of";

/// Puts a value at a JSON pointer of `base`, null to take it away, and expects what is said of the object then.
fn refused(check: impl Fn(&Object) -> Vec<FieldError>, base: &Value, rows: Vec<(&str, Value, &[&str])>) {
    assert_eq!(texts(check(&object(base.clone()))), Vec::<String>::new(), "the base is good");
    for (pointer, value, want) in rows {
        let got = texts(check(&object(changed(base, pointer, value.clone()))));
        let as_wanted = got.len() == want.len() && got.iter().zip(want).all(|(got, want)| got.starts_with(want));
        assert!(as_wanted, "{pointer} = {value}\n  said {got:#?}\n  not  {want:#?}");
    }
}

fn changed(base: &Value, pointer: &str, value: Value) -> Value {
    let (parent, last) = pointer.rsplit_once('/').expect("a pointer");
    let mut changed = base.clone();
    match changed.pointer_mut(parent).expect("a parent") {
        Value::Object(fields) if value.is_null() => drop(fields.remove(last)),
        Value::Array(items) => items[last.parse::<usize>().expect("an index")] = value,
        other => other[last] = value,
    }
    changed
}

/// What an update that changes one value is told.
fn updated(check: fn(&Object, &Object) -> Vec<FieldError>, base: &Value, pointer: &str, value: Value) -> Vec<String> {
    texts(check(&object(changed(base, pointer, value)), &object(base.clone())))
}

fn storage_class() -> Value {
    json!({"provisioner": "Example.com/Disk", "parameters": {"a": "b"}, "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"})
}

#[test]
fn a_storage_class_says_who_makes_what() {
    let many = Value::Object((0..513).map(|at| (format!("k{at}"), json!("v"))).collect());
    let term = |key: &str, values: Value| json!({"matchLabelExpressions": [{"key": key, "values": values}]});
    refused(
        class,
        &storage_class(),
        vec![
            ("/provisioner", Value::Null, &["provisioner: Required value"]),
            ("/provisioner", json!("a b"), &["provisioner: Invalid value: \"a b\": name part must consist of"]),
            ("/provisioner", json!("A/B/C"), &["provisioner: Invalid value: \"a/b/c\": a valid label key must consist of"]),
            ("/parameters", many, &["parameters: Too long: may not be more than 512 bytes"]),
            ("/parameters", json!({"": "x"}), &["parameters: Invalid value: \"\": field can not be empty."]),
            ("/parameters", json!({"a": "x".repeat(256 * 1024)}), &["parameters: Too long: may not be more than 262144 bytes"]),
            ("/reclaimPolicy", json!("Recycle"), &["reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\""]),
            ("/volumeBindingMode", Value::Null, &["volumeBindingMode: Required value"]),
            (
                "/volumeBindingMode",
                json!(""),
                &["volumeBindingMode: Unsupported value: \"\": supported values: \"Immediate\", \"WaitForFirstConsumer\""],
            ),
            ("/allowedTopologies", json!([{}]), &["allowedTopologies[0].matchLabelExpressions: Duplicate value: \"\""]),
            (
                "/allowedTopologies",
                json!([term("a", json!(["x", "y"])), term("a", json!(["y", "x"]))]),
                &["allowedTopologies[1].matchLabelExpressions: Duplicate value: \"\""],
            ),
            (
                "/allowedTopologies",
                json!([term("a b", json!([]))]),
                &[
                    "allowedTopologies[0].matchLabelExpressions[0].values: Required value",
                    "allowedTopologies[0].matchLabelExpressions[0].key: Invalid value: \"a b\": name part must consist of",
                ],
            ),
            (
                "/allowedTopologies",
                json!([{"matchLabelExpressions": [{"key": "a", "values": ["x", "x"]}, {"key": "a", "values": ["y"]}]}]),
                &[
                    "allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: \"x\"",
                    "allowedTopologies[0].matchLabelExpressions[1].key: Duplicate value: \"a\"",
                ],
            ),
        ],
    );
}

#[test]
fn a_storage_class_stays_what_it_is() {
    for (pointer, value, want) in [
        ("/provisioner", json!("other"), "provisioner: Invalid value: \"other\": field is immutable"),
        ("/parameters", json!({"a": "c"}), "parameters: Invalid value: {\"a\":\"c\"}: field is immutable"),
        ("/parameters", Value::Null, "parameters: Invalid value: null: field is immutable"),
        ("/reclaimPolicy", json!("Retain"), "reclaimPolicy: Invalid value: \"Retain\": field is immutable"),
        ("/volumeBindingMode", json!("WaitForFirstConsumer"), "volumeBindingMode: Invalid value: \"WaitForFirstConsumer\": field is immutable"),
    ] {
        assert_eq!(updated(class_update, &storage_class(), pointer, value), [want]);
    }
    assert!(updated(class_update, &storage_class(), "/allowVolumeExpansion", json!(true)).is_empty());
}

#[test]
fn a_class_of_attributes_has_some_and_keeps_them() {
    let base = json!({"driverName": "example.com", "parameters": {"iops": "1"}});
    refused(
        attributes_class,
        &base,
        vec![
            ("/driverName", Value::Null, &["driverName: Required value"]),
            ("/driverName", json!("a b"), &["driverName: Invalid value: \"a b\": name part must consist of"]),
            ("/parameters", Value::Null, &["parameters: Required value: must contain at least one key/value pair"]),
        ],
    );
    assert_eq!(
        updated(attributes_class_update, &base, "/driverName", json!("other.com")),
        ["driverName: Forbidden: updates to driverName are forbidden."]
    );
    assert_eq!(
        updated(attributes_class_update, &base, "/parameters", Value::Null),
        ["parameters: Forbidden: updates to parameters are forbidden.", "parameters: Required value: must contain at least one key/value pair"]
    );
}

fn csi_driver() -> Value {
    json!({"spec": {
        "attachRequired": true, "podInfoOnMount": false, "storageCapacity": false, "seLinuxMount": false, "fsGroupPolicy": "File",
        "volumeLifecycleModes": ["Persistent"], "tokenRequests": [{"audience": "a", "expirationSeconds": 600}],
    }})
}

#[test]
fn a_driver_says_what_it_can_in_known_words() {
    let tokens = "/spec/tokenRequests";
    refused(
        driver,
        &csi_driver(),
        vec![
            ("/spec/attachRequired", Value::Null, &["spec.attachedRequired: Required value"]),
            ("/spec/seLinuxMount", Value::Null, &["spec.seLinuxMount: Required value"]),
            (
                "/spec/fsGroupPolicy",
                json!("Always"),
                &["spec.fsGroupPolicy: Unsupported value: \"Always\": supported values: \"File\", \"None\", \"ReadWriteOnceWithFSType\""],
            ),
            (
                "/spec/volumeLifecycleModes",
                json!(["Forever"]),
                &["spec.volumeLifecycleModes: Unsupported value: \"Forever\": supported values: \"Persistent\", \"Ephemeral\""],
            ),
            (tokens, json!([{"audience": "a"}, {"audience": "a"}]), &["spec.tokenRequests[1].audience: Duplicate value: \"a\""]),
            (
                tokens,
                json!([{"audience": "a", "expirationSeconds": 599}]),
                &["spec.tokenRequests[0].expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes"],
            ),
            (
                tokens,
                json!([{"audience": "", "expirationSeconds": 1_i64 << 62}]),
                &["spec.tokenRequests[0].expirationSeconds: Invalid value: 4611686018427387904: may not specify a duration larger than 2^32 seconds"],
            ),
            (
                "/spec/nodeAllocatableUpdatePeriodSeconds",
                json!(9),
                &["spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 9: must be greater than or equal to 10 seconds"],
            ),
        ],
    );
    let without = changed(&csi_driver(), tokens, Value::Null);
    refused(
        driver,
        &without,
        vec![(
            "/spec/serviceAccountTokenInSecrets",
            json!(true),
            &["spec.serviceAccountTokenInSecrets: Invalid value: true: serviceAccountTokenInSecrets is set but no tokenRequests are specified"],
        )],
    );
    assert_eq!(
        updated(driver_update, &csi_driver(), "/spec/attachRequired", json!(false)),
        ["spec.attachedRequired: Invalid value: false: field is immutable"]
    );
    assert_eq!(
        updated(driver_update, &csi_driver(), "/spec/volumeLifecycleModes", json!(["Ephemeral"])),
        ["spec.volumeLifecycleModes: Invalid value: [\"Ephemeral\"]: field is immutable"]
    );
}

#[test]
fn a_node_names_each_driver_once() {
    let base = json!({"spec": {"drivers": [{"name": "a.example.com", "nodeID": "1", "topologyKeys": ["a/zone"], "allocatable": {"count": 1}}]}});
    let at = "spec.drivers[0]";
    let entry = "/spec/drivers/0";
    refused(
        node,
        &base,
        vec![
            (entry, json!({"nodeID": "1"}), &["spec.drivers[0].name: Required value"]),
            (entry, json!({"name": "../a", "nodeID": "1"}), &[&format!("{at}.name: Invalid value: \"../a\": {SUBDOMAIN}")]),
            (entry, json!({"name": "a".repeat(64), "nodeID": "1"}), &["spec.drivers[0].name: Too long: may not be more than 63 bytes"]),
            (entry, json!({"name": "a"}), &["spec.drivers[0].nodeID: Required value"]),
            (
                entry,
                json!({"name": "a", "nodeID": "x".repeat(257)}),
                &[&format!("{at}.nodeID: Invalid value: \"{}\": must be 256 characters or less", "x".repeat(257))],
            ),
            (
                entry,
                json!({"name": "a", "nodeID": "1", "allocatable": {"count": -1}}),
                &["spec.drivers[0].allocatable.count: Invalid value: -1: must be greater than or equal to 0"],
            ),
            (
                entry,
                json!({"name": "a", "nodeID": "1", "topologyKeys": ["k", "k", "a b"]}),
                &["spec.drivers[0]: Duplicate value: \"k\"", "spec.drivers[0]: Invalid value: \"a b\": name part must consist of"],
            ),
            ("/spec/drivers", json!([{"name": "a", "nodeID": "1"}, {"name": "a", "nodeID": "2"}]), &["spec.drivers[1].name: Duplicate value: \"a\""]),
        ],
    );
    assert!(updated(node_update, &base, "/spec/drivers/0/allocatable", json!({"count": 5})).is_empty());
    let errors = updated(node_update, &base, "/spec/drivers/0/nodeID", json!("2"));
    assert!(
        errors.len() == 1 && errors[0].starts_with("spec.drivers: Invalid value: {") && errors[0].ends_with("}: field is immutable"),
        "{errors:?}"
    );
}

#[test]
fn a_capacity_is_measured_somewhere_for_a_class() {
    let base = json!({"storageClassName": "fast", "capacity": "1Gi", "nodeTopology": {"matchLabels": {"a": "b"}}});
    refused(
        capacity,
        &base,
        vec![
            ("/storageClassName", Value::Null, &[&format!("storageClassName: Invalid value: \"\": {SUBDOMAIN}")]),
            ("/storageClassName", json!("../x"), &[&format!("storageClassName: Invalid value: \"../x\": {SUBDOMAIN}")]),
            ("/capacity", json!("-1"), &["capacity: Invalid value: \"-1\": must be greater than or equal to 0"]),
            ("/nodeTopology", json!({"matchLabels": {"a": "b c"}}), &["nodeTopology.matchLabels: Invalid value: \"b c\": a valid label must be"]),
            (
                "/nodeTopology",
                json!({"matchExpressions": [{"key": "a", "operator": "Near"}]}),
                &["nodeTopology.matchExpressions[0].operator: Invalid value: \"Near\": not a valid selector operator"],
            ),
        ],
    );
    assert_eq!(
        updated(capacity_update, &base, "/storageClassName", json!("slow")),
        ["storageClassName: Invalid value: \"slow\": field is immutable"]
    );
    assert_eq!(
        updated(capacity_update, &base, "/nodeTopology", json!({"matchLabels": {"a": "c"}})),
        ["nodeTopology: Invalid value: {\"matchLabels\":{\"a\":\"c\"}}: field is immutable"]
    );
    assert!(updated(capacity_update, &base, "/capacity", json!("2Gi")).is_empty());
}

fn volume_attachment() -> Value {
    json!({"spec": {"attacher": "example.com", "nodeName": "node-1", "source": {"persistentVolumeName": "pv"}}, "status": {"attached": false}})
}

#[test]
fn an_attachment_ties_one_volume_to_a_node() {
    let one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    let source = "/spec/source";
    let csi = json!({"driver": "a", "volumeHandle": "1"});
    let inline = |more: Value| json!({"inlineVolumeSpec": more});
    let at = "spec.source.inlineVolumeSpec";
    refused(
        attachment,
        &volume_attachment(),
        vec![
            ("/spec/attacher", Value::Null, &["spec.attacher: Required value"]),
            ("/spec/nodeName", json!("../x"), &[&format!("spec.nodeName: Invalid value: \"../x\": {SUBDOMAIN}")]),
            (source, json!({}), &[&format!("spec.source: Required value: {one}")]),
            (source, json!({"persistentVolumeName": "a", "inlineVolumeSpec": {}}), &[&format!("spec.source: Forbidden: {one}")]),
            (
                source,
                json!({"persistentVolumeName": ""}),
                &[
                    "spec.source.persistentVolumeName: Required value: must specify non empty persistentVolumeName",
                    &format!("spec.source.persistentVolumeName: Invalid value: \"\": {SUBDOMAIN}"),
                ],
            ),
            (source, json!({"persistentVolumeName": "../x"}), &[&format!("spec.source.persistentVolumeName: Invalid value: \"../x\": {SUBDOMAIN}")]),
            (
                source,
                inline(json!({})),
                &[
                    &format!("{at}.csi: Required value: has to be specified in the context of inline volumes"),
                    &format!("{at}.accessModes: Required value"),
                    &format!("{at}: Required value: must specify a volume type"),
                ],
            ),
            (
                source,
                inline(json!({"accessModes": ["ReadWriteOnce"], "csi": csi, "hostPath": {"path": "/"}, "claimRef": {}, "storageClassName": "a"})),
                &[
                    &format!("{at}.claimRef: Forbidden: may not be specified in the context of inline volumes"),
                    &format!("{at}.csi: Forbidden: may not specify more than 1 volume type"),
                    &format!("{at}.storageClassName: Forbidden: may not be specified in the context of inline volumes"),
                ],
            ),
            (
                source,
                inline(
                    json!({"accessModes": ["ReadWriteOncePod", "ReadOnlyMany"], "csi": {"driver": "a", "nodePublishSecretRef": {"name": "../s"}}}),
                ),
                &[
                    &format!("{at}.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes"),
                    &format!("{at}.csi.volumeHandle: Required value"),
                    &format!("{at}.csi.nodePublishSecretRef.name: Invalid value: \"../s\": {SUBDOMAIN}"),
                    &format!("{at}.csi.nodePublishSecretRef.namespace: Required value"),
                ],
            ),
            (
                "/status/attachmentMetadata",
                json!({"a": "x".repeat(256 * 1024)}),
                &["status.attachmentMetadata: Too long: may not be more than 262144 bytes"],
            ),
            (
                "/status/attachError",
                json!({"message": "x".repeat(1025), "errorCode": -1}),
                &[
                    "status.attachError.message: Too long: may not be more than 262144 bytes",
                    "status.attachError.errorCode: Invalid value: -1: must be between 0 and 2147483647, inclusive",
                ],
            ),
        ],
    );
    let good = changed(
        &volume_attachment(),
        source,
        inline(json!({"accessModes": ["ReadWriteOnce"], "csi": csi, "persistentVolumeReclaimPolicy": "Retain"})),
    );
    assert!(attachment(&object(good)).is_empty());
}

#[test]
fn an_attachment_stays_where_it_is() {
    let errors = updated(attachment_update, &volume_attachment(), "/spec/nodeName", json!("node-2"));
    assert!(errors.len() == 1 && errors[0].starts_with("spec: Invalid value: {") && errors[0].ends_with(": field is immutable"), "{errors:?}");
    assert!(updated(attachment_update, &volume_attachment(), "/status/attached", json!(true)).is_empty());
}
