use serde_json::json;

use super::*;
use crate::resources::validation::tests::texts;

fn volume_of(changes: Value) -> Object {
    let mut spec = json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem"});
    for (name, value) in changes.as_object().expect("changes") {
        spec[name] = value.clone();
    }
    Object::from_value(json!({"metadata": {"name": "v"}, "spec": spec})).expect("an object")
}

fn nfs() -> Value {
    json!({"server": "s", "path": "/p"})
}

fn on_node(key: &str) -> Value {
    json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": key, "operator": "In", "values": ["a"]}]}]}})
}

#[test]
fn what_a_volume_may_not_be() {
    let cases: &[(Value, &[&str])] = &[
        (json!({"nfs": nfs()}), &[]),
        (json!({}), &["spec: Required value: must specify a volume type"]),
        (json!({"nfs": nfs(), "accessModes": []}), &["spec.accessModes: Required value"]),
        (
            json!({"nfs": nfs(), "accessModes": ["ReadWriteOncePod", "ReadWriteOnce", "Never"]}),
            &[
                "spec.accessModes: Unsupported value: \"Never\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"",
                "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
            ],
        ),
        (
            json!({"nfs": nfs(), "capacity": {"storage": "0", "cpu": "1"}}),
            &[
                "spec.capacity: Unsupported value: {\"cpu\":\"1\",\"storage\":\"0\"}: supported values: \"storage\"",
                "spec.capacity[storage]: Invalid value: \"0\": must be greater than zero",
            ],
        ),
        (
            json!({"nfs": nfs(), "persistentVolumeReclaimPolicy": "Burn", "volumeMode": "Tape"}),
            &[
                "spec.persistentVolumeReclaimPolicy: Unsupported value: \"Burn\": supported values: \"Delete\", \"Recycle\", \"Retain\"",
                "spec.volumeMode: Unsupported value: \"Tape\": supported values: \"Block\", \"Filesystem\"",
            ],
        ),
        (json!({"nfs": nfs(), "nodeAffinity": {}}), &["spec.nodeAffinity.required: Required value: must specify required node constraints"]),
        (
            json!({"nfs": nfs(), "nodeAffinity": {"required": {"nodeSelectorTerms": []}}}),
            &["spec.nodeAffinity.required.nodeSelectorTerms: Required value: must have at least one node selector term"],
        ),
        (
            json!({"hostPath": {"path": "/a/.."}, "persistentVolumeReclaimPolicy": "Recycle"}),
            &[
                "spec.hostPath.path: Invalid value: \"/a/..\": must not contain '..'",
                "spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'",
            ],
        ),
        (
            json!({"nfs": nfs(), "volumeAttributesClassName": ""}),
            &[
                "spec.volumeAttributesClassName: Required value: an empty string is disallowed",
                "spec.csi: Required value: has to be specified when using volumeAttributesClassName",
            ],
        ),
    ];
    for (changes, wanted) in cases {
        assert_eq!(texts(volume(&volume_of(changes.clone()))), *wanted, "{changes}");
    }
}

#[test]
fn each_type_of_source_has_its_rules() {
    let cases: &[(Value, &[&str])] = &[
        (json!({"local": {"path": "/disk"}, "nodeAffinity": on_node("a")}), &[]),
        (json!({"local": {"path": "/disk"}}), &["spec.nodeAffinity: Required value: Local volume requires node affinity"]),
        (
            json!({"local": {"path": "/d/../e"}, "nodeAffinity": on_node("a")}),
            &["spec.local.path: Invalid value: \"/d/../e\": must not contain '..'"],
        ),
        (json!({"nfs": nfs(), "cephfs": {}}), &["spec.cephFS: Forbidden: may not specify more than 1 volume type"]),
        (json!({"nfs": {"server": "s", "path": "p"}}), &["spec.nfs.path: Invalid value: \"p\": must be an absolute path"]),
        (
            json!({"gcePersistentDisk": {"partition": 300}}),
            &[
                "spec.persistentDisk.pdName: Required value",
                "spec.persistentDisk.partition: Invalid value: 300: must be between 1 and 255, inclusive",
            ],
        ),
        (
            json!({"glusterfs": {"endpoints": "e", "path": "p", "endpointsNamespace": ""}}),
            &["spec.glusterfs.endpointsNamespace: Invalid value: \"\": if the endpointnamespace is set, it must be a valid namespace name"],
        ),
        (json!({"azureFile": {"secretName": "s", "shareName": "h", "secretNamespace": ""}}), &["spec.azureFile.secretNamespace: Required value"]),
        (json!({"cinder": {"volumeID": "i", "secretRef": {"name": "s"}}}), &["spec.cinder.secretRef.namespace: Required value"]),
        (
            json!({"iscsi": {"targetPortal": "p".repeat(64), "iqn": "x", "lun": 256, "chapAuthSession": true, "initiatorName": "y"}}),
            &[
                "spec.iscsi.targetportal: Invalid value: \"pppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppp\": Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.",
                "spec.iscsi.iqn: Invalid value: \"x\": must be valid format",
                "spec.iscsi.lun: Invalid value: 256: must be between 0 and 255, inclusive",
                "spec.iscsi.secretRef: Required value",
                "spec.iscsi.initiatorname: Invalid value: \"y\": must be valid format",
            ],
        ),
        (
            json!({"csi": {"nodePublishSecretRef": {"name": "s"}, "controllerExpandSecretRef": {"namespace": "a.b"}}}),
            &[
                "spec.csi.driver: Required value",
                "spec.csi.volumeHandle: Required value",
                "spec.csi.controllerExpandSecretRef.name: Required value",
                "spec.csi.controllerExpandSecretRef.namespace: Invalid value: \"a.b\": must not contain dots",
                "spec.csi.nodePublishSecretRef.namespace: Required value",
            ],
        ),
    ];
    for (changes, wanted) in cases {
        assert_eq!(texts(volume(&volume_of(changes.clone()))), *wanted, "{changes}");
    }
}

#[test]
fn options_for_mounting_need_a_type_that_is_mounted() {
    let mut local = volume_of(json!({"hostPath": {"path": "/a"}}));
    local.set(&["metadata", "annotations"], json!({"volume.beta.kubernetes.io/mount-options": "ro"}));
    assert_eq!(
        texts(volume(&local)),
        ["metadata.annotations.volume.beta.kubernetes.io/mount-options: Forbidden: may not specify mount options for this volume type"]
    );
}

#[test]
fn the_source_of_a_volume_stays_and_labels_may_get_their_new_names() {
    let zone = "failure-domain.beta.kubernetes.io/zone";
    let old = volume_of(json!({"csi": {"driver": "d", "volumeHandle": "h"}, "nodeAffinity": on_node(zone), "volumeAttributesClassName": "c"}));
    let mut new = old.clone();
    new.set(&["spec", "csi", "controllerExpandSecretRef"], json!({"name": "s", "namespace": "n"}));
    new.set(&["spec", "nodeAffinity"], on_node("topology.kubernetes.io/zone"));
    assert_eq!(texts(volume_update(&new, &old)), Vec::<String>::new());
    new.set(&["spec", "csi", "volumeHandle"], "i");
    new.set(&["spec", "volumeMode"], "Block");
    new.set(&["spec", "nodeAffinity"], on_node("other"));
    new.remove(&["spec", "volumeAttributesClassName"]);
    let affinity = on_node("other");
    let said = fixed_affinity(&affinity, &on_node(zone)).map(|error| error.to_string());
    assert_eq!(said, Some(format!("nodeAffinity: Invalid value: {affinity}: field is immutable, except for updating from beta label to GA")));
    for (new, old) in [(on_node("a"), on_node("a")), (on_node("topology.kubernetes.io/zone"), on_node(zone)), (on_node("a"), Value::Null)] {
        assert_eq!(fixed_affinity(&new, &old), None);
    }
    assert_eq!(
        texts(volume_update(&new, &old)),
        [
            "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation".to_owned(),
            "volumeMode: Invalid value: \"Block\": field is immutable".to_owned(),
            "spec.volumeAttributesClassName: Forbidden: update from non-nil value to nil is forbidden".to_owned(),
        ]
    );
}
