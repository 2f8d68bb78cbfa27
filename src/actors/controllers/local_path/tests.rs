use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume, PersistentVolumeClaim},
    storage::v1::StorageClass,
};
use serde_json::{Value, from_value, json};
use troupe_api::local_path;

use super::{
    is_lost,
    objects::storage_class,
    plan::{Action, View, plan},
};

fn class(more: Value) -> StorageClass {
    let mut class = storage_class().into_value();
    for (key, value) in more.as_object().expect("an object") {
        class[key] = value.clone();
    }
    from_value(class).expect("a class")
}

fn node() -> Node {
    let meta = json!({"name": "one", "labels": {"kubernetes.io/hostname": "one.example"}, "annotations": {local_path::DIRECTORY: "/data/volumes/"}});
    from_value(json!({"metadata": meta})).expect("a node")
}

fn claim(node: Option<&str>, more: Value) -> PersistentVolumeClaim {
    let mut spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "local-path"});
    for (key, value) in more.as_object().expect("an object") {
        spec[key] = value.clone();
    }
    let mut annotations = json!({"volume.kubernetes.io/storage-provisioner": local_path::PROVISIONER});
    if let Some(node) = node {
        annotations["volume.kubernetes.io/selected-node"] = node.into();
    }
    from_value(json!({"metadata": {"name": "data", "namespace": "n", "uid": "u", "annotations": annotations}, "spec": spec})).expect("a claim")
}

fn planned(claim: &PersistentVolumeClaim, class: &StorageClass, node: Option<&Node>, is_made: bool) -> Vec<Action> {
    plan(&View { claim, class: Some(class), node, name: "pvc-u", is_made })
}

fn failure(actions: &[Action]) -> &str {
    match actions.first() {
        Some(Action::Tell { warning: true, reason: "ProvisioningFailed", message }) => message,
        _ => panic!("no failure is told: {actions:?}"),
    }
}

#[test]
fn a_claim_with_a_node_gets_a_directory_there_once() {
    let (claim, class, node) = (claim(Some("one"), json!({})), class(json!({})), node());
    let actions = planned(&claim, &class, Some(&node), false);
    let [Action::Create(volume), Action::Tell { warning: false, reason: "ProvisioningSucceeded", .. }] = &actions[..] else { panic!("{actions:?}") };
    let volume = serde_json::to_value(volume).expect("encodes");
    assert_eq!(volume["spec"]["local"]["path"], "/data/volumes/pvc-u");
    assert_eq!(volume["metadata"]["labels"][local_path::NODE_LABEL], "one");
    assert_eq!(volume["spec"]["claimRef"]["uid"], "u");
    let term = &volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"][0];
    assert_eq!(*term, json!({"key": "kubernetes.io/hostname", "operator": "In", "values": ["one.example"]}));
    assert_eq!((&volume["spec"]["persistentVolumeReclaimPolicy"], &volume["spec"]["capacity"]["storage"]), (&json!("Delete"), &json!("1Gi")));
    assert_eq!(planned(&claim, &class, Some(&node), true), Vec::new(), "planning again gives nothing");
}

#[test]
fn a_claim_waits_until_a_node_is_selected() {
    assert_eq!(planned(&claim(None, json!({})), &class(json!({})), None, false), Vec::new());
    let immediate = class(json!({"volumeBindingMode": "Immediate"}));
    assert!(failure(&planned(&claim(None, json!({})), &immediate, None, false)).contains("no node was selected"));
}

#[test]
fn a_node_that_cannot_have_the_volume_is_given_back_to_the_scheduler() {
    let claim = claim(Some("one"), json!({}));
    let mut silent = node();
    silent.metadata.annotations = None;
    for node in [None, Some(&silent)] {
        let actions = planned(&claim, &class(json!({})), node, false);
        failure(&actions);
        let Some(Action::Reschedule(claim)) = actions.get(1) else { panic!("{actions:?}") };
        assert!(!claim.metadata.annotations.as_ref().expect("others stay").contains_key("volume.kubernetes.io/selected-node"));
    }
}

#[test]
fn what_a_directory_cannot_be_is_refused_by_name() {
    let of_claim = |more: Value| failure(&planned(&claim(Some("one"), more), &class(json!({})), Some(&node()), false)).to_owned();
    assert!(of_claim(json!({"accessModes": ["ReadWriteMany"]})).contains("access mode ReadWriteMany is not supported"));
    assert!(of_claim(json!({"volumeMode": "Block"})).contains("only volumeMode Filesystem"));
    assert!(of_claim(json!({"selector": {}})).contains("Selector is not supported"));
    let of_class = |more: Value| failure(&planned(&claim(Some("one"), json!({})), &class(more), Some(&node()), false)).to_owned();
    assert!(of_class(json!({"parameters": {"size": "big"}})).contains("parameter \"size\""));
    assert!(of_class(json!({"mountOptions": ["noatime"]})).contains("mount options"));
}

#[test]
fn claims_of_others_are_left_alone() {
    let mut foreign = claim(Some("one"), json!({}));
    assert_eq!(planned(&foreign, &class(json!({"provisioner": "example.com/disk"})), Some(&node()), false), Vec::new());
    foreign.metadata.annotations.get_or_insert_default().insert("volume.kubernetes.io/storage-provisioner".into(), "example.com/disk".into());
    assert_eq!(planned(&foreign, &class(json!({})), Some(&node()), false), Vec::new());
    assert_eq!(planned(&claim(Some("one"), json!({"volumeName": "pv"})), &class(json!({})), Some(&node()), false), Vec::new());
}

#[test]
fn a_released_volume_goes_with_its_node() {
    let volume = |phase: &str, policy: &str| -> PersistentVolume {
        from_value(json!({
            "metadata": {"labels": {local_path::NODE_LABEL: "one"}, "annotations": {"pv.kubernetes.io/provisioned-by": local_path::PROVISIONER}},
            "spec": {"persistentVolumeReclaimPolicy": policy}, "status": {"phase": phase},
        }))
        .expect("a volume")
    };
    assert!(is_lost(&volume("Released", "Delete"), |_| false));
    assert!(!is_lost(&volume("Released", "Delete"), |_| true), "its node will do it");
    assert!(!is_lost(&volume("Bound", "Delete"), |_| false));
    assert!(!is_lost(&volume("Released", "Retain"), |_| false));
}
