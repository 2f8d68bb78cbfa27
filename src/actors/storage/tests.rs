use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{PersistentVolumeClaim, Pod},
    storage::v1::StorageClass,
};
use serde_json::{from_value, json};

use super::*;

fn class(name: &str, default: &str, made: &str) -> Arc<StorageClass> {
    let annotations = json!({"storageclass.kubernetes.io/is-default-class": default});
    let class = json!({"metadata": {"name": name, "creationTimestamp": made, "annotations": annotations}, "provisioner": "p"});
    Arc::new(from_value(class).expect("a class"))
}

#[test]
fn the_newest_default_class_counts_and_of_equals_the_first_by_name() {
    let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    let name = |classes: &[Arc<StorageClass>]| default_class(classes).and_then(|class| class.metadata.name.clone());
    assert_eq!(
        name(&[class("a", "true", early), class("b", "true", late), class("c", "true", late), class("d", "false", late)]).as_deref(),
        Some("b")
    );
    assert_eq!(name(&[class("a", "false", early)]), None);
}

#[test]
fn the_old_annotation_of_a_class_counts_before_the_field() {
    let claim: PersistentVolumeClaim = from_value(json!({
        "metadata": {"annotations": {"volume.beta.kubernetes.io/storage-class": "old"}}, "spec": {"storageClassName": "new"},
    }))
    .expect("a claim");
    assert_eq!((class_of_claim(&claim), has_class(&claim)), ("old", true));
    assert!(!has_class(&PersistentVolumeClaim::default()));
}

#[test]
fn a_pods_claims_are_those_it_names_and_those_made_for_it() {
    let volumes =
        json!([{"name": "a", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "b", "ephemeral": {}}, {"name": "c", "emptyDir": {}}]);
    let pod: Pod = from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": [], "volumes": volumes}})).expect("a pod");
    let claims: Vec<_> = claims_of(&pod).map(|claim| (claim.name, claim.ephemeral)).collect();
    assert_eq!(claims, [("data".to_owned(), false), ("p-b".to_owned(), true)]);
}
