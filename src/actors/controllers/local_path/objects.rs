//! The storage class that a cluster begins with.

use serde_json::json;
use troupe_api::{
    local_path::{CLASS, PROVISIONER},
    meta::Object,
};

/// Where it is noted that the class was made.
pub const NAMESPACE: &str = "kube-system";
/// The ConfigMap that notes it. While it is there the class is not made again: who deleted it wanted that.
pub const NOTE: &str = "local-path-storage";

/// The default class: volumes are made on the node where a pod is to run, and go with their claims.
pub fn storage_class() -> Object {
    let class = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {"name": CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": PROVISIONER, "reclaimPolicy": "Delete", "volumeBindingMode": "WaitForFirstConsumer",
    });
    Object::from_value(class).expect("written as an object")
}

/// The note that the class was made.
pub fn note() -> Object {
    let note = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": NOTE, "namespace": NAMESPACE},
        "data": {"storageClass": CLASS},
    });
    Object::from_value(note).expect("written as an object")
}
